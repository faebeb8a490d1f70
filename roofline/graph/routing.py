"""Which experts the tokens of a pass touch."""

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

from roofline.errors import InvalidSpecError
from roofline.quantity import Quantity, log, maximum, minimum, where
from roofline.units import Count, Fraction

__all__ = [
    "Routing",
    "aligned",
    "correlation_of",
    "expected_imbalance",
    "shares_adding_to",
]

Array: TypeAlias = NDArray[np.float64]

#: Halvings of the bracket of a fixed point: 2**-60 of a bracket of e**160 is below rounding.
_HALVINGS = 90


@dataclass(frozen=True, kw_only=True, eq=False)
class Routing:
    """How tokens choose experts.

    Parameters
    ----------
    kind : str
        ``uniform``: every token picks its experts at random without replacement. ``zipf``: the expert
        of popularity rank r is drawn with weight ``r**-skew``. ``popularity``: with the weights given.
    skew : Quantity
        Exponent of ``zipf``; 0 is uniform.
    popularity : tuple of float
        Weight of each expert, as a trace gives them; only for ``popularity``.
    correlation : Quantity
        Share of a pass's tokens that choose like another one does; the touched experts are those of
        ``n_eff = 1 + (n - 1) (1 - correlation)`` independent tokens, 0..1.
    imbalance : Quantity
        Tokens of the busiest rank over the mean of all under expert parallelism, >= 1; the slowest
        rank sets the pace. `expected_imbalance` gives that of random routing.

    Notes
    -----
    Routing that first picks groups of experts (DeepSeek-V3, arXiv:2412.19437, section 2.1.2) leaves
    every expert the same chance k/E, so the expected number of touched experts is the uniform one;
    only its variance differs.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    kind: Literal["uniform", "zipf", "popularity"] = "uniform"
    skew: Count = 0.0
    popularity: tuple[float, ...] = ()
    correlation: Fraction = 0.0
    imbalance: Count = 1.0

    def touched(self, *, experts: Quantity, top_k: Quantity, tokens: Quantity) -> Quantity:
        """Return the expected number of distinct experts that `tokens` tokens choose.

        Notes
        -----
        Uniform: ``E (1 - (1 - k/E)^n)``; each expert misses one token with probability 1 - k/E. It
        is k at one token and tends to E; derived in docs/formulas.md section 5. Otherwise the sum
        over experts of ``1 - (1 - pi_i)^n`` with the chances of `inclusion`.
        """
        independent = self.independent_tokens(tokens)
        if self.kind == "uniform":
            return experts * (1.0 - (1.0 - top_k / experts) ** independent)
        chances = aligned(self.inclusion(experts=experts, top_k=top_k), independent)
        return _sum_first(1.0 - (1.0 - chances) ** independent)

    def touched_variance(self, *, experts: Quantity, top_k: Quantity, tokens: Quantity) -> Quantity:
        """Return the variance of the number of distinct experts that `tokens` tokens choose.

        Notes
        -----
        Uniform: with ``a = (1 - k/E)^n`` the chance that all tokens miss one expert and
        ``b = ((E-k)(E-k-1) / (E(E-1)))^n`` that they miss two, ``E a (1 - a) + E (E - 1) (b - a^2)``;
        derived in docs/offload.md section 2. Otherwise the lesser of two upper bounds: the sum of
        ``q_i (1 - q_i)`` over the chances q_i that an expert is touched, since a token that takes one
        expert takes others less, and ``(most - mean) (mean - least)`` of any number between k and
        min(E, n k) (Bhatia and Davis 2000, doi:10.1080/00029890.2000.12005203).
        """
        independent = self.independent_tokens(tokens)
        if self.kind != "uniform":
            chances = aligned(self.inclusion(experts=experts, top_k=top_k), independent)
            missed = (1.0 - chances) ** independent
            mean, most = _sum_first(1.0 - missed), minimum(experts, tokens * top_k)
            between = maximum(most - mean, 0.0) * maximum(mean - top_k, 0.0)
            return minimum(_sum_first(missed * (1.0 - missed)), between)
        one = (1.0 - top_k / experts) ** independent
        left = maximum(experts - top_k, 0.0)
        both = (left * maximum(left - 1.0, 0.0) / (experts * maximum(experts - 1.0, 1.0))) ** independent
        return maximum(experts * one * (1.0 - one) + experts * (experts - 1.0) * (both - one * one), 0.0)

    def independent_tokens(self, tokens: Quantity) -> Quantity:
        """Return how many independent tokens touch as many experts as `tokens` correlated ones."""
        return tokens - (tokens - 1.0) * self.correlation

    def inclusion(self, *, experts: Quantity, top_k: Quantity) -> Array:
        """Return each expert's chance to be among one token's top k, most popular first.

        Returns
        -------
        array
            Experts on the first axis, then the axes of the arguments; it sums to k.

        Raises
        ------
        InvalidSpecError
            If the popularity given is of another number of experts.

        Notes
        -----
        Drawing k of E without replacement with weights w is keeping the first k of E exponential
        clocks of rates w; expert i rings before time t with chance ``1 - exp(-w_i t)``, and t is
        where these add up to k. Touched experts come within 1 % of enumeration at skew 1 and 3.5 % at skew
        2 (E = 6 and 16, k = 2); exact for equal weights and for k = E.
        """
        ranks = _ranks(experts, np.ndim(top_k), np.ndim(self.skew))
        if self.kind == "popularity":
            weights = self._given_weights(ranks)
        else:
            skew = self.skew if self.kind == "zipf" else 0.0
            weights = np.where(ranks <= experts, ranks**-skew, 0.0)
        return shares_adding_to(weights, top_k)

    def _given_weights(self, ranks: Array) -> Array:
        if ranks.shape[0] != len(self.popularity):
            raise InvalidSpecError(
                f"routing.popularity: want one weight per expert ({ranks.shape[0]}), "
                f"got {len(self.popularity)}"
            )
        ordered = np.sort(np.asarray(self.popularity, dtype=float))[::-1]
        if not (ordered[-1] >= 0.0 and ordered[0] > 0.0 and np.isfinite(ordered[0])):
            raise InvalidSpecError("routing.popularity: want weights >= 0, not all 0")
        return ordered.reshape(ranks.shape)


def shares_adding_to(weights: Array, wanted: Quantity) -> Array:
    """Return ``1 - exp(-w_i t)`` with the t at which they add up to `wanted`.

    Parameters
    ----------
    weights : array
        Weights >= 0 on the first axis, then axes that broadcast against `wanted`.
    wanted : Quantity
        Sum to reach, at most the number of positive weights.

    Notes
    -----
    Bisection on log t, down to rounding. Asking for as many as there are gives 1 each.
    """
    weights = aligned(weights, wanted)
    positive = np.where(weights > 0.0, weights, np.inf)
    low = np.log(1e-12 / np.max(weights, axis=0)) + 0.0 * np.asarray(wanted)
    high = np.log(745.0 / np.min(positive, axis=0)) + 0.0 * np.asarray(wanted)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        reached = _sum_first(1.0 - np.exp(-weights * np.exp(middle)))
        low, high = where(reached < wanted, middle, low), where(reached < wanted, high, middle)
    shares: Array = 1.0 - np.exp(-weights * np.exp(0.5 * (low + high)))
    return shares


def aligned(values: Array, *others: Quantity) -> Array:
    """Return values whose first axis is their own with room for every axis of the others behind it."""
    missing = max(map(np.ndim, others)) - (values.ndim - 1)
    return values.reshape(values.shape[:1] + (1,) * max(missing, 0) + values.shape[1:])


def correlation_of(*, distinct: Quantity, experts: Quantity, top_k: Quantity, tokens: Quantity) -> Quantity:
    """Return the correlation at which `tokens` tokens touch as many distinct experts as were counted.

    Parameters
    ----------
    distinct : Quantity
        Mean distinct experts of a pass, above 0 and below `experts`.
    tokens : Quantity
        Of that pass, above 1.

    Returns
    -------
    Quantity
        For `Routing.correlation`, 0..1; 0 where more were counted than independent tokens touch.

    Notes
    -----
    The inverse of ``E (1 - (1 - k/E)^n_eff)`` with ``n_eff = n - (n - 1) correlation``. Batches that are
    grouped by expert (ExpertFlow, arXiv:2410.17954; Read-ME, arXiv:2410.19123) publish `distinct`.

    Examples
    --------
    >>> round(float(correlation_of(distinct=7.63, experts=8.0, top_k=2.0, tokens=56.8)), 3)
    0.826
    """
    independent = log(1.0 - distinct / experts) / log(1.0 - top_k / experts)
    return minimum(maximum((tokens - independent) / (tokens - 1.0), 0.0), 1.0)


def expected_imbalance(*, experts: Quantity, top_k: Quantity, tokens: Quantity, ranks: Quantity) -> Quantity:
    """Return the expected load of the busiest of `ranks` ranks over the mean, under uniform routing.

    Notes
    -----
    A rank with E/R experts gets a hypergeometric number of one token's k visits, of variance
    ``k (1/R) (1 - 1/R) (E - k) / (E - 1)``. Ranks share a fixed sum, so any two correlate by
    -1/(R-1), and their largest spreads as that of R independent ones of R/(R-1) times the variance.
    The largest of R normal variables is expected at the quantile ``(R - 3/8) / (R + 1/4)`` (Blom
    1958), Tukey's ``4.91 (p^0.14 - (1-p)^0.14)``. The excess over 1 is within 10 % of simulation
    (tests/graph/test_routing.py). Skewed popularity makes it larger.
    """
    mean = tokens * top_k / ranks
    spread = mean * (experts - top_k) / maximum(experts - 1.0, 1.0)
    quantile = (ranks - 0.375) / (ranks + 0.25)
    deviations = 4.91 * (quantile**0.14 - (1.0 - quantile) ** 0.14)
    return 1.0 + deviations * maximum(spread, 0.0) ** 0.5 / mean


def _ranks(experts: Quantity, *dimensions: int) -> Array:
    """1, 2, ... on a first axis before as many as the arguments have."""
    most = int(np.ceil(np.max(experts)))
    return np.arange(1.0, most + 1.0).reshape((most,) + (1,) * max(np.ndim(experts), *dimensions))


def _sum_first(values: Array) -> Quantity:
    """The sum over the first axis, a float where nothing is left."""
    summed: Quantity = np.sum(values, axis=0)
    return summed if np.ndim(summed) else float(summed)
