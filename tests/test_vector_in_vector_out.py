"""Every number of a scenario may be an array: one call with three values is three calls with one."""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest

from roofline import Report, Scenario, make_scenario
from roofline.analysis import analyze
from roofline.dotted_path import replace_at

#: Numbers that decide which rows there are, or which branch of a form is taken: structure, by name.
STRUCTURE = {
    "exponent": "a form's discrete choice",
    "choices": "a form's discrete choices",
    "pipeline": "the number of parts a pass is cut into",
    "prefill_chunk": "the number of passes",
    "width": "whether there is a projection",
    "latent_size": "whether there is a projection",
    "window": "the mask",
    "chunk": "the mask",
    "depth": "how layers are cut",
    "context_tokens": "a model's limit, checked where a scenario is made",
    "low": "a quantile of a fit",
    "high": "a quantile of a fit",
    "standard_errors": "a property of a fit",
    "lengths": "a distribution",
}

SCENARIOS = {
    "dense, calibrated, two devices": {
        "model": "llama-3.1-8b", "hardware": "h100-sxm", "devices": 2, "batch": 3, "prompt": 700,
        "output": 40, "prefix": 64, "prefix_shared_by": 2, "samples": 2, "images": 0,
    },
    "dense, datasheet": {
        "model": "llama-3.1-8b", "hardware": "rtx-4090", "software": "datasheet", "kv": "fp8",
    },
    "experts, calibrated": {"model": "mixtral-8x7b", "hardware": "h100-sxm", "devices": 4, "batch": 5},
    "decode at a context": {"model": "llama-3.1-8b", "hardware": "h100-sxm", "context": 3000, "batch": 7},
}  # fmt: skip


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Dotted paths of every float below a value, structure apart."""
    if dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        value = {str(index): part for index, part in enumerate(value)}
    if isinstance(value, Mapping):
        for name, part in value.items():
            if name not in STRUCTURE:
                yield from leaves(part, f"{path}.{name}" if path else str(name))
    elif isinstance(value, float):
        yield path, value


def made(name: str) -> Scenario:
    """The scenario with only those fits that its formats use."""
    scenario = make_scenario(**SCENARIOS[name])
    used = tuple(fit for fit in scenario.deployment.runtime.kernels if fit.format in ("bf16", "*"))
    return scenario.replace_at("deployment.runtime.kernels", used)


def numbers(report: Report, size: int) -> dict[str, np.ndarray]:
    """What a report says, each spread over `size` values."""
    found = {
        "ttft": report.ttft_s.value, "ttft high": report.ttft_s.high,
        "tpot": report.tpot_s.value, "tpot low": report.tpot_s.low,
        "output rate": report.output_tokens_per_s, "fits": report.fits,
        "flops": report.decode.flops, "ideal": report.prefill.ideal_s,
        **{f"prefill {tensor}": size for tensor, size in report.prefill.bytes_by_tensor.items()},
        **{f"bound {name}": size for name, size in report.decode.bound_s.items()},
        **{
            f"{tier} {tensor}": size
            for tier, tensors in report.memory.used_bytes.items() for tensor, size in tensors.items()
        },
    }  # fmt: skip
    return {key: np.broadcast_to(np.asarray(value), (size,)) for key, value in found.items()}


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_number_of_a_scenario_may_be_an_array(name: str) -> None:
    scenario = made(name)
    fixed = scenario.workload.context_tokens is not None
    call = partial(analyze, intervals=fixed, keep_rows=False)
    wrong = []
    for path, value in leaves(scenario):
        values = np.array([value, 1.5 * value + 1.0, 2.0 * value])
        if value > 0 and value <= 1.0:
            values = np.array([value, 0.9 * value, 0.5 * value])
        try:
            together = numbers(call(replace_at(scenario, path, values), axes=1), 3)
        except (TypeError, ValueError) as error:
            wrong.append(f"{path}: {error}")
            continue
        for index, one in enumerate(values):
            alone = numbers(call(replace_at(scenario, path, float(one))), 1)
            for key in alone:
                if not np.allclose(together[key][index], alone[key][0], rtol=1e-12, atol=0):
                    wrong.append(f"{path} = {one:g}: {key}: {together[key][index]!r} != {alone[key][0]!r}")

    assert not wrong
