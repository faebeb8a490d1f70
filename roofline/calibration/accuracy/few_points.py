"""How well a device is predicted that lends nothing but a handful of points of its own."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.fits.fitting import log_errors, refit
from roofline.calibration.fits.transfer import Donor, carried_to, lent_by_others
from roofline.calibration.measurements.operator_tables import Measurements

__all__ = ["POINTS", "FewPointsRow", "designed", "few_points", "few_points_markdown"]

Array = NDArray[np.float64]

#: Numbers of points that are reported.
POINTS: Final = (0, 8, 15, 30, 60)
_FOLDS: Final = 4


@dataclass(frozen=True, kw_only=True)
class FewPointsRow:
    """Errors of one kind on one device, with none of its rows but so many points.

    Parameters
    ----------
    groups : int
        Softwares and formats scored.
    medians : tuple of float
        By number of points, as `POINTS`: the median size of the relative error on shape families none
        of whose rows were used, median over groups and folds, as a fraction.
    """

    kind: str
    device: str
    groups: int
    medians: tuple[float, ...]


def designed(data: Measurements, count: int) -> NDArray[np.int64]:
    """Return which rows to measure first: the largest, the two smallest, then the farthest from all taken.

    Parameters
    ----------
    count : int
        Rows to choose; all where there are fewer.

    Notes
    -----
    Only shapes and work decide, never a time. Distance is Euclidean in the logarithms of the entries of
    the shape and of the work, each scaled to its range (max-min design, Johnson et al. 1990,
    doi:10.1016/0378-3758(90)90122-B). The largest product tells the rate that power allows, the
    smallest the time of a launch.
    """
    entries = [*data.work.shape.values(), data.work.flops, data.work.bytes]
    columns = [np.log1p(np.asarray(entry, dtype=np.float64)) for entry in entries if np.ndim(entry)]
    spans = np.array([np.ptp(column) for column in columns])
    places = np.stack(columns, axis=1)[:, spans > 0] / spans[spans > 0]
    work = np.broadcast_to(np.asarray(data.work.bytes + data.work.flops, dtype=np.float64), len(places))
    order = np.argsort(work, kind="stable")
    taken = list(dict.fromkeys([int(order[-1]), *order[:2].tolist()]))[:count]
    distance = np.min(np.linalg.norm(places[:, None] - places[taken], axis=2), axis=1)
    while len(taken) < min(count, len(places)):
        taken.append(int(np.argmax(np.where(np.isin(np.arange(len(places)), taken), -1.0, distance))))
        distance = np.minimum(distance, np.linalg.norm(places - places[taken[-1]], axis=1))
    return np.array(taken, dtype=np.int64)


def few_points(donors: Iterable[Donor]) -> list[FewPointsRow]:
    """Return the errors of devices left out, once they have measured as many points as `POINTS` says.

    Notes
    -----
    The prior is centred on what the other devices lend, whose choices stay, as when a table of own
    measurements is fitted. Points come from three folds of the shape families,
    the fourth is scored; all four in turn.
    """
    donors = tuple(donors)
    table: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for donor in donors:
        lent = lent_by_others(donor, donors)
        if lent and len(np.unique(donor.data.family % _FOLDS)) == _FOLDS:
            key = donor.data.kind, donor.data.device
            table.setdefault(key, []).append(_medians(donor, lent))
    return [
        FewPointsRow(
            kind=kind,
            device=device,
            groups=len(found),
            medians=tuple(np.median(np.array(found), axis=0).tolist()),
        )
        for (kind, device), found in sorted(table.items())
    ]


def _medians(donor: Donor, lent: tuple[Donor, ...]) -> tuple[float, ...]:
    start = carried_to(donor.kin, lent)
    fold = donor.data.family % _FOLDS
    found = []
    for count in POINTS:
        errors = np.empty(len(fold))
        for left_out in range(_FOLDS):
            held = fold == left_out
            solution = start
            if count:
                open_rows = donor.data.rows(~held)
                chosen = np.isin(np.arange(len(open_rows.times_s)), designed(open_rows, count))
                points = open_rows.rows(chosen)
                solution = refit(points, start)
            errors[held] = log_errors(donor.data.rows(held), solution)
        found.append(float(np.median(np.abs(np.expm1(-errors)))))
    return tuple(found)


def few_points_markdown(rows: Iterable[FewPointsRow]) -> str:
    """Return the rows as a Markdown table, errors in percent, with a line of medians for each kind."""
    rows = list(rows)
    head = "| operator | device | groups | " + " | ".join(f"{count} points" for count in POINTS) + " |"
    lines = [head, "|---|---|" + "---:|" * (len(POINTS) + 1)]

    def line(kind: str, device: str, groups: int, medians: Iterable[float]) -> str:
        cells = " | ".join(f"{100 * value:.1f}" for value in medians)
        return f"| {kind} | {device} | {groups} | {cells} |"

    for kind in sorted({row.kind for row in rows}):
        own = [row for row in rows if row.kind == kind]
        lines += [line(kind, row.device, row.groups, row.medians) for row in own]
        if len(own) > 1:
            middle = np.median([row.medians for row in own], axis=0).tolist()
            lines.append(line(kind, "**median**", sum(row.groups for row in own), middle))
    return "\n".join(lines) + "\n"
