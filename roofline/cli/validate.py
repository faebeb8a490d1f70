"""`roofline validate`: predictions against somebody's measurements."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from roofline.cli.output import Format, FormatOption, as_json, write
from roofline.errors import InvalidSpecError

if TYPE_CHECKING:
    from roofline.calibration.validate import Left, Scored, Validation

__all__ = ["EXAMPLES", "run"]

EXAMPLES: Final = """
roofline validate gemm_times.csv
roofline validate llama-bench.json --format json
roofline validate vllm-serve.json --device h100-sxm --weights fp8
roofline validate silicon_sample.csv
roofline validate --self-check
roofline validate tables/*.csv -o predictions.csv --plot predictions.png
"""

_HEADER: Final = (
    *("device", "software", "measured", "format", "rows", "signed", "median", "MAPE", "p90"),
    *("time-weighted", "ideal", "in 80 %"),
)


def run(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE...]",
            help="Tables of operators or whole models, AIConfigurator's serving table, or output of "
            "llama-bench, vLLM, SGLang or AIPerf.",
        ),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option("--predictions", "-o", metavar="FILE", help="Write every row with its prediction."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw predicted over measured into this picture.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="The device, for rows that do not name one.", show_default=False)
    ] = None,
    devices: Annotated[
        int | None, typer.Option(help="How many of it, for rows that do not say.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="The model, for rows that do not name one.", show_default=False)
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="The weight format, for rows that do not name one.", show_default=False)
    ] = None,
    software: Annotated[
        str | None, typer.Option(help="The software, for rows that do not name one.", show_default=False)
    ] = None,
    check: Annotated[
        bool, typer.Option("--self-check", help="Run a small decoder on this machine and compare.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(help="Processors for --self-check. [default: all]", show_default=False)
    ] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Say how far predictions lie from measurements, and which rows have none and why.

    Errors are relative, predicted / measured - 1: the median with its sign, then median, mean, 90 %
    quantile and time-weighted mean of the size; beside them the median of the datasheet bound, and
    the share of measurements inside the 80 % interval. Benchmark loops find small operands in the
    cache; operator rows are predicted that way, unlike a whole model.

    Columns are in docs/calibration.md. How a loaded server is predicted stands in docs/serving.md, what
    does not fit in memory in docs/offload.md, several unlike devices (as `roofline ring`) in docs/edge.md.
    """
    if check and files:
        raise InvalidSpecError("--self-check: measures this machine, so want no FILE with it")
    if threads is not None and not check:
        raise InvalidSpecError("--threads: belongs to --self-check")
    if threads is not None and threads < 1:
        raise InvalidSpecError(f"--threads: want at least 1, got {threads}")
    if check:
        write(_self_check(device, software, threads, form))
        return
    if not files:
        raise InvalidSpecError("want a file of measurements, or --self-check")
    from roofline.calibration.validate import validate

    said = {"device": device, "device_count": devices, "model": model, "quant": weights,
            "runtime": software, "software": software}  # fmt: skip
    result = validate(files, {name: str(value) for name, value in said.items() if value is not None})
    if predictions is not None:
        write(result.frame().to_csv(index=False).rstrip("\n"), predictions)
    if plot is not None:
        _draw(result, plot)
    if form is Format.JSON:
        write(as_json(result.document()))
    elif form is Format.CSV:
        write(_table(result, Format.CSV))
    else:
        write("\n\n".join(_sections(result, form)))


def _self_check(device: str | None, software: str | None, threads: int | None, form: Format) -> str:
    """Run the self-check on the machine calibration named, and show every point."""
    from dataclasses import asdict

    from roofline.calibration.microbenchmarks.machine import machine_name, this_machine
    from roofline.calibration.self_check import SLOWED, self_check
    from roofline.cli.tables import quantity, render_table

    machine = this_machine()
    result = self_check(
        machine, machine_name(device, machine), software=software or "pytorch", threads=threads
    )
    if form is Format.JSON:
        points = [{**asdict(point), "error": point.error} for point in result.checks]
        return as_json({"device": result.device, "all": asdict(result.score), "points": points})
    header = (
        "phase",
        "batch",
        "tokens",
        "measured",
        "predicted",
        "80 % interval",
        "ideal",
        "error",
        "slowed",
    )
    rows = [
        (
            point.phase, str(point.batch), str(point.tokens), quantity(point.measured_s, "s"),
            quantity(point.predicted_s, "s"),
            f"{quantity(point.low_s, 's')} to {quantity(point.high_s, 's')}",
            quantity(point.ideal_s, "s"), f"{100 * point.error:+.1f} %", f"{point.slowed:.2f} x",
        )
        for point in result.checks
    ]  # fmt: skip
    table = render_table(header, rows, form)
    if form is Format.CSV:
        return table
    found = result.score
    inside = f"{100 * found.covered:.0f} % inside the interval"
    summary = (
        f"{table}\n\nMedian error {100 * found.median:.1f} %, signed {100 * found.signed:+.1f} %, {inside}."
    )
    other = sum(not 1.0 / SLOWED < point.slowed < SLOWED for point in result.checks)
    if other:
        summary += (
            f"\nDoubtful: beside {other} of {len(result.checks)} points this machine ran at another speed "
            f"than when it was calibrated, by more than {SLOWED - 1:.0%}."
        )
    return summary


def _draw(result: "Validation", file: Path) -> None:
    from roofline.plotting.validation import save_predicted_over_measured

    save_predicted_over_measured(result, file)


def _sections(result: "Validation", form: Format) -> Iterator[str]:
    from roofline.cli.tables import render_table

    yield _table(result, form)
    together = [*result.scored("measured"), *result.scored()]
    rows = [(group.keys.get("measured", "all"), *_figures(group)) for group in together]
    yield render_table(("measured", *_HEADER[4:]), rows, form)
    counts = []
    for file, found in result.parts:
        count, used = len(found.skipped), int((found.skipped == "").sum())
        counts.append(f"{file.path}: {count:,} rows, {used:,} predicted, {count - used:,} left out")
    yield "\n".join(counts)
    left = result.left_out()
    if left:
        yield "Left out:\n" + "\n".join(_left(one, len(result.parts) > 1) for one in left)
    notes = [*_borrowed(result), *_stood_in(result)]
    if notes:
        yield "\n".join(notes)


def _table(result: "Validation", form: Format) -> str:
    from roofline.calibration.validate import KEYS
    from roofline.cli.tables import render_table

    rows = [
        (*(group.keys[name] for name in KEYS), *(_numbers(group) if form is Format.CSV else _figures(group)))
        for group in result.scored(*KEYS)
    ]
    return render_table(_HEADER, rows, form, left=4)


def _numbers(group: "Scored") -> tuple[str, ...]:
    found = group.score
    figures = (found.signed, found.median, found.mean, found.p90, found.time_weighted)
    return (str(found.rows), *map(repr, (*figures, found.ideal_median, found.covered)))


def _figures(group: "Scored") -> tuple[str, ...]:
    found = group.score
    sizes = (found.median, found.mean, found.p90, found.time_weighted, found.ideal_median)
    return (
        f"{found.rows:,}",
        f"{100 * found.signed:+.1f} %",
        *(f"{100 * size:.1f} %" for size in sizes),
        f"{100 * found.covered:.0f} %",
    )


_MOST_RANGES: Final = 12


def _left(left: "Left", named: bool) -> str:
    """One line: how many rows, why, and their lines as ranges."""
    places: list[str] = []
    for path in dict.fromkeys(path for path, _ in left.places):
        ranges = _ranges([line for other, line in left.places if other == path])
        shown = ", ".join(ranges[:_MOST_RANGES])
        rest = f" and {len(ranges) - _MOST_RANGES} more" if len(ranges) > _MOST_RANGES else ""
        places.append(f"{Path(path).name + ' ' if named else ''}line {shown}{rest}")
    return f"  {len(left.places):,} rows: {left.example} ({'; '.join(places)})"


def _ranges(lines: Sequence[int]) -> list[str]:
    found: list[list[int]] = []
    for line in lines:
        if found and line == found[-1][1] + 1:
            found[-1][1] = line
        else:
            found.append([line, line])
    return [str(first) if first == last else f"{first}-{last}" for first, last in found]


_MOST_NOTES: Final = 20


def _borrowed(result: "Validation") -> Iterator[str]:
    """Tell which rows were predicted with another software's or version's profile."""
    told = [
        f"Note: {rows:,} rows of {asked or 'no stated software'} are predicted as {profile}."
        for asked, profile, rows in result.profiles_used()
        if profile not in (asked, "datasheet", "")
    ]
    yield from told[:_MOST_NOTES]
    if len(told) > _MOST_NOTES:
        yield f"Note: and so are {len(told) - _MOST_NOTES} more groups of rows; --format json names them."


def _stood_in(result: "Validation") -> Iterator[str]:
    """Tell which models the catalogue does not hold, and what was predicted in their place."""
    told = [
        f"Note: {rows:,} rows of {model} are predicted as {stand_in}."
        for model, stand_in, rows in result.stand_ins()
    ]
    yield from told[:_MOST_NOTES]
    if len(told) > _MOST_NOTES:
        yield f"Note: and so are {len(told) - _MOST_NOTES} more models; --format json names them."
