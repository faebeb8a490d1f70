"""LLM-Viewer's numbers to the digits it prints, and what its departures are worth."""

import itertools
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roofline.catalog.hardware import load_device
from roofline.catalog.models import load_model
from roofline.dotted_path import replace_at
from roofline.errors import InvalidSpecError
from roofline.hardware.device import Device
from roofline.studies.llm_viewer import STEPS, ViewerCase, by_layer, departures

REFERENCE = tomllib.loads(
    (Path(__file__).parents[1] / "reference" / "llm_viewer.toml").read_text(encoding="utf-8")
)


def their_device(name: str) -> Device:
    figures = REFERENCE["devices"][name]
    device = replace_at(load_device(name).value, "memory.gddr.bandwidth", figures["bandwidth"])
    peaks = {
        "fp16": {"fp32": figures["fp16"]},
        "bf16": {"fp32": figures["fp16"]},
        "int8": {"int32": figures["int8"]},
    }
    return replace_at(device, "engine.gpu.peak_flops_per_s", peaks)


def case_of(**given: Any) -> ViewerCase:
    known = {key: float(value) if isinstance(value, int) else value for key, value in given.items()
             if key not in ("ms", "tflop", "gb", "rate")}  # fmt: skip
    return ViewerCase(**{**known, "model": load_model(given["model"]).value})


def printed(value: float, reference: float, digits: int) -> bool:
    return abs(value - reference) <= 0.5000001 * 10.0**-digits


@pytest.mark.parametrize("given", REFERENCE["pass"], ids=lambda given: str(list(given.values())[1:]))
def test_the_last_step_prints_their_numbers(given: dict[str, Any]) -> None:
    case = case_of(**given)
    theirs = departures(case, their_device("a6000"))[-1]

    if "tflop" in given:
        assert printed(theirs.flops / 1e12, given["tflop"], 2)
    if "ms" in given:
        digits = 1 if given["ms"] == 226.9 else 2 if given["ms"] == 18.64 else 3
        assert printed(theirs.time_s * 1e3, given["ms"], digits)
    if "gb" in given:
        assert printed(theirs.memory_bytes / 1e9, given["gb"], 2)
    if "rate" in given:
        assert printed(case.batch / theirs.time_s, given["rate"], 1)


@pytest.mark.parametrize("given", REFERENCE["fused"], ids=lambda given: str(given["tokens"]))
def test_their_fused_attention_saves_as_little_as_they_print(given: dict[str, Any]) -> None:
    fused, apart = (
        departures(
            case_of(model="llama-2-13b", stage="prefill", tokens=given["tokens"], flash=flash),
            their_device("a6000"),
        )[-1].bytes
        for flash in (True, False)
    )

    assert printed(100 * (1 - fused / apart), given["percent"], 1)


@pytest.mark.parametrize("given", REFERENCE["aim"], ids=str)
def test_aim_counts_the_operations_it_publishes(given: dict[str, Any]) -> None:
    case = case_of(model="qwen2.5-7b", stage="prefill", tokens=1)
    first = given.get("pruned_from", 28)
    tokens = tuple(
        100.0 + given["image_tokens"] * max(0.0, min(1.0, 1.0 - 0.125 * (depth - first + 1)))
        for depth in range(28)
    )

    assert printed(by_layer(case, tokens, their_device("a6000")).flops / 1e12, given["tflop"], 2)


def test_the_first_step_is_our_own_analysis() -> None:
    from roofline.analysis import analyze
    from roofline.api import make_scenario

    scenario = make_scenario("llama-2-7b", "a6000", software="datasheet", prompt=2048, flash=False)
    policy = scenario.deployment.terms.policy
    plain = scenario.replace_at("deployment.policy", replace_at(policy, "fused_projections", False))
    plain = plain.replace_at("deployment.policy.fused_norm", False)
    ours = analyze(plain.replace_at("deployment.precision.weights", "bf16"), intervals=False).prefill

    mine = departures(case_of(model="llama-2-7b", stage="prefill", tokens=2048), load_device("a6000").value)[
        0
    ]
    np.testing.assert_allclose(mine.flops, ours.flops, rtol=1e-12)
    np.testing.assert_allclose(mine.time_s, ours.ideal_s, rtol=1e-12)


def test_every_departure_changes_something_somewhere() -> None:
    cases = [
        case_of(model=model, stage=stage, tokens=512, batch=2, weight_bits=4, flash=flash)
        for model in ("llama-2-7b", "llama-3.1-8b") for stage in ("prefill", "decode")
        for flash in (False, True)
    ]  # fmt: skip
    narrow = {"weight_bits": 8, "activation_bits": 8, "cache_bits": 8}
    cases.append(case_of(model="llama-2-7b", stage="prefill", tokens=512, **narrow))
    device = their_device("a6000")
    moved = {step.name: False for step in STEPS}
    for case in cases:
        found = departures(case, device)
        for before, after in itertools.pairwise(found):
            same = (before.flops, before.bytes, before.time_s) == (after.flops, after.bytes, after.time_s)
            moved[after.name] = moved[after.name] or not same

    assert all(moved.values()), moved


def test_models_it_does_not_know_are_refused() -> None:
    with pytest.raises(InvalidSpecError, match="dense decoder"):
        case_of(model="deepseek-v3", stage="decode", tokens=512)


def test_by_layer_wants_one_count_for_each_layer() -> None:
    with pytest.raises(InvalidSpecError, match=r"want 32 values.*got 3"):
        by_layer(
            case_of(model="llama-2-7b", stage="prefill", tokens=1), (1.0, 2.0, 3.0), their_device("a6000")
        )
