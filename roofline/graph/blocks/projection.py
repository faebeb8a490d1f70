"""One matrix on every token: what joins a drafter to its target, and draft heads."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from roofline.graph.matrix_product import linear
from roofline.graph.operator import Operator, Terms
from roofline.graph.step import Step
from roofline.graph.weight import Weight
from roofline.quantity import Quantity
from roofline.units import Count

__all__ = ["Projection"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """A single matrix product over the new tokens.

    Parameters
    ----------
    output_size : Quantity
        Elements out, per token.
    inputs_joined : Quantity
        Hidden states put side by side as its input: 2 where a feature and an embedding are fused
        (EAGLE, Li et al. 2024, arXiv:2401.15077, section 3.1), 3 features for EAGLE-3
        (arXiv:2503.01840, section 3.1).
    bias : bool
        Whether each output has a bias.
    split : str
        ``outputs`` where tensor parallelism divides it, ``none`` where every rank holds it.
    """

    kind: Literal["projection"] = "projection"
    output_size: Count
    inputs_joined: Count = 1.0
    bias: bool = False
    split: Literal["outputs", "none"] = "none"

    def weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        """Return the matrix."""
        inputs = hidden_size * self.inputs_joined
        return (
            Weight(
                name="projection", inputs=inputs, outputs=self.output_size, bias=self.bias, split=self.split
            ),
        )

    def operators(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return the product."""
        yield from linear(
            terms, "projection", self.weights(terms.hidden_size), step.tokens / terms.parallelism.data
        )

    def resident(self, step: Step, terms: Terms) -> Mapping[str, Quantity]:
        """Return nothing: a projection keeps no state."""
        return {}
