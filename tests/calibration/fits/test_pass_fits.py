"""Fits of whole passes: reached peaks and host time come back."""

from dataclasses import replace

import numpy as np

from roofline.calibration.fits.pass_fits import Passes, fit_passes, pass_runtime


def passes(device="nvidia_rtx_4090", software="llama.cpp 1", memory=0.9, q4_compute=0.2, noise=0.0):
    """Six models, 0.9 of the bandwidth, two formats that reach 0.4 and 0.2 of the peak, 80 us a layer."""
    random = np.random.default_rng(3)
    layers = np.repeat([16.0, 32.0, 32.0, 40.0, 80.0, 80.0], 4)
    read_s = np.repeat([1e-3, 4e-3, 8e-3, 13e-3, 35e-3, 70e-3], 4)
    multiply_s = np.tile([0.0, 30.0, 0.0, 30.0], 6) * read_s
    quantised = np.tile([False, False, True, True], 6)
    reached = np.where(quantised, q4_compute, 0.4)
    device_s = ((multiply_s / reached) ** 4 + (read_s / memory) ** 4) ** 0.25
    return Passes(
        device=device,
        software=software,
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


def test_what_was_put_in_comes_back():
    found = fit_passes(passes())

    np.testing.assert_allclose(found.shared["per_layer_s"], 80e-6, rtol=0.05)
    for name, compute in (("bf16", 0.4), ("q4_0", 0.2)):
        reached = found.by_format[name]
        np.testing.assert_allclose(reached["memory_fraction"], 0.9, rtol=0.03)
        np.testing.assert_allclose(reached["compute_fraction"], compute, rtol=0.03)


def test_held_out_errors_show_the_noise():
    quiet, loud = (np.std(fit_passes(passes(noise=noise)).errors) for noise in (0.0, 0.1))

    assert quiet < 0.03 < loud


def test_the_profile_says_what_it_rests_on_and_keeps_formats_apart():
    found = fit_passes(passes(noise=0.05))
    errors = {"decode": found.errors_of("decode"), "prefill": found.errors_of("prefill")}
    own = pass_runtime(
        [found], errors=errors, everyone=errors, device="nvidia_rtx_4090", software="llama.cpp 1", date=""
    )
    lent = pass_runtime(
        [found, replace(found, passes=passes("nvidia_rtx_4080"))],
        errors=errors,
        everyone=errors,
        device="any",
        software="llama.cpp",
        date="",
    )

    fit, steps = own.fit_for("gemm", "q4_0")
    assert fit is not None
    assert steps == 0
    np.testing.assert_allclose(fit.parameters["compute_fraction"], 0.2, rtol=0.1)
    assert (own.host.basis, lent.host.basis) == ("measured", "transferred")
    assert own.host.spread("decode")[0] < 0.0 < own.host.spread("decode")[1]
