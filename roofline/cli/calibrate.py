"""`roofline calibrate`: profiles from this machine, or from somebody's own table."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from roofline.cli.output import Format, FormatOption, as_json, write
from roofline.errors import InvalidSpecError, optional

if TYPE_CHECKING:
    from roofline.calibration.fits.own_fits import OwnFit
    from roofline.calibration.microbenchmarks.measure import Told
    from roofline.calibration.storage_calibration import CalibratedStorage
    from roofline.calibration.table_calibration import Calibrated

__all__ = ["EXAMPLES", "run"]

EXAMPLES: Final = """
roofline calibrate --folder mine --minutes 5
roofline calibrate --folder mine --storage /data
roofline calibrate --folder mine --ranks 2
roofline calibrate --folder mine --from-table gemm_times.csv
roofline calibrate --folder mine --from-table llama-bench.json --device rtx-4090
"""


class EngineChoice(StrEnum):
    """What torch measures on; ROCm is cuda there."""

    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


def run(
    minutes: Annotated[float, typer.Option(help="Budget for measuring; an interrupted run goes on.")] = 10.0,
    folder: Annotated[
        Path | None,
        typer.Option(help="Your own catalogue folder. [default: the first of ROOFLINE_CATALOG]"),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Catalogue name of this machine, or the device of rows that name none. "
            "[default: found by its own name; this_machine where it is in no catalogue]",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        EngineChoice | None, typer.Option(help="Measure on this engine.", show_default=False)
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Use that many processors. [default: all]", show_default=False)
    ] = None,
    busy: Annotated[bool, typer.Option("--busy", help="Measure although others use the machine.")] = False,
    from_table: Annotated[
        Path | None,
        typer.Option("--from-table", metavar="FILE", help="Fit these measurements instead of measuring."),
    ] = None,
    storage: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Measure reads of the storage that holds this folder, not kernels."
        ),
    ] = None,
    ranks: Annotated[
        int | None,
        typer.Option(
            help="Measure collectives between that many processes. [default: all CUDA devices]",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="The weight format, for rows that do not name one.", show_default=False)
    ] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Fit profiles to measurements of your own and write them into your catalogue folder.

    Without --from-table, this machine is measured with torch until the budget ends: matrix products,
    attention, normalisation, the host's time, on CUDA the link to the host, between several devices
    collectives. Everything measured is kept in a campaign; the same command goes on where it stopped.
    With --storage, reads of a disk are measured instead. With --from-table, rows of your own narrow the
    profile there is; what is too little to tell anything is refused. docs/calibration.md says more.
    """
    import os

    from roofline.calibration.table_calibration import calibrate_table
    from roofline.catalog.user_folder import user_folder

    own = user_folder(folder)
    listed = os.environ.get("ROOFLINE_CATALOG", "").split(os.pathsep)
    if str(own) not in listed:
        os.environ["ROOFLINE_CATALOG"] = os.pathsep.join([str(own), *(part for part in listed if part)])
    measures = from_table is None and storage is None
    if from_table is not None and storage is not None:
        raise InvalidSpecError("--from-table and --storage: want one of them")
    if ranks is not None and not measures:
        raise InvalidSpecError("--ranks: belongs to measuring kernels, not to --from-table or --storage")
    if weights is not None and from_table is None:
        raise InvalidSpecError("--weights: belongs to --from-table")
    if threads is not None and threads < 1:
        raise InvalidSpecError(f"--threads: want at least 1, got {threads}")
    if from_table is None and not minutes > 0:
        raise InvalidSpecError(f"--minutes: want more than 0, got {minutes:g}")
    if storage is not None:
        write(_storage(storage, own, device, minutes, form))
        return
    if from_table is not None:
        said = {"device": device, "quant": weights}
        with optional("fitting", extra="calibrate"):
            made = calibrate_table(from_table, own, {key: text for key, text in said.items() if text})
    else:
        from roofline.calibration.machine_calibration import calibrate_machine
        from roofline.calibration.microbenchmarks.machine import this_machine

        machine = this_machine(None if engine is None else engine.value)
        with _measuring() as told:
            made = calibrate_machine(
                machine,
                own,
                seconds=60.0 * minutes,
                device=device,
                threads=threads,
                even_if_busy=busy,
                ranks=ranks,
                told=told,
            )
    if form is Format.JSON:
        write(as_json(_document(made)))
        return
    write("\n\n".join(_sections(made, form)))
    if str(own) not in listed:
        typer.echo(f"To use it: export ROOFLINE_CATALOG={own}", err=True)


@contextmanager
def _measuring() -> Iterator["Told"]:
    """Give what draws the bar; at Ctrl-C say that nothing is lost, and leave as shells expect."""
    shown: list[str] = []

    def told(done: int, total: int, what: str) -> None:
        filled = int(_BAR * done / total)
        shown.append(f"[{'#' * filled}{'.' * (_BAR - filled)}] {done}/{total} {what}")
        typer.echo(f"\r{shown[-1][:100]:<100}", nl=False, err=True)

    interrupted = False
    try:
        yield told
    except KeyboardInterrupt:
        interrupted = True
    finally:
        if shown:
            typer.echo("", err=True)
    if interrupted:
        typer.echo("Interrupted: what was measured is kept, and the same command goes on.", err=True)
        raise typer.Exit(130)


def _storage(stored: Path, own: Path, device: str | None, minutes: float, form: Format) -> str:
    """Measure storage, write its file, and show rates and fit."""
    from roofline.calibration.microbenchmarks.machine import machine_name
    from roofline.calibration.storage_calibration import calibrate_storage
    from roofline.cli.tables import quantity, render_table

    name = machine_name(device)
    with _measuring() as told:
        made = calibrate_storage(stored, own, device=name, seconds=60.0 * minutes, told=told)
    if form is Format.JSON:
        return as_json(_storage_document(made))
    rows = [
        (
            one.order,
            f"{one.block_bytes:,}",
            str(one.queue_depth),
            quantity(one.bytes_per_s, "B/s"),
            one.method,
        )
        for one in made.speeds
    ]
    parts = [render_table(("order", "block [B]", "queue depth", "rate", "by"), rows, form)]
    if form is Format.CSV:
        return parts[0]
    if made.fit is not None:
        found = made.fit.storage
        parts.append(
            f"Fitted: {quantity(float(found.read_bandwidth_bytes_per_s), 'B/s')}, "
            f"{quantity(float(found.read_latency_s), 's')} for a request, {found.queue_depth:g} at once.\n"
            f"Median error {100 * made.fit.error:.0f} %; of reads in order, which were not fitted, "
            f"{100 * made.fit.sequential_error:.0f} %.\n"
            f"--offload flash on {made.device} uses it."
        )
    parts += [f"Doubtful: {doubt}" for doubt in made.doubts]
    parts.append("\n".join(f"Wrote {path}" for path in made.written))
    return "\n\n".join(parts)


def _storage_document(made: "CalibratedStorage") -> dict[str, Any]:
    fit = made.fit
    return {
        "device": made.device,
        "rates": [dict(vars(one)) for one in made.speeds],
        "fit": None
        if fit is None
        else {
            "read_bandwidth_bytes_per_s": fit.storage.read_bandwidth_bytes_per_s,
            "write_bandwidth_bytes_per_s": fit.storage.write_bandwidth_bytes_per_s,
            "read_latency_s": fit.storage.read_latency_s,
            "queue_depth": fit.storage.queue_depth,
            "capacity_bytes": fit.storage.capacity_bytes,
            "median_error": fit.error,
            "median_error_sequential": None if math.isnan(fit.sequential_error) else fit.sequential_error,
        },
        "doubts": list(made.doubts),
        "written": [str(path) for path in made.written],
    }


#: Characters of a whole bar.
_BAR: Final = 30
_HEADER: Final = ("kind", "format", "device", "software", "points", "before", "left out",
                  "80 % interval before", "now")  # fmt: skip


def _sections(made: "Calibrated", form: Format) -> Iterator[str]:
    from roofline.cli.tables import quantity, render_table

    yield render_table(_HEADER, [_row(fit) for fit in made.fits], form, left=4)
    if form is Format.CSV:
        return
    if made.memory:
        yield _memory(made, form)
    if made.host_link:
        yield _host_link(made, form)
    if made.launch_s:
        yield "Launch of a small kernel: " + ", ".join(
            f"{quantity(seconds, 's')} {how}" for how, seconds in made.launch_s.items()
        )
    for reason in made.left_out:
        yield f"Not measured: {reason}"
    for fit in made.fits:
        if fit.untold:
            what, names = f"{fit.kind} {fit.format}", ", ".join(fit.untold)
            yield f"Not told by the rows: {what}: {names}; kept, and the interval holds what that may cost"
    for refused in made.refused:
        yield f"Not fitted: {refused.what}: {refused.reason}"
    for doubt in made.doubts:
        yield f"Doubtful: {doubt}"
    yield "\n".join(f"Wrote {path}" for path in made.written)


def _memory(made: "Calibrated", form: Format) -> str:
    """Return the curve of bandwidth against size, each rate beside a bar of its share of the best."""
    from roofline.cli.tables import quantity, render_table

    best = max(one.bytes_per_s for one in made.memory)
    rows = [
        (
            one.op,
            "#" * max(1, round(_BAR * one.bytes_per_s / best)),
            quantity(one.size_bytes, "B"),
            quantity(one.bytes_per_s, "B/s"),
        )
        for one in made.memory
    ]
    return render_table(("memory", "share of the best", "size", "rate"), rows, form, left=2)


def _host_link(made: "Calibrated", form: Format) -> str:
    from roofline.cli.tables import quantity, render_table

    rows = [
        (
            one.direction.replace("_", " "),
            one.memory,
            quantity(one.latency_s, "s"),
            quantity(one.bandwidth_bytes_per_s, "B/s"),
            f"{100 * one.error:.1f} %",
        )
        for one in made.host_link
    ]
    return render_table(("host link", "host memory", "latency", "bandwidth", "error"), rows, form, left=2)


def _row(fit: "OwnFit") -> tuple[str, ...]:
    return (
        fit.kind,
        fit.format,
        fit.device,
        fit.software,
        f"{fit.points}",
        "none" if math.isnan(fit.before) else f"{100 * fit.before:.1f} %",
        f"{100 * fit.after:.1f} %",
        "none" if fit.band_before is None else _interval(fit.band_before),
        _interval(fit.band),
    )


def _interval(band: tuple[float, float]) -> str:
    low, high = band
    return f"{100 * math.expm1(low):+.0f} to {100 * math.expm1(high):+.0f} %"


def _document(made: "Calibrated") -> dict[str, Any]:
    return {
        "fits": [
            {
                "device": fit.device,
                "software": fit.software,
                "kind": fit.kind,
                "format": fit.format,
                "points": fit.points,
                "parameters": dict(fit.parameters),
                "low": fit.band[0],
                "high": fit.band[1],
                "before": None if fit.band_before is None else list(fit.band_before),
                "not_told_by_the_rows": list(fit.untold),
                "median_error_before": None if math.isnan(fit.before) else fit.before,
                "median_error_left_out": fit.after,
            }
            for fit in made.fits
        ],
        "refused": [{"what": one.what, "reason": one.reason} for one in made.refused],
        "memory": [
            {"op": one.op, "size_bytes": one.size_bytes, "bytes_per_s": one.bytes_per_s}
            for one in made.memory
        ],
        "host_link": [
            {
                "direction": one.direction,
                "memory": one.memory,
                "latency_s": one.latency_s,
                "bandwidth_bytes_per_s": one.bandwidth_bytes_per_s,
                "median_error": one.error,
            }
            for one in made.host_link
        ],
        "launch_s": dict(made.launch_s),
        "not_measured": list(made.left_out),
        "doubts": list(made.doubts),
        "written": [str(path) for path in made.written],
    }
