from pathlib import Path

import numpy as np
import pytest

from roofline.calibration.predictions.row_split import RowSplit
from roofline.calibration.validate import validate
from roofline.catalog.models import load_model
from roofline.errors import InvalidSpecError

pytest.importorskip("pandas")

_LLAMA = load_model("llama-2-7b").value


def test_a_split_counts_every_product_of_a_layer() -> None:
    """32 layers of query, key, value, output, gate, up and down; 4096 wide, 11008 between gate and down."""
    split = RowSplit.of(_LLAMA, 2.0)

    assert split.products == 32 * 7
    assert split.inputs == 32 * (6 * 4096 + 11008)
    assert split.outputs == 32 * (5 * 4096 + 2 * 11008)


def test_what_a_split_adds_to_a_pass() -> None:
    """224 products of 22 + 3 x 15 us; 2 x inputs and 2/3 x outputs of 10 tokens in 4 bytes at 11 GB/s."""
    split = RowSplit.of(_LLAMA, 3.0)
    copied = 10 * 4 * (2 * split.inputs + 2 / 3 * split.outputs) / 11e9

    np.testing.assert_allclose(split.added_s(10.0), 224 * 67e-6 + copied, rtol=1e-12)


def test_experts_are_refused() -> None:
    with pytest.raises(InvalidSpecError, match="has experts"):
        RowSplit.of(load_model("mixtral-8x7b").value, 2.0)


def test_a_row_split_is_a_share_of_one_gpu_and_what_it_adds(tmp_path: Path) -> None:
    path = tmp_path / "speeds.csv"
    header = "device,device_count,model,quant,runtime,parallelism,phase,batch,context,metric,value,unit"
    row = "RTX 4090,{},Llama-2-7B,F16,llama.cpp,{},decode,1,512,decode_tok_s,{},tok/s"
    path.write_text("\n".join((header, row.format(1, "", 60), row.format(2, "row split x2", 50))) + "\n")
    one, two = validate([path]).frame()["predicted"]

    np.testing.assert_allclose(1 / two, 1 / one / 2 + RowSplit.of(_LLAMA, 2.0).added_s(1.0), rtol=1e-9)
