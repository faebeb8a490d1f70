"""Degrees of parallelism, from what tables call them."""

import math
import re
from dataclasses import dataclass
from typing import Final

from roofline.errors import InvalidSpecError

__all__ = ["Pool", "degrees_of", "pools_of", "splits_rows"]

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
    if splits_rows(text, devices, framework):
        raise InvalidSpecError(f"a split by rows has no degrees: {text!r}")
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


def splits_rows(text: str, devices: float, framework: str) -> bool:
    """Return whether every matrix lies on several devices by rows, as llama.cpp calls it."""
    tensor = framework == "llama.cpp" and bool(_DEGREE.search(text))
    return devices > 1 and ("row split" in text.casefold() or tensor)


_POOLS: Final = re.compile(
    r"prefill\s+(?:(\d+|\?)\s*x\s*)?(.+?),\s*decode\s+(?:(\d+|\?)\s*x\s*)?(.+)", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Equal workers: how many (nan where not told), how a model is divided over one, and its devices."""

    workers: float
    degrees: str
    devices: float


def pools_of(text: str, devices: float) -> tuple[Pool, Pool] | None:
    """Return prefill and decode pool of a parallelism such as ``prefill 2x TP8, decode TP1 DP8 EP8``.

    None where one pool does both. ``?x`` is a number of workers that is not told; a row of such pools has
    the devices of one worker.

    Raises
    ------
    InvalidSpecError
        If they do not make as many devices as the row has.

    Examples
    --------
    >>> pools_of("prefill 2x TP4, decode DEP8", 16.0)[0]
    Pool(workers=2.0, degrees='TP4', devices=4.0)
    """
    found = _POOLS.search(text)
    if found is None:
        return None
    pools = []
    for number, degrees in ((found[1], found[2]), (found[3], found[4])):
        stated = {name.upper(): float(size) for name, size in _DEGREE.findall(degrees)}
        each = stated.get("TEP") or stated.get("DEP") or 1.0
        for name in ("TP", "PP", "DP"):
            each *= stated.get(name, 1.0)
        workers = math.nan if number == "?" else float(number or 1)
        pools.append(Pool(workers=workers, degrees=degrees.strip(), devices=each))
    if sum((1.0 if math.isnan(pool.workers) else pool.workers) * pool.devices for pool in pools) != devices:
        raise InvalidSpecError(f"parallelism does not make {devices:g} devices: {text!r}")
    return pools[0], pools[1]
