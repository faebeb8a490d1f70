"""Tiles and occupancy: the choice is the form's own, and claims about flat products lie in its bracket."""

import numpy as np
import pytest

from roofline import analyze, make_scenario
from roofline.report import Report
from roofline.timing.pass_time import Row
from roofline.timing.tiling import Tiling, joining_share, padding_loss, tiling_of


def report(hardware: str = "a100-sxm-80gb", batch: float = 8, **settings: object) -> Report:
    return analyze(make_scenario("llama-2-7b", hardware, batch=batch, prompt=1024, **settings))


def row_of(found: Report, name: str, phase: str = "decode") -> Row:
    return next(row for row in getattr(found, phase).rows if row.operator.name == name)


def tiling(found: Report, name: str) -> Tiling:
    deployment = found.scenario.deployment
    made = tiling_of(row_of(found, name), deployment.system, deployment.runtime)
    assert made is not None
    return made


def test_blocks_and_waves_follow_from_the_tile() -> None:
    found = tiling(report(), "output")

    assert (found.m, found.n, found.k, found.units) == (8.0, 4096.0, 4096.0, 108.0)
    assert found.padded_m == found.rows
    assert found.blocks == found.split * np.ceil(4096 / found.columns)
    assert found.waves == np.ceil(found.blocks / 108)


def test_the_chosen_tile_gives_the_time_of_the_answer() -> None:
    found = report("a100-sxm-80gb", 8)
    row = row_of(found, "down")

    # Weights, inputs and outputs in 16 bits at the datasheet's bandwidth, over the row's own time.
    moved = 2 * (4096 * 11008 + 8 * 11008 + 8 * 4096)
    rate = found.scenario.deployment.system.device.memory["hbm"].bandwidth_bytes_per_s
    share = moved / rate / row.cost.device_s
    np.testing.assert_allclose(tiling(found, "down").bandwidth_share, share, rtol=1e-2)


def test_few_output_tiles_of_a_long_reduction_split_it() -> None:
    found = tiling(report(batch=128), "down")

    assert found.split > 1
    assert found.blocks > found.units


def test_a_row_without_tiles_has_no_tiling() -> None:
    found = report(software="datasheet")
    deployment = found.scenario.deployment
    row = row_of(found, "output")

    assert tiling_of(row, deployment.system, deployment.runtime) is None
    assert padding_loss(row, deployment.system, deployment.runtime) is None
    assert joining_share(row_of(found, "attention"), deployment.system, deployment.runtime) is None
    assert (
        tiling_of(row_of(report(), "attention"), deployment.system, report().scenario.deployment.runtime)
        is None
    )


def test_losses_published_for_flat_products_lie_in_the_bracket() -> None:
    found = report()
    deployment = found.scenario.deployment
    losses = [
        padding_loss(row_of(found, name), deployment.system, deployment.runtime)
        for name in ("query_key_value", "output", "gate_up", "down")
    ]

    # FlashDecoding++ (arXiv:2311.01282, abstract): > 50 % after padding, 50.25 % for static dataflow.
    low = min(loss[0] for loss in losses if loss is not None)
    high = max(loss[1] for loss in losses if loss is not None)
    assert low == 0.0
    assert 0.5025 < high < 1.0


def joined(model: str, hardware: str) -> float:
    found = analyze(make_scenario(model, hardware, batch=1, prompt=1024))
    deployment = found.scenario.deployment
    share = joining_share(row_of(found, "attention"), deployment.system, deployment.runtime)
    assert share is not None
    return share[1]


@pytest.mark.parametrize(
    ("model", "hardware"), [("llama-3.1-8b", "a100-sxm-80gb"), ("llama-2-7b", "h100-sxm")]
)
def test_joining_splits_costs_about_the_published_fifth_or_less(model: str, hardware: str) -> None:
    # FlashDecoding++ states about 20 % for kernels of 2023.
    assert 0.05 < joined(model, hardware) < 0.2


def test_unshared_keys_are_not_split_on_ampere_and_nothing_is_joined() -> None:
    # FlashAttention-2 splits paged caches only where query heads share keys (mha_varlen_fwd).
    assert joined("llama-2-7b", "a100-sxm-80gb") == 0.0
