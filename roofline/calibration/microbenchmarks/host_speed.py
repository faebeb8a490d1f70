"""Host time of eager torch, from decoders so small that they keep no device busy."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from roofline.calibration.microbenchmarks.campaign import appended, first_quartile, raw_rows
from roofline.calibration.microbenchmarks.machine import Machine
from roofline.calibration.microbenchmarks.measure import Task
from roofline.calibration.microbenchmarks.small_decoder import DECODER, SmallDecoder, predicted_report
from roofline.errors import InvalidSpecError, optional

__all__ = ["HOST_TABLE", "fit_host_line", "host_tasks", "host_times"]

#: File of a campaign that holds the raw times.
HOST_TABLE: Final = "host.csv"
#: A decoder whose layers do almost nothing: what is left is the host's time.
_TINY: Final = {**DECODER, "hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 2,
                "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 256}  # fmt: skip
_LAYERS: Final = (2, 6, 12)
_CONTEXT: Final = 32
_FEWEST_DEPTHS: Final = 2

#: Returns times of one token [s] of a decoder of that many layers.
Decode = Callable[[int], list[float]]


def host_tasks(machine: Machine, path: Path, decode: Decode | None = None) -> list[Task]:
    """Return what a raw table lacks of the tiny decoders' times per token.

    Parameters
    ----------
    path : Path
        The raw table.
    decode : callable, optional
        Times a decoder; with transformers where None.
    """
    times = decode or (lambda layers: SmallDecoder(machine, _tiny(layers)).decode_times(1, _CONTEXT))
    done = {int(row["layers"]) for row in _own(path, machine.software)}

    def measured(layers: int) -> None:
        taken = times(layers)
        appended(
            path,
            {
                "layers": layers,
                "context": _CONTEXT,
                "time_us": f"{first_quartile(taken) * 1e6:.6g}",
                "repeats": len(taken),
                "software": machine.software,
            },
        )

    def task(layers: int) -> Task:
        return Task(label=f"host time, {layers} layers", run=lambda: measured(layers))

    return [task(layers) for layers in _LAYERS if layers not in done]


def _tiny(layers: int) -> dict[str, Any]:
    return {**_TINY, "num_hidden_layers": layers}


def _own(path: Path, software: str) -> list[dict[str, str]]:
    return [row for row in raw_rows(path) if row["software"] == software]


def host_times(path: Path, machine: Machine, device: str, software: str) -> Mapping[str, float]:
    """Return host time per pass and per layer [s] from the raw times and the profile's kernels.

    Parameters
    ----------
    device, software : str
        Names of a profile without host times.

    Raises
    ------
    InvalidSpecError
        If fewer than two depths were measured.

    Notes
    -----
    Kernels of a processor run on the host itself and their fits hold their dispatch, so what they take
    is subtracted; on other engines they run beside the host, which is longer with decoders that small.
    """
    layers, rest = [], []
    for row in _own(path, machine.software):
        depth = int(row["layers"])
        time_s = float(row["time_us"]) * 1e-6
        if machine.kind == "cpu":
            report = predicted_report(_tiny(depth), device, software, context=_CONTEXT)
            time_s -= float(report.decode.time_s.value) - float(report.decode.host_s)
        layers.append(depth)
        rest.append(time_s)
    per_pass_s, per_layer_s = fit_host_line(layers, rest)
    return {"per_pass_s": per_pass_s, "per_layer_s": per_layer_s}


def fit_host_line(layers: Iterable[float], times_s: Iterable[float]) -> tuple[float, float]:
    """Return time per pass and per layer [s] of a line that neither lets fall below 0, by least squares."""
    with optional("a fit", extra="calibrate"):
        from scipy.optimize import nnls
    depths, times = np.array([*layers], dtype=float), np.array([*times_s], dtype=float)
    if len(np.unique(depths)) < _FEWEST_DEPTHS:
        raise InvalidSpecError(f"host time: {len(depths)} decoders were timed; want at least two depths")
    found, _ = nnls(np.stack([np.ones(len(depths)), depths], axis=1), np.maximum(times, 0.0))
    return float(found[0]), float(found[1])
