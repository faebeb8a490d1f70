"""Any figure of a scenario, set from text by its dotted path."""

from typing import Final

from roofline.dotted_path import resolve
from roofline.errors import InvalidSpecError, nearest
from roofline.scenario import Scenario
from roofline.units import LARGEST_AMOUNT, dimension_of, parse

__all__ = ["full_path", "set_value"]

_ROOTS: Final = {
    "engine": "deployment.system.device.engine",
    "memory": "deployment.system.device.memory",
    "tdp": "deployment.system.device.tdp",
    "peer_link": "deployment.system.peer_link",
    "host_link": "deployment.system.host_link",
    "host": "deployment.system.host",
    "storage": "deployment.system.storage",
    "system": "deployment.system",
    "model": "deployment.model",
    "runtime": "deployment.runtime",
    "precision": "deployment.precision",
    "parallelism": "deployment.parallelism",
    "routing": "deployment.routing",
    "composition": "deployment.composition",
    "workload": "workload",
    "deployment": "deployment",
    "decoding": "decoding",
}


def full_path(key: str) -> str:
    """Return the path from a scenario for a key that starts at a root such as ``memory``.

    Raises
    ------
    InvalidSpecError
        If there is no such root.
    """
    root, _, rest = key.partition(".")
    if root not in _ROOTS:
        raise InvalidSpecError(f"{key}: no {root!r} to set{nearest(root, _ROOTS)}")
    return f"{_ROOTS[root]}.{rest}" if rest else _ROOTS[root]


def set_value(scenario: Scenario, key: str, text: str) -> Scenario:
    """Return the scenario with the figure at a dotted path set from text.

    Parameters
    ----------
    key : str
        A path from one of the roots ``memory``, ``engine``, ``workload``, ``model`` ...
    text : str
        With a unit where the figure has a dimension, else a number, name or ``true``/``false``.

    Raises
    ------
    InvalidSpecError
        If the path does not exist or the text does not fit it.
    """
    path = full_path(key)
    names, old = resolve(scenario, path)
    dimensions = [found for found in map(dimension_of, reversed(names)) if found]
    return scenario.replace_at(path, _parsed(key, old, text, dimensions[0] if dimensions else None))


def _parsed(key: str, old: object, text: str, dimension: str | None) -> object:
    if dimension is not None:
        try:
            return parse(text, dimension)
        except InvalidSpecError as error:
            raise InvalidSpecError(f"{key}: {error}") from None
    if isinstance(old, bool):
        if text.casefold() not in ("true", "false"):
            raise InvalidSpecError(f"{key}: want true or false, got {text!r}")
        return text.casefold() == "true"
    if isinstance(old, str):
        return text
    if isinstance(old, int | float) or old is None:
        try:
            number = type(old)(text) if isinstance(old, int) else float(text)
        except ValueError:
            raise InvalidSpecError(f"{key}: want a number, got {text!r}") from None
        if not -LARGEST_AMOUNT <= number <= LARGEST_AMOUNT or (number < 0 and not (old or 0) < 0):
            raise InvalidSpecError(f"{key}: want a number >= 0 and <= {LARGEST_AMOUNT:g}, got {text}")
        return number
    raise InvalidSpecError(f"{key}: is not a single figure")
