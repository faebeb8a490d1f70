"""A decoder of which only the size is known, shaped as models of that size usually are."""

import math
import re
from dataclasses import dataclass
from typing import Final

from roofline.errors import InvalidSpecError
from roofline.graph.blocks.embedding import Embedding, Head
from roofline.graph.blocks.feed_forward import FeedForward
from roofline.graph.blocks.grouped_query_attention import GroupedQueryAttention
from roofline.graph.blocks.mixture_of_experts import MixtureOfExperts
from roofline.graph.blocks.normalization import Normalization
from roofline.graph.blocks.union import AnyBlock
from roofline.graph.layer import Run
from roofline.graph.model import ModelSpec

__all__ = ["CACHE_FACTOR", "SHAPE_SPREAD", "Size", "plain_decoder", "size_in"]

#: Half the width of the 80 % interval of the logarithm of a plain decoder's time over that of a model of
#: the same size in the catalogue, where caches are short.
SHAPE_SPREAD: Final = 0.13
#: Factor either way within which four of five models' cached keys and values lie.
CACHE_FACTOR: Final = 3.1

_SMALLEST, _LARGEST = 1e7, 1e13
_HEAD_DIM: Final = 128.0
#: Above this most models of the catalogue have a head of its own.
_TIED_BELOW: Final = 3e9
_TOP_K: Final = 8.0
#: Median share of the active parameters that are no experts', over the catalogue's mixtures.
_SHARED_OF_ACTIVE: Final = 0.46
_NORM: Final = Normalization()


@dataclass(frozen=True, kw_only=True)
class Size:
    """How many parameters a model has, and how many of them a token passes through."""

    total: float
    active: float

    def __str__(self) -> str:
        total = f"{self.total / 1e9:.3g} B"
        return total if self.dense else f"{total}, of them {self.active / 1e9:.3g} B active"

    @property
    def dense(self) -> bool:
        """Whether there are no experts to tell apart: at least 95 % of the parameters are active."""
        return self.active >= 0.95 * self.total


_STATED: Final = re.compile(
    r"(?<![a-z0-9.])(?P<total>\d+(?:\.\d+)?)(?P<unit>[bm])(?:\W*a(?P<active>\d+(?:\.\d+)?)(?P<part>[bm]))?(?![a-z0-9])"
)
_UNITS: Final = {"b": 1e9, "m": 1e6}


def size_in(name: str) -> Size | None:
    """Return the size that a model's name states, None where it states none or several.

    Examples
    --------
    >>> size_in("Some-13B-chat"), size_in("SmallThinker-4B-A0.6B").active, size_in("Mixtral-8x7B")
    (Size(total=13000000000.0, active=13000000000.0), 600000000.0, None)
    """
    found = list(_STATED.finditer(name.casefold()))
    if len(found) != 1:
        return None
    (match,) = found
    total = float(match["total"]) * _UNITS[match["unit"]]
    active = total if match["active"] is None else float(match["active"]) * _UNITS[match["part"]]
    return Size(total=total, active=active)


def plain_decoder(size: Size, *, cache: float = 1.0) -> ModelSpec:
    """Return a decoder of that many parameters, to the unit where it is dense.

    Parameters
    ----------
    cache : float
        Size of its cached keys and values, as a multiple of what is usual, as far as heads allow.

    Notes
    -----
    Power laws fitted to the logarithms of 95 dense models of the catalogue, by their parameters P in 10^9:
    23.2 P^0.24 layers of width 1652 P^0.40, 68,900 P^0.088 words, 38,900 P^0.48 cached elements a token
    over all layers. Fitted to 33 mixtures of T parameters with A active: 18.1 T^0.188 A^0.025 layers of
    width 1746 T^-0.066 A^0.467, 31,300 A^0.262 cached elements, 8 experts a token of as many as T asks for.
    Heads are 128 wide; networks are gated and take up what is left of the size; embedding and head are one
    matrix below 3 x 10^9.

    Raises
    ------
    InvalidSpecError
        If no such decoder has that size.
    """
    if not (_SMALLEST <= size.active <= size.total <= _LARGEST):
        raise InvalidSpecError(f"no plain decoder has {size} parameters")
    total, active = size.total / 1e9, size.active / 1e9
    if size.dense:
        layers, width, cached = 23.2 * total**0.24, 1652.0 * total**0.40, 38_900.0 * total**0.48
    else:
        layers = 18.1 * total**0.188 * active**0.025
        width = 1746.0 * total**-0.066 * active**0.467
        cached = 31_300.0 * active**0.262
    depth, heads = max(1, round(layers)), float(max(1, round(width / _HEAD_DIM)))
    hidden_size = heads * _HEAD_DIM
    wanted = cache * cached / depth / (2.0 * _HEAD_DIM)
    divisors = [float(count) for count in range(1, int(heads) + 1) if heads % count == 0]
    kv_heads = min(divisors, key=lambda count: abs(math.log(count / wanted)))
    vocabulary = float(round(68_900.0 * active**0.088))
    tied = size.total < _TIED_BELOW
    attention = GroupedQueryAttention(heads=heads, kv_heads=kv_heads, head_dim=_HEAD_DIM)
    around = depth * 2.0 * hidden_size + hidden_size + (1.0 if tied else 2.0) * vocabulary * hidden_size
    around += depth * sum(weight.parameters for weight in attention.weights(hidden_size))
    matrices = 3.0 * depth * hidden_size
    feed = (
        _dense(size, around, matrices) if size.dense else _sparse(size, around, matrices, depth * hidden_size)
    )
    layer: dict[str, AnyBlock] = {
        "attention_norm": _NORM,
        "attention": attention,
        "feed_forward_norm": _NORM,
        "experts" if feed.kind == "mixture_of_experts" else "feed_forward": feed,
    }
    return ModelSpec(
        name=f"plain decoder of {size} parameters",
        hidden_size=hidden_size,
        layers={"decoder": layer},
        order=(Run(layers=("decoder",), repeat=depth),),
        embedding=Embedding(vocabulary_size=vocabulary),
        head=Head(vocabulary_size=vocabulary, tied=tied),
        final_norm={"norm": _NORM},
    )


def _dense(size: Size, around: float, matrices: float) -> FeedForward:
    left = size.total - around
    if left <= 0.0:
        raise InvalidSpecError(f"no plain decoder has {size} parameters")
    return FeedForward(intermediate_size=left / matrices)


def _sparse(size: Size, around: float, matrices: float, routed: float) -> MixtureOfExperts:
    """Return experts that take up what attention, embedding and a shared network leave."""
    shared = max(0.0, _SHARED_OF_ACTIVE * size.active - around)
    if around + shared >= 0.95 * size.active:
        raise InvalidSpecError(f"no plain decoder has {size} parameters")
    always = around + shared
    experts = float(math.ceil(_TOP_K * (size.total - always) / (size.active - always)))
    return MixtureOfExperts(
        experts=experts,
        top_k=_TOP_K,
        intermediate_size=(size.total - always - experts * routed) / (matrices * experts),
        shared_intermediate_size=shared / matrices,
    )
