"""Own rows of whole passes: a profile departs as far as they ask for, and its band narrows with them."""

from dataclasses import replace

import numpy as np

from roofline.calibration.fits.own_passes import fit_own_passes, predicted_s, whole_pass_profile
from roofline.calibration.fits.pass_fits import Passes
from roofline.timing.runtime import HostTime, KernelFit, Runtime


def passes(memory=0.9, q4_compute=0.2, noise=0.0):
    """Six models, two formats that reach 0.4 and 0.2 of the peak, 80 us a layer, decode and prefill."""
    random = np.random.default_rng(3)
    layers = np.repeat([16.0, 32.0, 32.0, 40.0, 80.0, 80.0], 4)
    read_s = np.repeat([1e-3, 4e-3, 8e-3, 13e-3, 35e-3, 70e-3], 4)
    multiply_s = np.tile([0.0, 30.0, 0.0, 30.0], 6) * read_s
    quantised = np.tile([False, False, True, True], 6)
    reached = np.where(quantised, q4_compute, 0.4)
    device_s = ((multiply_s / reached) ** 4 + (read_s / memory) ** 4) ** 0.25
    return Passes(
        device="nvidia_rtx_4090",
        software="llama.cpp 1",
        source="this test",
        compute_s=multiply_s,
        memory_s=read_s,
        launches=np.ones(24),
        format=np.where(quantised, "q4_0", "bf16").astype(object),
        first=np.arange(24),
        model=np.repeat(list("abcdef"), 4).astype(object),
        phase=np.tile(["decode", "prefill"], 12).astype(object),
        layers=layers,
        measured_s=(device_s + 80e-6 * layers) * np.exp(noise * random.standard_normal(24)),
        grouped=np.zeros(24, dtype=bool),
        origin=np.full(24, "a table", dtype=object),
        cold=np.zeros(24, dtype=bool),
        fitted=np.ones(24, dtype=bool),
        engine="gpu",
    )


def lent(**host):
    """Return a profile of kin: 0.7 of the bandwidth, 0.3 of the peak, 60 us a layer."""
    kernel = KernelFit(
        kind="*",
        format="*",
        form="overhead_roofline",
        parameters={"memory_fraction": 0.7, "compute_fraction": 0.3, "t0_s": 0.0},
        choices={"exponent": 4.0},
        standard_errors={"memory_fraction": 0.15, "compute_fraction": 0.4},
        low=0.0,
        high=0.0,
        basis="transferred",
        points=100,
        source="kin",
        joules_per_flop=1.2e-12,
    )
    bands = {"low_of": {"decode": -0.4, "prefill": -0.6}, "high_of": {"decode": 0.5, "prefill": 0.6}}
    times = {"per_layer_s": 60e-6, "composition": {"decode": "sum", "prefill": "sum"}, "clock_hertz": 2e9}
    return Runtime(
        device="kin",
        software="llama.cpp",
        kernels=(kernel, replace(kernel, kind="gemm", format="q4_0")),
        host=HostTime(**{**times, **bands, "points": 100, **host}),
    )


def width(runtime, phase):
    low, high = runtime.host.spread(phase)
    return high - low


def test_what_rows_say_is_predicted_back():
    told = passes()
    found = fit_own_passes(told, lent(), source="mine")

    np.testing.assert_allclose(predicted_s(told, found.runtime), told.measured_s, rtol=0.05)
    shares = {fit.format: fit.parameters["compute_fraction"] for fit in found.runtime.kernels}
    np.testing.assert_allclose((shares["bf16"], shares["q4_0"]), (0.4, 0.2), rtol=0.1)
    assert {fit.basis for fit in found.runtime.kernels} == {"measured"}
    assert found.untold == ()


def test_times_of_own_rows_are_this_engines_and_are_not_carried_over_again():
    found = fit_own_passes(passes(), lent(), source="mine").runtime

    assert found.on_engine(clock_hertz=1e9, joules_per_flop=3e-12).host == found.host
    assert {fit.joules_per_flop for fit in found.kernels} == {0.0}


def test_a_band_narrows_with_own_rows_and_keeps_its_lean():
    bands = [
        fit_own_passes(passes(noise=0.05).chosen(np.arange(rows)), lent(), source="").runtime
        for rows in (1, 4, 24)
    ]
    widths = [width(runtime, "decode") for runtime in (lent(), *bands)]

    assert widths == sorted(widths, reverse=True)
    low, high = bands[1].host.spread("decode")
    np.testing.assert_allclose(-low / high, 0.4 / 0.5, rtol=0.01)


def test_rows_that_contradict_each_other_widen_a_narrow_band():
    known = lent(
        low_of={"decode": -0.15, "prefill": -0.2}, high_of={"decode": 0.15, "prefill": 0.2}, per_layer_s=80e-6
    )
    found = fit_own_passes(passes(noise=0.5), known, source="").runtime

    assert width(found, "decode") > width(known, "decode")


def test_a_phase_without_rows_keeps_its_band():
    decodes = passes().chosen(np.arange(0, 24, 2))
    found = fit_own_passes(decodes, lent(), source="")

    assert found.runtime.host.spread("prefill") == lent().host.spread("prefill")
    assert found.untold == ("compute_fraction",)


def test_errors_without_a_model_show_the_noise():
    quiet, loud = (
        np.std(fit_own_passes(passes(noise=noise), lent(), source="").errors) for noise in (0.0, 0.2)
    )

    assert quiet < 0.05 < loud


def test_without_a_profile_of_passes_rows_start_from_what_engines_reach_in_general():
    start = whole_pass_profile(Runtime(device="any", software="datasheet"))
    told = passes()

    missed = np.log(told.measured_s / predicted_s(told, fit_own_passes(told, start, source="").runtime))
    assert np.median(np.abs(missed)) < 0.05
    known = lent()
    assert whole_pass_profile(known) is known


def test_chosen_passes_keep_their_kernels():
    told = passes()
    some = told.chosen(np.array([5, 2]))

    np.testing.assert_array_equal(some.memory_s, told.memory_s[[5, 2]])
    np.testing.assert_array_equal(some.first, [0, 1])
    assert list(some.phase) == ["prefill", "decode"]
