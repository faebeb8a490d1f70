from pathlib import Path

import numpy as np
import pytest

from roofline.calibration.microbenchmarks.memory_speed import memory_speeds
from roofline.calibration.table_calibration import calibrate_table


def test_a_copy_moves_each_byte_twice_and_a_read_once() -> None:
    shape = {"dtype": "bf16", "m": "128", "n": "4096", "latency_us": "10"}
    copy, read = memory_speeds([{"op": "read", **shape}, {"op": "norm", **shape}, {"op": "copy", **shape}])

    assert (copy.op, read.op) == ("copy", "read")
    assert read.size_bytes == 2**20
    np.testing.assert_allclose(read.bytes_per_s, 2**20 / 10e-6, rtol=1e-12)
    np.testing.assert_allclose(copy.bytes_per_s, 2 * read.bytes_per_s, rtol=1e-12)


def test_copies_and_reads_give_the_elementwise_fit_its_memory_fraction(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("scipy")
    # 1008 GB/s of an RTX 4090, of which 80 % is reached, after 2 us.
    rows = [
        f"rtx-4090,pytorch 9.9,{op},bf16,{rows},4096,{2.0 + planes * rows * 8192 / (0.8 * 1008e9) * 1e6!r}"
        for op, planes in (("copy", 2), ("read", 1))
        for rows in (32768, 65536, 131072, 262144)
    ]
    path = tmp_path / "streams.csv"
    path.write_text("\n".join(("device,software,op,dtype,m,n,latency_us", *rows)) + "\n")
    (fit,) = calibrate_table(path, tmp_path).fits

    assert fit.kind == "elementwise"
    assert fit.points == 8
    np.testing.assert_allclose(fit.parameters["memory_fraction"], 0.8, rtol=0.03)
