"""Settings that place a model larger than its memory."""

from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roofline import InvalidSpecError, UnknownNameError, analyze, make_scenario
from roofline.analysis import analyze as analyze_scenario
from roofline.report import Report
from roofline.scenario import Scenario
from roofline.scenario_text import from_text, to_text

DESKTOP, PHONE = "desktop_rtx_4090", "qualcomm_snapdragon_8_elite"
MOE, DENSE = "qwen3-30b-a3b", "llama-3.1-70b"


def answer(model: str = MOE, hardware: str = DESKTOP, **settings: Any) -> Report:
    return analyze(make_scenario(model, hardware, prompt=128, output=32, software="datasheet", **settings))


@pytest.mark.parametrize("mode", ["stream", "cache", "compute"])
@pytest.mark.parametrize("model", [MOE, "llama-3.1-8b"])
def test_what_fits_is_left_where_it_is(model: str, mode: str) -> None:
    if mode == "cache" and model != MOE:
        pytest.skip("a dense model has no experts to cache")
    plain = answer(model, weights="int4")

    placed = answer(model, weights="int4", offload="host", offload_mode=mode)

    np.testing.assert_allclose(placed.tpot_s.value, plain.tpot_s.value, rtol=1e-9)
    np.testing.assert_allclose(placed.ttft_s.value, plain.ttft_s.value, rtol=1e-9)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (MOE, {"offload": "host", "offload_mode": "stream"}),
        (MOE, {"offload": "host", "offload_mode": "cache"}),
        (MOE, {"offload": "host", "offload_mode": "compute"}),
        (MOE, {"offload": "storage", "offload_mode": "mmap"}),
        (MOE, {"offload": "flash"}),
        (DENSE, {"offload": "host", "weights": "int4"}),
        (DENSE, {"offload": "host", "weights": "int4", "offload_mode": "compute"}),
        (DENSE, {"offload": "storage", "weights": "int4", "offload_mode": "mmap"}),
    ],
)
def test_what_does_not_fit_is_made_to_fit_and_costs_time(model: str, settings: dict[str, Any]) -> None:
    settings = {"weights": "bf16", **settings}
    plain, placed = answer(model, weights=settings["weights"]), answer(model, **settings)

    assert not plain.fits
    assert placed.fits
    assert placed.tpot_s.value > plain.tpot_s.value
    near = placed.memory
    assert near.shortfall_bytes["gddr"] == 0.0
    assert plain.memory.shortfall_bytes["gddr"] > 0.0


def test_a_larger_budget_is_never_slower() -> None:
    for mode in ("stream", "cache", "mmap"):
        times = [
            answer(hardware=PHONE, weights="q4_0", offload="flash", offload_mode=mode, memory_limit=limit)
            for limit in ("4 GiB", "8 GiB", "12 GiB", "24 GiB")
        ]

        assert all(report.fits for report in times)
        assert all(np.diff([report.tpot_s.value for report in times]) <= 1e-12)


def test_mapped_weights_fall_off_a_cliff() -> None:
    # A dense model one layer too large is read whole from storage for every token.
    fits, beyond = (
        answer(
            "llama-3.1-8b", PHONE, weights="int8", offload="flash", offload_mode="mmap", memory_limit=limit
        )
        for limit in ("12 GiB", "7 GiB")
    )
    layers = 32 * (4096 * (4096 + 1024) * 2 + 3 * 4096 * 14336)

    assert "storage" not in fits.decode.bytes_by_tier or fits.decode.bytes_by_tier["storage"] == 0
    np.testing.assert_allclose(beyond.decode.bytes_by_tier["storage"], layers, rtol=0.02)
    assert beyond.tpot_s.value > 5 * fits.tpot_s.value


def test_a_prefetcher_of_full_accuracy_hides_what_overlaps() -> None:
    settings: dict[str, Any] = {
        "hardware": PHONE,
        "weights": "q4_0",
        "offload": "flash",
        "memory_limit": "8 GiB",
    }
    blind, half, seer = (answer(**settings, prefetch=share).tpot_s.value for share in (0.0, 0.5, 1.0))
    serial = answer(**settings, prefetch=1.0, overlap="serial").tpot_s.value

    assert seer <= half < blind
    np.testing.assert_allclose(serial, blind, rtol=1e-9)


def test_wrong_guesses_are_fetched_beside_the_right_ones() -> None:
    settings: dict[str, Any] = {"offload": "host", "weights": "bf16", "hit_rate": 0.5, "prefetch": 0.5}
    exact, wrong = (answer(**settings, prefetch_waste=waste) for waste in (0.0, 1.0))

    # Half of what is missed is guessed in time, and as much again for nothing: 1.5 times the bytes.
    moved = [found.decode.bytes_by_tier["host"] for found in (exact, wrong)]
    np.testing.assert_allclose(moved[1] / moved[0], 1.5, rtol=1e-9)
    assert wrong.tpot_s.value > exact.tpot_s.value
    with pytest.raises(InvalidSpecError, match="wants prefetch"):
        answer(offload="host", weights="bf16", prefetch_waste=0.5)


def test_a_given_hit_rate_scales_what_is_fetched() -> None:
    fetched = [
        answer(offload="host", weights="bf16", cache_experts=16, hit_rate=rate).decode.bytes_by_tier["host"]
        for rate in (0.0, 0.5)
    ]

    # 8 experts of three 2048 x 768 matrices in bf16, in 48 layers.
    np.testing.assert_allclose(fetched[0], 48 * 8 * 3 * 2048 * 768 * 2.0, rtol=1e-9)
    np.testing.assert_allclose(fetched[1], fetched[0] / 2, rtol=1e-9)


def test_experts_and_layers_can_be_placed_by_hand() -> None:
    experts = answer(weights="bf16", experts_on_cpu=48)
    layers = answer(weights="bf16", n_gpu_layers=12)

    size = 48 * 128 * 3 * 2048 * 768 * 2.0
    np.testing.assert_allclose(experts.memory.used_bytes["host"]["weights"], size, rtol=1e-9)
    assert layers.memory.used_bytes["host"]["kv_cache"] == pytest.approx(
        3 * layers.memory.used_bytes["gddr"]["kv_cache"], rel=1e-9, abs=0
    )
    assert experts.fits
    assert experts.tpot_s.value < layers.tpot_s.value


def test_a_kv_cache_in_host_memory_is_fetched_or_attended_there() -> None:
    settings: dict[str, Any] = {"model": "llama-3.1-8b", "batch": 32}
    near, fetched, there = (
        answer(**settings, **more) for more in ({}, {"kv_offload": "host"}, {"kv_offload": "cpu"})
    )

    kept = near.memory.used_bytes["gddr"]["kv_cache"]
    for moved in (fetched, there):
        np.testing.assert_allclose(moved.memory.used_bytes["host"]["kv_cache"], kept, rtol=1e-12)
        assert moved.tpot_s.value >= near.tpot_s.value
    assert "host_memory" in fetched.decode.busy_s
    assert "host.cpu" in there.decode.busy_s


def test_prefill_and_decode_may_use_other_engines() -> None:
    phone = "phone_snapdragon_8_gen_3"
    cpu, both = (answer("llama-3.1-8b", phone, weights="q4_0", engine=name) for name in ("cpu", "cpu+npu"))
    mixed = answer("llama-3.1-8b", phone, weights="q4_0", engine="cpu", prefill_engine="npu")

    # 43.9 GB/s alone, 59.6 GB/s together.
    np.testing.assert_allclose(cpu.tpot_s.value / both.tpot_s.value, 59.6 / 43.9, rtol=0.02)
    np.testing.assert_allclose(mixed.tpot_s.value, cpu.tpot_s.value, rtol=1e-12)
    assert mixed.ttft_s.value < cpu.ttft_s.value / 4


def test_a_trace_of_the_model_sets_its_routing(tmp_path: Path) -> None:
    always = np.tile(np.arange(8, dtype=np.int64), (100, 1))
    np.save(tmp_path / "same.npy", always)
    settings: dict[str, Any] = {"weights": "bf16", "offload": "host", "batch": 32}

    same = answer(**settings, routing=f"trace:{tmp_path / 'same.npy'}")
    uniform = answer(**settings)

    # All tokens choose the same 8 experts, which the cache holds.
    size = 48 * 8 * 3 * 2048 * 768 * 2.0
    np.testing.assert_allclose(same.decode.bytes_by_tensor["expert_weight"], size, rtol=1e-6)
    assert same.decode.bytes_by_tier["host"] < 1e-3 * uniform.decode.bytes_by_tier["host"]


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("deployment.placement.rules.3.cache.capacity", (0.1, 0.5, 1.0)),
        ("deployment.placement.rules.3.cache.reuse", (0.0, 0.3, 1.0)),
        ("deployment.placement.rules.3.pieces.0.prefetched", (0.0, 0.5, 1.0)),
        ("deployment.placement.rules.3.layers", (0.0, 0.5, 1.0)),
        ("deployment.placement.rules.4.pieces.0.tiers.weight.host", (0.0, 0.1, 0.5)),
        ("deployment.routing.skew", (0.0, 0.5, 1.5)),
        ("deployment.routing.correlation", (0.0, 0.5, 0.9)),
        ("deployment.routing.imbalance", (1.0, 1.2, 2.0)),
        ("deployment.composition.depth", (1.0, 2.0, 8.0)),
        ("workload.batch_size", (1.0, 4.0, 64.0)),
    ],
)
def test_a_swept_figure_is_its_single_figures(path: str, values: tuple[float, ...]) -> None:
    base = make_scenario(
        MOE, DESKTOP, weights="q4_0", offload="host", memory_limit="8 GiB", prompt=64, output=8,
        routing="zipf:0.7", software="datasheet",
    )  # fmt: skip
    swept = analyze_scenario(base.replace_at(path, np.array(values)), axes=1)

    for index, value in enumerate(values):
        single = analyze_scenario(base.replace_at(path, value))
        for figure in ("tpot_s", "ttft_s"):
            grid = np.broadcast_to(getattr(swept, figure).value, 3)
            np.testing.assert_allclose(grid[index], getattr(single, figure).value, rtol=1e-9)


@pytest.mark.parametrize("settings", [
    {"offload": "host", "memory_limit": "8 GiB", "routing": "zipf:0.8"},
    {"offload": "storage", "offload_mode": "mmap"},
    {"offload": "host", "offload_mode": "choose", "memory_limit": "8 GiB"},
    {"n_gpu_layers": 20.0, "kv_offload": "host"},
])  # fmt: skip
@pytest.mark.parametrize("form", ["toml", "json", "url"])
def test_a_placed_scenario_comes_back_from_text(settings: dict[str, Any], form: Any) -> None:
    scenario = make_scenario(MOE, DESKTOP, weights="q4_0", prompt=64, output=8, **settings)

    back = from_text(to_text(scenario, form), form)

    assert isinstance(back, Scenario)
    assert analyze(back).tpot_s.value == analyze(scenario).tpot_s.value


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"offload": "tape"}, "no tier is called 'tape'"),
        ({"offload": "host", "offload_mode": "magic"}, "want one of stream, cache"),
        ({"memory_limit": "80 GiB"}, "at most the 24 GiB of gddr"),
        ({"memory_limit": "8"}, "memory_limit: want text such as"),
        ({"memory_limit": "-3 GiB"}, "memory_limit: want a finite value >= 0"),
        ({"n_gpu_layers": 100}, "has 48 layers, got 100"),
        ({"cache_experts": 256, "offload": "host"}, "has 128 experts in a layer, got 256"),
        ({"hit_rate": 1.5, "offload": "host"}, "a fraction between 0 and 1"),
        ({"hit_rate": 0.5}, "wants offload"),
        ({"offload": "host", "offload_mode": "mmap"}, "pages from storage"),
        ({"offload": "storage", "offload_mode": "compute"}, "storage computes nothing"),
        ({"routing": "zipf"}, "want uniform, zipf:SKEW"),
        ({"engine": "npu"}, "has no engine 'npu'"),
        ({"engine": "gpu:0.5+gpu:0.5"}, "names an engine twice"),
        ({"overlap": "0"}, "want full, serial or a number"),
        ({"kv_offload": "moon"}, "want host or cpu"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((InvalidSpecError, UnknownNameError), match=message):
        make_scenario(MOE, DESKTOP, weights="bf16", **settings)


def test_a_dense_model_has_no_expert_cache() -> None:
    with pytest.raises(InvalidSpecError, match="has no experts"):
        make_scenario("llama-3.1-8b", DESKTOP, offload="host", offload_mode="cache")


def test_a_device_without_host_cannot_compute_there() -> None:
    with pytest.raises(InvalidSpecError, match=r"no engine 'host.cpu'"):
        answer(hardware=PHONE, n_gpu_layers=10)


def test_cold_experts_are_fetched_or_computed_as_the_pass_wants() -> None:
    # A prompt gives each expert many tokens, so copying it is sooner; a decoded token does not.
    how = {"weights": "bf16", "offload": "host", "prompt": 8192}
    computed, chosen = (
        analyze(make_scenario(MOE, DESKTOP, output=32, software="datasheet", offload_mode=mode, **how))
        for mode in ("compute", "choose")
    )

    assert chosen.fits
    np.testing.assert_allclose(chosen.tpot_s.value, computed.tpot_s.value, rtol=1e-9)
    assert chosen.ttft_s.value < computed.ttft_s.value
    assert any("are fetched in passes of more than" in note for note in chosen.assumptions)


def test_a_choice_is_made_at_each_point_of_an_axis() -> None:
    scenario = make_scenario(
        MOE, DESKTOP, prompt=8192, output=32, software="datasheet", weights="bf16", offload="host",
        offload_mode="choose",
    )  # fmt: skip
    batches = np.array([1.0, 64.0, 4096.0])

    both = analyze_scenario(scenario.replace_at("workload.batch_size", batches), axes=1)

    for index, batch in enumerate(batches):
        alone = analyze_scenario(scenario.replace_at("workload.batch_size", float(batch)))
        np.testing.assert_allclose(both.tpot_s.value[index], alone.tpot_s.value, rtol=1e-12)


def test_a_dense_model_has_nothing_to_choose() -> None:
    with pytest.raises(InvalidSpecError, match="model with experts"):
        make_scenario("llama-3.1-8b", DESKTOP, weights="bf16", offload="host", offload_mode="choose")


def test_a_sustained_rate_is_set_on_its_engine_or_memory() -> None:
    # A quarter of the peak slows a prefill, bound by arithmetic, by no more than 4; half of what the engine
    # draws doubles what a decode step waits for memory.
    def phone(**figures: str) -> Report:
        changed = {key.replace("__", "."): text for key, text in figures.items()}
        return answer("qwen3-4b", "qualcomm_snapdragon_8_gen_3", weights="q4_0", engine="cpu", set=changed)

    cool = phone()
    throttled = phone(engine__cpu__peak__fp16__fp16="196 GFLOP/s")
    starved = phone(engine__cpu__bandwidth_limit="21.95 GB/s")

    assert 2.0 < throttled.ttft_s.value / cool.ttft_s.value <= 4.0
    np.testing.assert_allclose(starved.tpot_s.value / cool.tpot_s.value, 2.0, rtol=0.01)


@pytest.mark.parametrize("batch", [1, 2])
def test_decode_reads_the_experts_that_enumeration_counts(batch: int) -> None:
    scenario = make_scenario(MOE, DESKTOP, weights="bf16", batch=batch)
    block: Any = scenario.deployment.model.layers["decoder"]["experts"]
    sizes = scenario.deployment.weight_bytes()
    held = sum(float(size) for _, _, tensor, size in sizes if tensor == "expert_weight")

    found = analyze(scenario).decode.bytes_by_tensor["expert_weight"]

    # Two tokens that pick 8 of 128: the second meets i of the first's with a hypergeometric chance.
    experts, top_k = int(block.experts), int(block.top_k)
    ways = [comb(top_k, i) * comb(experts - top_k, top_k - i) for i in range(top_k + 1)]
    met = sum(i * way for i, way in enumerate(ways)) / comb(experts, top_k)
    distinct = top_k if batch == 1 else 2 * top_k - met
    np.testing.assert_allclose(found, held * distinct / experts, rtol=1e-12)
