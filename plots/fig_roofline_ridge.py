"""Prefill and decode on either side of the ridge point, as in LLM-Viewer's roofline.

Made with ``python plots/fig_roofline_ridge.py -o FOLDER --format pdf`` or
``roofline plot figure roofline-ridge -o FILE``.
"""

from roofline.api import analyze
from roofline.cli.figures import run_figure
from roofline.plotting.figure import Drawing, new_figure
from roofline.plotting.roofline_chart import draw_roofline
from roofline.plotting.roofs import roofs_of


def draw(coarse: bool) -> Drawing:
    """Draw the operators of a model under the roof of a workstation GPU."""
    report = analyze("llama-2-7b", "a6000", prompt=256 if coarse else 2048)
    figure, (ax,) = new_figure(height=2.8)
    roofs = roofs_of(report)
    draw_roofline(roofs, ax)
    what = "Prefill lies right of the ridge point, decode left of it."
    return Drawing(figure=figure, rows=roofs.rows, what=what, reports=[report])


if __name__ == "__main__":
    run_figure(draw, __file__)
