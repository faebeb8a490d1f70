"""Runtimes: what carried-over times become on another device."""

import numpy as np

from roofline.timing.runtime import KernelFit, Runtime


def fit_at(clock_hertz):
    return KernelFit(
        kind="attention_decode",
        format="bf16",
        form="split_attention",
        parameters={"t0_s": 6e-6, "memory_fraction": 0.9},
        low=-0.1,
        high=0.1,
        basis="transferred",
        points=100,
        source="this test",
        clock_hertz=clock_hertz,
    )


def test_carried_over_times_take_as_many_cycles_on_a_slower_clock():
    runtime = Runtime(device="any", software="vllm", kernels=(fit_at(2e9),)).on_clock(1.5e9)

    np.testing.assert_allclose(runtime.kernels[0].parameters["t0_s"], 8e-6, rtol=1e-12)
    assert runtime.kernels[0].parameters["memory_fraction"] == 0.9
    assert runtime.on_clock(1.5e9).kernels[0].parameters == runtime.kernels[0].parameters


def test_times_hold_as_they_are_where_a_clock_is_not_known():
    measured = Runtime(device="any", software="vllm", kernels=(fit_at(0.0),))
    carried = Runtime(device="any", software="vllm", kernels=(fit_at(2e9),))

    assert measured.on_clock(1.5e9).kernels[0].parameters["t0_s"] == 6e-6
    assert carried.on_clock(0.0).kernels[0].parameters["t0_s"] == 6e-6
