"""The fused expert kernel: row tiles of uneven loads and what they read again, by hand."""

from dataclasses import replace

import numpy as np

from roofline.timing.forms import Ceilings, Work, kernel_time

FREE = Ceilings(flops_per_s=np.inf, bytes_per_s=np.inf, units=4.0, cache_bytes=50e6)
EXPERTS = {
    "tokens": 20.0, "hidden_size": 128.0, "intermediate_size": 128.0, "experts": 4.0, "top_k": 2.0,
    "tensor_ranks": 1.0, "expert_ranks": 1.0, "touched": 4.0, "matrices": 3.0, "weight_bits": 8.0,
    "activation_bits": 8.0,
}  # fmt: skip
UNEVEN = {f"row_tiles_{rows}": 8.0 for rows in (16, 32, 64, 128)}


def experts(shape, ceilings, untuned=0.0, **parameters):
    nothing = dict.fromkeys(("t0_s", "step_s", "activation_factor", "routed_factor", "cache_gain"), 0.0)
    return kernel_time(
        "grouped_matrix_product",
        work=Work(flops=0.0, bytes=0.0, shape={**EXPERTS, **shape}),
        ceilings=ceilings,
        parameters={**nothing, "compute_fraction": 1.0, "memory_fraction": 1.0, **parameters},
        choices={"untuned": untuned},
    )


def test_uneven_loads_make_more_row_tiles_than_even_ones():
    # 40 pairs on 4 experts are one row tile each: 4 x 2 tiles up and 4 x 1 down on 4 units, 2 + 1 turns.
    # With 8 row tiles, 4 + 2 turns.
    even = experts({}, FREE, item_s=1e-6)
    uneven = experts(UNEVEN, FREE, item_s=1e-6)

    np.testing.assert_allclose([even, uneven], [3e-6, 6e-6], rtol=1e-12)


def test_further_row_tiles_of_an_expert_read_part_of_its_weights_again():
    # 4 x 3 x 128 x 128 bytes of weights; one more row tile per expert reads half of them again.
    bound = replace(FREE, bytes_per_s=1e12)

    once = experts({}, bound, reread_factor=0.5)
    again = experts(UNEVEN, bound, reread_factor=0.5)

    np.testing.assert_allclose([once, again], [0.196608e-6, 0.294912e-6], rtol=1e-12)


def test_untuned_tiles_follow_tokens_and_experts():
    # 4 tokens for 4 experts: tiles of 32 columns, 4 x 8 up and 4 x 4 down on 4 units, 8 + 4 turns. 20 tokens:
    # 64 columns, 4 + 2 turns.
    few = experts({"tokens": 4.0}, FREE, untuned=1.0, item_s=1e-6)
    many = experts({}, FREE, untuned=1.0, item_s=1e-6)

    np.testing.assert_allclose([few, many], [12e-6, 6e-6], rtol=1e-12)


def test_narrow_rows_that_are_no_whole_vectors_cost_every_pair():
    # 40 pairs on 4 units at 1 us. 120 bytes are no multiple of 16; 120 values of 16 bits and 112 bytes are.
    free = {"unaligned_s": 1e-6}

    odd = experts({"intermediate_size": 120.0}, FREE, **free)
    wide = experts({"intermediate_size": 120.0, "activation_bits": 16.0}, FREE, **free)
    even = experts({"intermediate_size": 112.0}, FREE, **free)

    np.testing.assert_allclose([odd, wide, even], [10e-6, 1e-9, 1e-9], atol=1e-9, rtol=0.0)
