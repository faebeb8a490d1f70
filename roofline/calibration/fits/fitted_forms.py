"""Which form each kind of operator is fitted with: its parameters, what is believed of them, its choices."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["FITTED_FORMS", "FittedForm", "Parameter", "form_of"]

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
