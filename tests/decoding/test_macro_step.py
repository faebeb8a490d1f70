"""Chunks of tokens from one pass, and drafts that share one."""

from dataclasses import replace

import numpy as np

from roofline import analyze, make_scenario
from roofline.decoding.draft_heads import first_layers
from roofline.decoding.macro_step import MacroStep
from roofline.decoding.superposed import Superposed
from roofline.scenario import Scenario

MODEL, DEVICE = "llama-3.1-8b", "h100-sxm5-80gb"


def plain(**settings: object) -> Scenario:
    return make_scenario(MODEL, DEVICE, **{"software": "datasheet", **settings})


def chunked(scenario: Scenario, tokens: float, **changes: object) -> Scenario:
    micro = first_layers(scenario.deployment, 1).deployment
    return scenario.replace(decoding=MacroStep(micro=micro, tokens_per_step=tokens, **changes))  # type: ignore[arg-type]


def test_a_chunk_is_one_pass_and_a_call_per_token() -> None:
    scenario = plain(context=1000)
    passes = chunked(scenario, 3.0).decoding.iteration(scenario.deployment, scenario.workload, 0.0).passes

    assert [float(part.count) for part in passes] == [1.0, 3.0]
    assert passes[1].step.sequences[0].past[0].tokens == 1.0
    assert analyze(chunked(scenario, 3.0)).decode.tokens == 3.0


def test_the_gain_stays_below_the_tokens_of_a_chunk_and_the_cache_shrinks() -> None:
    scenario = plain(prompt=16, output=4001, batch=8)

    for tokens in (1.0, 2.0, 4.0):
        report = analyze(chunked(scenario, tokens))

        assert analyze(scenario).tpot_s.value / report.tpot_s.value < tokens * 1.2
        kept = report.memory.used_bytes["hbm"]["kv_cache"]
        # Keys of 16 prompt tokens and of 4000 / m chunks, 131,072 bytes each over 32 layers.
        assert kept < 8 * 131072 * (16 + 4000 / tokens + 4) * 1.05


def test_superposed_drafts_cost_one_sequence() -> None:
    scenario = plain(context=4000, samples=3)
    one = plain(context=4000)

    mixed = analyze(scenario.replace(decoding=Superposed()))

    assert mixed.tpot_s.value == analyze(one).tpot_s.value
    np.testing.assert_allclose(mixed.decode_tokens_per_s, 3 * analyze(one).decode_tokens_per_s, rtol=1e-12)
    # Against the three as one batch only the caches' reading is saved: 1.01 x at 1,000 tokens.
    batch = analyze(plain(context=1000, samples=3)).tpot_s.value
    np.testing.assert_allclose(batch / analyze(plain(context=1000)).tpot_s.value, 1.02, rtol=0.02)


def test_an_array_of_chunk_sizes_equals_single_points() -> None:
    from roofline.analysis import analyze as analyze_grid

    scenario, sizes = plain(), np.array([1.0, 2.5, 4.0])
    grid = chunked(scenario, 1.0).replace_at("decoding.tokens_per_step", sizes)

    swept = np.asarray(analyze_grid(grid, axes=1).tpot_s.value)

    for size, value in zip(sizes, swept, strict=True):
        np.testing.assert_allclose(value, analyze(chunked(scenario, float(size))).tpot_s.value, rtol=1e-12)


def test_both_keep_their_deployments_through_a_change() -> None:
    decoding = chunked(plain(), 2.0).decoding
    assert isinstance(decoding, MacroStep)

    changed = decoding.with_deployments(lambda deployment: replace(deployment, reserve_fraction=0.2))

    assert changed.micro.reserve_fraction == 0.2
    assert Superposed().with_deployments(lambda deployment: deployment).kind == "superposed"
