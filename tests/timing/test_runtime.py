"""Runtimes: what carried-over times become on another device."""

from dataclasses import replace

import numpy as np

from roofline.timing.runtime import HostTime, KernelFit, Runtime


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
    runtime = Runtime(device="any", software="vllm", kernels=(fit_at(2e9),)).on_engine(clock_hertz=1.5e9)

    np.testing.assert_allclose(runtime.kernels[0].parameters["t0_s"], 8e-6, rtol=1e-12)
    assert runtime.kernels[0].parameters["memory_fraction"] == 0.9
    assert runtime.on_engine(clock_hertz=1.5e9).kernels[0].parameters == runtime.kernels[0].parameters


def test_times_hold_as_they_are_where_a_clock_is_not_known():
    measured = Runtime(device="any", software="vllm", kernels=(fit_at(0.0),))
    carried = Runtime(device="any", software="vllm", kernels=(fit_at(2e9),))

    assert measured.on_engine(clock_hertz=1.5e9).kernels[0].parameters["t0_s"] == 6e-6
    assert carried.on_engine(clock_hertz=0.0).kernels[0].parameters["t0_s"] == 6e-6


def test_carried_over_host_time_counts_cycles():
    host = HostTime(per_layer_s=60e-6, per_pass_s=1e-4, clock_hertz=2e9)
    slower = Runtime(device="any", software="llama.cpp", host=host).on_engine(clock_hertz=1.2e9).host

    np.testing.assert_allclose(slower.per_layer_s, 100e-6, rtol=1e-12)
    assert slower.per_pass_s == 1e-4
    assert replace(host, clock_hertz=0.0).on_clock(1.2e9).per_layer_s == 60e-6


def test_a_card_of_less_power_per_operation_reaches_less_of_its_peak():
    fit = replace(
        fit_at(0.0), parameters={"compute_fraction": 0.4, "memory_fraction": 0.8}, joules_per_flop=1.2e-12
    )
    # A quarter of the power for as many operations: half of the share.
    starved = fit.on_engine(clock_hertz=0.0, joules_per_flop=0.3e-12)
    unknown = fit.on_engine(clock_hertz=0.0, joules_per_flop=0.0)

    np.testing.assert_allclose(starved.parameters["compute_fraction"], 0.2, rtol=1e-12)
    assert starved.parameters["memory_fraction"] == 0.8
    assert unknown.parameters == fit.parameters
