"""Figures of offloading and edge systems that claims are answered with."""

from typing import Any

import numpy as np
import pytest

from roofline import make_scenario
from roofline.errors import InvalidSpecError
from roofline.studies.claim_parts import part_figure

MIXTRAL = {"model": "mixtral-8x7b", "hardware": "a40", "software": "datasheet"}
PHONE = {"model": "mistral-7b-v0.1", "hardware": "phone-snapdragon-8-gen-3", "weights": "int4"}


def figure(name: str, settings: dict[str, Any], **arguments: str | float) -> float:
    return part_figure(name, make_scenario(**settings), arguments)[0]


def test_a_pass_of_saturating_tokens_takes_as_long_as_the_link() -> None:
    quick, slow = (figure("saturating_tokens", MIXTRAL, link=rate) for rate in ("39 GB/s", "19.5 GB/s"))

    np.testing.assert_allclose(slow / quick, 2.0, rtol=0.02)


def test_slots_hold_their_share_of_the_experts() -> None:
    none, one, two, whole = (figure("slot_memory", MIXTRAL, slots=slots) for slots in (0, 1, 2, 8))

    np.testing.assert_allclose(two - one, one - none, rtol=1e-9)
    np.testing.assert_allclose(figure("slot_memory", MIXTRAL), whole, rtol=1e-12)
    np.testing.assert_allclose(figure("slot_saving", MIXTRAL, slots=2), 1.0 - two / whole, rtol=1e-12)


def test_foreseen_experts_are_hit_as_far_as_slots_go() -> None:
    one = {**MIXTRAL, "batch": 1}

    assert figure("cache_hits", one, slots=1, policy="foreseen") == 0.5
    assert figure("cache_hits", one, slots=4, policy="foreseen") == 1.0


def test_neurons_are_read_beside_computing_or_before() -> None:
    # 7.24 B parameters of which 5.64 B are neurons of 12,288: 3 B activated are 113 k to 114 k of them
    given = {"activated": 3e9, "missed": 0.1, "access": "4 KiB", "neuron": "8 KiB", "range": "128 MB"}
    beside = figure("neuron_speed", PHONE, compute="50 ms", **given)
    before = figure("neuron_speed", PHONE, compute="50 ms", order="serial", **given)

    read_s = 11_390 * 8192 / 1e9
    np.testing.assert_allclose(beside, 1.0 / read_s, rtol=0.02)
    np.testing.assert_allclose(before, 1.0 / (0.05 + read_s), rtol=0.02)


def test_two_engines_read_no_quicker_than_their_memory() -> None:
    all_of_it = figure("shared_speed", PHONE, dense=1.0, active=0.0)
    bytes_ = 59.6e9 / all_of_it

    assert 3.6e9 < bytes_ < 4.4e9  # 7.1 B parameters at 4 to 5 bits
    np.testing.assert_allclose(
        figure("sparse_speed", PHONE, rate="59.6 GB/s", active=1.0), all_of_it, rtol=0.15
    )


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("saturating_tokens", {}, "link"),
        ("fetch_gain", {"before": 0.1}, "after"),
        ("neuron_speed", {"activated": "many"}, "activated"),
    ],
)
def test_what_a_figure_wants_is_told(name: str, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidSpecError, match=says):
        figure(name, PHONE, **arguments)


def test_no_mixture_and_no_storage_are_told() -> None:
    with pytest.raises(InvalidSpecError, match="mixture"):
        figure("slot_memory", PHONE, slots=1)
    with pytest.raises(InvalidSpecError, match="storage"):
        figure("issuer_loss", MIXTRAL, issuer="shared", block="4 KiB")
