"""What the metrics of whole-model tables are made of: times of passes, put together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofline.quantity import Quantity

__all__ = ["DECODE_RATE", "ITERATION", "METRICS", "Metric", "Passes"]

Array = NDArray[np.float64]

_RATE: Final = {"tok/s": 1.0}
_TIME: Final = {"ms": 1e-3, "s": 1.0, "us": 1e-6, "ms/token": 1e-3}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a metric is made of, and the units it may be stated in.

    Parameters
    ----------
    needs : tuple of str
        Columns it cannot do without.
    rate : bool
        Tokens per second, where high and low change places.
    """

    make: Callable[["Passes"], Quantity]
    needs: tuple[str, ...] = ()
    rate: bool = False

    @property
    def units(self) -> Mapping[str, float]:
        return _RATE if self.rate else _TIME


@dataclass(frozen=True, kw_only=True, eq=False)
class Passes:
    """Times of a group of rows: prefill of the batch and of one request, one decode iteration [s]."""

    batch: Array
    prompt: Array
    output: Array
    whole_prefill_s: Quantity
    one_prefill_s: Quantity
    iteration_s: Quantity


def _loaded(passes: Passes) -> Quantity:
    """Mean time between tokens of a request that waits for the later half of its batch's prefills."""
    waited_s = (passes.whole_prefill_s - passes.one_prefill_s) / 2.0
    return passes.iteration_s + waited_s / passes.output


def _first_token_loaded(passes: Passes) -> Quantity:
    """Its own prefill, after the earlier half of its batch's."""
    return (passes.one_prefill_s + passes.whole_prefill_s) / 2.0


def _served(passes: Passes) -> Quantity:
    return passes.batch * passes.output / (passes.whole_prefill_s + passes.output * passes.iteration_s)


DECODE_RATE: Final = Metric(make=lambda passes: passes.batch / passes.iteration_s, rate=True)
ITERATION: Final = Metric(make=lambda passes: passes.iteration_s)
_LOADED: Final = Metric(make=_loaded, needs=("gen_len",))
_FIRST: Final = Metric(make=lambda passes: passes.whole_prefill_s, needs=("prompt_len",))
_FIRST_LOADED: Final = Metric(make=_first_token_loaded, needs=("prompt_len",))
_SERVED: Final = Metric(make=_served, needs=("batch", "gen_len"), rate=True)

#: Metrics that are predicted, by their name in tables.
METRICS: Final[dict[str, Metric]] = {
    **dict.fromkeys(("decode_tok_s", "decode_tok_s_mean"), DECODE_RATE),
    **dict.fromkeys(("tpot_ms", "itl_ms", "itl_median_ms", "tpot_s"), ITERATION),
    **dict.fromkeys(("tpot_mean_ms", "tpot_median_ms", "itl_mean_ms"), _LOADED),
    **dict.fromkeys(("ttft_ms", "ttft_s"), _FIRST),
    **dict.fromkeys(("ttft_median_ms", "ttft_mean_ms"), _FIRST_LOADED),
    "prefill_tok_s": Metric(
        make=lambda passes: passes.batch * passes.prompt / passes.whole_prefill_s,
        needs=("prompt_len",),
        rate=True,
    ),
    "prefill_ms_per_token": Metric(
        make=lambda passes: passes.whole_prefill_s / passes.prompt, needs=("prompt_len",)
    ),
    "output_tok_s": _SERVED,
}
