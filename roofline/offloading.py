"""The keys that say where a model larger than its memory lives, applied to a scenario."""

from dataclasses import replace
from typing import Final, Literal

from roofline.catalog.fits import load_runtime
from roofline.catalog.traces import popularity_of, read_trace
from roofline.catalog.usual_hosts import on_usual_machine
from roofline.dotted_path import replace_at
from roofline.errors import InvalidSpecError, UnknownNameError, nearest
from roofline.graph.blocks.mixture_of_experts import MixtureOfExperts
from roofline.graph.routing import Routing
from roofline.hardware import System
from roofline.offload_settings import OffloadSettings
from roofline.quantity import revised
from roofline.scenario import Scenario
from roofline.timing.deployment import Deployment
from roofline.timing.expert_cache import USUAL_REUSE, ExpertCache
from roofline.timing.offloading import (
    FAULT_BYTES,
    cached,
    caches_of_host,
    computed_on_host,
    experts_on_host,
    fetching_pays_above,
    layers_on_host,
    mapped,
    page_fault,
    sizes_of,
    streamed,
)
from roofline.timing.placement import ACCESS_BYTES, QUEUE_DEPTH, Piece, Placement, Rule
from roofline.timing.runtime import Runtime, datasheet_runtime
from roofline.timing.timeline import Composition
from roofline.units import parse

__all__ = ["MODES", "offloaded"]

Mode = Literal["stream", "cache", "compute", "choose", "mmap"]
MODES: Final = ("stream", "cache", "compute", "choose", "mmap")

_TIERS: Final = {"host": "host", "cpu": "host", "storage": "storage", "flash": "storage", "ssd": "storage"}


def offloaded(scenario: Scenario, keys: OffloadSettings) -> Scenario:
    """Return the scenario with its model placed as the keys say.

    Raises
    ------
    InvalidSpecError, UnknownNameError
        If a key is impossible for this model and system, or contradicts another.
    """
    if not keys.offloads():
        return scenario
    _check(keys)
    away = (keys.offload, keys.n_gpu_layers, keys.experts_on_cpu, keys.kv_offload)
    whole = scenario if all(value is None for value in away) else on_usual_machine(scenario)
    limited = _limited(whole, keys)
    deployment = limited.deployment
    first, split = _engines(deployment.system, keys.engine, "engine")
    deployment = _on(deployment, first)
    placed, notes = _placed(limited.replace(deployment=deployment), keys)
    rules = (*_kv_rules(keys), *placed, *split)
    deployment = replace(
        deployment,
        placement=Placement(rules=rules, by_size=_by_size(keys)),
        composition=_composition(deployment.composition, keys.overlap),
        engine_runtimes=_runtimes(deployment.system, rules, keys.host_software),
        routing=_routing(deployment, keys.routing),
    )
    prefill = limited.prefill_deployment
    if keys.prefill_engine is not None:
        first, split = _engines(deployment.system, keys.prefill_engine, "prefill_engine")
        prefill = replace(
            _on(deployment, first),
            placement=Placement(rules=(*_kv_rules(keys), *placed, *split), by_size=_by_size(keys)),
        )
    return limited.replace(
        deployment=deployment, prefill_deployment=prefill, assumptions=(*limited.assumptions, *notes)
    )


def _by_size(keys: OffloadSettings) -> bool:
    """Whether what leaves the near memory is worked out from sizes rather than given by hand."""
    by_hand = (keys.n_gpu_layers, keys.experts_on_cpu)
    return keys.offload is not None and all(value is None for value in by_hand)


def _check(keys: OffloadSettings) -> None:
    if keys.offload is not None and keys.offload not in _TIERS:
        raise UnknownNameError(
            f"offload: no tier is called {keys.offload!r}{nearest(keys.offload, _TIERS)}; "
            "want host or storage"
        )
    if keys.offload_mode is not None and keys.offload_mode not in MODES:
        raise UnknownNameError(f"offload_mode: want one of {', '.join(MODES)}, got {keys.offload_mode!r}")
    if keys.cache_policy not in (None, "lru", "lfu", "static"):
        raise UnknownNameError(f"cache_policy: want lru, lfu or static, got {keys.cache_policy!r}")
    if keys.kv_offload not in (None, "host", "cpu"):
        raise UnknownNameError(f"kv_offload: want host or cpu, got {keys.kv_offload!r}")
    for name in ("hit_rate", "reuse", "prefetch"):
        value = getattr(keys, name)
        if value is not None and not 0.0 <= value <= 1.0:
            raise InvalidSpecError(f"{name}: want a fraction between 0 and 1, got {value:g}")
    for name in ("n_gpu_layers", "experts_on_cpu", "cache_experts"):
        value = getattr(keys, name)
        if value is not None and not 0.0 <= value < 1e6:
            raise InvalidSpecError(f"{name}: want a number >= 0, got {value:g}")
    if keys.prefetch_waste is not None:
        if not 0.0 <= keys.prefetch_waste < 1e6:
            raise InvalidSpecError(f"prefetch_waste: want a number >= 0, got {keys.prefetch_waste:g}")
        if not keys.prefetch:
            raise InvalidSpecError("prefetch_waste wants prefetch, the share that is fetched in time")
    if keys.io_depth is not None and not keys.io_depth >= 1.0:
        raise InvalidSpecError(f"io_depth: want at least 1, got {keys.io_depth:g}")
    if keys.n_gpu_layers is not None and keys.experts_on_cpu is not None:
        raise InvalidSpecError("n_gpu_layers and experts_on_cpu both place experts: give one")
    given = [
        name
        for name in ("cache_experts", "cache_policy", "hit_rate", "prefetch_waste")
        if getattr(keys, name) is not None
    ]
    if given and keys.offload_mode not in (None, "cache"):
        raise InvalidSpecError(f"{given[0]} wants offload_mode cache, not {keys.offload_mode}")
    if given and keys.offload is None:
        raise InvalidSpecError(f"{given[0]} wants offload, the tier that misses come from")
    for name in ("io_block", "io_depth", "prefetch"):
        if keys.offload is None and getattr(keys, name) is not None:
            raise InvalidSpecError(f"{name} wants offload, the tier that is read")


def _limited(scenario: Scenario, keys: OffloadSettings) -> Scenario:
    if keys.memory_limit is None:
        return scenario
    device = scenario.deployment.system.device
    near = next(iter(device.memory))
    limit = parse(keys.memory_limit, "bytes", of="memory_limit")
    installed = device.memory[near].capacity_bytes
    if not 0.0 < limit <= installed:
        raise InvalidSpecError(
            f"memory_limit: want more than 0 and at most the {installed / 2**30:.3g} GiB of {near}, "
            f"got {keys.memory_limit!r}"
        )
    return scenario.replace_at(f"deployment.system.device.memory.{near}.capacity", limit)


def _placed(scenario: Scenario, keys: OffloadSettings) -> tuple[tuple[Rule, ...], tuple[str, ...]]:
    deployment = scenario.deployment
    model = deployment.model
    layers = float(sum(model.layer_counts().values()))
    experts = _experts(deployment)
    for name, value, most, what in (
        ("n_gpu_layers", keys.n_gpu_layers, layers, "layers"),
        ("experts_on_cpu", keys.experts_on_cpu, layers if experts else 0.0, "layers with experts"),
        ("cache_experts", keys.cache_experts, experts, "experts in a layer"),
    ):
        if value is not None and value > most:
            raise InvalidSpecError(f"{name}: {model.name} has {most:g} {what}, got {value:g}")
    workload = scenario.workload
    sizes = sizes_of(deployment, workload.decode(workload.last_generated), widest=workload.prefill())
    if keys.n_gpu_layers is not None:
        return layers_on_host(deployment, near_layers=keys.n_gpu_layers), (_HANDED,)
    if keys.experts_on_cpu is not None:
        return experts_on_host(deployment, sizes, layers=keys.experts_on_cpu), (_HANDED,)
    if keys.offload is None:
        return (), ()
    tier = _TIERS[keys.offload]
    mode = keys.offload_mode or ("cache" if experts else "stream")
    read = _reads(keys, mode)
    if mode == "mmap":
        if tier != "storage":
            raise InvalidSpecError("offload_mode mmap pages from storage, not from host memory")
        faults = page_fault(deployment) if keys.io_block is None and keys.io_depth is None else read
        return mapped(deployment, sizes, read=faults, reuse=_reuse(keys)), (
            "file-backed weights are found as in an LRU page cache",
            _reuse_note(keys),
        )
    if mode == "compute":
        if tier != "host":
            raise InvalidSpecError("offload_mode compute wants offload host: storage computes nothing")
        return (experts_on_host(deployment, sizes) if experts else computed_on_host(deployment, sizes)), (
            _HANDED,
        )
    if mode == "choose":
        if tier != "host" or not experts:
            raise InvalidSpecError("offload_mode choose wants offload host and a model with experts")
        both = replace(
            deployment, engine_runtimes=_runtimes(deployment.system, (_COMPUTED,), keys.host_software)
        )
        above = fetching_pays_above(both, sizes)
        rules = experts_on_host(deployment, sizes, fetch_above=above)
        return rules, (_HANDED, _choice_note(above))
    if mode == "cache":
        if not experts:
            raise InvalidSpecError(f"offload_mode cache: {model.name} has no experts; want stream or compute")
        slots = None if keys.cache_experts is None else keys.cache_experts / experts
        rules = cached(
            deployment,
            sizes,
            source=tier,
            slots=slots,
            cache=_cache(keys),
            read=read,
            wasted=keys.prefetch_waste or 0.0,
        )
        return rules, (_cache_note(keys),)
    wanted = read if keys.prefetch is not None else revised(read, prefetched=0.0)
    return streamed(deployment, sizes, source=tier, read=read, expert_read=wanted), ()


_HANDED: Final = (
    "hidden states go to the host and back in every layer it works in; waking it counts by its profile"
)


_COMPUTED: Final = Rule(pattern="*", pieces=(Piece(engine="host.cpu"),))


def _choice_note(above: float | None) -> str:
    if above is None:
        return "the host always computes cold experts sooner than they are fetched"
    return f"cold experts are fetched in passes of more than {above:.3g} tokens, else the host computes them"


def _mixtures(deployment: Deployment) -> list[tuple[str, MixtureOfExperts]]:
    """The model's mixtures of experts, each with the name of its layers."""
    return [
        (name, block)
        for name, layer in deployment.model.layers.items()
        for block in layer.values()
        if isinstance(block, MixtureOfExperts)
    ]


def _experts(deployment: Deployment) -> float:
    """Experts of the model's widest mixture, 0 for none."""
    return max((float(block.experts) for _, block in _mixtures(deployment)), default=0.0)


def _reads(keys: OffloadSettings, mode: str) -> Piece:
    """How far weights are read: in time where they are known ahead, in large pieces unless faulted in."""
    ahead = 1.0 if mode == "stream" else 0.0
    fault = mode == "mmap"
    block = FAULT_BYTES if fault else ACCESS_BYTES
    return Piece(
        prefetched=ahead if keys.prefetch is None else keys.prefetch,
        access_bytes=block if keys.io_block is None else parse(keys.io_block, "bytes", of="io_block"),
        queue_depth=(1.0 if fault else QUEUE_DEPTH) if keys.io_depth is None else keys.io_depth,
    )


def _cache(keys: OffloadSettings) -> ExpertCache:
    if keys.hit_rate is not None:
        return ExpertCache(capacity=1.0, policy="given", hit_rate=keys.hit_rate)
    policy = keys.cache_policy or "lru"
    return ExpertCache(capacity=1.0, policy=policy, reuse=_reuse(keys))  # type: ignore[arg-type]


def _cache_note(keys: OffloadSettings) -> str:
    if keys.hit_rate is not None:
        return f"the expert cache serves {keys.hit_rate:.0%} of the touched experts, as given"
    popular = f"routing {keys.routing}" if keys.routing else "uniform routing"
    policy = keys.cache_policy or "lru"
    return f"expert cache: {policy} under {popular}" + (f", {_reuse_note(keys)}" if policy == "lru" else "")


def _reuse(keys: OffloadSettings) -> float:
    return USUAL_REUSE if keys.reuse is None else keys.reuse


def _reuse_note(keys: OffloadSettings) -> str:
    return f"{_reuse(keys):.0%} of the experts of a pass are those of the pass before (--reuse)"


def _kv_rules(keys: OffloadSettings) -> tuple[Rule, ...]:
    if keys.kv_offload is None:
        return ()
    return (caches_of_host(attends=keys.kv_offload == "cpu"),)


def _engines(system: System, text: str | None, key: str) -> tuple[str | None, tuple[Rule, ...]]:
    """The first engine of ``cpu:0.4+npu:0.6``, and the rule that splits operators between all."""
    if text is None:
        return None, ()
    engines = system.device.engine
    named = [part.partition(":") for part in text.replace(" ", "").split("+")]
    for name, _, _ in named:
        if name not in engines:
            raise UnknownNameError(
                f"{key}: {system.device.name} has no engine {name!r}{nearest(name, engines)}"
            )
    if len({name for name, _, _ in named}) < len(named):
        raise InvalidSpecError(f"{key}: names an engine twice, got {text!r}")
    if len(named) == 1:
        return named[0][0], ()
    if all(share for _, _, share in named):
        try:
            shares = [float(share) for _, _, share in named]
        except ValueError:
            raise InvalidSpecError(f"{key}: want shares such as cpu:0.4+npu:0.6, got {text!r}") from None
        if min(shares) < 0.0 or abs(sum(shares) - 1.0) > 1e-9:
            raise InvalidSpecError(f"{key}: want shares that add up to 1, got {sum(shares):g}")
    else:
        shares = [float(_drawn(system, name)) for name, _, _ in named]
    whole = sum(shares)
    pieces = tuple(
        Piece(engine=name, work=share / whole) for (name, _, _), share in zip(named, shares, strict=True)
    )
    return named[0][0], (Rule(pattern="*", pieces=pieces),)


def _drawn(system: System, engine: str) -> float:
    """What an engine alone draws from the nearest memory [B/s]."""
    memory = next(iter(system.device.memory.values()))
    limit = system.device.engine[engine].bandwidth_limit_bytes_per_s
    return float(memory.bandwidth_bytes_per_s if limit is None else limit)


def _on(deployment: Deployment, engine: str | None) -> Deployment:
    """The deployment with another engine first; only the first engine has the runtime's fits."""
    device = deployment.system.device
    if engine is None or engine == next(iter(device.engine)):
        return deployment
    order = {engine: device.engine[engine], **device.engine}
    return replace(
        replace_at(deployment, "system.device.engine", order),
        runtime=datasheet_runtime(deployment.runtime.device),
    )


def _runtimes(system: System, rules: tuple[Rule, ...], software: str | None) -> dict[str, Runtime]:
    """The host processor's runtime where it computes; the datasheet bound where it is not catalogued."""
    used = {piece.engine for rule in rules for piece in rule.pieces}
    if "host.cpu" not in used or system.host is None:
        return {}
    return {"host.cpu": load_runtime(system.host.name, software)}


def _composition(own: Composition, text: str | None) -> Composition:
    if text is None or text == "full":
        return own
    if text == "serial":
        return replace(own, depth=1.0)
    try:
        depth = float(text)
    except ValueError:
        depth = 0.0
    if not 1.0 <= depth <= 1e6:
        raise InvalidSpecError(f"overlap: want full, serial or a number of pieces >= 1, got {text!r}")
    return replace(own, depth=depth)


def _routing(deployment: Deployment, text: str | None) -> Routing:
    own = deployment.routing
    if text is None:
        return own
    kind, _, figure = text.partition(":")
    if kind == "trace" and figure:
        counts = deployment.model.layer_counts()
        mixtures = [(counts[name], block) for name, block in _mixtures(deployment)]
        if not mixtures:
            raise InvalidSpecError(f"routing: {deployment.model.name} has no mixture of experts")
        trace = read_trace(
            figure,
            experts=int(_experts(deployment)),
            top_k=int(max(float(block.top_k) for _, block in mixtures)),
            layers=int(sum(float(count) for count, _ in mixtures)),
        )
        return replace(own, kind="popularity", popularity=popularity_of(trace))
    try:
        number = float(figure) if figure else 0.0
    except ValueError:
        number = -1.0
    if kind == "uniform" and not figure:
        return replace(own, kind="uniform")
    if kind == "zipf" and figure and 0.0 <= number <= 10.0:
        return replace(own, kind="zipf", skew=number)
    if kind == "correlated" and figure and 0.0 <= number <= 1.0:
        return replace(own, correlation=number)
    raise InvalidSpecError(f"routing: want uniform, zipf:SKEW, correlated:SHARE or trace:FILE, got {text!r}")
