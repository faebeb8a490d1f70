"""Measured work: bytes and ceilings of table rows by hand."""

import numpy as np
import pytest

from roofline.calibration.measurements import measured_work
from roofline.calibration.measurements.operator_kinds import describe
from roofline.calibration.measurements.operator_tables import beside_the_kernel, completed
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


def test_attention_on_narrow_operands_has_a_fit_of_its_own():
    row = {
        "op": "attention_prefill",
        "batch": 1,
        "heads": 8,
        "kv_heads": 2,
        "head_dim": 64,
        "q_len": 28,
        "kv_len": 28,
    }
    device = load_device("nvidia_h100_sxm5_80gb").value
    wide, narrow = (
        describe(device, "attention_prefill", label, "fp8", completed(pd.DataFrame([row])))
        for label in ("bf16", "fp8")
    )

    assert (wide.format, narrow.format) == ("fp8", "fp8_by_fp8")
    peaks = load_device("nvidia_h100_sxm5_80gb").value.engine["gpu"].peak_flops_per_s
    assert wide.ceilings.flops_per_s == peaks["bf16"]["fp32"]
    assert narrow.ceilings.flops_per_s == peaks["fp8"]["fp32"]


def test_messages_of_experts_are_sent_over_the_link():
    row = {"op": "moe_dispatch", "world": 8, "bytes": 8e6}
    device = load_device("nvidia_h100_sxm5_80gb").value

    kernels = describe(device, "moe_dispatch", "fp8", "", completed(pd.DataFrame([row])))

    np.testing.assert_allclose(kernels.work.bytes, [7e6], rtol=1e-15)
    assert (kernels.kind, kernels.format, kernels.resembles) == ("expert_dispatch", "*", "all_to_all")


def test_messages_of_experts_between_machines_are_not_described():
    texts = {"software": "sglang 0.5.12", "op": "moe_combine", "kernel": "deepep", "qc": ""}
    columns_ = {name: pd.Series([text] * 2) for name, text in texts.items()}

    reasons = beside_the_kernel(**columns_, world=pd.Series([8.0, 16.0]))

    assert list(reasons) == ["", "link between nodes is not described"]


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
