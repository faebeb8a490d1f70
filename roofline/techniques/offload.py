"""Weights, experts and caches that do not fit: where they lie and who works on them."""

from dataclasses import replace
from typing import Final

from roofline.catalog.fits import load_runtime
from roofline.catalog.usual_hosts import on_usual_machine
from roofline.errors import InvalidSpecError
from roofline.scenario import Scenario
from roofline.techniques.technique import Cited, Technique
from roofline.timing.expert_cache import USUAL_REUSE, ExpertCache
from roofline.timing.offloading import (
    Sizes,
    cached,
    caches_of_host,
    experts_on_host,
    fetching_pays_above,
    sizes_of,
    streamed,
)
from roofline.timing.placement import Piece, Placement, Rule

__all__ = ["PRESETS"]


def _beside_host(scenario: Scenario, software: str | None = None) -> Scenario:
    """The scenario with a host, and a runtime for its processor."""
    whole = on_usual_machine(scenario)
    deployment = whole.deployment
    host = deployment.system.host
    if host is None:
        raise InvalidSpecError(f"{deployment.system.name} has no host, and no link to one")
    runtimes = {"host.cpu": load_runtime(host.name, software)}
    return whole.replace(deployment=replace(deployment, engine_runtimes=runtimes))


def _sizes(scenario: Scenario) -> Sizes:
    workload = scenario.workload
    last = workload.decode(workload.last_generated)
    return sizes_of(scenario.deployment, last, widest=workload.prefill())


def _of_experts(scenario: Scenario, name: str) -> Sizes:
    sizes = _sizes(scenario)
    if isinstance(sizes.expert_bytes, float) and not sizes.expert_bytes:
        raise InvalidSpecError(f"{name}: {scenario.deployment.model.name} has no experts")
    return sizes


def _placed(scenario: Scenario, rules: tuple[Rule, ...]) -> Scenario:
    placement = Placement(rules=rules, by_size=True)
    return scenario.replace(deployment=replace(scenario.deployment, placement=placement))


def _chosen(scenario: Scenario) -> Scenario:
    beside, sizes = _beside_host(scenario), _of_experts(scenario, "fiddler")
    above = fetching_pays_above(beside.deployment, sizes)
    return _placed(beside, experts_on_host(beside.deployment, sizes, fetch_above=above))


def _computed(scenario: Scenario, *, near: float, fetch_above: float) -> Scenario:
    beside, sizes = _beside_host(scenario, "kt-kernel"), _of_experts(scenario, "ktransformers")
    return _placed(
        beside, experts_on_host(beside.deployment, sizes, near_share=near, fetch_above=fetch_above)
    )


def _fetched(scenario: Scenario, *, prefetched: float, reuse: float) -> Scenario:
    beside, sizes = _beside_host(scenario), _of_experts(scenario, "an expert cache")
    cache, read = ExpertCache(capacity=1.0, reuse=reuse), Piece(prefetched=prefetched)
    return _placed(beside, cached(beside.deployment, sizes, source="host", cache=cache, read=read))


def _slots(scenario: Scenario, *, slots: float, prefetched: float) -> Scenario:
    beside, sizes = _beside_host(scenario), _of_experts(scenario, "an expert cache")
    read = Piece(prefetched=prefetched)
    return _placed(beside, cached(beside.deployment, sizes, source="host", slots=slots, read=read))


def _block_schedule(scenario: Scenario, *, host: str) -> Scenario:
    beside = _beside_host(scenario, None if host == "default" else host)
    sizes = replace(_sizes(scenario), cache_bytes=0.0)
    weights = streamed(beside.deployment, sizes, source="host", expert_read=Piece())
    return _placed(beside, (caches_of_host(), *weights))


def _from_flash(scenario: Scenario, *, prefetched: float, reuse: float) -> Scenario:
    whole, sizes = on_usual_machine(scenario), _of_experts(scenario, "powerinfer-2")
    cache, read = ExpertCache(capacity=1.0, reuse=reuse), Piece(prefetched=prefetched)
    return _placed(whole, cached(whole.deployment, sizes, source="storage", cache=cache, read=read))


def _windowed(scenario: Scenario, *, active: float, new: float, kept: float, bundle: float) -> Scenario:
    whole = on_usual_machine(scenario)
    near = next(iter(whole.deployment.system.device.memory))
    tiers = {"weight": {near: active - new, "storage": new}}
    read = Piece(tiers=tiers, prefetched=0.0, access_bytes=bundle)
    stored = {"weight": {near: kept, "storage": 1.0}}
    return _placed(whole, (Rule(pattern="*.feed_forward", pieces=(read,), stored=stored),))


_PLACES: Final = ("deployment.placement", "deployment.engine_runtimes")
_REUSE: Final = Cited(value=USUAL_REUSE, source="docs/offload.md section 3, eight models", kind="estimate")

PRESETS: Final = (
    Technique(
        name="fiddler", title="cold experts computed on the host or fetched, whichever is sooner",
        paper="2402.07033", slots=_PLACES, preset=_chosen,
        published="over 3 token/s for Mixtral 8x7B in 16 bits on one 24 GB card (README)",
    ),
    Technique(
        name="ktransformers", title="routed experts on the host, fetched layer by layer for long prompts",
        paper="https://madsys.cs.tsinghua.edu.cn/publication/"
        "ktransformers-unleashing-the-full-potential-of-cpu/gpu-hybrid-inference-for-moe-models",
        slots=_PLACES, preset=_computed,
        settings={
            "near": Cited(value=0.0, source="--kt-gpu-experts-ratio, 0 to 1, given by the user", kind="code"),
            "fetch_above": Cited(value=4096.0,
                                 source="kt run: --kt-gpu-prefill-token-threshold", kind="code"),
        },
        published="decoding 1.25 to 4.09 x, prefill 4.62 to 19.74 x of earlier systems (abstract)",
    ),
    Technique(
        name="moe-infinity", title="activation-aware expert cache and prefetching", paper="2401.14361",
        slots=_PLACES, preset=_fetched,
        settings={
            "prefetched": Cited(value=0.5, source="half of the misses in time", kind="estimate"),
            "reuse": _REUSE,
        },
    ),
    Technique(
        name="mixtral-offloading", title="LRU cache of experts, those of the next layer guessed",
        paper="2312.17238", slots=_PLACES, preset=_slots,
        settings={
            "slots": Cited(value=0.5, source="four of eight experts on 16 GB cards, not confirmed",
                           kind="estimate"),
            "prefetched": Cited(value=0.3, source="share guessed in time", kind="estimate"),
        },
    ),
    Technique(
        name="pre-gated-moe", title="experts chosen a layer ahead and fetched in time", paper="2308.12066",
        slots=_PLACES, preset=_slots,
        settings={
            "slots": Cited(value=0.0, source="all experts with the host, not confirmed", kind="estimate"),
            "prefetched": Cited(value=1.0, source="abstract: the next block's experts are chosen before it"),
        },
    ),
    Technique(
        name="flexgen", title="weights streamed, caches attended on the host", paper="2303.06865",
        slots=_PLACES, preset=_block_schedule,
        settings={"host": Cited(value="flexgen", source="docs/offload.md section 5", kind="estimate")},
        published="0.69 token/s for OPT-175B on one T4 at 256 sequences (README)",
    ),
    Technique(
        name="moe-lens", title="experts streamed, caches attended on the host", paper="2504.09345",
        slots=_PLACES, preset=_block_schedule,
        settings={"host": Cited(value="default", source="the host's own profile", kind="estimate")},
        published="4.6 x on average over earlier systems (abstract)",
    ),
    Technique(
        name="powerinfer-2", title="experts cached in memory, the rest read from flash beside computing",
        paper="2406.06282", slots=_PLACES, preset=_from_flash,
        settings={
            "prefetched": Cited(value=0.5, source="half of the reads beside computing", kind="estimate"),
            "reuse": _REUSE,
        },
        published="11.68 token/s for TurboSparse-Mixtral 47B on a phone (abstract)",
    ),
    Technique(
        name="llm-in-a-flash", title="neurons of the last tokens kept, new ones read from flash",
        paper="2312.11514", slots=_PLACES, preset=_windowed,
        settings={
            "active": Cited(value=0.1, source="section 3.1: OPT-6.7B, predicted active share"),
            "new": Cited(value=0.024, source="section 3.1: incremental share, window of 5"),
            "kept": Cited(value=0.24, source="section 3.1: aggregated share over 5 tokens"),
            "bundle": Cited(value=32768.0, source="Table 2: rows and columns read together [B]"),
        },
        published="4 to 5 x on processors and 20 to 25 x on cards over naive loading (abstract)",
    ),
)  # fmt: skip
