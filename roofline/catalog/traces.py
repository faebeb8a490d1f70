"""Routing traces: which experts each token chose, read in pieces."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from roofline.errors import FileFormatError

__all__ = ["CHUNK_TOKENS", "TraceFile", "popularity_of", "read_trace"]

#: Rows held at once: 64 Ki choices of 8 experts are 4 MiB.
CHUNK_TOKENS: Final = 2**16

#: Frequency of an expert that every token chooses, kept below 1 so that its weight is finite.
_ALWAYS: Final = 1.0 - 1e-9

#: No model has as many layers; a larger number is a slip.
_MOST_LAYERS: Final = 10_000

_Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TraceFile:
    """A routing trace on disk, read in pieces.

    Parameters
    ----------
    path : Path
        ``.npy`` of whole numbers, shape (tokens, layers, k) or (tokens, k); or ``.csv`` with the
        columns token, layer and one per chosen expert, sorted by token.
    experts : int
        Experts in each layer; a larger number in the trace is an error.
    layer : int
        Layer that `chunks` reads.
    top_k, layers : int or None
        Experts that a token chooses, and layers that choose, of the model the trace is for; another
        number of choices, or a layer beyond, is an error. None leaves them open.
    """

    path: Path
    experts: int
    layer: int = 0
    top_k: int | None = None
    layers: int | None = None

    def chunks(self) -> Iterator[_Numbers]:
        """Yield arrays (tokens, k) of one layer, of at most 65,536 tokens.

        Raises
        ------
        FileFormatError
            If the file is no such trace, names an expert or layer that is not there, or has no token of
            the layer.
        """
        done = 0
        for layers, chosen in self.rows():
            here = chosen[layers == self.layer]
            done += len(here)
            if len(here):
                yield here
        if not done:
            raise FileFormatError(f"{self.path.name}: no tokens of layer {self.layer}")

    def rows(self) -> Iterator[tuple[_Numbers, _Numbers]]:
        """Yield layers (n,) and choices (n, k) of all layers, token by token, at most 65,536 at once.

        Raises
        ------
        FileFormatError
            If the file is no such trace, or names an expert or layer that is not there.
        """
        most = _MOST_LAYERS if self.layers is None else self.layers
        pieces = self._from_array() if self.path.suffix == ".npy" else self._from_text()
        for tokens, layers, chosen in pieces:
            if self.top_k is not None and chosen.shape[1] != self.top_k:
                raise FileFormatError(
                    f"{self.path.name}: want {self.top_k} experts for each token, got {chosen.shape[1]}"
                )
            beyond = (layers < 0) | (layers >= most)
            if beyond.any():
                row = int(np.argmax(beyond))
                raise FileFormatError(
                    f"{self.path.name}: token {tokens[row]}: want layers from 0 to {most - 1}, "
                    f"got {layers[row]}"
                )
            wrong = (chosen < 0) | (chosen >= self.experts)
            if wrong.any():
                row, place = (int(index) for index in np.argwhere(wrong)[0])
                raise FileFormatError(
                    f"{self.path.name}: token {tokens[row]}: want experts from 0 to {self.experts - 1}, "
                    f"got {int(chosen[row, place])}"
                )
            ordered = np.sort(chosen, axis=1)
            double = (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
            if double.any():
                raise FileFormatError(
                    f"{self.path.name}: token {tokens[int(np.argmax(double))]} names an expert twice"
                )
            yield layers, chosen

    def _stored(self) -> Any:
        try:
            stored: Any = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise FileFormatError(f"{self.path.name}: {error}") from error
        if getattr(stored, "ndim", 0) not in (2, 3) or stored.dtype.kind not in "iu" or 0 in stored.shape[1:]:
            raise FileFormatError(
                f"{self.path.name}: want whole numbers of shape (tokens, layers, k), "
                f"got {getattr(stored, 'dtype', 'an archive')} of shape {getattr(stored, 'shape', '')}"
            )
        return stored if stored.ndim == 3 else stored[:, None]

    def _from_array(self) -> Iterator[tuple[_Numbers, _Numbers, _Numbers]]:
        stored = self._stored()
        count, width = stored.shape[1:]
        step = max(1, CHUNK_TOKENS // count)
        for start in range(0, len(stored), step):
            piece = np.asarray(stored[start : start + step], dtype=np.int64)
            tokens = np.repeat(np.arange(start, start + len(piece)), count)
            yield tokens, np.tile(np.arange(count), len(piece)), piece.reshape(-1, width)

    def _from_text(self) -> Iterator[tuple[_Numbers, _Numbers, _Numbers]]:
        rows: list[list[int]] = []
        for row in self._lines():
            rows.append(row)
            if len(rows) == CHUNK_TOKENS:
                yield _columns(rows)
                rows = []
        if rows:
            yield _columns(rows)

    def _lines(self) -> Iterator[list[int]]:
        """Yield token, layer and chosen experts of each line of a text file."""
        name = self.path.name
        try:
            with self.path.open(newline="", encoding="utf-8") as file:
                lines = csv.reader(file)
                header = next(lines, [])
                if header[:2] != ["token", "layer"]:
                    raise FileFormatError(f"{name}: want the columns token, layer, expert ...")
                for number, line in enumerate(lines, start=2):
                    yield _whole_numbers(line, width=len(header), file=name, number=number)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise FileFormatError(f"{name}: {error}") from error


def _whole_numbers(line: list[str], *, width: int, file: str, number: int) -> list[int]:
    """Return the numbers of one line; raise `FileFormatError` where it is no line of a trace."""
    try:
        row = [int(part) for part in line]
    except ValueError:
        raise FileFormatError(
            f"{file}, line {number}: want whole numbers, got {','.join(line)[:60]!r}"
        ) from None
    if len(row) != width or width < 3:
        raise FileFormatError(f"{file}, line {number}: want {max(width - 2, 1)} experts, got {len(row) - 2}")
    if max(map(abs, row)) >= 2**62:
        raise FileFormatError(f"{file}, line {number}: a number is too large")
    return row


def _columns(rows: list[list[int]]) -> tuple[_Numbers, _Numbers, _Numbers]:
    table = np.array(rows, dtype=np.int64)
    return table[:, 0], table[:, 1], table[:, 2:]


def read_trace(
    path: str | Path, *, experts: int, layer: int = 0, top_k: int | None = None, layers: int | None = None
) -> TraceFile:
    """Return a trace file to read in pieces, as `TraceFile` has it."""
    return TraceFile(path=Path(path), experts=experts, layer=layer, top_k=top_k, layers=layers)


def popularity_of(trace: TraceFile) -> tuple[float, ...]:
    """Return the weights with which experts are drawn, most popular first.

    Raises
    ------
    FileFormatError
        As `TraceFile.rows`, and if a layer up to the last has no tokens.

    Notes
    -----
    How often experts are chosen per token, sorted layer by layer and averaged over the trace's
    layers: which expert is hot differs from layer to layer, how hot it is less so. A frequency f
    becomes the weight ``-log(1 - f)``, the inverse of `Routing.inclusion`. The file is read once, in
    memory that grows with layers and experts only.
    """
    counts, tokens = np.zeros((0, trace.experts)), np.zeros(0)
    for layers, chosen in trace.rows():
        count = max(len(tokens), int(layers.max()) + 1)
        counts = np.pad(counts, ((0, count - len(counts)), (0, 0)))
        tokens = np.pad(tokens, (0, count - len(tokens)))
        places = (layers[:, None] * trace.experts + chosen).ravel()
        counts += np.bincount(places, minlength=count * trace.experts).reshape(count, -1)
        tokens += np.bincount(layers, minlength=count)
    if not len(tokens) or not tokens.all():
        empty = int(np.argmin(tokens)) if len(tokens) else 0
        raise FileFormatError(f"{trace.path.name}: no tokens of layer {empty}")
    ordered = np.sort(counts, axis=1)[:, ::-1] / tokens[:, None]
    frequencies = np.minimum(np.mean(ordered, axis=0), _ALWAYS)
    return tuple(float(weight) for weight in -np.log1p(-frequencies))
