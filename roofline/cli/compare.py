"""`roofline compare`: several models, devices or settings side by side."""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from roofline.cli.flags import Given, takes_settings
from roofline.cli.output import FileOption, Format, FormatOption, as_json, write
from roofline.errors import InvalidSpecError

if TYPE_CHECKING:
    from roofline.cli.sections import Section
    from roofline.scenario import Scenario
    from roofline.studies.compare import Comparison
    from roofline.studies.waterfall import Move

__all__ = ["EXAMPLES", "run"]

EXAMPLES: Final = """
roofline compare llama-3.1-8b a100,h100-sxm,h200 --batch 16
roofline compare llama-3.1-8b,qwen3-8b h100-sxm --prompt 4096
roofline compare llama-3.1-8b h100-sxm --vary weights=bf16,fp8 --vary batch=1,64
roofline compare llama-3.1-8b h100-sxm --vary bandwidth=x1,x2 --format md
"""

#: Scenarios side by side at most; more is a sweep.
_MOST: Final = 16


@takes_settings
def run(
    given: Given,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUES", help="Values to set side by side; may be repeated."),
    ] = None,
    form: FormatOption = Format.TABLE,
    out: FileOption = None,
) -> None:
    """Set models, devices or settings side by side, and say where the milliseconds went.

    MODEL and HARDWARE may be several names divided by commas. The first scenario is the base that
    the others are measured against.
    """
    from roofline.studies.compare import compare

    found = list(_scenarios(given, vary or []))
    labels = [label for label, _ in found]
    comparison = compare([scenario for _, scenario in found], labels if all(labels) else None)
    if form is Format.JSON:
        write(as_json(_document(comparison)), out)
    elif form is Format.CSV:
        from roofline.cli.tables import render_table

        rows = comparison.rows
        write(render_table(list(rows[0]), [[str(cell) for cell in row.values()] for row in rows], form), out)
    else:
        from roofline.cli.sections import render

        write(render(_title(comparison), _sections(comparison), form), out)


def _scenarios(given: Given, vary: Sequence[str]) -> Iterator[tuple[str, "Scenario"]]:
    """Yield scenarios, each with a label where its placement is all that tells it from others."""
    from roofline.studies.axes import parse_axis
    from roofline.studies.changes import apply
    from roofline.studies.placed_sweep import placed_settings, places

    settings = dict(given.document)
    names = {key: str(settings[key]).split(",") for key in ("model", "hardware") if key in settings}
    axes = [parse_axis(text) for text in vary]
    # A placement depends on every other setting, so it is made after them.
    anew = placed_settings(dict(axes))[0] if places([*settings, *(key for key, _ in axes)]) else {}
    count = math.prod(len(values) for values in (*names.values(), *(values for _, values in axes)))
    if count > _MOST:
        raise InvalidSpecError(f"{count} scenarios are too many side by side; use roofline sweep")
    for chosen in itertools.product(*names.values()):
        document: dict[str, Any] = {**settings, **dict(zip(names, chosen, strict=True))}
        for changes in itertools.product(*([(key, value) for value in values] for key, values in axes)):
            own = {key: value for key, value in changes if key in anew}
            scenario = Given(file=given.file, document={**document, **own}).scenario()
            for key, value in changes:
                scenario = scenario if key in anew else apply(scenario, key, value)
            several = [name for name, all_ in zip(chosen, names.values(), strict=True) if len(all_) > 1]
            yield ", ".join([*several, *_told(changes)]) if anew else "", scenario


def _told(changes: Iterable[tuple[str, str | float]]) -> Iterator[str]:
    """Changes as a label names them: a number with its key, a name by itself."""
    for key, value in changes:
        yield f"{key} {value:g}" if isinstance(value, float) else str(value)


def _title(comparison: "Comparison") -> str:
    from roofline.studies.compare import facets

    found = facets(comparison.reports[0].scenario)
    same = [found[key] for key in ("model", "hardware", "software") if key not in comparison.differences]
    return ", ".join(("Comparison", *same))


def _sections(comparison: "Comparison") -> Iterator["Section"]:
    from roofline.cli.sections import Section

    if len(comparison.differences) > 1:
        rows = [(key, *values) for key, values in comparison.differences.items()]
        yield Section(title="Differences", header=("", *_numbered(comparison)), rows=rows)
    yield Section(
        title="Answers", header=_HEADER, rows=[_answer(*row) for row in _marked(comparison)], left=2
    )
    for index in range(1, len(comparison.labels)):
        for phase, key in (("prefill", "ttft_s"), ("decode", "tpot_s")):
            here = [
                move for move in comparison.moves(index) if move.phase == phase and move.of == "operators"
            ]
            whole = (
                float(getattr(comparison.reports[0], key).value),
                float(getattr(comparison.reports[index], key).value),
            )
            title = f"Where the time went, {phase}: {comparison.labels[0]} to {comparison.labels[index]}"
            yield Section(title=title, header=_WATERFALL, rows=list(_waterfall(here, *whole)))


_HEADER: Final = (
    *("", "scenario", "TTFT", "TPOT", "TTFT ratio", "TPOT ratio", "output rate", "memory", "fits"),
    *("prefill bound", "decode bound", "rests on"),
)
_WATERFALL: Final = ("", "base", "here", "change")


def _numbered(comparison: "Comparison") -> list[str]:
    return [f"({index + 1})" for index in range(len(comparison.labels))]


def _marked(comparison: "Comparison") -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield from zip(_numbered(comparison), comparison.rows, strict=True)


def _answer(number: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    from roofline.cli.tables import count, quantity

    return (
        number,
        row["label"],
        quantity(row["ttft_s"], "s"),
        quantity(row["tpot_s"], "s"),
        f"{row['ttft_ratio']:.2f}",
        f"{row['tpot_ratio']:.2f}",
        f"{count(row['output_tokens_per_s'])} token/s",
        quantity(row["memory_bytes"], "B"),
        "yes" if row["fits"] else "no",
        row["prefill_bound"],
        row["decode_bound"],
        row["basis"],
    )


def _waterfall(moves: Sequence["Move"], before_s: float, after_s: float) -> Iterator[tuple[str, ...]]:
    from roofline.cli.tables import quantity
    from roofline.studies.waterfall import change

    def signed(seconds: float) -> str:
        return f"{'+' if seconds > 0 else ''}{quantity(seconds, 's')}"

    for move in moves:
        if abs(move.before_s) + abs(move.after_s) > 5e-4 * before_s:
            yield move.part, quantity(move.before_s, "s"), quantity(move.after_s, "s"), signed(move.change_s)
    yield "total", quantity(before_s, "s"), quantity(after_s, "s"), signed(change(before_s, after_s))


def _document(comparison: "Comparison") -> dict[str, Any]:
    return {
        "differences": {key: list(values) for key, values in comparison.differences.items()},
        "scenarios": [dict(row) for row in comparison.rows],
        "moves": [
            {
                "from": comparison.labels[0],
                "to": comparison.labels[index],
                "phase": move.phase,
                "of": move.of,
                "part": move.part,
                "before_s": move.before_s,
                "after_s": move.after_s,
            }
            for index in range(1, len(comparison.labels))
            for move in comparison.moves(index)
        ],
    }
