"""How often an expert that a pass needs is already in the near memory."""

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np
from pydantic import ConfigDict

from roofline.errors import InvalidSpecError
from roofline.graph.routing import Routing, aligned, shares_adding_to
from roofline.quantity import Quantity, maximum, minimum, where
from roofline.units import Fraction

__all__ = ["USUAL_REUSE", "ExpertCache", "Hits", "cyclic_hit_rate", "recent_share"]

Policy = Literal["lru", "pages", "lfu", "static", "given"]

#: Reuse of a model whose traces are not known: the median of eight models with published hit rates of
#: LRU caches (docs/offload.md section 3, kind estimate).
USUAL_REUSE: Final = 0.2


@dataclass(frozen=True, kw_only=True, eq=False)
class Hits:
    """Shares that a cache serves.

    Parameters
    ----------
    experts : Quantity
        Of the distinct experts a pass touches: the share of bytes.
    visits : Quantity
        Of the token-expert pairs: the share of FLOPs. Popular experts have more of these.
    """

    experts: Quantity
    visits: Quantity


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpertCache:
    """Slots in the near memory for some of a layer's experts.

    Parameters
    ----------
    capacity : Quantity
        Slots of a layer over its experts, 0..1.
    policy : str
        ``lru``; ``pages``, one for all layers together, as a page cache is; ``lfu`` or ``static``, the most
        popular experts; ``given``, the rate in `hit_rate`.
    hit_rate : Quantity or None
        For ``given``: share of the touched experts found in the cache, 0..1, as measured or counted
        from a trace.
    reuse : Quantity
        Share of a pass's experts that the pass before touched as well beyond what popularity
        explains, 0..1; counts for ``lru`` and ``pages``.

    Notes
    -----
    Passes near each other choose alike (`recent_share`). The rest are independent from pass to pass; of
    these ``lru`` finds what Che's approximation says (Che, Tung and Wang 2002,
    doi:10.1109/JSAC.2002.801752, equation 5): expert i, touched with chance q_i per pass, is present with
    chance ``1 - exp(-q_i T)`` where T makes these add up to the slots. Counted by
    `roofline.studies.cache_simulator` on independent choices (64 experts, 4 to 32 slots, passes of 1 to 16
    tokens), the rate is within 0.011 up to a skew of 0.6, and within 0.044 at a skew of 1.2. A frequency
    policy ends with the hottest experts, which is ``static``. ``pages`` finds nothing where a pass touches
    more than there is room for: layers come in turn, so each is dropped before its turn comes again
    (`cyclic_hit_rate`), as a prompt that touches nearly all experts shows.
    An optimal (Belady) policy has no such form: count it from a trace and give it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    capacity: Fraction
    policy: Policy = "lru"
    hit_rate: Fraction | None = None
    reuse: Fraction = 0.0

    def hits(self, *, experts: Quantity, top_k: Quantity, tokens: Quantity, routing: Routing) -> Hits:
        """Return the shares served for a pass of `tokens` tokens.

        Raises
        ------
        InvalidSpecError
            If the policy is ``given`` and no rate is.
        """
        if self.policy == "given":
            if self.hit_rate is None:
                raise InvalidSpecError("expert cache: policy 'given' wants a hit_rate")
            return Hits(experts=self.hit_rate, visits=self.hit_rate)
        independent = routing.independent_tokens(tokens)
        slots = minimum(self.capacity * experts, experts)
        chances = aligned(routing.inclusion(experts=experts, top_k=top_k), independent, slots, self.reuse)
        touched = 1.0 - (1.0 - chances) ** independent
        if self.policy in ("lru", "pages"):
            present = where(slots >= experts, 1.0, shares_adding_to(touched, slots))
            passes = slots / maximum(np.sum(touched, axis=0), 1e-300)
            recent = recent_share(held_passes=passes, reuse=self.reuse)
            present = recent + (1.0 - recent) * present
            if self.policy == "pages":
                present = where(passes < 1.0, 0.0, present)
        else:
            ranks = np.arange(chances.shape[0], dtype=float).reshape((-1,) + (1,) * (chances.ndim - 1))
            present = minimum(maximum(slots - ranks, 0.0), 1.0)
        return Hits(experts=_weighted(present, touched), visits=_weighted(present, chances))


def recent_share(*, held_passes: Quantity, reuse: Quantity) -> Quantity:
    """Return the share of a pass's experts that an LRU cache holds because passes before chose alike.

    Parameters
    ----------
    held_passes : Quantity
        What the cache holds over what a pass touches, >= 0.
    reuse : Quantity
        Share that the pass before touched as well, 0..1.

    Notes
    -----
    That an expert was touched at most t passes ago is taken as ``t / (t + r)``, which is `reuse` at
    t = 1, so ``r = 1 / reuse - 1`` passes is the median distance: 45 % of Qwen3 30B-A3B's choices repeat
    at the next token and 80 % within eight (docs/offload.md section 3). By the theory of working sets
    (Denning 1968, doi:10.1145/363095.363141) the last t passes of D experts each then touch
    ``D r ln(1 + t / r)`` different ones, and S slots, which hold as many, find ``1 - exp(-S / (D r))``.
    """
    share: Quantity = -np.expm1(-held_passes * reuse / maximum(1.0 - reuse, 1e-300))
    return share


def cyclic_hit_rate(*, capacity_bytes: Quantity, cycle_bytes: Quantity) -> Quantity:
    """Return the share of reads that an LRU page cache serves when the same bytes are read in a cycle.

    All of them where the cycle fits, none where it does not: a page is dropped just before it is
    wanted again (Mattson et al. 1970, doi:10.1147/sj.92.0078, stack distances). Linux protects some
    active pages, so a real cache beyond its size lies between this and `capacity / cycle`.
    """
    return where(cycle_bytes <= capacity_bytes, 1.0, 0.0)


def _weighted(shares: Any, weights: Any) -> Quantity:
    mean: Quantity = np.sum(shares * weights, axis=0) / np.sum(weights, axis=0)
    return mean if np.ndim(mean) else float(mean)
