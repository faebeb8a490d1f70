"""Roofs of near memory, host memory and storage, and the same decode step under each.

Made with ``python plots/fig_offload_roofs.py -o FOLDER --format pdf`` or
``roofline plot figure offload-roofs -o FILE``.
"""

from roofline.api import analyze
from roofline.cli.figures import run_figure
from roofline.plotting.figure import Drawing, new_figure
from roofline.plotting.roofline_chart import draw_roofline
from roofline.plotting.roofs import Roofs, roofs_of

PLACES = (("resident", None), ("host memory", "host"), ("storage", "storage"))


def draw(coarse: bool) -> Drawing:
    """Draw a whole decode step where weights are resident, streamed from the host, or from storage."""
    reports, points, ceilings = [], [], {}
    for name, tier in PLACES:
        limit = {} if tier is None else {"memory_limit": "8 GiB", "offload": tier, "offload_mode": "stream"}
        for batch in (1, 64) if coarse else (1, 4, 16, 64):
            report = analyze(
                "llama-3.1-8b", "desktop-rtx-4090", batch=batch, context=512, prefetch=None, **limit
            )
            roofs = roofs_of(report, phases=("decode",))
            points += [
                type(point)(**{**vars(point), "name": f"batch {batch}", "phase": name})
                for point in roofs.points
                if point.whole
            ]
            ceilings.update({part.name: part for part in roofs.ceilings})
        reports.append(report)
    roofs = Roofs(ceilings=tuple(ceilings.values()), points=tuple(points))
    figure, (ax,) = new_figure(height=3.0)
    draw_roofline(roofs, ax, names=False)
    what = (
        "A decode step at batch 1 to 64, left to right, weights resident, in host memory, in storage; "
        "points lie above a far roof by the bytes that stay near."
    )
    return Drawing(figure=figure, rows=roofs.rows, what=what, reports=reports)


if __name__ == "__main__":
    run_figure(draw, __file__)
