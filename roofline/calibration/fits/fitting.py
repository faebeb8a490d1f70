"""Fitting latency forms to measured times: robust, with a prior, with errors and intervals."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.measurements.operator_tables import Measurements
from roofline.errors import InvalidSpecError
from roofline.provenance import Basis
from roofline.timing.forms import kernel_time
from roofline.timing.runtime import KernelFit

__all__ = [
    "FITTED_FORMS",
    "FittedForm",
    "Parameter",
    "Solution",
    "cross_validate",
    "fit",
    "form_of",
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


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A parameter of a form and what is believed of it before any measurement.

    Parameters
    ----------
    prior : float
        Centre of the Gaussian prior of its logarithm, as a plain value.
    spread : float
        Standard deviation of that logarithm; of the value itself for an exponent.
    scale : {"log", "plain", "below_one"}
        Exponents are fitted as they are; ratios below one as ``exp(-|p|)``.
    """

    name: str
    prior: float
    spread: float
    scale: str = "log"

    def coordinate(self, value: float) -> float:
        """Return where a value lies on the fitted axis."""
        return value if self.scale == "plain" else float(np.log(value))

    def value(self, coordinate: Array) -> Array:
        """Return the parameter at a point of the fitted axis."""
        if self.scale == "plain":
            return coordinate
        result: Array = np.exp(-np.abs(coordinate) if self.scale == "below_one" else coordinate)
        return result


@dataclass(frozen=True, kw_only=True)
class FittedForm:
    """A form, the parameters to fit and the discrete choices to try."""

    form: str
    parameters: tuple[Parameter, ...]
    choices: tuple[Mapping[str, float], ...] = ({},)
    fixed: Mapping[str, float] = field(default_factory=dict)


# Centres are typical of NVIDIA parts of 2020-2025; each spread is how far frameworks and devices lie
# apart, and is all the pooling there is between them. docs/decisions/0003-latency-forms.md.
_COMPUTE: Final = Parameter(name="compute_fraction", prior=0.76, spread=0.3)
_MEMORY: Final = Parameter(name="memory_fraction", prior=0.84, spread=0.2)
_CACHE: Final = Parameter(name="cache_gain", prior=0.6, spread=0.7)
_GEMM: Final = (
    _COMPUTE,
    _MEMORY,
    Parameter(name="t0_s", prior=2.7e-6, spread=0.7),
    Parameter(name="step_s", prior=0.135e-6, spread=0.5),
    Parameter(name="split_s", prior=2.2e-6, spread=0.6),
    Parameter(name="tile_s", prior=0.5e-6, spread=1.0),
    _CACHE,
)
_QUANTISED: Final = (
    *_GEMM,
    Parameter(name="extra_factor", prior=0.5, spread=1.0),
    Parameter(name="row_s", prior=0.2e-6, spread=1.2),
)
_FOUND_KEYS: Final = Parameter(name="cache_gain", prior=0.55, spread=0.8)
_FULL_TILES: Final = Parameter(name="compute_fraction", prior=0.5, spread=0.3)
_SPLIT: Final = (
    Parameter(name="memory_fraction", prior=0.88, spread=0.2),
    Parameter(name="t0_s", prior=6.7e-6, spread=0.6),
    Parameter(name="item_s", prior=2.5e-6, spread=0.6),
    Parameter(name="step_s", prior=0.9e-6, spread=0.6),
    Parameter(name="combine_s", prior=3.3e-6, spread=0.6),
    _FOUND_KEYS,
    _FULL_TILES,
)
_SEQUENCE: Final = Parameter(name="sequence_s", prior=1e-6, spread=1.5)
_LATENT_SPLIT: Final = (
    Parameter(name="memory_fraction", prior=0.88, spread=0.2),
    Parameter(name="t0_s", prior=9e-6, spread=0.8),
    Parameter(name="item_s", prior=2.7e-6, spread=0.8),
    Parameter(name="step_s", prior=1.35e-6, spread=0.8),
    Parameter(name="combine_s", prior=3.3e-6, spread=0.6),
    _FOUND_KEYS,
    _FULL_TILES,
)
_CAUSAL: Final = (
    Parameter(name="compute_fraction", prior=0.67, spread=0.4),
    Parameter(name="memory_fraction", prior=0.6, spread=0.5),
    Parameter(name="t0_s", prior=6.7e-6, spread=0.6),
    Parameter(name="softmax_s", prior=0.22e-6, spread=1.0),
    Parameter(name="item_s", prior=2.2e-6, spread=0.8),
    _FOUND_KEYS,
)
# From 0.003 (tiles outside the window are not visited) to 1 (visited and masked).
_HEADS: Final = (
    Parameter(name="wide_factor", prior=1.1, spread=0.4),
    Parameter(name="masked_factor", prior=0.03, spread=1.5),
)
_APPEND: Final = Parameter(name="append_factor", prior=0.5, spread=1.0)
_GROUPED: Final = (
    Parameter(name="compute_fraction", prior=0.6, spread=0.5),
    Parameter(name="memory_fraction", prior=0.7, spread=0.3),
    Parameter(name="t0_s", prior=15e-6, spread=0.8),
    Parameter(name="step_s", prior=0.22e-6, spread=0.7),
    Parameter(name="activation_factor", prior=1.5, spread=0.7),
    Parameter(name="cache_gain", prior=0.8, spread=0.6),
    Parameter(name="routed_factor", prior=1.0, spread=1.2),
    Parameter(name="item_s", prior=1e-6, spread=1.0),
    Parameter(name="reread_factor", prior=0.1, spread=1.0),
    # From 10 ns (padded, as most kernels do) to 200 us of a unit (bytes moved one by one).
    Parameter(name="unaligned_s", prior=0.1e-6, spread=2.5),
)
_COLLECTIVE: Final = (
    Parameter(name="latency_s", prior=7.4e-6, spread=0.8),
    Parameter(name="bandwidth_fraction", prior=0.74, spread=0.6),
    Parameter(name="latency_exponent", prior=0.3, spread=0.5, scale="plain"),
    Parameter(name="bandwidth_exponent", prior=0.0, spread=0.5, scale="plain"),
    Parameter(name="fast_latency", prior=0.5, spread=0.7, scale="below_one"),
    Parameter(name="fast_bandwidth", prior=0.5, spread=0.7, scale="below_one"),
    Parameter(name="crossing_factor", prior=1.0, spread=0.5),
)
_ROWWISE: Final = (
    Parameter(name="memory_fraction", prior=0.82, spread=0.5),
    Parameter(name="t0_s", prior=3.3e-6, spread=0.8),
    _CACHE,
)
_LAUNCHES: Final = tuple(
    {"wave_rounding": rounding, "launch_bound": bound} for bound in (0.0, 1.0) for rounding in (0.0, 1.0)
)
_DISPATCHES: Final = tuple(
    {**launch, "dispatch": dispatch, "reread": reread}
    for dispatch in (0.0, 1.0, 2.0)
    for reread in (0.0, 1.0, 2.0)
    for launch in _LAUNCHES
)
_COLLECTIVE_FORM: Final = FittedForm(form="two_protocol_collective", parameters=_COLLECTIVE)
_ROWWISE_FORM: Final = FittedForm(form="rowwise_pass", parameters=_ROWWISE)

_MATRIX_PRODUCT: Final = FittedForm(
    form="tiled_matrix_product",
    parameters=_GEMM,
    choices=tuple({**launch, "tile_growth": 0.5} for launch in _LAUNCHES),
    fixed={"extra_factor": 0.0},
)
_TILED_ATTENTION: Final = FittedForm(
    form="causal_attention",
    parameters=_CAUSAL,
    choices=tuple(
        {"rows": rows, "packed": packed, "windowed": 1.0, "padded": padded}
        for padded in (0.0, 1.0)
        for rows in (64.0, 128.0)
        for packed in (0.0, 1.0)
    ),
)

_MESSAGES: Final = (
    "all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_receive",
    "expert_dispatch", "expert_combine",
)  # fmt: skip

#: The form of each kind of operator.
FITTED_FORMS: Final[dict[str, FittedForm]] = {
    **dict.fromkeys(("gemm", "batched_gemm"), _MATRIX_PRODUCT),
    "quantised_gemm": FittedForm(
        form="tiled_matrix_product",
        parameters=_QUANTISED,
        choices=_DISPATCHES,
    ),
    "grouped_gemm": FittedForm(
        form="grouped_matrix_product",
        parameters=_GROUPED,
        choices=tuple({"untuned": untuned} for untuned in (0.0, 1.0)),
    ),
    "attention_decode": FittedForm(
        form="split_attention",
        parameters=(*_SPLIT, Parameter(name="multi_head_factor", prior=0.74, spread=0.4), _SEQUENCE),
        choices=(
            *(
                {"rows": rows, "window_rows": window_rows, "splits_alone": alone}
                for rows in (16.0, 64.0)
                for window_rows, alone in ((rows, 1.0), (rows, 0.0), (1.0, 1.0))
            ),
            {"rows": 64.0, "window_rows": 1.0, "splits_alone": 0.0, "equal_tiles": 1.0},
        ),
    ),
    "attention_prefill": FittedForm(
        form="causal_attention",
        parameters=(*_CAUSAL, _APPEND, *_HEADS),
        choices=tuple(
            {"rows": rows, "packed": packed, "windowed": 0.0}
            for rows in (64.0, 128.0)
            for packed in (0.0, 1.0)
        ),
    ),
    "encoder_attention": _TILED_ATTENTION,
    "latent_attention_decode": FittedForm(
        form="split_attention",
        parameters=(*_LATENT_SPLIT, _SEQUENCE),
        choices=tuple({"rows": rows, "window_rows": rows} for rows in (16.0, 64.0, 128.0)),
        fixed={"multi_head_factor": 1.0},
    ),
    "latent_attention_prefill": FittedForm(
        form="causal_attention",
        parameters=_CAUSAL,
        choices=tuple({"rows": rows, "packed": 0.0, "windowed": 1.0} for rows in (16.0, 32.0, 64.0, 128.0)),
    ),
    **dict.fromkeys(_MESSAGES, _COLLECTIVE_FORM),
    **dict.fromkeys(("norm", "elementwise", "addition", "quantise"), _ROWWISE_FORM),
}


#: The same on processors, whose kernels for few rows have no tiles to fill: arrays of weights are read once.
#: Centres and spreads are estimates; the ceilings of a machine without a data sheet are its own best rates.
_PROCESSOR_FORM: Final = FittedForm(
    form="overhead_roofline",
    parameters=(
        Parameter(name="compute_fraction", prior=0.7, spread=0.4),
        Parameter(name="memory_fraction", prior=0.7, spread=0.4),
        Parameter(name="t0_s", prior=10e-6, spread=1.0),
    ),
    choices=tuple({"exponent": exponent} for exponent in (1.0, 2.0, 4.0)),
)
_PROCESSOR_FORMS: Final = dict.fromkeys(("gemm", "attention_decode"), _PROCESSOR_FORM)


def form_of(kind: str, format: str, engine: str) -> FittedForm:
    """Return the form a kind and format are fitted with on a kind of engine."""
    if engine == "cpu" and kind in _PROCESSOR_FORMS:
        return _PROCESSOR_FORMS[kind]
    return FITTED_FORMS["quantised_gemm" if kind == "gemm" and format not in ("bf16", "fp32") else kind]


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
