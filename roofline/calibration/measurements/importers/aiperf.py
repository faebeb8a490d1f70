"""The aggregated JSON of AIPerf (``profile_export_aiperf.json``)."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["recognises", "rows"]

#: Metric of the file -> statistic, metric of the table, unit and phase. Its inter-token latency is the
#: mean over a request, which other tools call time per output token.
_METRICS: Final = {
    "time_to_first_token": ("p50", "ttft_median_ms", "ms", "prefill"),
    "inter_token_latency": ("p50", "tpot_median_ms", "ms", "decode"),
    "output_token_throughput": ("avg", "output_tok_s", "tok/s", "serve"),
}


def recognises(record: Mapping[str, Any]) -> bool:
    """Return whether a record is AIPerf's summary of a run."""
    return isinstance(record.get("request_latency"), Mapping) and any(
        isinstance(record.get(name), Mapping) for name in _METRICS
    )


def rows(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield one row per figure; lengths are means, the device comes from telemetry where it is on."""
    gpus = _gpus(record)
    row = {
        "device": gpus[0] if gpus else "",
        "device_count": float(len(gpus)) if gpus else None,
        "model": _model(record),
        "quant": "",
        "runtime": "",
        "parallelism": f"TP{len(gpus)}" if gpus else "",
        "batch": _at(record, "input_config", "loadgen", "concurrency") or "without a concurrency",
        "prompt_len": _at(record, "input_sequence_length", "avg"),
        "gen_len": _at(record, "output_sequence_length", "avg"),
    }
    for name, (statistic, metric, unit, phase) in _METRICS.items():
        value = _at(record, name, statistic)
        if value is not None:
            yield {**row, "phase": phase, "metric": metric, "value": value, "unit": unit}


def _at(node: Any, *path: str) -> Any:
    """Return what lies at a path, None where there is nothing."""
    for key in path:
        if not isinstance(node, Mapping):
            return None
        node = node.get(key)
    return node


def _model(record: Mapping[str, Any]) -> str:
    names = _at(record, "input_config", "endpoint", "model_names")
    if isinstance(names, list) and names:
        return str(names[0])
    items = _at(record, "input_config", "models", "items")
    first = items[0] if isinstance(items, list) and items else None
    return str(_at(first, "name") or "")


def _gpus(record: Mapping[str, Any]) -> list[str]:
    endpoints = _at(record, "telemetry_data", "endpoints")
    found = []
    for endpoint in endpoints.values() if isinstance(endpoints, Mapping) else ():
        gpus = _at(endpoint, "gpus")
        for gpu in gpus.values() if isinstance(gpus, Mapping) else ():
            name = _at(gpu, "gpu_name")
            if name:
                found.append(str(name))
    return found
