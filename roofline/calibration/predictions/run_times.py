"""Metrics of one run from the times of its passes."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["RUN_METRICS", "UNSAID_CONTEXT", "Times", "known_metric", "said_ratio"]

#: Cached tokens where a table says nothing: 128 generated from an empty cache, at half.
UNSAID_CONTEXT: Final = 64.0

_RATIO: Final = re.compile(r"_gpu_expert_ratio_(\d+)$")
_PER_TOKEN: Final = re.compile(
    r"(?:per_token|token|decode|decode_per_token|generation)_latency(?:_m?s)?|(?:decode_|generation_)?(?:ms|s)_per_token"
    r"|(?:decode_)?latency_(?:m?s_)?per_token(?:_m?s)?"
)


@dataclass(frozen=True, kw_only=True)
class Times:
    """One run: tokens, and the time of its prefill and of one decode iteration [s]."""

    batch: float
    prompt: float
    output: float
    prefill_s: float
    iteration_s: float


def _generated(times: Times) -> float:
    """Tokens over the whole run, of a batch that begins and ends together."""
    return times.batch * times.output / (times.prefill_s + (times.output - 1.0) * times.iteration_s)


def known_metric(metric: str) -> str:
    """Return the metric behind one that only tables of offloaded runs have, itself otherwise."""
    if _RATIO.search(metric):
        return "decode_tok_s"
    if _PER_TOKEN.fullmatch(metric):
        return "tpot_ms"
    return "output_tok_s" if metric == "generation_tok_s" else metric


def said_ratio(metric: str) -> float:
    """Return the share of experts on the card that a metric's name states, 0 where it states none."""
    found = _RATIO.search(metric)
    return 0.0 if found is None else float(found[1]) / 100.0


#: Metric of a table of offloaded runs -> what it is of one run, and whether it is a rate.
RUN_METRICS: Final[dict[str, tuple[Callable[[Times], float], bool]]] = {
    "output_tok_s": (_generated, True),
    **dict.fromkeys(
        ("decode_tok_s", "decode_tok_s_mean"), (lambda times: times.batch / times.iteration_s, True)
    ),
    "prefill_tok_s": (lambda times: times.batch * times.prompt / times.prefill_s, True),
    "prefill_ms_per_token": (lambda times: times.prefill_s / times.prompt, False),
    **dict.fromkeys(
        ("tpot_ms", "tpot_s", "itl_ms", "tpot_mean_ms", "tpot_median_ms", "itl_mean_ms", "itl_median_ms"),
        (lambda times: times.iteration_s, False),
    ),
    **dict.fromkeys(
        ("ttft_ms", "ttft_s", "ttft_mean_ms", "ttft_median_ms"), (lambda times: times.prefill_s, False)
    ),
}
