"""What schedules change in a pass, by counts a reader can check."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from roofline.errors import InvalidSpecError
from roofline.graph.blocks.embedding import Embedding, Head
from roofline.graph.blocks.feed_forward import FeedForward
from roofline.graph.blocks.grouped_query_attention import GroupedQueryAttention
from roofline.graph.blocks.normalization import Normalization
from roofline.graph.kernel_policy import KernelPolicy
from roofline.graph.layer import Run
from roofline.graph.layer_rule import LayerRule, combined
from roofline.graph.model import ModelSpec
from roofline.graph.operator import Operator, Terms
from roofline.graph.schedule import Schedule, scheduled
from roofline.graph.step import Segment, Sequences, Step
from roofline.quantity import total

LAYERS = 4
MODEL = ModelSpec(
    name="Small",
    hidden_size=64.0,
    layers={
        "decoder": {
            "norm": Normalization(),
            "attention": GroupedQueryAttention(heads=4.0, kv_heads=2.0, head_dim=16.0),
            "feed_forward": FeedForward(intermediate_size=128.0),
        }
    },
    order=(Run(layers=("decoder",), repeat=LAYERS),),
    embedding=Embedding(vocabulary_size=1000.0),
    head=Head(vocabulary_size=1000.0),
)
TERMS = Terms(hidden_size=64.0)
KV_BYTES = 2 * 2 * 16 * 2  # keys and values x KV heads x width x bf16


def prefill(prompt: float = 10.0, image: float = 20.0, count: float = 1.0) -> Step:
    new = (Segment(tokens=image, origin="image"), Segment(tokens=prompt, origin="prompt"))
    return Step(sequences=(Sequences(count=count, new=new),))


def decode(prompt: float = 100.0, generated: float = 20.0, count: float = 1.0) -> Step:
    past = (Segment(tokens=prompt, origin="prompt"), Segment(tokens=generated, origin="generated"))
    new = (Segment(tokens=1.0, origin="generated"),)
    return Step(sequences=(Sequences(count=count, new=new, past=past),))


def everywhere(**rule: object) -> Schedule:
    return Schedule(rules={"all": LayerRule(**rule)}, order=("all",) * LAYERS)  # type: ignore[arg-type]


def rows(step: Step, *schedules: Schedule) -> tuple[Operator, ...]:
    return tuple(MODEL.operators(step, TERMS, schedules))


def flops(step: Step, *schedules: Schedule) -> float:
    return float(total(row.kernels * row.repeat * row.flops for row in rows(step, *schedules)))


def read(tensor: str, step: Step, *schedules: Schedule) -> float:
    return float(
        total(row.kernels * row.repeat * row.read.get(tensor, 0.0) for row in rows(step, *schedules))
    )


def layer_weights(step: Step, *schedules: Schedule) -> float:
    return float(
        total(
            row.kernels * row.repeat * row.read.get("weight", 0.0)
            for row in rows(step, *schedules)
            if row.layer == "decoder" and row.kind == "gemm"
        )
    )


def test_a_rule_that_says_nothing_changes_nothing() -> None:
    assert flops(decode(), everywhere()) == flops(decode())
    assert read("kv_cache", decode(), everywhere()) == read("kv_cache", decode())


def test_pruned_image_tokens_are_missing_from_prefill_and_from_the_cache() -> None:
    # Half of 20 image tokens and all 10 prompt tokens: as if there were 10 image tokens.
    half = everywhere(tokens_kept={"image": 0.5})
    decoder = [row for row in rows(prefill(), half) if row.layer == "decoder"]
    fewer = [row for row in rows(prefill(image=10.0)) if row.layer == "decoder"]
    held = MODEL.resident(prefill(), TERMS, (half,))["kv_cache"]

    assert [row.flops for row in decoder] == [row.flops for row in fewer]
    assert held == 20 * KV_BYTES * LAYERS


def test_a_budget_drops_the_oldest_cached_tokens() -> None:
    # 100 prompt + 20 generated under a budget of 50: 50 tokens are read in each layer.
    assert read("kv_cache", decode(), everywhere(kv_budget_tokens=50.0)) == 50 * KV_BYTES * LAYERS


def test_a_window_with_sinks_holds_in_prefill_and_decode() -> None:
    # New token sees itself, 7 before it and 4 sinks: 11 cached tokens.
    schedule = everywhere(window_tokens=8.0, sink_tokens=4.0)
    attention = next(row for row in rows(prefill(), schedule) if row.kind == "attention")

    assert read("kv_cache", decode(), schedule) == 11 * KV_BYTES * LAYERS
    # 30 tokens: 12 x 13 / 2 pairs of the first twelve, 12 for each of the other 18.
    assert attention.shape["pairs"] == 12 * 13 / 2 + 18 * 12


def test_spared_heads_keep_everything() -> None:
    # Half of the heads keep 120 cached tokens, the other half the newest 12.
    schedule = everywhere(window_tokens=8.0, sink_tokens=4.0, full_heads=0.5)

    np.testing.assert_allclose(read("kv_cache", decode(), schedule), (60 + 6) * KV_BYTES * LAYERS, rtol=1e-12)
    held = MODEL.resident(decode(), TERMS, (schedule,))["kv_cache"]
    np.testing.assert_allclose(held, (60 + 6 + 1) * KV_BYTES * LAYERS, rtol=1e-12)


def test_retrieval_reads_few_tokens_keeps_all_and_pays_for_choosing() -> None:
    # 24 of 120 tokens, and a sixteenth of all of them to choose: 31.5 tokens' worth.
    schedule = everywhere(read_tokens=24.0, index_share=1 / 16)

    np.testing.assert_allclose(read("kv_cache", decode(), schedule), 31.5 * KV_BYTES * LAYERS, rtol=1e-12)
    assert MODEL.resident(decode(), TERMS, (schedule,)) == MODEL.resident(decode(), TERMS)
    assert flops(prefill(), schedule) == flops(prefill())


def test_density_cuts_pairs_of_prompts_and_leaves_decoding_alone() -> None:
    schedule = everywhere(density={"prompt": 0.25, "image": 0.25})
    pairs = [next(row for row in rows(prefill(), *some) if row.kind == "attention").shape["pairs"]
             for some in ((), (schedule,))]  # fmt: skip

    assert pairs[1] == 0.25 * pairs[0]
    assert flops(decode(), schedule) == flops(decode())


def test_a_layer_skipped_by_every_token_costs_nothing() -> None:
    schedule = Schedule(
        rules={"run": LayerRule(), "skip": LayerRule(executed={"generated": 0.0, "prompt": 0.0})},
        order=("run", "skip", "run", "skip"),
    )

    np.testing.assert_allclose(layer_weights(decode(), schedule), layer_weights(decode()) / 2, rtol=1e-12)
    # Two layers keep all 121 tokens, two none.
    assert MODEL.resident(decode(), TERMS, (schedule,))["kv_cache"] == 2 * 121 * KV_BYTES


def test_tokens_that_skip_alone_save_weights_only_at_small_batches() -> None:
    # A layer that a token skips half of the time is read for 1 - 0.5^n of the passes of n tokens.
    half = everywhere(executed={"generated": 0.5})
    shares = [layer_weights(decode(count=n), half) / layer_weights(decode(count=n)) for n in (1.0, 2.0, 8.0)]

    np.testing.assert_allclose(shares, [0.5, 0.75, 1 - 0.5**8], rtol=1e-12)


def test_skipping_saves_operations_in_proportion_at_any_batch() -> None:
    half = everywhere(executed={"generated": 0.5, "prompt": 0.5})
    for count in (1.0, 8.0):
        step = decode(count=count, prompt=0.0, generated=0.0)
        products = [
            total(row.kernels * row.repeat * row.flops for row in rows(step, *some) if row.kind == "gemm"
                  and row.layer == "decoder")
            for some in ((), (half,))
        ]  # fmt: skip

        np.testing.assert_allclose(products[1], products[0] / 2, rtol=1e-12)


def test_filled_layers_keep_every_key_and_pay_for_its_projection() -> None:
    skip = {"generated": 0.5, "prompt": 0.5}
    bare, filled = everywhere(executed=skip), everywhere(executed=skip, fill_skipped=True)
    # The other half of 10 tokens: 2 x 5 x 64 x 32 for each of key and value.
    fill = 2 * 2 * 5 * 64 * 32 * LAYERS
    step = Step(sequences=(Sequences(count=1.0, new=(Segment(tokens=10.0),)),))

    assert MODEL.resident(step, TERMS, (filled,)) == MODEL.resident(step, TERMS)
    assert MODEL.resident(step, TERMS, (bare,))["kv_cache"] < MODEL.resident(step, TERMS)["kv_cache"]
    assert sum(row.repeat * row.flops for row in rows(step, filled) if row.name in ("key", "value")) == fill


def test_a_pass_reads_the_union_of_the_neurons_its_tokens_use() -> None:
    def share(count: float, **rule: float) -> float:
        part = [row for row in rows(decode(count=count), everywhere(**rule)) if row.name == "down"]
        whole = [row for row in rows(decode(count=count)) if row.name == "down"]
        return float(part[0].read["weight"] / whole[0].read["weight"])

    np.testing.assert_allclose(share(1.0, width_kept=0.25, width_shared=0.5), 0.25, rtol=1e-12)
    np.testing.assert_allclose(share(7.0, width_kept=0.25, width_shared=1.0), 0.25, rtol=1e-12)
    # Two tokens that choose a quarter each without preference: 1 - 0.75^2.
    np.testing.assert_allclose(share(2.0, width_kept=0.25, width_shared=0.0), 1 - 0.75**2, rtol=1e-12)


RULES = (
    LayerRule(tokens_kept={"prompt": 0.5}),
    LayerRule(kv_budget_tokens=40.0),
    LayerRule(window_tokens=16.0, sink_tokens=4.0, full_heads=0.5),
    LayerRule(window_tokens=30.0),
    LayerRule(read_tokens=10.0, index_share=0.1),
    LayerRule(executed={"generated": 0.5}, fill_skipped=True),
    LayerRule(width_kept=0.5, width_shared=0.2),
    LayerRule(density={"prompt": 0.3}),
)


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(range(len(RULES)), 2)))
@pytest.mark.parametrize("step", [prefill(), decode(), decode(count=8.0)])
def test_the_order_of_schedules_does_not_matter(first: int, second: int, step: Step) -> None:
    one, two = (
        Schedule(rules={f"rule {number}": RULES[number]}, order=(f"rule {number}",) * LAYERS)
        for number in (first, second)
    )
    for here, there in zip(rows(step, one, two), rows(step, two, one), strict=True):
        assert (here.name, here.flops, dict(here.read), here.repeat) == (
            there.name, there.flops, dict(there.read), there.repeat,
        )  # fmt: skip


def test_two_rules_of_one_kind_keep_the_smaller() -> None:
    both = combined((LayerRule(kv_budget_tokens=50.0), LayerRule(kv_budget_tokens=20.0)))

    assert both.kv_budget_tokens == 20.0


def test_layers_with_the_same_rule_share_one_row() -> None:
    keep, drop = LayerRule(), LayerRule(tokens_kept={"image": 0.0})
    parts = list(
        scheduled(
            MODEL.layers,
            MODEL.order,
            prefill(),
            (Schedule.of((keep, keep, keep, drop), "prune"),),
            model=MODEL.name,
        )
    )

    assert [part[3] for part in parts] == [3.0, 1.0]


@pytest.mark.parametrize(
    ("length", "words"), [(3, ("3 layers", "Small has 4", "layer 3")), (5, ("5 layers", "layer 4"))]
)
def test_a_schedule_of_another_length_is_refused_by_name(length: int, words: tuple[str, ...]) -> None:
    with pytest.raises(InvalidSpecError) as error:
        rows(decode(), Schedule(rules={"all": LayerRule()}, order=("all",) * length))

    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"tokens_kept": {"image": 1.5}}, ("tokens_kept.image", "1.5")),
        ({"density": {"prompt": -0.1}}, ("density.prompt", "-0.1")),
        ({"width_kept": 2.0}, ("width_kept", "2")),
        ({"kv_budget_tokens": -1.0}, ("kv_budget_tokens", "-1")),
        ({"window_tokens": 0.0}, ("window_tokens", "0")),
        ({"full_heads": 0.5}, ("window_tokens",)),
    ],
)
def test_impossible_values_name_layer_and_value(rule: dict[str, object], words: tuple[str, ...]) -> None:
    with pytest.raises(InvalidSpecError) as error:
        Schedule(rules={"ok": LayerRule(), "bad": LayerRule(**rule)}, order=("ok", "bad"))  # type: ignore[arg-type]

    assert all(word in str(error.value) for word in ("layer 1", "'bad'", *words))


def test_a_rule_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidSpecError, match=r"layer 1: rule 'kep'.*nearest: 'keep'"):
        Schedule(rules={"keep": LayerRule()}, order=("keep", "kep"))


@pytest.mark.parametrize("name", ["tokens_kept", "kv_budget_tokens", "window_tokens", "read_tokens",
                                  "executed", "width_kept", "density"])  # fmt: skip
def test_vectors_in_rules_equal_scalars(name: str) -> None:
    counted = name in ("kv_budget_tokens", "window_tokens", "read_tokens")
    values = np.array([5.0, 50.0, 500.0] if counted else [0.25, 0.5, 1.0])

    def rule(value: object) -> Schedule:
        mapped = {"prompt": value, "generated": value}
        return everywhere(**{name: mapped if name in ("tokens_kept", "executed", "density") else value})

    for step in (prefill(), decode(count=3.0)):
        grid = total(row.kernels * row.repeat * row.flops for row in rows(step, rule(values)))
        np.testing.assert_allclose(
            np.broadcast_to(grid, (3,)), [flops(step, rule(float(value))) for value in values], rtol=1e-12
        )


def test_shared_keys_are_read_once_by_one_product_of_all_queries() -> None:
    # 8 sequences share 100 tokens and have 20 of their own.
    past = (Segment(tokens=100.0, origin="prefix", shared_by=8.0), Segment(tokens=20.0, origin="generated"))
    new = (Segment(tokens=1.0, origin="generated"),)
    step = Step(sequences=(Sequences(count=8.0, new=new, past=past),))
    sharing = replace(TERMS, policy=KernelPolicy(shared_prefix=True))
    plain, shared = (
        [row for row in MODEL.operators(step, terms) if row.kind == "attention" and row.kernels > 0]
        for terms in (TERMS, sharing)
    )

    assert [row.name for row in shared] == ["attention", "attention_shared"]
    assert sum(row.flops for row in shared) == sum(row.flops for row in plain)
    assert [row.read["kv_cache"] for row in shared] == [8 * 20 * KV_BYTES, 100 * KV_BYTES]
    assert plain[0].read["kv_cache"] == 8 * 120 * KV_BYTES
    assert (shared[1].shape["sequences"], shared[1].shape["new_tokens"]) == (1, 8)
