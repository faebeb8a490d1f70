"""First stage of an image encoder: patches to tokens."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from roofline.graph.matrix_product import linear
from roofline.graph.operator import Operator, Terms, pointwise
from roofline.graph.step import Step
from roofline.graph.weight import Weight
from roofline.quantity import Quantity
from roofline.units import Count

__all__ = ["PatchEmbedding"]


@dataclass(frozen=True, kw_only=True, eq=False)
class PatchEmbedding:
    """A convolution whose stride is its kernel, which is one matrix product over patches.

    Parameters
    ----------
    patch_size : Quantity
        Side of a square patch [pixels].
    channels : Quantity
        Colours of a pixel.
    frames : Quantity
        Frames that a patch spans; a still image is repeated (Qwen-VL: 2).
    bias : bool
        Of the convolution.
    class_token : bool
        One learned token before the patches of each image.
    positions : Quantity
        Rows of the learned position table; 0 where positions are rotary.
    norm : bool
        A LayerNorm after the positions (CLIP).

    Notes
    -----
    Dosovitskiy et al. 2020 (arXiv:2010.11929), eq. 1. A pass over an image of n patches has n tokens,
    and one more with a class token.
    """

    kind: Literal["patch_embedding"] = "patch_embedding"
    patch_size: Count
    channels: Count = 3.0
    frames: Count = 1.0
    bias: bool = False
    class_token: bool = False
    positions: Count = 0.0
    norm: bool = False

    @property
    def class_tokens(self) -> float:
        """Tokens of an image beside its patches."""
        return 1.0 if self.class_token else 0.0

    def weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        """Return the convolution, class token, positions and norm."""
        patch = Weight(
            name="patch",
            inputs=self.channels * self.frames * self.patch_size * self.patch_size,
            outputs=hidden_size,
            bias=self.bias,
        )
        positions = Weight(name="positions", inputs=hidden_size, outputs=self.positions, tensor="embedding")
        norm = (Weight.vector("norm_gain", hidden_size), Weight.vector("norm_bias", hidden_size))
        token = (Weight.vector("class_token", hidden_size),) if self.class_token else ()
        return (patch, positions, *token, *(norm if self.norm else ()))

    def operators(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return the product over patches, the addition of positions, and the norm."""
        step = step.share(terms.parallelism.data)
        patch, _, *vectors = self.weights(terms.hidden_size)
        token, norm = vectors[: int(self.class_token)], vectors[int(self.class_token) :]
        yield from linear(terms, "patch", (patch,), step.tokens - step.count * self.class_tokens)
        yield pointwise(
            terms, "positions", rows=step.tokens, columns=terms.hidden_size,
            reads=2.0, writes=1.0, flops_per_element=1.0, weights=tuple(token),
        )  # fmt: skip
        if self.norm:
            yield pointwise(
                terms, "norm", kind="norm", rows=step.tokens, columns=terms.hidden_size,
                reads=1.0, writes=1.0, flops_per_element=5.0, weights=tuple(norm),
            )  # fmt: skip

    def resident(self, step: Step, terms: Terms) -> Mapping[str, Quantity]:
        """Return nothing: an encoder keeps no state."""
        return {}
