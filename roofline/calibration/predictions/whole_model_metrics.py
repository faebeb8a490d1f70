"""What the metrics of whole-model tables are made of: times of passes, put together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from roofline.quantity import Quantity

__all__ = ["DECODE_RATE", "ITERATION", "METRICS", "Metric", "Passes"]

Array = NDArray[np.float64]

_RATE: Final = {"tok/s": 1.0}
_BANDWIDTH: Final = {"gb/s": 1e9, "tb/s": 1e12, "gib/s": 2.0**30}
_TIME: Final = {"ms": 1e-3, "s": 1.0, "us": 1e-6, "ms/token": 1e-3}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a metric is made of, and the units it may be stated in.

    Parameters
    ----------
    make : callable
        From `Passes`, or from a `Server` in its steady state where `served`.
    needs : tuple of str
        Columns it cannot do without.
    rate : bool
        Tokens per second, where high and low change places.
    served : str
        The quantity of a loaded server that it is; empty for one of passes.
    least : str
        The quantity of a loaded server that it may be as small as; empty for none.
    busiest : bool
        Whether the server runs at its best concurrency rather than at that of the row.
    best : callable or None
        What no measurement can be better than, at ideal times; None is the metric itself.
    stated : mapping of str to float or None
        Sizes of its units where they are not those of a rate of tokens or of a time.
    """

    make: Callable[[Any], Quantity]
    needs: tuple[str, ...] = ()
    rate: bool = False
    served: str = ""
    least: str = ""
    busiest: bool = False
    best: Callable[[Any], Quantity] | None = None
    stated: Mapping[str, float] | None = None

    @property
    def units(self) -> Mapping[str, float]:
        if self.stated is not None:
            return self.stated
        return _RATE if self.rate else _TIME


@dataclass(frozen=True, kw_only=True, eq=False)
class Passes:
    """Times of a group of rows: prefill of the batch, one decode iteration [s].

    `weight_bytes` are what one device reads of the weights in an iteration.
    """

    batch: Array
    prompt: Array
    output: Array
    whole_prefill_s: Quantity
    iteration_s: Quantity
    weight_bytes: Quantity


DECODE_RATE: Final = Metric(make=lambda passes: passes.batch / passes.iteration_s, rate=True)
ITERATION: Final = Metric(make=lambda passes: passes.iteration_s)
_FIRST: Final = Metric(make=lambda passes: passes.whole_prefill_s, needs=("prompt_len",))
_LOADED: Final = Metric(
    make=lambda server: server.tpot_s,
    needs=("gen_len",),
    served="tpot_s",
    best=lambda server: server.iteration_s,
)
#: The mean over requests is bound by Little's law, their median is not: where a few carry the prefills of
#: all others, most decode undisturbed.
_TYPICAL_LOADED: Final = replace(_LOADED, least="iteration_s")
_FIRST_LOADED: Final = Metric(
    make=lambda server: server.ttft_s,
    needs=("prompt_len",),
    served="ttft_s",
    best=lambda server: server.first_s,
)
_SERVED: Final = Metric(
    make=lambda server: server.output_tokens_per_s,
    needs=("batch", "gen_len"),
    rate=True,
    served="output_tokens_per_s",
    best=lambda server: server.load.concurrency / server.iteration_s,
)

#: Metrics that are predicted, by their name in tables.
METRICS: Final[dict[str, Metric]] = {
    **dict.fromkeys(("decode_tok_s", "decode_tok_s_mean"), DECODE_RATE),
    **dict.fromkeys(("tpot_ms", "itl_ms", "itl_median_ms", "tpot_s"), ITERATION),
    **dict.fromkeys(("tpot_mean_ms", "itl_mean_ms"), _LOADED),
    "tpot_median_ms": _TYPICAL_LOADED,
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
    "achieved_bandwidth_per_gpu": Metric(
        make=lambda passes: passes.weight_bytes / passes.iteration_s, rate=True, stated=_BANDWIDTH
    ),
    "output_tok_s": _SERVED,
    "output_tok_s_offline_max": Metric(
        make=lambda server: server.steady_tokens_per_s,
        needs=("prompt_len", "gen_len"),
        rate=True,
        served="steady_tokens_per_s",
        busiest=True,
        best=lambda server: server.load.concurrency / server.iteration_s,
    ),
}
