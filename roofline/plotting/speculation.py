"""Speculative decoding drawn: gain by nodes, batch and context, where the time goes, and the tree."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roofline.plotting.bars import draw_stacks
from roofline.plotting.figure import check_file, new_figure, paper_style, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_gain", "draw_parts", "draw_searched", "draw_tree", "save_speculation"]


def draw_searched(searched: Mapping[str, Any], ax: "Axes") -> "Axes":
    """Draw the speed-up of the best tree of each size, one line per depth."""
    for depth, row in zip(searched["depths"], searched["speed_up"], strict=True):
        ax.plot(searched["nodes"], row, label=f"depth {depth}")
    ax.axhline(1.0, color="0.5", linewidth=0.8)
    ax.set(xscale="log", xlabel="drafted tokens (nodes)", ylabel="speed-up (x)")
    ax.legend(loc="lower right", ncols=2, fontsize=6)
    return ax


def draw_gain(rows: list[Mapping[str, Any]], ax: "Axes", *, key: str, label: str) -> "Axes":
    """Draw the speed-up along one axis; points that do not fit in memory are hollow."""
    ax.plot([row[key] for row in rows], [row["speed_up"] for row in rows], color="C0", linestyle="-")
    for row in rows:
        ax.plot(row[key], row["speed_up"], "o", color="C0", fillstyle="full" if row["fits"] else "none")
    ax.axhline(1.0, color="0.5", linewidth=0.8)
    ax.set(xscale="log", xlabel=label, ylabel="speed-up (x)")
    return ax


def draw_parts(parts: Mapping[str, float], ax: "Axes", *, plain_s: float) -> "Axes":
    """Draw where the time of an iteration goes beside a plain decode pass."""
    draw_stacks({"iteration": parts, "decode pass": {"decode": plain_s}}, ax, unit="time (ms)", scale=1e3)
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(handles[::-1], labels[::-1], loc="upper right", fontsize=6)
    return ax


def draw_tree(parents: Sequence[int], ax: "Axes") -> "Axes":
    """Draw a tree, the last accepted token on the left, candidates in order downwards."""
    from matplotlib.ticker import MaxNLocator

    children: dict[int, list[int]] = {}
    for node, parent in enumerate(parents):
        children.setdefault(parent, []).append(node)
    order: list[int] = []
    waiting = [-1]
    while waiting:
        node = waiting.pop()
        order.append(node)
        waiting += reversed(children.get(node, []))
    height: dict[int, float] = {}
    leaves = 0
    depth = {-1: 0}
    for node in order:
        if node >= 0:
            depth[node] = depth[parents[node]] + 1
        if node not in children:
            height[node] = -float(leaves)
            leaves += 1
    for node in reversed(order):
        if node in children:
            own = [height[child] for child in children[node]]
            height[node] = sum(own) / len(own)
    for node, parent in enumerate(parents):
        ax.plot(
            [depth[parent], depth[node]],
            [height[parent], height[node]],
            color="0.6",
            linewidth=0.7,
            linestyle="-",
        )
    ax.plot([depth[node] for node in order], [height[node] for node in order], "o", color="C0", markersize=3)
    ax.set(xlabel="depth (tokens)", yticks=[])
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines["left"].set_visible(False)
    return ax


def save_speculation(document: Mapping[str, Any], file: Path) -> None:
    """Draw an answer of `roofline speculate` into a file, its points beside it as CSV.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    InvalidSpecError
        If the file's ending is none that can be drawn, or it cannot be written.
    """
    check_file(file)
    with paper_style():
        figure, axes = new_figure(width="acm-wide", height=4.4, rows=2, columns=3)
        panels = iter(axes)
        if "searched" in document:
            draw_searched(document["searched"], next(panels))
        draw_gain(document["by_batch"], next(panels), key="batch_size", label="batch size (sequences)")
        draw_gain(document["by_context"], next(panels), key="context_tokens", label="context (tokens)")
        draw_parts(document["iteration_parts_s"], next(panels), plain_s=document["decode_pass_s"])
        draw_tree(document["tree"]["parents"], next(panels))
        for unused in panels:
            unused.set_axis_off()
        rows = [*document["by_batch"], *document["by_context"]]
        save_figure(figure, file, rows=rows)
