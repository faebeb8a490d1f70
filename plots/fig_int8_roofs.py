"""The second roof of INT8 arithmetic, and where operators stand with and without it.

Made with ``python plots/fig_int8_roofs.py -o FOLDER --format pdf`` or
``roofline plot figure int8-roofs -o FILE``.
"""

from roofline.api import analyze
from roofline.cli.figures import run_figure
from roofline.plotting.figure import Drawing, new_figure
from roofline.plotting.roofline_chart import draw_roofline
from roofline.plotting.roofs import roofs_of


def draw(coarse: bool) -> Drawing:
    """Draw prefill in 16 and in 8 bits, each under both roofs."""
    figure, axes = new_figure(width="acm-wide", height=2.8, columns=2)
    reports, rows = [], []
    for ax, weights in zip(axes, ("fp16", "int8"), strict=True):
        report = analyze("llama-2-7b", "a6000", prompt=256 if coarse else 2048, weights=weights)
        roofs = roofs_of(report, phases=("prefill",), formats=("fp16", "int8"))
        draw_roofline(roofs, ax).set_title(f"{weights} weights and activations")
        rows += [{"weights": weights, **row} for row in roofs.rows]
        reports.append(report)
    what = "Prefill under the roofs of 16-bit and INT8 arithmetic."
    return Drawing(figure=figure, rows=rows, what=what, reports=reports)


if __name__ == "__main__":
    run_figure(draw, __file__)
