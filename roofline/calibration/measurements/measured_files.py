"""Files of measurements as their owners wrote them: which table it is, and every row with its line."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.measurements.importers import imported
from roofline.errors import FileFormatError, nearest, optional

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MeasuredFile", "Schema", "latency_column", "read_cells", "read_measured_file"]

Schema = Literal["operators", "whole_models", "sources"]

#: Units a latency column may be in, by its suffix [s].
_LATENCY_UNITS: Final = {"latency_us": 1e-6, "latency_ns": 1e-9, "latency_ms": 1e-3, "latency_s": 1.0}
_OPERATOR_COLUMNS: Final = ("op", "dtype")
_WHOLE_MODEL_COLUMNS: Final = ("device", "model", "metric", "value")
_SOURCE_COLUMNS: Final = ("src_id", "software")


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredFile:
    """The rows of one file as text, and where each stands.

    Parameters
    ----------
    header : tuple of str
        Columns, in the file's order.
    cells : DataFrame
        One row per measurement; every cell is text, empty where the file says nothing.
    lines : ndarray of int
        Line of each row in its file, or the number of the record in a JSON file, from 1.
    faults : ndarray of str
        What keeps a row from being read at all; empty for most.
    said : mapping of str to str
        What the user says of every row whose cell of that name is empty.
    """

    path: Path
    schema: Schema
    header: tuple[str, ...]
    cells: "pd.DataFrame"
    lines: NDArray[np.int64]
    faults: NDArray[np.object_]
    said: Mapping[str, str] = field(default_factory=dict)

    def column(self, name: str) -> "pd.Series[str]":
        """Return a column's text without surrounding blanks; what is said where it has none."""
        import pandas as pd

        said = self.said.get(name, "")
        if name not in self.cells:
            return pd.Series(said, index=self.cells.index, dtype=object)
        text = self.cells[name].str.strip()
        return text.where(text != "", said) if said else text


def latency_column(header: Sequence[str]) -> tuple[str, float]:
    """Return the column that holds the latency of an operator table, and its unit [s].

    Raises
    ------
    FileFormatError
        If there is none, or more than one.
    """
    found = [name for name in header if name in _LATENCY_UNITS]
    if len(found) != 1:
        raise FileFormatError(
            f"want one latency column of {', '.join(_LATENCY_UNITS)}, got {', '.join(found) or 'none'}"
        )
    return found[0], _LATENCY_UNITS[found[0]]


def read_measured_file(path: Path) -> MeasuredFile:
    """Return the rows of a file of measurements.

    Parameters
    ----------
    path : Path
        A CSV table of operators or of whole models (docs/calibration.md lists their columns), or
        what llama-bench, vLLM's benchmark or AIPerf wrote, or a table of AIConfigurator.

    Raises
    ------
    FileFormatError
        If it cannot be read, or is no table of measurements.
    MissingDependencyError
        If pandas is not installed.
    """
    text = _text(path)
    foreign = imported(path, text)
    if foreign is not None:
        header, records, places = foreign
        return _file(path, "whole_models", header, records, places)
    header, records, lines = read_cells(path, text)
    return _file(path, _schema(path, header), header, records, lines)


def read_cells(path: Path, text: str) -> tuple[list[str], list[list[str]], list[int]]:
    """Return header, rows and their lines of a CSV text; rows keep whatever length they have.

    Raises
    ------
    FileFormatError
        If there is no header, a column stands twice, or quotes do not close.
    """
    reader = csv.reader(StringIO(text), strict=True)
    records, lines = [], []
    try:
        header = [name.strip().removeprefix("\ufeff") for name in next(reader, [])]
        start = reader.line_num + 1
        for cells in reader:
            if cells:
                records.append(cells)
                lines.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise FileFormatError(f"{path}: line {reader.line_num}: not CSV ({error})") from error
    if not any(header):
        raise FileFormatError(f"{path}: is empty; want a header and rows")
    twice = {name for name in header if header.count(name) > 1}
    if twice:
        raise FileFormatError(f"{path}: column {min(twice)!r} stands twice")
    return header, records, lines


#: Larger than any text `read_text` of the catalogue takes: 300,000 rows are some 30 MB.
_MOST_BYTES: Final = 512 * 2**20


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            raise FileFormatError(f"{path}: there is no such file")
        if path.stat().st_size > _MOST_BYTES:
            raise FileFormatError(f"{path}: want at most 512 MiB, got {path.stat().st_size} bytes")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error.strerror})") from error


def _schema(path: Path, header: Sequence[str]) -> Schema:
    if set(_OPERATOR_COLUMNS) <= set(header):
        try:
            latency_column(header)
        except FileFormatError as error:
            raise FileFormatError(f"{path}: {error}") from None
        return "operators"
    if set(_WHOLE_MODEL_COLUMNS) <= set(header):
        return "whole_models"
    if set(_SOURCE_COLUMNS) <= set(header):
        return "sources"
    wanted = _OPERATOR_COLUMNS if "op" in header or "latency_us" in header else _WHOLE_MODEL_COLUMNS
    lacking = [name for name in wanted if name not in header]
    hints = "".join(nearest(name, header) for name in lacking[:1])
    raise FileFormatError(
        f"{path}: no table of measurements: lacks column {', '.join(repr(name) for name in lacking)}{hints}; "
        f"want {', '.join(_OPERATOR_COLUMNS)}, latency_us, or {', '.join(_WHOLE_MODEL_COLUMNS)}, "
        "or output of llama-bench, vLLM, AIPerf or AIConfigurator"
    )


def _file(
    path: Path, schema: Schema, header: Sequence[str], records: list[list[str]], lines: list[int]
) -> MeasuredFile:
    with optional("a table of measurements", extra="validate"):
        import pandas as pd
    width = len(header)
    faults = np.full(len(records), "", dtype=object)
    for row, cells in enumerate(records):
        if len(cells) != width:
            faults[row] = f"has {len(cells)} cells, the header {width}"
            records[row] = (cells + [""] * width)[:width]
    return MeasuredFile(
        path=path,
        schema=schema,
        header=tuple(header),
        cells=pd.DataFrame(records, columns=list(header), dtype=object),
        lines=np.array(lines, dtype=np.int64),
        faults=faults,
    )
