"""A small decoder with random weights, run on this machine and predicted for it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from roofline.calibration.accuracy.scores import Score, score
from roofline.calibration.microbenchmarks.campaign import Campaign, Probe, first_quartile
from roofline.calibration.microbenchmarks.kernel_bench import KernelBench
from roofline.calibration.microbenchmarks.machine import Machine, import_torch
from roofline.calibration.microbenchmarks.small_decoder import DECODER, SmallDecoder, predicted_report
from roofline.catalog.files import folders
from roofline.errors import InvalidSpecError, UnknownNameError

__all__ = ["SLOWED", "Check", "SelfCheck", "self_check"]

_PROMPTS: Final = ((1, 48), (1, 160), (2, 224))
_DECODES: Final = ((1, 80), (1, 600), (3, 300))
#: A measurement beside slower probes than that is made again, so often at most.
SLOWED: Final = 1.3
_MOST_TRIES: Final = 3


@dataclass(frozen=True, kw_only=True)
class Check:
    """One point: what was run, its time and the prediction [s].

    Parameters
    ----------
    slowed : float
        How many times longer fixed passes took beside it than at the machine's best while it was
        calibrated; 1 where that is not known.
    """

    phase: str
    batch: int
    tokens: int
    measured_s: float
    predicted_s: float
    low_s: float
    high_s: float
    ideal_s: float
    slowed: float

    @property
    def error(self) -> float:
        """Signed relative error."""
        return self.predicted_s / self.measured_s - 1.0


@dataclass(frozen=True, kw_only=True)
class SelfCheck:
    """All points and their errors together; none of their shapes was calibrated on."""

    device: str
    checks: tuple[Check, ...]

    @property
    def score(self) -> Score:
        """Errors over all points."""
        columns = {
            name: np.array([getattr(check, f"{name}_s") for check in self.checks])
            for name in ("measured", "predicted", "low", "high", "ideal")
        }
        return score(**columns, seconds=columns["measured"])


def self_check(
    machine: Machine, device: str, *, software: str = "pytorch", threads: int | None = None
) -> SelfCheck:
    """Return measured and predicted times of a small decoder of transformers, prefill and decode.

    Parameters
    ----------
    device : str
        Catalogue name of this machine.
    software : str
        The profile that calibration wrote.
    threads : int, optional
        Processors to use, as many as were calibrated; all where None.

    Raises
    ------
    InvalidSpecError
        If this machine has no such profile.
    MissingDependencyError
        If torch or transformers is not installed.
    """
    from roofline.catalog.fits import softwares

    try:
        known = softwares(device)
    except UnknownNameError:
        known = ()
    if software not in known:
        raise InvalidSpecError(
            f"there is no {software} profile of {device}: run roofline calibrate first, then name its "
            "folder in ROOFLINE_CATALOG"
        )
    if threads is not None:
        import_torch().set_num_threads(threads)
    decoder = SmallDecoder(machine, DECODER)
    watch = _Watch(KernelBench(import_torch(), machine), _at_its_best(device))
    checks = []
    for batch, prompt in _PROMPTS:
        report = predicted_report(DECODER, device, software, batch=batch, prompt=prompt, output=1)
        taken = watch.undisturbed(partial(decoder.prefill_times, batch, prompt))
        checks.append(_check("prefill", batch, prompt, taken, report.ttft_s, report.prefill.ideal_s))
    for batch, context in _DECODES:
        report = predicted_report(DECODER, device, software, batch=batch, context=context)
        taken = watch.undisturbed(partial(decoder.decode_times, batch, context))
        checks.append(_check("decode", batch, context, taken, report.tpot_s, report.decode.ideal_s))
    return SelfCheck(device=device, checks=tuple(checks))


def _at_its_best(device: str) -> Probe | None:
    """Return the probes of the machine's best while it was calibrated; None where no campaign is found."""
    for fits in folders("fits"):
        best = Campaign(folder=fits.parent / "campaigns" / device, device=device).best_probe()
        if best is not None:
            return best
    return None


@dataclass(frozen=True, kw_only=True)
class _Taken:
    seconds: float
    slowed: float


class _Watch:
    """Measures beside probes, again where something slowed them."""

    def __init__(self, bench: KernelBench, best: Probe | None) -> None:
        self.bench, self.best = bench, best

    def _slowed(self) -> float:
        if self.best is None:
            return 1.0
        now = self.bench.probe()
        return max(now.product_s / self.best.product_s, now.read_s / self.best.read_s)

    def undisturbed(self, times: Callable[[], list[float]]) -> _Taken:
        """Return the least disturbed of a few tries."""
        tries: list[_Taken] = []
        while len(tries) < _MOST_TRIES and (not tries or tries[-1].slowed > SLOWED):
            before = self._slowed()
            seconds = first_quartile(times())
            tries.append(_Taken(seconds=seconds, slowed=max(before, self._slowed())))
        return min(tries, key=lambda one: one.slowed)


def _check(phase: str, batch: int, tokens: int, taken: _Taken, time_s: Any, ideal_s: Any) -> Check:
    return Check(
        phase=phase,
        batch=batch,
        tokens=tokens,
        measured_s=taken.seconds,
        predicted_s=float(time_s.value),
        low_s=float(time_s.low),
        high_s=float(time_s.high),
        ideal_s=float(ideal_s),
        slowed=taken.slowed,
    )
