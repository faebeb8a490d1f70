"""Degrees of parallelism, from what tables call them."""

import re
from typing import Final

from roofline.errors import InvalidSpecError

__all__ = ["degrees_of"]

_DEGREE: Final = re.compile(r"\b(TEP|DEP|TP|PP|DP|EP)\s*(\d+)", re.IGNORECASE)


#: Frameworks that give each device whole layers, whatever a table calls it.
_BY_LAYERS: Final = ("llama.cpp", "exllamav2")


def degrees_of(text: str, devices: float, framework: str) -> tuple[float, float, float, float]:
    """Return tensor, pipeline, data and expert degrees of a table's parallelism.

    Raises
    ------
    InvalidSpecError
        If they do not make as many devices as the row has, or cannot be expressed.
    """
    stated = _DEGREE.findall(text)
    rows = "row split" in text.casefold() or (framework == "llama.cpp" and bool(stated))
    if rows and devices > 1:
        raise InvalidSpecError("row split is not described: every product is gathered through the host")
    if "layer split" in text.casefold() or framework in _BY_LAYERS:
        return 1.0, devices, 1.0, 1.0
    found = {"TP": 1.0, "PP": 1.0, "DP": 1.0, "EP": 1.0}
    if not stated:
        return devices, 1.0, 1.0, 1.0
    for name, number in stated:
        for degree in {"TEP": ("TP", "EP"), "DEP": ("DP", "EP")}.get(name.upper(), (name.upper(),)):
            found[degree] = float(number)
    if found["TP"] * found["PP"] * found["DP"] * found["EP"] == devices:
        # Experts over all devices, attention on each for its own requests.
        found["DP"] *= found["EP"]
    if found["TP"] * found["PP"] * found["DP"] != devices:
        raise InvalidSpecError(f"parallelism does not make {devices:g} devices: {text!r}")
    return found["TP"], found["PP"], found["DP"], found["EP"]
