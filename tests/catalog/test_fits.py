"""Runtime profiles: which one a device gets, and that every shipped one can be used."""

from dataclasses import replace

import numpy as np
import pytest

from roofline.catalog.files import folders, names_in
from roofline.catalog.fits import load_runtime, power_over_peak, softwares
from roofline.catalog.hardware import load_device
from roofline.errors import UnknownNameError
from roofline.timing.forms import FORMS, Ceilings, Work, kernel_time

SHIPPED = sorted(path for root in folders("fits") for path in root.glob("**/*.toml"))
SHAPES = {
    "m": 16.0, "n": 4096.0, "k": 4096.0, "groups": 1.0, "weight_bits": 16.0, "activation_bits": 16.0,
    "tokens": 16.0, "hidden_size": 4096.0, "intermediate_size": 1024.0, "experts": 64.0, "top_k": 4.0,
    "tensor_ranks": 1.0, "expert_ranks": 1.0, "touched": 40.0, "matrices": 3.0,
    "sequences": 4.0, "heads": 32.0, "kv_heads": 8.0, "head_dim": 128.0, "value_dim": 128.0,
    "new_tokens": 1.0, "keys": 4096.0, "pairs": 4096.0, "cache_bits": 16.0,
    "ranks": 4.0, "message_bytes": 1e6, "rows": 16.0, "columns": 4096.0,
}  # fmt: skip


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_profile_times_every_kernel_it_fits(path):
    from roofline.catalog.files import read_toml
    from roofline.catalog.sourced import validated
    from roofline.timing.runtime import Runtime

    runtime = validated(Runtime, read_toml(path), path.name)

    for fit in runtime.kernels:
        assert fit.form in FORMS
        # Whole-model fits keep their interval with the pass, not with its kernels.
        assert fit.low < fit.high or all(
            low < high for low, high in map(runtime.host.spread, ("decode", "prefill"))
        )
        taken = kernel_time(
            fit.form,
            work=Work(flops=1e9, bytes=1e7, shape=SHAPES),
            ceilings=Ceilings(
                flops_per_s=1e14, bytes_per_s=1e12, units=100.0, cache_bytes=5e7, vector_flops_per_s=5e13
            ),
            parameters=fit.parameters,
            choices=fit.choices,
        )
        assert np.isfinite(taken)
        assert 0 < taken < 1, (fit.kind, fit.format)


def test_a_measured_device_has_its_own_profile():
    runtime = load_runtime("h100-sxm", "vllm")

    assert runtime.device == "nvidia_h100_sxm5_80gb"
    assert runtime.fit_for("gemm", "bf16")[0].basis == "measured"


def test_an_unmeasured_device_gets_the_profile_of_its_generation():
    runtime = load_runtime("nvidia_h200_sxm_141gb")

    assert "hopper" in runtime.device
    assert runtime.fit_for("attention_decode", "bf16")[0].basis == "transferred"


def test_sixteen_bit_floats_share_one_fit():
    runtime = load_runtime("nvidia_h100_sxm5_80gb")

    assert runtime.fit_for("gemm", "fp16") == runtime.fit_for("gemm", "bf16")


def test_a_close_format_counts_as_steps_back():
    runtime = load_runtime("nvidia_h100_sxm5_80gb")
    found, steps = runtime.fit_for("gemm", "fp8_channel")

    assert found.format == "fp8"
    assert steps > 0


def test_attention_on_narrow_operands_stands_on_its_cache_format():
    runtime = load_runtime("nvidia_h100_sxm5_80gb")
    kernels = tuple(fit for fit in runtime.kernels if fit.format != "fp8_by_fp8")

    found, steps = replace(runtime, kernels=kernels).fit_for("attention_prefill", "fp8_by_fp8")

    assert (found.format, steps) == ("fp8", 2)


def test_the_datasheet_can_be_asked_for():
    assert load_runtime("nvidia_h100_sxm5_80gb", "datasheet").kernels == ()


def test_an_unknown_software_names_those_there_are():
    with pytest.raises(UnknownNameError, match="vllm"):
        load_runtime("nvidia_h100_sxm5_80gb", "no such thing")


@pytest.mark.parametrize("name", names_in("devices"))
def test_every_device_has_some_runtime(name):
    runtime = load_runtime(name)

    assert runtime.device
    if runtime.kernels:
        assert softwares(name)


def test_an_older_version_adds_its_own_fits_to_the_profile_it_extends():
    newest, older = load_runtime("h100-sxm", "vllm"), load_runtime("h100-sxm", "vllm 0.19.0")
    own = {(fit.kind, fit.format): fit for fit in older.kernels}
    assert older.software == "vllm 0.19.0"
    assert "vllm 0.19.0" in own["attention_decode", "bf16"].source
    assert set(own) >= {(fit.kind, fit.format) for fit in newest.kernels}
    assert older.host.per_layer_s == newest.host.per_layer_s


def test_the_newest_version_can_be_asked_for_by_number():
    newest = load_runtime("h100-sxm", "vllm")
    assert load_runtime("h100-sxm", newest.software).software == newest.software


def test_a_cards_power_over_its_peak_is_kept_between_those_that_were_timed():
    card = load_device("nvidia_h100_pcie_80gb").value
    # 350 W over 756 dense fp16 TFLOP/s.
    np.testing.assert_allclose(power_over_peak(card), 350.0 / 756e12, rtol=1e-12)
    assert power_over_peak(replace(card, tdp_watts=5000.0)) == 3e-12
    assert power_over_peak(replace(card, tdp_watts=None)) == 0.0
    assert power_over_peak(load_device("apple_m1").value) == 0.0


def test_what_runs_everywhere_is_lent_after_what_kin_run():
    offered = softwares("intel_arc_b580")

    assert offered.index("vllm") < offered.index("llama.cpp")
    assert load_runtime("intel_arc_b580", "llama.cpp").device.startswith("any_")
