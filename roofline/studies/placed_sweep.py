"""Sweeps over where a model lives: every point is placed anew."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Final

from roofline.errors import optional
from roofline.offload_settings import OFFLOADING
from roofline.settings import Settings
from roofline.studies.sweep import Phases, sweep
from roofline.units import parse

__all__ = ["placed_settings", "places", "sweep_placed"]

_FIELDS: Final = frozenset(field.name for field in dataclasses.fields(Settings)) - {"set", "technique"}
_SIZES: Final = ("memory_limit", "io_block")


def places(keys: Iterable[str]) -> bool:
    """Return whether any of these settings says where a model lives."""
    return any(key in OFFLOADING for key in keys)


def placed_settings(axes: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the axes a placement depends on, fields of `Settings`, and the others."""
    outer = {key: values for key, values in axes.items() if key in _FIELDS}
    return outer, {key: values for key, values in axes.items() if key not in outer}


def sweep_placed(
    settings: Settings, axes: Mapping[str, Iterable[Any]], *, phases: Phases = "both", intervals: bool = True
) -> Any:
    """Return a pandas DataFrame with one row per point, the model placed for each.

    Parameters
    ----------
    settings : Settings
        What the axes change.
    axes : mapping of str to iterable
        Values by key: any field of `Settings`, or a dotted path, which is changed after placing.
    phases, intervals
        As in `sweep`.

    Returns
    -------
    pandas.DataFrame
        As of `sweep`; sizes such as `memory_limit` in bytes.

    Raises
    ------
    RooflineError
        If a key or value does not exist, or a point contradicts itself.

    Notes
    -----
    What leaves the near memory depends on sizes, so a limit, batch or format is no factor on arrays: each
    point costs an analysis.
    """
    with optional("a sweep's table", extra="sweep"):
        import pandas
    outer, inner = placed_settings({key: tuple(values) for key, values in axes.items()})
    frames = []
    for chosen in itertools.product(*([(key, value) for value in values] for key, values in outer.items())):
        scenario = dataclasses.replace(
            settings, **{key: _value(key, value) for key, value in chosen}
        ).scenario()
        frame = sweep(scenario, inner, phases=phases, intervals=intervals)
        for position, (key, value) in enumerate(chosen):
            frame.insert(position, key, parse(value, "bytes") if key in _SIZES else value)
        frames.append(frame)
    return pandas.concat(frames, ignore_index=True)


def _value(key: str, value: Any) -> Any:
    """A number as text where the setting is text, such as the pieces of `overlap`."""
    return f"{value:g}" if key == "overlap" and isinstance(value, float) else value
