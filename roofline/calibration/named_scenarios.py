"""From the names in a table's row to a scenario: device, model, format, software and parallelism."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from roofline.calibration.parallelism_names import degrees_of
from roofline.catalog.fits import softwares
from roofline.catalog.precision import with_formats
from roofline.catalog.wild_names import (
    checkpoint_format,
    device_called,
    engine_called,
    format_called,
    framework_called,
    model_called,
    release_called,
)
from roofline.errors import RooflineError
from roofline.scenario import Scenario
from roofline.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NamedScenarios"]

#: Frameworks whose checkpoints keep router, head and embedding in 16 bits; others quantise a whole file.
_SERVING: Final = ("vllm", "sglang", "trtllm")
_WIDE: Final = ("bf16", "fp16", "fp32")


class NamedScenarios:
    """Remembers what names stand for while one table is read."""

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

    def scenario(self, row: "pd.Series[Any]") -> Scenario:
        """Return the scenario of a row's names; its workload is a single token."""
        device = self._of("device", device_called, row["device"])
        model = self._of("model", model_called, row["model"])
        weights = self._of("format", format_called, row["quant"])
        framework, release = framework_called(row["runtime"]), release_called(row["runtime"])
        had = softwares(device)
        alike = [name for name in had if name.partition("_")[0] == framework]
        software = release if release in alike else next(iter(alike), None)
        if framework in _SERVING:
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
        own = deployment.precision
        if not (weights.startswith("fp8") and own.weights.startswith("fp8")):
            precision = with_formats(own, weights=weights)
            if framework not in _SERVING and weights not in _WIDE:
                precision = replace(precision, rules=())
            deployment = replace(deployment, precision=precision)
        engine, engines = engine_called(row["device"]), deployment.system.device.engine
        if engine is not None and engine in engines:
            first = {engine: engines[engine], **engines}
            hardware = replace(deployment.system.device, engine=first)
            deployment = replace(deployment, system=replace(deployment.system, device=hardware))
        return replace(scenario, deployment=deployment)
