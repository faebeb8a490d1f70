"""`roofline serve`: what clients of a loaded server see, by requests in flight."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from roofline.cli.flags import Given, takes_settings
from roofline.cli.output import FileOption, Format, FormatOption, as_json, write
from roofline.cli.sections import Section, render
from roofline.cli.tables import count, exact, quantity, render_table
from roofline.errors import InvalidSpecError

if TYPE_CHECKING:
    from roofline.scenario import Scenario
    from roofline.serving import Served

__all__ = ["EXAMPLES", "run"]

EXAMPLES: Final = """
roofline serve llama-3.1-8b h100-sxm --software vllm --prompt 2048 --output 256
roofline serve llama-3.1-70b h100-sxm --devices 4 --weights fp8 --software trtllm --concurrency 16,64,256
roofline serve qwen3-32b h200-sxm --devices 2 --software sglang --concurrency 64 --format json
"""

#: Quantities of a server by what tables call them.
_SHOWN: Final = {"TTFT": "ttft_s", "TPOT": "tpot_s", "output throughput": "output_tokens_per_s"}


@takes_settings
def run(
    given: Given,
    concurrency: Annotated[
        str, typer.Option(metavar="N,N,...", help="Requests in flight; takes the place of --batch.")
    ] = "1,4,16,64",
    form: FormatOption = Format.TABLE,
    out: FileOption = None,
) -> None:
    """Say what clients see that keep a number of requests in flight on a server.

    The same steady state that `roofline validate` holds against measured servers (docs/serving.md):
    TTFT with overhead, queue and prefill of one request, TPOT with the prefills of others that a
    request waits for, throughput over a whole benchmark. `roofline analyze` times single passes.
    """
    import numpy as np

    from roofline.serving import serve

    scenario = given.scenario()
    served = serve(scenario, np.array(_numbers(concurrency)))
    rows = _rows(served)
    if form is Format.JSON:
        write(as_json({"settings": dict(given.shown()), "basis": served.basis, "rows": rows}), out)
    elif form is Format.CSV:
        write(render_table(list(rows[0]), [list(row.values()) for row in rows], form), out)
    else:
        write(render(_title(scenario), [_section(rows, served)], form), out)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InvalidSpecError(f"--concurrency: want numbers with commas between, got {text!r}") from None


def _rows(served: "Served") -> list[dict[str, Any]]:
    """Return one mapping of plain values for each concurrency, SI units in the keys."""
    import numpy as np

    asked = served.value.load.concurrency
    rows: list[dict[str, Any]] = [
        {"concurrency": float(number), "running": float(running), "fits": bool(fits)}
        for number, running, fits in zip(asked, served.running, served.fits, strict=True)
    ]
    for key in _SHOWN.values():
        found = served.interval(key)
        name, unit = ("output_tokens", "_per_s") if key.endswith("_per_s") else (key[:-2], "_s")
        for label, ends in (("", found.value), ("_low", found.low), ("_high", found.high)):
            for row, end in zip(rows, np.broadcast_to(ends, asked.shape), strict=True):
                row[f"{name}{label}{unit}"] = float(end)
    return rows


def _title(scenario: "Scenario") -> str:
    deployment, workload = scenario.deployment, scenario.workload
    devices = deployment.parallelism.devices
    many = "" if devices == 1.0 else f"{exact(float(devices))} x "
    return (
        f"{deployment.model.name} on {many}{deployment.system.device.name}, {deployment.runtime.software}\n"
        f"prompt {exact(float(workload.prompt_tokens))}, output {exact(float(workload.output_tokens))}"
    )


def _section(rows: list[dict[str, Any]], served: "Served") -> Section:
    def span(row: dict[str, Any], name: str, unit: str) -> tuple[str, str]:
        value, low, high = (
            quantity(row[f"{name}{label}_s"], "s") if unit == "s" else count(row[f"{name}{label}_per_s"])
            for label in ("", "_low", "_high")
        )
        return value, f"{low} to {high}"

    header = ["in flight", "running"]
    header += [text for name in _SHOWN for text in (name, "80 % interval")]
    cells = [
        (
            *(exact(row["concurrency"]), count(row["running"])),
            *(*span(row, "ttft", "s"), *span(row, "tpot", "s")),
            *span(row, "output_tokens", "token/s"),
        )
        for row in rows
    ]
    remarks = [f"throughput in token/s; decoding rests on {served.basis} figures"]
    if not all(row["fits"] for row in rows):
        remarks.append("DOES NOT FIT: no request has room beside the weights in 0.9 of the memory")
    return Section(title="", header=header, rows=cells, remarks=tuple(remarks))
