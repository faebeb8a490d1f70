"""Transfer: which kernels stand for one another, and what their times become on another clock."""

from dataclasses import replace

import numpy as np

from roofline.calibration.fits.fitted_forms import FITTED_FORMS
from roofline.calibration.fits.fitting import Solution
from roofline.calibration.fits.transfer import Donor, Kin, carried_fit, carried_to, carry_over, lend
from roofline.calibration.measurements.operator_tables import Measurements
from roofline.timing.forms import Ceilings, Work

HOPPER = Kin(family="nvidia_hbm", architecture="hopper", segment="professional", year=2022, clock_hertz=2e9)
AMPERE = replace(HOPPER, architecture="amperega100", year=2020, clock_hertz=1.5e9)
ADA = Kin(
    family="nvidia_gddr", architecture="adalovelace", segment="professional", year=2023, clock_hertz=2.5e9
)


def donor(kin, *, kind, format="bf16", framework="vllm", device=""):
    form = FITTED_FORMS[kind]
    data = Measurements(
        device=device or kin.architecture,
        software=f"{framework} 1.0",
        kind=kind,
        format=format,
        engine="gpu",
        kernel="made up",
        source="this test",
        work=Work(flops=0.0, bytes=0.0, shape={}),
        ceilings=Ceilings(flops_per_s=1e15, bytes_per_s=3e12, units=132.0, cache_bytes=50e6),
        times_s=np.ones(50),
        family=np.arange(50),
    )
    solution = Solution(
        parameters={parameter.name: parameter.prior for parameter in form.parameters},
        choices=form.choices[0],
        standard_errors={parameter.name: 0.1 for parameter in form.parameters},
        loss=0.1,
    )
    return Donor(kin=kin, data=data, solution=solution, errors=np.zeros(50))


def test_a_framework_lends_its_16_bit_attention_before_another_lends_the_format():
    own = donor(AMPERE, kind="attention_decode")
    other = donor(AMPERE, kind="attention_decode", format="fp8", framework="sglang")

    lent = lend([own, other], kin=HOPPER, kind="attention_decode", format="fp8", framework="vllm")

    assert lent == (own,)
    assert carried_fit(lent, np.zeros(50), kin=HOPPER, format="fp8").format == "fp8"


def test_latent_attention_stays_among_devices_with_or_without_warp_groups():
    kind = "latent_attention_decode"
    hopper, ada = donor(HOPPER, kind=kind), donor(ADA, kind=kind)

    assert lend([hopper, ada], kin=AMPERE, kind=kind, format="bf16", framework="vllm") == (ada,)
    assert lend([ada], kin=HOPPER, kind=kind, format="bf16", framework="vllm") == ()


def test_decode_times_are_lent_in_cycles_and_prefill_times_in_seconds():
    decode, prefill = (donor(AMPERE, kind=f"attention_{phase}") for phase in ("decode", "prefill"))

    assert carried_fit((decode,), np.zeros(50), kin=HOPPER).clock_hertz == 1.5e9
    assert carried_fit((prefill,), np.zeros(50), kin=HOPPER).clock_hertz == 0.0


def test_donors_of_different_clocks_meet_at_their_median():
    # 3 us at 1.5 GHz and 3 us at 2.5 GHz are 4500 and 7500 cycles: 2.25 and 3.75 us at 2 GHz.
    name = "item_s"
    pair = [donor(kin, kind="attention_decode") for kin in (AMPERE, ADA)]
    slow, fast = (
        replace(each, solution=replace(each.solution, parameters={**each.solution.parameters, name: 3e-6}))
        for each in pair
    )

    carried = carry_over((slow, fast))

    np.testing.assert_allclose(carried.parameters[name], np.sqrt(2.25e-6 * 3.75e-6), rtol=1e-9)


def test_quantised_products_take_the_framework_before_the_architecture():
    kind = "gemm"
    near = donor(HOPPER, kind=kind, format="fp8", framework="flashinfer", device="near")
    own = donor(ADA, kind=kind, format="fp8", device="own")

    def lent(format):
        pair = [replace(one, data=replace(one.data, format=format)) for one in (near, own)]
        found = lend(pair, kin=HOPPER, kind=kind, format=format, framework="vllm")
        return [one.data.device for one in found]

    assert lent("fp8") == ["own"]
    assert lent("bf16") == ["near"]


def test_products_are_carried_only_from_the_commonest_kind_of_dispatch():
    one, two, odd = (donor(HOPPER, kind="gemm", device=name) for name in ("one", "two", "odd"))
    slow = {**odd.solution.parameters, "t0_s": 1.0}
    odd = replace(odd, solution=replace(odd.solution, parameters=slow, choices={"dispatch": 2.0}))

    carried = carry_over((odd, one, two))

    np.testing.assert_allclose(carried.parameters["t0_s"], one.solution.parameters["t0_s"], rtol=1e-9)


def with_parameters(one, **parameters):
    return replace(one, solution=replace(one.solution, parameters={**one.solution.parameters, **parameters}))


def test_what_the_cache_saves_is_lent_by_devices_with_such_memory():
    hbm = [with_parameters(donor(HOPPER, kind="gemm", device=name), cache_gain=1.2) for name in ("a", "b")]
    gddr = with_parameters(donor(ADA, kind="gemm"), cache_gain=0.4)

    lent = (*hbm, gddr)

    np.testing.assert_allclose(carry_over(lent, ADA.family).parameters["cache_gain"], 0.4, rtol=1e-9)
    np.testing.assert_allclose(carry_over(lent, "amd_hbm").parameters["cache_gain"], 1.2, rtol=1e-9)


def test_products_of_one_architecture_reach_what_power_allows():
    # A quarter of the power over the peak allows half of the share; four times as much, all of the peak.
    card = replace(ADA, joules_per_flop=1e-12)
    lent = (with_parameters(donor(card, kind="gemm"), compute_fraction=0.6),)

    def reached(kin, lent=lent):
        return carried_to(kin, lent).parameters["compute_fraction"]

    np.testing.assert_allclose(reached(replace(card, joules_per_flop=0.25e-12)), 0.3, rtol=1e-9)
    np.testing.assert_allclose(reached(replace(card, joules_per_flop=4e-12)), 1.0, rtol=1e-9)
    np.testing.assert_allclose(reached(ADA), 0.6, rtol=1e-9)
    np.testing.assert_allclose(reached(replace(AMPERE, joules_per_flop=4e-12)), 0.6, rtol=1e-9)
    assert carried_fit(lent, np.zeros(50), kin=card).joules_per_flop == 1e-12
    at_peak = (with_parameters(lent[0], compute_fraction=0.95),)
    np.testing.assert_allclose(reached(replace(card, joules_per_flop=0.25e-12), at_peak), 0.95, rtol=1e-9)


def test_how_a_machine_is_wired_counts_its_prior_as_one_more_device():
    # One machine loses bandwidth as pairs**1.8; the prior, which loses none, is the other: the median is 0.9.
    one = donor(ADA, kind="all_reduce")
    lossy = {**one.solution.parameters, "bandwidth_exponent": 1.8}
    one = replace(one, solution=replace(one.solution, parameters=lossy))

    np.testing.assert_allclose(carry_over((one,)).parameters["bandwidth_exponent"], 0.9, rtol=1e-9)


def test_attention_on_narrow_operands_is_not_lent_by_a_16_bit_kernel():
    kind = "attention_prefill"
    own = donor(AMPERE, kind=kind)
    other = donor(AMPERE, kind=kind, format="fp8_by_fp8", framework="sglang")

    lent = lend([own, other], kin=HOPPER, kind=kind, format="fp8_by_fp8", framework="vllm")

    assert lent == (other,)


def test_products_with_block_scales_stay_among_devices_with_warp_groups():
    ada, hopper = (donor(kin, kind="gemm", format="nvfp4") for kin in (ADA, HOPPER))
    blackwell = replace(HOPPER, architecture="blackwell", year=2024)

    assert lend([ada], kin=blackwell, kind="gemm", format="nvfp4", framework="vllm") == ()
    assert lend([ada, hopper], kin=blackwell, kind="gemm", format="nvfp4", framework="vllm") == (hopper,)
    assert lend([ada, hopper], kin=AMPERE, kind="gemm", format="nvfp4", framework="vllm") != ()
