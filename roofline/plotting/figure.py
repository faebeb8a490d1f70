"""Figures of a paper's size and style, and the files they are written to."""

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import roofline
from roofline.errors import FileFormatError, InvalidSpecError, UnknownNameError, nearest, optional
from roofline.report import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "FORMATS", "HATCHES", "MARKERS", "WIDTHS", "check_file", "few_ticks",
    "figure_of", "new_figure",
           "paper_style", "save_figure", "width_of"]  # fmt: skip

#: Widths of a column, and of the page where there are two [inch], as the venues' classes set them:
#: icml 234.88 and 487.82 pt of 72.27 to the inch, cvpr 237.14 and 496.86 pt (tueplots, figsize.py),
#: neurips 5.5 inch, ieee 3.5 inch (88.9 mm). Those of acm and usenix are columns of a 7 inch page with
#: 1/3 inch between.
WIDTHS: Final = {
    "acm": 3.33, "acm-wide": 7.0, "usenix": 3.33, "usenix-wide": 7.0, "ieee": 3.5, "ieee-wide": 7.16,
    "icml": 3.25, "icml-wide": 6.75, "cvpr": 3.28, "cvpr-wide": 6.87, "neurips": 5.5,
}  # fmt: skip

#: Endings a figure may have; SVG keeps its text as text, PGF wants LaTeX.
FORMATS: Final = ("pdf", "svg", "png", "pgf")

#: Colours of Okabe and Ito (2008) in the order of the style sheet, and what tells them apart in grey.
COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
HATCHES: Final = ("", "////", "....", "\\\\\\\\", "xxxx", "----", "oooo")

#: Marker, colour and hatch of what binds, the same in every chart.
BOUND_STYLE: Final = {
    "memory": ("o", COLOURS[0], ""), "compute": ("s", COLOURS[3], "////"),
    "overhead": ("^", COLOURS[1], "...."), "link": ("D", COLOURS[2], "\\\\\\\\"),
    "transfer": ("v", COLOURS[5], "xxxx"), "host": ("X", COLOURS[6], "----"),
}  # fmt: skip

_SMALLEST, _LARGEST = 1.0, 20.0

#: Up to which ratio of its ends which numbers of a decade are written on a logarithmic axis.
_FEW: Final = ((5.0, (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)), (500.0, (1.0, 2.0, 5.0)), (1e5, (1.0,)))


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """What a figure script makes: the figure, its data, what it shows, and the reports behind it."""

    figure: "Figure"
    rows: Sequence[Mapping[str, Any]]
    what: str
    reports: Sequence[Report]


def width_of(name: str) -> float:
    """Return a width in inches for a venue's name or a number of inches.

    Raises
    ------
    UnknownNameError, InvalidSpecError
        If there is no such venue, or the number is outside 1..20.
    """
    if name in WIDTHS:
        return WIDTHS[name]
    try:
        inches = float(name)
    except ValueError:
        raise UnknownNameError(f"no width is called {name!r}{nearest(name, WIDTHS)}") from None
    if not _SMALLEST <= inches <= _LARGEST:
        raise InvalidSpecError(f"width: want {_SMALLEST:g} to {_LARGEST:g} inches, got {inches:g}")
    return inches


@contextmanager
def paper_style() -> Iterator[None]:
    """Draw with the style sheet ``paper.mplstyle`` inside a ``with`` statement.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    FileFormatError
        If the installation lacks the sheet.
    """
    with optional("drawing", extra="plot"):
        import matplotlib.style
    with matplotlib.style.context(["default", str(_style_sheet())]):
        yield


def _style_sheet() -> Path:
    package = Path(str(files("roofline")))
    checkout = package.parent
    inside = checkout / "plots" if (checkout / "pyproject.toml").is_file() else package / "_catalog"
    sheet = inside / "paper.mplstyle"
    if not sheet.is_file():
        raise FileFormatError(f"{sheet}: missing; the installation is incomplete")
    return sheet


def new_figure(
    *, width: str = "acm", height: float | None = None, rows: int = 1, columns: int = 1
) -> tuple["Figure", list["Axes"]]:
    """Return an empty figure and its axes, row by row.

    Parameters
    ----------
    width : str
        A name in `WIDTHS`, or inches.
    height : float, optional
        Of the whole figure [inch]; otherwise 0.7 of each panel's width.
    """
    from matplotlib.figure import Figure

    inches = width_of(width)
    figure = Figure(
        figsize=(inches, height or 0.7 * inches / columns * rows),
        layout="constrained",
    )
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def few_ticks(axis: "Axis") -> None:
    """Write plain numbers on a logarithmic axis that spans few decades; powers of ten stay on others."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    if low <= 0.0 or high / low > _FEW[-1][0]:
        return
    subs = next(marks for limit, marks in _FEW if high / low <= limit)
    axis.set_major_locator(LogLocator(base=10.0, subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def figure_of(ax: "Axes") -> "Figure":
    """Return the whole figure that axes are part of."""
    figure = ax.get_figure(root=True)
    if figure is None:
        raise InvalidSpecError("want axes that are part of a figure")
    return figure


def check_file(file: Path) -> str:
    """Return the format of a figure's file name.

    Raises
    ------
    InvalidSpecError
        If no figure can be written under that name: wrong ending, or no such folder.
    """
    form = file.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        wanted = ", ".join(f".{known}" for known in FORMATS)
        raise InvalidSpecError(f"{file}: want a name that ends in {wanted}")
    folder = file.parent
    if not folder.is_dir():
        raise InvalidSpecError(f"{file}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise InvalidSpecError(f"{file}: folder {folder} cannot be written to")
    return form


def save_figure(
    figure: "Figure",
    file: Path,
    *,
    rows: Sequence[Mapping[str, Any]] = (),
    caption: str = "",
    sources: Sequence[str] = (),
) -> tuple[Path, ...]:
    """Write a figure, its data as CSV and its caption beside it; return the files.

    Parameters
    ----------
    rows : sequence of mapping
        The data shown, units in the keys; a key missing from a row is an empty cell.
    caption : str
        Goes into a ``.txt`` beside the figure and into its metadata.
    sources : sequence of str
        Works the numbers come from; go into the metadata.

    Raises
    ------
    InvalidSpecError
        If the format cannot be made here or the files cannot be written.

    Notes
    -----
    No date and no path is stored, so the same data give the same bytes under one version of
    matplotlib.
    """
    form = check_file(file)
    content = _rendered(figure, file, form, caption, sources)
    written = {file: content}
    if rows:
        written[file.with_suffix(".csv")] = _csv(rows).encode()
    if caption:
        written[file.with_suffix(".txt")] = f"{caption}\n".encode()
    for path, data in written.items():
        try:
            path.write_bytes(data)
        except OSError as error:
            raise InvalidSpecError(f"{path}: cannot be written ({error.strerror})") from error
    return tuple(written)


def _rendered(figure: "Figure", file: Path, form: str, caption: str, sources: Sequence[str]) -> bytes:
    cited = "; ".join(sources)
    made_by = f"roofline {roofline.__version__}"
    stem = file.stem.replace("_", " ")
    metadata: dict[str, dict[str, Any]] = {
        "pdf": {
            "Title": stem,
            "Subject": caption,
            "Keywords": cited,
            "Creator": made_by,
            "CreationDate": None,
        },
        "svg": {"Title": stem, "Description": caption, "Source": cited, "Creator": made_by, "Date": None},
        "png": {"Title": stem, "Description": caption, "Source": cited, "Software": made_by},
        "pgf": {},
    }
    with paper_style():
        try:
            if form != "pgf":
                stream = io.BytesIO()
                figure.savefig(stream, format=form, metadata=metadata[form])
                return stream.getvalue()
            text = io.StringIO()
            figure.savefig(text, format=form)
        except (RuntimeError, OSError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise InvalidSpecError(f"{file}: cannot be drawn as {form} here ({reason})") from error
    comments = [stem, caption, *sources, made_by]
    return "".join(f"% {line}\n" for line in comments if line).encode() + text.getvalue().encode()


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    table = csv.DictWriter(text, names, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _plain(value: Any) -> Any:
    """A numpy number as Python's own, in full precision."""
    return value.item() if hasattr(value, "item") else value
