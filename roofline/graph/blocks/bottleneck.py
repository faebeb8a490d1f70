"""Two matrices around a narrow width, beside the residual (Gemma 3n and 4)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from roofline.graph.matrix_product import linear
from roofline.graph.operator import Operator, Terms, pointwise
from roofline.graph.step import Step
from roofline.graph.weight import Weight
from roofline.quantity import Quantity
from roofline.units import Count

__all__ = ["Bottleneck"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Bottleneck:
    """A product down to a narrow width and one up again.

    Parameters
    ----------
    size : Quantity
        The narrow width.
    layer_input : bool
        Whether the narrow state is activated and multiplied with the layer's own embedding of the token
        (per-layer embeddings); else nothing happens between the matrices (LAuReL, Menghani et al. 2024,
        arXiv:2411.07501, section 2).

    Notes
    -----
    Every rank holds and computes it whole. In the order of ``Gemma3nTextDecoderLayer`` and
    ``Gemma4TextDecoderLayer`` of transformers; the norms around it are blocks of their own.
    """

    kind: Literal["bottleneck"] = "bottleneck"
    size: Count
    layer_input: bool = False

    def weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        """Return the matrix down and the matrix up."""
        return (
            Weight(name="narrow", inputs=hidden_size, outputs=self.size),
            Weight(name="widen", inputs=self.size, outputs=hidden_size),
        )

    def operators(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return both products, and what is done to the narrow state."""
        tokens = step.tokens / terms.parallelism.data
        narrow, widen = self.weights(terms.hidden_size)
        yield from linear(terms, "narrow", (narrow,), tokens)
        if self.layer_input:
            # As in a feed-forward network: some 4 operations of the activation, and the product.
            yield pointwise(
                terms, "layer_input", rows=tokens, columns=self.size,
                reads=2.0, writes=1.0, flops_per_element=5.0,
            )  # fmt: skip
        yield from linear(terms, "widen", (widen,), tokens)

    def resident(self, step: Step, terms: Terms) -> Mapping[str, Quantity]:
        """Return nothing: no state outlives a token."""
        return {}
