"""Fitting latency forms to measured times: robust, with a prior, with errors and intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.fits.fitted_forms import FittedForm, form_of
from roofline.calibration.measurements.operator_tables import Measurements
from roofline.errors import InvalidSpecError
from roofline.provenance import Basis
from roofline.timing.forms import kernel_time
from roofline.timing.runtime import KernelFit

__all__ = [
    "Solution",
    "cross_validate",
    "fit",
    "kernel_fit",
    "log_errors",
    "predict",
    "quantiles",
    "refit",
    "robust",
    "rounded",
    "stored_fit",
]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """The best parameters found, with the covariance of their coordinates."""

    parameters: Mapping[str, float]
    choices: Mapping[str, float]
    standard_errors: Mapping[str, float]
    loss: float


def predict(
    form: FittedForm,
    data: Measurements,
    parameters: Mapping[str, float | Array],
    choices: Mapping[str, float],
    *,
    warm: bool = True,
) -> Array:
    """Return the form's times for measured shapes [s], never below the datasheet bound.

    Parameters
    ----------
    warm : bool
        Timing loops reuse their operands, so measurements are scored warm.
    """
    times = kernel_time(
        form.form,
        work=data.work,
        ceilings=data.ceilings,
        parameters={**form.fixed, **parameters},
        choices=choices,
        warm=warm,
    )
    return np.maximum(np.asarray(times, dtype=np.float64), 1e-9)


#: Logarithmic residual beyond which a row is treated as an outlier: soft-L1 turns linear there.
_OUTLIER: Final = 0.1
_MOST_STEPS: Final = 40
_DIFFERENCE: Final = 1e-4
_CLIPPED: Final = 0.5
#: Of more choices than that, rows too few to tell them apart take the first four; others try all on
#: every n-th row in few steps, and four go on.
_MOST_CHOICES: Final = 8
_TRIED_ROWS: Final = 120
_TRIED_STEPS: Final = 5
_KEPT_CHOICES: Final = 4
_AS_GOOD: Final = 1.01  # rows that do not tell choices apart leave the plainest


def robust(residual: Array) -> Array:
    """Return residuals whose squares are soft-L1: quadratic inside `_OUTLIER`, linear beyond."""
    scaled = residual / _OUTLIER
    result: Array = np.sign(scaled) * np.sqrt(2.0 * (np.sqrt(1.0 + scaled * scaled) - 1.0))
    return result


def fit(
    data: Measurements,
    *,
    centre: Mapping[str, float] | None = None,
    choices: tuple[Mapping[str, float], ...] | None = None,
    prior_scale: float = 1.0,
) -> Solution:
    """Return the parameters and choices that describe measured times best.

    Parameters
    ----------
    centre : mapping, optional
        Values to centre the prior on instead of the form's own, such as other devices' parameters.
    choices : tuple of mapping, optional
        Choices to try instead of the form's.
    prior_scale : float
        Factor on every spread of the prior.

    Notes
    -----
    Minimises soft-L1 of the logarithmic residual, in units of 0.1, weighted by
    ``clip((t/median t)**0.25, 0.5, 3)`` so that slow kernels, which carry a model's time, count a
    little more, plus the Gaussian prior. Choices are enumerated; the first wins whose mean residual,
    clipped at 0.5, is within 1 % of the least, the plainest coming first. Of more than eight, the best four
    on some 120 rows go on, or the first four where there are fewer rows. Standard errors are those of the
    linearised problem, prior included.

    References
    ----------
    Huber 1964, doi:10.1214/aoms/1177703732 (robust loss); docs/decisions/0003-latency-forms.md.
    """
    tried = choices or form_of(data.kind, data.format, data.engine).choices
    if len(tried) > _MOST_CHOICES and len(data.times_s) < _TRIED_ROWS:
        tried = tried[:_KEPT_CHOICES]
    elif len(tried) > _MOST_CHOICES:
        sample = np.arange(len(data.times_s)) % (len(data.times_s) // _TRIED_ROWS) == 0
        few = data.rows(sample)
        found = [_solve(few, one, centre, prior_scale, _TRIED_STEPS) for one in tried]
        worst = sorted(one.loss for one in found)[_KEPT_CHOICES - 1]
        tried = tuple(one.choices for one in found if one.loss <= worst)
    if not tried:
        raise InvalidSpecError(f"{data.kind}: no choices to fit")
    solved = [_solve(data, one, centre, prior_scale, _MOST_STEPS) for one in tried]
    least = min(one.loss for one in solved)
    return next(one for one in solved if one.loss <= _AS_GOOD * least)


def _solve(
    data: Measurements,
    chosen: Mapping[str, float],
    centre: Mapping[str, float] | None,
    prior_scale: float,
    most_steps: int,
) -> Solution:
    """Return the best parameters under one set of choices."""
    from scipy.optimize import least_squares

    form = form_of(data.kind, data.format, data.engine)
    names = [parameter.name for parameter in form.parameters]
    start = np.array(
        [
            parameter.coordinate((centre or {}).get(parameter.name, parameter.prior))
            for parameter in form.parameters
        ]
    )
    spread = prior_scale * np.array([parameter.spread for parameter in form.parameters])
    target = np.log(data.times_s)
    weight = np.sqrt(np.clip((data.times_s / np.median(data.times_s)) ** 0.25, 0.5, 3.0))

    def values(points: Array) -> dict[str, float | Array]:
        """Parameters at one point, or at several on a leading axis."""
        return {
            parameter.name: parameter.value(points[..., column, None])
            for column, parameter in enumerate(form.parameters)
        }

    def residuals(points: Array) -> Array:
        predicted = predict(form, data, values(points), chosen)
        fitted = robust(np.log(predicted) - target) * weight
        return np.concatenate((fitted, (points - start) / spread), axis=-1)

    def jacobian(point: Array) -> Array:
        steps = _DIFFERENCE * np.eye(len(point))
        ends = residuals(np.concatenate((point + steps, point - steps)))
        return (ends[: len(point)] - ends[len(point) :]).T / (2.0 * _DIFFERENCE)

    found = least_squares(
        residuals,
        start,
        jac=jacobian,
        x_scale=np.maximum(spread, 0.05),
        max_nfev=most_steps,
    )
    parameters = {
        parameter.name: float(parameter.value(found.x[column]))
        for column, parameter in enumerate(form.parameters)
    }
    misses = np.abs(np.log(predict(form, data, parameters, chosen)) - target)
    variance = 2.0 * found.cost / max(len(target) - len(names), 1)
    slopes = np.asarray(found.jac)
    errors = np.sqrt(np.diag(np.linalg.pinv(slopes.T @ slopes) * variance))
    return Solution(
        parameters=parameters,
        choices=chosen,
        standard_errors=dict(zip(names, errors.tolist(), strict=True)),
        loss=float(np.mean(np.minimum(misses, _CLIPPED))),
    )


def refit(data: Measurements, start: Solution) -> Solution:
    """Return what few rows of a device make of the parameters that a profile has for it.

    Notes
    -----
    The prior is centred on the profile, whose choices stay, and as wide as the form's. Half as wide is no
    better on devices left out: products 8.4 % with 15 points against 8.3, experts 16.1 against 15.3.
    """
    return fit(data, centre=start.parameters, choices=(start.choices,))


def log_errors(data: Measurements, solution: Solution) -> Array:
    """Return the logarithm of measured over predicted time, row by row."""
    form = form_of(data.kind, data.format, data.engine)
    return np.log(data.times_s / predict(form, data, solution.parameters, solution.choices))


_FOLDS: Final = 4


def cross_validate(data: Measurements, *, choices: tuple[Mapping[str, float], ...] | None = None) -> Array:
    """Return each row's logarithmic error under a fit that has not seen its shape family.

    Families are dealt to four folds; parameters and choices are fitted anew for each.
    """
    fold = data.family % _FOLDS
    errors = np.full(len(fold), np.nan)
    for left_out in np.unique(fold):
        held = fold == left_out
        if held.all():
            raise InvalidSpecError(f"{data.kind} on {data.device}: one shape family cannot be held out")
        errors[held] = log_errors(data.rows(held), fit(data.rows(~held), choices=choices))
    return errors


_FEW_ROWS: Final = 30
_NORMAL_DECILE: Final = 1.2816


def quantiles(errors: Array) -> tuple[float, float]:
    """Return the 10 % and 90 % quantiles, from the standard deviation below 30 rows."""
    if len(errors) < _FEW_ROWS:
        half = _NORMAL_DECILE * float(np.std(errors, ddof=1))
        middle = float(np.median(errors))
        return middle - half, middle + half
    low, high = np.quantile(errors, (0.1, 0.9))
    return float(low), float(high)


def rounded(value: float) -> float:
    """Return a value with the four significant digits that files carry."""
    return float(f"{value:.4g}")


def kernel_fit(data: Measurements, solution: Solution, errors: Array) -> KernelFit:
    """Return the fit of a device's own measurements as it is stored."""
    return stored_fit(
        data,
        solution,
        quantiles(errors),
        basis="measured",
        points=len(data.times_s),
        source=f"{data.source}: {data.software}, {data.kernel}",
    )


def stored_fit(
    data: Measurements,
    solution: Solution,
    band: tuple[float, float],
    *,
    basis: Basis,
    points: int,
    source: str,
) -> KernelFit:
    """Return a fit as it is stored: four significant digits, with its band and its origin."""
    form = form_of(data.kind, data.format, data.engine)
    low, high = band
    return KernelFit(
        kind=data.kind,
        format=data.format,
        form=form.form,
        parameters={
            name: rounded(value) for name, value in sorted({**form.fixed, **solution.parameters}.items())
        },
        choices=dict(solution.choices),
        standard_errors={name: rounded(value) for name, value in sorted(solution.standard_errors.items())},
        low=rounded(low),
        high=rounded(high),
        basis=basis,
        points=points,
        source=source,
    )
