"""Text with a unit at the border, SI floats inside.

A field whose name ends in a unit suffix (``bandwidth_bytes_per_s``) is written in files and on the
command line without it (``bandwidth = "3.35 TB/s"``). G is 1e9 and Gi is 2**30; a bare number for a
dimensional quantity is refused.
"""

import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Final

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from roofline.errors import InvalidSpecError
from roofline.quantity import Quantity

__all__ = [
    "DIMENSIONS",
    "LARGEST_AMOUNT",
    "Bytes",
    "BytesPerSecond",
    "Count",
    "DollarsPerHour",
    "FlopsPerSecond",
    "Fraction",
    "Hertz",
    "JoulesPerByte",
    "JoulesPerFlop",
    "Seconds",
    "Watts",
    "dimension_of",
    "file_key",
    "parse",
    "render",
]

_PREFIXES: Final = {
    "": 1.0, "p": 1e-12, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3,
    "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50,
}  # fmt: skip

#: What no real amount of tokens, devices or any bare figure exceeds: a slip of the finger, infinity.
LARGEST_AMOUNT: Final = 1e12

#: Field-name suffix -> base unit -> how many SI units one of it is.
DIMENSIONS: Final[dict[str, dict[str, float]]] = {
    "bytes_per_s": {"B/s": 1.0, "bit/s": 0.125, "b/s": 0.125, "bps": 0.125},
    "flops_per_s": {"FLOP/s": 1.0, "FLOPS": 1.0, "OP/s": 1.0, "OPS": 1.0},
    "dollars_per_hour": {"$/h": 1.0, "USD/h": 1.0},
    "joules_per_flop": {"J/FLOP": 1.0},
    "joules_per_byte": {"J/B": 1.0},
    "hertz": {"Hz": 1.0},
    "watts": {"W": 1.0},
    "joules": {"J": 1.0},
    "bytes": {"B": 1.0, "bit": 0.125},
    "s": {"s": 1.0, "min": 60.0, "h": 3600.0},
}

_EXAMPLES: Final = {
    "bytes_per_s": "3.35 TB/s", "flops_per_s": "989 TFLOP/s", "hertz": "1.98 GHz", "watts": "700 W",
    "joules": "5 J", "bytes": "80 GiB", "s": "2.5 us", "dollars_per_hour": "2.5 $/h",
    "joules_per_flop": "0.5 pJ/FLOP", "joules_per_byte": "30 pJ/B",
}  # fmt: skip

_TEXT: Final = re.compile(r"\s*([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([^\d\s].*?)\s*")


def dimension_of(field: str) -> str | None:
    """Return the unit suffix of a field name (``"bytes_per_s"``), or None if it has none."""
    for suffix in DIMENSIONS:
        if field.endswith("_" + suffix):
            return suffix
    return None


def file_key(field: str) -> str:
    """Return a field's name in files and on the command line: without its unit suffix."""
    suffix = dimension_of(field)
    return field if suffix is None else field[: -len(suffix) - 1]


def parse(text: object, dimension: str, *, of: str = "") -> float:
    """Return text such as ``"3.35 TB/s"`` in the SI unit of `dimension`.

    Parameters
    ----------
    text : object
        What stands in the file; anything but text with a unit is refused.
    dimension : str
        A key of `DIMENSIONS`.
    of : str
        What the text is given for, which a refusal begins with.

    Raises
    ------
    InvalidSpecError
        If it is not text, carries another unit, or is not a finite number >= 0.
    """
    where = f"{of}: " if of else ""
    want = f"{where}want text such as {_EXAMPLES[dimension]!r}"
    match = _TEXT.fullmatch(text) if isinstance(text, str) and len(text) < 100 else None
    if match is None:
        raise InvalidSpecError(f"{want}, got {_short(text)}")
    number, unit = match.groups()
    for base, scale in DIMENSIONS[dimension].items():
        if unit.endswith(base) and unit[: -len(base)] in _PREFIXES:
            value = float(number.replace("_", "")) * (_PREFIXES[unit[: -len(base)]] * scale)
            if not (0 <= value < math.inf):
                raise InvalidSpecError(f"{where}want a finite value >= 0, got {_short(text)}")
            return value
    raise InvalidSpecError(f"{want}, got {_short(text)}")


def render(value: float, dimension: str) -> str:
    """Return an SI value as exact text with a unit, which `parse` reads back unchanged."""
    return f"{value!r} {next(iter(DIMENSIONS[dimension]))}"


def _short(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else shown[:57] + "..."


class _Read:
    """A validator alone: pydantic's own also describes the annotated type, half of all schema time."""

    def __init__(self, read: Callable[[Any], float]) -> None:
        self._read = read

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._read)


def _reader(dimension: str) -> _Read:
    def read(value: Any) -> float:
        try:
            return parse(value, dimension)
        except InvalidSpecError as error:
            raise ValueError(str(error)) from error

    return _Read(read)


def _number(low: float, high: float, what: str) -> _Read:
    def read(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"want {what}, got {_short(value)}")
        return float(value)

    return _Read(read)


Bytes = Annotated[Quantity, _reader("bytes")]
BytesPerSecond = Annotated[Quantity, _reader("bytes_per_s")]
FlopsPerSecond = Annotated[Quantity, _reader("flops_per_s")]
Seconds = Annotated[Quantity, _reader("s")]
Hertz = Annotated[Quantity, _reader("hertz")]
Watts = Annotated[Quantity, _reader("watts")]
DollarsPerHour = Annotated[Quantity, _reader("dollars_per_hour")]
JoulesPerFlop = Annotated[Quantity, _reader("joules_per_flop")]
JoulesPerByte = Annotated[Quantity, _reader("joules_per_byte")]
Fraction = Annotated[Quantity, _number(0.0, 1.0, "a fraction between 0 and 1")]
Count = Annotated[Quantity, _number(0.0, 1e18, "a number >= 0")]
