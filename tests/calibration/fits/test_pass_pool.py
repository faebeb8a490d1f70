"""Whole passes of all devices at once: what is shared comes back, and what is unknown widens."""

from dataclasses import replace

import numpy as np
import pytest

from roofline.calibration.accuracy.pass_accuracy import score_passes
from roofline.calibration.fits.pass_fits import Passes, multiplied_in
from roofline.calibration.fits.pass_pool import CLOCK_HERTZ, JOULES_PER_FLOP, Place, fit_pool, place_of
from roofline.calibration.fits.pass_profiles import (
    build_whole_model_profiles,
    lent_band,
    measured_band,
    source_deviation,
)
from roofline.catalog.hardware import load_device

DEVICES = ("nvidia_rtx_4090", "nvidia_rtx_4080", "nvidia_rtx_3090", "apple_m3_pro", "apple_m1")


def passes(device, software="llama.cpp 1", memory=0.8, compute=0.3, host=70e-6, cold=0.0):
    """Decode and prefill of six models, q4_0, as if every kernel reached the given shares."""
    layers = np.repeat([16.0, 32.0, 32.0, 40.0, 80.0, 80.0], 2)
    read_s = np.repeat([1e-3, 4e-3, 8e-3, 13e-3, 35e-3, 70e-3], 2)
    multiply_s = np.tile([0.0, 30.0], 6) * read_s
    device_s = ((multiply_s / compute) ** 4 + (read_s / memory) ** 4) ** 0.25
    prefill = np.tile([False, True], 6)
    return Passes(
        device=device,
        software=software,
        source="this test",
        compute_s=multiply_s,
        memory_s=read_s,
        launches=np.ones(12),
        format=np.full(12, "q4_0", dtype=object),
        first=np.arange(12),
        model=np.repeat(list("abcdef"), 2).astype(object),
        phase=np.where(prefill, "prefill", "decode").astype(object),
        layers=layers,
        measured_s=device_s + host * layers + cold * prefill,
        grouped=np.zeros(12, dtype=bool),
        origin=np.full(12, "a table", dtype=object),
        cold=np.full(12, cold > 0.0) & prefill,
        fitted=np.ones(12, dtype=bool),
        engine="gpu",
    )


@pytest.fixture(scope="module")
def pool():
    return fit_pool([passes(name) for name in DEVICES[:4]] + [passes(DEVICES[4], memory=0.5, compute=0.2)])


def place(**known):
    return Place(framework="llama.cpp", **known)


def test_what_all_devices_reach_comes_back(pool):
    reached = pool.reached(pool.places[0])

    np.testing.assert_allclose(reached.by_format["q4_0"]["memory_fraction"], 0.8, rtol=0.05)
    np.testing.assert_allclose(reached.by_format["q4_0"]["compute_fraction"], 0.3, rtol=0.1)
    np.testing.assert_allclose(reached.per_layer_s, 70e-6, rtol=0.2)


def test_a_device_keeps_what_it_departs_by(pool):
    slow, usual = (pool.reached(pool.places[index]).by_format["q4_0"] for index in (4, 0))

    # Six rows draw it a tenth of the way back to the others.
    np.testing.assert_allclose(slow["memory_fraction"] / usual["memory_fraction"], 0.5 / 0.8, rtol=0.15)


def test_an_unseen_device_gets_what_its_generation_has_and_more_doubt(pool):
    seen = pool.reached(pool.places[0])
    kin = pool.reached(replace(pool.places[0], device=""))
    stranger = pool.reached(place())

    doubts = [found.standard_errors["memory_fraction"] for found in (seen, kin, stranger)]
    assert doubts == sorted(doubts)
    np.testing.assert_allclose(kin.product["memory_fraction"], seen.product["memory_fraction"], rtol=0.1)


def test_a_format_is_multiplied_as_its_own_software_was_timed_to():
    other = passes("apple_m3_pro", software="mlx 1", compute=0.9)
    narrow = replace(other, format=np.full(12, "int4", dtype=object))
    decoded = passes("nvidia_rtx_4090")
    decoded = replace(decoded, format=np.where(decoded.phase == "decode", "int4", "q4_0").astype(object))
    found = fit_pool([decoded, narrow])
    here = found.reached(found.places[0])

    # llama.cpp has multiplied q4_0 and only read int4; MLX has multiplied it, and new software may too.
    assert here.by_format["int4"]["compute_fraction"] == here.product["compute_fraction"]
    assert here.by_format["int4"]["memory_fraction"] != here.product["memory_fraction"]
    new = found.reached(replace(found.places[0], framework="new"))
    assert new.by_format["int4"]["compute_fraction"] > new.product["compute_fraction"]


def test_a_device_left_out_is_predicted_by_the_others(pool):
    # 0.5 instead of 0.8 of the bandwidth: the largest model's decode takes 1.6 times as long.
    np.testing.assert_allclose(pool.without_device[4][10], np.log(1.6), atol=0.25)
    assert abs(pool.without_device[0][10]) < 0.2


def test_a_source_is_left_out_where_a_device_has_two():
    part = passes("nvidia_rtx_4090")
    two = replace(part, origin=np.repeat(["one table", "another"], 6).astype(object))
    found = fit_pool([two, passes("nvidia_rtx_4080")])

    assert np.all(np.abs(found.without_source[0]) < 0.2)
    assert np.all(np.isnan(found.without_source[1]))


def test_linearised_errors_without_a_model_are_no_smaller_than_residuals(pool):
    kept = np.abs(pool.without_model[0])

    assert np.all(np.isfinite(kept))
    assert np.max(kept) < 0.2


def test_passes_that_are_only_scored_decide_nothing():
    odd = passes("nvidia_rtx_4090")
    batched = replace(
        odd, fitted=np.tile([True, False], 6), measured_s=odd.measured_s * np.tile([1.0, 3.0], 6)
    )
    found = fit_pool([batched, passes("nvidia_rtx_4080"), passes("nvidia_rtx_3090")])

    reached = found.reached(found.places[0]).by_format["q4_0"]
    np.testing.assert_allclose(reached["compute_fraction"], 0.3, rtol=0.15)
    np.testing.assert_allclose(found.without_model[0][1::2], np.log(3.0), atol=0.3)


def test_first_passes_of_a_process_do_not_bend_the_shares():
    cold = passes("nvidia_rtx_4090", cold=0.05)
    found = fit_pool([cold, passes("nvidia_rtx_4080"), passes("nvidia_rtx_3090")])

    reached = found.reached(found.places[0]).by_format["q4_0"]
    np.testing.assert_allclose(reached["compute_fraction"], 0.3, rtol=0.15)


def test_bands_of_few_rows_are_those_of_everyone():
    everyone = [np.linspace(-0.3, 0.3, 31)] * 5

    none, many = (measured_band(own, everyone, between=0.0) for own in (np.empty(0), np.full(400, 0.01)))
    np.testing.assert_allclose(none, (-0.24, 0.24), atol=0.02)
    assert many[1] < 0.02


def test_a_band_also_holds_what_another_source_would_tell():
    low, high = measured_band(np.tile([-0.3, 0.3], 200), [], between=0.4 / 1.2816)

    # 3, 4, 5.
    np.testing.assert_allclose((low, high), (-0.5, 0.5), rtol=1e-3)


def test_sources_deviate_by_the_medians_of_what_they_miss():
    part = passes("nvidia_rtx_4090")
    slow = np.repeat([1.0, 1.5], 6)
    two = replace(
        part, origin=np.repeat(["one", "another"], 6).astype(object), measured_s=slow * part.measured_s
    )
    found = fit_pool([two, passes("nvidia_rtx_4080"), passes("nvidia_rtx_3090")])

    missed = [np.median(found.without_source[0][own][::2]) for own in (slice(0, 6), slice(6, 12))]
    np.testing.assert_allclose(
        source_deviation(found, "decode"), np.sqrt(np.mean(np.square(missed))), rtol=1e-12
    )
    assert source_deviation(found, "decode") > 0.1
    assert source_deviation(found, "decode", without="nvidia_rtx_4090") == 0.0


def test_a_generation_left_out_is_predicted_by_the_others(pool):
    # Of Ada Lovelace both devices go; M1 and M3 have one each, so it is as without the device.
    np.testing.assert_allclose(pool.without_generation[3], pool.without_device[3], rtol=1e-12)
    assert np.max(np.abs(pool.without_generation[0] - pool.without_device[0])) > 0.0


def test_without_its_maker_a_device_is_predicted_by_other_makers(pool):
    # M1 and M3 go together; without all of NVIDIA only those two are left.
    assert np.max(np.abs(pool.without_maker[3] - pool.without_device[3])) > 0.0
    assert np.max(np.abs(pool.without_maker[0])) > np.max(np.abs(pool.without_device[0]))


def test_host_time_is_carried_over_in_cycles():
    # 140,000 cycles of each engine per layer are 100 us at 1.4 GHz.
    clocks = {name: place_of(load_device(name).value, name, framework="").clock_hertz for name in DEVICES[:2]}
    fast, slow = (passes(name, host=1.4e5 / clock) for name, clock in clocks.items())
    found = fit_pool([fast, slow])

    away = replace(found.places[0], device="", clock_hertz=1.4e9)
    np.testing.assert_allclose(found.reached(away).per_layer_s, 100e-6, rtol=0.2)


def test_lent_profiles_state_the_clock_and_power_they_hold_at(pool):
    profiles = build_whole_model_profiles(pool, "")
    cards, chips = (
        profiles[f"transferred/{family}/llama.cpp"]
        for family in ("nvidia_gddr_any_any_2020", "apple_shared_any_any_2020")
    )

    assert {fit.joules_per_flop for fit in cards.kernels} == {JOULES_PER_FLOP}
    assert {fit.joules_per_flop for fit in chips.kernels} == {0.0}
    assert cards.host.clock_hertz == chips.host.clock_hertz == CLOCK_HERTZ
    assert profiles["nvidia_rtx_4090/llama.cpp"].host.clock_hertz == 0.0


def test_llama_cpp_multiplies_on_the_lanes_of_apple_alone():
    assert multiplied_in("llama.cpp", "apple") == {"bf16": "fp32.fp32", "fp16": "fp32.fp32"}
    assert multiplied_in("llama.cpp", "nvidia") == {"bf16": "fp16.fp16", "fp16": "fp16.fp16"}
    assert multiplied_in("mlx", "apple") == {}


def test_every_device_of_a_class_counts_the_same_in_a_lent_band():
    # 900 rows of one device at 0, one row of another at 0.5: half of the weight lies there.
    low, high = lent_band([np.zeros(900), np.array([0.5])], [np.zeros(1)])

    assert low == 0.0
    assert high > 0.4


def test_profiles_serve_devices_generations_families_and_strangers(pool):
    profiles = build_whole_model_profiles(pool, "2026-11-21")

    own = profiles["nvidia_rtx_4090/llama.cpp"]
    assert (own.host.basis, own.engine) == ("measured", "gpu")
    assert own.runs_as == {"bf16": "fp16.fp16", "fp16": "fp16.fp16"}
    lent = profiles["transferred/nvidia_gddr_any_any_2020/llama.cpp"]
    assert lent.host.basis == "transferred"
    assert "transferred/nvidia_gddr_any_adalovelace_2022/llama.cpp" in profiles
    assert "transferred/any_professional_any_2024/generic" in profiles
    assert own.host.spread("decode")[1] <= lent.host.spread("decode")[1]


def test_cold_prompts_have_a_release_of_their_own(pool):
    profiles = build_whole_model_profiles(pool, "")

    cold, usual = (profiles[f"nvidia_rtx_4090/llama.cpp{release}"] for release in ("_2023", ""))
    assert cold.host.per_prompt_s > usual.host.per_prompt_s == 0.0
    assert "transferred/nvidia_gddr_any_any_2020/llama.cpp_2023" in profiles
    assert "apple_m1/llama.cpp_2023" not in profiles


def test_experts_and_formats_keep_their_ratio_in_a_profile(pool):
    profile = build_whole_model_profiles(pool, "")["nvidia_rtx_4090/llama.cpp"]
    shares = {(fit.kind, fit.format): fit.parameters["memory_fraction"] for fit in profile.kernels}

    np.testing.assert_allclose(
        shares["grouped_gemm", "q4_0"] / shares["gemm", "q4_0"],
        shares["grouped_gemm", "*"] / shares["gemm", "*"],
        rtol=1e-3,
    )


def test_scores_count_every_row_once_for_each_thing_left_out(pool):
    scores = [score for score in score_passes(pool) if score.software != "all"]

    for left_out in ("model", "device", "generation", "maker"):
        assert sum(score.rows for score in scores if score.left_out == left_out) == 60
