"""Host time of serving software: what was put in comes back, and intervals hold what they say."""

import numpy as np

from roofline.calibration.fits.served_fits import Iterations, fit_host, lent_hosts, needed_spread
from roofline.timing.runtime import HostTime, Runtime


def iterations(noise=0.05, fold=1.0):
    """Five models of 16 to 80 layers at 8 to 256 sequences: 2 ms, 20 us a layer, 60 us a sequence."""
    random = np.random.default_rng(5)
    layers = np.repeat([16.0, 28.0, 32.0, 48.0, 80.0], 6)
    sequences = np.tile([8.0, 16.0, 32.0, 64.0, 128.0, 256.0], 5)
    device_s = layers * 2e-4 * (1 + sequences / 200)
    host_s = fold * (2e-3 + 20e-6 * layers + 60e-6 * sequences)
    return Iterations(
        model=np.array([f"model {count}" for count in layers], dtype=object),
        device_s=device_s,
        low_s=device_s,
        high_s=device_s,
        layers=layers,
        sequences=sequences,
        measured_s=(device_s + host_s) * np.exp(noise * random.standard_normal(30)),
    )


def test_host_time_per_sequence_comes_back():
    made = fit_host(iterations(noise=0.01), "sum")

    np.testing.assert_allclose(made.seconds["per_sequence_s"], 60e-6, rtol=0.15)
    assert np.median(np.abs(made.errors)) < 0.03


def test_a_slow_host_is_found_under_a_maximum():
    data = iterations(noise=0.01, fold=30.0)
    host_s = 1e-3 * data.layers
    slow = Iterations(**{**vars(data), "measured_s": np.maximum(data.device_s, host_s)})

    np.testing.assert_allclose(fit_host(slow, "max").seconds["per_layer_s"], 1e-3, rtol=0.2)


def test_the_spread_of_a_pass_holds_what_kernels_leave():
    errors = np.linspace(-1.0, 1.0, 201)
    nothing = np.zeros(201)

    # One in ten lies below 80 % of the reach on each side; kernels that reach 1 leave nothing.
    np.testing.assert_allclose(needed_spread(errors, nothing, nothing), (-0.8, 0.8), rtol=1e-9)
    np.testing.assert_allclose(needed_spread(errors, nothing - 1, nothing + 1), (0.0, 0.0), atol=1e-12)


def test_host_time_is_lent_to_profiles_of_the_same_software_only():
    served = Runtime(
        device="a", software="vllm 1", host=HostTime(per_sequence_s=5e-5, points=9, basis="measured")
    )
    bare = Runtime(device="b", software="vllm 1")

    found = lent_hosts({"a/vllm": served, "b/vllm": bare, "b/sglang": bare})

    assert list(found) == ["b/vllm"]
    assert (found["b/vllm"].host.per_sequence_s, found["b/vllm"].host.basis) == (5e-5, "transferred")
