"""Where bytes live and who computes, by hand on one model and device."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from roofline import InvalidSpecError, make_scenario
from roofline.timing.deployment import Deployment
from roofline.timing.pass_time import PassTime
from roofline.timing.placement import Piece, Placement, Rule
from roofline.timing.timeline import Composition


def deployment(hardware: str = "desktop_rtx_4090", **changes: Any) -> Deployment:
    scenario = make_scenario("llama-3.1-8b", hardware, software="datasheet")
    return replace(scenario.deployment, **changes)


def timed(placed: Deployment) -> PassTime:
    step = make_scenario("llama-3.1-8b", "rtx-4090", context=1024).workload.decode(0.0)
    return placed.time(step, "decode")


def placed(*rules: Rule, hardware: str = "desktop_rtx_4090", **changes: Any) -> Deployment:
    return deployment(hardware, placement=Placement(rules=rules), **changes)


STREAMED = {"weight": {"host": 1.0}}


def test_no_rule_and_a_rule_that_names_the_near_memory_are_the_same() -> None:
    plain, ruled = timed(deployment()), timed(placed(Rule(pattern="*")))

    np.testing.assert_allclose(ruled.time_s, plain.time_s, rtol=1e-12)
    assert ruled.bytes_by_tier == plain.bytes_by_tier


def test_streamed_weights_arrive_at_the_rate_of_the_link() -> None:
    run = placed(Rule(pattern="decoder.feed_forward", pieces=(Piece(tiers=STREAMED),)))
    time = timed(run)
    # Gate, up and down of 32 layers in bf16 over PCIe 4.0 x16.
    size = 32 * 3 * 4096 * 14336 * 2.0

    link = run.system.host_link
    assert link is not None
    np.testing.assert_allclose(time.bytes_by_tier["host"], size, rtol=1e-12)
    np.testing.assert_allclose(time.busy_s["host_memory"], size / link.bandwidth_bytes_per_s, rtol=1e-12)
    assert time.time_s >= size / link.bandwidth_bytes_per_s
    assert time.bound_s["transfer"] > 0.5 * time.time_s


def test_fetched_ahead_hides_behind_compute_and_waiting_does_not() -> None:
    ahead, waits, half = (
        timed(placed(Rule(pattern="decoder.*", pieces=(Piece(tiers=STREAMED, prefetched=share),))))
        for share in (1.0, 0.0, 0.5)
    )
    resident = timed(deployment())

    np.testing.assert_allclose(waits.time_s, ahead.busy_s["host_memory"] + resident.time_s, rtol=1e-9)
    assert ahead.time_s <= half.time_s < waits.time_s
    assert max(ahead.busy_s["host_memory"], resident.time_s) <= ahead.time_s * (1 + 1e-12)


def test_depth_composes_from_serial_to_hidden() -> None:
    rule = Rule(pattern="decoder.*", pieces=(Piece(tiers=STREAMED),))
    serial, two, hidden = (
        timed(placed(rule, composition=Composition(depth=depth))).time_s for depth in (1.0, 2.0, None)
    )

    assert hidden < two < serial
    np.testing.assert_allclose(two, (serial + hidden) / 2, rtol=1e-9)


def test_layers_on_the_host_read_at_the_rate_of_its_memory() -> None:
    on_host = placed(Rule(pattern="decoder.*", layers=0.25, pieces=(Piece(engine="host.cpu"),)))
    time, plain = timed(on_host), timed(deployment())
    memory = on_host.memory(make_scenario("llama-3.1-8b", "rtx-4090").workload.decode(0.0))

    host = on_host.system.host
    assert host is not None
    moved = time.bytes_by_tier["host"]
    floor = moved / next(iter(host.memory.values())).bandwidth_bytes_per_s
    np.testing.assert_allclose(time.busy_s["host.cpu"], floor, rtol=0.05)
    assert time.time_s > plain.time_s
    layer = 32 * (4096 * (4096 + 1024) * 2 + 3 * 4096 * 14336 + 2 * 4096) * 2.0
    np.testing.assert_allclose(memory.used_bytes["host"]["weights"], layer / 4, rtol=1e-9)
    assert memory.used_bytes["host"]["kv_cache"] > 0


def test_memory_adds_up_over_tiers() -> None:
    step = make_scenario("llama-3.1-8b", "rtx-4090").workload.decode(0.0)
    whole = deployment().memory(step).used_bytes["gddr"]["weights"]
    rule = Rule(pattern="decoder.*", pieces=(Piece(tiers={"weight": {"host": 0.3, "gddr": 0.7}}),))

    used = placed(rule).memory(step).used_bytes

    np.testing.assert_allclose(used["host"]["weights"] + used["gddr"]["weights"], whole, rtol=1e-12)


def test_two_engines_share_the_bus_under_its_cap() -> None:
    phone = "phone_snapdragon_8_gen_3"
    split = tuple(Piece(engine=name, work=0.5) for name in ("cpu", "npu"))
    both = timed(placed(Rule(pattern="*", pieces=split), hardware=phone))
    alone = {
        name: timed(placed(Rule(pattern="*", pieces=(Piece(engine=name),)), hardware=phone)).time_s
        for name in ("cpu", "npu")
    }
    moved = both.bytes_by_tier["unified"]

    # PowerInfer-2 measured 43.9 and 56 GB/s alone, 59.6 GB/s together.
    np.testing.assert_allclose(alone["cpu"], moved / 43.9e9, rtol=0.02)
    np.testing.assert_allclose(both.time_s, moved / 59.6e9, rtol=0.02)
    assert both.time_s < min(alone.values())


def test_an_engine_or_tier_that_is_not_there_is_named() -> None:
    with pytest.raises(InvalidSpecError, match="no engine 'npu'"):
        timed(placed(Rule(pattern="*", pieces=(Piece(engine="npu"),))))
    with pytest.raises(InvalidSpecError, match="no tier 'host'"):
        timed(placed(Rule(pattern="*", pieces=(Piece(tiers=STREAMED),)), hardware="phone_snapdragon_8_gen_3"))
    on_disc = placed(Rule(pattern="*", pieces=(Piece(tiers={"weight": {"disc": 1.0}}),)))
    step = make_scenario("llama-3.1-8b", "rtx-4090").workload.decode(0.0)
    with pytest.raises(InvalidSpecError, match="no tier 'disc'"):
        on_disc.memory(step)


def test_shares_may_be_swept() -> None:
    shares = np.array([0.0, 0.25, 1.0])
    swept = timed(placed(Rule(pattern="decoder.*", layers=shares, pieces=(Piece(engine="host.cpu"),)))).time_s
    single = [
        timed(
            placed(Rule(pattern="decoder.*", layers=float(share), pieces=(Piece(engine="host.cpu"),)))
        ).time_s
        for share in shares
    ]

    np.testing.assert_allclose(swept, single, rtol=1e-12)
