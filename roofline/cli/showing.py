"""`roofline show`: one thing of the catalogue, figure by figure."""

from pathlib import Path
from typing import Annotated, Final

import typer

from roofline.cli.output import FileOption, Format, FormatOption, as_json, write
from roofline.cli.sections import render

__all__ = ["EXAMPLES", "run"]

EXAMPLES: Final = """
roofline show h100-sxm
roofline show llama-3.1-8b --format json
roofline show ./config.json
roofline show nvlink-4
"""


def run(
    name: Annotated[
        str,
        typer.Argument(
            show_default=False,
            help="Catalogue name of a model, device, system, link or storage; or a config.json or .gguf.",
        ),
    ],
    form: FormatOption = Format.TABLE,
    out: FileOption = None,
) -> None:
    """Show a model's layers and sizes, or every figure of a piece of hardware with its source."""
    from roofline.catalog.files import find, read_toml

    foreign = name.endswith((".json", ".gguf")) or Path(name).is_dir()
    path = Path(name) if foreign else find(name, "models", "devices", "systems", "links", "storage")
    if foreign or "layers" in read_toml(path):
        from roofline.catalog.models import load_model
        from roofline.cli.shown_model import model_document, model_sections

        document, sections = model_document(load_model(str(path))), model_sections
    else:
        from roofline.cli.shown_hardware import hardware_document, hardware_sections

        document, sections = hardware_document(path), hardware_sections
    if form is Format.JSON:
        write(as_json(document), out)
    elif form is Format.CSV:
        from roofline.cli.tables import render_table

        rows = document["weights" if "weights" in document else "figures"]
        write(render_table(list(rows[0]), [list(row.values()) for row in rows], form), out)
    else:
        write(render(document["name"], sections(document), form), out)
