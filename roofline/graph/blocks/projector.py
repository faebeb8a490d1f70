"""Last stage of an image encoder: its tokens to the width of the language model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from roofline.graph.matrix_product import linear
from roofline.graph.operator import Operator, Terms, pointwise
from roofline.graph.step import Step
from roofline.graph.weight import Weight
from roofline.quantity import Quantity
from roofline.units import Count

__all__ = ["Projector"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Projector:
    """One or two matrices with a GELU between them, over groups of neighbouring tokens.

    Parameters
    ----------
    merge : Quantity
        Tokens that become one; their elements are put side by side.
    pool : Quantity
        Tokens that become one by averaging (Gemma 3).
    adapter_size : Quantity or None
        Width that one more matrix without bias leads to first (Mistral 3, Llama 4); None for none.
    intermediate_size, output_size : Quantity or None, Quantity
        Inner width, None for a single matrix; and width of the language model.
    bias : bool
        Of both matrices.
    norm : str
        ``before_merge`` norms each token, ``after_merge`` each group, ``none`` neither.
    norm_bias : bool
        Whether the norm has a bias beside its gain.
    skipped_tokens : Quantity
        Tokens of each image that are dropped first: LLaVA drops the class token.

    Notes
    -----
    LLaVA-1.5 (Liu et al. 2023, arXiv:2310.03744): a two-layer network. Qwen2-VL (arXiv:2409.12191,
    section 2.1): 2 x 2 neighbouring tokens become one.
    """

    kind: Literal["projector"] = "projector"
    merge: Count = 1.0
    pool: Count = 1.0
    adapter_size: Count | None = None
    intermediate_size: Count | None = None
    output_size: Count
    bias: bool = True
    norm: Literal["none", "before_merge", "after_merge"] = "none"
    norm_bias: bool = False
    skipped_tokens: Count = 0.0

    def weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        """Return the matrices in order, and the norm."""
        return (*self._matrices(hidden_size), *self._norm(hidden_size))

    def _matrices(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        width = hidden_size * self.merge
        matrices: list[Weight] = []
        if self.adapter_size is not None:
            matrices.append(Weight(name="adapter", inputs=width, outputs=self.adapter_size))
            width = self.adapter_size
        if self.intermediate_size is None:
            matrices.append(Weight(name="down", inputs=width, outputs=self.output_size, bias=self.bias))
            return tuple(matrices)
        inner = self.intermediate_size
        return (
            *matrices,
            Weight(name="up", inputs=width, outputs=inner, bias=self.bias, split="outputs"),
            Weight(name="down", inputs=inner, outputs=self.output_size, bias=self.bias, split="inputs"),
        )

    def _norm(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        if self.norm == "none":
            return ()
        width = hidden_size * self.merge if self.norm == "after_merge" else hidden_size
        gain = (Weight.vector("norm_gain", width),)
        return (*gain, Weight.vector("norm_bias", width)) if self.norm_bias else gain

    def tokens(self, step: Step) -> Quantity:
        """Return the tokens it hands to the language model, over all images of a step."""
        return (step.tokens - step.count * self.skipped_tokens) / (self.merge * self.pool)

    def operators(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return the norm, the products and the activation."""
        tokens = self.tokens(step) / terms.parallelism.data
        norm = self._norm(terms.hidden_size)
        if self.norm != "none":
            yield pointwise(
                terms, "norm", kind="norm", rows=tokens, columns=self.merge * terms.hidden_size,
                reads=1.0, writes=1.0, flops_per_element=5.0, weights=norm,
            )  # fmt: skip
        for weight in self._matrices(terms.hidden_size):
            yield from linear(terms, weight.name, (weight,), tokens)
            if weight.name == "up":
                yield pointwise(
                    terms, "activation", rows=tokens, columns=weight.local(terms.parallelism).outputs,
                    reads=1.0, writes=1.0, flops_per_element=4.0,
                )  # fmt: skip

    def resident(self, step: Step, terms: Terms) -> Mapping[str, Quantity]:
        """Return nothing: an encoder keeps no state."""
        return {}
