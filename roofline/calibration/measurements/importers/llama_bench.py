"""llama-bench of llama.cpp, written with ``-o json``, ``jsonl`` or ``csv``."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from roofline.catalog.models import load_model
from roofline.catalog.wild_names import model_called
from roofline.errors import RooflineError

__all__ = ["recognises", "rows"]

_KEYS: Final = ("model_filename", "n_prompt", "n_gen", "avg_ts")
_QUANT: Final = re.compile(r"[-_.]((?:IQ|Q)\d\w*|MXFP4\w*|BF16|F16|F32)$", re.IGNORECASE)
_SHARD: Final = re.compile(r"-\d{5}-of-\d{5}$")


def recognises(record: Mapping[str, Any]) -> bool:
    """Return whether a record is a test of llama-bench."""
    return all(key in record for key in _KEYS)


def rows(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the row of one test: prompt processing or text generation.

    Notes
    -----
    Speeds are tokens per second of one sequence. A test at depth d starts with d cached tokens. The
    device is the GPU where layers are on it, else the CPU; the model is the file's name.
    """
    model, quant = _model(record)
    prompt, generated, depth = (_count(record.get(key)) for key in ("n_prompt", "n_gen", "n_depth"))
    layers = _count(record.get("n_gpu_layers"), -1.0)
    gpus = [name.strip() for name in str(record.get("gpu_info") or "").split(",") if name.strip()]
    on_gpu = bool(gpus) and layers != 0
    split = str(record.get("split_mode") or "layer")
    row = {
        "device": gpus[0] if on_gpu else str(record.get("cpu_info") or "").strip(),
        "device_count": float(len(gpus)) if on_gpu and split != "none" else 1.0,
        "model": model,
        "quant": quant,
        "runtime": f"llama.cpp b{record.get('build_number', '')} {record.get('build_commit', '')}".strip(),
        "parallelism": f"{split} split x{len(gpus)}" if on_gpu and split != "none" and len(gpus) > 1 else "",
        "batch": 1.0,
        "value": record.get("avg_ts"),
        "unit": "tok/s",
        "note": str(record.get("model_type") or ""),
    }
    phase = "offload" if on_gpu and _partly(model, layers) else ""
    if prompt and generated:
        yield {**row, "phase": phase or "serve", "metric": "prompt_and_generation_tok_s"}
    elif prompt:
        yield {
            **row, "phase": phase or "prefill", "metric": "prefill_tok_s", "prompt_len": prompt,
            "context": depth or None,
        }  # fmt: skip
    else:
        yield {
            **row, "phase": phase or "decode", "metric": "decode_tok_s", "gen_len": generated,
            "context": depth + generated / 2.0,
        }  # fmt: skip


def _count(value: Any, missing: float = 0.0) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return missing


def _model(record: Mapping[str, Any]) -> tuple[str, str]:
    """Return model and format from the file's name, the format from the model's type otherwise."""
    name = re.split(r"[/\\]", str(record["model_filename"]))[-1]
    name = _SHARD.sub("", name.removesuffix(".gguf"))
    found = _QUANT.search(name)
    if found:
        return name[: found.start()], found[1].upper()
    kind = str(record.get("model_type") or "").removesuffix(" (guessed)")
    size = {" - Medium": "_M", " - Small": "_S", " - Large": "_L"}
    for long, short in size.items():
        kind = kind.replace(long, short)
    return name, kind.rpartition(" ")[2]


def _partly(model: str, gpu_layers: float) -> bool:
    """Whether some of a known model's layers stay on the host."""
    if gpu_layers < 0:
        return False
    try:
        spec = load_model(model_called(model)).value
    except RooflineError:
        return False
    return gpu_layers < float(sum(spec.layer_counts().values()))
