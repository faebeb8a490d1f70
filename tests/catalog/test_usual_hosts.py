"""Cards that a model is offloaded from get a host and storage, named or usual."""

import pytest

from roofline import InvalidSpecError, UnknownNameError, analyze, make_scenario
from roofline.catalog.hardware import load_device
from roofline.catalog.usual_hosts import on_usual_machine, usual_host


@pytest.mark.parametrize(
    ("device", "held_bytes", "host"),
    [
        ("nvidia_rtx_4090", 40e9, "intel_core_i9_14900k"),
        ("nvidia_rtx_4090", 400e9, "intel_xeon_gold_6454s"),
        ("nvidia_h100_sxm5_80gb", 40e9, "intel_xeon_gold_6454s"),
        ("nvidia_a100_sxm4_80gb", 40e9, "intel_xeon_w_3245"),
    ],
)
def test_the_usual_host_is_a_desktop_or_a_server_of_the_time(
    device: str, held_bytes: float, host: str
) -> None:
    assert usual_host(load_device(device).value, held_bytes=held_bytes) == host


def test_what_nobody_named_is_an_assumption_and_cited() -> None:
    card = make_scenario("llama-3.1-8b", "rtx-4090")
    found = on_usual_machine(card)

    assert found.deployment.system.host is not None
    assert found.deployment.system.storage is not None
    added = found.assumptions[len(card.assumptions) :]
    assert [note.partition(":")[0] for note in added] == ["host", "storage"]
    assert len(found.citations) > len(card.citations)


def test_a_machine_keeps_the_host_it_has() -> None:
    desktop = make_scenario("llama-3.1-8b", "desktop-rtx-4090")

    assert on_usual_machine(desktop).deployment.system.host is desktop.deployment.system.host
    assert on_usual_machine(desktop).assumptions == desktop.assumptions


@pytest.mark.parametrize("technique", ["fiddler", "flexgen", "moe-infinity"])
def test_a_technique_finds_a_host_beside_a_card(technique: str) -> None:
    placed = make_scenario("mixtral-8x7b", "rtx-4090", technique=(technique,))

    assert placed.deployment.system.host is not None


def test_a_faster_drive_reads_faster() -> None:
    slow, fast = (
        analyze(make_scenario("llama-3.1-70b", "rtx-4090", weights="q4_0", offload="storage", storage=name))
        for name in ("nvme-gen3", "nvme-gen5")
    )

    assert fast.decode.time_s.value < 0.6 * slow.decode.time_s.value
    assert any(note.startswith("host: ") for note in fast.scenario.assumptions)


def test_a_resident_model_has_no_host() -> None:
    assert make_scenario("llama-3.1-8b", "rtx-4090").deployment.system.host is None


@pytest.mark.parametrize(
    ("device", "host", "error", "message"),
    [
        ("h100-sxm", "nvidia-a100-sxm4-80gb", InvalidSpecError, "want a processor"),
        ("snapdragon-8-elite", "amd-epyc-7763", InvalidSpecError, "no link"),
        ("h100-sxm", "amd-epyc-7764", UnknownNameError, "nearest"),
    ],
)
def test_a_host_that_cannot_be_is_refused(
    device: str, host: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_scenario("llama-3.1-8b", device, host=host, offload="host")
