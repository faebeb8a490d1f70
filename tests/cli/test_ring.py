"""`roofline ring`: a model over unlike devices."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Run = Callable[[str], Any]

TWO = "ring llama-3.1-8b apple-m1 --with snapdragon-8-gen-3 --link wifi-6 --weights q4_0"


def test_layers_and_times_of_every_device_are_shown(roofline: Run) -> None:
    found = roofline(f"{TWO} --layers 24,8")

    assert found.status == 0, found.err
    assert "Apple M1" in found.out
    assert "binds" in found.out
    assert "idle" in found.out


def test_json_adds_up(roofline: Run) -> None:
    document = json.loads(roofline(f"{TWO} --format json").out)

    np.testing.assert_allclose(
        document["token_s"], document["compute_s"] + document["send_s"] + document["read_s"], rtol=1e-12
    )
    assert sum(device["layers"] for device in document["devices"]) == 32
    assert document["fits"] is True


def test_a_card_and_its_processor_are_one_device(roofline: Run) -> None:
    found = roofline(
        "ring llama-3.1-70b rtx-3070+intel-core-i9-13900k --memory-limit '16 GiB' --storage nvme-gen3 "
        "--with 'rtx-2080-ti+intel-core-i9-13900k,32 GiB' --link wifi-6 --weights q4_0 --format json"
    )

    first, second = json.loads(found.out)["devices"]
    assert 10 < first["own_layers"] < 20  # 8 GB of layers of 0.46 GB, less the head
    assert second["own_layers"] > first["own_layers"]
    assert second["layers"] > second["own_layers"]


def test_what_fits_nowhere_is_an_answer(roofline: Run) -> None:
    found = roofline("ring llama-3.1-8b apple-m1 --memory-limit '2 GiB' --format json")

    document = json.loads(found.out)
    assert found.status == 0
    assert document["fits"] is False
    assert document["devices"][0]["lacking_bytes"] > 1e10


def test_csv_has_a_row_for_each_device(roofline: Run) -> None:
    found = roofline(f"{TWO} --format csv")

    assert found.out.startswith("device,layers,own_layers,busy_s")
    assert len(found.out.strip().splitlines()) == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--with nosuch --link wifi-6", "nosuch"),
        ("--with apple-m2", "--link"),
        ("--with apple-m2,a,b,c --link wifi-6", "HARDWARE"),
        ("--with 'apple-m2,lots' --link wifi-6", "lots"),
        ("--with 'apple-m2,-8 GiB' --link wifi-6", "-8 GiB"),
        ("--storage nosuch", "nosuch"),
        ("--layers 31", "32"),
        ("--layers 16,16", "1 devices"),
        ("--rounds 0", "--rounds"),
        ("--rounds 5", "divides 32"),
        ("--sequences 0", "--sequences"),
        ("--devices 2", "--devices"),
        ("--offload storage", "--offload"),
    ],
)
def test_wrong_use_is_one_line(roofline: Run, options: str, says: str) -> None:
    found = roofline(f"ring llama-3.1-8b apple-m1 {options}")

    assert found.status == 2
    assert says in found.err
    assert len(found.err.strip().splitlines()) == 1
    assert found.out == ""
