"""Times of operators that somebody measured, to draw beside the predicted ones."""

import csv
from pathlib import Path

from roofline.catalog.files import read_text
from roofline.errors import FileFormatError

__all__ = ["measured_operators"]


def measured_operators(file: Path) -> dict[str, float]:
    """Measured seconds by operator, from a table with columns name and time_s."""
    table = csv.DictReader(read_text(file).splitlines())
    if not {"name", "time_s"} <= set(table.fieldnames or ()):
        raise FileFormatError(f"{file}: want columns name and time_s")
    found = {}
    for row in table:
        try:
            found[row["name"]] = float(row["time_s"])
        except (TypeError, ValueError):
            raise FileFormatError(
                f"{file}: time_s of {row['name']}: want seconds, got {row['time_s']!r}"
            ) from None
        if not 0.0 < found[row["name"]] < float("inf"):
            raise FileFormatError(f"{file}: time_s of {row['name']}: want more than 0")
    return found
