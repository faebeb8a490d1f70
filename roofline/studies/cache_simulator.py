"""Expert caches counted on a routing trace, event by event, in bounded memory.

What the closed forms of `roofline.timing.expert_cache` predict is counted here; a rate counted from
a trace can be given to a scenario as ``hit_rate``.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from roofline.catalog.traces import CHUNK_TOKENS, TraceFile
from roofline.errors import InvalidSpecError
from roofline.graph.routing import Routing

__all__ = ["POLICIES", "CacheCount", "TraceCount", "count_trace", "passes_of", "simulate", "synthetic_trace"]

Policy = Literal["lru", "lfu", "belady", "static"]
POLICIES: Final = ("lru", "lfu", "belady", "static")

#: Passes an optimal policy looks ahead; longer traces are cut into such blocks.
_LOOKAHEAD: Final = 2**16

Chunks = Iterable[NDArray[np.int64]]


def synthetic_trace(
    routing: Routing, *, experts: int, top_k: int, tokens: int, seed: int = 0
) -> Iterator[NDArray[np.int64]]:
    """Yield independent choices of k experts, in arrays (tokens, k).

    The k largest of log-weights plus Gumbel noise are k draws without replacement (Kool et al. 2019,
    arXiv:1903.06059, section 2). Correlation between tokens is not drawn.
    """
    random = np.random.default_rng(seed)
    ranks = np.arange(1.0, experts + 1.0)
    skew = float(routing.skew) if routing.kind == "zipf" else 0.0
    weights = np.array(routing.popularity) if routing.kind == "popularity" else ranks**-skew
    scores = np.log(np.maximum(weights, 1e-300))
    for start in range(0, tokens, CHUNK_TOKENS // 16):
        count = min(CHUNK_TOKENS // 16, tokens - start)
        noisy = scores + random.gumbel(size=(count, experts))
        yield np.argpartition(-noisy, top_k - 1, axis=1)[:, :top_k].astype(np.int64)


def passes_of(chunks: Chunks, batch: int) -> Iterator[list[int]]:
    """Yield the distinct experts of each pass of `batch` consecutive tokens, in order of first use."""
    pending: list[NDArray[np.int64]] = []
    held = 0
    for chunk in chunks:
        pending.append(chunk)
        held += len(chunk)
        if held < batch:
            continue
        joined = np.concatenate(pending) if len(pending) > 1 else chunk
        whole = len(joined) // batch * batch
        for start in range(0, whole, batch):
            yield list(dict.fromkeys(joined[start : start + batch].ravel().tolist()))
        pending, held = [joined[whole:]], len(joined) - whole


@dataclass(kw_only=True)
class CacheCount:
    """What a cache served.

    Parameters
    ----------
    touched, hits : int
        Distinct experts over all passes, and how many of them were there.
    passes : int
    reused : int
        Touched experts that the pass before touched too.
    popularity : array
        How often each expert was touched.
    """

    experts: int
    touched: int = 0
    hits: int = 0
    passes: int = 0
    reused: int = 0
    popularity: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def hit_rate(self) -> float:
        """Share of touched experts that were there."""
        return self.hits / self.touched if self.touched else 0.0

    @property
    def distinct(self) -> float:
        """Mean distinct experts of a pass."""
        return self.touched / self.passes if self.passes else 0.0

    @property
    def reuse(self) -> float:
        """Share of touched experts that the pass before touched."""
        return self.reused / self.touched if self.touched else 0.0


def simulate(
    chunks: Chunks, *, experts: int, slots: int, policy: Policy, batch: int = 1, warm_passes: int = 0
) -> CacheCount:
    """Return what a cache of `slots` experts serves of a trace.

    Parameters
    ----------
    chunks : iterable of array
        Expert numbers (tokens, k), as `TraceFile.chunks` or `synthetic_trace` yield them.
    batch : int
        Consecutive tokens that make one pass.
    warm_passes : int
        First passes that fill the cache and are not counted.

    Raises
    ------
    InvalidSpecError
        If there are more slots than experts, or the policy is unknown.

    Notes
    -----
    ``lru`` drops the expert used longest ago, ``lfu`` the one used least often so far, ``belady`` the
    one wanted farthest ahead (Belady 1966, doi:10.1147/sj.52.0078; in blocks of 65,536 passes),
    ``static`` keeps experts 0 ... slots - 1, so number them by popularity. What is there when a pass
    begins is used before anything is dropped, as a program that knows all wanted experts would.
    """
    if not 0 <= slots <= experts or batch < 1:
        raise InvalidSpecError(f"cache: want 0 to {experts} slots and a batch >= 1, got {slots} and {batch}")
    if policy not in POLICIES:
        raise InvalidSpecError(f"cache policy: want one of {', '.join(POLICIES)}, got {policy!r}")
    count = CacheCount(experts=experts, popularity=np.zeros(experts, dtype=np.int64))
    last: set[int] = set()

    def counted() -> Iterator[list[int]]:
        nonlocal last
        for wanted in passes_of(chunks, batch):
            count.passes += 1
            if count.passes > warm_passes:
                count.touched += len(wanted)
                count.reused += len(last.intersection(wanted))
                count.popularity[wanted] += 1
            last = set(wanted)
            yield wanted

    for seen, found in enumerate(_RUN[policy](counted(), slots)):
        count.hits += found if seen >= warm_passes else 0
    count.passes = max(count.passes - warm_passes, 0)
    return count


@dataclass(frozen=True, kw_only=True)
class TraceCount:
    """What caches of one size serve of all layers of a trace.

    Parameters
    ----------
    slots : int
        Experts of each layer that have a slot.
    hit_rates : mapping of str to float
        By policy: share of touched experts that were there, 0..1.
    distinct, reuse : float
        Mean distinct experts of a pass in a layer, and the share of them that the pass before touched.
    """

    slots: int
    hit_rates: Mapping[str, float]
    distinct: float
    reuse: float


def count_trace(trace: TraceFile, slots: Sequence[int], *, batch: int = 1) -> tuple[TraceCount, ...]:
    """Return what caches of several sizes serve of a trace, by policy, all layers together.

    Parameters
    ----------
    slots : sequence of int
        Experts of each layer that have a slot.
    batch : int
        Consecutive tokens that make one pass.

    Raises
    ------
    FileFormatError
        As `TraceFile.rows`.

    Notes
    -----
    ``static`` keeps the experts that each layer touches most in this very trace, so it is the best that a
    fixed set can do. The file is read once and held in two bytes a choice.
    """
    held: dict[int, list[NDArray[np.uint16]]] = {}
    for layers, chosen in trace.rows():
        for layer in np.unique(layers):
            held.setdefault(int(layer), []).append(chosen[layers == layer].astype(np.uint16))
    layered = [_by_frequency(np.concatenate(parts), trace.experts) for parts in held.values()]
    return tuple(
        _counted(
            size,
            {
                policy: [
                    simulate([chosen], experts=trace.experts, slots=size, policy=policy, batch=batch)
                    for chosen in layered
                ]
                for policy in POLICIES
            },
        )
        for size in slots
    )


def _by_frequency(chosen: NDArray[np.uint16], experts: int) -> NDArray[np.int64]:
    """Choices of a layer, experts numbered by how often they are chosen."""
    order = np.argsort(-np.bincount(chosen.ravel(), minlength=experts), kind="stable")
    rank = np.empty(experts, dtype=np.int64)
    rank[order] = np.arange(experts)
    numbered: NDArray[np.int64] = rank[chosen]
    return numbered


def _counted(slots: int, counts: Mapping[str, Sequence[CacheCount]]) -> TraceCount:
    def over_layers(layers: Sequence[CacheCount], part: str, whole: str) -> float:
        sums = [sum(int(getattr(one, name)) for one in layers) for name in (part, whole)]
        return sums[0] / max(sums[1], 1)

    any_policy = counts["lru"]
    return TraceCount(
        slots=slots,
        hit_rates={policy: over_layers(layers, "hits", "touched") for policy, layers in counts.items()},
        distinct=over_layers(any_policy, "touched", "passes"),
        reuse=over_layers(any_policy, "reused", "touched"),
    )


def _lru(passes: Iterable[list[int]], slots: int) -> Iterator[int]:
    held: OrderedDict[int, None] = OrderedDict()
    for wanted in passes:
        found = [expert for expert in wanted if expert in held]
        for expert in found:
            held.move_to_end(expert)
        for expert in wanted:
            if expert not in held:
                held[expert] = None
        while len(held) > slots:
            held.popitem(last=False)
        yield len(found)


def _lfu(passes: Iterable[list[int]], slots: int) -> Iterator[int]:
    held: set[int] = set()
    uses: dict[int, int] = {}
    for wanted in passes:
        found = sum(expert in held for expert in wanted)
        for expert in wanted:
            uses[expert] = uses.get(expert, 0) + 1
        held.update(wanted)
        while len(held) > slots:
            held.remove(min(held, key=lambda expert: uses[expert]))
        yield found


def _static(passes: Iterable[list[int]], slots: int) -> Iterator[int]:
    for wanted in passes:
        yield sum(expert < slots for expert in wanted)


def _belady(passes: Iterable[list[int]], slots: int) -> Iterator[int]:
    held: set[int] = set()
    for block in _blocks(passes):
        following: dict[int, int] = {}
        ahead: list[list[int]] = []
        for position in range(len(block) - 1, -1, -1):
            ahead.append([following.get(expert, len(block)) for expert in block[position]])
            following.update(dict.fromkeys(block[position], position))
        wanted_at = {expert: following.get(expert, len(block)) for expert in held}
        for wanted, later in zip(block, reversed(ahead), strict=True):
            found = sum(expert in held for expert in wanted)
            wanted_at.update(zip(wanted, later, strict=True))
            held.update(wanted)
            while len(held) > slots:
                held.remove(max(held, key=lambda expert: wanted_at[expert]))
            yield found


def _blocks(passes: Iterable[list[int]]) -> Iterator[list[list[int]]]:
    block: list[list[int]] = []
    for wanted in passes:
        block.append(wanted)
        if len(block) == _LOOKAHEAD:
            yield block
            block = []
    if block:
        yield block


_RUN: Final[dict[str, Callable[[Iterable[list[int]], int], Iterator[int]]]] = {
    "lru": _lru,
    "lfu": _lfu,
    "belady": _belady,
    "static": _static,
}
