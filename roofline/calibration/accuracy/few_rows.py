"""How well whole models are predicted on a device left out, with a few rows of its own.

python -m roofline.calibration.accuracy.few_rows WHOLE_MODELS
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.accuracy.pass_accuracy import band_without
from roofline.calibration.fits.own_passes import fit_own_passes, predicted_s
from roofline.calibration.fits.pass_fits import Passes, read_passes
from roofline.calibration.fits.pass_pool import Place, PooledFit, fit_pool
from roofline.calibration.fits.pass_profiles import lent_profile
from roofline.timing.runtime import Runtime

__all__ = ["ROWS", "FewRows", "few_rows", "few_rows_markdown"]

#: Numbers of own rows that are reported.
ROWS: Final = (0, 1, 3, 10)
_PHASES: Final = ("decode", "prefill")
#: Devices with fewer passes of one sequence leave too few to score.
_FEWEST_PASSES: Final = 14
_DRAWS: Final = 6


@dataclass(frozen=True, kw_only=True)
class FewRows:
    """Errors of a phase of one software on a device left out of the pool, by number of own rows, as `ROWS`.

    Parameters
    ----------
    passes : int
        Passes there are, of both phases.
    medians, covered, widths : tuple of float
        Median size of the relative error of rows that were not drawn, their share inside the 80 % band,
        half of the band's width as a logarithm: means over draws.
    """

    device: str
    software: str
    phase: str
    passes: int
    medians: tuple[float, ...]
    covered: tuple[float, ...]
    widths: tuple[float, ...]


def few_rows(pool: PooledFit, *, seed: int = 0) -> Iterator[FewRows]:
    """Yield the errors of every device with enough passes, once so many of its own rows are known.

    Notes
    -----
    Rows are drawn at random, of either phase, six times for each number; they are fitted as
    `roofline calibrate --from-table` does, on the profile that the other devices lend.
    """
    random = np.random.default_rng(seed)
    for part, place in zip(pool.passes, pool.places, strict=True):
        passes = part.chosen(np.flatnonzero(part.fitted))
        count = len(passes.measured_s)
        if count < _FEWEST_PASSES:
            continue
        base = _lent_without(pool, place)
        phases = [phase for phase in _PHASES if phase in passes.phase]
        found: dict[str, list[NDArray[np.float64]]] = {phase: [] for phase in phases}
        for rows in ROWS:
            draws = [random.permutation(count) for _ in range(_DRAWS if rows else 1)]
            scores = [_scored(passes, base, order[:rows], order[rows:]) for order in draws]
            for phase in phases:
                found[phase].append(np.mean([score[phase] for score in scores if phase in score], axis=0))
        for phase in phases:
            medians, covered, widths = (tuple(column.tolist()) for column in np.array(found[phase]).T)
            yield FewRows(
                device=place.device, software=place.framework, phase=phase, passes=count,
                medians=medians, covered=covered, widths=widths,
            )  # fmt: skip


def _lent_without(pool: PooledFit, place: Place) -> Runtime:
    """Return the profile a device would get had nobody timed it."""
    others = fit_pool([part for part in pool.passes if part.device != place.device], scored=False)
    bands = {phase: band_without(pool, phase, place) for phase in _PHASES}
    stated = replace(place, device="", clock_hertz=0.0, joules_per_flop=0.0)
    return lent_profile(others, bands, stated).on_engine(
        clock_hertz=place.clock_hertz, joules_per_flop=place.joules_per_flop
    )


def _scored(
    passes: Passes, base: Runtime, known: NDArray[np.int64], rest: NDArray[np.int64]
) -> dict[str, tuple[float, float, float]]:
    """Return median error, share inside and half width of the rest, by phase."""
    runtime = fit_own_passes(passes.chosen(known), base, source="").runtime if len(known) else base
    other = passes.chosen(rest)
    missed = np.log(other.measured_s / predicted_s(other, runtime))
    found = {}
    for phase in dict.fromkeys(other.phase):
        own = missed[other.phase == phase]
        low, high = runtime.host.spread(phase)
        inside = np.mean((low <= own) & (own <= high))
        found[str(phase)] = (
            float(np.median(np.abs(np.expm1(-own)))),
            float(inside),
            (high - low) / 2.0,
        )
    return found


def few_rows_markdown(rows: Iterable[FewRows]) -> str:
    """Return the rows as a Markdown table, with the median error and mean share and width of each phase.

    Cells hold error and share inside in percent, and half of the band's width as a logarithm.
    """
    rows = list(rows)
    head = "| phase | device | software | passes | " + " | ".join(f"{count} own" for count in ROWS) + " |"
    lines = [head, "|---|---|---|---:|" + "---:|" * len(ROWS)]

    def cells(members: list[FewRows]) -> str:
        columns = (
            np.median([one.medians for one in members], axis=0),
            np.mean([one.covered for one in members], axis=0),
            np.mean([one.widths for one in members], axis=0),
        )
        return " | ".join(
            f"{100 * median:.0f}, {100 * covered:.0f}, {width:.2f}"
            for median, covered, width in zip(*columns, strict=True)
        )

    for phase in _PHASES:
        own = [one for one in rows if one.phase == phase]
        lines += [
            f"| {phase} | {one.device} | {one.software} | {one.passes} | {cells([one])} |" for one in own
        ]
        if own:
            lines.append(f"| {phase} | **all** | | {sum(one.passes for one in own)} | {cells(own)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    _passes = read_passes(Path(sys.argv[1]), Path("calibrate/campaigns/end_to_end.toml"))
    sys.stdout.write(few_rows_markdown(few_rows(fit_pool(_passes))))
