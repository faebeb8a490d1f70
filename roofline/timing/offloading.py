"""Placements for models larger than the near memory: what leaves it, and what comes of that.

Each function takes a deployment and its sizes, and returns the rules that make it fit, by closed
forms in the capacities; docs/offload.md section 3 derives them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from roofline.graph.step import Segment, Sequences, Step
from roofline.quantity import Quantity, floor, maximum, minimum, revised, total, where
from roofline.timing.deployment import Deployment
from roofline.timing.expert_cache import ExpertCache, cyclic_hit_rate
from roofline.timing.placement import Piece, Placement, Rule

__all__ = [
    "FAULT_BYTES",
    "Sizes",
    "cached",
    "caches_of_host",
    "computed_on_host",
    "experts_on_host",
    "fetching_pays_above",
    "layers_on_host",
    "layers_with_experts",
    "mapped",
    "page_fault",
    "sizes_of",
    "streamed",
]

#: What a page fault reads that was not read before: of the 128 KiB around it (Linux,
#: include/linux/pagemap.h, VM_READAHEAD_PAGES) half lies behind (mm/filemap.c, do_sync_mmap_readahead).
FAULT_BYTES: Final = 64 * 2.0**10

#: Vector operations a core could do in the time the kernel takes to map a page and evict another, with
#: pages of 4 KiB [FLOP]; fitted in docs/offload.md section 4.
_PAGE_FLOPS: Final = 2.1e5
_PAGE_BYTES: Final = 4096.0
#: Threads that fault at once, each in rows of its own: llama.cpp's default (common/common.h, n_threads).
_FAULTING_THREADS: Final = 4.0

#: Layers whose fetched weights are in the near memory at once: one in use, the next arriving.
_BUFFERED: Final = 2.0

#: Layers that offloading leaves alone: used once per pass, small beside the rest.
_STAY: Final = ("embedding", "head", "final")

#: Of a capacity, so that what was made to fit exactly still fits when it is added up again.
_ROUNDING: Final = 1.0 - 1e-12

_CPU: Final = "host.cpu"


@dataclass(frozen=True, kw_only=True, eq=False)
class Sizes:
    """What one device holds of a model, by how it can be moved.

    Parameters
    ----------
    layers : Quantity
        Layers on this device.
    dense_bytes, expert_bytes : Quantity
        Weights of all layers outside and inside routed experts [B].
    cache_bytes : Quantity
        KV cache and states of all layers [B].
    other_bytes : Quantity
        Embedding, head, activations and reserve [B].
    capacity_bytes : Quantity
        Of the near memory [B].
    """

    layers: Quantity
    dense_bytes: Quantity
    expert_bytes: Quantity
    cache_bytes: Quantity
    other_bytes: Quantity
    capacity_bytes: Quantity

    @property
    def room_bytes(self) -> Quantity:
        """What is left for the weights of layers [B]; negative where not even caches fit."""
        return self.capacity_bytes * _ROUNDING - self.other_bytes - self.cache_bytes


def sizes_of(deployment: Deployment, step: Step, *, widest: Step | None = None) -> Sizes:
    """Return what one device holds at a pass, as if all of it lay in the near memory.

    Parameters
    ----------
    widest : Step, optional
        The pass with the largest activations, a prefill; `step` where None.
    """
    near = next(iter(deployment.system.device.memory))
    working = deployment.memory(step if widest is None else widest).used_bytes[near]["activations"]
    use = deployment.memory(step, activation_bytes=working)
    held = total(size for tensors in use.used_bytes.values() for size in tensors.values())
    movable = {"weight": [0.0], "expert_weight": [0.0]}
    for layer, _, tensor, size in deployment.weight_bytes():
        if layer not in _STAY:
            movable[tensor].append(size)  # type: ignore[arg-type]
    dense, experts = total(movable["weight"]), total(movable["expert_weight"])
    stages = deployment.parallelism.pipeline
    kept = deployment.model.resident(step, deployment.terms, deployment.schedules)
    caches = total(kept.values()) / stages
    return Sizes(
        layers=sum(deployment.model.layer_counts().values()) / stages,
        dense_bytes=dense,
        expert_bytes=experts,
        cache_bytes=caches,
        other_bytes=held - dense - experts - caches,
        capacity_bytes=use.capacity_bytes[near],
    )


def streamed(
    deployment: Deployment,
    sizes: Sizes,
    *,
    source: str,
    stored: Quantity = 0.0,
    keep: bool = True,
    read: Piece | None = None,
    expert_read: Piece | None = None,
) -> tuple[Rule, ...]:
    """Return the rules that fetch, each pass, the share of every layer's weights that does not fit.

    Parameters
    ----------
    source : str
        Tier they are fetched from.
    stored : Quantity
        Share of what is fetched that lies in storage, the host's memory being short, 0..1.
    keep : bool
        Whether what fits stays; otherwise everything is fetched.
    read : Piece, optional
        How they are read; `prefetched`, `access_bytes`, `queue_depth` ... are taken from it.
    expert_read : Piece, optional
        The same for experts: which of them are wanted is known only after the router, so they are
        waited for where None.

    Notes
    -----
    Two layers' fetched shares lie in the near memory, so with room R for weights W in L layers the
    share f solves ``(1 - f) W + 2 f W / L = R`` (FlexGen, Sheng et al. 2023, arXiv:2303.06865,
    section 4, holds its percentages likewise).
    """
    near = next(iter(deployment.system.device.memory))
    whole = sizes.dense_bytes + sizes.expert_bytes
    away = _away(sizes, whole, sizes.room_bytes) if keep else 1.0
    wanted = Piece(prefetched=0.0) if expert_read is None else expert_read
    sources: dict[str, Quantity] = {source: 1.0} if source == "storage" else {source: 1.0 - stored}
    if source != "storage" and np.any(np.asarray(stored) > 0):
        sources["storage"] = stored
    return (
        *_stay(),
        _fetch(near, sources, away, sizes.layers, wanted, "expert_weight"),
        _fetch(near, sources, away, sizes.layers, read or Piece(), "weight"),
    )


def cached(
    deployment: Deployment,
    sizes: Sizes,
    *,
    source: str,
    slots: Quantity | None = None,
    cache: ExpertCache | None = None,
    read: Piece | None = None,
    wasted: Quantity = 0.0,
) -> tuple[Rule, ...]:
    """Return the rules that keep dense weights near and cache experts in what is left.

    Parameters
    ----------
    slots : Quantity, optional
        Share of a layer's experts that have a slot, 0..1; as many as fit where None.
    cache : ExpertCache, optional
        Policy, its capacity apart; LRU where None.
    read : Piece, optional
        How misses are read. Which experts are wanted is known only after the router, so nothing of
        them is fetched ahead unless a predictor's accuracy is given as `prefetched`.
    wasted : Quantity
        What a predictor fetches for nothing, over what it fetches of experts that are wanted, >= 0.

    Notes
    -----
    Of every missed byte the share a is fetched ahead, and w a more beside it, so the tier moves 1 + w a
    bytes of which (1 + w) a are not waited for (ExpertFlow, He et al. 2024, arXiv:2410.17954, counts its
    predictor's errors so).
    Where dense weights do not fit either, no slot is left and their excess is streamed.
    """
    near = next(iter(deployment.system.device.memory))
    fitting = _share(sizes.room_bytes - sizes.dense_bytes, sizes.expert_bytes)
    policy = ExpertCache(capacity=1.0) if cache is None else cache
    used = revised(policy, capacity=fitting if slots is None else slots)
    misses = Piece(prefetched=0.0) if read is None else read
    moved = 1.0 + wasted * misses.prefetched
    misses = revised(misses, prefetched=(1.0 + wasted) * misses.prefetched / moved)
    taken = used.capacity * sizes.expert_bytes
    experts = Rule(
        pattern="*",
        reads="expert_weight",
        pieces=(_reading(misses, {"expert_weight": {source: moved}}),),
        stored={"expert_weight": {near: used.capacity, source: 1.0}},
        cache=used,
    )
    away = _away(sizes, sizes.dense_bytes, sizes.room_bytes - taken)
    return (*_stay(), experts, _fetch(near, {source: 1.0}, away, sizes.layers, Piece(), "weight"))


def experts_on_host(
    deployment: Deployment,
    sizes: Sizes,
    *,
    layers: Quantity | None = None,
    near_share: Quantity | None = None,
    fetch_above: Quantity | None = None,
) -> tuple[Rule, ...]:
    """Return the rules that leave experts in host memory and compute them there.

    Parameters
    ----------
    layers : Quantity, optional
        Layers whose experts are all on the host (llama.cpp ``--n-cpu-moe``); where None, of every
        layer those least used that do not fit beside the dense weights (Fiddler, Kamahori et al.
        2024, arXiv:2402.07033; ktransformers).
    near_share : Quantity, optional
        Share of every layer's experts that stay near, 0..1; as many as fit where None.
    fetch_above : Quantity, optional
        Tokens of a pass above which those are fetched instead (`fetching_pays_above`).
    """
    near = next(iter(deployment.system.device.memory))
    away = Piece(engine=_CPU, tiers={"expert_weight": {"host": 1.0}})
    if layers is not None:
        share = layers / layers_with_experts(deployment)
        return (Rule(pattern="*", reads="expert_weight", layers=share, pieces=(away,)),)
    fitting = _share(sizes.room_bytes - sizes.dense_bytes, sizes.expert_bytes)
    hot = fitting if near_share is None else near_share
    return (
        Rule(
            pattern="*",
            reads="expert_weight",
            pieces=(Piece(prefetched=0.0), away),
            stored={"expert_weight": {near: hot, "host": 1.0 - hot}},
            cache=ExpertCache(capacity=hot, policy="static"),
            fetch_above=fetch_above,
        ),
    )


def fetching_pays_above(deployment: Deployment, sizes: Sizes) -> float | None:
    """Return the tokens of a pass above which fetching the experts that do not fit beats computing them.

    Parameters
    ----------
    deployment : Deployment
        With the runtimes of both engines.

    Returns
    -------
    float or None
        At least 0; None where the host always computes them sooner.

    Notes
    -----
    Fiddler (Kamahori et al. 2024, arXiv:2402.07033, section 3.3) compares, for each expert, the copy,
    which does not depend on how many tokens it got, with the host's time, which grows with them. Here
    whole passes are timed both ways, so one choice holds for all cold experts of a pass; an expert
    that got far more tokens than the others would be fetched sooner, so this is never too fast by
    choosing. Tokens are tried in steps of the square root of 2.
    """
    tokens = 2.0 ** np.arange(0.0, 16.5, 0.5)
    step = Step(sequences=(Sequences(count=1.0, new=(Segment(tokens=tokens),), logit_tokens=1.0),))

    def pass_s(fetch_above: float | None) -> Quantity:
        rules = experts_on_host(deployment, sizes, fetch_above=fetch_above)
        placed = revised(deployment, placement=Placement(rules=rules))
        return placed.time(step, "prefill").time_s

    sooner = np.broadcast_to(np.asarray(pass_s(0.0) < pass_s(None)), tokens.shape)
    first = int(np.argmax(sooner))
    if not sooner[first]:
        return None
    return float(tokens[first - 1]) if first else 0.0


def layers_on_host(deployment: Deployment, *, near_layers: Quantity) -> tuple[Rule, ...]:
    """Return the rules by which the host computes all but `near_layers` layers, caches included.

    llama.cpp's ``--n-gpu-layers``; embedding and head stay on the device.
    """
    layers = float(sum(deployment.model.layer_counts().values()))
    away = maximum(1.0 - near_layers / layers, 0.0)
    return (*_stay(), Rule(pattern="*", layers=away, pieces=(Piece(engine=_CPU),)))


def computed_on_host(
    deployment: Deployment, sizes: Sizes, *, host_bytes: Quantity | None = None, reuse: Quantity = 0.0
) -> tuple[Rule, ...]:
    """Return the rules by which the host computes the whole layers that do not fit.

    Parameters
    ----------
    host_bytes : Quantity, optional
        What the host's memory leaves for them [B]; they are mapped from a file in storage, and what it
        does not hold is paged in as in `mapped`. All of them where None.
    reuse : Quantity
        As in `ExpertCache`.
    """
    each = (sizes.dense_bytes + sizes.expert_bytes + sizes.cache_bytes) / sizes.layers
    fitting = floor((sizes.room_bytes + sizes.cache_bytes) / each)
    near = minimum(maximum(fitting, 0.0), sizes.layers)
    whole = sum(deployment.model.layer_counts().values()) / sizes.layers
    rules = layers_on_host(deployment, near_layers=whole * near)
    if host_bytes is None:
        return rules
    away = (sizes.layers - near) / sizes.layers
    room = host_bytes - away * sizes.cache_bytes
    dense, experts = away * sizes.dense_bytes, away * sizes.expert_bytes
    hits = cyclic_hit_rate(capacity_bytes=room, cycle_bytes=dense)
    left = hits * _share(room - dense, experts)
    fault = page_fault(deployment, engine=_CPU)
    paged = _reading(fault, {"weight": {"host": hits, "storage": 1.0 - hits}})
    picked = Rule(
        pattern="*",
        reads="expert_weight",
        layers=away,
        pieces=(_reading(fault, {"expert_weight": {"storage": 1.0}}),),
        stored={"expert_weight": {"host": left, "storage": 1.0 - left}},
        cache=ExpertCache(capacity=left, policy="pages", reuse=reuse),
    )
    experts_near = Rule(pattern="*", reads="expert_weight")
    return (*rules[:-1], picked, experts_near, revised(rules[-1], pieces=(paged,)))


def caches_of_host(*, attends: bool = True, stored: Quantity = 0.0) -> Rule:
    """Return the rule by which caches stay with the host.

    Parameters
    ----------
    attends : bool
        Whether the host's processor attends to them; otherwise they are fetched.
    stored : Quantity
        Share of them in the host's storage, 0..1.
    """
    tiers: dict[str, Quantity] = {"host": 1.0 - stored}
    if np.any(np.asarray(stored) > 0):
        tiers["storage"] = stored
    return Rule(
        pattern="*",
        reads="kv_cache",
        pieces=(Piece(engine=_CPU if attends else None, tiers={"kv_cache": tiers}),),
    )


def mapped(
    deployment: Deployment, sizes: Sizes, *, read: Piece | None = None, reuse: Quantity = 0.0
) -> tuple[Rule, ...]:
    """Return the rules of weights mapped from a file into what memory is left.

    Parameters
    ----------
    read : Piece, optional
        How faults read; by default as `page_fault` says, the engine waiting.
    reuse : Quantity
        As in `ExpertCache`.

    Notes
    -----
    An LRU page cache: dense weights are read once per pass, in a cycle, and are found only while
    all of them fit (`cyclic_hit_rate`): the cliff. Experts get what dense weights leave, and are
    found as `ExpertCache` says of ``pages``. Every weight is also in the file. Of an embedding that is not
    also the head a pass reads a few rows, so it takes no room. Mapping a page and evicting another
    costs the processor time as well (`_PAGE_FLOPS`).
    """
    near = next(iter(deployment.system.device.memory))
    fault = page_fault(deployment) if read is None else read
    room = sizes.room_bytes + _embedding_bytes(deployment)
    hits = cyclic_hit_rate(capacity_bytes=room, cycle_bytes=sizes.dense_bytes)
    left = hits * _share(room - sizes.dense_bytes, sizes.expert_bytes)
    held = minimum(maximum(room, 0.0) / maximum(sizes.dense_bytes, 1e-300), 1.0)
    looked_up = Rule(pattern="embedding.*", stored={"weight": {"storage": 1.0}})
    dense = Rule(
        pattern="*",
        pieces=(_reading(fault, {"weight": {near: hits, "storage": 1.0 - hits}}),),
        stored={"weight": {near: held, "storage": 1.0}},
    )
    experts = Rule(
        pattern="*",
        reads="expert_weight",
        pieces=(_reading(fault, {"expert_weight": {"storage": 1.0}}),),
        stored={"expert_weight": {near: left, "storage": 1.0}},
        cache=ExpertCache(capacity=left, policy="pages", reuse=reuse),
    )
    apart = () if deployment.model.head.tied else (looked_up,)
    return (*apart, *_stay(), experts, dense)


def page_fault(deployment: Deployment, *, engine: str | None = None) -> Piece:
    """Return how weights that are mapped from a file are read where they are missing.

    Parameters
    ----------
    engine : str, optional
        What reads them: ``host.cpu``, or the device's first engine where None.
    """
    system = deployment.system
    host = system.host if engine == _CPU else None
    cores = next(iter((system.device if host is None else host).engine.values()))
    page_s = _PAGE_FLOPS * cores.units / cores.vector_flops_per_s
    return Piece(
        engine=engine,
        prefetched=0.0,
        access_bytes=FAULT_BYTES,
        queue_depth=_FAULTING_THREADS,
        read_s=page_s * FAULT_BYTES / _PAGE_BYTES,
    )


def _embedding_bytes(deployment: Deployment) -> Quantity:
    """An embedding that is not also the head [B]."""
    if deployment.model.head.tied:
        return 0.0
    return total(size for layer, _, _, size in deployment.weight_bytes() if layer == "embedding")


def _stay() -> tuple[Rule, ...]:
    return tuple(Rule(pattern=f"{layer}.*") for layer in _STAY)


def _reading(how: Piece, tiers: dict[str, dict[str, Quantity]]) -> Piece:
    return Piece(
        engine=how.engine,
        tiers=tiers,
        prefetched=how.prefetched,
        access_bytes=how.access_bytes,
        queue_depth=how.queue_depth,
        range_bytes=how.range_bytes,
        issuer=how.issuer,
        read_s=how.read_s,
    )


def _share(room: Quantity, size: Quantity) -> Quantity:
    """The share of something that fits in some room, 0..1; all of nothing."""
    return where(size > 0, minimum(maximum(room, 0.0) / where(size > 0, size, 1.0), 1.0), 1.0)


def _away(sizes: Sizes, whole: Quantity, room: Quantity) -> Quantity:
    """The share of weights that is fetched each pass."""
    moved = maximum(whole * (1.0 - _BUFFERED / maximum(sizes.layers, _BUFFERED + 1.0)), 1e-300)
    return minimum(maximum(whole - room, 0.0) / moved, 1.0)


def _fetch(
    near: str, sources: Mapping[str, Quantity], away: Quantity, layers: Quantity, read: Piece, tensor: str
) -> Rule:
    """The rule that fetches a share of one tensor of each layer, from tiers by their shares of it."""
    buffered = minimum(_BUFFERED / maximum(layers, 1.0), 1.0)
    beyond = {
        tier: share * (1.0 if list(sources) == ["storage"] else away) for tier, share in sources.items()
    }
    read_from = {tier: away * share for tier, share in sources.items()}
    return Rule(
        pattern="*",
        reads=tensor,
        pieces=(_reading(read, {tensor: {**read_from, near: 1.0 - away}}),),
        stored={tensor: {near: 1.0 - away + away * buffered, **beyond}},
    )


def layers_with_experts(deployment: Deployment) -> float:
    """Return how many of a model's layers are mixtures of experts."""
    counts = deployment.model.layer_counts()
    return float(
        sum(
            counts[name]
            for name, layer in deployment.model.layers.items()
            if any(block.kind == "mixture_of_experts" for block in layer.values())
        )
    )
