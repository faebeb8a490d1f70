"""`roofline reproduce`: other people's published numbers beside ours."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from roofline.cli.output import FileOption, Format, FormatOption, as_json, write

if TYPE_CHECKING:
    from roofline.studies.claim_files import ClaimFile
    from roofline.studies.reproduce import Found

__all__ = ["EXAMPLES", "run"]

EXAMPLES: Final = """
roofline reproduce medusa aim
roofline reproduce --format json
roofline reproduce --gallery docs
"""

_HEADER: Final = (
    *("setting", "metric", "verdict", "binding", "published", "ideal", "predicted", "80 % interval", "error"),
)


def run(
    systems: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SYSTEM]...", help="Which systems; all where none is named."),
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Write gallery.md and gallery.html, which needs no network, there."
        ),
    ] = None,
    form: FormatOption = Format.TABLE,
    out: FileOption = None,
) -> None:
    """Regenerate published numbers: theirs, the datasheet bound, ours with its interval, and a verdict.

    A number is reproduced within 15 %; bracketed where the datasheet bound and our interval hold it
    between them within a factor of two; impossible as stated where it lies beyond the bound; missed
    otherwise. Runs use stated inputs and the profiles that ship; what the authors do not state is
    listed as assumed. A range counts from its nearer end.
    """
    from roofline.studies.claim_files import load_claims
    from roofline.studies.reproduce import reproduce

    answered = list(reproduce(load_claims(systems or ())))
    if gallery is not None:
        from roofline.studies.gallery import write_gallery

        for file, text in write_gallery(answered):
            write(text, gallery / file)
        return
    if form is Format.JSON:
        write(as_json([one.row() for _, found in answered for one in found]), out)
        return
    write("\n\n".join(_sections(answered, form)), out)


def _sections(answered: "list[tuple[ClaimFile, list[Found]]]", form: Format) -> list[str]:
    from roofline.cli.tables import render_table
    from roofline.studies.gallery import cells_of, counted

    if form is Format.CSV:
        rows = [[file.system, *cells_of(one)] for file, found in answered for one in found]
        return [render_table(("system", *_HEADER), rows, form)]
    parts = []
    for file, found in answered:
        title = file.system + (f" (arXiv:{file.arxiv})" if file.arxiv else "")
        shown = [_clipped(cells_of(one)) if form is Format.TABLE else cells_of(one) for one in found]
        table = render_table(_HEADER, shown, form, left=4)
        parts.append(f"{'## ' if form is Format.MD else ''}{title}\n\n{table}")
    return [*parts, counted([one for _, found in answered for one in found])]


_WIDEST: Final = 60


def _clipped(cells: tuple[str, ...]) -> list[str]:
    """Cells short enough for a screen; Markdown, CSV and JSON have them whole."""
    return [cell if len(cell) <= _WIDEST else cell[: _WIDEST - 1] + "…" for cell in cells]
