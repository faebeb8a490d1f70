"""What device cells say of a machine."""

import pytest

from roofline.catalog.host_names import machine_called, memory_limit_in
from roofline.catalog.offload_policies import AUTOMATIC, POLICIES, policy_called

GIB = 2.0**30


@pytest.mark.parametrize(
    ("text", "device", "host", "sockets"),
    [
        ("RTX 4090D + 2x Xeon Gold 6454S", "RTX 4090D", "intel_xeon_gold_6454s", 2.0),
        ("1x RTX 5090 32GB + 2x EPYC 9355 PCIe5", "RTX 5090 32GB", "amd_epyc_9355", 2.0),
        ("2x Xeon Gold 6454S", "Xeon Gold 6454S", None, 2.0),
        ("RTX A5000 24GB", "RTX A5000 24GB", None, None),
        ("Quadro RTX 6000 24GB + 48-core Skylake", "Quadro RTX 6000 24GB", "intel_xeon_w_3245", None),
    ],
)
def test_a_cell_names_card_and_host(text: str, device: str, host: str | None, sockets: float | None) -> None:
    found = machine_called(text)

    assert (found.device, found.host, found.sockets) == (device, host, sockets)


def test_memory_channels_link_and_storage_are_read() -> None:
    found = machine_called("2x H100 80GB + Xeon 8xxx, 8 channels DDR5-4800, 512GB DRAM, PCIe 5 + NVMe")

    assert (found.device_count, found.device_bytes) == (2.0, 80 * GIB)
    assert found.host_bytes_per_s == 8 * 4800e6 * 8
    assert (found.host_bytes, found.link, found.storage) == (512 * GIB, "pcie_5_x16", "nvme_gen4")
    assert found.nearest_host


@pytest.mark.parametrize(
    ("texts", "limit"),
    [
        (("Qwen3-30B-A3B (limit 8G)",), 8 * GIB),
        (("", "memory 1 GiB cap: weights streamed"), GIB),
        (("model file 10.36 GB",), None),
    ],
)
def test_a_cap_on_memory_is_told_from_a_file_size(texts: tuple[str, ...], limit: float | None) -> None:
    assert memory_limit_in(*texts) == limit


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("kt-kernel TP4", "kt-kernel"),
        ("KTransformers V0.3-preview", "ktransformers"),
        ("PowerInfer (llama.cpp fork) SmallThinker-4B (sparse)", "powerinfer"),
        ("PowerInfer (llama.cpp fork) Qwen3-1.7B", "llama.cpp"),
        ("HF Accelerate", "accelerate"),
        ("FlexGen + 4-bit compression", "flexgen, compressed"),
        ("MoE-Infinity (FP16)", "moe-infinity"),
        ("something new", AUTOMATIC.name),
    ],
)
def test_a_runtime_has_its_policy(text: str, name: str) -> None:
    assert policy_called(text).name == name


def test_every_policy_cites() -> None:
    assert all(len(policy.source) > 20 for policy in POLICIES)
    assert len({policy.name for policy in POLICIES}) == len(POLICIES)
