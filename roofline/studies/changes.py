"""What a study may change in a scenario, and how: one key, one value, one new scenario.

A key is a field of `Settings`, one of `ALIASES`, or a dotted path such as ``memory.hbm.bandwidth``. A
value is what that key takes, or ``"x2"``: so many times what the figure is now.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from roofline.catalog.fits import load_runtime
from roofline.catalog.hardware import load_system
from roofline.catalog.models import load_model
from roofline.catalog.precision import with_formats
from roofline.catalog.sourced import Sourced
from roofline.decoding.speculative import Speculative
from roofline.dotted_path import resolve
from roofline.errors import InvalidSpecError, nearest
from roofline.graph.model import ModelSpec
from roofline.graph.parallelism import Parallelism
from roofline.overrides import full_path, set_value
from roofline.provenance import Citation
from roofline.quantity import Quantity
from roofline.scenario import Scenario
from roofline.settings import RULED
from roofline.speculation import make_acceptance, make_tree
from roofline.techniques.table import apply_techniques
from roofline.units import dimension_of, parse
from roofline.workload_settings import refuse_beyond_context, with_images

__all__ = ["ALIASES", "apply", "factor_of", "figure_paths", "figures_of", "is_numeric"]

#: Key -> what it stands for: one figure of the hardware, or all peaks of the engine that computes.
ALIASES: Final[dict[str, str]] = {
    "bandwidth": "bandwidth of the nearest memory",
    "capacity": "capacity of the nearest memory",
    "peak": "dense peak of the first engine, in every format",
    "link_bandwidth": "bandwidth of the link between devices",
    "host_bandwidth": "bandwidth of the link to the host",
    "storage_bandwidth": "read bandwidth of the storage",
}

_DEVICE: Final = "deployment.system.device"
_WORKLOAD: Final = {
    "batch": "batch_size", "prompt": "prompt_tokens", "output": "output_tokens", "context": "context_tokens",
    "samples": "samples", "prefix": "prefix_tokens", "prefix_shared_by": "prefix_shared_by",
}  # fmt: skip
_FROM_ZERO: Final = ("prefix",)
_DEGREES: Final = ("tensor", "pipeline", "data", "expert")
#: Keys, and beginnings of full paths, on which depends what fits in a memory.
_SIZES: Final = frozenset(
    (*_WORKLOAD, *_DEGREES, "capacity", "model", "hardware", "devices", "weights", "activations", "kv",
     "images", "chunk")
)  # fmt: skip
_OF_SIZE: Final = ("workload.", "deployment.model.", "deployment.precision.", "deployment.parallelism.")
_FACTOR: Final = re.compile(r"[x×]\s*(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)")

#: Last names of numbers that decide which rows there are, so that each value is a run of its own.
_STRUCTURE: Final = frozenset(
    {"prefill_chunk", "pipeline", "depth", "window", "chunk", "width", "latent_size", "exponent"}
)


def factor_of(value: object) -> float | None:
    """Return the factor of text such as ``"x2"`` or ``"x0.5"``, None for anything else."""
    match = _FACTOR.fullmatch(value.strip()) if isinstance(value, str) else None
    return float(match[1]) if match else None


def figure_paths(scenario: Scenario, key: str) -> tuple[str, ...]:
    """Return the full paths of the figures a key names; none for a key that is not about figures.

    Raises
    ------
    InvalidSpecError
        If there is no such key or path; the text names the nearest there is.
    """
    device = scenario.deployment.system.device
    if key in _WORKLOAD:
        return (f"workload.{_WORKLOAD[key]}",)
    if key in ("bandwidth", "capacity"):
        suffix = {"bandwidth": "bytes_per_s", "capacity": "bytes"}[key]
        return (f"{_DEVICE}.memory.{next(iter(device.memory))}.{key}_{suffix}",)
    if key == "peak":
        name, engine = next(iter(device.engine.items()))
        return tuple(
            f"{_DEVICE}.engine.{name}.peak_flops_per_s.{operand}.{accumulate}"
            for operand, rates in engine.peak_flops_per_s.items()
            for accumulate in rates
        )
    if key in ALIASES:
        part = {"link_bandwidth": "peer_link", "host_bandwidth": "host_link", "storage_bandwidth": "storage"}
        if getattr(scenario.deployment.system, part[key]) is None:
            raise InvalidSpecError(f"{key}: {scenario.deployment.system.name} has no {part[key]}")
        figure = "read_bandwidth" if key == "storage_bandwidth" else "bandwidth"
        return (f"deployment.system.{part[key]}.{figure}_bytes_per_s",)
    if key in _STRUCTURAL:
        return ()
    if "." not in key:
        known = (*_WORKLOAD, *ALIASES, *_STRUCTURAL)
        raise InvalidSpecError(f"nothing to change is called {key!r}{nearest(key, known)}")
    names, _ = resolve(scenario, full_path(key))
    return (".".join(names),)


def is_numeric(scenario: Scenario, key: str) -> bool:
    """Return whether a key names figures that may be a whole array of values at once."""
    paths = figure_paths(scenario, key)
    return bool(paths) and all(_may_be_array(scenario, path) for path in paths)


def _may_be_array(scenario: Scenario, path: str) -> bool:
    names, value = resolve(scenario, path)
    missing = value is None and names[-1] == "context_tokens"
    return (missing or isinstance(value, float)) and names[-1] not in _STRUCTURE


def figures_of(scenario: Scenario, key: str, value: object) -> dict[str, Quantity]:
    """Return the new figures, by full path, that a value gives to a key that names figures.

    Parameters
    ----------
    value : object
        A number, an array, text with a unit, or a factor ``"x2"``.

    Raises
    ------
    InvalidSpecError
        If the value does not suit the figure, or one value is given for several.
    """
    _refuse_other_sizes(scenario, key)
    paths = figure_paths(scenario, key)
    factor = factor_of(value)
    if factor is None and len(paths) > 1:
        raise InvalidSpecError(
            f"{key}: want a factor such as 'x2' for {len(paths)} figures, got {value!r}; "
            f"or set one of them, e.g. {paths[0].removeprefix(_DEVICE + '.')}"
        )
    return {path: _figure(scenario, key, path, value, factor) for path in paths}


def _figure(scenario: Scenario, key: str, path: str, value: object, factor: float | None) -> Quantity:
    names, old = resolve(scenario, path)
    if factor is not None:
        if not isinstance(old, float | np.ndarray):
            raise InvalidSpecError(f"{key}: there is no figure to take {value!r} of")
        return old * factor
    dimension = next(filter(None, map(dimension_of, reversed(names))), None)
    if dimension is not None:
        if not isinstance(value, str) and key not in ALIASES and key not in _WORKLOAD:
            raise InvalidSpecError(f"{key}: want text with a unit, or a factor such as 'x2', got {value!r}")
        return _with_unit(key, value, dimension)
    return _number(key, value)


def _with_unit(key: str, value: object, dimension: str) -> Quantity:
    try:
        return parse(value, dimension)
    except InvalidSpecError as error:
        raise InvalidSpecError(f"{key}: {error}") from None


def _number(key: str, value: object) -> Quantity:
    try:
        number = value if isinstance(value, np.ndarray) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InvalidSpecError(f"{key}: want a number or a factor such as 'x2', got {value!r}") from None
    least = 1.0 if key in _WORKLOAD and key not in _FROM_ZERO else 0.0
    numbers = np.ravel(number)
    wrong = numbers[~(np.isfinite(numbers) & (numbers >= least))]
    if wrong.size:
        raise InvalidSpecError(f"{key}: want at least {least:g}, got {wrong[0]:g}")
    return number


def apply(scenario: Scenario, key: str, value: object) -> Scenario:
    """Return the scenario with one key changed.

    Raises
    ------
    RooflineError
        If there is no such key, the value does not suit it, or the scenario becomes impossible.
    """
    if key in _STRUCTURAL:
        _refuse_other_sizes(scenario, key)
        changed = _STRUCTURAL[key](scenario, value)
    elif is_numeric(scenario, key) or factor_of(value) is not None:
        changed = scenario
        for path, figure in figures_of(scenario, key, value).items():
            changed = changed.replace_at(path, figure)
    else:
        changed = set_value(scenario, key, str(value))
    refuse_beyond_context(changed.deployment.model, changed.workload)
    return changed


def _refuse_other_sizes(scenario: Scenario, key: str) -> None:
    """Refuse a change of sizes that would leave a model where it was placed for others."""
    if not scenario.deployment.placement.by_size:
        return
    sizes = key in _SIZES or "capacity" in key or ("." in key and full_path(key).startswith(_OF_SIZE))
    if sizes:
        raise InvalidSpecError(
            f"{key}: the model was placed for the sizes it had; give {key} as a setting beside offload, or "
            "sweep settings with roofline.studies.placed_sweep.sweep_placed, which places it at every point"
        )


def _deployed(scenario: Scenario, **parts: Any) -> Scenario:
    return scenario.replace(deployment=dataclasses.replace(scenario.deployment, **parts))


def _refuse_rules(scenario: Scenario, key: str) -> None:
    """Refuse a change that would drop what format rules said."""
    if any(note.startswith(RULED) for note in scenario.assumptions):
        raise InvalidSpecError(f"{key}: would drop the format rules; give it as a setting beside them")


def _with_model(scenario: Scenario, value: object) -> Scenario:
    _refuse_rules(scenario, "model")
    loaded, old = load_model(str(value)), scenario.deployment
    own, had = loaded.value.precision, old.precision
    if had != old.model.precision:
        published = old.model.precision
        own = with_formats(
            own,
            weights=had.weights if had.weights != published.weights else None,
            activations=had.activations if had.activations != published.activations else None,
            kv=had.kv_cache if had.kv_cache != published.kv_cache else None,
        )
    changed = _deployed(scenario, model=loaded.value, precision=own)
    return changed.replace(citations=_recited(scenario, loaded, of_model=True))


def _with_hardware(scenario: Scenario, value: object) -> Scenario:
    old = scenario.deployment
    loaded = load_system(str(value), devices=float(old.system.device_count))
    software = "datasheet" if old.runtime.software == "datasheet" else None
    runtime = load_runtime(str(value), software)
    return _deployed(scenario, system=loaded.value, runtime=runtime).replace(
        citations=_recited(scenario, loaded, of_model=False)
    )


def _recited(scenario: Scenario, loaded: Sourced[Any], *, of_model: bool) -> tuple[Citation, ...]:
    """Citations with those of the model, or those of the hardware, replaced."""
    fields = {field.name for field in dataclasses.fields(ModelSpec)}
    kept = [cited for cited in scenario.citations if (cited.path.split(".")[0] in fields) != of_model]
    return (*loaded.citations, *kept) if of_model else (*kept, *loaded.citations)


def _with_software(scenario: Scenario, value: object) -> Scenario:
    return _deployed(scenario, runtime=load_runtime(scenario.deployment.runtime.device, str(value)))


def _with_flash(scenario: Scenario, value: object) -> Scenario:
    if not isinstance(value, bool):
        raise InvalidSpecError(f"flash: want true or false, got {value!r}")
    old = scenario.deployment
    policy = old.runtime.policy if old.policy is None else old.policy
    return _deployed(scenario, policy=dataclasses.replace(policy, fused_attention=value))


def _with_format(key: str) -> Callable[[Scenario, object], Scenario]:
    def change(scenario: Scenario, value: object) -> Scenario:
        if key == "weights":
            _refuse_rules(scenario, key)
        precision = with_formats(scenario.deployment.precision, **{key: str(value)})
        return _deployed(scenario, precision=precision)

    return change


def _with_degree(key: str) -> Callable[[Scenario, object], Scenario]:
    def change(scenario: Scenario, value: object) -> Scenario:
        degree = _number(key, value)
        if not isinstance(degree, float) or degree < 1 or degree != int(degree):
            raise InvalidSpecError(f"{key}: want a whole number >= 1, got {value!r}")
        old = scenario.deployment
        if key == "devices":
            parallelism = Parallelism(tensor=degree)
        else:
            parallelism = dataclasses.replace(old.parallelism, **{key: degree})
        if float(parallelism.expert) > float(parallelism.tensor * parallelism.data):
            raise InvalidSpecError(f"{key}: expert exceeds tensor x data at {degree:g}")
        system = dataclasses.replace(old.system, device_count=parallelism.devices)
        parts = max(1, int(float(parallelism.pipeline)))
        return _deployed(scenario, parallelism=parallelism, system=system, microbatches=parts)

    return change


def _with_chunk(scenario: Scenario, value: object) -> Scenario:
    return scenario.replace_at("workload.prefill_chunk", _number("chunk", value))


def _with_images(scenario: Scenario, value: object) -> Scenario:
    workload = with_images(
        scenario.deployment.model, scenario.workload, images=float(np.max(_number("images", value))),
        width=float(np.max(scenario.workload.image_width)),
        height=float(np.max(scenario.workload.image_height)),
    )  # fmt: skip
    refuse_beyond_context(scenario.deployment.model, workload)
    return scenario.replace(workload=workload)


def _with_technique(scenario: Scenario, value: object) -> Scenario:
    asked = [] if value == "none" else str(value).split("+")
    return apply_techniques(scenario, asked)


def _with_tree(scenario: Scenario, value: object) -> Scenario:
    drafted = _drafted(scenario, "speculate")
    return scenario.replace_at("decoding.tree", make_tree(str(value), drafted.acceptance))


def _with_acceptance(scenario: Scenario, value: object) -> Scenario:
    drafted = _drafted(scenario, "accept")
    acceptance = make_acceptance(value if isinstance(value, float) else str(value))
    acceptance.check(drafted.tree)
    return scenario.replace_at("decoding.acceptance", acceptance)


def _drafted(scenario: Scenario, key: str) -> Speculative:
    if not isinstance(scenario.decoding, Speculative):
        raise InvalidSpecError(f"{key}: want a scenario that speculates already, with its drafter and rates")
    return scenario.decoding


#: Keys whose every value is a structure of its own.
_STRUCTURAL: Final[Mapping[str, Callable[[Scenario, object], Scenario]]] = {
    "model": _with_model,
    "hardware": _with_hardware,
    "software": _with_software,
    "flash": _with_flash,
    "chunk": _with_chunk,
    "images": _with_images,
    "technique": _with_technique,
    "speculate": _with_tree,
    "accept": _with_acceptance,
    **{key: _with_format(key) for key in ("weights", "activations", "kv")},
    **{key: _with_degree(key) for key in ("devices", *_DEGREES)},
}
