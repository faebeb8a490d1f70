"""Scenarios as plain documents and back, exactly, and the files they are read from.

Settings (`model`, `hardware` and the other keys of `Settings`) are written as they are. A whole
`Scenario` is written field by field: defaults are left out, dimensional figures carry their unit,
and a model, system or runtime that is still as the catalogue has it is written as its name.
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, cast, get_args, get_origin, get_type_hints

import numpy as np

from roofline import units
from roofline.catalog.files import find, read_json, read_toml
from roofline.catalog.fits import load_runtime
from roofline.catalog.hardware import load_system
from roofline.catalog.models import load_model
from roofline.catalog.sourced import Sourced, validated
from roofline.errors import FileFormatError, InvalidSpecError, RooflineError
from roofline.graph.model import ModelSpec
from roofline.hardware import System
from roofline.overrides import set_value
from roofline.provenance import Citation
from roofline.scenario import Scenario
from roofline.settings import Settings, settings_of
from roofline.timing.deployment import Deployment
from roofline.timing.runtime import Runtime

__all__ = [
    "decode",
    "encode",
    "encode_whole",
    "merged",
    "read_scenario",
    "read_settings",
]

_UNITS: Final = {
    units.Bytes: "bytes", units.BytesPerSecond: "bytes_per_s", units.FlopsPerSecond: "flops_per_s",
    units.Seconds: "s", units.Hertz: "hertz", units.Watts: "watts",
    units.DollarsPerHour: "dollars_per_hour", units.JoulesPerFlop: "joules_per_flop",
    units.JoulesPerByte: "joules_per_byte",
}  # fmt: skip

#: Stands in a document for a value that the catalogue holds.
_NAME: Final = "catalogue"


def encode(value: Scenario | Settings) -> dict[str, Any]:
    """Return a scenario or settings as nested dicts, lists, text and numbers, defaults left out.

    Raises
    ------
    InvalidSpecError
        If it holds a grid of values, or a number that is not finite.
    """
    if isinstance(value, Settings):
        return encode_whole(value)
    catalogue = _Catalogue()
    document = dict(_encode_fields(value, lambda part, hint: _encode(part, hint, catalogue)))
    if [*value.citations] == catalogue.citations:
        document.pop("citations", None)
    elif not value.citations:
        document["citations"] = []
    return document


def encode_whole(value: Any) -> dict[str, Any]:
    """Return any part of a scenario (a block, a device) with every figure that is not a default."""
    return dict(_encode_fields(value, lambda part, hint: _encode(part, hint, None)))


def decode(document: Mapping[str, Any], where: str = "scenario") -> Scenario:
    """Return the scenario of a document that `encode` made or a user wrote.

    Raises
    ------
    RooflineError
        If a key is unknown, a value impossible, or a catalogue name unknown.
    """
    citations: list[Citation] = []
    loaded = _with_catalogue(document, citations, where)
    if "citations" not in document:
        loaded = {**loaded, "citations": citations}
    return validated(Scenario, loaded, where)


def _encode_fields(value: Any, encoded: Callable[[Any, Any], Any]) -> Any:
    """Yield keys and encoded parts of a dataclass instance where they differ from their defaults."""
    kind = type(value)
    hints = _hints(cast(Hashable, kind))
    in_file = "alias_generator" in getattr(kind, "__pydantic_config__", {})
    for field in dataclasses.fields(kind):
        part = encoded(getattr(value, field.name), hints[field.name])
        default = _default(field)
        droppable = field.name != "kind" and default is not dataclasses.MISSING
        if droppable and part == _encode(default, hints[field.name], None):
            continue
        if part is None:
            raise InvalidSpecError(f"{kind.__name__}.{field.name}: none cannot be written, only left out")
        yield units.file_key(field.name) if in_file else field.name, part


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


@dataclass(kw_only=True)
class _Catalogue:
    """What was found by name so far: its citations, and the device that runtimes are looked up for."""

    citations: list[Citation] = dataclasses.field(default_factory=list)
    device: str = ""


def _encode(value: Any, hint: Any, catalogue: _Catalogue | None) -> Any:
    """One value; without a catalogue every value is written whole."""
    if isinstance(value, ModelSpec | System | Runtime) and catalogue is not None:
        named = _named(value, catalogue)
        if named is not None:
            return named
    if isinstance(value, Deployment) and catalogue is not None:
        catalogue.device = value.system.device.name
    if dataclasses.is_dataclass(value):
        return dict(_encode_fields(value, lambda part, inner: _encode(part, inner, catalogue)))
    if isinstance(value, Mapping):
        inner = _inner(hint)
        return {str(key): _encode(part, inner, catalogue) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return [_encode(part, _inner(hint), catalogue) for part in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if np.ndim(value):
        raise InvalidSpecError("a grid of values cannot be written as a scenario; write one point of it")
    number = float(value)
    if not np.isfinite(number):
        raise InvalidSpecError(f"{number} cannot be written; leave the key out")
    dimension = _dimension(hint)
    return number if dimension is None else units.render(number, dimension)


def _dimension(hint: Any) -> str | None:
    """The unit a number of that type is written with, if any."""
    for candidate in (hint, *(get_args(hint) if not hasattr(hint, "__metadata__") else ())):
        for known, dimension in _UNITS.items():
            if candidate == known:
                return dimension
    return None


def _inner(hint: Any) -> Any:
    """The type of a mapping's values or a tuple's parts."""
    if hasattr(hint, "__metadata__"):
        return _inner(get_args(hint)[0])
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple:
        return arguments[0]
    return arguments[-1] if arguments else Any


def _named(value: ModelSpec | System | Runtime, catalogue: _Catalogue) -> dict[str, Any] | None:
    """A value as the name by which the catalogue gives exactly it; None where it gives another or none."""
    if isinstance(value, ModelSpec):
        reference: dict[str, Any] = {_NAME: value.name}
    elif isinstance(value, System):
        reference = {_NAME: value.name, "devices": float(value.device_count)}
    else:
        reference = {_NAME: catalogue.device, "software": value.software.partition(" ")[0]}
    try:
        found = _load(type(value), reference, "scenario")
    except RooflineError:
        return None
    if _encode(found.value, None, None) != _encode(value, None, None):
        return None
    catalogue.citations += found.citations
    return {**reference, _NAME: found.name}


def _load(kind: type, reference: Mapping[str, Any], where: str) -> Sourced[Any]:
    """What a reference to the catalogue stands for."""
    wanted = {ModelSpec: {_NAME}, System: {_NAME, "devices"}, Runtime: {_NAME, "software"}}[kind]
    unknown = set(reference) - wanted
    if unknown:
        raise FileFormatError(f"{where}: unknown key {min(unknown)!r} beside {_NAME!r}")
    name = reference[_NAME]
    if not isinstance(name, str):
        raise FileFormatError(f"{where}: {_NAME}: want a name, got {name!r}")
    if kind is ModelSpec:
        return load_model(name)
    if kind is System:
        devices = reference.get("devices")
        if devices is not None and not (isinstance(devices, int | float) and devices >= 1):
            raise FileFormatError(f"{where}: devices: want a number >= 1, got {devices!r}")
        return load_system(name, devices=devices)
    runtime = load_runtime(name, reference.get("software"))
    return Sourced(name=find(name, "devices").stem, value=runtime, citations=())


_REFERRED: Final = {"model": ModelSpec, "system": System, "runtime": Runtime}


def _with_catalogue(node: Any, citations: list[Citation], where: str) -> Any:
    """The document with every reference to the catalogue replaced by what it stands for."""
    if isinstance(node, list):
        return [_with_catalogue(part, citations, where) for part in node]
    if not isinstance(node, Mapping):
        return node
    found: dict[str, Any] = {}
    for key, part in node.items():
        if key in _REFERRED and isinstance(part, Mapping) and _NAME in part:
            loaded = _load(_REFERRED[key], part, f"{where}: {key}")
            citations += loaded.citations
            found[key] = loaded.value
        else:
            found[key] = _with_catalogue(part, citations, where)
    return found


def merged(file: str | Path, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the document of a ``.toml`` or ``.json`` file with changes on top; ``set`` is merged.

    Raises
    ------
    RooflineError
        If the file cannot be read or is not a table of keys.
    """
    path, changes = Path(file), changes or {}
    document = read_json(path) if path.suffix == ".json" else read_toml(path)
    if not isinstance(document, Mapping):
        raise FileFormatError(f"{path}: want a table of keys")
    figures = document.get("set", {})
    if not isinstance(figures, Mapping):
        raise FileFormatError(f"{path}: set: want a table of keys, got {figures!r}")
    figures = {**figures, **changes.get("set", {})}
    return {**document, **changes, **({"set": figures} if figures else {})}


def read_settings(file: str | Path, changes: Mapping[str, Any] | None = None) -> Settings:
    """Return the settings of a ``.toml`` or ``.json`` file with changes on top.

    Raises
    ------
    RooflineError
        If the file cannot be read, or holds a whole scenario.
    """
    document = merged(file, changes)
    if not {"model", "hardware"} <= document.keys():
        raise FileFormatError(f"{file}: want the settings model and hardware at least")
    return settings_of(document, Path(file).name)


def read_scenario(file: str | Path, changes: Mapping[str, Any] | None = None) -> Scenario:
    """Return the scenario of a ``.toml`` or ``.json`` file with changes of settings on top.

    Raises
    ------
    RooflineError
        If the file cannot be read or describes nothing possible, or if settings other than ``set``
        are to change a whole scenario.
    """
    path, changes = Path(file), changes or {}
    document = merged(path, changes)
    if "deployment" not in document:
        return read_settings(path, changes).scenario()
    others = sorted(set(changes) - {"set"})
    if others:
        raise InvalidSpecError(
            f"{path.name} is a whole scenario: change it by set (workload.batch_size=32), not by {others[0]}"
        )
    scenario = decode({key: part for key, part in document.items() if key != "set"}, path.name)
    for key, text in document.get("set", {}).items():
        scenario = set_value(scenario, key, text)
    return scenario
