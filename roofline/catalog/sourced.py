"""Specification files whose every figure names its source, read into checked values."""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from roofline.catalog.files import read_toml
from roofline.errors import FileFormatError, nearest
from roofline.provenance import Citation, Source
from roofline.units import file_key

__all__ = ["Sourced", "read_into", "unwrap", "validated"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Sourced(Generic[T]):
    """A value read from files, the origin of each figure in it, and what the files left to assume."""

    name: str
    value: T
    citations: tuple[Citation, ...]
    assumptions: tuple[str, ...] = ()


def unwrap(document: dict[str, Any], where: str) -> tuple[dict[str, Any], tuple[Citation, ...]]:
    """Split ``{value, source, at, note}`` tables into plain values and citations.

    Parameters
    ----------
    document : dict
        A parsed file; its ``sources`` table maps short names to title, url, kind and accessed.
    where : str
        The file's name, for messages.

    Notes
    -----
    A file that wraps no figure rests on its sources as a whole: each is cited for each table.

    Raises
    ------
    FileFormatError
        If a figure names no source, or one the file does not declare.
    """
    table = document.get("sources", {})
    if not isinstance(table, dict):
        raise FileFormatError(f"{where}: sources: want a table of sources")
    sources = {key: validated(Source, entry, f"{where}: sources.{key}") for key, entry in table.items()}
    citations: list[Citation] = []

    def strip(node: Any, path: str) -> Any:
        if isinstance(node, list):
            return [strip(part, f"{path}.{index}") for index, part in enumerate(node)]
        if not isinstance(node, dict):
            return node
        if "value" not in node:
            return {key: strip(part, f"{path}.{key}" if path else key) for key, part in node.items()}
        unknown = set(node) - {"value", "source", "at", "note"}
        if unknown:
            raise FileFormatError(f"{where}: {path}: unknown key {min(unknown)!r}")
        source = node.get("source")
        if source not in sources:
            raise FileFormatError(
                f"{where}: {path}: source {source!r} is not declared{nearest(str(source), sources)}"
            )
        citations.append(
            Citation(
                path=path,
                value=str(node["value"]),
                source=sources[source],
                at=str(node.get("at", "")),
                note=str(node.get("note", "")),
            )
        )
        return node["value"]

    body = {key: part for key, part in document.items() if key != "sources"}
    plain = strip(body, "")
    if not citations:
        tables = [key for key, part in plain.items() if isinstance(part, dict)]
        citations += [
            Citation(path=key, value="", source=source) for source in sources.values() for key in tables
        ]
    return plain, tuple(citations)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def validated(kind: type[T], document: Mapping[str, Any], where: str) -> T:
    """Return `document` as an instance of `kind`; raise `FileFormatError` naming file and key."""
    try:
        result: T = _adapter(cast(Hashable, kind)).validate_python(document)
    except ValidationError as error:
        raise FileFormatError("; ".join(_lines(error, where, kind))) from None
    return result


def _lines(error: ValidationError, where: str, kind: Any) -> Iterator[str]:
    for problem in error.errors(include_url=False)[:3]:
        place = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "unexpected_keyword_argument":
            known = [file_key(part.name) for part in fields(kind)] if len(problem["loc"]) == 1 else []
            message = f"no such key{nearest(place, known)}"
        yield f"{where}: {place}: {message[0].lower()}{message[1:]}" if place else f"{where}: {message}"


def read_into(kind: type[T], path: Path) -> "Sourced[T]":
    """Read one sourced TOML file into a value of `kind`."""
    plain, citations = unwrap(read_toml(path), path.name)
    return Sourced(name=path.stem, value=validated(kind, plain, path.name), citations=citations)
