"""From the names in a table's row to a scenario: device, model, format, software and parallelism."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from roofline.calibration.predictions.parallelism_names import degrees_of
from roofline.catalog.fits import softwares
from roofline.catalog.plain_decoders import Size, plain_decoder, size_in
from roofline.catalog.precision import quantised_whole, with_formats
from roofline.catalog.wild_names import (
    checkpoint_format,
    device_called,
    engine_called,
    engine_of,
    format_called,
    framework_called,
    model_called,
    release_called,
)
from roofline.errors import RooflineError, UnknownNameError
from roofline.graph.formats import format_named
from roofline.graph.operator import Precision
from roofline.scenario import Scenario
from roofline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NamedScenarios"]

#: Frameworks whose checkpoints keep router, head and embedding in 16 bits; others quantise a whole file.
_SERVING: Final = ("vllm", "sglang", "trtllm")
_WIDE: Final = ("bf16", "fp16", "fp32")
#: A model's name that says its publisher quantised it. TensorRT-LLM otherwise runs NVIDIA's checkpoints,
#: scaled per tensor, the cache in FP8 (TensorRT-LLM, quick-start recipe for Llama 3.3 70B).
_PUBLISHER: Final = re.compile(r"^(?!nvidia/).*fp8$", re.IGNORECASE)
_CACHED_IN_FP8: Final = ("fp8", "nvfp4")


#: Stands where a plain decoder is put in its place: Llama 2 7B, whose checkpoint is plain.
_PLACE: Final = "meta_llama_2_7b"
_UNIT: Final = 1e9


class NamedScenarios:
    """Remembers what names stand for while one table is read.

    A model that the catalogue does not hold, but whose size the row or its name states, is a plain
    decoder of that size; weights of no known format are of the width the row states.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], str | RooflineError] = {}

    def _of(self, kind: str, find: Callable[[str], str], text: str) -> str:
        if (kind, text) not in self._found:
            try:
                self._found[kind, text] = find(text)
            except RooflineError as error:
                self._found[kind, text] = error
        found = self._found[kind, text]
        if isinstance(found, RooflineError):
            raise found
        return found

    def size(self, row: "pd.Series[Any]") -> Size | None:
        """Return the size of a model that the catalogue does not hold, None where it does or none is told."""
        try:
            self._of("model", model_called, row["model"])
        except UnknownNameError:
            return _stated_size(row)
        return None

    def _weights(self, row: "pd.Series[Any]") -> str:
        try:
            return self._of("format", format_called, row["quant"])
        except UnknownNameError:
            bits = _number(row.get("bits_per_weight"))
            if bits is None:
                raise
            return "fp16" if bits == _PLAIN_BITS else format_named(f"{round(bits, 4):g}_bits").name

    def runs_as_another(self, row: "pd.Series[Any]") -> bool:
        """Return whether the device has no profile of the row's software, so that its default stands in."""
        device = self._of("device", device_called, row["device"])
        return not _profiles(device, framework_called(row["runtime"]))

    def scenario(self, row: "pd.Series[Any]", *, cache: float = 1.0) -> Scenario:
        """Return the scenario of a row's names; its workload is a single token.

        Parameters
        ----------
        cache : float
            As in `plain_decoder`; a model of the catalogue has the cache it has.
        """
        device = self._of("device", device_called, row["device"])
        size = self.size(row)
        model = _PLACE if size is not None else self._of("model", model_called, row["model"])
        weights = self._weights(row)
        framework, release = framework_called(row["runtime"]), release_called(row["runtime"])
        alike = _profiles(device, framework)
        software = release if release in alike else next(iter(alike), None)
        optimised = framework == "trtllm" and not _PUBLISHER.search(row["model"])
        if framework in _SERVING and not optimised:
            weights = checkpoint_format(model, weights)
        tensor, pipeline, data, expert = degrees_of(row["parallelism"], float(row["device_count"]), framework)
        scenario = Settings(
            model=model,
            hardware=device,
            software=software,
            tensor=tensor,
            pipeline=pipeline,
            data=data,
            expert=expert,
        ).scenario()
        deployment = scenario.deployment
        if size is not None:
            spec = plain_decoder(size, cache=cache)
            deployment = replace(deployment, model=spec, precision=Precision())
        own = deployment.precision
        if not (weights.startswith("fp8") and own.weights.startswith("fp8")):
            cache_format = "fp8" if optimised and weights in _CACHED_IN_FP8 else None
            precision = with_formats(own, weights=weights, kv=cache_format)
            if framework not in _SERVING and weights not in _WIDE:
                precision = quantised_whole(precision, framework)
            deployment = replace(deployment, precision=precision)
        engine = engine_called(row["device"]) or deployment.runtime.engine or engine_of(release or framework)
        hardware = deployment.system.device.led_by(engine)
        deployment = replace(deployment, system=replace(deployment.system, device=hardware))
        return replace(scenario, deployment=deployment)


_PLAIN_BITS: Final = 16.0


def _profiles(device: str, framework: str) -> list[str]:
    """Return the profiles of a device that are of a framework."""
    return [name for name in softwares(device) if name.partition("_")[0] == framework]


def _number(text: object) -> float | None:
    """Return a number above 0 from a cell, None where it holds none."""
    try:
        value = float(str(text))
    except ValueError:
        return None
    return value if 0.0 < value < float("inf") else None


def _stated_size(row: "pd.Series[Any]") -> Size | None:
    """Return the size a row states in 10^9, else the one its model's name states; None without either."""
    total, active = _number(row.get("params_total_b")), _number(row.get("params_active_b"))
    if total is None:
        return size_in(row["model"])
    return Size(total=total * _UNIT, active=min(total, active or total) * _UNIT)
