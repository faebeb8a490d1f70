"""Profiles of software that only whole models were timed of: of measured devices, and of all others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.fits.fitting import rounded
from roofline.calibration.fits.pass_fits import multiplied_in
from roofline.calibration.fits.pass_pool import (
    CLOCK_HERTZ,
    EXPONENT,
    JOULES_PER_FLOP,
    Place,
    PooledFit,
    Reached,
)
from roofline.catalog.hardware import load_device
from roofline.provenance import Basis
from roofline.timing.runtime import HostTime, KernelFit, Runtime

__all__ = ["build_whole_model_profiles", "lent_band", "lent_profile", "measured_band", "source_deviation"]

Array = NDArray[np.float64]

_PHASES: Final = ("decode", "prefill")
#: Maker and software whose first passes are long, and how their release is called.
_COLD_ON: Final = ("nvidia", "llama.cpp")
_COLD_RELEASE: Final = "2023"
_COLD_SOFTWARE: Final = "llama.cpp (2023-12 to 2024-02, first pass of a process)"
#: Devices that a source names; more are counted.
_MOST_NAMES: Final = 12
#: Runs on every kind of device.
_EVERYWHERE: Final = "llama.cpp"
#: Errors elsewhere count as much as so many rows of a device, or so many devices of a class.
_SHARED_ROWS: Final = 4.0
_SHARED_DEVICES: Final = 4.0
#: Of a normal distribution, 10 % lie above so many standard deviations.
_DECILE: Final = 1.2816


@dataclass(frozen=True, kw_only=True, eq=False)
class _Errors:
    """Errors of a phase on one device: its rows share the weight of one."""

    place: Place
    phase: str
    values: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class _Unseen:
    """Errors of passes without their device, without its generation, without all of its maker."""

    device: list[_Errors]
    generation: list[_Errors]
    maker: list[_Errors]


def _quantiles(values: Array, weights: Array) -> tuple[float, float]:
    """Return the 10 % and 90 % quantiles of weighted errors, around zero."""
    order = np.argsort(values)
    shares = np.cumsum(weights[order]) - weights[order] / 2.0
    low, high = np.interp((0.1, 0.9), shares / np.sum(weights), values[order])
    return min(float(low), 0.0), max(float(high), 0.0)


def _mixed(own: list[tuple[Array, float]], everyone: list[Array], shared: float) -> tuple[float, float]:
    """Return the band of own errors with their weights, drawn towards everyone's.

    Everyone's have the weight `shared` in all, each device the same, and count with either sign.
    """
    told = [values for values in everyone if len(values)]
    parts = [(values, np.full(len(values), weight / len(values))) for values, weight in own if len(values)]
    for values in told:
        both = np.concatenate((values, -values))
        parts.append((both, np.full(len(both), shared / len(told) / len(both))))
    if not parts:
        return 0.0, 0.0
    return _quantiles(*(np.concatenate(side) for side in zip(*parts, strict=True)))


def source_deviation(pool: PooledFit, phase: str, *, without: str = "") -> float:
    """Return how far one more source of a device lies from what its other sources tell.

    Parameters
    ----------
    without : str
        Device whose sources do not count; empty for none.

    Returns
    -------
    float
        Standard deviation of the logarithm; 0 where no device has two sources.

    Notes
    -----
    Root mean square over sources of the median error of a source left out. Most devices have prompts
    from one table only: those are then predicted from kin.
    """
    middles = [
        float(np.median(errors[own]))
        for part, errors in zip(pool.passes, pool.without_source, strict=True)
        if part.device != without
        for name in dict.fromkeys(part.origin)
        if (own := (part.origin == name) & (part.phase == phase) & np.isfinite(errors)).any()
    ]
    return float(np.sqrt(np.mean(np.square(middles)))) if middles else 0.0


def measured_band(own: Array, everyone: list[Array], *, between: float) -> tuple[float, float]:
    """Return the 10 % and 90 % log-quantiles of passes of a measured device, timed by somebody else.

    Parameters
    ----------
    own : ndarray
        Errors of the device, without the model.
    everyone : list of ndarray
        Of all devices: they decide where rows are few.
    between : float
        As `source_deviation` returns; adds in squares.
    """
    low, high = _mixed([(own, float(len(own)))], everyone, _SHARED_ROWS)
    return -float(np.hypot(low, _DECILE * between)), float(np.hypot(high, _DECILE * between))


def lent_band(kin: list[Array], everyone: list[Array]) -> tuple[float, float]:
    """Return the 10 % and 90 % log-quantiles of passes of an unseen device.

    Parameters
    ----------
    kin, everyone : list of ndarray
        Errors without the device, of each device of its class and of each device there is; of
        classes of no generation, errors without its generation; of none at all, without its maker.

    Notes
    -----
    Wider by ``sqrt(1 + 1/n)`` over n kin, as the spread of one more draw is.
    """
    low, high = _mixed([(values, 1.0) for values in kin], everyone, _SHARED_DEVICES)
    wider = float(np.sqrt(1.0 + 1.0 / max(len(kin), 1)))
    return wider * low, wider * high


def build_whole_model_profiles(pool: PooledFit, date: str) -> dict[str, Runtime]:
    """Return the profiles that whole-model speeds support, by path below the fits folder.

    Notes
    -----
    A family lends each software that runs on it: to every generation of it that was timed, and to the
    rest, with the spread between generations. Devices of families that lend nothing get what all have
    in common.
    """
    profiles: dict[str, Runtime] = {}

    def by_phase(left_out: Sequence[Array]) -> list[_Errors]:
        return [
            _Errors(place=place, phase=phase, values=errors[part.phase == phase])
            for part, place, errors in zip(pool.passes, pool.places, left_out, strict=True)
            for phase in _PHASES
        ]

    kept = by_phase(pool.without_model)
    unseen = _Unseen(
        device=by_phase(pool.without_device),
        generation=by_phase(pool.without_generation),
        maker=by_phase(pool.without_maker),
    )
    between = {phase: source_deviation(pool, phase) for phase in _PHASES}
    everyone = {phase: [one.values for one in kept if one.phase == phase] for phase in _PHASES}
    for part, place in zip(pool.passes, pool.places, strict=True):
        # A phase that was never timed on the device is one of an unseen device.
        bands = _lent_bands(unseen, place) | {
            one.phase: measured_band(one.values, everyone[one.phase], between=between[one.phase])
            for one in kept
            if one.place == place and len(one.values)
        }
        made = _runtime(
            pool.reached(place), bands, framework=place.framework, basis="measured",
            points=len(part.measured_s), source=part.source, engine=part.engine,
            prefilled="prefill" in part.phase, maker=place.maker,
        )  # fmt: skip
        profiles[f"{place.device}/{place.framework}"] = replace(
            made, device=place.device, software=part.software, date=date
        )
    for name, place in _classes(pool).items():
        made = lent_profile(pool, _lent_bands(unseen, place), place)
        profiles[name] = replace(made, device=name.split("/")[1], software=place.framework, date=date)
    return profiles | _cold(profiles, pool)


def _cold(profiles: Mapping[str, Runtime], pool: PooledFit) -> dict[str, Runtime]:
    """Return the profiles of a release whose every prompt was the first pass of its process."""
    makers = {place.family: place.maker for place in pool.places}
    makers |= {place.device: place.maker for place in pool.places}
    found: dict[str, Runtime] = {}
    for name, runtime in profiles.items():
        shelf, _, software = name.removeprefix("transferred/").rpartition("/")
        maker = makers.get(shelf) or makers.get(shelf.rsplit("_", 3)[0])
        if (maker, software) == _COLD_ON:
            host = replace(runtime.host, per_prompt_s=rounded(pool.cold_s))
            found[f"{name}_{_COLD_RELEASE}"] = replace(runtime, software=_COLD_SOFTWARE, host=host)
    return found


def _classes(pool: PooledFit) -> dict[str, Place]:
    """Return every path that gets a profile without a device of its own, and its place in the pool."""
    found: dict[str, Place] = {}
    years: dict[tuple[str, str], int] = {}
    for place in pool.places:
        device = load_device(place.device).value
        for generation in (place.architecture, "any"):
            key = place.family, generation
            years[key] = min(years.get(key, device.year), device.year)
    for place in pool.places:
        known = replace(place, device="", clock_hertz=0.0, joules_per_flop=0.0)
        for (family, generation), year in years.items():
            if family == place.family:
                at = replace(known, architecture="" if generation == "any" else generation)
                found[f"transferred/{family}_any_{generation}_{year}/{place.framework}"] = at
    for software in (_EVERYWHERE, "generic"):
        found[f"transferred/any_professional_any_2024/{software}"] = Place(framework=software)
    return found


def _alike(one: Place, other: Place) -> bool:
    return (one.framework, one.family) == (other.framework, other.family)


def _lent_bands(unseen: _Unseen, place: Place) -> dict[str, tuple[float, float]]:
    """Return the bands of a place that was not timed, by phase, from errors without what was.

    Errors are those without the device where others of its generation ran that phase, else those
    without the generation, and without the maker where not even the family is known.
    """
    bands = {}
    for phase in _PHASES:
        others = [one for one in unseen.device if one.phase == phase and one.place.device != place.device]
        timed = any(
            _alike(one.place, place) and one.place.architecture == place.architecture and len(one.values)
            for one in others
        )
        apart = unseen.generation if place.family else unseen.maker
        left_out = unseen.device if place.architecture and timed else apart
        own = [one for one in left_out if one.phase == phase]
        kin = [one.values for one in own if _alike(one.place, place)]
        bands[phase] = lent_band(kin, [one.values for one in own])
    return bands


def lent_profile(pool: PooledFit, bands: Mapping[str, tuple[float, float]], place: Place) -> Runtime:
    """Return what a place without a device of its own is lent, at no engine's clock and power."""
    kin = [other for other in pool.places if _alike(other, place)]
    same = [other for other in pool.places if other.framework == place.framework]
    lenders = kin or same or list(pool.places)
    parts = [part for part, other in zip(pool.passes, pool.places, strict=True) if other in lenders]
    names = sorted({part.device for part in parts})
    told = ", ".join(names) if len(names) <= _MOST_NAMES else f"{len(names)} devices"
    made = _runtime(
        pool.reached(place), bands, framework=place.framework, basis="transferred",
        points=sum(len(part.measured_s) for part in parts), source=f"carried over from {told}",
        engine=parts[0].engine if kin else "", prefilled=any("prefill" in part.phase for part in parts),
        maker=place.maker,
    )  # fmt: skip
    clock = CLOCK_HERTZ if any(other.clock_hertz > 0.0 for other in lenders) else 0.0
    power = JOULES_PER_FLOP if any(other.joules_per_flop > 0.0 for other in lenders) else 0.0
    return replace(
        made,
        kernels=tuple(replace(fit, joules_per_flop=power) for fit in made.kernels),
        host=replace(made.host, clock_hertz=clock),
    )


def _runtime(
    reached: Reached, bands: Mapping[str, tuple[float, float]], *, framework: str, basis: Basis,
    points: int, source: str, engine: str, prefilled: bool, maker: str,
) -> Runtime:  # fmt: skip
    source += ": whole-model speeds at batch 1" + ("" if prefilled else "; compute_fraction is an estimate")
    deviations = {
        name: rounded(reached.standard_errors[name]) for name in ("memory_fraction", "compute_fraction")
    }

    def kernel(kind: str, format: str, shares: Mapping[str, float]) -> KernelFit:
        return KernelFit(
            kind=kind,
            format=format,
            form="overhead_roofline",
            parameters={**{name: rounded(value) for name, value in shares.items()}, "t0_s": 0.0},
            choices={"exponent": EXPONENT},
            standard_errors=deviations,
            low=0.0,
            high=0.0,
            basis=basis,
            points=points,
            source=source,
        )

    kernels = [kernel("*", "*", reached.other), kernel("gemm", "*", reached.product)]
    kernels.append(kernel("grouped_gemm", "*", reached.experts))
    for format, shares in reached.by_format.items():
        kernels.append(kernel("gemm", format, shares))
        of_experts = {
            name: value * reached.experts[name] / reached.product[name] for name, value in shares.items()
        }
        kernels.append(kernel("grouped_gemm", format, of_experts))
    return Runtime(
        device="",
        software="",
        kernels=tuple(kernels),
        engine=engine,
        runs_as=multiplied_in(framework, maker),
        host=HostTime(
            per_layer_s=rounded(reached.per_layer_s),
            composition={"decode": "sum", "prefill": "sum"},
            low_of={phase: rounded(low) for phase, (low, _) in bands.items()},
            high_of={phase: rounded(high) for phase, (_, high) in bands.items()},
            basis=basis,
            points=points,
            source=source,
        ),
    )
