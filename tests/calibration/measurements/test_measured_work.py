"""Measured work: bytes and ceilings of table rows by hand."""

import numpy as np
import pytest

from roofline.calibration.measurements import measured_work
from roofline.calibration.measurements.operator_tables import completed, describe
from roofline.catalog.hardware import load_device

pd = pytest.importorskip("pandas")


def columns(**values):
    return {name: np.array([float(value)]) for name, value in values.items()}


def test_attention_reads_past_keys_as_cached_and_new_ones_in_16_bits():
    # Past: 100 tokens x 2 heads x 64 x (K and V) in 1 byte = 25,600; new: 28 tokens read in 2 bytes and
    # written in 1 = 21,504; queries and outputs: 28 x 8 heads x 64 x 2 x 2 bytes = 57,344.
    rows = columns(batch=1, heads=8, kv_heads=2, head_dim=64, q_len=28, kv_len=128, window=0)

    work = measured_work.attention(rows, 8.0, 8.0)

    np.testing.assert_allclose(work.bytes, [25_600 + 21_504 + 57_344], rtol=1e-15)


def test_an_encoder_keeps_no_cache():
    # 32 tokens x 64 x 2 bytes: 4 heads of queries and outputs, 2 of keys and values.
    rows = columns(batch=1, heads=4, kv_heads=2, head_dim=64, q_len=32, kv_len=32, window=0)

    work = measured_work.encoder(rows, 16.0, 16.0)

    np.testing.assert_allclose(work.bytes, [32 * 64 * 2 * (2 * 4 + 2 * 2)], rtol=1e-15)


def test_formats_that_only_store_weights_multiply_in_16_bits():
    row = {"op": "gemm_grouped", "m": 1, "n": 2880, "k": 2880, "experts": 32, "topk": 4, "tp": 1, "ep": 1}
    device = load_device("nvidia_h100_sxm5_80gb").value
    peaks = [
        describe(device, "gemm_grouped", label, "", completed(pd.DataFrame([row]))).ceilings.flops_per_s
        for label in ("w4a16_mxfp4", "int4_wo", "bf16")
    ]

    assert peaks[0] == peaks[1] == peaks[2]


def test_row_tiles_of_even_experts_are_counted_per_expert():
    # 64 tokens x 2 choices on 8 experts: 16 pairs each, one tile; at 80 tokens 20 each, two of 16 rows.
    rows = {
        "m": np.array([64.0, 80.0]), "n": np.full(2, 256.0), "k": np.full(2, 128.0),
        "experts": np.full(2, 8.0), "topk": np.full(2, 2.0), "tp": np.ones(2), "ep": np.ones(2),
        "skew": np.zeros(2), "matrices": np.full(2, 3.0),
    }  # fmt: skip

    shape = measured_work.grouped(rows, 16.0, 16.0).shape

    np.testing.assert_array_equal(shape["row_tiles_16"], [8.0, 16.0])
    np.testing.assert_array_equal(shape["row_tiles_128"], [8.0, 8.0])
