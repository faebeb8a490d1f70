"""What physics and arithmetic demand of every device and every model in the catalogue."""

from typing import Any

import numpy as np
import pytest

from roofline import InvalidSpecError, analyze, make_scenario
from roofline.catalog.files import names_in
from roofline.report import Report
from roofline.timing.cost import arithmetic

DEVICES = sorted(names_in("devices"))
MODELS = sorted(names_in("models"))


def answer(model: str, device: str, **settings: Any) -> Report:
    return analyze(make_scenario(model, device, **settings))


@pytest.mark.parametrize("device", DEVICES)
def test_every_device_answers_within_its_roofs(device: str) -> None:
    report = answer("llama-3.1-8b", device, batch=2, prompt=256, output=16)
    system = report.scenario.deployment.system
    memory = next(iter(system.device.memory.values()))

    engine = next(iter(system.device.engine.values()))

    peak = arithmetic(engine, "bf16", report.scenario.deployment.runtime.runs_as)[1]
    products = 2 * 2 * 256 * 6.9e9  # matrix products of the prompts, the head apart
    for phase in (report.prefill, report.decode):
        floor = float(sum(phase.bytes_by_tier[tier] for tier in phase.bytes_by_tier if tier != "link"))
        assert 0 < phase.ideal_s <= phase.time_s.low * (1 + 1e-12)
        assert phase.time_s.low <= phase.time_s.value <= phase.time_s.high
        assert phase.time_s.value >= floor / memory.bandwidth_bytes_per_s * (1 - 1e-12)
        assert np.isfinite(phase.time_s.high)
    assert report.prefill.time_s.value >= products / peak


@pytest.mark.parametrize("model", MODELS)
def test_every_model_counts_and_answers(model: str) -> None:
    report = answer(model, "h200-sxm-141gb", devices=1, prompt=128, output=8)
    spec = report.scenario.deployment.model

    assert 0 < spec.active_parameters <= spec.parameters
    assert report.decode.bytes_by_tensor["weight"] > 0
    # A decode step multiplies every active matrix element at least once, embedding rows apart.
    rows = [weight for weight in spec.embedding.weights(spec.hidden_size) if weight.tensor == "embedding"]
    tables = sum(float(weight.parameters) for weight in rows)
    assert report.decode.flops >= 2 * 0.95 * (float(spec.active_parameters) - 2 * tables)
    assert report.prefill.flops > report.decode.flops
    for phase in (report.prefill, report.decode):
        assert 0 < phase.ideal_s <= phase.time_s.low * (1 + 1e-12) <= phase.time_s.high * (1 + 2e-12)


# One model in three keeps the file within its time.
@pytest.mark.parametrize("model", MODELS[::3])
def test_halving_the_batch_never_raises_time_and_intensity_rises_with_batch(model: str) -> None:
    small, large = (answer(model, "h100-sxm5-80gb", batch=batch, context=512) for batch in (4, 8))

    assert small.tpot_s.value <= large.tpot_s.value * (1 + 1e-12)
    intensity = [
        float(report.decode.flops) / float(sum(report.decode.bytes_by_tensor.values()))
        for report in (small, large)
    ]
    assert intensity[0] <= intensity[1] * (1 + 1e-12)


@pytest.mark.parametrize("weights", ["bf16", "fp8", "int8", "int4", "nvfp4", "mxfp4", "q4_0", "q8_0"])
def test_fewer_bits_read_fewer_bytes(weights: str) -> None:
    wide = answer("llama-3.1-8b", "h100-sxm5-80gb", weights="fp32", software="datasheet", context=100)
    narrow = answer("llama-3.1-8b", "h100-sxm5-80gb", weights=weights, software="datasheet", context=100)

    assert narrow.decode.bytes_by_tensor["weight"] < wide.decode.bytes_by_tensor["weight"]
    assert narrow.decode.flops == wide.decode.flops


def test_a_context_beyond_the_models_is_refused() -> None:
    with pytest.raises(InvalidSpecError, match="made for 131072 tokens"):
        make_scenario("llama-3.1-8b", "h100-sxm5-80gb", prompt=200_000)


def test_a_format_the_device_lacks_is_widened_and_said() -> None:
    report = answer("llama-3.1-8b", "a100-sxm4-80gb", weights="fp8")

    assert any("no fp8 arithmetic; it runs as" in text for text in report.assumptions)
