"""A titled table as HTML, as notebooks show an answer, and its figures as text."""

from collections.abc import Iterable
from html import escape
from typing import Final

import numpy as np

from roofline.quantity import Quantity

__all__ = ["shown", "table_html"]

_PREFIXES: Final = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"))


def table_html(title: str, rows: Iterable[tuple[str, str, str]], notes: Iterable[str]) -> str:
    """Return rows of name, value and remark as an HTML table, with notes below it."""
    cells = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th><td>{escape(value)}</td>"
        f"<td>{escape(remark)}</td></tr>"
        for name, value, remark in rows
    )
    listed = "".join(f"<li>{escape(text)}</li>" for text in notes)
    return f"<table><caption>{escape(title)}</caption>{cells}</table><ul>{listed}</ul>"


def shown(value: Quantity, unit: str) -> str:
    """Return a value with its unit; of a grid, the smallest and the largest."""
    low, high = float(np.min(value)), float(np.max(value))
    return _one(low, unit) if low == high else f"{_one(low, unit)} to {_one(high, unit)}"


def _one(value: float, unit: str) -> str:
    for scale, prefix in _PREFIXES:
        if abs(value) >= 0.9995 * scale:
            return f"{float(f'{value / scale:.3g}'):g} {prefix}{unit}"
    return f"{value:.3g} {unit}"
