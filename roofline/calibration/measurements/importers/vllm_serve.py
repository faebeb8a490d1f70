"""The JSON that ``vllm bench serve --save-result`` writes, and SGLang's and TensorRT-LLM's like it."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["recognises", "rows"]

#: Keys of the result -> metric, unit and phase of the table.
_METRICS: Final = {
    "median_ttft_ms": ("ttft_median_ms", "ms", "prefill"),
    "median_tpot_ms": ("tpot_median_ms", "ms", "decode"),
    "median_itl_ms": ("itl_median_ms", "ms", "decode"),
    "output_throughput": ("output_tok_s", "tok/s", "serve"),
}


def recognises(record: Mapping[str, Any]) -> bool:
    """Return whether a record is a result of the serving benchmark."""
    return "median_ttft_ms" in record and "output_throughput" in record


def rows(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield one row per figure.

    Notes
    -----
    Lengths are means over completed requests. The batch is the largest allowed concurrency; where all
    requests are sent at once without a limit, their number. At a finite rate without a limit it is not
    known, and rows say so. The file does not name device and format; ``--metadata`` entries called
    device, devices, quant or tensor_parallel_size are used.
    """
    completed = float(record.get("completed") or 0.0) or 1.0
    limit, rate = record.get("max_concurrency"), record.get("request_rate")
    batch: Any = limit
    if not limit:
        batch = completed if rate in ("inf", None) else f"unlimited at {rate} requests/s"
    elif completed < float(limit):
        batch = completed
    ranks = record.get("tensor_parallel_size")
    row = {
        "device": record.get("device", ""),
        "device_count": record.get("devices", ranks),
        "model": record.get("model_id", ""),
        "quant": record.get("quant", ""),
        "runtime": str(record.get("runtime") or record.get("backend") or "vllm"),
        "parallelism": f"TP{ranks}" if ranks else "",
        "batch": batch,
        "prompt_len": _mean(record, "total_input_tokens", completed),
        "gen_len": _mean(record, "total_output_tokens", completed),
    }
    for key, (metric, unit, phase) in _METRICS.items():
        if record.get(key) is not None:
            yield {**row, "phase": phase, "metric": metric, "value": record[key], "unit": unit}


def _mean(record: Mapping[str, Any], key: str, completed: float) -> float | None:
    total = record.get(key)
    return None if total is None else float(total) / completed
