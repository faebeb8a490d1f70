"""A piece of hardware as a plain document and as sections: every figure with its source."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from roofline.catalog.files import read_toml
from roofline.catalog.sourced import unwrap
from roofline.cli.sections import Section, source_documents, source_section
from roofline.errors import InvalidSpecError
from roofline.units import DIMENSIONS, parse

__all__ = ["hardware_document", "hardware_sections"]


def hardware_document(path: Path) -> dict[str, Any]:
    """Return a piece of hardware as a plain document: facts, and figures with their sources."""
    plain, citations = unwrap(read_toml(path), path.name)
    figures = [
        {
            "path": citation.path,
            "value": citation.value,
            **_in_si(citation.value),
            "source": citation.source.title,
            "kind": citation.source.kind,
            "url": citation.source.url,
            "at": citation.at,
            "note": citation.note,
        }
        for citation in citations
    ]
    given = {citation.path for citation in citations}
    return {
        "name": plain["name"],
        "file": path.stem,
        "facts": {key: value for key, value in _leaves(plain, "") if key not in given and key != "name"},
        "figures": figures,
        "sources": source_documents(citations),
    }


def _in_si(value: str) -> dict[str, Any]:
    """A figure in the SI unit its text names, and that unit; a bare number as it is."""
    for dimension in DIMENSIONS:
        try:
            return {"si_value": parse(value, dimension), "unit": next(iter(DIMENSIONS[dimension]))}
        except InvalidSpecError:
            continue
    try:
        return {"si_value": float(value), "unit": ""}
    except ValueError:
        return {"si_value": None, "unit": ""}


def _leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Dotted paths and values of everything that is not a table."""
    if isinstance(node, Mapping):
        for key, part in node.items():
            yield from _leaves(part, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        yield path, ", ".join(str(part) for part in node)
    else:
        yield path, node


def hardware_sections(document: Mapping[str, Any]) -> list[Section]:
    """Return the document of a piece of hardware as sections for the screen."""
    facts = [(key, str(value)) for key, value in document["facts"].items()]
    figures = [
        (row["path"], row["value"], row["source"], row["at"], row["note"]) for row in document["figures"]
    ]
    return [
        Section(title="", header=("", ""), rows=[("file", document["file"]), *facts], left=2),
        Section(title="Figures", header=("figure", "value", "source", "at", "note"), rows=figures, left=5),
        *source_section(document["sources"]),
    ]
