"""`roofline reason`: what thinking longer, or several times, costs."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from roofline.cli.flags import Given, takes_settings
from roofline.cli.output import FileOption, Format, FormatOption, as_json, write
from roofline.cli.sections import Section, render
from roofline.cli.tables import count, exact, percent, quantity, render_table
from roofline.errors import InvalidSpecError
from roofline.units import parse

if TYPE_CHECKING:
    from roofline.scenario import Scenario
    from roofline.studies.reasoning import Coverage

__all__ = ["EXAMPLES", "run"]

EXAMPLES: Final = """
roofline reason qwen3-8b h100-sxm --tries 1,4,16,64 --tokens 2000,8000 --price '2.5 $/h'
roofline reason qwen3-8b h100-sxm --tries 1,64 --tokens 4000 --coverage power:-1.84,-0.21
roofline reason qwen3-8b h100-sxm --tries 8 --tokens 4000 --defect no-weights --defect fp8-rate
"""


class Defect(StrEnum):
    """What Kinetics' eFLOPs do and ours do not."""

    NO_WEIGHTS = "no-weights"
    FP8_RATE = "fp8-rate"


@dataclass(frozen=True, kw_only=True)
class _Point:
    """What one problem costs with so many tries of so many tokens; None where something is not given."""

    tries: float
    tokens: float
    rounds: float
    time_s: float
    joules: float | None
    dollars: float | None
    effective_flops: float
    coverage: float | None
    dollars_per_solved: float | None
    time_per_solved_s: float | None


@takes_settings
def run(
    given: Given,
    tries: Annotated[
        str, typer.Option(metavar="N,N,...", help="Answers to each problem, over one cached prompt.")
    ] = "1,4,16,64",
    tokens: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Lengths of an answer. [default: --output]", show_default=False),
    ] = None,
    parallel: Annotated[
        float | None,
        typer.Option(metavar="N", help="Answers that run at once at most. [default: what memory holds]"),
    ] = None,
    coverage: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Share of problems solved by number of tries: CSV or TOML with the columns samples and "
            "coverage, or power:A,B for exp(A n^B).",
        ),
    ] = None,
    price: Annotated[
        str | None, typer.Option(metavar="PRICE", help="Of the whole system, e.g. '2.5 $/h'.")
    ] = None,
    power: Annotated[
        str | None,
        typer.Option(metavar="POWER", help="Of the whole system, e.g. '600 W'. [default: its limit]"),
    ] = None,
    defect: Annotated[
        list[Defect] | None,
        typer.Option(help="Count eFLOPs as Kinetics does: without reading weights, or a byte at 562.5 FLOP."),
    ] = None,
    form: FormatOption = Format.TABLE,
    out: FileOption = None,
) -> None:
    """Say what best-of-n, long chains and parallel thinking cost: seconds, joules, dollars, eFLOPs.

    Energy is power x time: an upper bound where the power is the limit of the devices. Tries that
    memory cannot hold at once follow in rounds. eFLOPs are operations plus what the bytes read while
    decoding are worth at the device's ridge point (Kinetics, arXiv:2506.05333).
    """
    scenario = given.scenario()
    lengths = (float(scenario.workload.output_tokens),) if tokens is None else _numbers(tokens, "--tokens")
    points = _points(
        scenario,
        _numbers(tries, "--tries"),
        lengths,
        parallel=parallel,
        coverage=None if coverage is None else _coverage(coverage),
        price=None if price is None else parse(price, "dollars_per_hour", of="--price"),
        watts=None if power is None else parse(power, "watts", of="--power"),
        defects=frozenset(defect or ()),
    )
    alone = _alone(scenario, lengths)
    if form is Format.JSON:
        idealized = [
            dict(zip(("tokens", "prefill_s", "per_token_s", "time_s"), row, strict=True)) for row in alone
        ]
        write(as_json({"points": [asdict(point) for point in points], "idealized": idealized}), out)
        return
    if form is Format.CSV:
        rows = [["" if cell is None else str(cell) for cell in asdict(point).values()] for point in points]
        write(render_table(list(asdict(points[0])), rows, form), out)
        return
    deployment, workload = scenario.deployment, scenario.workload
    title = (
        f"{deployment.model.name} on {deployment.system.name}, {deployment.runtime.software}; "
        f"{workload.batch_size:,.15g} problems at once, prompt {workload.prompt_tokens:,.15g}"
    )
    write(render(title, (_costs(points, given_power=power is not None), _idealized(alone)), form), out)


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InvalidSpecError(f"{option}: want numbers with commas between, got {text!r}") from None
    if not all(1.0 <= number <= 1e9 for number in found):
        raise InvalidSpecError(f"{option}: want numbers from 1 to 1e9, got {text!r}")
    return found


def _coverage(text: str) -> "Coverage":
    from roofline.catalog.columns import read_columns
    from roofline.studies.reasoning import CoveragePoints, PowerLaw

    kind, colon, rest = text.partition(":")
    if colon and kind == "power":
        try:
            a, b = (float(part) for part in rest.split(","))
        except ValueError:
            raise InvalidSpecError(f"--coverage: want power:A,B, got {text!r}") from None
        return PowerLaw(a=a, b=b)
    table = read_columns(Path(text), ("samples", "coverage"))
    return CoveragePoints(samples=table["samples"], shares=table["coverage"])


def _points(
    scenario: "Scenario",
    tries: tuple[float, ...],
    lengths: tuple[float, ...],
    *,
    parallel: float | None,
    coverage: "Coverage | None",
    price: float | None,
    watts: float | None,
    defects: frozenset[Defect],
) -> list[_Point]:
    from roofline.studies.reasoning import KINETICS_INTENSITY, best_of, effective_flops
    from roofline.workload_settings import refuse_beyond_context

    found = []
    for length in lengths:
        longer = scenario.replace_at("workload.output_tokens", length)
        refuse_beyond_context(longer.deployment.model, longer.workload)
        cost = best_of(
            longer, tries, coverage=coverage, dollars_per_hour=price, watts=watts, at_once=parallel
        )
        for index, number in enumerate(tries):
            rounds = float(cost.rounds[index])  # type: ignore[index]
            flops = rounds * effective_flops(
                longer.replace_at("workload.samples", number / rounds),
                flops_per_byte=KINETICS_INTENSITY if Defect.FP8_RATE in defects else None,
                weights=Defect.NO_WEIGHTS not in defects,
            )

            def at(value: object, index: int = index) -> float | None:
                return None if value is None else float(value[index])  # type: ignore[index]

            found.append(
                _Point(
                    tries=number,
                    tokens=length,
                    rounds=rounds,
                    time_s=float(cost.time_s[index]),  # type: ignore[index]
                    joules=at(cost.joules),
                    dollars=at(cost.dollars),
                    effective_flops=float(flops),
                    coverage=at(cost.coverage),
                    dollars_per_solved=at(cost.dollars_per_solved),
                    time_per_solved_s=at(cost.time_per_solved_s),
                )
            )
    return found


def _alone(scenario: "Scenario", lengths: tuple[float, ...]) -> list[tuple[float, float, float, float]]:
    """Answer length, prefill, time per token and idealized runtime of one request by itself."""
    from roofline.studies.reasoning import idealized_runtime

    return [(length, *idealized_runtime(scenario, length)) for length in lengths]


def _dollars(value: float | None) -> str:
    return "" if value is None else f"{value:.3g} $"


def _costs(points: list[_Point], *, given_power: bool) -> Section:
    rows: list[tuple[str, ...]] = [
        (
            exact(point.tries),
            exact(point.tokens),
            exact(point.rounds),
            quantity(point.time_s, "s"),
            "" if point.joules is None else quantity(point.joules, "J"),
            _dollars(point.dollars),
            quantity(point.effective_flops, "FLOP"),
            "" if point.coverage is None else percent(point.coverage),
            _dollars(point.dollars_per_solved),
            "" if point.time_per_solved_s is None else quantity(point.time_per_solved_s, "s"),
        )
        for point in points
    ]
    header: tuple[str, ...] = ("tries", "tokens", "rounds", "time", "energy", "cost", "eFLOPs")
    if points[0].coverage is None:
        rows = [row[: len(header)] for row in rows]
    else:
        header = (*header, "solved", "cost per solved", "time per solved")
    asked = "the power given" if given_power else "the devices' power limit, an upper bound"
    remarks = [f"energy is time at {asked}; energy, cost and eFLOPs are of one problem"]
    if points[0].dollars is None:
        remarks.append("cost: no price is known, give --price")
    count_of_rounds = max(point.rounds for point in points)
    if count_of_rounds > 1.0:
        remarks.append(
            f"up to {count(count_of_rounds)} rounds follow each other, the prompt prefilled for each"
        )
    return Section(title="What one problem costs", header=header, rows=rows, remarks=tuple(remarks))


def _idealized(alone: list[tuple[float, float, float, float]]) -> Section:
    rows = [
        (exact(length), quantity(prefill, "s"), quantity(each, "s"), quantity(whole, "s"))
        for length, prefill, each, whole in alone
    ]
    return Section(
        title="Idealized runtime: one request alone on this hardware and software (arXiv:2305.02440)",
        header=("tokens", "prefill", "per token", "runtime"),
        rows=rows,
    )
