"""Published figures of offloading and edge systems that no scenario answers by itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from roofline.analysis import analyze
from roofline.errors import InvalidSpecError
from roofline.graph.blocks.feed_forward import FeedForward
from roofline.graph.blocks.mixture_of_experts import MixtureOfExperts
from roofline.graph.routing import Routing
from roofline.hardware.storage import Storage
from roofline.quantity import Quantity, total
from roofline.scenario import Scenario
from roofline.studies.expert_exchange import exchange_reduction
from roofline.studies.flash_neurons import flash_plan, neurons_of, parse_use
from roofline.studies.host_memory_roofline import host_memory_roof
from roofline.studies.host_memory_schedule import generate, host_pass, saturating_tokens
from roofline.studies.hot_cold_neurons import hot_cold_time
from roofline.studies.offload_search import mixture_of
from roofline.studies.sliding_window import window_memory, windowed_layer
from roofline.timing.deployment import Deployment
from roofline.timing.expert_cache import ExpertCache
from roofline.units import parse

__all__ = ["SYSTEM_PARTS", "Arguments", "Figure", "Part"]

Arguments = Mapping[str, str | float]
Figure = tuple[float, str]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A figure that needs no whole run: its dimension, and the function that gives it and what binds."""

    dimension: str
    figure: Callable[[Scenario, Arguments], Figure]
    better: Literal["low", "high", "exact"] = "exact"


def _number(arguments: Arguments, key: str, default: float | None = None) -> float:
    value = arguments.get(key, default)
    if not isinstance(value, int | float):
        raise InvalidSpecError(f"part: want {key} as a number, got {value!r}")
    return float(value)


def _amount(arguments: Arguments, key: str, dimension: str, default: str | None = None) -> float:
    value = arguments.get(key, default)
    if value is None:
        raise InvalidSpecError(f"part: want {key}")
    return parse(value, dimension)


def _storage(scenario: Scenario) -> Storage:
    storage = scenario.deployment.system.storage
    if storage is None:
        raise InvalidSpecError(f"{scenario.deployment.system.name}: has no storage")
    return storage


def _weights(deployment: Deployment, *layers: str) -> float:
    """Stored bytes, of some layers only where they are named."""
    return float(
        total(size for layer, _, _, size in deployment.weight_bytes() if not layers or layer in layers)
    )


def _saturating_tokens(scenario: Scenario, arguments: Arguments) -> Figure:
    """Tokens of a pass that takes as long as moving all weights over a link."""
    link = _amount(arguments, "link", "bytes_per_s")
    return saturating_tokens(scenario, link_bytes_per_s=link), "host_link"


def _host_roof(scenario: Scenario, arguments: Arguments) -> Figure:
    """Share of the device that a model in host memory keeps busy."""
    workload = scenario.workload
    report = analyze(scenario, intervals=False, keep_rows=False)
    cached = total(tier.get("kv_cache", 0.0) for tier in report.memory.used_bytes.values())
    tokens = workload.sequences * (workload.prompt_tokens + workload.output_tokens)
    roof = host_memory_roof(
        weight_bytes=_weights(scenario.deployment),
        link_bytes_per_s=_amount(arguments, "link", "bytes_per_s"),
        cache_bytes=_amount(arguments, "cache", "bytes"),
        cache_bytes_per_token=cached / tokens,
        prompt_tokens=workload.prompt_tokens,
        output_tokens=workload.output_tokens,
        saturating_tokens=_number(arguments, "saturating"),
        host_bytes_per_s=_amount(arguments, "host", "bytes_per_s", "1e9 TB/s"),
    )
    return float(roof.utilisation), "compute" if float(roof.utilisation) == 1.0 else "host"


def _host_schedule(scenario: Scenario, arguments: Arguments) -> Figure:
    """Share of the device that a batch over a model in host memory keeps busy, pass by pass."""
    costs = host_pass(
        scenario,
        cache_bytes=_amount(arguments, "cache", "bytes"),
        link_bytes_per_s=_amount(arguments, "link", "bytes_per_s"),
        host_bytes_per_s=_amount(arguments, "host", "bytes_per_s"),
        saturating=_number(arguments, "saturating"),
    )
    apart = arguments.get("phases") == "apart"
    found = generate(
        costs,
        requests=int(_number(arguments, "requests")),
        prompt_tokens=int(scenario.workload.prompt_tokens),
        output_tokens=int(scenario.workload.output_tokens),
        mixed=not apart,
    )
    return found.decode_utilisation if apart else found.utilisation, found.binding


def _slot_memory(scenario: Scenario, arguments: Arguments) -> Figure:
    """Weights in memory with so many expert slots of each layer; all of them where none are named."""
    deployment = scenario.deployment
    stored = deployment.weight_bytes()
    experts = float(total(size for _, _, tensor, size in stored if tensor == "expert_weight"))
    block = mixture_of(scenario)
    slots = _number(arguments, "slots", float(block.experts))
    return _weights(deployment) - experts * (1.0 - slots / float(block.experts)), "memory"


def _slot_saving(scenario: Scenario, arguments: Arguments) -> Figure:
    """Share of the weights that need no memory with so many expert slots."""
    kept, binding = _slot_memory(scenario, arguments)
    return 1.0 - kept / _weights(scenario.deployment), binding


def _cache_hits(scenario: Scenario, arguments: Arguments) -> Figure:
    """Share of a batch's distinct experts found in an LRU cache, or at most with every one foreseen."""
    block, slots = mixture_of(scenario), _number(arguments, "slots")
    skew = _number(arguments, "skew", 0.0)
    routing = Routing(kind="zipf", skew=skew) if skew else Routing()
    tokens = float(scenario.workload.sequences)
    if arguments.get("policy") == "foreseen":
        touched = routing.touched(experts=block.experts, top_k=block.top_k, tokens=tokens)
        return float(min(1.0, slots / float(touched))), "memory"
    cache = ExpertCache(capacity=slots / block.experts)
    hits = cache.hits(experts=block.experts, top_k=block.top_k, tokens=tokens, routing=routing)
    return float(hits.experts), "memory"


def _fetch_gain(scenario: Scenario, arguments: Arguments) -> Figure:
    """How many times fewer bytes are fetched at one hit rate than at another."""
    del scenario
    return (1.0 - _number(arguments, "before")) / (1.0 - _number(arguments, "after")), "host_link"


def _exchange(scenario: Scenario, arguments: Arguments) -> Figure:
    """Reduction of an expert layer's time by keeping token-expert pairs local."""
    del scenario
    cut = exchange_reduction(
        local_before=_number(arguments, "before"),
        local_after=_number(arguments, "after"),
        exchange_share=_number(arguments, "share"),
    )
    return float(cut), "link"


def _active_ratio(scenario: Scenario, arguments: Arguments) -> Figure:
    """Parameters of a dense model over those a token of this one passes, embedding and head apart."""
    model = scenario.deployment.model
    around = total(
        weight.parameters for layer, _, weight, _ in model.weights() if layer in ("embedding", "head")
    )
    return _number(arguments, "dense") / float(model.active_parameters - around), ""


def _flash_latency(scenario: Scenario, arguments: Arguments) -> Figure:
    """A token whose new neurons come from storage, and its measured computing and copying."""
    storage, deployment = _storage(scenario), scenario.deployment
    rest_s = _amount(arguments, "compute", "s") + _amount(arguments, "manage", "s", "0 s")
    if "use" not in arguments:
        read_s = _weights(deployment) / float(storage.read_bandwidth_bytes_per_s)
    else:
        plan = flash_plan(
            storage,
            neurons_of(deployment),
            parse_use(str(arguments["use"])),
            window=_number(arguments, "window"),
        )
        access = _amount(arguments, "access", "bytes", f"{float(plan.access_bytes)} B")
        rate = f"{float(storage.read_rate(access_bytes=access))} B/s"
        read_s = float(plan.read_bytes) / _amount(arguments, "rate", "bytes_per_s", rate)
    return read_s + rest_s, "storage" if read_s > rest_s else "compute"


def _flash_gain(scenario: Scenario, arguments: Arguments) -> Figure:
    """How many times faster that is than reading all weights for each token."""
    after, binding = _flash_latency(scenario, arguments)
    before, _ = _flash_latency(scenario, {"compute": arguments["naive_compute"]})
    return before / after, binding


def _flash_memory(scenario: Scenario, arguments: Arguments) -> Figure:
    """The model over what a window of neurons keeps in memory."""
    deployment = scenario.deployment
    plan = flash_plan(
        _storage(scenario),
        neurons_of(deployment),
        parse_use(str(arguments["use"])),
        window=_number(arguments, "window"),
    )
    return _weights(deployment) / float(plan.memory_bytes), "memory"


def _neurons(deployment: Deployment) -> tuple[float, float, float]:
    """Neurons of the experts a token passes, of all experts, and bytes of all."""
    counts = deployment.model.layer_counts()
    used = held = 0.0
    inside = set()
    for name, layer in deployment.model.layers.items():
        for block_name, block in layer.items():
            if not isinstance(block, FeedForward | MixtureOfExperts):
                continue
            inside.add((name, block_name))
            each, passed, there = counts[name] * float(block.intermediate_size), 1.0, 1.0
            if isinstance(block, MixtureOfExperts):
                passed, there = float(block.top_k), float(block.experts)
            used, held = used + each * passed, held + each * there
    stored = total(size for layer, block, _, size in deployment.weight_bytes() if (layer, block) in inside)
    return used, held, float(stored)


def _missed_reads_s(scenario: Scenario, arguments: Arguments) -> float:
    """Time to read the neurons a token uses that memory lacks."""
    deployment = scenario.deployment
    parameters = 3.0 * float(deployment.model.hidden_size)
    _, held, _ = _neurons(deployment)
    others = float(deployment.model.parameters) - held * parameters
    wanted = (_number(arguments, "activated") - others) / parameters
    span = arguments.get("range")
    rate = _storage(scenario).read_rate(
        access_bytes=_amount(arguments, "access", "bytes"),
        range_bytes=None if span is None else parse(span, "bytes"),
        issuer=str(arguments.get("issuer", "")),
    )
    missed = wanted * _number(arguments, "missed")
    return missed * _amount(arguments, "neuron", "bytes") / float(rate)


def _neuron_speed(scenario: Scenario, arguments: Arguments) -> Figure:
    """Tokens per second with neurons read beside computing, or before it."""
    read_s, compute_s = _missed_reads_s(scenario, arguments), _amount(arguments, "compute", "s")
    serial = arguments.get("order") == "serial"
    seconds = read_s + compute_s if serial else max(read_s, compute_s)
    return 1.0 / seconds, "storage" if read_s > compute_s else "compute"


def _read_share(scenario: Scenario, arguments: Arguments) -> Figure:
    """Share of a token in which its neurons are read, computing waiting."""
    read_s, compute_s = _missed_reads_s(scenario, arguments), _amount(arguments, "compute", "s")
    return read_s / (read_s + compute_s), "storage" if read_s > compute_s else "compute"


def _shared_speed(scenario: Scenario, arguments: Arguments) -> Figure:
    """Tokens per second in memory, of two engines: one takes some neurons all, the other those used."""
    deployment = scenario.deployment
    used, held, stored = _neurons(deployment)
    touched, dense = stored * used / held, _number(arguments, "dense")
    found = hot_cold_time(
        deployment.system.device,
        _storage(scenario),
        hot_bytes=_weights(deployment) - stored - _weights(deployment, "embedding") + dense * touched,
        cold_bytes=(1.0 - dense) * _number(arguments, "active") * touched,
        missed_bytes=0.0,
    )
    return 1.0 / float(found.computed_s), "memory"


def _sparse_speed(scenario: Scenario, arguments: Arguments) -> Figure:
    """Tokens per second of an engine that reads a share of the feed-forward neurons at its measured rate."""
    deployment = scenario.deployment
    _, _, stored = _neurons(deployment)
    rest = _weights(deployment) - stored - _weights(deployment, "embedding")
    read = rest + _number(arguments, "active") * stored
    return _amount(arguments, "rate", "bytes_per_s") / read, "memory"


def _moved_share(scenario: Scenario, arguments: Arguments) -> Figure:
    """Share of all weights that a share of the feed-forward neurons is."""
    _, _, stored = _neurons(scenario.deployment)
    return _number(arguments, "neurons") * stored / _weights(scenario.deployment), "memory"


def _issuer_loss(scenario: Scenario, arguments: Arguments) -> Figure:
    """What reads lose that another core, or several, issue."""
    storage, issuer = _storage(scenario), str(arguments["issuer"])
    access = _amount(arguments, "block", "bytes")
    other = storage.read_rate(access_bytes=access, issuer=issuer)
    return 1.0 - float(other / storage.read_rate(access_bytes=access)), "storage"


def _window_memory(scenario: Scenario, arguments: Arguments) -> Figure:
    """Most that a device of a tensor-parallel group holds, its layers streamed or all there."""
    deployment = scenario.deployment
    around = _weights(deployment, "embedding", "head")
    most = window_memory(
        around_bytes=around,
        layers_bytes=0.0 if arguments.get("streamed") == "yes" else _weights(deployment) - around,
        devices=_number(arguments, "devices"),
    )
    return float(most) * _number(arguments, "factor", 1.0), "memory"


def _window_reduction(scenario: Scenario, arguments: Arguments) -> Figure:
    """What streaming a layer beside computing over devices saves against loading it first on one."""
    del scenario
    devices = _number(arguments, "devices")
    compute, load = _amount(arguments, "compute", "s"), _amount(arguments, "load", "s")
    together = windowed_layer(compute_s=compute, exchange_s=_amount(arguments, "exchange", "s"), load_s=load)
    return 1.0 - float(together / (devices * (compute + load))), "compute"


def _sparse_gain(scenario: Scenario, arguments: Arguments) -> Figure:
    """Speed-up at most by leaving out a share of some of the products."""
    del scenario
    kept: Quantity = 1.0 - _number(arguments, "sparsity") * _number(arguments, "covered", 1.0)
    return 1.0 / float(kept), "compute"


SYSTEM_PARTS: Final[Mapping[str, Part]] = {
    "saturating_tokens": Part(dimension="token", figure=_saturating_tokens),
    "host_roof": Part(dimension="", figure=_host_roof, better="high"),
    "host_schedule": Part(dimension="", figure=_host_schedule, better="high"),
    "slot_memory": Part(dimension="bytes", figure=_slot_memory),
    "slot_saving": Part(dimension="", figure=_slot_saving),
    "cache_hits": Part(dimension="", figure=_cache_hits),
    "fetch_gain": Part(dimension="", figure=_fetch_gain, better="high"),
    "exchange_reduction": Part(dimension="", figure=_exchange),
    "active_ratio": Part(dimension="", figure=_active_ratio),
    "flash_latency": Part(dimension="s", figure=_flash_latency, better="low"),
    "flash_gain": Part(dimension="", figure=_flash_gain),
    "flash_memory": Part(dimension="", figure=_flash_memory),
    "neuron_speed": Part(dimension="token/s", figure=_neuron_speed),
    "read_share": Part(dimension="", figure=_read_share),
    "shared_speed": Part(dimension="token/s", figure=_shared_speed, better="high"),
    "sparse_speed": Part(dimension="token/s", figure=_sparse_speed, better="high"),
    "moved_share": Part(dimension="", figure=_moved_share),
    "issuer_loss": Part(dimension="", figure=_issuer_loss),
    "window_memory": Part(dimension="bytes", figure=_window_memory),
    "window_reduction": Part(dimension="", figure=_window_reduction),
    "sparse_gain": Part(dimension="", figure=_sparse_gain, better="high"),
}
