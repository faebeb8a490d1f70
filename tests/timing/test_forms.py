"""Latency forms: hand-checked numbers, limits, and one code for points and grids."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from roofline.timing.forms import FORMS, Ceilings, Work, attention_time, kernel_time
from roofline.timing.forms.work import cached_share, fastest, waves

CEILINGS = Ceilings(
    flops_per_s=100e12, bytes_per_s=1e12, units=100.0, cache_bytes=50e6, vector_flops_per_s=50e12
)

SHAPES = {
    "overhead_roofline": {},
    "vector_roofline": {},
    "tiled_matrix_product": {
        "m": 128.0, "n": 4096.0, "k": 2048.0, "groups": 1.0, "weight_bits": 16.0, "activation_bits": 16.0,
    },
    "grouped_matrix_product": {
        "tokens": 64.0, "hidden_size": 2048.0, "intermediate_size": 1024.0, "experts": 64.0, "top_k": 4.0,
        "tensor_ranks": 1.0, "expert_ranks": 2.0, "touched": 30.0, "matrices": 3.0, "weight_bits": 8.0,
        "activation_bits": 8.0,
    },
    "split_attention": {
        "sequences": 8.0, "heads": 32.0, "kv_heads": 8.0, "head_dim": 128.0, "value_dim": 128.0,
        "new_tokens": 1.0, "keys": 4096.0, "pairs": 4096.0, "cache_bits": 16.0,
    },
    "causal_attention": {
        "sequences": 2.0, "heads": 32.0, "kv_heads": 8.0, "head_dim": 128.0, "value_dim": 128.0,
        "new_tokens": 1000.0, "keys": 1500.0, "pairs": 1_000_500.0, "cache_bits": 16.0,
    },
    "two_protocol_collective": {"ranks": 8.0, "message_bytes": 1e6},
    "rowwise_pass": {"rows": 64.0, "columns": 4096.0},
}  # fmt: skip
PARAMETERS = {
    "compute_fraction": 0.8, "memory_fraction": 0.9, "t0_s": 3e-6, "step_s": 0.1e-6, "split_s": 2e-6,
    "tile_s": 1e-6, "row_s": 0.2e-6, "cache_gain": 0.5, "extra_factor": 0.5, "activation_factor": 1.5,
    "routed_factor": 0.5,
    "item_s": 2e-6, "combine_s": 3e-6, "multi_head_factor": 0.7, "softmax_s": 0.2e-6, "sequence_s": 1e-6,
    "latency_s": 10e-6, "bandwidth_fraction": 0.7, "latency_exponent": 0.5, "bandwidth_exponent": -0.2,
    "fast_latency": 0.3, "fast_bandwidth": 0.5,
}  # fmt: skip
CHOICES = {
    "wave_rounding": 1.0, "rows": 64.0, "window_rows": 64.0, "packed": 1.0, "windowed": 1.0, "exponent": 2.0,
}  # fmt: skip


def time(form, work, ceilings=CEILINGS, warm=False, choices=CHOICES, **parameters):
    return kernel_time(
        form,
        work=work,
        ceilings=ceilings,
        parameters={**PARAMETERS, **parameters},
        choices=choices,
        warm=warm,
    )


def work_of(form, **changed):
    return Work(flops=2e9, bytes=4e7, shape={**SHAPES[form], **changed})


@pytest.mark.parametrize("form", FORMS)
def test_every_number_of_a_form_may_be_an_array(form):
    base = work_of(form)
    grown = np.array([1.0, 2.0, 3.0])
    for key in base.shape:
        if key == "kv_heads":  # more KV heads than query heads describe nothing
            continue
        together = time(form, work_of(form, **{key: base.shape[key] * grown}))
        alone = [time(form, work_of(form, **{key: base.shape[key] * factor})) for factor in grown]
        np.testing.assert_allclose(np.broadcast_to(together, 3), alone, rtol=1e-12, err_msg=key)
    for key in ("flops", "bytes"):
        value = getattr(base, key)
        together = time(form, replace(base, **{key: value * grown}))
        alone = [time(form, replace(base, **{key: value * factor})) for factor in grown]
        np.testing.assert_allclose(np.broadcast_to(together, 3), alone, rtol=1e-12, err_msg=key)
    for key in PARAMETERS:
        together = time(form, base, **{key: PARAMETERS[key] * grown[:2]})
        alone = [time(form, base, **{key: PARAMETERS[key] * factor}) for factor in grown[:2]]
        np.testing.assert_allclose(np.broadcast_to(together, 2), alone, rtol=1e-12, err_msg=key)


@pytest.mark.parametrize("form", FORMS)
def test_more_bandwidth_or_peak_never_costs_time(form):
    base = work_of(form)

    before = time(form, base)

    for key in ("flops_per_s", "bytes_per_s"):
        faster = replace(CEILINGS, **{key: 2.0 * getattr(CEILINGS, key)})
        assert time(form, base, faster) <= before


@pytest.mark.parametrize("form", FORMS)
def test_a_scalar_call_returns_a_number(form):
    assert np.ndim(time(form, work_of(form))) == 0


def test_a_large_grid_equals_its_points():
    # 2,000 x 25 kernels exceed what is stacked, so the menu is walked entry by entry.
    m = np.linspace(1.0, 5000.0, 2000)

    grid = time("tiled_matrix_product", work_of("tiled_matrix_product", m=m))

    for at in (0, 777, 1999):
        alone = time("tiled_matrix_product", work_of("tiled_matrix_product", m=float(m[at])))
        np.testing.assert_allclose(grid[at], alone, rtol=1e-12)


def test_waves_count_whole_turns_or_their_mean():
    # 250 items on 100 units: 2.5 turns on average, 3 for the slowest unit.
    assert waves(250.0, 100.0, 0.0) == 2.5
    assert waves(250.0, 100.0, 1.0) == 3.0
    assert waves(50.0, 100.0, 1.0) == 1.0


def test_half_the_working_set_is_cached_at_the_cache_size():
    np.testing.assert_allclose(cached_share(50e6, 50e6), 0.5, rtol=1e-12)
    assert cached_share(1.0, 0.0) == 0.0


def test_the_fastest_of_a_menu_is_taken_pointwise():
    found = fastest(((1.0,), (3.0,)), (np.array([1.0, 5.0]),), lambda a: a * np.array([1.0, -1.0]))

    np.testing.assert_allclose(found, [1.0, -3.0], rtol=1e-12)


def test_one_tile_of_a_matrix_product_by_hand():
    # One 16 x 64 tile, k = 64: 2*16*64*64 = 131,072 FLOP at 0.8 * 1 TFLOP/s per unit = 0.164 us, against
    # the step of 1 us: (1 + 0.164^4)^(1/4) = 1.00018 us. No bytes. t0 = 3 us.
    work = Work(
        flops=131_072.0,
        bytes=0.0,
        shape={**SHAPES["tiled_matrix_product"], "m": 16.0, "n": 64.0, "k": 64.0},
    )

    np.testing.assert_allclose(
        time("tiled_matrix_product", work, step_s=1e-6, tile_s=0.0), 4.00018e-6, rtol=1e-6
    )


def test_a_long_reduction_on_few_tiles_is_split():
    # 16 x 64 outputs leave 99 of 100 units idle unless k is cut.
    work = Work(
        flops=0.0, bytes=0.0, shape={**SHAPES["tiled_matrix_product"], "m": 16.0, "n": 64.0, "k": 65536.0}
    )
    unsplit = time("tiled_matrix_product", work, split_s=1.0)

    split = time("tiled_matrix_product", work)

    assert split < unsplit / 8


def test_quantised_activations_cost_an_extra_pass():
    # 3 m k = 3 * 128 * 2048 bytes at 1 TB/s, half of it visible: 0.393 us.
    narrow = time("tiled_matrix_product", work_of("tiled_matrix_product", activation_bits=8.0), row_s=0.0)
    wide = time("tiled_matrix_product", work_of("tiled_matrix_product"))

    np.testing.assert_allclose(narrow - wide, 0.5 * 3 * 128 * 2048 / 1e12, rtol=1e-9)


def test_quantising_many_short_rows_costs_their_number():
    # 10,000 rows on 100 units at 1 us each: 100 us, against 3 m k = 3 * 10,000 * 64 bytes at 1 TB/s, half
    # of it visible: 0.96 us. Together |100, 0.96|_3 = 100.00003 us.
    work = Work(
        flops=0.0,
        bytes=0.0,
        shape={**SHAPES["tiled_matrix_product"], "m": 10_000.0, "k": 64.0, "activation_bits": 8.0},
    )
    added = time("tiled_matrix_product", work, row_s=1e-6) - time(
        "tiled_matrix_product", work, row_s=0.0, extra_factor=0.0
    )

    np.testing.assert_allclose(added, 100.00003e-6, rtol=1e-6)


def test_a_tile_pays_its_start_once_a_wave():
    # One tile, one wave: the start adds what it takes.
    work = Work(
        flops=0.0, bytes=0.0, shape={**SHAPES["tiled_matrix_product"], "m": 16.0, "n": 64.0, "k": 64.0}
    )

    added = time("tiled_matrix_product", work, tile_s=2e-6) - time("tiled_matrix_product", work, tile_s=0.0)

    np.testing.assert_allclose(added, 2e-6, rtol=1e-9)


def test_what_a_tile_takes_beside_its_steps_may_grow_with_its_size():
    # Steps take nothing: four tiles of 16 x 64 side by side, each 1/16 of 128 x 128, 1/4 of its time at 0.5.
    only = dict.fromkeys(("t0_s", "step_s", "split_s"), 0.0) | {"tile_s": 1e-6}
    work = Work(
        flops=0.0, bytes=0.0, shape={**SHAPES["tiled_matrix_product"], "m": 64.0, "n": 64.0, "k": 64.0}
    )
    free = replace(CEILINGS, flops_per_s=np.inf)

    taken = [
        time("tiled_matrix_product", work, free, choices={**CHOICES, "tile_growth": power}, **only)
        for power in (0.0, 0.5)
    ]

    np.testing.assert_allclose(taken, [1e-6, 0.25e-6], rtol=1e-9)


def test_a_dispatch_table_takes_its_tile_from_the_rows():
    # m = 200 takes 128 x 128: 2 x 2 tiles of 64 deep steps on 100 units; one step is 2*64*128*128 =
    # 2.097 MFLOP at 0.8 TFLOP/s = 2.62 us. m = 100 takes 128 x 64: half of that.
    def tiles(m):
        shape = {**SHAPES["tiled_matrix_product"], "m": m, "n": 256.0, "k": 64.0}
        return Work(flops=0.0, bytes=0.0, shape=shape)

    choices = {"wave_rounding": 1.0, "dispatch": 2.0}
    many, few = (
        time("tiled_matrix_product", tiles(m), choices=choices, t0_s=0.0, tile_s=0.0, step_s=1e-12)
        for m in (200.0, 100.0)
    )

    np.testing.assert_allclose((many, few), (2.62144e-6, 1.31072e-6), rtol=1e-9)


def test_operands_beyond_the_cache_are_read_again_for_every_wave_of_columns():
    # 16 columns of 256 on 1, 2 and 16 units without cache: activations come 15, 7 and 0 times more, 128 *
    # 65,536 * 2 bytes at 0.9 TB/s each. The cheaper order reads weights again for each row of tiles: there
    # is one, so nothing.
    shape = {**SHAPES["tiled_matrix_product"], "m": 128.0, "n": 4096.0, "k": 65536.0}
    work = Work(flops=0.0, bytes=0.0, shape=shape)

    def at(reread, units):
        choices = {"wave_rounding": 0.0, "dispatch": 1.0, "reread": reread}
        return time(
            "tiled_matrix_product",
            work,
            replace(CEILINGS, cache_bytes=0.0, units=units),
            choices=choices,
            t0_s=0.0,
            tile_s=0.0,
            step_s=1e-12,
            compute_fraction=1e6,
        )

    once = 128 * 65536 * 2 / 0.9e12
    np.testing.assert_allclose((at(1.0, 1.0), at(1.0, 2.0)), (15 * once, 7 * once), rtol=1e-3)
    assert at(1.0, 16.0) < once / 100
    assert at(2.0, 1.0) < once / 100


def test_a_launch_bound_product_takes_the_longer_of_launch_and_kernel():
    work = Work(
        flops=0.0, bytes=0.0, shape={**SHAPES["tiled_matrix_product"], "m": 16.0, "n": 64.0, "k": 64.0}
    )
    choices = {"wave_rounding": 1.0, "launch_bound": 1.0}

    # One step of 1 us under a launch of 30 us: |30, 1|_3 = 30.0004 us.
    np.testing.assert_allclose(
        time("tiled_matrix_product", work, choices=choices, t0_s=30e-6, step_s=1e-6, tile_s=0.0),
        30.0004e-6,
        rtol=1e-6,
    )


@pytest.mark.parametrize("dispatch", [1.0, 2.0])
@pytest.mark.parametrize("count", [3, 9000])
def test_a_grid_of_dispatched_products_equals_its_points(dispatch, count):
    m = np.linspace(1.0, 5000.0, count)
    choices = {"wave_rounding": 1.0, "launch_bound": 1.0, "dispatch": dispatch, "reread": 2.0}

    grid = time("tiled_matrix_product", work_of("tiled_matrix_product", m=m), choices=choices)

    for at in (0, count // 3, count - 1):
        alone = time("tiled_matrix_product", work_of("tiled_matrix_product", m=float(m[at])), choices=choices)
        np.testing.assert_allclose(grid[at], alone, rtol=1e-12)


def test_decode_attention_of_long_keys_approaches_the_bandwidth():
    work = Work(flops=0.0, bytes=100e9, shape={**SHAPES["split_attention"], "sequences": 512.0})

    # 100 GB at 0.9 TB/s: 111 ms, with item time well below it.
    np.testing.assert_allclose(time("split_attention", work), 100e9 / 0.9e12, rtol=1e-2)


def test_causal_prefill_costs_half_of_full_attention():
    shape = {**SHAPES["causal_attention"], "new_tokens": 16384.0, "keys": 16384.0}
    causal = time("causal_attention", Work(flops=0.0, bytes=0.0, shape={**shape, "pairs": 16384.0**2 / 2}))
    full = time("causal_attention", Work(flops=0.0, bytes=0.0, shape={**shape, "pairs": 16384.0**2}))

    np.testing.assert_allclose(full / causal, 2.0, rtol=0.05)


def test_a_collective_takes_the_faster_protocol():
    # Two ranks, no exponents. Small: 0.3 * 10 us + 8 B / (0.5 * 0.7 TB/s); large: 10 us + 1 GB / 0.7 TB/s.
    def of(sent):
        return time("two_protocol_collective", Work(flops=0.0, bytes=sent, shape={"ranks": 2.0}))

    np.testing.assert_allclose(of(8.0), 3e-6 + 8.0 / 0.35e12, rtol=1e-9)
    np.testing.assert_allclose(of(1e9), 10e-6 + 1e9 / 0.7e12, rtol=1e-9)


def test_messages_that_leave_a_pair_pay_for_crossing():
    # 90 MB at 0.9 of 1 TB/s are 100 us; among four ranks each byte takes 2.5 times as long.
    free = {"latency_s": 0.0, "bandwidth_fraction": 0.9, "bandwidth_exponent": 0.0, "crossing_factor": 2.5}

    def sent(ranks):
        work = Work(flops=0.0, bytes=90e6, shape={**SHAPES["two_protocol_collective"], "ranks": ranks})
        return time("two_protocol_collective", work, **free)

    np.testing.assert_allclose([sent(2.0), sent(4.0)], [100e-6, 250e-6], rtol=1e-12)


@pytest.mark.parametrize(
    "form", ["tiled_matrix_product", "grouped_matrix_product", "split_attention", "rowwise_pass"]
)
def test_only_warm_timing_loops_profit_from_the_cache(form):
    small = replace(work_of(form), bytes=4e6)

    assert time(form, small, warm=True, cache_gain=0.1) <= time(form, small, cache_gain=0.1)
    assert time(form, small, cache_gain=0.1) == time(form, small, cache_gain=0.9)


DECODE = SimpleNamespace(
    form="split_attention", parameters=PARAMETERS, choices={"rows": 16.0, "window_rows": 16.0}
)
PREFILL = SimpleNamespace(
    form="causal_attention", parameters=PARAMETERS, choices={"rows": 128.0, "packed": 1.0, "windowed": 1.0}
)


def attention(new_tokens, keys):
    pairs = new_tokens * (keys - new_tokens) + new_tokens * (new_tokens + 1) / 2
    shape = {**SHAPES["split_attention"], "new_tokens": new_tokens, "keys": keys, "pairs": pairs}
    return Work(flops=0.0, bytes=8.0 * keys * 4096.0, shape=shape)


def test_tokens_that_fit_one_row_tile_cost_as_much_as_one():
    # 4 query heads per KV head: 4 tokens fill 16 packed rows.
    one, four = (
        attention_time(DECODE, PREFILL, work=attention(count, 8192.0), ceilings=CEILINGS)
        for count in (1.0, 4.0)
    )

    np.testing.assert_allclose(four, one, rtol=1e-12)


def test_verification_never_costs_more_than_either_kernel():
    for count in (5.0, 16.0, 128.0, 4096.0):
        work = attention(count, 8192.0)
        chosen = attention_time(DECODE, PREFILL, work=work, ceilings=CEILINGS)

        for fit in (DECODE, PREFILL):
            alone = kernel_time(
                fit.form, work=work, ceilings=CEILINGS, parameters=fit.parameters, choices=fit.choices
            )
            assert chosen <= alone


def test_the_kernel_is_chosen_point_by_point():
    counts = np.array([1.0, 4.0, 64.0, 4096.0])
    grid = attention_time(DECODE, PREFILL, work=attention(counts, 8192.0), ceilings=CEILINGS)

    alone = [
        attention_time(DECODE, PREFILL, work=attention(float(count), 8192.0), ceilings=CEILINGS)
        for count in counts
    ]

    np.testing.assert_allclose(grid, alone, rtol=1e-12)
