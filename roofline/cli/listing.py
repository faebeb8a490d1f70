"""`roofline list`: what the catalogue holds."""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Final

import typer

from roofline.cli.output import FileOption, Format, FormatOption, as_json, write

__all__ = ["EXAMPLES", "Shelf", "run"]

EXAMPLES: Final = """
roofline list hardware
roofline list models --format json
roofline list software
"""


class Shelf(StrEnum):
    """What can be listed."""

    HARDWARE = "hardware"
    MODELS = "models"
    STORAGE = "storage"
    LINKS = "links"
    SYSTEMS = "systems"
    FORMATS = "formats"
    SOFTWARE = "software"
    TECHNIQUES = "techniques"


def run(
    what: Annotated[Shelf, typer.Argument(show_default=False, help="Which part of the catalogue.")],
    form: FormatOption = Format.TABLE,
    out: FileOption = None,
) -> None:
    """List what the catalogue holds by the names that other commands take."""
    header, rows = _ROWS[what]()
    if form is Format.JSON:
        write(as_json([dict(zip(header, row, strict=True)) for row in rows]), out)
        return
    from roofline.cli.tables import render_table

    write(
        render_table(header, [[str(cell) for cell in row] for row in rows], form, left=4),
        out,
    )


_Rows = tuple[tuple[str, ...], list[tuple[str | float, ...]]]


def _files(section: str, *keys: str) -> _Rows:
    """Names, the first alias, and plain keys of a section's files; nothing is checked."""
    from roofline.catalog.files import names_in, read_toml

    rows: list[tuple[str | float, ...]] = []
    for name, path in names_in(section).items():
        document = read_toml(path)
        aliases = document.get("aliases") or [""]
        rows.append((name, str(aliases[0]), *(_plain(document.get(key, "")) for key in keys)))
    return ("name", "alias", *keys), rows


def _plain(entry: object) -> str | float:
    value = entry["value"] if isinstance(entry, dict) else entry
    return value if isinstance(value, str | float | int) else str(value)


def _formats() -> _Rows:
    from roofline.graph.formats import FORMATS

    rows: list[tuple[str | float, ...]] = [
        (format.name, round(format.bits, 4), format.operand or "as its activations")
        for format in FORMATS.values()
    ]
    return ("name", "bits_per_element", "multiplied_in"), rows


def _techniques() -> _Rows:
    from roofline.techniques.table import TECHNIQUES

    rows: list[tuple[str | float, ...]] = [
        (entry.name, entry.cited, " ".join(entry.settings), entry.title) for entry in TECHNIQUES.values()
    ]
    return ("name", "paper", "settings", "what"), rows


def _software() -> _Rows:
    from roofline.catalog.files import folders

    found = {
        (file.parent.parent.name == "transferred", file.parent.name, file.stem)
        for root in folders("fits")
        for file in root.rglob("*.toml")
    }
    rows: list[tuple[str | float, ...]] = [
        (name, device, "transferred" if lent else "measured") for lent, device, name in sorted(found)
    ]
    return ("name", "device", "basis"), rows


_ROWS: Final[dict[Shelf, Callable[[], _Rows]]] = {
    Shelf.HARDWARE: lambda: _files("devices", "kind", "year"),
    Shelf.MODELS: lambda: _files("models", "released"),
    Shelf.STORAGE: lambda: _files("storage", "read_bandwidth"),
    Shelf.LINKS: lambda: _files("links", "topology", "bandwidth"),
    Shelf.SYSTEMS: lambda: _files("systems", "device", "device_count"),
    Shelf.FORMATS: _formats,
    Shelf.SOFTWARE: _software,
    Shelf.TECHNIQUES: _techniques,
}
