"""Scenarios of runs whose model exceeds the device's memory, placed as their runtime would."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from roofline.analysis import analyze, analyze_decode
from roofline.calibration.named_scenarios import NamedScenarios
from roofline.calibration.predictions import Predictions
from roofline.catalog.fits import load_runtime
from roofline.catalog.hardware import load_device, load_link, load_storage
from roofline.catalog.host_names import Machine, machine_called, memory_limit_in
from roofline.catalog.offload_policies import OffloadPolicy, policy_called
from roofline.errors import InvalidSpecError, RooflineError
from roofline.graph.blocks.mixture_of_experts import MixtureOfExperts
from roofline.graph.operator import FormatRule
from roofline.hardware import Device
from roofline.quantity import Quantity, replace_at
from roofline.scenario import Scenario
from roofline.timing.deployment import Deployment
from roofline.timing.expert_cache import ExpertCache
from roofline.timing.offloading import (
    Sizes,
    cached,
    caches_of_host,
    computed_on_host,
    experts_on_host,
    fetching_pays_above,
    mapped,
    sizes_of,
    streamed,
)
from roofline.timing.placement import Piece, Placement, Rule
from roofline.workload_settings import allocated

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["OffloadedRun", "OffloadedRuns", "known_metric", "says_offloaded"]

_SAYS: Final = re.compile(
    r"mmap|exceeds (?:usable )?(?:ram|memory)|offload|\(limit|limit \d|memory .*\bcap\b", re.I
)
_RATIO: Final = re.compile(r"_gpu_expert_ratio_(\d+)$")
_EXPERTS: Final = re.compile(r"^(\d+) experts\b")
#: Cached tokens where a table says nothing: 128 generated from an empty cache, at half.
UNSAID_CONTEXT: Final = 64.0
#: Of the output matrix in mixed 4-bit files (llama.cpp, llama_tensor_get_type).
_HEAD_FORMAT: Final = "q6_k"
#: What the operating system takes of a memory it shares: a Raspberry Pi 5 of 8 GiB keeps 8.0 GB of
#: weights that are read in turn, and loses 8.05 GB (rows of its leaderboard).
_SYSTEM_BYTES: Final = 0.55 * 2.0**30
#: Beyond this a model's host is a server, whatever card is in it.
_DESKTOP_BYTES: Final = 128 * 2.0**30
_DESKTOP_HOST: Final = "intel_core_i9_14900k"
#: Up to the year of a card -> the server processor it is usually found beside.
_SERVER_HOSTS: Final = ((2020, "intel_xeon_w_3245"), (2021, "amd_epyc_7763"), (9999, "intel_xeon_gold_6454s"))
#: Cards in machines that one person uses.
_DESKTOP_KINDS: Final = ("consumer_gpu",)
#: What not knowing the host's processor adds to the interval, as a logarithm.
_UNKNOWN_HOST: Final = 0.4
#: Where a card's table says nothing of the storage behind the host.
_HOST_STORAGE: Final = "nvme_gen3"
#: Experts of a token that the token before chose as well, beyond chance: an LRU cache of a quarter of
#: the experts serves 0.36 (ExpertFlow, arXiv:2410.17954), (0.36 - 0.25) / 0.75.
_REUSE: Final = 0.15
_LRU: Final = ExpertCache(capacity=1.0, reuse=_REUSE)
#: Sequences a card works on at once where a block of batches shares a fetch (FlexGen, arXiv:2303.06865,
#: section 6, runs its largest models with 32 to 48).
_BATCH_AT_ONCE: Final = 32.0
#: Native 4-bit experts are fetched for shorter prompts than others are (doc/en/kt-kernel,
#: Kimi-K2-Thinking-Native.md: --kt-gpu-prefill-token-threshold 400).
_NATIVE_THRESHOLD: Final = 400.0


@dataclass(frozen=True, kw_only=True, eq=False)
class OffloadedRun:
    """A placed scenario of one row, and what the placement adds to its interval.

    Parameters
    ----------
    spread : float
        Half width of the 80 % interval that placement and unknown parts of the machine add, as a
        logarithm.
    flag : str
        Which policy placed it, for the report.
    """

    scenario: Scenario
    spread: float
    flag: str


def says_offloaded(table: "pd.DataFrame") -> "pd.Series[bool]":
    """Return which rows say that the model exceeds the memory."""
    said = table["note"] + " " + table["model"]
    found: pd.Series[bool] = (table["phase"] == "offload") | said.map(lambda text: bool(_SAYS.search(text)))
    return found


@dataclass(frozen=True, kw_only=True)
class _Times:
    """One run: tokens, and the time of its prefill and of one decode iteration [s]."""

    batch: float
    prompt: float
    output: float
    prefill_s: float
    iteration_s: float


def _generated(times: _Times) -> float:
    """Tokens over the whole run, of a batch that begins and ends together."""
    return times.batch * times.output / (times.prefill_s + (times.output - 1.0) * times.iteration_s)


def known_metric(metric: str) -> str:
    """Return the metric behind one that only tables of offloaded runs have, itself otherwise."""
    if _RATIO.search(metric):
        return "decode_tok_s"
    return "output_tok_s" if metric == "generation_tok_s" else metric


#: Metric of a table of offloaded runs -> what it is of one run, and whether it is a rate.
_METRICS: Final[dict[str, tuple[Callable[[_Times], float], bool]]] = {
    "output_tok_s": (_generated, True),
    **dict.fromkeys(
        ("decode_tok_s", "decode_tok_s_mean"), (lambda times: times.batch / times.iteration_s, True)
    ),
    "prefill_tok_s": (lambda times: times.batch * times.prompt / times.prefill_s, True),
    "prefill_ms_per_token": (lambda times: times.prefill_s / times.prompt, False),
    **dict.fromkeys(
        ("tpot_ms", "tpot_s", "itl_ms", "tpot_mean_ms", "tpot_median_ms", "itl_mean_ms", "itl_median_ms"),
        (lambda times: times.iteration_s, False),
    ),
    **dict.fromkeys(
        ("ttft_ms", "ttft_s", "ttft_mean_ms", "ttft_median_ms"), (lambda times: times.prefill_s, False)
    ),
}


class OffloadedRuns:
    """Reads rows of one table."""

    def __init__(self, named: NamedScenarios) -> None:
        self._named = named

    def predict(self, result: Predictions, table: "pd.DataFrame", unit: NDArray[np.float64]) -> None:
        """Enter the predictions of the usable rows of a table, or why there is none.

        Parameters
        ----------
        unit : ndarray of float64
            Size of each row's unit.
        """
        for index, row in table.iterrows():
            place = np.array([index])
            try:
                run = self.run(row)
                found = _passes(run.scenario, row)
            except RooflineError as error:
                result.skipped[place] = str(error)
                continue
            make, rate = _METRICS[row["metric"]]
            values = {kind: make(times) for kind, times in found.items()}
            far = (values["high"], values["low"]) if rate else (values["low"], values["high"])
            result.fill(
                place,
                predicted=np.array([values["value"]]),
                ideal=np.array([values["ideal"]]),
                low=np.array([far[0]]),
                high=np.array([far[1]]),
                unit=float(unit[place][0]),
            )
            result.widen(place, spread=run.spread, others=())
            result.basis[place] = "transferred"
            result.profile[place] = run.flag

    def run(self, row: "pd.Series[Any]") -> OffloadedRun:
        """Return the run of one row.

        Parameters
        ----------
        row : Series
            A row; `stated_metric` is the metric as the table has it.

        Raises
        ------
        RooflineError
            If a name is unknown, or other machines hold a part of the model.
        """
        policy = policy_called(f"{row['runtime']} {row['model']}")
        if policy.way == "refused":
            raise InvalidSpecError(f"{policy.name}: {policy.note}")
        machine = machine_called(row["device"])
        named = row.copy()
        named["device"], named["runtime"] = machine.device, policy.runs_as or row["runtime"]
        named["device_count"] = max(float(row["device_count"]), machine.device_count)
        scenario = _with_experts(_as_one_file(self._named.scenario(named)), row["note"])
        scenario = _with_workload(scenario, row, policy)
        scenario, unknown = _on_machine(scenario, machine, row, policy)
        placed = _placed(scenario, row, policy)
        return OffloadedRun(
            scenario=placed,
            spread=policy.spread + (_UNKNOWN_HOST if unknown else 0.0),
            flag=f"{placed.deployment.runtime.software}, placed as {policy.name}",
        )


def _passes(scenario: Scenario, row: "pd.Series[Any]") -> dict[str, _Times]:
    """Times of a run: predicted, at both ends of the interval, and at datasheet figures."""
    workload = scenario.workload
    batch, prompt = float(workload.batch_size), float(workload.prompt_tokens)
    output, context = float(workload.output_tokens), row["context"]
    if np.isnan(context):
        told = np.nan_to_num(row["prompt_len"]) + np.nan_to_num(row["gen_len"]) / 2.0
        context = told if told > 0 else UNSAID_CONTEXT
    cached = replace(workload, context_tokens=max(float(context), 1.0))
    phase, _ = analyze_decode(scenario.replace(workload=cached), axes=0)
    report = analyze(
        scenario.replace(workload=replace(workload, output_tokens=1.0, context_tokens=None)),
        keep_rows=False,
        tables=(),
    )

    def times(prefill_s: Quantity, iteration_s: Quantity) -> _Times:
        return _Times(
            batch=batch,
            prompt=prompt,
            output=output,
            prefill_s=float(prefill_s),
            iteration_s=float(iteration_s),
        )

    decode, first = phase.time_s, report.ttft_s
    return {
        "value": times(first.value, decode.value),
        "low": times(first.low, decode.low),
        "high": times(first.high, decode.high),
        "ideal": times(report.prefill.ideal_s, phase.ideal_s),
    }


def _as_one_file(scenario: Scenario) -> Scenario:
    """The scenario with embedding and head as llama.cpp's quantiser stores them."""
    precision = scenario.deployment.precision
    if not precision.weights.startswith("q") or precision.rules:
        return scenario
    head = precision.weights if precision.weights.startswith("q8") else _HEAD_FORMAT
    rules = (
        FormatRule(pattern="embedding.*", format=head if _tied(scenario) else precision.weights),
        FormatRule(pattern="head.*", format=head),
    )
    return scenario.replace(
        deployment=replace(scenario.deployment, precision=replace(precision, rules=rules))
    )


def _tied(scenario: Scenario) -> bool:
    return bool(scenario.deployment.model.head.tied)


def _with_experts(scenario: Scenario, note: str) -> Scenario:
    """The scenario with as many experts for each token as a note says."""
    said = _EXPERTS.search(note)
    if said is None:
        return scenario
    model = scenario.deployment.model
    layers = {
        name: {
            key: replace(block, top_k=float(said[1])) if isinstance(block, MixtureOfExperts) else block
            for key, block in layer.items()
        }
        for name, layer in model.layers.items()
    }
    return scenario.replace(deployment=replace(scenario.deployment, model=replace(model, layers=layers)))


def _with_workload(scenario: Scenario, row: "pd.Series[Any]", policy: OffloadPolicy) -> Scenario:
    prompt, output = (float(np.nan_to_num(row[name])) for name in ("prompt_len", "gen_len"))
    workload = replace(
        scenario.workload,
        batch_size=float(row["batch"]),
        prompt_tokens=max(prompt, 1.0),
        output_tokens=max(output, 1.0),
    )
    if policy.reserved_tokens is not None and memory_limit_in(row["model"], row["note"]) is not None:
        workload = allocated(workload, f"max:{policy.reserved_tokens:g}", scenario.deployment.model)
    return scenario.replace(workload=workload)


def _on_machine(
    scenario: Scenario, machine: Machine, row: "pd.Series[Any]", policy: OffloadPolicy
) -> tuple[Scenario, bool]:
    """The scenario on the whole machine, and whether its host had to be guessed."""
    if policy.cache_format is not None:
        scenario = scenario.replace_at("deployment.precision.kv_cache", policy.cache_format)
    system = scenario.deployment.system
    device = system.device
    near = next(iter(device.memory))
    limit = memory_limit_in(row["model"], row["note"])
    capacity = limit or machine.device_bytes or float(device.memory[near].capacity_bytes)
    device = replace_at(device, f"memory.{near}.capacity_bytes", capacity * policy.memory_share)
    storage = system.storage if machine.storage is None else load_storage(machine.storage).value
    if next(iter(device.engine.values())).kind != "gpu" or device.kind == "soc":
        if limit is None:
            reserve = max(scenario.deployment.reserve_fraction, _SYSTEM_BYTES / capacity)
            scenario = scenario.replace(deployment=replace(scenario.deployment, reserve_fraction=reserve))
        if device.kind == "cpu":
            device = _sockets(device, machine.sockets or 1.0, policy)
        system = replace(system, device=device, storage=storage)
        return scenario.replace(deployment=replace(scenario.deployment, system=system)), False
    name, unknown = machine.host, machine.nearest_host
    if name is None:
        held = float(sum(float(size) for *_, size in scenario.deployment.weight_bytes()))
        large = held * float(system.device_count) > _DESKTOP_BYTES or device.kind not in _DESKTOP_KINDS
        server = next(host for year, host in _SERVER_HOSTS if device.year <= year)
        name, unknown = server if large else _DESKTOP_HOST, True
    sockets = machine.sockets or (2.0 if policy.numa_aware else 1.0)
    host = _sockets(load_device(name).value, sockets, policy)
    memory = next(iter(host.memory))
    if machine.host_bytes is not None:
        host = replace_at(host, f"memory.{memory}.capacity_bytes", machine.host_bytes)
    if machine.host_bytes_per_s is not None:
        each = machine.host_bytes_per_s * (sockets if policy.numa_aware else 1.0)
        host = replace_at(host, f"memory.{memory}.bandwidth_bytes_per_s", each)
    link = system.host_link if machine.link is None else load_link(machine.link).value
    if link is None:
        raise InvalidSpecError(f"{device.name}: the catalogue names no link to a host")
    rate = _copied(host, float(link.bandwidth_bytes_per_s), float(system.device_count), policy)
    system = replace(
        system,
        device=device,
        host=host,
        host_link=replace(link, bandwidth_bytes_per_s=rate),
        storage=load_storage(_HOST_STORAGE).value if storage is None else storage,
    )
    deployment = replace(scenario.deployment, system=system, engine_runtimes=_runtimes(name, policy))
    return scenario.replace(deployment=deployment), unknown


def _copied(host: Device, link_bytes_per_s: float, cards: float, policy: OffloadPolicy) -> float:
    """The rate of one card's copies: put together by the host, then over its link [B/s]."""
    each = 1.0 / (policy.link_share * link_bytes_per_s)
    if policy.gather_share is not None:
        memory = next(iter(host.memory.values()))
        each += cards / (policy.gather_share * float(memory.bandwidth_bytes_per_s))
    return 1.0 / each


def _sockets(device: Device, sockets: float, policy: OffloadPolicy) -> Device:
    """A processor of several sockets; only NUMA-aware software reads faster from all of them."""
    if sockets == 1.0:
        return device
    reached = sockets if policy.numa_aware else 1.0
    engines = {
        name: replace(
            engine,
            units=engine.units * sockets,
            cache_bytes=engine.cache_bytes * sockets,
            vector_flops_per_s=engine.vector_flops_per_s * sockets,
            peak_flops_per_s={
                format: {held: rate * sockets for held, rate in rates.items()}
                for format, rates in engine.peak_flops_per_s.items()
            },
        )
        for name, engine in device.engine.items()
    }
    memories = {
        name: replace(
            memory,
            capacity_bytes=memory.capacity_bytes * sockets,
            bandwidth_bytes_per_s=memory.bandwidth_bytes_per_s * reached,
        )
        for name, memory in device.memory.items()
    }
    return replace(device, engine=engines, memory=memories)


def _runtimes(host: str, policy: OffloadPolicy) -> dict[str, Any]:
    return {"host.cpu": load_runtime(host, policy.host_software)}


def _placed(scenario: Scenario, row: "pd.Series[Any]", policy: OffloadPolicy) -> Scenario:
    """The scenario with its model placed as the policy says."""
    deployment, workload = scenario.deployment, scenario.workload
    few = replace(workload, batch_size=min(float(workload.batch_size), _BATCH_AT_ONCE))
    sizes = sizes_of(deployment, workload.decode(workload.last_generated), widest=few.prefill())
    fits = float(sizes.dense_bytes + sizes.expert_bytes) <= float(sizes.room_bytes)
    ratio = _RATIO.search(row["stated_metric"])
    if policy.way == "experts_on_host" and sizes.expert_bytes:
        above = policy.fetch_above
        if above is not None and "native" in row["quant"].casefold():
            above = _NATIVE_THRESHOLD
        share = 0.0 if ratio is None else float(ratio[1]) / 100.0
        rules = experts_on_host(deployment, sizes, near_share=share, fetch_above=above)
        return scenario.replace(deployment=replace(deployment, placement=Placement(rules=rules)))
    if fits and not policy.keeps_none:
        return scenario
    if deployment.system.host is None:
        rules = _without_host(deployment, sizes, policy)
    else:
        rules = _with_host(deployment, sizes, policy)
    return scenario.replace(deployment=replace(deployment, placement=Placement(rules=rules)))


def _without_host(deployment: Deployment, sizes: Sizes, policy: OffloadPolicy) -> tuple[Rule, ...]:
    """Rules where only storage is left, by capacity where the policy says nothing of it."""
    if deployment.system.storage is None:
        raise InvalidSpecError(f"{deployment.system.name}: the catalogue names no storage to page from")
    if policy.way == "cache" and sizes.expert_bytes:
        read = Piece(prefetched=policy.prefetched)
        return cached(deployment, sizes, source="storage", cache=_LRU, read=read)
    if policy.way == "stream":
        return streamed(deployment, sizes, source="storage", keep=not policy.keeps_none)
    return mapped(deployment, sizes, reuse=_REUSE)


def _with_host(deployment: Deployment, sizes: Sizes, policy: OffloadPolicy) -> tuple[Rule, ...]:
    """Rules of a card, its host and the host's storage."""
    beyond = _beyond_host(deployment, sizes, policy)
    experts = bool(sizes.expert_bytes)
    source = "storage" if beyond > 0.5 else "host"
    if policy.way == "choose" and experts and not beyond:
        above = fetching_pays_above(deployment, sizes)
        return experts_on_host(deployment, sizes, fetch_above=above)
    if policy.way == "layers" and not beyond:
        return computed_on_host(deployment, sizes)
    if policy.way in ("layers", "mmap"):
        return mapped(deployment, sizes, reuse=_REUSE)
    read = Piece(prefetched=policy.prefetched)
    if policy.way in ("cache", "choose") and experts:
        return cached(deployment, sizes, source=source, cache=_LRU, read=read)
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
