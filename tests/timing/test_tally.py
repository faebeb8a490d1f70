"""Turning to the host's processor and back, and what ranks share of it."""

from dataclasses import replace
from typing import Any

import numpy as np

from roofline.api import make_scenario
from roofline.dotted_path import replace_at
from roofline.timing.deployment import Deployment
from roofline.timing.runtime import HostTime, datasheet_runtime

HANDOVER_S = 1e-3


def placed(per_handover_s: float, **settings: Any) -> Deployment:
    scenario = make_scenario("mixtral-8x7b", "desktop-rtx-4090", software="datasheet", **settings)
    host = replace(datasheet_runtime("host"), host=HostTime(per_handover_s=per_handover_s))
    return replace(scenario.deployment, engine_runtimes={"host.cpu": host})


def decode_s(deployment: Deployment) -> float:
    scenario = make_scenario("mixtral-8x7b", "desktop-rtx-4090", software="datasheet")
    return float(deployment.time(scenario.workload.decode(16.0), "decode").time_s)


def test_every_layer_with_experts_on_the_host_hands_over_once() -> None:
    extra = decode_s(placed(HANDOVER_S, experts_on_cpu=8)) - decode_s(placed(0.0, experts_on_cpu=8))

    np.testing.assert_allclose(extra, 8 * HANDOVER_S, rtol=1e-9)


def test_layers_wholly_on_the_host_do_not_hand_over_in_between() -> None:
    extra = decode_s(placed(HANDOVER_S, n_gpu_layers=16)) - decode_s(placed(0.0, n_gpu_layers=16))

    np.testing.assert_allclose(extra, 0.0, atol=1e-12)


def test_hidden_states_cross_the_link_twice() -> None:
    fast = placed(0.0, experts_on_cpu=32)
    slow = replace_at(fast, "system.host_link.bandwidth_bytes_per_s", lambda rate: rate / 2.0)
    link = fast.system.host_link
    assert link is not None
    # 32 layers, there and back, 4096 numbers of 2 bytes.
    sent_s = 32 * 2 * 4096 * 2 / link.bandwidth_bytes_per_s

    np.testing.assert_allclose(decode_s(slow) - decode_s(fast), sent_s, rtol=1e-6)


def test_ranks_share_the_host() -> None:
    def host_s(devices: int) -> float:
        deployment = placed(0.0, experts_on_cpu=32, devices=devices)
        scenario = make_scenario("mixtral-8x7b", "desktop-rtx-4090", software="datasheet")
        found = deployment.time(scenario.workload.decode(16.0), "decode").busy_s["host.cpu"]
        return float(found)

    # Two ranks have half of the experts' bytes each, and half of the host's bandwidth.
    np.testing.assert_allclose(host_s(2), host_s(1), rtol=0.01)
