"""What formats store and which kernels they need, by hand."""

import numpy as np
import pytest

from roofline.errors import UnknownNameError
from roofline.graph.formats import FORMATS, format_named
from roofline.graph.matrix_product import linear
from roofline.graph.operator import Operator, Precision, Terms
from roofline.graph.weight import Weight

WEIGHT = Weight(name="w", inputs=4096.0, outputs=1024.0)


def rows(**formats: str) -> dict[str, Operator]:
    terms = Terms(hidden_size=4096.0, precision=Precision(**formats))  # type: ignore[arg-type]
    return {row.name: row for row in linear(terms, "w", (WEIGHT,), 2.0)}


@pytest.mark.parametrize(
    ("name", "bits"),
    [("nvfp4", 4.5), ("mxfp8", 8.25), ("int4", 4 + 20 / 128), ("int8", 8), ("fp8_channel", 8),
     ("fp8_block", 8 + 32 / 128**2), ("squeezellm3_sparse", 3 + 0.0045 * 48),
     ("w4afp8", 4 + 16 / 128)],
)  # fmt: skip
def test_bits_per_element_count_block_scales_and_outliers(name: str, bits: float) -> None:
    np.testing.assert_allclose(format_named(name).bits, bits, rtol=1e-12)


@pytest.mark.parametrize(("name", "bits"), [("4.65_bits", 4.65), ("3_bits", 3.0), ("2.5-bits", 2.5)])
def test_a_mean_width_is_a_format_that_only_stores(name: str, bits: float) -> None:
    format = format_named(name)

    assert (format.bits, format.operand) == (bits, "")


@pytest.mark.parametrize("name", ["0_bits", "64_bits", "_bits", "4.65bits", "-4_bits"])
def test_what_is_no_width_is_refused(name: str) -> None:
    with pytest.raises(UnknownNameError, match="no number format"):
        format_named(name)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_bits_times_elements_are_the_stored_bytes_of_a_large_matrix(name: str) -> None:
    # Scales of whole rows and look-up tables of 2^4 values of 16 bits vanish at 2^20 inputs.
    side = 2.0**20
    stored = format_named(name).stored_bytes(side, side) * 8 / side**2

    np.testing.assert_allclose(stored, format_named(name).bits, rtol=1e-3)


@pytest.mark.parametrize(
    ("weights", "inputs"), [("w4afp8", "fp8"), ("w4a8_mxfp4_mxfp8", "mxfp8"), ("fp8", "fp8")]
)
def test_four_bits_are_multiplied_with_inputs_of_eight(weights: str, inputs: str) -> None:
    stored = format_named(weights)

    assert stored.operand == "fp8"
    assert Precision(weights=weights).of_inputs(stored).name == inputs


def test_a_look_up_table_is_stored_for_each_output() -> None:
    # 1024 outputs x 8 values x 2 bytes beside 3 bits for each of 4096 x 1024 elements.
    stored = format_named("squeezellm3").stored_bytes(4096.0, 1024.0)

    assert stored == 4096 * 1024 * 3 / 8 + 1024 * 8 * 2


def test_mixed_decomposition_rounds_multiplies_scales_and_adds_outliers() -> None:
    product = rows(weights="llm_int8")

    assert list(product) == ["w_round", "w", "w_scale", "w_outliers"]
    assert product["w"].compute_format == "int8"
    assert product["w_outliers"].compute_format == "bf16"
    np.testing.assert_allclose(product["w_outliers"].flops, 0.001 * product["w"].flops, rtol=1e-12)
    # Two rows of 4096 inputs: read in 16 bits, written in 8 with a 32- or 16-bit scale.
    assert product["w_round"].read["activation"] == 2 * 4096 * 2


def test_sparse_outliers_are_stored_once_and_multiplied_apart() -> None:
    product = rows(weights="squeezellm3_sparse")

    assert product["w"].read["weight"] == format_named("squeezellm3_sparse").stored_bytes(4096.0, 1024.0)
    assert "weight" not in product["w_outliers"].read


def test_planes_take_a_pass_for_each_pair() -> None:
    plain = rows()["w"].flops

    assert rows(weights="planes2", activations="planes4")["w"].flops == 8 * plain
    assert rows(weights="planes2", activations="planes4")["w"].compute_format == "int1"
    assert rows(weights="planes2")["w"].flops == 4 * plain


def test_pruned_weights_are_neither_read_nor_multiplied() -> None:
    # Half of 16 bits and one bit of position for each element.
    pruned, plain = rows(weights="bf16_2of4")["w"], rows()["w"]

    assert pruned.flops == plain.flops / 2
    assert pruned.read["weight"] == plain.read["weight"] * 9 / 16
