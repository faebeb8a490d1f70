"""What holds for every block kind, whatever its numbers."""

from dataclasses import fields, is_dataclass, replace
from operator import attrgetter
from typing import Any

import numpy as np
import pytest

from roofline.dotted_path import replace_at
from roofline.graph.blocks.alternating_updates import AlternatingUpdates
from roofline.graph.blocks.bottleneck import Bottleneck
from roofline.graph.blocks.cross_attention import CrossAttention
from roofline.graph.blocks.feed_forward import FeedForward
from roofline.graph.blocks.grouped_query_attention import GroupedQueryAttention
from roofline.graph.blocks.indexer import Indexer
from roofline.graph.blocks.kimi_delta_attention import KimiDeltaAttention
from roofline.graph.blocks.latent_attention import LatentAttention
from roofline.graph.blocks.linear_attention import GatedDeltaNet, LightningAttention
from roofline.graph.blocks.mixture_of_experts import MixtureOfExperts
from roofline.graph.blocks.normalization import Normalization
from roofline.graph.blocks.patch_embedding import PatchEmbedding
from roofline.graph.blocks.projection import Projection
from roofline.graph.blocks.projector import Projector
from roofline.graph.blocks.short_convolution import ShortConvolution
from roofline.graph.blocks.state_space import Mamba, Mamba2
from roofline.graph.blocks.union import BLOCKS as KINDS
from roofline.graph.formats import format_named
from roofline.graph.kernel_policy import KernelPolicy
from roofline.graph.operator import Operator, Precision, Terms
from roofline.graph.parallelism import Parallelism
from roofline.graph.step import Segment, Sequences, Step

HIDDEN_SIZE = 64.0
LATENT: dict[str, Any] = {
    "heads": 4.0, "kv_lora_rank": 24.0,
    "qk_nope_head_dim": 16.0, "qk_rope_head_dim": 8.0, "v_head_dim": 12.0,
}  # fmt: skip

BLOCKS: dict[str, Any] = {
    "grouped": GroupedQueryAttention(
        heads=8.0, kv_heads=4.0, head_dim=16.0, query_key_norm="head", projection_bias=True,
        output_bias=True, sinks=True, output_gate=True,
    ),
    "windowed": GroupedQueryAttention(heads=4.0, kv_heads=4.0, head_dim=16.0, window=9.0),
    "narrow_values": GroupedQueryAttention(heads=8.0, kv_heads=4.0, head_dim=16.0, value_head_dim=12.0),
    "chunked": GroupedQueryAttention(
        heads=4.0, kv_heads=4.0, head_dim=16.0, chunk=8.0, query_key_norm="full"
    ),
    "earlier_cache": GroupedQueryAttention(
        heads=8.0, kv_heads=4.0, head_dim=16.0, kv_cache="earlier", query_key_norm="head"
    ),
    "latent": LatentAttention(q_lora_rank=32.0, bias=True, **LATENT),
    "latent_plain_query": LatentAttention(rotary=False, **LATENT),
    "latent_sparse": LatentAttention(
        q_lora_rank=32.0, top_k=6.0, indexer=Indexer(heads=4.0, head_dim=8.0), **LATENT
    ),
    "latent_shared_choice": LatentAttention(q_lora_rank=32.0, top_k=6.0, **LATENT),
    "cross": CrossAttention(heads=8.0, kv_heads=4.0, head_dim=16.0, query_key_norm=True, gates=2.0),
    "gated_delta_net": GatedDeltaNet(
        key_heads=4.0, key_head_dim=8.0, value_heads=8.0, value_head_dim=12.0
    ),
    "kimi_delta_attention": KimiDeltaAttention(heads=8.0, head_dim=12.0, gate_rank=10.0),
    "lightning": LightningAttention(heads=4.0, head_dim=16.0),
    "mamba": Mamba(intermediate_size=128.0, time_step_rank=4.0, inner_norms=True, bias=True),
    "mamba2": Mamba2(heads=8.0, head_dim=16.0, groups=4.0, state_size=16.0, bias=True),
    "mamba2_plain": Mamba2(heads=8.0, head_dim=16.0, groups=4.0, norm=False),
    "feed_forward": FeedForward(intermediate_size=96.0, bias=True),
    "learned_activation": FeedForward(intermediate_size=96.0, gated=False, activation="xielu"),
    "experts": MixtureOfExperts(
        experts=8.0, top_k=2.0, intermediate_size=32.0, shared_intermediate_size=48.0, shared_gate=True,
        bias=True, router_bias=True, selection_bias=True,
    ),
    "latent_experts": MixtureOfExperts(
        experts=8.0, top_k=2.0, intermediate_size=32.0, gated=False, latent_size=16.0
    ),
    "norm": Normalization(bias=True),
    "patch": PatchEmbedding(patch_size=4.0, class_token=True, positions=17.0, norm=True, bias=True),
    "projection": Projection(output_size=32.0, inputs_joined=2.0, bias=True, split="outputs"),
    "short_convolution": ShortConvolution(kernel=4.0, bias=True),
    "bottleneck": Bottleneck(size=32.0, layer_input=True),
    "alternating_updates": AlternatingUpdates(states=4.0),
    "projector": Projector(
        merge=4.0, intermediate_size=32.0, output_size=48.0, norm="after_merge", norm_bias=True
    ),
}  # fmt: skip

CAUSAL = {name: block for name, block in BLOCKS.items() if name not in ("patch", "projector")}
ABSORBED = KernelPolicy(absorbed_latent="always")


def terms(**changes: Any) -> Terms:
    return Terms(**{"hidden_size": HIDDEN_SIZE, "layer": "layer", "block": "block", **changes})


def step(*, new: float, past: float = 0.0, count: float = 2.0, encoder: float = 10.0) -> Step:
    """Sequences of `new` tokens over `past`; the first pass brings the encoder's tokens."""
    return Step(
        sequences=(
            Sequences(
                count=count,
                new=(Segment(tokens=new),),
                past=(Segment(tokens=past),),
                encoder=Segment(tokens=encoder, origin="encoder"),
                new_encoder_tokens=np.where(np.asarray(past) > 0, 0.0, encoder)[()],
            ),
        )
    )


def flops(block: Any, work: Step, where: Terms) -> Any:
    return sum(row.flops * row.kernels * row.repeat for row in block.operators(work, where))


def test_every_kind_of_the_union_is_tried() -> None:
    tried = {type(block) for block in BLOCKS.values()}

    assert {KINDS.class_of(kind) for kind in KINDS.homes} <= tried


@pytest.mark.parametrize("name", BLOCKS)
def test_a_kind_is_the_snake_case_class_name(name: str) -> None:
    block = BLOCKS[name]
    words = "".join(f"_{c.lower()}" if c.isupper() else c for c in type(block).__name__)

    assert block.kind == words.lstrip("_")


@pytest.mark.parametrize("name", BLOCKS)
def test_weight_names_are_unique_in_a_block(name: str) -> None:
    names = [weight.name for weight in BLOCKS[name].weights(HIDDEN_SIZE)]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", BLOCKS)
def test_row_names_are_unique_in_a_block(name: str, fused: bool) -> None:
    policy = KernelPolicy(fused_projections=fused, fused_norm=fused, fused_attention=fused)
    names = [row.name for row in BLOCKS[name].operators(step(new=5.0), terms(policy=policy))]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", CAUSAL)
def test_prefill_equals_decodes_and_chunks_in_flops(name: str) -> None:
    block, where = CAUSAL[name], terms(policy=ABSORBED)
    tokens = 23
    decodes = [flops(block, step(new=1.0, past=float(past)), where) for past in range(tokens)]
    chunks = [flops(block, part, where) for part in step(new=float(tokens)).chunks(6.0)]

    whole = flops(block, step(new=float(tokens)), where)

    np.testing.assert_allclose(sum(decodes), whole, rtol=1e-12)
    np.testing.assert_allclose(sum(chunks), whole, rtol=1e-12)


def _numeric_paths(value: Any, prefix: str = "") -> list[str]:
    found = []
    for field in fields(value):
        part = getattr(value, field.name)
        if is_dataclass(part):
            found += _numeric_paths(part, f"{prefix}{field.name}.")
        elif isinstance(part, float):
            found.append(prefix + field.name)
    return found


def _row_numbers(rows: list[Operator]) -> list[dict[str, Any]]:
    return [
        {
            "flops": row.flops,
            "kernels": row.kernels,
            **{f"read {tensor}": size for tensor, size in row.read.items()},
            **{f"written {tensor}": size for tensor, size in row.written.items()},
            **{f"shape {key}": size for key, size in row.shape.items()},
        }
        for row in rows
    ]


def _assert_same_rows(vector: list[Operator], scalars: list[list[Operator]]) -> None:
    together = _row_numbers(vector)
    for index, rows in enumerate(scalars):
        for numbers, alone in zip(together, _row_numbers(rows), strict=True):
            for key, expected in alone.items():
                actual = np.broadcast_to(numbers[key], (3,))[index]
                np.testing.assert_allclose(actual, expected, rtol=1e-12, err_msg=key)


@pytest.mark.parametrize(
    ("name", "path"), [(name, path) for name, block in BLOCKS.items() for path in _numeric_paths(block)]
)
@pytest.mark.parametrize("absorbed", ["cheapest", "never"])
def test_a_vector_in_a_field_is_three_scalars(name: str, path: str, absorbed: Any) -> None:
    block, where = BLOCKS[name], terms(policy=KernelPolicy(absorbed_latent=absorbed))
    old = float(attrgetter(path)(block))
    values = np.array([old, 2.0 * old, 4.0 * old])
    work = step(new=5.0, past=7.0)

    vector = replace_at(block, path, values)
    scalars = [replace_at(block, path, float(value)) for value in values]

    _assert_same_rows(
        list(vector.operators(work, where)), [list(one.operators(work, where)) for one in scalars]
    )
    together = vector.resident(work, where)
    for index, one in enumerate(scalars):
        for tensor, size in one.resident(work, where).items():
            np.testing.assert_allclose(np.broadcast_to(together[tensor], (3,))[index], size, rtol=1e-12)


@pytest.mark.parametrize("key", ["new", "past", "count", "encoder"])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_vector_in_a_step_is_three_scalars(name: str, key: str) -> None:
    block, values = BLOCKS[name], np.array([0.0, 8.0, 200.0]) if key == "past" else np.array([4.0, 8.0, 90.0])
    base: dict[str, Any] = {"new": 5.0, "past": 7.0}

    vector = list(block.operators(step(**{**base, key: values}), terms()))
    scalars = [list(block.operators(step(**{**base, key: float(one)}), terms())) for one in values]

    _assert_same_rows(vector, scalars)


@pytest.mark.parametrize(
    "path", ["hidden_size", "parallelism.tensor", "parallelism.data", "parallelism.expert"]
)
@pytest.mark.parametrize("name", BLOCKS)
def test_a_vector_in_the_terms_is_three_scalars(name: str, path: str) -> None:
    values = np.array([1.0, 2.0, 4.0]) * (HIDDEN_SIZE if path == "hidden_size" else 1.0)
    block, work = BLOCKS[name], step(new=5.0, past=7.0)
    base = terms(parallelism=Parallelism(tensor=4.0))

    vector = list(block.operators(work, replace_at(base, path, values)))
    scalars = [list(block.operators(work, replace_at(base, path, float(one)))) for one in values]

    _assert_same_rows(vector, scalars)


@pytest.mark.parametrize("absorbed", ["always", "never", "cheapest"])
@pytest.mark.parametrize("new", [1.0, 4.0, 50.0])
@pytest.mark.parametrize("past", [0.0, 3.0, 40.0])
@pytest.mark.parametrize("name", [name for name in CAUSAL if name != "earlier_cache"])
def test_cache_read_never_exceeds_cache_resident(name: str, past: float, new: float, absorbed: Any) -> None:
    block, where = CAUSAL[name], terms(policy=KernelPolicy(absorbed_latent=absorbed))
    work = step(new=new, past=past)
    rows = list(block.operators(work, where))

    for tensor in ("kv_cache", "state"):
        read = sum(row.read.get(tensor, 0.0) * row.kernels for row in rows)
        assert read <= block.resident(work, where).get(tensor, 0.0) * (1.0 + 1e-12)


@pytest.mark.parametrize("name", ["grouped", "latent", "latent_sparse", "cross"])
def test_prefill_writes_what_is_resident(name: str) -> None:
    block, work = BLOCKS[name], step(new=12.0)
    rows = block.operators(work, terms())

    written = sum(row.written.get("kv_cache", 0.0) * row.kernels for row in rows)

    np.testing.assert_allclose(written, block.resident(work, terms())["kv_cache"], rtol=1e-12)


@pytest.mark.parametrize("ranks", [2.0, 4.0])
@pytest.mark.parametrize("name", BLOCKS)
def test_shards_add_up_to_the_whole(name: str, ranks: float) -> None:
    for weight in BLOCKS[name].weights(HIDDEN_SIZE):
        part = weight.local(Parallelism(tensor=ranks))
        copies = 1.0 if weight.split == "none" else ranks

        whole = weight.inputs * weight.outputs * weight.groups

        assert copies * part.inputs * part.outputs * part.groups == whole


@pytest.mark.parametrize("format", ["bf16", "fp8_block", "int4_g32", "q4_k", "nvfp4"])
@pytest.mark.parametrize("absorbed", ["always", "never"])
@pytest.mark.parametrize("ranks", [1.0, 2.0])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_dense_pass_reads_every_weight_once(name: str, ranks: float, absorbed: Any, format: str) -> None:
    block = BLOCKS[name]
    if block.kind == "mixture_of_experts":
        block = replace(block, top_k=block.experts)
    where = terms(
        precision=Precision(weights=format),
        policy=KernelPolicy(absorbed_latent=absorbed),
        parallelism=Parallelism(tensor=ranks),
    )
    hidden = format_named(where.precision.hidden)
    stored = sum(
        weight.local(where.parallelism).stored_bytes(
            where.precision.of_weight("layer", "block", weight), hidden
        )
        for weight in block.weights(HIDDEN_SIZE)
        if weight.tensor != "embedding"
    )

    read = sum(
        (row.read.get("weight", 0.0) + row.read.get("expert_weight", 0.0)) * row.kernels
        for row in block.operators(step(new=32.0), where)
    )

    np.testing.assert_allclose(read, stored, rtol=1e-12)
