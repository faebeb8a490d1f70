"""Latent attention in DeepSeek-V3's sizes, derived by hand."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from roofline.graph.blocks.indexer import Indexer, selected
from roofline.graph.blocks.latent_attention import LatentAttention
from roofline.graph.kernel_policy import KernelPolicy
from roofline.graph.operator import Operator, Terms
from roofline.graph.parallelism import Parallelism
from roofline.graph.step import Segment, Sequences, Step

HIDDEN_SIZE = 7168.0
BLOCK = LatentAttention(
    heads=128.0, q_lora_rank=1536.0, kv_lora_rank=512.0,
    qk_nope_head_dim=128.0, qk_rope_head_dim=64.0, v_head_dim=128.0,
)  # fmt: skip
SPARSE = replace(BLOCK, top_k=2048.0, indexer=Indexer(heads=64.0, head_dim=128.0))


def sequences(*, new: float, past: float = 0.0, count: float = 1.0) -> Sequences:
    return Sequences(count=count, new=(Segment(tokens=new),), past=(Segment(tokens=past),))


def rows(block: LatentAttention, *groups: Sequences, **terms: Any) -> Mapping[str, Operator]:
    made = block.operators(Step(sequences=groups), Terms(hidden_size=HIDDEN_SIZE, **terms))
    return {row.name: row for row in made}


def test_parameters_of_deepseek_v3_are_the_published_ones() -> None:
    # 7168*1536 + 1536 + 1536*128*192 + 7168*576 + 512 + 512*128*256 + 128*128*7168 = 187,107,328
    assert sum(weight.parameters for weight in BLOCK.weights(HIDDEN_SIZE)) == 187_107_328


def test_decode_reads_one_latent_per_cached_token() -> None:
    attention = rows(BLOCK, sequences(new=1.0, past=999.0))["latent_attention"]

    # 128 heads x 1000 keys x 2 x (576 + 512) operations; 999 latents of 576 elements of 2 bytes.
    assert attention.flops == 128 * 1000 * 2 * (576 + 512)
    assert attention.read["kv_cache"] == 999 * 576 * 2
    assert attention.written["kv_cache"] == 576 * 2


def test_absorbed_projections_multiply_each_head_apart() -> None:
    made = rows(BLOCK, sequences(new=1.0, past=999.0, count=3.0))

    # 3 tokens x 128 heads, 128 -> 512 and 512 -> 128; weights are those of the up-projections.
    for name in ("query_absorb", "value_absorb"):
        assert made[name].flops == 2 * 3 * 128 * 128 * 512
        assert made[name].read["weight"] == 128 * 128 * 512 * 2
        assert made[name].shape["m"] == 3


def test_expanded_prefill_makes_keys_and_values_of_past_and_new_tokens() -> None:
    policy = KernelPolicy(absorbed_latent="never")
    made = rows(BLOCK, sequences(new=100.0, past=400.0), policy=policy)

    # 500 latents of 512 to 128 heads of 128 + 128; pairs 100*400 + 100*101/2 = 45,050.
    assert made["key_value_up"].flops == 2 * 500 * 512 * 128 * 256
    assert made["latent_gather"].read["kv_cache"] == 400 * 576 * 2
    assert made["expanded_attention"].flops == 2 * 128 * 45_050 * (192 + 128)
    assert made["expanded_attention"].read.get("kv_cache", 0.0) == 0.0
    assert made["expanded_attention"].written["kv_cache"] == 100 * 576 * 2


@pytest.mark.parametrize(
    ("new", "past", "form"),
    [
        (1.0, 4096.0, "absorbed"),
        (4.0, 4096.0, "absorbed"),
        (4096.0, 0.0, "expanded"),
        (2048.0, 9e4, "expanded"),
    ],
)
def test_the_cheapest_form_is_absorbed_for_decode_and_expanded_for_prefill(
    new: float, past: float, form: str
) -> None:
    made = rows(BLOCK, sequences(new=new, past=past))

    assert made["latent_attention"].kernels == (form == "absorbed")
    assert made["expanded_attention"].kernels == (form == "expanded")
    assert made["query_absorb"].kernels == (form == "absorbed")


@pytest.mark.parametrize(("new", "past"), [(1.0, 50.0), (64.0, 1000.0), (171.0, 1e6), (512.0, 0.0)])
def test_the_cheapest_form_has_the_smaller_flops(new: float, past: float) -> None:
    def flops(form: Any) -> float:
        made = rows(BLOCK, sequences(new=new, past=past), policy=KernelPolicy(absorbed_latent=form))
        return float(sum(row.flops * row.kernels for row in made.values()))

    np.testing.assert_allclose(flops("cheapest"), min(flops("always"), flops("never")), rtol=1e-12)


def test_every_rank_holds_the_whole_latent() -> None:
    step = Step(sequences=(sequences(new=1.0, past=99.0),))

    for ranks in (1.0, 8.0):
        terms = Terms(hidden_size=HIDDEN_SIZE, parallelism=Parallelism(tensor=ranks))
        assert BLOCK.resident(step, terms)["kv_cache"] == 100 * 576 * 2


def test_sparse_attention_scores_all_pairs_and_reads_the_chosen_tokens() -> None:
    made = rows(SPARSE, sequences(new=1.0, past=9999.0))

    # 10,000 pairs x 64 heads x 2 x (128 + 1); keys of 128 bytes and a 4-byte scale.
    assert made["index_scores"].flops == 10_000 * 64 * 2 * 129
    assert made["index_scores"].read["kv_cache"] == 9999 * 132
    assert made["index_scores"].compute_format == "fp8"
    assert made["latent_attention"].flops == 128 * 2048 * 2 * (576 + 512)
    assert made["latent_attention"].read["kv_cache"] == 2048 * 576 * 2


def test_a_short_context_is_chosen_whole() -> None:
    # Tokens 0..9 over nothing see 1..10 keys: 55 pairs, as many as without a choice.
    assert selected(sequences(new=10.0), 2048.0).pairs == 55.0


def test_sparse_cache_holds_latents_and_index_keys() -> None:
    step = Step(sequences=(sequences(new=1.0, past=99.0),))

    resident = SPARSE.resident(step, Terms(hidden_size=HIDDEN_SIZE))

    assert resident["kv_cache"] == 100 * (576 * 2 + 132)
