"""Products that run as one kernel or as several, and what follows a block's last one."""

import numpy as np
import pytest

from roofline.graph.kernel_policy import KernelPolicy
from roofline.graph.matrix_product import output_projection, project
from roofline.graph.operator import Terms
from roofline.graph.parallelism import Parallelism
from roofline.graph.weight import Weight

WIDE = Weight(name="query", inputs=64.0, outputs=128.0)
NARROW = Weight(name="key", inputs=64.0, outputs=32.0)


def terms(*, fused: bool = True, tensor: float = 1.0) -> Terms:
    return Terms(
        hidden_size=64.0,
        policy=KernelPolicy(fused_projections=fused),
        parallelism=Parallelism(tensor=tensor),
    )


def test_fused_projections_read_their_input_once() -> None:
    (fused,) = project(terms(), "query_key", (WIDE, NARROW), 8.0)
    apart = project(terms(fused=False), "query_key", (WIDE, NARROW), 8.0)

    assert (fused.name, [row.name for row in apart]) == ("query_key", ["query", "key"])
    assert fused.flops == sum(row.flops for row in apart) == 2 * 8 * 64 * (128 + 32)
    # 8 rows of 64 elements of 2 bytes.
    saved = sum(row.read["activation"] for row in apart) - fused.read["activation"]
    np.testing.assert_allclose(saved, 8 * 64 * 2, rtol=1e-12)


@pytest.mark.parametrize("fused", [True, False])
def test_a_projection_alone_keeps_its_own_name(fused: bool) -> None:
    (only,) = project(terms(fused=fused), "query_key_value", (WIDE,), 8.0)

    assert only.name == "query"


def test_ranks_add_their_parts_of_an_output_up() -> None:
    output = Weight(name="output", inputs=128.0, outputs=64.0, split="inputs")
    product, summed = output_projection(terms(tensor=4.0), output, 8.0, all_reduce="attention_all_reduce")

    assert product.flops == 2 * 8 * (128 / 4) * 64
    assert (summed.name, summed.kind) == ("attention_all_reduce", "all_reduce")
    # A ring of 4 ranks sends 2 x 3/4 of 8 rows of 64 elements of 2 bytes.
    np.testing.assert_allclose(summed.written["message"], 1.5 * 8 * 64 * 2, rtol=1e-12)
