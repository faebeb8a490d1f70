"""What thinking longer, or several times, costs: seconds, joules, dollars, and per solved problem."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from roofline.analysis import analyze
from roofline.errors import InvalidSpecError
from roofline.quantity import Quantity, ceil, exp, total
from roofline.scenario import Scenario
from roofline.timing.cost import arithmetic

__all__ = [
    "KINETICS_INTENSITY",
    "Coverage",
    "CoveragePoints",
    "PowerLaw",
    "SampleCost",
    "best_of",
    "effective_flops",
    "idealized_runtime",
    "largest_samples",
]

#: Operations that Kinetics sets equal to a byte of keys and values [FLOP/B]: the fp8 peak of a B200 over
#: its bandwidth (cost_model_ntrial.py of Infini-AI-Lab/Kinetics at af7fa57).
KINETICS_INTENSITY: Final = 562.5


class Coverage(Protocol):
    """How likely one of several samples solves a problem."""

    def at(self, samples: Quantity) -> Quantity:
        """Return the share of problems that at least one of so many samples solves, 0..1."""
        ...


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """Coverage as an exponentiated power law, ``exp(a k^b)`` (Brown et al. 2024, arXiv:2407.21787,
    section 3.1).

    Parameters
    ----------
    a, b : float
        Both below 0: coverage starts at ``exp(a)`` and tends to 1.
    """

    a: float
    b: float

    def __post_init__(self) -> None:
        if self.a >= 0.0 or self.b >= 0.0:
            raise InvalidSpecError(f"coverage: want a and b below 0, got {self.a:g} and {self.b:g}")

    def at(self, samples: Quantity) -> Quantity:
        """Return the coverage."""
        return exp(self.a * samples**self.b)


@dataclass(frozen=True, kw_only=True)
class CoveragePoints:
    """Measured coverage, interpolated over the logarithm of samples and constant beyond the ends."""

    samples: tuple[float, ...]
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.samples) != len(self.shares) or list(self.samples) != sorted(set(self.samples)):
            raise InvalidSpecError("coverage: want as many shares as samples, samples rising")
        if not all(0.0 <= share <= 1.0 for share in self.shares):
            raise InvalidSpecError(f"coverage: want shares between 0 and 1, got {self.shares}")

    def at(self, samples: Quantity) -> Quantity:
        """Return the coverage."""
        found: Quantity = np.interp(np.log(samples), np.log(self.samples), self.shares)
        return found


@dataclass(frozen=True, kw_only=True, eq=False)
class SampleCost:
    """What a problem costs with so many samples; arrays over samples.

    Parameters
    ----------
    rounds : Quantity
        Batches that follow each other because memory holds no more at once.
    time_s : Quantity
        From the prompt to the last token of the last sample [s].
    dollars, joules : Quantity or None
        Of one problem, where price and power are known; joules at the power given, which is an upper
        bound where it is the limit of the device.
    coverage, dollars_per_solved, time_per_solved_s : Quantity or None
        Where a coverage is given.
    """

    samples: Quantity
    rounds: Quantity
    time_s: Quantity
    dollars: Quantity | None
    joules: Quantity | None
    coverage: Quantity | None
    dollars_per_solved: Quantity | None
    time_per_solved_s: Quantity | None


def best_of(
    scenario: Scenario,
    samples: Sequence[float],
    *,
    coverage: Coverage | None = None,
    dollars_per_hour: float | None = None,
    watts: float | None = None,
    at_once: float | None = None,
) -> SampleCost:
    """Return what best-of-n costs for each n.

    Parameters
    ----------
    scenario : Scenario
        One problem per request; its samples share the prompt.
    samples : sequence of float
        Samples per problem, >= 1.
    dollars_per_hour, watts : float or None
        Of the whole system; None takes the price in its file, and its devices' power limit.
    at_once : float or None
        Samples that run together at most; None is what memory holds.

    Notes
    -----
    Where memory does not hold all samples at once they run in equal rounds, the prompt prefilled for
    each (a cache kept between rounds would save ``rounds - 1`` prefills). Cost is shared by the
    requests of the batch.
    """
    wanted = np.asarray(samples, dtype=float)
    if wanted.size == 0 or wanted.min() < 1.0:
        raise InvalidSpecError(f"samples: want numbers of at least 1, got {list(samples)}")
    if at_once is not None and at_once < 1.0:
        raise InvalidSpecError(f"parallel: want at least 1 sample at once, got {at_once:g}")
    most = float(wanted.max()) if at_once is None else min(float(wanted.max()), at_once)
    rounds = ceil(wanted / largest_samples(scenario, most))
    report = analyze(scenario.replace_at("workload.samples", wanted / rounds), axes=1, intervals=False)
    time_s = rounds * report.end_to_end_s.value
    system = scenario.deployment.system
    price = system.price_dollars_per_hour if dollars_per_hour is None else dollars_per_hour
    power = watts if watts is not None else _power_limit(scenario)
    problems = scenario.workload.batch_size
    dollars = None if price is None else time_s * price / 3600.0 / problems
    solved = None if coverage is None else coverage.at(wanted)
    return SampleCost(
        samples=wanted,
        rounds=rounds,
        time_s=time_s,
        dollars=dollars,
        joules=None if power is None else time_s * power / problems,
        coverage=solved,
        dollars_per_solved=None if dollars is None or solved is None else dollars / solved,
        time_per_solved_s=None if solved is None else time_s / solved,
    )


def _power_limit(scenario: Scenario) -> Quantity | None:
    system = scenario.deployment.system
    if system.power_watts is not None:
        return system.power_watts
    limit = system.device.tdp_watts
    return None if limit is None else limit * system.device_count


def largest_samples(scenario: Scenario, most: float) -> float:
    """Return how many samples of each request fit in memory at once, at most `most`.

    Raises
    ------
    InvalidSpecError
        If not even one does.
    """

    def fits(count: float) -> bool:
        at_once = scenario.replace_at("workload.samples", count)
        return bool(analyze(at_once, intervals=False, keep_rows=False).fits)

    return _largest(fits, most, f"{scenario.deployment.model.name}: one sample does not fit in memory")


def _largest(fits: Callable[[float], bool], most: float, message: str) -> float:
    """The largest whole number up to `most` that fits, given that what fits stays so for less."""
    if fits(most):
        return most
    low, high = 0.0, float(np.ceil(most))
    while high - low > 1.0:
        middle = float(np.floor((low + high) / 2.0))
        low, high = (middle, high) if fits(middle) else (low, middle)
    if low < 1.0:
        raise InvalidSpecError(message)
    return low


def effective_flops(
    scenario: Scenario, *, flops_per_byte: Quantity | None = None, weights: bool = True
) -> Quantity:
    """Return the operations of decoding plus those its memory traffic is worth, per request [FLOP].

    Parameters
    ----------
    flops_per_byte : Quantity or None
        What a byte is worth [FLOP/B]; None takes the 16-bit peak over the bandwidth.
    weights : bool
        Whether reading weights counts. Kinetics leaves it out, which holds for infinite batches only.

    Notes
    -----
    eFLOPs of Sadhukhan et al. 2025 (arXiv:2506.05333, section 3), with the traffic our graph counts.
    """
    workload, system = scenario.workload, scenario.deployment.system
    decode = analyze(scenario, intervals=False, keep_rows=False).decode
    if flops_per_byte is None:
        engine = next(iter(system.device.engine.values()))
        _, peak = arithmetic(engine, "bf16")
        flops_per_byte = peak / next(iter(system.device.memory.values())).bandwidth_bytes_per_s
    counted = ("kv_cache", "weight", "expert_weight") if weights else ("kv_cache",)
    traffic = total(decode.bytes_by_tensor.get(name, 0.0) for name in counted)
    steps = workload.decode_steps / decode.tokens
    return steps * (decode.flops + flops_per_byte * traffic) / workload.batch_size


def idealized_runtime(scenario: Scenario, tokens: float) -> tuple[float, float, float]:
    """Return prefill, time per token, and runtime of one request alone with `tokens` of output [s].

    Notes
    -----
    ``T = prefill(p) + (o - 1) beta`` on stated hardware and software without queueing (Narayanan et al.
    2023, arXiv:2305.02440, section 3); our beta is the mean over the growing context.
    """
    alone = scenario.replace_at("workload.batch_size", 1.0).replace_at("workload.samples", 1.0)
    report = analyze(alone.replace_at("workload.output_tokens", tokens), intervals=False, keep_rows=False)
    return float(report.ttft_s.value), float(report.tpot_s.value), float(report.end_to_end_s.value)
