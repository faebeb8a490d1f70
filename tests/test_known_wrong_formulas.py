"""The suite is proved red: formulas that other tools get wrong are injected one by one, each is caught."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import roofline.graph.blocks.embedding as embedding
import roofline.graph.blocks.feed_forward as feed_forward
import roofline.graph.blocks.grouped_query_attention as grouped_query_attention
import roofline.graph.blocks.mixture_of_experts as mixture_of_experts
import roofline.graph.matrix_product as matrix_product
import roofline.timing.cost as cost
import roofline.units as units
from roofline import analyze, make_scenario
from roofline.graph.attention import attend
from roofline.graph.model import ModelSpec
from roofline.graph.operator import Operator
from roofline.graph.routing import Routing
from roofline.graph.step import Sequences, Step
from roofline.graph.weight import Weight
from roofline.timing.deployment import Deployment

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, INNER, VOCABULARY = 32, 4096, 32, 8, 128, 14336, 128256
MATRICES = LAYERS * (HIDDEN * HEAD_DIM * (2 * HEADS + 2 * KV_HEADS) + 3 * HIDDEN * INNER)


def dense(**settings: Any) -> Any:
    return analyze(make_scenario("llama-3.1-8b", "h100-sxm5-80gb", software="datasheet", **settings))


def sparse(**settings: Any) -> Any:
    return analyze(
        make_scenario("mixtral-8x7b", "h100-sxm5-80gb", devices=2, software="datasheet", **settings)
    )


def rows(phase: Any, kind: str) -> list[Operator]:
    return [row.operator for row in phase.rows if row.operator.kind == kind]


def check_decode_operations() -> None:
    attention = 4 * HEADS * HEAD_DIM * 1001 * LAYERS
    phase = dense(batch=2, context=1000).decode
    got = sum(float(row.flops * row.repeat) for kind in ("gemm", "attention") for row in rows(phase, kind))
    assert got == 2 * (2 * (MATRICES + HIDDEN * VOCABULARY) + attention)


def check_prefill_operations() -> None:
    tokens = 2048
    phase = dense(prompt=tokens).prefill
    (attention,) = rows(phase, "attention")
    assert attention.flops == 4 * HEADS * HEAD_DIM * tokens * (tokens + 1) / 2
    head = next(row for row in rows(phase, "gemm") if row.name == "head")
    assert head.flops == 2 * HIDDEN * VOCABULARY


def check_cache_traffic() -> None:
    phase = dense(batch=3, context=1000).decode
    (attention,) = rows(phase, "attention")
    assert attention.read["kv_cache"] == 3 * 1000 * 2 * KV_HEADS * HEAD_DIM * 2
    assert attention.written["kv_cache"] == 3 * 2 * KV_HEADS * HEAD_DIM * 2
    assert attention.written["activation"] == 3 * HEADS * HEAD_DIM * 2


def check_weight_traffic() -> None:
    small, large = dense(batch=1, context=100), dense(batch=64, context=100)
    norms = (2 * LAYERS + 1) * HIDDEN
    for report in (small, large):
        assert report.decode.bytes_by_tensor["weight"] == 2 * (MATRICES + HIDDEN * VOCABULARY + norms)


def check_memory() -> None:
    used = dense(batch=2, prompt=1000, output=2).memory.used_bytes["hbm"]
    assert used["weights"] == 2 * 8030261248
    assert used["kv_cache"] == 2 * 1001 * 2 * KV_HEADS * HEAD_DIM * 2 * LAYERS


def check_experts() -> None:
    layer = 3 * 4096 * 14336 * 2  # bytes of one expert
    for tokens in (1, 4, 32):
        touched = 8 * (1 - 0.75**tokens)
        (experts,) = rows(sparse(batch=tokens, context=10).decode, "grouped_gemm")
        np.testing.assert_allclose(experts.read["expert_weight"], touched * layer / 2, rtol=1e-12)
        np.testing.assert_allclose(experts.flops, 2 * tokens * 2 * 3 * 4096 * 14336 / 2, rtol=1e-12)


def check_units() -> None:
    assert units.parse("3.35 TB/s", "bytes_per_s") == 3.35e12
    assert units.parse("80 GiB", "bytes") == 80 * 1024**3


def check_peak() -> None:
    engine = dense().scenario.deployment.system.device.engine["gpu"]
    assert engine.peak_flops_per_s["bf16"]["fp32"] < 1e15


def check_floor() -> None:
    report = dense(batch=32, prompt=2048)
    for phase in (report.prefill, report.decode):
        for row in phase.rows:
            launches, did = row.launches, row.operator
            assert row.time_s >= launches * did.bytes / 3.35e12 * (1 - 1e-12) or row.bound == 3
            peak = 989.4e12 if did.compute_format else 66.9e12
            assert row.time_s >= launches * did.flops / peak * (1 - 1e-12)


def check_parameters() -> None:
    assert dense().scenario.deployment.model.parameters == 8030261248


CHECKS = [value for name, value in sorted(globals().items()) if name.startswith("check_")]


def scaled_rows(monkeypatch: Any, module: Any, name: str, change: Callable[[Operator], Operator]) -> None:
    """Pass every row that a row-making function returns through `change`."""
    made = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args, **more: tuple(change(row) for row in made(*args, **more)))


def cache_twice(monkeypatch: Any) -> None:
    scaled_rows(
        monkeypatch, grouped_query_attention, "attend",
        lambda row: replace(row, read={**row.read, "kv_cache": 2 * row.read["kv_cache"]}),
    )  # fmt: skip


def query_heads_for_cache(monkeypatch: Any) -> None:
    scaled_rows(
        monkeypatch, grouped_query_attention, "attend",
        lambda row: replace(row, read={**row.read, "kv_cache": 4 * row.read["kv_cache"]}),
    )  # fmt: skip


def no_attention_operations(monkeypatch: Any) -> None:
    scaled_rows(monkeypatch, grouped_query_attention, "attend", lambda row: replace(row, flops=0.0))


def output_as_wide_as_the_scores(monkeypatch: Any) -> None:
    scaled_rows(
        monkeypatch, grouped_query_attention, "attend",
        lambda row: replace(row, written={**row.written, "activation": 1000.0 * 32 * 2}),
    )  # fmt: skip


def top_k_experts_at_any_batch(monkeypatch: Any) -> None:
    monkeypatch.setattr(Routing, "touched", lambda self, *, experts, top_k, tokens: top_k)


def all_experts_at_any_batch(monkeypatch: Any) -> None:
    monkeypatch.setattr(Routing, "touched", lambda self, *, experts, top_k, tokens: experts)


def expert_operations_ignore_top_k(monkeypatch: Any) -> None:
    scaled_rows(
        monkeypatch, mixture_of_experts, "linear",
        lambda row: replace(row, flops=row.flops * (4 if row.kind == "grouped_gemm" else 1)),
    )  # fmt: skip


def half_the_head(monkeypatch: Any) -> None:
    scaled_rows(monkeypatch, embedding, "linear", lambda row: replace(row, flops=row.flops / 2))


def head_for_every_prompt_token(monkeypatch: Any) -> None:
    monkeypatch.setattr(Step, "logit_tokens", property(lambda self: self.tokens))


def no_causal_mask(monkeypatch: Any) -> None:
    causal = Sequences.visible
    monkeypatch.setattr(
        Sequences, "visible", lambda self, *args, **more: causal(replace(self, mask="full"), *args, **more)
    )


def gate_forgotten(monkeypatch: Any) -> None:
    made = feed_forward.feed_forward_weights
    monkeypatch.setattr(
        feed_forward, "feed_forward_weights", lambda *args, **more: made(*args, **{**more, "gated": False})
    )


def binary_bandwidth(monkeypatch: Any) -> None:
    monkeypatch.setitem(units._PREFIXES, "T", 2.0**40)


def decimal_capacity(monkeypatch: Any) -> None:
    monkeypatch.setitem(units._PREFIXES, "Gi", 1e9)


def sparse_peak(monkeypatch: Any) -> None:
    dense_peak = cost.arithmetic

    def doubled(*args: Any) -> Any:
        runs_as, rate = dense_peak(*args)
        return runs_as, 2.0 * rate

    monkeypatch.setattr(cost, "arithmetic", doubled)


def weights_for_every_sequence(monkeypatch: Any) -> None:
    for name in ("project", "linear"):
        scaled_rows(
            monkeypatch, feed_forward, name,
            lambda row: replace(row, read={**row.read, "weight": row.read["weight"] * row.shape["m"]}),
        )  # fmt: skip


def embedding_and_head_not_in_memory(monkeypatch: Any) -> None:
    whole = ModelSpec.weights
    monkeypatch.setattr(
        ModelSpec, "weights",
        lambda self: (entry for entry in whole(self) if entry[0] not in ("embedding", "head")),
    )  # fmt: skip


def multiply_add_counted_once(monkeypatch: Any) -> None:
    for module in (feed_forward, matrix_product, embedding):
        scaled_rows(monkeypatch, module, "linear", lambda row: replace(row, flops=row.flops / 2))


def cache_of_one_sequence(monkeypatch: Any) -> None:
    kept = grouped_query_attention.kept_tokens
    monkeypatch.setattr(
        grouped_query_attention, "kept_tokens",
        lambda sequences, reach: kept(replace(sequences, count=1.0), reach),
    )  # fmt: skip


def eight_bits_are_free(monkeypatch: Any) -> None:
    monkeypatch.setattr(Weight, "stored_bytes", lambda self, format, bias_format: self.parameters)


def time_below_the_floor(monkeypatch: Any) -> None:
    timed = Deployment.time

    def faster(self: Deployment, *args: Any, **more: Any) -> Any:
        result = timed(self, *args, **more)
        return replace(result, rows=tuple(replace(row, time_s=0.93 * row.time_s) for row in result.rows))

    monkeypatch.setattr(Deployment, "time", faster)


def scores_through_memory(monkeypatch: Any) -> None:
    def unfused(terms: Any, *args: Any, **more: Any) -> Any:
        return attend(replace(terms, policy=replace(terms.policy, fused_attention=False)), *args, **more)

    monkeypatch.setattr(grouped_query_attention, "attend", unfused)


WRONG = [
    cache_twice, query_heads_for_cache, no_attention_operations, output_as_wide_as_the_scores,
    top_k_experts_at_any_batch, all_experts_at_any_batch, expert_operations_ignore_top_k, half_the_head,
    head_for_every_prompt_token, no_causal_mask, gate_forgotten, binary_bandwidth, decimal_capacity,
    sparse_peak,
    weights_for_every_sequence, embedding_and_head_not_in_memory, multiply_add_counted_once,
    cache_of_one_sequence, eight_bits_are_free, time_below_the_floor, scores_through_memory,
]  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_right_formula_passes(check: Callable[[], None]) -> None:
    check()


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_a_known_wrong_formula_is_caught(
    wrong: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong(monkeypatch)

    caught = []
    for check in CHECKS:
        try:
            check()
        except AssertionError:
            caught.append(check.__name__)
    assert caught, f"no check notices {wrong.__name__}"
