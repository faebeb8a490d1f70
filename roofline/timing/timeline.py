"""How streams of work that run side by side add up to time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import ConfigDict

from roofline.quantity import Quantity, maximum, total

__all__ = ["Composition", "Span", "spans_of"]


@dataclass(frozen=True, kw_only=True)
class Composition:
    """Which streams of a layer follow each other and which run side by side.

    Parameters
    ----------
    chains : tuple of tuple of str
        Streams (``engine``, ``link``, ``host_memory``, ``storage``) of one chain follow each other; chains
        run side by side. A stream not named is a chain of its own.
    depth : float
        Pieces a layer is cut into: 1 hides nothing, infinity hides all but the longest chain.

    Notes
    -----
    With chains of length c the layer takes ``max(c) + (sum(c) - max(c)) / depth``: each piece but
    the first hides behind the longest chain. TPI-LLM (arXiv:2410.00531, section 3.3) is
    ``(engine, link), (storage)``; LLM in a flash (arXiv:2312.11514, section 3) one chain.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    chains: tuple[tuple[str, ...], ...] = (("engine", "link"),)
    depth: float | None = None

    def compose(self, streams: Mapping[str, Quantity]) -> Quantity:
        """Return the time of a layer whose streams take that long [s]."""
        named = {stream for chain in self.chains for stream in chain}
        lengths = [total(streams[stream] for stream in chain if stream in streams) for chain in self.chains]
        lengths += [length for stream, length in streams.items() if stream not in named]
        longest = maximum(*lengths)
        if self.depth is None:
            return longest
        return longest + (total(lengths) - longest) / self.depth


@dataclass(frozen=True, kw_only=True)
class Span:
    """A stretch of time in which a stream works on one layer [s]."""

    stream: str
    layer: str
    start_s: float
    end_s: float


def spans_of(
    order: Sequence[str], streams: Mapping[str, Mapping[str, float]], composition: Composition
) -> tuple[Span, ...]:
    """Return when each stream works on which layer, one layer after the other.

    Parameters
    ----------
    order : sequence of str
        Layer names as they follow each other.
    streams : mapping of layer to mapping of stream to float
        Time of each stream in all layers of that name together [s].
    composition : Composition
        Streams of one chain are drawn in its order; chains start together, which is the steady state
        of fetching the next layer while this one is computed.
    """
    counts = {name: order.count(name) for name in set(order)}
    spans: list[Span] = []
    now = 0.0
    for layer in order:
        lengths = {stream: float(total_s) / counts[layer] for stream, total_s in streams[layer].items()}
        named = {stream for chain in composition.chains for stream in chain}
        for chain in (*composition.chains, *((stream,) for stream in lengths if stream not in named)):
            spans += _chained(layer, now, {stream: lengths.get(stream, 0.0) for stream in chain})
        now += float(composition.compose(lengths))
    return tuple(spans)


def _chained(layer: str, start_s: float, lengths: Mapping[str, float]) -> Iterator[Span]:
    """The streams of one chain, each from the end of the one before."""
    for stream, length_s in lengths.items():
        if length_s > 0.0:
            yield Span(stream=stream, layer=layer, start_s=start_s, end_s=start_s + length_s)
            start_s += length_s
