"""Layers of a model on unlike devices in a ring."""

from dataclasses import replace

import numpy as np
import pytest

from roofline.catalog.hardware import load_link, load_storage
from roofline.device_ring import RingDevice, analyzed_device, best_ring, proportional_ring, ring_time
from roofline.errors import InvalidSpecError
from roofline.settings import Settings

#: A layer of 1 GB in 10 ms; 8 GB of memory; 1 GB/s from storage; 2 ms to the next.
SMALL = RingDevice(
    name="small", near_s=0.010, around_s=0.005, layer_bytes=1e9, near_bytes=8e9,
    read_bytes_per_s=1e9, fault_bytes_per_s=0.5e9, send_s=0.002,
)  # fmt: skip
FAST = replace(SMALL, name="fast", near_s=0.001, near_bytes=16e9)


def test_a_token_that_is_held_everywhere_adds_up() -> None:
    ring = ring_time((SMALL, FAST), (4.0, 16.0), rounds=2.0)

    # 4 x 10 + 5 of the head + 16 x 1 = 61 ms, and 2 rounds over two links of 2 ms
    np.testing.assert_allclose(ring.token_s, 0.061 + 0.008, rtol=1e-12)
    assert ring.binding == "compute"
    assert float(ring.fits) == 1.0


def test_reading_ahead_hides_behind_the_others() -> None:
    slow = replace(FAST, near_s=1.0)

    # 9 layers where 8 fit: all 9 GB are read, 8 of them while the other computes for 16 s, 1 by faults
    ring = ring_time((SMALL, slow), (9.0, 16.0))
    eager = ring_time((SMALL, slow), (9.0, 16.0), prefetch=False)

    np.testing.assert_allclose(ring.read_s, 2.0, rtol=1e-12)
    np.testing.assert_allclose(eager.read_s, 18.0, rtol=1e-12)


def test_more_rounds_make_windows_that_fit() -> None:
    slow = replace(FAST, near_s=1.0)

    ring = ring_time((SMALL, slow), (12.0, 16.0), rounds=np.array([1.0, 2.0]))

    # 4 of 12 GB by faults; in two rounds windows of 6 GB fit and 12 s of reading hide behind 16 s
    np.testing.assert_allclose(ring.read_s, [8.0, 0.0], atol=1e-12)


def test_storage_binds_where_the_others_are_quick() -> None:
    ring = ring_time((SMALL, FAST), (16.0, 4.0), rounds=2.0)

    # busy: 165 ms of computing and 16 s of reading
    np.testing.assert_allclose(ring.token_s, 16.165, rtol=1e-12)
    assert ring.binding == "storage"


def test_pinned_layers_are_read_once() -> None:
    mapped, pinned = (ring_time((SMALL,), (9.0,), paging=paging) for paging in ("mapped", "pinned"))

    np.testing.assert_allclose([mapped.read_s, pinned.read_s], [8.0 + 2.0, 1.0], rtol=1e-12)


def test_the_processor_beside_a_device_takes_what_its_memory_does_not_hold() -> None:
    both = replace(FAST, host_s=0.1, host_bytes=4e9)

    np.testing.assert_allclose(both.compute_s(np.array([16.0, 18.0])), [0.016, 0.216], rtol=1e-12)
    np.testing.assert_allclose(both.paged(20.0, "mapped")[0], 0.0, atol=0.0)
    np.testing.assert_allclose(both.paged(21.0, "mapped")[0], 5e9, rtol=1e-12)


def test_what_can_neither_be_held_nor_read_is_told() -> None:
    ring = ring_time((replace(SMALL, read_bytes_per_s=0.0),), (10.0,))

    assert float(ring.fits) == 0.0
    np.testing.assert_allclose(ring.lacking_bytes[0], 2e9, rtol=1e-12)


def test_of_experts_only_those_a_token_picks_are_read() -> None:
    # 10 GB of layers where 8 fit; a token reads 0.1 of each 1 GB, none ahead. Memory holds what 8 tokens
    # read, and 0.2 of their experts are those of the token before: 1 - exp(-8 x 0.2 / 0.8) are found for
    # that, and 0.8 of the others.
    missed = 10 * 0.1e9 * np.exp(-2.0) * 0.2

    ring = ring_time((replace(SMALL, touched_bytes=0.1e9),), (10.0,))

    np.testing.assert_allclose(ring.read_s, missed / 0.5e9, rtol=1e-12)


def test_a_mixture_of_the_catalogue_touches_few_of_its_experts() -> None:
    settings = Settings(model="qwen3-30b-a3b", hardware="apple-m1", weights="q4_0")
    device = analyzed_device(settings.scenario()).ring_device()

    assert device.touched_bytes is not None
    # 8 of 128 experts and attention: 3 of 30 B parameters
    assert 0.07 < float(device.touched_bytes / device.layer_bytes) < 0.13


def test_pinned_layers_that_cannot_be_read_lack_the_excess() -> None:
    ring = ring_time((replace(SMALL, read_bytes_per_s=0.0),), (20.0,), paging="pinned")

    np.testing.assert_allclose(ring.lacking_bytes[0], 12e9, rtol=1e-12)


def test_tokens_on_their_way_fill_the_ring_up_to_its_busiest_device() -> None:
    ring = ring_time((SMALL, FAST), (4.0, 16.0))

    rates = ring.tokens_per_s(np.array([1.0, 100.0]))

    np.testing.assert_allclose(rates, [1.0 / 0.065, 1.0 / 0.045], rtol=1e-12)


def test_every_device_may_be_made_to_work() -> None:
    # The second is ten times as quick and holds all: alone it is best, unless the first must have a layer.
    quick = replace(FAST, near_s=SMALL.near_s / 10.0, near_bytes=1e12)

    free = best_ring((SMALL, quick), 8, rounds=(1,))
    made = best_ring((SMALL, quick), 8, rounds=(1,), least=1)

    assert free.layers == (0.0, 8.0)
    assert made.layers == (1.0, 7.0)
    with pytest.raises(InvalidSpecError, match="at least 5"):
        best_ring((SMALL, quick), 8, rounds=(1,), least=5)


def test_the_best_split_is_that_of_trying_all() -> None:
    third = replace(SMALL, name="third", near_s=0.004, near_bytes=6e9, send_s=0.02)
    devices = (SMALL, FAST, third)

    found = best_ring(devices, 24, rounds=(1, 2, 3))

    tried = [
        float(ring_time(devices, (a * k, b * k, (24 // k - a - b) * k), rounds=float(k)).token_s)
        for k in (1, 2, 3)
        for a in range(24 // k + 1)
        for b in range(24 // k - a + 1)
    ]
    np.testing.assert_allclose(found.token_s, min(tried), rtol=1e-12)
    assert sum(float(count) for count in found.layers) == 24


def test_a_catalogue_device_carries_over() -> None:
    settings = Settings(model="llama-3.1-70b", hardware="desktop-rtx-4090", weights="q4_k_m", prompt=64)
    link, storage = load_link("wifi-6").value, load_storage("ufs-4.0").value

    desktop = analyzed_device(settings.scenario()).ring_device(link)
    other = replace(settings, hardware="snapdragon-8-gen-3")
    phone = analyzed_device(other.scenario()).ring_device(link, storage=storage, first=False)

    assert desktop.host_s is not None
    assert float(desktop.near_s) < float(desktop.host_s)
    assert float(desktop.near_s) < float(phone.near_s)
    assert 35.0 < float(desktop.near_layers(80.0)) < 45.0  # 20 GB of layers of half a GB
    np.testing.assert_allclose(desktop.layer_bytes, phone.layer_bytes, rtol=1e-12)
    assert float(ring_time((desktop, phone), (70.0, 10.0)).fits) == 1.0


@pytest.mark.parametrize("layers", [(1.0,), ()])
def test_counts_that_do_not_match_are_refused(layers: tuple[float, ...]) -> None:
    with pytest.raises(InvalidSpecError, match="2 devices"):
        ring_time((SMALL, FAST), layers)


def test_rounds_that_divide_nothing_are_refused() -> None:
    with pytest.raises(InvalidSpecError, match="divides 7"):
        best_ring((SMALL,), 7, rounds=(2, 4))


def test_layers_in_proportion_to_memory_add_up() -> None:
    found = proportional_ring((SMALL, FAST), 32)

    # 8 and 16 GB of 24: 10.67 and 21.33 layers, the largest remainder up.
    assert found.layers == (11.0, 21.0)
    assert float(found.rounds) == 1.0


def test_a_prefill_sends_and_computes_all_of_its_tokens() -> None:
    settings = Settings(model="llama-3.1-8b", hardware="apple-m1", weights="q4_0", prompt=512)
    whole = analyzed_device(settings.scenario())
    link = load_link("wifi-6").value

    token, prompt = (whole.ring_device(link, phase=phase) for phase in ("decode", "prefill"))  # type: ignore[arg-type]

    np.testing.assert_allclose(prompt.send_s - token.send_s, 511 * 4096 * 2.0 / 150e6, rtol=1e-12)
    assert float(prompt.near_s) > 2.0 * float(token.near_s)
    assert float(whole.ring_device(end="ideal").near_s) <= float(token.near_s)
