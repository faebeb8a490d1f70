"""`roofline plot`: charts of a paper's size and style, each with its data and caption beside it."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperGroup

from roofline.cli.flags import Given, takes_settings
from roofline.cli.output import write
from roofline.errors import InvalidSpecError, UnknownNameError, nearest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from roofline.report import Report

__all__ = ["EXAMPLES", "app"]

EXAMPLES: Final = """
roofline plot roofline llama-3.1-8b h100-sxm --batch 8 -o roofline.pdf
roofline plot breakdown llama-3.1-8b h100-sxm --vary batch=1,16,64 -o breakdown.svg
roofline plot memory llama-3.1-8b h100-sxm --vary batch=1,16,64 -o memory.pdf
roofline plot sweep llama-3.1-8b h100-sxm --vary batch=1..256x2 --vary weights=bf16,fp8 -o sweep.png
roofline plot map llama-3.1-8b h100-sxm --vary batch=1..256x2 --vary context=512..32768x2 -o map.pdf
roofline plot waterfall llama-3.1-8b h100-sxm --to weights=fp8 -o saved.pdf
"""


class Phase(StrEnum):
    """Which phase is drawn."""

    PREFILL = "prefill"
    DECODE = "decode"


class By(StrEnum):
    """What time is divided by."""

    OPERATORS = "operators"
    BOUND = "bound"


class _Charts(TyperGroup):
    """A group that names the nearest chart where one is unknown."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise UnknownNameError(f"no chart is called {args[0]!r}{nearest(args[0], self.commands)}")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Charts,
    help="""Draw a chart at the size and in the style of a paper.

Beside the figure (.pdf, .svg, .png or .pgf) stand its data as .csv and a caption as .txt. The same
data give the same bytes.""",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

FigureOption = Annotated[
    Path, typer.Option("--out", "-o", metavar="FILE", help="The figure: .pdf, .svg, .png or .pgf.")
]
WidthOption = Annotated[
    str,
    typer.Option(
        metavar="NAME", help="Column of acm, icml, ieee, cvpr, usenix, neurips, acm-wide...; or inches."
    ),
]
HeightOption = Annotated[float | None, typer.Option(metavar="INCHES", help="Height of the figure.")]
VaryOption = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUES", help="What is varied, as in `roofline sweep`.")
]


@app.command("roofline")
@takes_settings
def roofline_chart(
    given: Given,
    out: FigureOption,
    phase: Annotated[Phase | None, typer.Option(help="Only this phase.")] = None,
    ceiling: Annotated[
        list[str] | None, typer.Option(metavar="FORMAT", help="Also show the peak of this format.")
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV of measured operators: name (decode.head), time_s."),
    ] = None,
    width: WidthOption = "acm",
    height: HeightOption = None,
) -> None:
    """Ceilings, and operators and phases under them sized by their share of time."""
    from roofline.plotting.measured_operators import measured_operators
    from roofline.plotting.roofline_chart import draw_roofline
    from roofline.plotting.roofs import roofs_of

    report = _report(given, out, width)
    phases = ("prefill", "decode") if phase is None else (phase.value,)
    times = {} if measured is None else measured_operators(measured)
    roofs = roofs_of(report, phases=phases, formats=ceiling or (), measured=times)
    what = (
        "Roofline of one device: operators at predicted rates, area in step with time, thin lines up to "
        "the datasheet bound."
    )
    inches = height or 2.7
    _save(out, width, inches, what, [report], roofs.rows, lambda ax: draw_roofline(roofs, ax))


@app.command()
@takes_settings
def breakdown(
    given: Given,
    out: FigureOption,
    vary: VaryOption = None,
    phase: Annotated[Phase, typer.Option(help="Which phase.")] = Phase.DECODE,
    by: Annotated[By, typer.Option(help="What time is divided by.")] = By.OPERATORS,
    width: WidthOption = "acm",
    height: HeightOption = None,
) -> None:
    """Where the time of a phase goes, one bar for each value that is varied."""
    from roofline.plotting.bars import breakdown_rows, draw_breakdown

    reports, key = _reports(given, out, width, vary)
    rows = breakdown_rows(reports, phase=phase.value, by=by.value)
    what = f"Time of {'the prefill' if phase is Phase.PREFILL else 'an output token'} by {by.value}."

    def draw(ax: "Axes") -> None:
        draw_breakdown(rows, ax).set_xlabel(key)

    _save(out, width, height, what, list(reports.values()), rows, draw)


@app.command()
@takes_settings
def memory(
    given: Given,
    out: FigureOption,
    vary: VaryOption = None,
    width: WidthOption = "acm",
    height: HeightOption = None,
) -> None:
    """What one device holds against what it has, one bar for each value that is varied."""
    from roofline.plotting.bars import draw_memory, memory_rows

    reports, key = _reports(given, out, width, vary)
    rows = memory_rows(reports)

    def draw(ax: "Axes") -> None:
        draw_memory(rows, ax).set_xlabel(key)

    _save(out, width, height, "Memory of one device.", list(reports.values()), rows, draw)


@app.command()
@takes_settings
def sweep(
    given: Given,
    out: FigureOption,
    vary: VaryOption = None,
    column: Annotated[
        str, typer.Option("--show", metavar="COLUMN", help="A column of `roofline sweep`.")
    ] = "tpot_s",
    width: WidthOption = "acm",
    height: HeightOption = None,
) -> None:
    """Lines over the first --vary, one for each value of a second; bands are 80 % intervals."""
    from roofline.cli.swept import label_of, lines_over, scale_of
    from roofline.plotting.lines import draw_lines, line_rows

    report = _report(given, out, width)
    key, lines = lines_over(report.scenario, vary, column)
    shown = label_of(column)
    rows = line_rows(lines, x=key, y=column)
    what = f"{shown} over {key}; bands are 80 % intervals, thin lines datasheet bounds."
    drawn = [line.scaled(scale_of(column)) for line in lines]
    _save(out, width, height, what, [report], rows, lambda ax: draw_lines(drawn, ax, x=key, y=shown))


@app.command("map")
@takes_settings
def heat_map(
    given: Given,
    out: FigureOption,
    vary: VaryOption = None,
    column: Annotated[
        str, typer.Option("--show", metavar="COLUMN", help="A column of `roofline sweep`.")
    ] = "decode_tokens_per_s",
    to: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Show the ratio after this change instead; repeatable."),
    ] = None,
    gain: Annotated[
        bool, typer.Option("--gain", help="Show the speed-up of --speculate over plain decoding instead.")
    ] = False,
    width: WidthOption = "acm",
    height: HeightOption = None,
) -> None:
    """A heat map over two --vary, with regions of what binds, or the line of break-even of --to or --gain."""
    import numpy as np

    from roofline.cli.swept import axes_of, axis_number, column_grid, gain_grid, ratio_grid
    from roofline.plotting.heat_map import draw_heat_map, heat_map_rows

    report = _report(given, out, width)
    axes = axes_of(vary, 2)
    (first, across), (second, up) = axes.items()
    x, y = (np.sort([axis_number(key, part) for part in values]) for key, values in axes.items())
    over = {second: up, first: across}
    if gain:
        grid = gain_grid(report.scenario, over)
    elif to:
        grid = ratio_grid(report.scenario, over, column, to)
    else:
        grid = column_grid(report.scenario, over, column)
    rows = heat_map_rows(x, y, grid.values, names=(first, second, grid.name), regions=grid.regions)
    what = f"{grid.label} over {first} and {second}."

    def draw(ax: "Axes") -> None:
        draw_heat_map(
            x,
            y,
            grid.values * grid.scale,
            ax,
            labels=(first, second, grid.label),
            regions=grid.regions,
            break_even=grid.break_even,
            log=grid.break_even is None,
        )

    _save(out, width, height, what, [report], rows, draw)


@app.command()
@takes_settings
def pareto(
    given: Given,
    out: FigureOption,
    vary: VaryOption = None,
    width: WidthOption = "acm",
    height: HeightOption = None,
) -> None:
    """Throughput of a device against speed of a user: points along the first --vary, a front per second."""
    import dataclasses

    import numpy as np

    from roofline.cli.swept import device_counts, lines_over
    from roofline.plotting.lines import draw_pareto, line_rows

    report = _report(given, out, width)
    _, speeds = lines_over(report.scenario, vary, "tpot_s")
    _, rates = lines_over(report.scenario, vary, "decode_tokens_per_s")
    fronts = [
        dataclasses.replace(
            rate, x=1.0 / np.asarray(speed.y), y=np.asarray(rate.y) / devices, low=None, high=None, ideal=None
        )
        for speed, rate, devices in zip(speeds, rates, device_counts(report.scenario, vary), strict=True)
    ]
    x, y = "speed of a user (token/s)", "throughput per device (token/s)"
    rows = line_rows(fronts, x="user_tokens_per_s", y="device_tokens_per_s")
    what = "Throughput against speed; lines join points that none exceeds in both, hollow ones do not fit."
    _save(out, width, height, what, [report], rows, lambda ax: draw_pareto(fronts, ax, x=x, y=y))


@app.command()
@takes_settings
def tree(given: Given, out: FigureOption, width: WidthOption = "acm", height: HeightOption = None) -> None:
    """The draft tree of --speculate."""
    from roofline.decoding.speculative import Speculative
    from roofline.plotting.speculation import draw_tree

    report = _report(given, out, width)
    decoding = report.scenario.decoding
    if not isinstance(decoding, Speculative):
        raise InvalidSpecError("want --speculate and --accept, the tree to draw")
    parents = list(decoding.tree.parents)
    rows = [{"node": node, "parent": parent} for node, parent in enumerate(parents)]
    what = f"Draft tree of {decoding.tree.nodes} tokens in {decoding.tree.depth} levels."
    _save(out, width, height, what, [report], rows, lambda ax: draw_tree(parents, ax))


@app.command()
@takes_settings
def timeline(
    given: Given,
    out: FigureOption,
    layers: Annotated[int, typer.Option(min=1, help="Layers shown, from the first.")] = 6,
    width: WidthOption = "acm",
    height: HeightOption = None,
) -> None:
    """The streams of a decode step: which works on which layer when."""
    from roofline.plotting.timeline import draw_timeline, timeline_rows
    from roofline.studies.offload_search import decode_timeline

    report = _report(given, out, width)
    found = decode_timeline(report.scenario)
    what = (
        f"Streams of a decode step, first {layers} layers; the whole step takes {1e3 * found.time_s:.3g} ms."
    )
    inches = height or 1.6
    _save(out, width, inches, what, [report], timeline_rows(found),
          lambda ax: draw_timeline(found, ax, layers=layers))  # fmt: skip


@app.command()
@takes_settings
def waterfall(
    given: Given,
    out: FigureOption,
    to: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="What is changed; may be repeated.")
    ] = None,
    phase: Annotated[Phase, typer.Option(help="Which phase.")] = Phase.DECODE,
    by: Annotated[By, typer.Option(help="What time is divided by.")] = By.OPERATORS,
    width: WidthOption = "acm",
    height: HeightOption = None,
) -> None:
    """Where the milliseconds went when something changed."""
    from roofline.analysis import analyze
    from roofline.cli.swept import with_changes
    from roofline.plotting.waterfall import draw_waterfall, waterfall_rows

    report = _report(given, out, width)
    if not to:
        raise InvalidSpecError("want --to KEY=VALUE, what is changed")
    after = analyze(with_changes(report.scenario, to))
    name = ", ".join(to)
    rows = waterfall_rows(report, after, phase=phase.value, by=by.value, names=("before", name))
    what = f"Where the time of {phase.value} went with {name}."
    _save(out, width, height, what, [report, after], rows, lambda ax: draw_waterfall(rows, ax))


@app.command()
def figure(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A script plots/fig_NAME.py of a checkout.")],
    out: FigureOption,
    coarse: Annotated[bool, typer.Option("--coarse", help="Fewer points, for a quick look.")] = False,
) -> None:
    """A figure of docs/figures.md, made by its script."""
    from roofline.cli.figures import draw_named

    draw_named(name, out, coarse=coarse)


@app.command()
def validation(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="As `roofline validate` takes.")],
    out: FigureOption,
) -> None:
    """Predicted against measured, one point per row of somebody's measurements."""
    from roofline.calibration.validate import validate
    from roofline.plotting.figure import check_file
    from roofline.plotting.validation import save_predicted_over_measured

    check_file(out)
    save_predicted_over_measured(validate(files), out)
    _say((out, out.with_suffix(".csv")))


def _report(given: Given, out: Path, width: str) -> "Report":
    """The report of what was asked, once the figure can be written at all."""
    from roofline.analysis import analyze
    from roofline.plotting.figure import check_file, width_of

    check_file(out)
    width_of(width)
    return analyze(given.scenario())


def _reports(
    given: Given, out: Path, width: str, vary: Sequence[str] | None
) -> tuple[dict[str, "Report"], str]:
    """A report for each value of one key, by the value, and the key."""
    from roofline.analysis import analyze
    from roofline.cli.swept import axes_of, value_text
    from roofline.studies.changes import apply

    base = _report(given, out, width)
    if not vary:
        return {base.scenario.deployment.model.name: base}, ""
    ((key, values),) = axes_of(vary, 1).items()
    return {value_text(value): analyze(apply(base.scenario, key, value)) for value in values}, key


def _save(
    out: Path, width: str, height: float | None, what: str, reports: Sequence["Report"],
    rows: Sequence[Mapping[str, Any]], draw: Any,
) -> None:  # fmt: skip
    from roofline.plotting.caption import caption_of, source_lines
    from roofline.plotting.figure import new_figure, paper_style, save_figure

    if height is not None and not 0.5 <= height <= 20.0:
        raise InvalidSpecError(f"height: want 0.5 to 20 inches, got {height:g}")
    with paper_style():
        figure, (ax,) = new_figure(width=width, height=height)
        draw(ax)
        written = save_figure(
            figure, out, rows=rows, caption=caption_of(what, reports), sources=source_lines(reports)
        )
    _say(written)


def _say(written: Sequence[Path]) -> None:
    write("\n".join(str(path) for path in written))
