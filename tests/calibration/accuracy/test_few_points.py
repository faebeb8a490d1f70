"""Few points: a design that looks at shapes alone, and errors that fall with points."""

from dataclasses import replace

import numpy as np

from roofline.calibration.accuracy.few_points import POINTS, designed, few_points, few_points_markdown
from roofline.calibration.fits.fitting import fit
from roofline.calibration.fits.transfer import Donor, Kin
from tests.calibration import made_up

KIN = Kin(family="nvidia_hbm", architecture="hopper", segment="professional", year=2022)
PARAMETERS = {
    "compute_fraction": 0.8, "memory_fraction": 0.8, "t0_s": 3e-6, "step_s": 0.1e-6, "split_s": 2e-6,
    "tile_s": 1e-6, "cache_gain": 0.6,
}  # fmt: skip


def products(device, slower=1.0):
    data = made_up.products(device, PARAMETERS, {"wave_rounding": 0.0}, rows=120, seed=3)
    return replace(data, times_s=slower * data.times_s)


def donor(device, slower=1.0):
    data = products(device, slower)
    return Donor(kin=KIN, data=data, solution=fit(data), errors=np.zeros(120))


def test_the_largest_and_the_two_smallest_shapes_come_first():
    data = products("one")
    work = data.work.flops + data.work.bytes
    order = np.argsort(work)

    assert designed(data, 3).tolist() == [order[-1], order[0], order[1]]


def test_a_design_does_not_look_at_times():
    data = products("one")

    np.testing.assert_array_equal(designed(data, 15), designed(replace(data, times_s=data.times_s[::-1]), 15))
    assert len(set(designed(data, 15).tolist())) == 15


def test_points_take_out_what_a_device_does_more_slowly():
    # The other device is 1.4 times faster, so without points half of all rows are 29 % too fast.
    rows = few_points([donor("one"), donor("two", slower=1.4)])

    (slow,) = (row for row in rows if row.device == "two")
    np.testing.assert_allclose(slow.medians[0], 1 - 1 / 1.4, atol=0.05)
    assert slow.medians[POINTS.index(15)] < 0.08
    assert "**median**" in few_points_markdown(rows)
