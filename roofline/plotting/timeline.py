"""A Gantt chart of the streams of a decode step."""

from typing import TYPE_CHECKING, Any

from roofline.plotting.figure import COLOURS, HATCHES
from roofline.studies.offload_search import WAITS, Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_timeline", "timeline_rows"]


def timeline_rows(timeline: Timeline) -> list[dict[str, Any]]:
    """Return the spans of a timeline as rows."""
    return [
        {"stream": span.stream, "layer": span.layer, "start_s": span.start_s, "end_s": span.end_s}
        for span in timeline.spans
    ]


def draw_timeline(timeline: Timeline, ax: "Axes", *, layers: int | None = None) -> "Axes":
    """Draw each stream as a row of spans, one colour and hatch per kind of layer, waits grey.

    Below stands which stream works longest, and which share of the step the engine stands still.

    Parameters
    ----------
    layers : int, optional
        How many layers are shown, from the start; all of them otherwise.
    """
    every = timeline.spans
    first = every[0].stream
    starts = [span.start_s for span in every if span.stream == first and span.layer != WAITS]
    until = starts[layers] if layers is not None and layers < len(starts) else timeline.time_s
    spans = [span for span in every if span.start_s < until]
    streams = list(dict.fromkeys(span.stream for span in every))
    kinds = [kind for kind in dict.fromkeys(span.layer for span in spans) if kind != WAITS]
    for span in spans:
        index = -1 if span.layer == WAITS else kinds.index(span.layer) % len(COLOURS)
        ax.barh(
            streams.index(span.stream), 1e3 * (span.end_s - span.start_s), 0.7, left=1e3 * span.start_s,
            color="0.85" if index < 0 else COLOURS[index], hatch="" if index < 0 else HATCHES[index],
            edgecolor="white", linewidth=0.4,
            label=span.layer if span is next(part for part in spans if part.layer == span.layer) else None,
        )  # fmt: skip
    last = max(span.end_s for span in spans)
    ax.set_yticks(range(len(streams)), [stream.replace("_", " ") for stream in streams])
    ax.invert_yaxis()
    binding, idle = timeline.binding.replace("_", " "), timeline.bubble_s / timeline.time_s
    ax.set(xlabel=f"time (ms)\nbound by {binding}; the engine idles {idle:.0%}", xlim=(0.0, 1.02e3 * last))
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.2)
    return ax
