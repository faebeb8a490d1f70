"""Parts of frozen values by dotted path: the one way to read or replace any figure of a scenario."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from roofline.errors import InvalidSpecError, nearest
from roofline.units import file_key

__all__ = ["replace_at", "resolve"]

_T = TypeVar("_T")


def replace_at(value: _T, path: str, new: object) -> _T:
    """Return a copy of a frozen value with the part at a dotted path replaced.

    Parameters
    ----------
    value : dataclass instance, mapping or tuple
    path : str
        Field names, mapping keys and tuple positions joined by dots. A field may be named with or
        without its unit suffix: ``memory.hbm.bandwidth``.
    new : object
        The new part, or a function of the old part.

    Raises
    ------
    InvalidSpecError
        If a step of the path does not exist; the text names the nearest that does.
    """
    names, _ = resolve(value, path)
    return cast(_T, _replace(value, names, new))


def resolve(value: object, path: str) -> tuple[tuple[str, ...], Any]:
    """Return the full names along a dotted path, and what stands at its end.

    Raises
    ------
    InvalidSpecError
        If a step does not exist; the text names the nearest that does.
    """
    names: list[str] = []
    for step in path.split("."):
        if dataclasses.is_dataclass(value) and step in value.__dict__:
            names.append(step)
            value = value.__dict__[step]
            continue
        choices = _parts(value)
        name = step if step in choices else choices.get(f"{step}*")
        if name is None:
            known = [choice for choice in choices if not choice.endswith("*")]
            raise InvalidSpecError(f"{path}: no {step!r} here{nearest(step, known)}")
        names.append(name)
        value = _part(value, name)
    return tuple(names), value


def _parts(value: Any) -> dict[str, str]:
    """Names inside a value; a field with a unit suffix also answers without it, marked ``*``."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value)]
        return {**{name: name for name in fields}, **{f"{file_key(name)}*": name for name in fields}}
    if isinstance(value, Mapping):
        return {str(key): str(key) for key in value}
    if isinstance(value, tuple):
        return {str(index): str(index) for index in range(len(value))}
    return {}


def _part(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value[name]
    return value[int(name)] if isinstance(value, tuple) else getattr(value, name)


def _replace(value: Any, names: tuple[str, ...], new: object) -> Any:
    if not names:
        return new(value) if callable(new) else new
    name, rest = names[0], names[1:]
    part = _replace(_part(value, name), rest, new)
    if isinstance(value, Mapping):
        return {**value, name: part}
    if isinstance(value, tuple):
        index = int(name)
        return (*value[:index], part, *value[index + 1 :])
    return dataclasses.replace(value, **{name: part})
