"""The wide serving tables of AIConfigurator (``silicon_sample.csv``): one line, two means of a server."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["recognises", "rows"]

_KEYS: Final = ("model_path", "system", "backend", "isl", "osl", "silicon_ttft_ms", "silicon_tpot_ms")
_METRICS: Final = (
    ("silicon_ttft_ms", "ttft_mean_ms", "prefill"),
    ("silicon_tpot_ms", "tpot_mean_ms", "decode"),
)
_CONCURRENCY: Final = re.compile(r"concurrency=(\d+)")
#: Lines taken from InferenceX, whose client draws lengths evenly between 0.8 of what is stated and all
#: of it (InferenceMAX, README, RANDOM_RANGE_RATIO). AIConfigurator's own runs have equal ones
#: (ai-dynamo/aiconfigurator@25ac3a8, tests/baseline/frozen, bench_run.sh: --isl-stddev 0 --osl-stddev 0).
_INFERENCEX: Final = re.compile(r"\bdb-dump\b|\bwip=")
_MEAN_LENGTH: Final = 0.9
#: GPUs of one system of the tables (HGX).
_SYSTEM_GPUS: Final = 8.0


def recognises(record: Mapping[str, Any]) -> bool:
    """Return whether a record is a line of such a table."""
    return all(key in record for key in _KEYS)


def rows(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield mean time to first token and mean time per output token, in this order.

    Notes
    -----
    The batch is the client's concurrency where the line tells it. Some lines multiply tensor by expert
    degree of one and the same ranks (8 x 8 on a system of 8 GPUs; the same measurement stands elsewhere
    as 8): they are read as the system they can only be.
    """
    origin = str(record.get("silicon_data_source") or "")
    sampled = bool(_INFERENCEX.search(origin))
    found = _CONCURRENCY.search(origin)
    apart = str(record.get("mode")) == "disagg"
    if apart:
        prefill, decode = _pool(record, "prefill_"), _pool(record, "decode_")
        parallelism = f"prefill {prefill.named}, decode {decode.named}"
        devices, batch = prefill.devices + decode.devices, decode.batch
    else:
        pool = _pool(record, "", sampled=sampled)
        parallelism, devices, batch = pool.named, pool.devices, pool.batch
    share = _MEAN_LENGTH if sampled else 1.0
    row = {
        "device": str(record["system"]),
        "device_count": devices,
        "model": str(record["model_path"]),
        "quant": _quant(record),
        "runtime": f"{record['backend']} {record.get('backend_version') or ''}".strip(),
        "parallelism": parallelism,
        "batch": float(found[1]) if found else batch,
        "prompt_len": _number(record.get("isl")) * share,
        "gen_len": _number(record.get("osl")) * share,
        "lengths": "drawn" if sampled else "equal",
        "unit": "ms",
        "note": "; ".join(filter(None, (f"id {record['id']}" if record.get("id") else "", origin))),
    }
    for column, metric, phase in _METRICS:
        yield {**row, "phase": phase, "metric": metric, "value": record[column]}


class _Pool:
    """The workers of one pool: how many, 0 where not told, and how the model is divided over each."""

    def __init__(self, workers: float, tensor: float, data: float, experts: float, batch: float) -> None:
        self.devices = max(workers, 1.0) * tensor * data
        self.batch: Any = max(workers, 1.0) * data * batch or None
        degrees = (
            f"TP{tensor:g}"
            + (f" DP{data:g}" if data > 1 else "")
            + (f" EP{experts:g}" if experts > 1 else "")
        )
        self.named = degrees if workers == 1.0 else f"{workers:g}x {degrees}" if workers else f"?x {degrees}"


def _pool(record: Mapping[str, Any], prefix: str, *, sampled: bool = False) -> _Pool:
    workers = _number(record.get(f"{prefix}num_workers")) if prefix else 1.0

    def degree(name: str) -> float:
        return max(_number(record.get(f"{prefix}{name}")), 1.0)

    tensor, data = degree("tp_size"), degree("attention_dp_size")
    experts = degree("moe_ep_size")
    squared = sampled and (tensor * data > _SYSTEM_GPUS or degree("moe_tp_size") > 1.0)
    if squared and experts > 1.0 and tensor * data == degree("moe_tp_size") * experts:
        ranks = round((tensor * data) ** 0.5)
        tensor, data, experts = (1.0, ranks, ranks) if tensor == 1.0 else (ranks, 1.0, ranks)
    batch = _number(record.get(f"{prefix}batch_size"))
    return _Pool(workers, tensor, data, experts, batch)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0


def _quant(record: Mapping[str, Any]) -> str:
    """Return the format of the weights; a line without one runs the checkpoint in 16 bits."""
    model, stated = str(record["model_path"]).casefold(), str(record.get("precision") or "").casefold()
    if stated == "fp4":
        # OpenAI publishes its weights in MXFP4 only, whatever "fp4" is elsewhere.
        return "MXFP4" if "gpt-oss" in model else "NVFP4"
    return stated or ("fp8" if model.endswith("fp8") else "BF16")
