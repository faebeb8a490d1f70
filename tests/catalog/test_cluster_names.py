"""Cells that list several machines, and what joins those."""

import numpy as np
import pytest

from roofline.catalog.cluster_names import cluster_called, link_called
from roofline.errors import UnknownNameError

GIB = 2.0**30


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("4x Mac mini M4 Pro 64GB", ["apple_m4_pro"] * 4),
        ("Mac mini M4 Pro 64GB (4x)", ["apple_m4_pro"] * 4),
        ("4-node Raspberry Pi 5 cluster", ["raspberry_pi_5"] * 4),
        ("Framework Mainboard Cluster (512GB)", ["amd_strix_halo_8060s"] * 4),
        ("MacBook Pro M1 and 2x Mac mini M4 24GB", ["apple_m1", "apple_m4", "apple_m4"]),
        ("home cluster (Mac M1, laptop+3070)", ["apple_m1", "nvidia_rtx_3070_laptop"]),
        ("RTX 4090 + i9-13900K 64GB DDR5 + Mac M1 8GB", ["nvidia_rtx_4090", "apple_m1"]),
    ],
)
def test_machines_are_counted_and_named(text: str, devices: list[str]) -> None:
    assert [member.device for member in cluster_called(text).members] == devices


def test_a_card_has_the_memory_and_the_processor_beside_it() -> None:
    found = cluster_called(
        "D1: Mac M1 (2.4 GiB available), D2: RTX 3070 8GB + i9-13900K (4.1 GiB RAM available)"
    )

    mac, desktop = found.members
    assert (mac.device_bytes, mac.free) == (2.4 * GIB, True)
    assert (desktop.device_bytes, desktop.host, desktop.host_bytes) == (
        8.0 * GIB,
        "intel_core_i9_13900k",
        4.1 * GIB,
    )


def test_what_is_not_known_is_told() -> None:
    found = cluster_called("Mac M1 8GB + Phone XYZ (1.9 GiB available)")

    assert found.unknown == ("Phone XYZ (1.9 GiB available)",)
    with pytest.raises(UnknownNameError, match="no machine is named in 'home cluster'"):
        cluster_called("home cluster")


@pytest.mark.parametrize(
    ("text", "rate"),
    [("over Thunderbolt 4", None), ("5 Gbps Ethernet", 625e6), ("300 Mbps", 37.5e6), ("2.5GbE", 312.5e6)],
)
def test_the_rate_of_a_link_is_as_stated(text: str, rate: float | None) -> None:
    link = link_called("", text, otherwise="ethernet_1g")

    if rate is None:
        assert link.bandwidth_bytes_per_s > 1e9
    else:
        np.testing.assert_allclose(link.bandwidth_bytes_per_s, rate, rtol=1e-12)
