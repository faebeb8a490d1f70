"""Fitting: known parameters come back, held-out families stay unseen, kin lend what they have."""

from dataclasses import replace

import numpy as np
import pytest

from roofline.calibration.fits.fitted_forms import form_of
from roofline.calibration.fits.fitting import cross_validate, fit, kernel_fit, predict, quantiles
from roofline.calibration.fits.profile_files import profile_text
from roofline.calibration.fits.profiles import build_profiles
from roofline.calibration.fits.transfer import Donor, Kin, carry_over, lend
from roofline.catalog.sourced import validated
from roofline.timing.runtime import Runtime
from tests.calibration import made_up

TRUE = {
    "compute_fraction": 0.7,
    "memory_fraction": 0.8,
    "t0_s": 4e-6,
    "step_s": 0.2e-6,
    "split_s": 3e-6,
    "tile_s": 1e-6,
    "cache_gain": 0.5,
}


def gemm_rows(noise=0.0, device="nvidia_h100_sxm5_80gb", **changed):
    """Times of the form itself at known parameters, with log-normal noise."""
    choices = {"wave_rounding": 0.0, "tile_growth": 0.5}
    data = made_up.products(device, TRUE, choices, rows=160, seed=7)
    noisy = np.exp(noise * np.random.default_rng(8).standard_normal(160))
    return replace(data, times_s=data.times_s * noisy, **changed)


def donor(device="nvidia_h100_sxm5_80gb", noise=0.02, kin=None, **changed):
    data = gemm_rows(noise, device=device, **changed)
    solution = fit(data)
    kin = kin or Kin(family="nvidia_hbm", architecture="hopper", segment="professional", year=2022)
    return Donor(kin=kin, data=data, solution=solution, errors=cross_validate(data))


def test_a_fit_recovers_the_parameters_behind_noisy_times():
    solution = fit(gemm_rows(noise=0.03))

    assert solution.choices == {"wave_rounding": 0.0, "launch_bound": 0.0, "tile_growth": 0.5}
    for name in ("compute_fraction", "memory_fraction", "t0_s", "step_s"):
        # Within four of its own standard errors, prior included.
        off = abs(np.log(solution.parameters[name] / TRUE[name]))
        assert off < 4 * solution.standard_errors[name] + 0.01, name


def test_dispatch_tables_are_tried_only_with_enough_rows():
    table = {"wave_rounding": 1.0, "launch_bound": 0.0, "dispatch": 2.0, "reread": 0.0}
    data = gemm_rows(format="fp8")
    form = form_of("gemm", "fp8", "gpu")
    told = {**TRUE, "extra_factor": 0.5, "row_s": 0.2e-6}
    data = replace(data, times_s=predict(form, data, told, table))
    few = data.rows(np.arange(len(data.times_s)) < 100)

    assert fit(data).choices["dispatch"] == 2.0
    assert fit(few).choices["dispatch"] == 0.0


def test_one_wild_row_moves_no_parameter_much():
    data = gemm_rows(noise=0.02)
    wild = data.times_s.copy()
    wild[3] *= 1000.0

    moved = fit(replace(data, times_s=wild)).parameters

    for name, value in fit(data).parameters.items():
        np.testing.assert_allclose(moved[name], value, rtol=0.2, err_msg=name)


def test_cross_validated_errors_show_the_noise_that_was_added():
    errors = cross_validate(gemm_rows(noise=0.05))

    # 160 rows: the standard deviation of normal noise is known to 6 %; fitting adds a little.
    np.testing.assert_allclose(np.std(errors), 0.05, rtol=0.3)


def test_quantiles_of_few_errors_come_from_their_deviation():
    errors = np.array([-0.1, 0.0, 0.1])

    # Standard deviation 0.1: the deciles of a normal distribution lie at 1.2816 of it.
    np.testing.assert_allclose(quantiles(errors), (-0.12816, 0.12816), rtol=1e-4)


def test_a_stored_fit_survives_its_file():
    made = donor()
    runtime = Runtime(
        device="x", software="vllm 1.0", kernels=(kernel_fit(made.data, made.solution, made.errors),)
    )
    import tomllib

    read = validated(Runtime, tomllib.loads(profile_text(runtime)), "x.toml")

    assert profile_text(read) == profile_text(runtime)
    assert read.kernels[0].parameters["extra_factor"] == 0.0


def test_the_same_framework_on_the_same_architecture_lends_first():
    near = donor()
    other_software = donor(software="sglang 1.0")
    far = donor(
        device="nvidia_a100_sxm4_80gb",
        kin=Kin(family="nvidia_hbm", architecture="ampere", segment="professional", year=2020),
    )
    kin = near.kin

    lent = lend([near, other_software, far], kin=kin, kind="gemm", format="bf16", framework="vllm")
    without = lend(
        [near, other_software, far],
        kin=kin,
        kind="gemm",
        format="bf16",
        framework="vllm",
        without=near.data.device,
    )

    assert lent == (near,)
    assert without == (far,)


def test_carried_parameters_lie_between_those_of_the_donors():
    first, second = donor(), donor(device="other", noise=0.1)

    carried = carry_over((first, second)).parameters

    for name, value in carried.items():
        ends = sorted((first.solution.parameters[name], second.solution.parameters[name]))
        assert ends[0] * (1 - 1e-9) <= value <= ends[1] * (1 + 1e-9)


@pytest.fixture(scope="module")
def profiles():
    return build_profiles([donor(), donor(software="sglang 1.0")], "2026-01-01")


def test_a_profile_says_what_was_measured_here(profiles):
    runtime = profiles["nvidia_h100_sxm5_80gb/vllm"]

    assert [(fit.kind, fit.basis) for fit in runtime.kernels] == [("gemm", "measured")]
    assert runtime.software == "vllm 1.0"


def test_a_generation_lends_what_its_devices_measured(profiles):
    runtime = profiles["transferred/nvidia_hbm_professional_hopper_2022/vllm"]

    assert {fit.basis for fit in runtime.kernels} == {"transferred"}
