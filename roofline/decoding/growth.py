"""Growing the tree that is likeliest to be accepted, node by node or level by level."""

import heapq
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofline.decoding.acceptance import Acceptance
from roofline.decoding.tree import MAX_NODES, SpecTree
from roofline.errors import InvalidSpecError

__all__ = ["best_first", "confidence_ranked"]

#: Where only the mean number of tokens is known, trees take the shape these rates give: acceptance of
#: the first candidates of a 68M drafter for a 7B target (acceptance-rate-vector.pt of
#: Infini-AI-Lab/Sequoia; Chen et al. 2024, arXiv:2402.12374).
_SHAPE: Final = Acceptance(given="rank", rates=((0.6342, 0.1079, 0.0570, 0.0225, 0.0195),))


def _ranked(acceptance: Acceptance, depth: int, candidates: int) -> NDArray[np.float64]:
    """Rates of the likeliest candidates at a depth, falling, those that are never accepted left out."""
    known = _SHAPE if acceptance.given == "tokens" else acceptance
    if known.given in ("rank", "heads"):
        row = known.rates[min(depth, len(known.rates)) - 1]
        candidates = min(candidates, len(row))
    elif known.given == "retry" and len(known.rates[0]) > 1:
        candidates = min(candidates, len(known.rates[0]))
    rates = known.by_rank(depth, candidates)
    if rates.ndim > 1:
        raise InvalidSpecError("tree: its shape follows from one set of acceptance rates, got an array")
    falling = np.sort(rates)[::-1]
    return falling[falling > 0.0]


def _depth_limit(acceptance: Acceptance, depth: int) -> int:
    if acceptance.given == "heads":
        return min(depth, len(acceptance.rates))
    if acceptance.given == "depth" and len(acceptance.rates[0]) > 1:
        return min(depth, len(acceptance.rates[0]))
    return depth


#: Children of a node that are considered at most.
_CANDIDATES: Final = 64


def best_first(acceptance: Acceptance, *, nodes: int, depth: int) -> tuple[SpecTree, NDArray[np.float64]]:
    """Return the tree of at most `nodes` nodes that is expected to give most tokens.

    Returns
    -------
    tree : SpecTree
        Its first m nodes are the best tree of m nodes, for every m.
    chances : array of shape (nodes,)
        Of each node the probability to be accepted; one plus their running sum is the expected tokens.

    Notes
    -----
    A node's chance is its parent's times its rate, so chances fall along every path and over
    siblings: the m nodes of largest chance are connected, and no tree of m nodes has a larger sum.
    This is the optimum that the dynamic programme of Sequoia finds (Chen et al. 2024,
    arXiv:2402.12374, section 3.1) in O(m log m) for all m at once; Medusa grows its trees the same
    way (arXiv:2401.10774, section 2.3.3).
    """
    if not 1 <= nodes <= MAX_NODES or depth < 1:
        raise InvalidSpecError(f"tree: want 1 to {MAX_NODES} nodes and a depth of at least 1")
    depth = _depth_limit(acceptance, depth)
    rates = [_ranked(acceptance, level, _CANDIDATES) for level in range(1, depth + 1)]
    parents: list[int] = []
    ranks: list[int] = []
    chances: list[float] = []
    # (-chance, depth, parent, rank, parent's chance): the next child of a node enters with its elder.
    waiting: list[tuple[float, int, int, int, float]] = []

    def offer(level: int, parent: int, rank: int, chance: float) -> None:
        if level <= depth and rank < rates[level - 1].size:
            heapq.heappush(waiting, (-chance * rates[level - 1][rank], level, parent, rank, chance))

    offer(1, -1, 0, 1.0)
    while waiting and len(parents) < nodes:
        negative, level, parent, rank, above = heapq.heappop(waiting)
        parents.append(parent)
        ranks.append(rank)
        chances.append(-negative)
        offer(level, parent, rank + 1, above)
        offer(level + 1, len(parents) - 1, 0, -negative)
    if not parents:
        raise InvalidSpecError("tree: no candidate is ever accepted, so no tree is better than none")
    return SpecTree(parents=tuple(parents), ranks=tuple(ranks)), np.asarray(chances)


def confidence_ranked(acceptance: Acceptance, *, depth: int, width: int, nodes: int) -> SpecTree:
    """Return what a dynamic tree keeps in expectation.

    Parameters
    ----------
    depth, width, nodes : int
        Levels drafted, candidates computed per level and kept per candidate, and nodes verified.

    Notes
    -----
    EAGLE-2 (Li et al. 2024, arXiv:2406.16858, section 4): each level computes its `width` likeliest
    candidates, each proposes `width` more, and the `nodes` likeliest of all are verified. Here
    confidence is the mean acceptance rate; a drafter whose confidence varies does better, so expected
    tokens are a lower bound for the same mean rates.
    """
    if width < 1 or nodes < 1 or depth < 1 or depth * width * width > MAX_NODES:
        raise InvalidSpecError(
            f"tree: want depth, width and nodes of at least 1 and fewer than {MAX_NODES} candidates"
        )
    depth = _depth_limit(acceptance, depth)
    parents, ranks, chances = [np.array([], dtype=np.int64)], [np.array([], dtype=np.int64)], [np.array([])]
    kept, above, first, drafted = np.array([-1]), np.array([1.0]), 0, []
    for level in range(1, depth + 1):
        rates = _ranked(acceptance, level, width)
        if not rates.size:
            break
        drafted.append(int(kept.size))
        chances.append((above[:, None] * rates[None, :]).ravel())
        parents.append(np.repeat(kept, rates.size))
        ranks.append(np.tile(np.arange(rates.size), kept.size))
        best = np.argsort(-chances[-1], kind="stable")[:width]
        kept, above = first + np.sort(best), chances[-1][np.sort(best)]
        first += chances[-1].size
    if not drafted:
        raise InvalidSpecError("tree: no candidate is ever accepted, so no tree is better than none")
    every = np.concatenate(chances)
    chosen = np.sort(np.argsort(-every, kind="stable")[:nodes])
    place = np.full(every.size + 1, -1)
    place[chosen] = np.arange(chosen.size)
    return SpecTree(
        parents=tuple(place[np.concatenate(parents)[chosen]].tolist()),
        ranks=tuple(np.concatenate(ranks)[chosen].tolist()),
        drafted=tuple(drafted),
    )
