"""Published speed-ups of speculation, predicted from stated inputs; docs/speculation.md reports each."""

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roofline import make_scenario
from roofline.analysis import analyze_decode
from roofline.decoding.acceptance import Acceptance
from roofline.decoding.draft_heads import autoregressive_head
from roofline.decoding.drafters import ModelDrafter
from roofline.decoding.speculative import Speculative, verification
from roofline.decoding.tree import SpecTree
from roofline.scenario import Scenario
from roofline.studies.tree_search import gains_along, speed_up
from roofline.techniques.table import TECHNIQUES

BENCH: dict[str, Any] = tomllib.loads(Path(__file__).with_name("spec_bench.toml").read_text(encoding="utf-8"))
#: Methods that run the model of transformers itself; the others bring a model file of their own, with
#: attention written out (model/*/modeling_llama_kv.py in Spec-Bench).
UNCHANGED = ("prompt-lookup", "draft-model")


def resized(scenario: Scenario, *, hidden: float, heads: float, inner: float, layers: int) -> Scenario:
    """The scenario with a Llama of other sizes."""
    layer = "deployment.model.layers.decoder"
    for path, value in (
        ("deployment.model.hidden_size", hidden), (f"{layer}.attention.heads", heads),
        (f"{layer}.attention.kv_heads", heads), (f"{layer}.attention.head_dim", hidden / heads),
        (f"{layer}.feed_forward.intermediate_size", inner),
    ):  # fmt: skip
        scenario = scenario.replace_at(path, value)
    runs = scenario.deployment.model.order
    return scenario.replace_at("deployment.model.order", tuple(replace(run, repeat=layers) for run in runs))


def vicuna(name: str, software: str) -> Scenario:
    small = name if name != "Vicuna-33B" else "Vicuna-13B"
    scenario = make_scenario(small, "a100-80gb", software=software, prompt=512, output=256)
    if name != "Vicuna-33B":
        return scenario
    # LLaMA 33B (arXiv:2302.13971, table 2): 6656 wide, 52 heads, 60 layers, 17920 inner.
    return resized(scenario, hidden=6656.0, heads=52.0, inner=17920.0, layers=60)


def predicted(run: dict[str, Any]) -> float:
    plain = vicuna(run["model"], "huggingface_sdpa")
    own = plain if run["method"] in UNCHANGED else vicuna(run["model"], "huggingface_eager")
    if run["method"] == "draft-model":
        # Vicuna 68M: 768 wide, 12 heads, 2 layers; 5 drafts, the default of assisted generation.
        small = resized(plain, hidden=768.0, heads=12.0, inner=3072.0, layers=2).deployment
        decoding = Speculative(
            tree=SpecTree.chain(5), acceptance=Acceptance(given="tokens", rates=((run["tokens"],),)),
            drafter=ModelDrafter(deployment=small, operations=15.0), accept_operations=17.0,
        )  # fmt: skip
        drafted = own.replace(decoding=decoding)
    else:
        drafted = TECHNIQUES[run["method"]].apply(own, {"tokens": run["tokens"]})
    before, _ = analyze_decode(plain, intervals=False, tables=())
    after, _ = analyze_decode(drafted, intervals=False, tables=())
    return float(before.time_s.value * after.tokens / after.time_s.value)


@pytest.mark.parametrize("run", BENCH["run"], ids=lambda run: f"{run['method']}-{run['model']}")
def test_spec_bench_speed_ups_are_within_their_band(run: dict[str, Any]) -> None:
    assert abs(predicted(run) / run["speed_up"] - 1.0) < BENCH["tolerance"]


def test_the_median_error_over_spec_bench_is_within_fifteen_percent() -> None:
    errors = [abs(predicted(run) / run["speed_up"] - 1.0) for run in BENCH["run"]]

    assert len(errors) == 28
    assert np.median(errors) < 0.15


def test_verifying_on_experts_moves_two_to_three_times_the_data() -> None:
    # Cascade (arXiv:2506.20675, abstract): 2 to 3 x data and verification time at batch 1, slowdowns
    # to 1.5 x. Drafts of 3 to 5 tokens; a slowdown of 1.5 needs 1.3 accepted tokens on Mixtral.
    for model in ("mixtral-8x7b", "qwen3-30b-a3b", "olmoe", "deepseek-v2-lite"):
        scenario = make_scenario(model, "h100-sxm", devices=2, software="vllm", context=1000)
        plain = scenario.deployment.time(scenario.workload.decode(0.0), "decode")
        step = verification(scenario.workload, 0.0, nodes=4.0, pairs=None)
        checked = scenario.deployment.time(step, "verification")
        ratio = sum(checked.bytes_by_tensor.values()) / sum(plain.bytes_by_tensor.values())

        assert 2.0 < float(ratio) < 3.2

    decoding = Speculative(tree=SpecTree.chain(4), acceptance=Acceptance(given="tokens", rates=((1.4,),)))
    mixtral = make_scenario("mixtral-8x7b", "h100-sxm", devices=2, software="vllm", context=1000)
    assert 1.0 / 1.8 < float(speed_up(mixtral.replace(decoding=decoding)).speed_up) < 1.0 / 1.3


def test_sparse_models_gain_most_at_medium_batch() -> None:
    # MoESD (arXiv:2505.19645, abstract): up to 2.29 x on Qwen2-57B-A14B at medium batch; here with 4
    # drafts of a 0.5B model at an acceptance of 0.8, which the abstract does not state. A miss by 18 %:
    # the fits of experts on an A100 have untuned tiles, vLLM has tuned ones for this model.
    target = make_scenario("qwen2-57b-a14b", "a800-sxm", devices=4, context=500)
    small = make_scenario("qwen2.5-0.5b", "a800-sxm", context=500).deployment
    decoding = Speculative(
        tree=SpecTree.chain(4), acceptance=Acceptance(given="depth", rates=((0.8,),)),
        drafter=ModelDrafter(deployment=replace(small, system=target.deployment.system)),
    )  # fmt: skip
    batches = (1.0, 4.0, 16.0, 32.0, 64.0, 256.0)

    gains = np.asarray(
        gains_along(target.replace(decoding=decoding), "workload.batch_size", batches).speed_up
    )

    np.testing.assert_allclose(gains.max() / 2.29, 0.82, rtol=0.05)
    assert batches[int(np.argmax(gains))] in (16.0, 32.0, 64.0)
    assert gains[0] < 1.5
    assert gains[-1] < 1.8


def test_a_drafter_on_one_of_four_devices_loses_what_one_device_gains() -> None:
    # sgl-project/sglang issue 6949: 30 with, 21 without EAGLE at one device, 59 and 61 at four. Device
    # and acceptance are not stated: H100, the 2.0 tokens and 1 ms a call that the first pair implies.
    def gain(devices: float) -> float:
        plain = make_scenario(
            "qwen3-32b", "h100-sxm", devices=devices, prompt=512, output=512, software="sglang"
        )
        layer = autoregressive_head(plain.deployment)
        alone = replace(layer.deployment.parallelism, tensor=1.0)
        drafter = replace(layer, host_s=1e-3, deployment=replace(layer.deployment, parallelism=alone))
        decoding = Speculative(
            tree=SpecTree.branching([4, 1, 1, 1, 1]),
            acceptance=Acceptance(given="tokens", rates=((2.0,),)),
            drafter=drafter,
        )
        return float(speed_up(plain.replace(decoding=decoding)).speed_up)

    assert gain(1.0) > 1.25
    assert gain(4.0) < 1.0


def test_longer_drafts_lose_more_where_few_are_accepted() -> None:
    # An EAGLE-3 drafter for an 8B NVFP4 model on an RTX 5090 with vLLM's Marlin kernels: 211.9 token/s
    # without, 197.1, 178.6, 154.2, 115.7 with K = 1, 2, 4, 8. Acceptance is not stated; below 0.1, with
    # 0.5 ms a call as measured for vLLM (vllm-project/vllm pull request 24343), every K loses here too.
    plain = make_scenario("llama-3.1-8b", "rtx-5090", weights="nvfp4", prompt=128, output=256)
    layer = replace(autoregressive_head(plain.deployment, draft_vocabulary=32000.0), host_s=5e-4)

    gains = [
        float(
            speed_up(
                plain.replace(
                    decoding=Speculative(
                        tree=SpecTree.chain(length),
                        acceptance=Acceptance(given="depth", rates=((0.08,),)),
                        drafter=layer,
                    )
                )
            ).speed_up
        )
        for length in (1, 2, 4, 8)
    ]

    assert all(gain < 1.0 for gain in gains)
    assert gains == sorted(gains, reverse=True)
