"""Finding catalogue files by name, and reading TOML and JSON that may be broken or hostile."""

import json
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from roofline.errors import FileFormatError, UnknownNameError, nearest

__all__ = [
    "SECTIONS", "find", "fold", "folders", "known_names", "names_in", "read_json", "read_text", "read_toml",
]  # fmt: skip

#: Catalogue section -> folder below the catalogue root; globs are searched one level deep.
SECTIONS: Final = {
    "devices": ("hardware/gpus", "hardware/edge", "hardware/cpus", "hardware/accelerators"),
    "storage": ("hardware/storage",),
    "links": ("hardware/links",),
    "systems": ("hardware/systems",),
    "models": ("models",),
    "fits": ("fits",),
    "claims": ("claims",),
}

_SINGULAR: Final = {
    "devices": "device", "storage": "storage", "links": "link", "systems": "system",
    "models": "model", "fits": "runtime profile", "claims": "claim file",
}  # fmt: skip
#: Sections whose stems start with a vendor that may be left out; ``dgx_a100`` must not answer to "a100".
_VENDOR_FIRST: Final = ("devices", "models")
_MAX_BYTES: Final = 64 * 2**20
_ALIASES: Final = re.compile(r"^aliases\s*=\s*\[(.*?)\]", re.MULTILINE | re.DOTALL)
_CHECKOUT: Final = {"fits": "calibrate/fits", "claims": "plots/claims"}


def fold(name: str) -> str:
    """Return a name as names are compared: without case and punctuation but for decimal points.

    Examples
    --------
    >>> fold("OPT-1.3B"), fold("opt_13b"), fold("meta-llama/Llama-3.1-8B")
    ('opt1.3b', 'opt13b', 'metallamallama3.18b')
    """
    return re.sub(r"(?<![0-9])\.|\.(?![0-9])|[^a-z0-9.+]", "", name.casefold())


def _fold_loosely(name: str) -> str:
    return fold(name).replace(".", "")


def folders(section: str) -> list[Path]:
    """User folders first (``ROOFLINE_CATALOG``), then a checkout, then the installed package."""
    package = Path(__file__).parents[1]
    checkout = package.parent if (package.parent / "pyproject.toml").is_file() else None
    roots = [Path(part) for part in os.environ.get("ROOFLINE_CATALOG", "").split(os.pathsep) if part]
    found = []
    for folder in SECTIONS[section]:
        found += [root / folder for root in roots]
        if checkout is not None:
            found.append(checkout / _CHECKOUT.get(folder, folder))
        else:
            found.append(package / "_catalog" / folder)
    return [folder for folder in found if folder.is_dir()]


def names_in(section: str) -> dict[str, Path]:
    """Return catalogue names (file stems) of a section with their files, sorted by name."""
    return {name: Path(file) for name, file in _files_in(section).items()}


def _files_in(section: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for folder in map(str, folders(section)):
        for file in os.listdir(folder):
            if file.endswith(".toml"):
                found.setdefault(file.removesuffix(".toml"), f"{folder}{os.sep}{file}")
    return dict(sorted(found.items()))


def _aliases_in(path: Path) -> list[str]:
    match = _ALIASES.search(path.read_text(encoding="utf-8"))
    return re.findall(r'"([^"]+)"', match[1]) if match else []


def known_names(section: str) -> dict[str, str]:
    """Return every name of a section as `fold` writes it, with the stem it stands for."""
    known: dict[str, str] = {}
    for stem, path in names_in(section).items():
        short = stem.partition("_")[2] if section in _VENDOR_FIRST else ""
        for name in (stem, short or stem, *_aliases_in(path)):
            known.setdefault(fold(name), stem)
    return known


def find(name: str, *sections: str) -> Path:
    """Return the file a name stands for in the first section that has it.

    A name is a file's stem, a device's or model's stem without the vendor, one of its aliases, or
    a path to a ``.toml`` file.

    Raises
    ------
    UnknownNameError
        With the nearest names there are.
    """
    if name.endswith(".toml"):
        return Path(name)
    # With decimal points first: OPT-1.3B and OPT-13B differ in nothing else.
    for folded in (fold, _fold_loosely):
        wanted = folded(name)
        for names in (_stems, _aliases):
            found = next((file for known, file in names(sections) if folded(known) == wanted), None)
            if found is not None:
                return Path(found)
    choices = [known.replace("_", "-") for known, _ in _stems(sections)]
    choices += [known for known, _ in _aliases(sections)]
    *others, last = (_SINGULAR[section] for section in reversed(sections))
    kind = f"{', '.join(others)} or {last}" if others else last
    raise UnknownNameError(f"no {kind} is called {name!r}{nearest(name, choices)}")


def _stems(sections: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Every file's stem, whole and without the vendor, with the file."""
    for section in sections:
        for stem, file in _files_in(section).items():
            yield stem, file
            short = stem.partition("_")[2] if section in _VENDOR_FIRST else ""
            if short:
                yield short, file


def _aliases(sections: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Every alias that a file states, with the file."""
    for section in sections:
        for file in _files_in(section).values():
            for alias in _aliases_in(Path(file)):
                yield alias, file


def read_text(path: Path) -> str:
    """Return a text file's content.

    Raises
    ------
    FileFormatError
        If it is missing, not a regular file, over 64 MiB, or not UTF-8.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise FileFormatError(f"{path}: want a regular file")
        if status.st_size > _MAX_BYTES:
            raise FileFormatError(f"{path}: want at most 64 MiB, got {status.st_size} bytes")
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error.strerror})") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file as plain values; raise `FileFormatError` where it is malformed."""
    try:
        return tomllib.loads(read_text(path))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FileFormatError(f"{path}: not valid TOML ({_first_line(error)})") from error


def read_json(path: Path) -> Any:
    """Return a JSON file as plain values; raise `FileFormatError` where it is malformed."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(read_text(path), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: not valid JSON ({_first_line(error)})") from error


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
