"""A command whose options cost nothing where they are not given."""

from collections.abc import Callable
from enum import Enum
from typing import Any, Final

import typer
from typer.core import TyperArgument, TyperCommand, TyperOption

__all__ = ["Command", "made_lazy"]


def _as_is(parameter: Any, ctx: Any, value: Any) -> Any:
    """Return text and numbers as a parameter wants them, None for what typer must convert."""
    kind = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    if isinstance(value, Enum) or (kind is str and isinstance(value, str)):
        return value
    if kind is float and isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            raise typer.BadParameter(f"want a number, got {value!r}", ctx=ctx, param=parameter) from None
    return None


def _process(parameter: Any, ctx: Any, value: Any, convert: Callable[[], Any]) -> Any:
    """Return a parameter's value, having asked typer to convert it only where that is needed.

    typer builds a pydantic validator for each parameter it converts, 0.5 ms each for the 55 of a
    command that takes settings, and imports 25 ms of modules before the first.
    """
    absent = value in (None, ()) and not parameter.required
    plain = value if absent else _as_is(parameter, ctx, value)
    if plain is None and not absent:
        return convert()
    return plain if parameter.callback is None else parameter.callback(ctx, parameter, plain)


class _Option(TyperOption):
    """An option of a `Command`."""

    def process_value(self, ctx: Any, value: Any) -> Any:
        return _process(self, ctx, value, lambda: super(_Option, self).process_value(ctx, value))


class _Argument(TyperArgument):
    """An argument of a `Command`."""

    def process_value(self, ctx: Any, value: Any) -> Any:
        return _process(self, ctx, value, lambda: super(_Argument, self).process_value(ctx, value))


_LAZY: Final[dict[Any, Any]] = {TyperOption: _Option, TyperArgument: _Argument}


def made_lazy(parameters: list[Any]) -> list[Any]:
    """Return the same parameters, which from now on convert only what needs it."""
    for parameter in parameters:
        if type(parameter) in _LAZY:
            parameter.__class__ = _LAZY[type(parameter)]
    return parameters


class Command(TyperCommand):
    """A typer command; give it as ``cls``."""

    def get_params(self, ctx: Any) -> list[Any]:
        return made_lazy(super().get_params(ctx))
