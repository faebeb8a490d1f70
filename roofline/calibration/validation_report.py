"""Writes docs/validation.md: ``python -m roofline.calibration.validation_report OPERATORS WHOLE_MODELS``.

The arguments are folders of tables in the two schemas of docs/calibration.md. Everything is refitted
without the rows it is scored on, which takes some minutes.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.accuracy.few_points import few_points, few_points_markdown
from roofline.calibration.accuracy.operator_accuracy import accuracy_markdown, unseen_devices
from roofline.calibration.accuracy.pass_accuracy import score_passes
from roofline.calibration.accuracy.scores import Score, score
from roofline.calibration.fits.fitting import quantiles
from roofline.calibration.fits.pass_fits import read_passes
from roofline.calibration.fits.pass_pool import PooledFit, fit_pool
from roofline.calibration.fits.profiles import fit_donors
from roofline.calibration.fits.transfer import Donor
from roofline.calibration.validate import Validation, validate

__all__ = ["report_text"]

Array = NDArray[np.float64]

_TARGET: Final = Path("docs/validation.md")
_CAMPAIGN: Final = Path("calibrate/campaigns/end_to_end.toml")
_HEAD: Final = """# Validation

Made by `python -m roofline.calibration.validation_report OPERATORS WHOLE_MODELS`; do not edit by hand.

Errors are relative, predicted / measured - 1, in percent: signed median, median and 90 % quantile of the
size, mean weighted by measured time. *ideal* is the median size of the error of the datasheet bound.
*inside* is the share of measurements in the nominal 80 % interval.
"""
#: Kinds that carry most of a model's time.
_WITH_FEW_POINTS: Final = ("gemm", "attention_decode", "attention_prefill", "grouped_gemm")
_COLUMNS: Final = ("rows", "signed", "median", "90 %", "time-weighted", "ideal", "inside")


def _score_cells(found: Score) -> tuple[str, ...]:
    sizes = (found.median, found.p90, found.time_weighted, found.ideal_median, found.covered)
    return (f"{found.rows:,}", f"{100 * found.signed:+.1f}", *(f"{100 * size:.1f}" for size in sizes))


def _table(header: Iterable[str], rows: Iterable[Iterable[str]], left: int) -> str:
    names = list(header)
    lines = ["| " + " | ".join(names) + " |"]
    lines.append("| " + " | ".join("---" if place < left else "---:" for place in range(len(names))) + " |")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _held_out(donor: Donor) -> Score:
    """Score shape families left out of the fit; each half is covered by the quantiles of the other."""
    data, errors = donor.data, donor.errors
    ideal = np.maximum(
        data.work.flops / data.ceilings.flops_per_s, data.work.bytes / data.ceilings.bytes_per_s
    )
    predicted = data.times_s / np.exp(errors)
    half = data.family // 4 % 2 == 0
    low, high = np.empty(len(errors)), np.empty(len(errors))
    for part in (half, ~half):
        own = errors[~part] if (~part).sum() > 1 else errors
        low[part], high[part] = quantiles(own)
    return score(
        measured=data.times_s,
        predicted=predicted,
        ideal=np.broadcast_to(np.asarray(ideal, dtype=np.float64), predicted.shape),
        low=predicted * np.exp(low),
        high=predicted * np.exp(high),
        seconds=data.times_s,
    )


def _operator_sections(donors: list[Donor]) -> Iterator[str]:
    yield (
        "## Operators, shapes left out of the fit\n\n"
        "Shape families (weights of a product, heads of an attention, bytes of a message) are dealt to "
        "four folds; each is predicted by a fit of the other three. Software names its version: the same "
        "shape differs 9-22 % between versions, which bounds what a fit of another version can do.\n"
    )
    keyed = sorted(donors, key=lambda one: (one.data.kind, one.data.device, one.data.software))
    rows = [
        (
            donor.data.kind,
            donor.data.format,
            donor.data.device,
            donor.data.software,
            *_score_cells(_held_out(donor)),
        )
        for donor in keyed
    ]
    yield _table(("operator", "format", "device", "software", *_COLUMNS), rows, 4)
    yield (
        "## Operators, devices left out\n\n"
        "Every device predicted from the others alone, as one without measurements would be.\n"
    )
    yield accuracy_markdown(unseen_devices(donors))
    yield (
        "## Operators, devices with a few points of their own\n\n"
        "The same, after so many points of the device were measured and fitted with the others as prior, as "
        "`roofline calibrate --from-table` does: the largest shape, the two smallest, then the farthest in "
        "shape from all taken. Points and scored rows share no shape family; median size of the error, "
        "median over softwares and formats.\n"
    )
    yield few_points_markdown(few_points(donor for donor in donors if donor.data.kind in _WITH_FEW_POINTS))


def _whole_model_sections(result: Validation, classes: dict[str, str]) -> Iterator[str]:
    yield (
        "## Whole models\n\n"
        "Most of these rows helped to fit the profiles (bandwidth reached, host time), so the table shows "
        "how well the forms describe them; errors of rows left out stand as quantiles in each profile.\n"
    )
    columns = ("measured", "predicted", "ideal", "low", "high", "seconds")
    grouped: dict[tuple[str, str], list[Array]] = {}
    for file, found in result.parts:
        kinds = file.column("device").map(classes).replace("", "other")
        table = found.keys.assign(kind=kinds)[found.skipped == ""]
        for (kind, metric), members in table.groupby(["kind", "measured"]):
            own = np.array([getattr(found, name)[members.index] for name in columns])
            grouped.setdefault((str(kind), str(metric)), []).append(own)
    rows = []
    for key, parts in sorted(grouped.items()):
        joined = dict(zip(columns, np.concatenate(parts, axis=1), strict=True))
        rows.append((*key, *_score_cells(score(**joined))))
    yield _table(("device class", "measured", *_COLUMNS), rows, 2)
    yield "Rows without a prediction:\n"
    yield _table(
        ("rows", "reason"),
        [(f"{len(one.places):,}", one.example.replace("|", "\\|")) for one in result.left_out()[:25]],
        0,
    )


_LEFT_OUT: Final = {
    "model": "## Whole models, models left out\n\nEvery model predicted from others on its device.\n",
    "source": (
        "## Whole models, sources left out\n\nDevices that several sources timed, each source predicted from "
        "the others: other releases, hosts and ways of timing.\n"
    ),
    "device": (
        "## Whole models, devices left out\n\nEvery device predicted from the others, with all software "
        "it ran. A class of one device is predicted from other classes.\n"
    ),
    "generation": (
        "## Whole models, generations left out\n\nEvery device predicted from those of other generations.\n"
    ),
    "maker": (
        "## Whole models, makers left out\n\nEvery device predicted from those of other makers, processors "
        "being one: what a device gets whose maker nobody timed.\n"
    ),
}


def _pass_sections(pool: PooledFit) -> Iterator[str]:
    yield (
        "Rows of one sequence on one device, and of decode of several, with software that no kernel was timed"
        " of. *inside* is by bands that the rows did not help to make, *by device* with equal weight of each;"
        " *width* is half the logarithm of high over low.\n"
    )
    scores = list(score_passes(pool))
    header = ("software", "devices like", "phase", "devices", "rows", "signed", "median", "90 %",
              "inside", "by device", "width")  # fmt: skip
    for left_out, told in _LEFT_OUT.items():
        yield told
        rows = [
            (
                one.software,
                one.family,
                one.phase,
                f"{one.devices}",
                f"{one.rows}",
                f"{100 * one.signed:+.1f}",
                *(f"{100 * part:.1f}" for part in (one.median, one.p90, one.covered, one.covered_devices)),
                f"{one.width:.2f}",
            )
            for one in scores
            if one.left_out == left_out
        ]
        yield _table(header, rows, 3)


_WHY: Final = """## Where it is bad, and why

- **Software that is not in a profile.** A profile is of one version; the same shape differs 9-22 % between
  versions and 34-41 % between frameworks.
- **Prefill of llama.cpp.** Its kernels changed by a factor of two from 2023 to 2025, and some builds use
  matrix units that others leave idle (Apple's M5: a factor of two to three).
- **Processors.** Shares of the bandwidth run from 0.3 (many cores, old parts) to 0.95 (few fast ones), and
  nothing in a datasheet tells which.
- **Time to first token under load** depends on arrival and scheduling. Validation takes a closed loop of
  equal requests; anything else is in the error.
- **Kernels no profile has seen** - batched products, encoders, quantisation passes - run on the fit of what
  they resemble and are marked transferred.
- **Rows split over consumer cards** exchange every product through the host; they are refused.
"""


def report_text(operators: Path, whole_models: Path) -> str:
    """Return the page as Markdown.

    Parameters
    ----------
    operators, whole_models : Path
        Folders of tables; those of another schema are passed over.
    """
    donors = fit_donors(operators)
    files = [path for path in sorted(whole_models.glob("*.csv")) if b"metric" in path.open("rb").readline()]
    result = validate(files)
    classes: dict[str, str] = {}
    for file, _ in result.parts:
        classes |= dict(zip(file.column("device"), file.column("device_class"), strict=True))
    pool = fit_pool(read_passes(whole_models, _CAMPAIGN))
    whole = (*_whole_model_sections(result, classes), *_pass_sections(pool))
    parts = (_HEAD, *_operator_sections(donors), *whole, _WHY)
    return "\n".join(parts)


if __name__ == "__main__":
    _TARGET.write_text(report_text(Path(sys.argv[1]), Path(sys.argv[2])), encoding="utf-8")
