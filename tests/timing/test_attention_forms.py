"""Attention forms: full tiles, keys that stay whole, appended keys and the cache, by hand."""

from dataclasses import replace

import numpy as np

from roofline.timing.forms import Ceilings, Work, kernel_time

CEILINGS = Ceilings(flops_per_s=100e12, bytes_per_s=1e12, units=100.0, cache_bytes=50e6)
ATTENTION = {
    "sequences": 1.0, "heads": 32.0, "kv_heads": 8.0, "head_dim": 128.0, "value_dim": 128.0,
    "new_tokens": 1.0, "keys": 4096.0, "pairs": 4096.0, "cache_bits": 16.0,
}  # fmt: skip
PREFILL = {**ATTENTION, "new_tokens": 1000.0, "keys": 1000.0, "pairs": 500_500.0}


def split_alone(shape, **parameters):
    """Time of the split form where nothing but what is given takes time."""
    free = dict.fromkeys(("t0_s", "item_s", "step_s", "combine_s", "sequence_s"), 0.0)
    return kernel_time(
        "split_attention",
        work=Work(flops=0.0, bytes=0.0, shape={**ATTENTION, **shape}),
        ceilings=CEILINGS,
        parameters={**free, "memory_fraction": 1.0, "multi_head_factor": 1.0, **parameters},
        choices={
            "rows": 64.0,
            "window_rows": 64.0,
            "splits_alone": shape.get("splits_alone", 1.0),
            "equal_tiles": shape.get("equal_tiles", 0.0),
        },
    )


def test_heads_that_share_a_latent_pay_for_full_tiles_of_rows():
    # 128 heads fill two tiles of 64 rows: 200 items on 100 units, two turns of 10 steps. A step multiplies
    # 2 x 64 x 64 x (576 + 512) at half of 100 TFLOP/s over 100 units, 17.825792 us.
    latent = {"sequences": 100.0, "heads": 128.0, "kv_heads": 1.0, "head_dim": 576.0, "value_dim": 512.0}

    taken = split_alone({**latent, "keys": 640.0}, compute_fraction=0.5, combine_s=1.0)

    np.testing.assert_allclose(taken, 20 * 17.825792e-6, rtol=1e-12)


def test_keys_that_no_heads_share_stay_whole_where_the_kernel_cannot_split_them():
    # 100 tiles of keys at 1 us: one item takes them in turn; split in 64, the longest part has two.
    alone = {"sequences": 1.0, "heads": 1.0, "kv_heads": 1.0, "keys": 6400.0}

    whole = split_alone({**alone, "splits_alone": 0.0}, step_s=1e-6, combine_s=3e-6)
    split = split_alone(alone, step_s=1e-6, combine_s=3e-6)
    shared = split_alone({**alone, "heads": 4.0, "splits_alone": 0.0}, step_s=1e-6, combine_s=3e-6)

    np.testing.assert_allclose([whole, split, shared], [100e-6, 5e-6, 5e-6], rtol=1e-12)


def test_tiles_of_equal_size_hold_fewer_keys_of_wider_heads():
    # 256 keys are one tile of heads 64 wide, two of 128 and four of 192, whose 64 x 192 elements are three
    # quarters of 128 x 128; each item starts in 2 us at any width.
    one = {
        "sequences": 1.0,
        "heads": 1.0,
        "kv_heads": 1.0,
        "keys": 256.0,
        "splits_alone": 0.0,
        "equal_tiles": 1.0,
    }

    taken = [
        split_alone({**one, "head_dim": width}, step_s=1e-6, item_s=2e-6) for width in (64.0, 128.0, 192.0)
    ]

    np.testing.assert_allclose(taken, [3e-6, 4e-6, 5e-6], rtol=1e-12)


def test_partial_results_of_heads_beyond_one_row_tile_cost_again():
    # 100 sequences on 100 units: 1 us for the first 64 of the heads that share a latent, 2 us for 128.
    latent = {"sequences": 100.0, "kv_heads": 1.0}

    taken = [split_alone({**latent, "heads": heads}, sequence_s=1e-6) for heads in (16.0, 64.0, 128.0)]

    np.testing.assert_allclose(taken, [1e-6, 1e-6, 2e-6], rtol=1e-12)


def prefill_bytes(warm=False, bytes=0.0, **parameters):
    """Time of the causal form on an engine whose products are free, cache of 8 bits."""
    free = {"compute_fraction": 1.0, "memory_fraction": 1.0, "t0_s": 0.0, "softmax_s": 0.0, "item_s": 0.0}
    return kernel_time(
        "causal_attention",
        work=Work(flops=0.0, bytes=bytes, shape={**PREFILL, "cache_bits": 8.0}),
        ceilings=replace(CEILINGS, flops_per_s=np.inf),
        parameters={**free, **parameters},
        choices={"rows": 64.0, "packed": 1.0, "windowed": 1.0},
        warm=warm,
    )


def test_a_prefill_pays_for_writing_its_keys_and_values():
    # 1000 tokens x 8 heads x (128 + 128) elements, read in 2 bytes and written in 1: 6.144 MB, twice over.
    np.testing.assert_allclose(prefill_bytes(append_factor=2.0), 12.288e-6, rtol=1e-12)


def test_a_repeated_prefill_finds_half_its_bytes_at_the_size_of_the_cache():
    # 50 MB at 1 TB/s take 50 us; half of them at a fifth of the time.
    cold = prefill_bytes(bytes=50e6, cache_gain=0.2)
    warm = prefill_bytes(bytes=50e6, cache_gain=0.2, warm=True)

    np.testing.assert_allclose([cold, warm], [50e-6, 30e-6], rtol=1e-12)


def prefill_tiles(shape, **parameters):
    """Time of the causal form where only tiles take time, 1 us each, on as many units as there are items."""
    free = {"compute_fraction": 1.0, "memory_fraction": 1.0, "t0_s": 0.0, "softmax_s": 2e-6, "item_s": 0.0}
    return kernel_time(
        "causal_attention",
        work=Work(flops=0.0, bytes=0.0, shape={**PREFILL, "cache_bits": 8.0, **shape}),
        ceilings=replace(CEILINGS, flops_per_s=np.inf, units=1e6),
        parameters={**free, **parameters},
        choices={"rows": 64.0, "packed": 0.0, "windowed": 0.0},
    )


def test_tiles_of_wide_heads_take_their_factor():
    narrow, wide = (prefill_tiles({"head_dim": width}, wide_factor=3.0) for width in (192.0, 256.0))

    np.testing.assert_allclose(wide / narrow, 3.0, rtol=1e-12)


def test_tiles_outside_the_window_take_their_share():
    # The last of 6,400 queries sees 128 keys of the window and those of its own tile: 256 + 64, five
    # tiles; of all keys, 100.
    window = {"new_tokens": 6400.0, "keys": 6400.0, "pairs": 6400.0 * 128.0, "all_keys": 6400.0,
              "all_pairs": 6400.0 * 3200.0}  # fmt: skip

    times = [prefill_tiles(window, masked_factor=share) for share in (0.0, 0.5, 1.0)]

    np.testing.assert_allclose(times, [5e-6, 52.5e-6, 100e-6], rtol=1e-12)


def test_heads_filled_up_to_a_power_of_two_cost_as_wide_ones():
    def taken(width, padded):
        return kernel_time(
            "causal_attention",
            work=Work(flops=0.0, bytes=0.0, shape={**PREFILL, "head_dim": width, "value_dim": width}),
            ceilings=CEILINGS,
            parameters=dict.fromkeys(("compute_fraction", "memory_fraction"), 1.0)
            | dict.fromkeys(("t0_s", "softmax_s", "item_s"), 0.0),
            choices={"rows": 64.0, "packed": 1.0, "windowed": 1.0, "padded": padded},
        )

    np.testing.assert_allclose(
        [taken(72.0, 1.0), taken(64.0, 1.0)], [taken(128.0, 0.0), taken(64.0, 0.0)], rtol=1e-12
    )
