"""A profile of whole passes after somebody's own rows: it departs as far as they ask for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.fits.fitting import robust, rounded
from roofline.calibration.fits.own_fits import VERSIONS
from roofline.calibration.fits.pass_fits import Passes
from roofline.timing.runtime import HostTime, KernelFit, Runtime

__all__ = ["SHARES", "OwnPasses", "band_of", "fit_own_passes", "predicted_s", "whole_pass_profile"]

Array = NDArray[np.float64]

#: What a kernel reaches of the bandwidth and of the peak.
SHARES: Final = ("memory_fraction", "compute_fraction")
_PHASES: Final = ("decode", "prefill")
_FORM: Final = "overhead_roofline"
#: Where no profile of whole passes is there: centre and spread of the logarithms, over the engines of
#: docs/decisions/0003-latency-forms.md, and host time per layer [s].
_UNKNOWN: Final = {"memory_fraction": (0.75, 0.25), "compute_fraction": (0.4, 0.7)}
_UNKNOWN_HOST_S: Final = 8e-5
_EXPONENT: Final = 4.0
#: A factor of two either way where nothing was known before, an estimate.
_UNKNOWN_BAND: Final = float(np.log(2.0))
#: What the pool leaves open of an unseen device's host time, and of a format's bandwidth and peak
#: (standard deviations of logs): docs/decisions/0007-whole-model-transfer.md.
_HOST_SPREAD: Final = 0.4
_FORMAT_SPREADS: Final = (0.1, 0.35)
#: What rows of a device miss by where its other models are known (standard deviations of logs), and as
#: how many own rows that counts.
_ROWS_MISS: Final = {"decode": 0.13, "prefill": 0.24}
_SHARED_ROWS: Final = 4.0
#: As in `robust`.
_OUTLIER: Final = 0.1
#: Models of a third and of three times the sizes in the table, which it lacks.
_SIZES: Final = (1.0 / 3.0, 3.0)
#: Parameters that rows leave more than that part of their variance were not told by them.
_UNTOLD: Final = 0.5
_DECILE: Final = 1.2816


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnPasses:
    """A profile with what rows of its device told.

    Parameters
    ----------
    runtime : Runtime
        With the bands of today.
    errors : ndarray
        Logarithm of measured over predicted time of every pass without its model; of a single model,
        without the row.
    bands_before : mapping of phase to (low, high)
        Of the profile.
    untold : tuple of str
        Parameters that the rows hardly moved.
    """

    runtime: Runtime
    errors: Array
    bands_before: Mapping[str, tuple[float, float]]
    untold: tuple[str, ...]


def whole_pass_profile(base: Runtime) -> Runtime:
    """Return a profile of whole passes to start from: the one there is, or what engines reach in general."""
    if base.kernels and base.host.per_layer_s > 0.0 and {fit.form for fit in base.kernels} == {_FORM}:
        return base
    general = KernelFit(
        kind="*",
        format="*",
        form=_FORM,
        parameters={**{name: middle for name, (middle, _) in _UNKNOWN.items()}, "t0_s": 0.0},
        choices={"exponent": _EXPONENT},
        standard_errors={name: spread for name, (_, spread) in _UNKNOWN.items()},
        low=0.0,
        high=0.0,
        basis="transferred",
        points=0,
        source="",
    )
    host = HostTime(per_layer_s=_UNKNOWN_HOST_S, composition={"decode": "sum", "prefill": "sum"})
    return replace(base, kernels=(general,), host=host)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Departing:
    """Passes under a profile, and departures from it: bandwidth, peak, host, then two of each product.

    Products are told apart by their weight format and by whether they are of experts.
    """

    passes: Passes
    memory_s: Array
    compute_s: Array
    host_s: Array
    fixed_s: Array
    products: tuple[tuple[str, bool], ...]
    prior: Array

    def times(self, point: Array, size: float = 1.0) -> tuple[Array, Array]:
        """Return the time of every pass [s] and the slopes of its logarithm.

        Parameters
        ----------
        size : float
            Work of every kernel as a multiple of its own.
        """
        passes, count = self.passes, len(self.passes.measured_s)
        own = [(passes.format == name) & (passes.grouped == grouped) for name, grouped in self.products]
        faster = [point[share] + sum(point[3 + 2 * at + share] * mask for at, mask in enumerate(own))
                  for share in (0, 1)]  # fmt: skip
        memory = size * passes.launches * self.memory_s * np.exp(-faster[0])
        compute = size * passes.launches * self.compute_s * np.exp(-faster[1])
        longer = np.maximum(memory, compute) + 1e-300
        parts = (memory / longer) ** _EXPONENT, (compute / longer) ** _EXPONENT
        sharp = np.maximum(parts[0] + parts[1], 1e-300)
        kernel_s = longer * sharp ** (1.0 / _EXPONENT)
        host_s = self.host_s * np.exp(point[2])
        whole_s = np.add.reduceat(kernel_s, passes.first) + host_s + self.fixed_s
        slopes = np.zeros((count, len(point)))
        for share, part in enumerate(parts):
            gained = -kernel_s * part / sharp
            slopes[:, share] = np.add.reduceat(gained, passes.first)
            for at, mask in enumerate(own):
                slopes[:, 3 + 2 * at + share] = np.add.reduceat(gained * mask, passes.first)
        slopes[:, 2] = host_s
        return whole_s, slopes / whole_s[:, None]


def _departing(passes: Passes, base: Runtime) -> _Departing:
    """Return passes under a profile; a profile may be off by its errors and by what versions differ by."""
    shares = np.ones((2, len(passes.format)))
    for name in dict.fromkeys(passes.format):
        for grouped in (False, True):
            fit, _ = base.fit_for(_kind(name, grouped), name or "*")
            if fit is not None:
                own = (passes.format == name) & (passes.grouped == grouped)
                shares[:, own] = np.array([fit.parameters[share] for share in SHARES])[:, None]
    products = sorted(
        {(name, bool(of)) for name, of in zip(passes.format, passes.grouped, strict=True) if name}
    )
    doubts = _general(base).standard_errors
    spreads = [float(np.hypot(doubts.get(name, _UNKNOWN[name][1]), VERSIONS)) for name in SHARES]
    return _Departing(
        passes=passes,
        memory_s=passes.memory_s / shares[0],
        compute_s=passes.compute_s / shares[1],
        host_s=base.host.per_layer_s * passes.layers,
        fixed_s=base.host.per_prompt_s * (passes.phase == "prefill"),
        products=tuple(products),
        prior=np.array([*spreads, _HOST_SPREAD, *_FORMAT_SPREADS * len(products)]),
    )


def predicted_s(passes: Passes, base: Runtime) -> Array:
    """Return the time of every pass under a profile of whole passes [s]."""
    model = _departing(passes, base)
    return model.times(np.zeros(len(model.prior)))[0]


def _kind(format: str, grouped: bool) -> str:
    if not format:
        return "*"
    return "grouped_gemm" if grouped else "gemm"


def _general(base: Runtime) -> KernelFit:
    return next(fit for fit in base.kernels if (fit.kind, fit.format) == ("*", "*"))


def fit_own_passes(passes: Passes, base: Runtime, *, source: str) -> OwnPasses:
    """Return a profile that departs from another as far as passes of its device ask for.

    Parameters
    ----------
    base : Runtime
        As `whole_pass_profile` returns.
    source : str
        Where the passes are from.

    Notes
    -----
    Bandwidth, peak and host time depart by factors of their own, and bandwidth and peak of products in
    each format, of experts and not, by more. The logarithms have Gaussian priors around zero, as wide as
    the profile may be off; what rows do not tell stays the profile's. Soft-L1 on log ratios, over what rows
    of a known device miss by.

    The variance of a band is that of rows about the fit, and what the profile was off by before, in the
    part that the rows leave: ``s^2 + (v - s_0^2) mean(J S J') / mean(J P J')`` with v the profile's, s_0 what
    rows of a known device miss by, P and S the covariances of the parameters before and after and J
    slopes of passes of a third and of three times the sizes. ``s^2`` counts the profile's s_0 as four rows.
    A phase without rows keeps its band.
    """
    from scipy.optimize import least_squares

    model = _departing(passes, base)
    scale = np.array([_OUTLIER / _ROWS_MISS[phase] for phase in passes.phase])

    def missed(point: Array) -> Array:
        return np.log(model.times(point)[0] / passes.measured_s)

    def residuals(point: Array) -> Array:
        return np.concatenate((robust(scale * missed(point)), point / model.prior))

    found = least_squares(residuals, np.zeros(len(model.prior)))
    point: Array = np.asarray(found.x)
    residual, slopes = -missed(point), model.times(point)[1]
    trust = (1.0 + (scale * residual / _OUTLIER) ** 2) ** -0.5 * (scale / _OUTLIER) ** 2
    precision = (slopes * trust[:, None]).T @ slopes + np.diag(model.prior**-2.0)
    left: Array = np.asarray(np.linalg.inv(precision))
    errors = _without_model(passes, residual, slopes, left, trust)
    bands_before = {phase: band_of(base, phase) for phase in _PHASES}
    bands = dict(bands_before)
    for phase in dict.fromkeys(passes.phase):
        own = passes.phase == phase
        rows = (_SHARED_ROWS * _ROWS_MISS[phase] ** 2 + float(np.sum((errors * residual)[own]))) / (
            _SHARED_ROWS + int(own.sum())
        )
        other = np.concatenate([model.times(point, size)[1][own] for size in _SIZES])
        part = np.sum((other @ left) * other) / np.sum((other * model.prior) ** 2)
        bands[phase] = _narrowed(bands_before[phase], rows, _ROWS_MISS[phase] ** 2, float(part))
    told = np.diag(left) / model.prior**2
    names = (*SHARES, "per_layer_s")
    return OwnPasses(
        runtime=_departed(base, model, point, left, bands, source),
        errors=errors,
        bands_before=bands_before,
        untold=tuple(name for name, share in zip(names, told[:3], strict=True) if share > _UNTOLD),
    )


def _without_model(passes: Passes, residual: Array, slopes: Array, left: Array, trust: Array) -> Array:
    """Return linearised errors of rows whose model took no part (Cook and Weisberg 1982, section 2.2)."""
    several = len(set(passes.model)) > 1
    folds = passes.model if several else np.arange(len(residual))
    errors = np.empty(len(residual))
    for fold in dict.fromkeys(folds):
        own = np.flatnonzero(folds == fold)
        hat = slopes[own] @ left @ slopes[own].T * trust[own]
        errors[own] = np.linalg.solve(np.eye(len(own)) - hat, residual[own])
    return errors


def band_of(base: Runtime, phase: str) -> tuple[float, float]:
    """Return the log-quantiles of a profile's passes, a factor of two either way where it has none."""
    low, high = base.host.spread(phase)
    return (low, high) if low < high else (-_UNKNOWN_BAND, _UNKNOWN_BAND)


def _narrowed(band: tuple[float, float], rows: float, known: float, left: float) -> tuple[float, float]:
    """Return a band whose variance is that of rows and the part of what lay beyond them that is left."""
    before = ((band[1] - band[0]) / 2.0 / _DECILE) ** 2
    factor = float(np.sqrt((rows + max(before - known, 0.0) * left) / before))
    return factor * band[0], factor * band[1]


def _departed(
    base: Runtime, model: _Departing, point: Array, left: Array,
    bands: Mapping[str, tuple[float, float]], source: str,
) -> Runtime:  # fmt: skip
    passes = model.passes
    points = len(passes.measured_s)
    deviations = {name: rounded(float(np.sqrt(left[at, at]))) for at, name in enumerate(SHARES)}
    fits = {(fit.kind, fit.format): fit for fit in base.kernels}
    places = {(_kind(name, grouped), name): at for at, (name, grouped) in enumerate(model.products)}
    for kind, name in places:
        fit, _ = base.fit_for(kind, name)
        if fit is not None:
            fits.setdefault((kind, name), replace(fit, kind=kind, format=name))

    def moved(fit: KernelFit) -> KernelFit:
        at = places.get((fit.kind, fit.format))
        shares = {
            name: rounded(
                fit.parameters[name]
                * float(np.exp(point[share] + (0.0 if at is None else point[3 + 2 * at + share])))
            )
            for share, name in enumerate(SHARES)
        }
        return replace(
            fit, parameters={**fit.parameters, **shares}, standard_errors=deviations, basis="measured",
            points=points, source=source, clock_hertz=0.0, joules_per_flop=0.0,
        )  # fmt: skip

    host = replace(
        base.host,
        per_layer_s=rounded(base.host.per_layer_s * float(np.exp(point[2]))),
        low_of={phase: rounded(low) for phase, (low, _) in bands.items()},
        high_of={phase: rounded(high) for phase, (_, high) in bands.items()},
        basis="measured",
        points=points,
        source=source,
        clock_hertz=0.0,
    )
    return replace(base, kernels=tuple(moved(fit) for fit in fits.values()), host=host)
