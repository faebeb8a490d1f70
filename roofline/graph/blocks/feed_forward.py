"""Dense feed-forward networks, plain and gated."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from roofline.graph.matrix_product import linear, project
from roofline.graph.operator import Operator, Terms, collective, pointwise
from roofline.graph.step import Step
from roofline.graph.weight import Weight
from roofline.quantity import Quantity
from roofline.units import Count

__all__ = ["FeedForward", "feed_forward_operators", "feed_forward_weights"]


def feed_forward_weights(
    hidden_size: Quantity, intermediate_size: Quantity, *, gated: bool, bias: bool = False, prefix: str = ""
) -> tuple[Weight, ...]:
    """Return gate (where gated), up and down matrices of a feed-forward network."""
    gate = Weight(
        name=prefix + "gate", inputs=hidden_size, outputs=intermediate_size, bias=bias, split="outputs"
    )
    up = Weight(name=prefix + "up", inputs=hidden_size, outputs=intermediate_size, bias=bias, split="outputs")
    down = Weight(
        name=prefix + "down", inputs=intermediate_size, outputs=hidden_size, bias=bias, split="inputs"
    )
    return (gate, up, down) if gated else (up, down)


def feed_forward_operators(
    terms: Terms,
    weights: tuple[Weight, ...],
    tokens: Quantity,
    prefix: str = "",
    vectors: tuple[Weight, ...] = (),
) -> Iterable[Operator]:
    """Return the products and activation, which reads `vectors`, of a network without its collective."""
    *inward, down = weights
    gated = len(inward) == 2
    yield from project(terms, prefix + ("gate_up" if gated else "up"), tuple(inward), tokens)
    # SiLU and product about 5 operations, GELU or ReLU about 4 (Shazeer 2020, arXiv:2002.05202); a norm that
    # reads its gain here is fused, its 4 operations are not counted.
    yield pointwise(
        terms, prefix + "activation", rows=tokens, columns=down.local(terms.parallelism).inputs,
        reads=2.0 if gated else 1.0, writes=1.0, flops_per_element=5.0 if gated else 4.0,
        weights=vectors,
    )  # fmt: skip
    yield from linear(terms, prefix + "down", (down,), tokens)


@dataclass(frozen=True, kw_only=True, eq=False)
class FeedForward:
    """A two-matrix network, or a three-matrix gated one (SwiGLU, GeGLU).

    Parameters
    ----------
    intermediate_size : Quantity
        Inner width.
    gated : bool
        Whether a gate multiplies the inner activations.
    bias : bool
        Biases on all matrices.
    activation : str
        ``fixed``; ``xielu``: a function with two learned numbers (Huang and Schlag 2024, arXiv:2411.13010).
    inner_norm : bool
        A norm over the inner activations before the last matrix (BitNet).
    """

    kind: Literal["feed_forward"] = "feed_forward"
    intermediate_size: Count
    gated: bool = True
    bias: bool = False
    activation: Literal["fixed", "xielu"] = "fixed"
    inner_norm: bool = False

    def weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        """Return the matrices, and what the activation has learned."""
        return (*self._matrices(hidden_size), *self._learned())

    def _matrices(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        return feed_forward_weights(hidden_size, self.intermediate_size, gated=self.gated, bias=self.bias)

    def _learned(self) -> tuple[Weight, ...]:
        learned = (Weight.vector("activation", 2.0),) if self.activation == "xielu" else ()
        norm = (Weight.vector("inner_norm", self.intermediate_size),) if self.inner_norm else ()
        return (*learned, *norm)

    def operators(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return the products, the activation and the all-reduce."""
        tokens = step.tokens / terms.parallelism.data
        matrices = self._matrices(terms.hidden_size)
        yield from feed_forward_operators(terms, matrices, tokens, vectors=self._learned())
        yield collective(
            terms, "feed_forward_all_reduce", "all_reduce",
            ranks=terms.parallelism.tensor, elements=tokens * terms.hidden_size,
        )  # fmt: skip

    def resident(self, step: Step, terms: Terms) -> Mapping[str, Quantity]:
        """Return nothing: a feed-forward network keeps no state."""
        return {}
