"""Where a run's weights lie that exceed the device's memory: by its runtime's rule, or as its row says."""

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from roofline.calibration.predictions.run_times import said_ratio
from roofline.catalog.offload_policies import OffloadPolicy
from roofline.errors import InvalidSpecError
from roofline.graph.blocks.mixture_of_experts import MixtureOfExperts
from roofline.quantity import revised
from roofline.scenario import Scenario
from roofline.timing.deployment import Deployment
from roofline.timing.expert_cache import USUAL_REUSE, ExpertCache
from roofline.timing.offloading import (
    Sizes,
    cached,
    caches_of_host,
    computed_on_host,
    experts_on_host,
    fetching_pays_above,
    layers_on_host,
    layers_with_experts,
    mapped,
    sizes_of,
    streamed,
)
from roofline.timing.placement import Piece, Placement, Rule

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BATCH_AT_ONCE", "experts_of", "placed"]


#: llama.cpp's ways of leaving experts to the processor, with how many layers' where that is said.
_EXPERTS_AWAY: Final = re.compile(
    r"(?:exps\s*=\s*cpu|--cpu-moe|experts? (?:on|in) (?:the )?(?:cpu|ram|host)|n-cpu-moe\s*=?\s*(\d+))",
    re.IGNORECASE,
)
_LAYERS_NEAR: Final = re.compile(r"(?:-ngl|n[-_]gpu[-_]layers|gpu layers)\s*[=:]?\s*(\d+)", re.IGNORECASE)
#: llama-bench feeds tokens drawn at random (tools/llama-bench/llama-bench.cpp, test_gen), so passes choose
#: apart from each other; by default a prompt of 512 and an answer of 128.
_BENCH: Final = re.compile(r"llama-bench", re.IGNORECASE)
_BENCH_TOKENS: Final = ((512.0, 0.0), (0.0, 128.0), (512.0, 128.0))
#: Sequences a card works on at once where a block of batches shares a fetch (FlexGen, arXiv:2303.06865,
#: section 6, runs its largest models with 32 to 48).
BATCH_AT_ONCE: Final = 32.0
#: Native 4-bit experts are fetched for shorter prompts than others are (doc/en/kt-kernel,
#: Kimi-K2-Thinking-Native.md: --kt-gpu-prefill-token-threshold 400).
_NATIVE_THRESHOLD: Final = 400.0


def placed(scenario: Scenario, row: "pd.Series[Any]", policy: OffloadPolicy) -> Scenario:
    """The scenario with its model placed as the policy says."""
    deployment, workload = scenario.deployment, scenario.workload
    few = replace(workload, batch_size=min(float(workload.batch_size), BATCH_AT_ONCE))
    sizes = sizes_of(deployment, workload.decode(workload.last_generated), widest=few.prefill())
    fits = float(sizes.dense_bytes + sizes.expert_bytes) <= float(sizes.room_bytes)
    if policy.way == "experts_on_host" and sizes.expert_bytes:
        above = policy.fetch_above
        if above is not None and "native" in row["quant"].casefold():
            above = _NATIVE_THRESHOLD
        share = said_ratio(row["stated_metric"])
        rules = experts_on_host(deployment, sizes, near_share=share, fetch_above=above)
        return scenario.replace(deployment=replace(deployment, placement=Placement(rules=rules)))
    said = f"{row['runtime']} {row['parallelism']} {row['note']}"
    by_hand = None if deployment.system.host is None else _said_layers(deployment, sizes, said)
    if policy.way == "layers" and by_hand is not None:
        return scenario.replace(deployment=replace(deployment, placement=Placement(rules=by_hand)))
    if fits and not policy.keeps_none:
        return scenario
    if deployment.system.host is None:
        rules = _without_host(deployment, sizes, policy, _reuse(row, policy))
    else:
        rules = _with_host(deployment, sizes, policy, _reuse(row, policy))
    ruled = replace(deployment, placement=Placement(rules=rules))
    if not (policy.all_experts and sizes.expert_bytes):
        return scenario.replace(deployment=ruled)
    experts, distinct = experts_of(deployment, float(workload.batch_size))
    every = tuple(_fetching_all(rule, experts / distinct) for rule in rules)
    decode = replace(deployment, placement=Placement(rules=every))
    return scenario.replace(deployment=decode, prefill_deployment=ruled)


def experts_of(deployment: Deployment, tokens: float) -> tuple[float, float]:
    """Experts of a layer, and how many of them so many tokens pick."""
    blocks = (block for layer in deployment.model.layers.values() for block in layer.values())
    mixture = next(block for block in blocks if isinstance(block, MixtureOfExperts))
    experts = float(mixture.experts)
    distinct = deployment.routing.touched(experts=experts, top_k=mixture.top_k, tokens=tokens)
    return experts, float(distinct)


def _fetching_all(rule: Rule, times: float) -> Rule:
    """A rule that fetches so many times what a pass reads of its experts."""
    if rule.reads != "expert_weight":
        return rule
    pieces = tuple(
        revised(
            piece,
            tiers={
                tensor: {
                    tier: share * times if tier in ("host", "storage") else share
                    for tier, share in tiers.items()
                }
                for tensor, tiers in piece.tiers.items()
            },
        )
        for piece in rule.pieces
    )
    return revised(rule, pieces=pieces)


def _said_layers(deployment: Deployment, sizes: Sizes, said: str) -> tuple[Rule, ...] | None:
    """Rules of the layers, or of the layers' experts, that a row itself leaves to the host."""
    layers = float(sum(deployment.model.layer_counts().values()))
    if sizes.expert_bytes and (found := _EXPERTS_AWAY.search(said)) is not None:
        away = layers if found[1] is None else min(float(found[1]), layers)
        mixtures = layers_with_experts(deployment)
        return experts_on_host(deployment, sizes, layers=min(away, mixtures))
    found = _LAYERS_NEAR.search(said)
    return None if found is None else layers_on_host(deployment, near_layers=min(float(found[1]), layers))


def _without_host(
    deployment: Deployment, sizes: Sizes, policy: OffloadPolicy, reuse: float
) -> tuple[Rule, ...]:
    """Rules where only storage is left, by capacity where the policy says nothing of it."""
    if deployment.system.storage is None:
        raise InvalidSpecError(f"{deployment.system.name}: the catalogue names no storage to page from")
    if policy.way == "cache" and sizes.expert_bytes:
        cache, read = ExpertCache(capacity=1.0, reuse=reuse), Piece(prefetched=policy.prefetched)
        return cached(deployment, sizes, source="storage", cache=cache, read=read)
    if policy.way == "stream":
        return streamed(deployment, sizes, source="storage", keep=not policy.keeps_none)
    return mapped(deployment, sizes, reuse=reuse)


def _with_host(deployment: Deployment, sizes: Sizes, policy: OffloadPolicy, reuse: float) -> tuple[Rule, ...]:
    """Rules of a card, its host and the host's storage."""
    beyond = _beyond_host(deployment, sizes, policy)
    experts = bool(sizes.expert_bytes)
    source = "storage" if beyond > 0.5 else "host"
    if policy.way == "choose" and experts and not beyond:
        above = fetching_pays_above(deployment, sizes)
        return experts_on_host(deployment, sizes, fetch_above=above)
    if policy.way == "layers":
        return computed_on_host(deployment, sizes, host_bytes=_host_room(deployment), reuse=reuse)
    if policy.way == "mmap":
        return mapped(deployment, sizes, reuse=reuse)
    read = Piece(prefetched=policy.prefetched)
    if policy.way in ("cache", "choose") and experts:
        cache = ExpertCache(capacity=1.0, reuse=reuse)
        return cached(deployment, sizes, source=source, cache=cache, read=read)
    caches: tuple[Rule, ...] = ()
    kept = sizes
    if policy.host_cache:
        spilled = 1.0 - min(_host_room(deployment) / max(float(sizes.cache_bytes), 1.0), 1.0)
        caches = (caches_of_host(attends=policy.host_attention, stored=spilled),)
        kept = replace(sizes, cache_bytes=0.0)
    weights = streamed(
        deployment,
        kept,
        source="host",
        stored=beyond,
        keep=not policy.keeps_none,
        read=read,
        expert_read=read,
    )
    return (*caches, *weights)


def _beyond_host(deployment: Deployment, sizes: Sizes, policy: OffloadPolicy) -> float:
    """Share of what leaves the card that host memory does not hold."""
    weights = float(sizes.dense_bytes + sizes.expert_bytes) * float(deployment.system.device_count)
    away = weights if policy.keeps_none else max(weights - float(sizes.room_bytes), 0.0)
    room, caches = _host_room(deployment), float(sizes.cache_bytes)
    if policy.host_cache and caches < room:
        room -= caches
    return min(max(away - room, 0.0) / max(away, 1.0), 1.0)


def _host_room(deployment: Deployment) -> float:
    """Host memory for a model [B]."""
    host = deployment.system.host
    if host is None:
        return 0.0
    return float(next(iter(host.memory.values())).capacity_bytes) * (1.0 - deployment.reserve_fraction)


def _reuse(row: "pd.Series[Any]", policy: OffloadPolicy) -> float:
    """What neighbouring tokens of a row's run choose alike: nothing where they are drawn at random."""
    tokens = tuple(float(np.nan_to_num(row[name])) for name in ("prompt_len", "gen_len"))
    drawn = policy.name == "llama.cpp" and tokens in _BENCH_TOKENS
    return 0.0 if drawn or _BENCH.search(row["runtime"]) else USUAL_REUSE
