"""Where a user's own hardware, fits and campaigns live."""

import os
from pathlib import Path

from roofline.errors import InvalidSpecError

__all__ = ["user_folder", "write_own"]


def user_folder(given: Path | None = None) -> Path:
    """Return the folder given, else the first of ``ROOFLINE_CATALOG``.

    Raises
    ------
    InvalidSpecError
        If neither is there, or what is given is a file.
    """
    if given is not None:
        if given.exists() and not given.is_dir():
            raise InvalidSpecError(f"--folder: want a folder, got the file {given}")
        return given
    for part in os.environ.get("ROOFLINE_CATALOG", "").split(os.pathsep):
        if part:
            return Path(part)
    raise InvalidSpecError("want --folder, or a folder of your own in ROOFLINE_CATALOG")


def write_own(path: Path, text: str) -> Path:
    """Write a file of a user's folder, making the folders it stands in, and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
