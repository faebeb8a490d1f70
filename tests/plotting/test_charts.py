"""Charts: what they show, and that nothing in them covers anything else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.text import Text

from roofline.api import analyze
from roofline.plotting.bars import breakdown_rows, draw_breakdown, draw_memory, memory_rows
from roofline.plotting.figure import new_figure, paper_style
from roofline.plotting.heat_map import draw_heat_map, heat_map_rows
from roofline.plotting.labels import merge_near, place_labels
from roofline.plotting.lines import Line, draw_lines, draw_pareto, front_of, line_rows
from roofline.plotting.roofline_chart import draw_roofline
from roofline.plotting.roofs import roofs_of
from roofline.plotting.speculation import draw_tree
from roofline.plotting.timeline import draw_timeline, timeline_rows
from roofline.plotting.waterfall import draw_waterfall, waterfall_rows
from roofline.studies.offload_search import decode_timeline


@pytest.fixture(scope="module")
def report() -> Any:
    return analyze("llama-3.1-8b", "h100-sxm", batch=8)


@pytest.fixture
def ax() -> Any:
    with paper_style():
        _, (axes,) = new_figure(height=2.7)
        yield axes


def overlapping(boxes: list[Any]) -> list[tuple[int, int]]:
    return [
        (one, two)
        for one in range(len(boxes))
        for two in range(one)
        if boxes[one].padded(-0.5).overlaps(boxes[two].padded(-0.5))
    ]


def test_no_point_of_a_roofline_lies_above_its_roof(report: Any) -> None:
    roofs = roofs_of(report)
    peak = max(part.flops_per_s for part in roofs.ceilings if part.flops_per_s)
    bandwidth = max(part.bytes_per_s for part in roofs.ceilings if part.bytes_per_s)

    for point in roofs.points:
        roof = min(peak, bandwidth * point.intensity)
        assert point.flops_per_s <= roof * (1 + 1e-9)
        assert point.flops_per_s <= point.ideal_flops_per_s * (1 + 1e-9)


def test_a_prefill_of_two_devices_stays_below_the_roof_of_one() -> None:
    roofs = roofs_of(analyze("llama-3.1-8b", "h100-sxm", batch=8, devices=2))
    peak = max(part.flops_per_s for part in roofs.ceilings if part.flops_per_s)

    assert max(point.flops_per_s for point in roofs.points) <= peak


def test_labels_of_a_roofline_cover_nothing(report: Any, ax: Any) -> None:
    draw_roofline(roofs_of(report, formats=("fp8",)), ax)
    ax.figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in ax.texts if not text.get_rotation()]

    assert len(boxes) > 6
    assert overlapping([*boxes, ax.get_legend().get_window_extent()]) == []


@pytest.mark.parametrize("hardware", ["a100", "rtx-4090", "apple-m3-max-40-core"])
@pytest.mark.parametrize("batch", [1, 64])
def test_labels_of_other_rooflines_cover_nothing(hardware: str, batch: int, ax: Any) -> None:
    draw_roofline(roofs_of(analyze("llama-3.1-8b", hardware, batch=batch)), ax)
    ax.figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in ax.texts if not text.get_rotation()]

    assert overlapping(boxes) == []


def test_overhead_bound_operators_are_named_as_such(report: Any, ax: Any) -> None:
    draw_roofline(roofs_of(report), ax)

    assert "overhead-bound" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_measured_operators_are_marked_apart_and_unknown_ones_refused(report: Any, ax: Any) -> None:
    roofs = roofs_of(report, measured={"decode.head": 1e-3})
    draw_roofline(roofs, ax)

    assert "measured" in [text.get_text() for text in ax.get_legend().get_texts()]
    with pytest.raises(Exception, match=r"no operator is called decode\.foot"):
        roofs_of(report, measured={"decode.foot": 1e-3})


def test_a_label_without_room_is_left_out(ax: Any) -> None:
    ax.set(xlim=(0, 1), ylim=(0, 1))

    assert place_labels(ax, [(0.5, 0.5)], ["x" * 500]) == ["x" * 500]


def test_points_at_one_place_share_a_label(ax: Any) -> None:
    ax.set(xlim=(0, 1), ylim=(0, 1))
    points, names = merge_near(ax, [(0.5, 0.5), (0.5, 0.5), (0.9, 0.9)], ["a", "b", "c"])

    assert (points, names) == ([(0.5, 0.5), (0.9, 0.9)], ["a, b", "c"])


def test_a_breakdown_adds_up_to_the_time(report: Any, ax: Any) -> None:
    rows = breakdown_rows({"one": report}, phase="decode")
    draw_breakdown(rows, ax)

    whole = float(report.decode.time_s.value) / float(report.decode.tokens)
    np.testing.assert_allclose(sum(row["time_s"] for row in rows), whole, rtol=1e-12)


def test_a_memory_stack_adds_up_to_what_is_used(report: Any, ax: Any) -> None:
    rows = memory_rows({"one": report})
    draw_memory(rows, ax)

    used = sum(float(size) for size in report.memory.used_bytes["hbm"].values())
    np.testing.assert_allclose(sum(row["bytes"] for row in rows), used, rtol=1e-12)


def test_a_waterfall_ends_at_the_new_time(report: Any, ax: Any) -> None:
    after = analyze("llama-3.1-8b", "h100-sxm", batch=8, weights="fp8")
    rows = waterfall_rows(report, after)
    draw_waterfall(rows, ax)

    changes = sum(row.get("change_s", 0.0) for row in rows)
    np.testing.assert_allclose(rows[0]["total_s"] + changes, rows[-1]["total_s"], rtol=1e-12)


def test_the_front_is_what_nothing_beats_in_both() -> None:
    # (2, 1) is beaten by (2, 3); (1, 3) by it too; (3, 2) and (2, 3) stand.
    assert front_of([1, 2, 3, 2], [3, 1, 2, 3]) == [3, 2]


def test_lines_write_every_point_with_its_band(ax: Any) -> None:
    line = Line(name="a", x=[1, 2], y=[3.0, 4.0], low=[2.0, 3.0], high=[4.0, 5.0], hollow=[False, True])
    draw_lines([line], ax, x="batch", y="time (ms)")
    rows = line_rows([line.scaled(2.0)], x="batch", y="time_s")

    assert rows[1] == {"line": "a", "batch": 2, "time_s": 8.0, "time_s_low": 6.0, "time_s_high": 10.0,
                       "does_not_fit": True}  # fmt: skip


def test_fronts_leave_out_what_does_not_fit(ax: Any) -> None:
    draw_pareto([Line(name="a", x=[1, 2], y=[1, 2], hollow=[False, True])], ax, x="x", y="y")

    np.testing.assert_array_equal(ax.lines[-1].get_xdata(), [1.0])


def test_a_map_names_its_regions_and_draws_break_even(ax: Any) -> None:
    x, y = np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 4.0])
    values = np.outer(x, y) / 4.0
    values[2, 2] = np.nan
    regions = np.where(values > 1.5, "compute", "memory")
    draw_heat_map(x, y, values, ax, labels=("x", "y", "z"), regions=regions, break_even=1.0)
    rows = heat_map_rows(x, y, values, names=("x", "y", "z"), regions=regions)

    texts = {text.get_text() for text in ax.texts}
    assert {"memory-\nbound", "does\nnot fit"} <= texts
    assert len(rows) == 9


def test_a_tree_and_a_timeline_are_drawn(report: Any, ax: Any) -> None:
    timeline = decode_timeline(report.scenario)
    draw_timeline(timeline, ax, layers=3)
    assert len(timeline_rows(timeline)) > len(ax.patches) > 0
    ax.clear()
    draw_tree([-1, -1, 0], ax)

    assert len(ax.lines) == 4


def test_figures_are_in_no_pyplot_state(report: Any, ax: Any, tmp_path: Path) -> None:
    import sys

    draw_roofline(roofs_of(report), ax)

    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
