"""Devices left out: a few rows of their own bring them closer."""

import numpy as np
import pytest

from roofline.calibration.accuracy.few_rows import ROWS, few_rows, few_rows_markdown
from roofline.calibration.fits.pass_fits import Passes
from roofline.calibration.fits.pass_pool import fit_pool

DEVICES = ("nvidia_rtx_4090", "nvidia_rtx_4080", "nvidia_rtx_3090", "apple_m3_pro")


def passes(device, memory):
    """Decode and prefill of eight models in q4_0."""
    read_s = np.repeat(np.geomspace(1e-3, 7e-2, 8), 2)
    multiply_s = np.tile([0.0, 30.0], 8) * read_s
    layers = np.repeat([16.0, 24.0, 28.0, 32.0, 32.0, 40.0, 64.0, 80.0], 2)
    return Passes(
        device=device,
        software="llama.cpp 1",
        source="this test",
        compute_s=multiply_s,
        memory_s=read_s,
        launches=np.ones(16),
        format=np.full(16, "q4_0", dtype=object),
        first=np.arange(16),
        model=np.repeat(list("abcdefgh"), 2).astype(object),
        phase=np.tile(["decode", "prefill"], 8).astype(object),
        layers=layers,
        measured_s=((multiply_s / 0.3) ** 4 + (read_s / memory) ** 4) ** 0.25 + 70e-6 * layers,
        grouped=np.zeros(16, dtype=bool),
        origin=np.full(16, "a table", dtype=object),
        cold=np.zeros(16, dtype=bool),
        fitted=np.ones(16, dtype=bool),
        engine="gpu",
    )


@pytest.fixture(scope="module")
def rows():
    pool = fit_pool(
        [passes(name, memory) for name, memory in zip(DEVICES, (0.8, 0.8, 0.8, 0.5), strict=True)]
    )
    return {(one.device, one.phase): one for one in few_rows(pool)}


def test_own_rows_take_out_what_a_device_departs_by(rows):
    slow = rows["apple_m3_pro", "decode"]

    # Kin reach 0.8 of the bandwidth, it 0.5: 0.38 too fast at most, before its family's departure.
    assert slow.medians[0] > 0.15
    assert slow.medians[ROWS.index(10)] < 0.05
    assert slow.widths[ROWS.index(10)] < slow.widths[0]


def test_every_device_is_scored_in_both_phases(rows):
    assert set(rows) == {(name, phase) for name in DEVICES for phase in ("decode", "prefill")}


def test_the_table_ends_each_phase_with_all_devices(rows):
    lines = few_rows_markdown(rows.values()).splitlines()

    assert len(lines) == 2 + 2 * (len(DEVICES) + 1)
    assert sum("**all**" in line for line in lines) == 2
