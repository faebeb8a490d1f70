"""Text of catalogue files whose figures were measured on this machine."""

import json
from datetime import date
from typing import Final

__all__ = ["ABOVE_BEST", "measured_figure", "measured_source"]

#: A ceiling over the best rate that was seen: the real one is at least that.
ABOVE_BEST: Final = 1.05


def measured_figure(value: float | str, unit: str = "", *, note: str) -> str:
    """Return a figure as a file of the catalogue has it; text stays as it is, numbers get five digits."""
    text = value if isinstance(value, str) else json.dumps(f"{value:.5g} {unit}")
    return f'{{ value = {text}, source = "measured", note = {json.dumps(note)} }}'


def measured_source(command: str = "roofline calibrate") -> str:
    """Return the table of the source that `measured_figure` names."""
    return f"""[sources.measured]
title = "{command} on this machine"
url = "docs/calibration.md"
kind = "measurement"
accessed = "{date.today().isoformat()}"
"""
