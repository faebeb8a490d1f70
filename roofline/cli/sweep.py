"""`roofline sweep`: a scenario over a grid, as one table."""

import sys
import time
from collections.abc import Callable
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from roofline.cli.output import Format, as_json, write
from roofline.errors import InvalidSpecError, optional

if TYPE_CHECKING:
    from roofline.studies.sweep import Phases

__all__ = ["EXAMPLES", "run"]

EXAMPLES: Final = """
roofline sweep llama-3.1-8b h100-sxm --batch 1..256x2 --context 512,2048,8192
roofline sweep llama-3.1-8b h100-sxm,a100 --prompt 1024 --batch 1..9+2 --format csv
roofline sweep llama-3.1-8b h100-sxm --batch 1,64 --vary bandwidth=x1,x2 --vary weights=bf16,fp8
roofline sweep qwen3-30b-a3b desktop-rtx-4090 --vary offload=host --vary memory_limit=8GiB,16GiB
roofline sweep llama-3.1-8b h100-sxm --batch 1..1024 --context 1024..8192+8 -o grid.parquet
"""


class TableFormat(StrEnum):
    """What a table can be written as."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MD = "md"
    PARQUET = "parquet"


#: Settings that take a list of values here, in the order of the table's columns.
_LISTED: Final = ("model", "hardware", "batch", "prompt", "output", "context", "weights", "kv", "devices")

#: Rows shown on a screen at most.
_SHOWN: Final = 200


def _values(help: str) -> Any:
    return typer.Option(metavar="VALUES", show_default=False, help=help)


def run(
    model: Annotated[str, typer.Argument(metavar="MODEL[,MODEL]", show_default=False, help="Model names.")],
    hardware: Annotated[
        str, typer.Argument(metavar="HARDWARE[,HARDWARE]", show_default=False, help="Device names.")
    ],
    batch: Annotated[str | None, _values("Requests that run together.")] = None,
    prompt: Annotated[str | None, _values("Tokens of each prompt.")] = None,
    output: Annotated[str | None, _values("Tokens generated for each sequence.")] = None,
    context: Annotated[str | None, _values("Decode at this many cached tokens, without a prompt.")] = None,
    weights: Annotated[str | None, _values("Weight formats.")] = None,
    kv: Annotated[str | None, _values("KV-cache formats.")] = None,
    devices: Annotated[str | None, _values("Devices, tensor parallel over all.")] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUES", help="Any other setting, alias or dotted path; may be repeated."),
    ] = None,
    software: Annotated[
        str | None, typer.Option(metavar="NAME", help="Runtime profile; 'datasheet' for the ideal bound.")
    ] = None,
    speculate: Annotated[
        str | None,
        typer.Option(metavar="TREE", help="Draft tree of every point; --vary speculate=... for several."),
    ] = None,
    accept: Annotated[
        str | None, typer.Option(metavar="RATES", help="Acceptance; --vary accept=... for several.")
    ] = None,
    draft: Annotated[str | None, typer.Option(metavar="NAME", help="Drafter of every point.")] = None,
    intervals: Annotated[bool, typer.Option(help="Work out the bands as well.")] = True,
    form: Annotated[
        TableFormat | None,
        typer.Option("--format", "-f", help="How to write the table. [default: by FILE, else table]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write to this file, e.g. grid.csv.")
    ] = None,
) -> None:
    """Evaluate a grid of settings: one row per point, times in seconds, full precision.

    VALUES are divided by commas: 512,2048 as listed, 1..256x2 doubling, 1..9+2 counting up in twos,
    bf16,fp8 by name, x1,x2 as factors. With --context only decoding is shown.
    """
    from roofline.api import make_scenario
    from roofline.settings import settings_of
    from roofline.studies.axes import parse_axis, parse_values
    from roofline.studies.placed_sweep import places, sweep_placed
    from roofline.studies.sweep import sweep

    written = _form(form, out)
    texts = dict(
        zip(_LISTED, (model, hardware, batch, prompt, output, context, weights, kv, devices), strict=True)
    )
    axes = {key: parse_values(key, text) for key, text in texts.items() if text is not None}
    axes |= dict(parse_axis(text) for text in vary or ())
    single = {key: values[0] for key, values in axes.items() if len(values) == 1 and key in _LISTED}
    first = {key: axes[key][0] for key in ("model", "hardware")}
    base = {key: value for key, value in single.items() if key not in first}
    whole = {"software": software, "speculate": speculate, "accept": accept, "draft": draft}
    base |= {key: value for key, value in whole.items() if value is not None}
    varied = {key: values for key, values in axes.items() if key not in single}
    if not varied:
        raise InvalidSpecError("nothing varies; give an option several values, e.g. --batch 1..64x2")
    phases: Phases = "decode" if "context" in axes else "both"
    if places(axes):
        settings = settings_of({**first, **base})
        frame = sweep_placed(settings, varied, phases=phases, intervals=intervals)
    else:
        scenario = make_scenario(str(first["model"]), str(first["hardware"]), **base)
        frame = sweep(scenario, varied, phases=phases, intervals=intervals, progress=_progress())
    _write(frame, written, out)


def _form(form: TableFormat | None, out: Path | None) -> TableFormat:
    endings = {f".{known.value}": known for known in TableFormat}
    found = form or (endings.get(out.suffix) if out is not None else None) or TableFormat.TABLE
    if found is TableFormat.PARQUET and out is None:
        raise InvalidSpecError("--format parquet: want a file to write, -o FILE")
    return found


def _progress() -> Callable[[float], None] | None:
    """A bar on the terminal that appears after one second; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        return None
    started, state = time.monotonic(), {"shown": False}

    def show(share: float) -> None:
        if share < 1.0 and time.monotonic() - started > 1.0:
            bar = "#" * int(30 * share)
            typer.echo(f"\r[{bar:<30}] {100 * share:3.0f} %", err=True, nl=False)
            state["shown"] = True
        elif share >= 1.0 and state["shown"]:
            typer.echo(f"\r{'':40}\r", err=True, nl=False)

    return show


def _write(frame: Any, form: TableFormat, out: Path | None) -> None:
    if form is TableFormat.PARQUET:
        _write_parquet(frame, out)
    elif form is TableFormat.CSV:
        write(frame.to_csv(index=False, lineterminator="\n").rstrip("\n"), out)
    elif form is TableFormat.JSON:
        write(as_json(frame.astype(_plain_types(frame)).to_dict(orient="records")), out)
    else:
        from roofline.cli.tables import render_table

        shown = frame if out is not None else frame.head(_SHOWN)
        keys = [key for key in frame.columns if not key.endswith(_HIDDEN)]
        rows = [[_cell(key, row[key]) for key in keys] for row in shown.to_dict(orient="records")]
        text = render_table([_HEADERS.get(key, key) for key in keys], rows, Format(form.value), left=0)
        if len(shown) < len(frame):
            text += f"\n... {len(frame) - len(shown):,} more rows; write them with -o grid.csv"
        write(text, out)


def _plain_types(frame: Any) -> dict[str, str]:
    return {key: "str" for key in frame.columns if str(frame[key].dtype) == "category"}


def _write_parquet(frame: Any, out: Path | None) -> None:
    with optional("--format parquet", extra="sweep"):
        import_module("pyarrow")
    try:
        frame.to_parquet(out, index=False)
    except OSError as error:
        raise InvalidSpecError(f"{out}: cannot be written ({error.strerror or error})") from error


#: Columns left out of a table for the screen, and the names of the others there.
_HIDDEN: Final = ("_low_s", "_high_s")
_HEADERS: Final = {
    "ttft_s": "TTFT", "tpot_s": "TPOT", "ttft_ideal_s": "TTFT ideal", "tpot_ideal_s": "TPOT ideal",
    "decode_tokens_per_s": "decode token/s", "output_tokens_per_s": "output token/s",
    "memory_bytes": "memory", "prefill_bound": "prefill bound", "decode_bound": "decode bound",
}  # fmt: skip


def _cell(key: str, value: Any) -> str:
    from roofline.cli.tables import count, exact, quantity

    if key.endswith("_tokens_per_s"):
        return count(value)
    if key.endswith("_s"):
        return quantity(value, "s")
    if key.endswith("_bytes"):
        return quantity(value, "B")
    if key == "fits":
        return "yes" if value else "no"
    return exact(value) if isinstance(value, float) else str(value)
