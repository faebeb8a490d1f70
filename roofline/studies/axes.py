"""Axes of a sweep: the text a user writes, and the values it stands for."""

import re
from typing import Final

from roofline.errors import InvalidSpecError

__all__ = ["MAXIMUM_VALUES", "parse_axis", "parse_values"]

#: Values of one axis at most, so that a typing error does not fill the memory.
MAXIMUM_VALUES: Final = 1_000_000

_NUMBER: Final = r"(\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)"
_RANGE: Final = re.compile(rf"{_NUMBER}\.\.{_NUMBER}(?:([x×+]){_NUMBER})?")


def parse_axis(text: str) -> tuple[str, tuple[str | float, ...]]:
    """Return key and values of ``KEY=VALUES``; values as in `parse_values`.

    Raises
    ------
    InvalidSpecError
        If there is no key or no value.
    """
    key, equals, values = (part.strip() for part in text.partition("="))
    if not (key and equals):
        raise InvalidSpecError(f"want KEY=VALUES such as weights=bf16,fp8, got {text!r}")
    return key, parse_values(key, values)


def parse_values(key: str, text: str) -> tuple[str | float, ...]:
    """Return the values of an axis.

    Parameters
    ----------
    key : str
        What they are of, for messages.
    text : str
        Values and ranges divided by commas: ``512,2048``; ``1..256x2`` doubles from 1 up to 256;
        ``1..9+2`` counts up in twos; ``1..9`` in ones; ``bf16,fp8``; ``x1,x2``.

    Raises
    ------
    InvalidSpecError
        If a range never ends, or there is no value.
    """
    values: list[str | float] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _RANGE.fullmatch(part)
        values += _range(key, part, match) if match else [_value(key, part)]
    if not values:
        raise InvalidSpecError(f"{key}: want values such as 1..256x2 or 512,2048, got {text!r}")
    return tuple(values)


def _value(key: str, text: str) -> str | float:
    if ".." in text and "/" not in text:
        raise InvalidSpecError(f"{key}: want a range such as 1..256x2, 1..9+2 or 1..9, got {text!r}")
    return float(text) if re.fullmatch(_NUMBER, text) else text


def _range(key: str, text: str, match: re.Match[str]) -> list[str | float]:
    first, last = float(match[1]), float(match[2])
    by, step = match[3] or "+", float(match[4] or 1.0)
    if last < first or (by == "+" and step <= 0) or (by != "+" and (step <= 1 or first <= 0)):
        raise InvalidSpecError(f"{key}: {text!r} never gets from {first:g} to {last:g}")
    values: list[str | float] = []
    value = first
    while value <= last * (1.0 + 1e-12):
        if len(values) == MAXIMUM_VALUES:
            raise InvalidSpecError(f"{key}: {text!r} has more than {MAXIMUM_VALUES:,} values")
        values.append(value)
        value = first + step * len(values) if by == "+" else first * step ** len(values)
    return values
