"""Reached peaks and host time of whole passes, fitted to all devices at once.

Software, backends, families and generations share what they have in common; a device departs from
that as far as its own rows ask for. docs/decisions/0007-whole-model-transfer.md.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.fits.fitting import robust
from roofline.calibration.fits.pass_fits import Passes
from roofline.catalog.fits import device_family, device_generation, power_over_peak
from roofline.catalog.hardware import load_device
from roofline.hardware.device import Device
from roofline.timing.runtime import POWER_EXPONENT

__all__ = ["CLOCK_HERTZ", "JOULES_PER_FLOP", "Place", "PooledFit", "Reached", "fit_pool", "place_of"]

Array = NDArray[np.float64]

#: What is fitted, in this order: logarithms of reached bandwidth, reached peak, host time per layer.
_SHARES: Final = ("memory_fraction", "compute_fraction", "per_layer_s")
#: Centres, and standard deviations of the logarithms.
_CENTRE: Final = {"memory_fraction": 0.75, "compute_fraction": 0.35, "per_layer_s": 6e-5}
#: Clock and power over peak that host time and the reached peak are stated at, of engines that have them.
CLOCK_HERTZ: Final = 2e9
JOULES_PER_FLOP: Final = 1.2e-12
#: Standard deviations by which each level departs from those above it, by `_SHARES`: expectation
#: maximisation over the rows of calibrate/campaigns/end_to_end.toml, rounded.
_SPREAD: Final[dict[str, tuple[float, float, float]]] = {
    "all": (0.25, 0.7, 0.8),
    "framework": (0.10, 0.25, 0.4),
    "backend": (0.10, 0.40, 0.4),
    "family": (0.09, 0.25, 0.5),
    "architecture": (0.10, 0.30, 0.5),
    "device": (0.09, 0.25, 0.3),
    "format": (0.08, 0.45, 0.0),
    "format of backend": (0.08, 0.30, 0.0),
    "format of device": (0.06, 0.18, 0.0),
    "not a product": (0.30, 0.70, 0.0),
    "experts": (0.20, 0.50, 0.0),
}
#: First passes of a process take this much longer [s], and the spread of its logarithm.
_COLD: Final = (0.03, 1.0)
#: Formats that run the same kernels but for the layout of their scales.
_ALIKE: Final = {
    "fp16": "bf16", "q4_1": "q4_0", "q5_1": "q5_0", "q6_k": "q4_k_m", "q5_k_m": "q4_k_m", "q4_k_s": "q4_k_m",
    "int4_g32": "int4", "int4_g64": "int4", "int8_wo": "int8",
}  # fmt: skip
#: Close to the plain maximum.
EXPONENT: Final = 4.0
#: As in `robust`.
_OUTLIER: Final = 0.1
_STEPS: Final = 40
_ENOUGH: Final = 1e-5


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where passes were timed, as the pool knows it; empty names stand for what is not known.

    Parameters
    ----------
    framework : str
        Software without its version.
    maker : str
        Of the engine; ``cpu`` for processors.
    family, architecture : str
        As `device_family` and `device_generation` of `roofline.catalog.fits` say.
    device : str
        Catalogue name.
    clock_hertz, joules_per_flop : float
        Of the engine: its clock [Hz], and the card's power over its peak [J/FLOP]; 0 where not known.
    """

    framework: str
    maker: str = ""
    family: str = ""
    architecture: str = ""
    device: str = ""
    clock_hertz: float = 0.0
    joules_per_flop: float = 0.0

    @property
    def per_layer_offset(self) -> float:
        """By how much the logarithm of host time lies above that at `CLOCK_HERTZ`: it counts cycles."""
        return -float(np.log(self.clock_hertz / CLOCK_HERTZ)) if self.clock_hertz > 0.0 else 0.0

    @property
    def compute_offset(self) -> float:
        """By how much the logarithm of the reached peak lies above that at `JOULES_PER_FLOP`."""
        stated = self.joules_per_flop / JOULES_PER_FLOP
        return POWER_EXPONENT * float(np.log(stated)) if stated > 0.0 else 0.0

    def keys(self) -> dict[str, str]:
        """Return the name of each level that is known."""
        named = {
            "all": "all",
            "framework": self.framework.partition("_")[0],
            "backend": self.maker and f"{self.framework} {self.maker}",
            "family": self.family,
            "architecture": self.architecture and f"{self.maker} {self.architecture}",
            "device": self.device and f"{self.framework} {self.device}",
        }
        return {level: name for level, name in named.items() if name}


def place_of(device: Device, name: str, *, framework: str, engine: str = "") -> Place:
    """Return the place of a device's engine, its first where none is named."""
    family = device_family(device, engine)
    return Place(
        framework=framework,
        maker=family.partition("_")[0],
        family=family,
        architecture=device_generation(device),
        device=name,
        clock_hertz=float(device.engine.get(engine, next(iter(device.engine.values()))).clock_hertz),
        joules_per_flop=power_over_peak(device, engine),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Reached:
    """Shares and host time at a place.

    Parameters
    ----------
    other, product, experts : mapping of str to float
        memory_fraction and compute_fraction of kernels that multiply with no weights, that do, and
        that multiply with those of experts.
    by_format : mapping of format to mapping
        Of products with weights in that format.
    per_layer_s : float
        Host time [s].
    standard_errors : mapping of str to float
        Of the logarithms of memory_fraction, compute_fraction and per_layer_s.
    """

    other: Mapping[str, float]
    product: Mapping[str, float]
    experts: Mapping[str, float]
    by_format: Mapping[str, Mapping[str, float]]
    per_layer_s: float
    standard_errors: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    """All passes and kernels, one after the other, and which parameter each depends on."""

    compute_s: Array
    memory_s: Array
    launches: Array
    of_pass: NDArray[np.int64]
    layers: Array
    cold: NDArray[np.bool_]
    fitted: NDArray[np.bool_]
    measured_s: Array
    memory: Any
    compute: Any
    host: Any
    compute_offset: Array
    host_offset: Array
    cold_column: int
    columns: Mapping[tuple[str, str, str], int]
    centre: Array
    width: Array


def _levels(passes: Passes, place: Place) -> list[tuple[str, list[str]]]:
    """Return the level and the name of every kernel's departures; an empty name departs from nothing."""
    count = len(passes.format)
    formats = [_ALIKE.get(name, name) for name in passes.format]
    keys = place.keys()
    found = [(level, [name] * count) for level, name in keys.items()]
    backend, device = keys["backend"], keys["device"]
    found.append(("format", formats))
    found.append(("format of backend", [name and f"{backend} {name}" for name in formats]))
    found.append(("format of device", [name and f"{device} {name}" for name in formats]))
    found.append(("not a product", ["" if name else "other" for name in formats]))
    found.append(("experts", ["experts" if grouped else "" for grouped in passes.grouped]))
    return found


def _rows(parts: Sequence[Passes], places: Sequence[Place]) -> _Rows:
    from scipy.sparse import csr_matrix

    columns: dict[tuple[str, str, str], int] = {}
    centre: list[float] = []
    width: list[float] = []

    def column(share: str, level: str, name: str) -> int:
        key = share, level, name
        if key not in columns:
            columns[key] = len(columns)
            centre.append(float(np.log(_CENTRE[share])) if level == "all" else 0.0)
            width.append(_SPREAD[level][_SHARES.index(share)])
        return columns[key]

    entries: dict[str, tuple[list[int], list[int]]] = {share: ([], []) for share in _SHARES}
    kernel = row = 0
    of_pass: list[Array] = []
    for passes, place in zip(parts, places, strict=True):
        for level, names in _levels(passes, place):
            for share in _SHARES[:2]:
                rows, cols = entries[share]
                told = [(kernel + index, name) for index, name in enumerate(names) if name]
                rows += [index for index, _ in told]
                cols += [column(share, level, name) for _, name in told]
        rows, cols = entries["per_layer_s"]
        for level, name in place.keys().items():
            rows += [*range(row, row + len(passes.measured_s))]
            cols += [column("per_layer_s", level, name)] * len(passes.measured_s)
        sizes = np.diff(np.append(passes.first, len(passes.format)))
        of_pass.append(np.repeat(np.arange(row, row + len(passes.measured_s)), sizes))
        kernel, row = kernel + len(passes.format), row + len(passes.measured_s)
    cold_column = len(columns)
    centre.append(float(np.log(_COLD[0])))
    width.append(_COLD[1])

    def matrix(share: str, size: int) -> Any:
        rows, cols = entries[share]
        return csr_matrix((np.ones(len(rows)), (rows, cols)), shape=(size, len(centre)))

    def together(name: str) -> Any:
        return np.concatenate([getattr(passes, name) for passes in parts])

    return _Rows(
        compute_s=together("compute_s"),
        memory_s=together("memory_s"),
        launches=together("launches"),
        of_pass=np.concatenate(of_pass),
        layers=together("layers"),
        cold=together("cold"),
        fitted=together("fitted"),
        measured_s=together("measured_s"),
        memory=matrix("memory_fraction", kernel),
        compute=matrix("compute_fraction", kernel),
        host=matrix("per_layer_s", row),
        compute_offset=np.repeat(
            [place.compute_offset for place in places], [len(passes.format) for passes in parts]
        ),
        host_offset=np.repeat(
            [place.per_layer_offset for place in places], [len(passes.measured_s) for passes in parts]
        ),
        cold_column=cold_column,
        columns=columns,
        centre=np.array(centre),
        width=np.array(width),
    )


def _predicted(rows: _Rows, point: Array) -> tuple[Array, Any]:
    """Return the time of every pass [s] and the slopes of its logarithm."""
    from scipy.sparse import csr_matrix, diags

    memory = rows.launches * rows.memory_s * np.exp(-(rows.memory @ point))
    compute = rows.launches * rows.compute_s * np.exp(-(rows.compute @ point) - rows.compute_offset)
    longer = np.maximum(memory, compute) + 1e-300
    of_memory, of_compute = (memory / longer) ** EXPONENT, (compute / longer) ** EXPONENT
    sharp = np.maximum(of_memory + of_compute, 1e-300)
    kernel_s = longer * sharp ** (1.0 / EXPONENT)
    count = len(rows.measured_s)
    host_s = rows.layers * np.exp(rows.host @ point + rows.host_offset)
    cold_s = np.where(rows.cold, np.exp(point[rows.cold_column]), 0.0)
    whole_s = np.bincount(rows.of_pass, weights=kernel_s, minlength=count) + host_s + cold_s
    gather = csr_matrix(
        (np.ones(len(kernel_s)), (rows.of_pass, np.arange(len(kernel_s)))), shape=(count, len(kernel_s))
    )
    slopes = (
        gather
        @ (
            diags(-kernel_s * of_memory / sharp) @ rows.memory
            + diags(-kernel_s * of_compute / sharp) @ rows.compute
        )
        + diags(host_s) @ rows.host
    )
    dense = (diags(1.0 / whole_s) @ slopes).toarray()
    dense[:, rows.cold_column] += cold_s / whole_s
    return whole_s, dense


def _solved(rows: _Rows, keep: NDArray[np.bool_], start: Array) -> tuple[Array, Array]:
    """Return the best point and the inverse of its covariance, from the passes that are kept."""
    weight = rows.width**-2.0

    def cost(point: Array, missed: Array) -> float:
        return float(np.sum(robust(missed[keep]) ** 2) + np.sum((point - rows.centre) ** 2 * weight))

    point, damping = start, 1e-3
    whole_s, slopes = _predicted(rows, point)
    missed = np.log(whole_s / rows.measured_s)
    now = cost(point, missed)
    curvature = np.diag(weight)
    for _ in range(_STEPS):
        own = slopes[keep]
        trust = (1.0 + (missed[keep] / _OUTLIER) ** 2) ** -0.5 / _OUTLIER**2
        curvature = (own * trust[:, None]).T @ own + np.diag(weight)
        uphill = own.T @ (trust * missed[keep]) + weight * (point - rows.centre)
        before = now
        while damping < 1e6:
            moved = point - np.linalg.solve(curvature + damping * np.diag(np.diag(curvature)), uphill)
            moved_s, moved_slopes = _predicted(rows, moved)
            then = cost(moved, np.log(moved_s / rows.measured_s))
            if then <= now:
                point, slopes, now = moved, moved_slopes, then
                missed = np.log(moved_s / rows.measured_s)
                damping /= 5.0
                break
            damping *= 4.0
        if before - now <= _ENOUGH * max(before, 1.0):
            break
    return point, curvature


@dataclass(frozen=True, kw_only=True, eq=False)
class PooledFit:
    """All devices' passes with the parameters they share, and errors without what they are scored on.

    Parameters
    ----------
    passes, places : tuple
        One entry for each software on each device.
    without_model, without_source, without_device, without_generation, without_maker : tuple of ndarray
        Logarithm of measured over predicted time of every pass, fitted without its model on that
        device, without its table on that device (nan where it is the only one), without the device,
        without all devices of its generation, without all of its maker.
    """

    passes: tuple[Passes, ...]
    places: tuple[Place, ...]
    without_model: tuple[Array, ...] = ()
    without_source: tuple[Array, ...] = ()
    without_device: tuple[Array, ...] = ()
    without_generation: tuple[Array, ...] = ()
    without_maker: tuple[Array, ...] = ()
    _columns: Mapping[tuple[str, str, str], int]
    _point: Array
    _covariance: Array

    def reached(self, place: Place) -> Reached:
        """Return what is reached at a place; levels that no row has told of depart from nothing."""
        keys = place.keys()
        base = {share: [(share, level, name) for level, name in keys.items()] for share in _SHARES}
        offset = dict(zip(_SHARES, (0.0, place.compute_offset, place.per_layer_offset), strict=True))

        def value(share: str, more: Iterable[tuple[str, str]] = ()) -> float:
            names = base[share] + [(share, level, name) for level, name in more]
            at = [self._columns[name] for name in names if name in self._columns]
            return float(np.exp(np.sum(self._point[at]) + offset[share]))

        def shares(*more: tuple[str, str]) -> dict[str, float]:
            return {share: value(share, more) for share in _SHARES[:2]}

        multiplied = self._multiplied_by(keys["framework"])
        plain = {"compute_fraction": value("compute_fraction")}

        def of_format(format: str) -> dict[str, float]:
            alike = _ALIKE.get(format, format)
            more = [("format", alike)]
            if "backend" in keys:
                more.append(("format of backend", f"{keys['backend']} {alike}"))
            if "device" in keys:
                more.append(("format of device", f"{keys['device']} {alike}"))
            found = shares(*more)
            return {**found, **plain} if multiplied and alike not in multiplied else found

        timed = {str(name) for part in self.passes for name in part.format if name}
        formats = sorted(timed | {name for name, alike in _ALIKE.items() if alike in timed})
        return Reached(
            other=shares(("not a product", "other")),
            product=shares(),
            experts=shares(("experts", "experts")),
            by_format={format: of_format(format) for format in formats},
            per_layer_s=value("per_layer_s"),
            standard_errors={share: self._deviation(share, place) for share in _SHARES},
        )

    def _multiplied_by(self, framework: str) -> set[str]:
        """Return the weight formats of a framework's timed prefills; none where there are no such.

        What narrow weights are multiplied in is the framework's choice: int4 is 8-bit products on a
        neural engine and 16-bit ones, unpacked first, on a GPU.
        """
        found: set[str] = set()
        for part, place in zip(self.passes, self.places, strict=True):
            if place.keys()["framework"] == framework:
                sizes = np.diff(np.append(part.first, len(part.format)))
                prefilled = part.format[np.repeat(part.phase == "prefill", sizes)]
                found |= {_ALIKE.get(name, name) for name in prefilled.tolist() if name}
        return found

    @property
    def cold_s(self) -> float:
        """Return what the first pass of a process takes more [s]."""
        return float(np.exp(self._point[len(self._columns)]))

    def _deviation(self, share: str, place: Place) -> float:
        """Return the standard deviation of a share's logarithm, unseen levels included."""
        keys = place.keys()
        seen = [
            self._columns[share, level, name]
            for level, name in keys.items()
            if (share, level, name) in self._columns
        ]
        blank = [
            _SPREAD[level][_SHARES.index(share)]
            for level in ("framework", "backend", "family", "architecture", "device")
            if (share, level, keys.get(level, "")) not in self._columns
        ]
        known = float(np.sum(self._covariance[np.ix_(seen, seen)]))
        return float(np.sqrt(known + np.sum(np.square(blank))))


def fit_pool(parts: Sequence[Passes], *, scored: bool = True) -> PooledFit:
    """Return the shares of peak and bandwidth and the host time that explain the passes of all devices.

    Parameters
    ----------
    scored : bool
        Whether to find the errors without what they are scored on; without them there are none.

    Notes
    -----
    ``t = sum over kernels of | F / (e_c P), B / (e_m W) |_4 + c layers``; the logarithms of e_m, e_c
    and c are what clock and power explain (c counts cycles, e_c of cards grows with the square root of
    power over peak) and sums of departures of the framework, its backend (framework and maker), the device's
    family, generation and the device itself, of the weight format in general, in the backend and on
    the device, of experts and of kernels without weights. Each departure has a Gaussian prior around
    zero, so a level of few rows hardly departs (partial pooling, Gelman and Hill 2007, chapter 12).
    Soft-L1 on log ratios. Passes of several sequences are scored and not fitted. Passes marked cold
    take a constant time more.

    Errors without a model are linearised: ``e = (I - H)^-1 r`` over the rows left out, with H their
    block of the hat matrix (Cook and Weisberg 1982, section 2.2). Without a device, a generation or a
    maker everything is fitted again.
    """
    places = tuple(
        place_of(load_device(part.device).value, part.device, framework=part.framework, engine=part.engine)
        for part in parts
    )
    rows = _rows(parts, places)
    point, curvature = _solved(rows, rows.fitted, rows.centre)
    covariance: Array = np.asarray(np.linalg.inv(curvature), dtype=np.float64)
    if not scored:
        return PooledFit(
            passes=tuple(parts), places=places, _columns=rows.columns, _point=point, _covariance=covariance
        )
    whole_s, slopes = _predicted(rows, point)
    residual = np.log(rows.measured_s / whole_s)
    trust = rows.fitted * (1.0 + (residual / _OUTLIER) ** 2) ** -0.5 / _OUTLIER**2
    sizes = [len(part.measured_s) for part in parts]
    starts = np.cumsum([0, *sizes])

    def away(labels: Sequence[str]) -> list[Array]:
        """Return the errors of each part where all of the same label took no part."""
        label = np.repeat(labels, sizes)
        found = np.empty(len(label))
        for name in dict.fromkeys(labels):
            here = label == name
            other, _ = _solved(rows, rows.fitted & ~here, point)
            found[here] = np.log(rows.measured_s / _predicted(rows, other)[0])[here]
        return np.split(found, starts[1:-1])

    def held_out(at: NDArray[np.int64], folds: NDArray[np.object_]) -> Array:
        errors = np.empty(len(at))
        for fold in dict.fromkeys(folds):
            here = np.flatnonzero(folds == fold)
            own = at[here]
            hat = slopes[own] @ covariance @ slopes[own].T * trust[own]
            errors[here] = np.linalg.solve(np.eye(len(own)) - hat, residual[own])
        return errors

    without_model, without_source = [], []
    for part, start in zip(parts, starts[:-1], strict=True):
        at = np.arange(start, start + len(part.measured_s))
        several = len(set(part.origin)) > 1
        without_model.append(held_out(at, part.model))
        without_source.append(held_out(at, part.origin) if several else np.full(len(at), np.nan))
    return PooledFit(
        passes=tuple(parts),
        places=places,
        without_model=tuple(without_model),
        without_source=tuple(without_source),
        without_device=tuple(away([part.device for part in parts])),
        without_generation=tuple(away([place.keys().get("architecture", place.device) for place in places])),
        without_maker=tuple(away([place.maker for place in places])),
        _columns=rows.columns,
        _point=point,
        _covariance=covariance,
    )
