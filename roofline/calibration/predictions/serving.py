"""A server in closed loop: what a client sees that keeps a number of requests in flight."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from roofline.analysis import analyze, analyze_decode
from roofline.graph.step import Step
from roofline.quantity import Quantity, maximum, minimum, total
from roofline.report import Interval
from roofline.scenario import Scenario
from roofline.timing.deployment import Deployment

__all__ = ["CLOSED_LOOP_REQUESTS", "SERVERS", "Load", "Pools", "Server", "busiest", "servers"]

Array = NDArray[np.float64]

#: Tokens of one pass at most (InferenceMAX, README: --max-num-batched-tokens 8192) [tokens].
_TOKENS_PER_PASS: Final = 8192.0
#: Device memory a server leaves alone: InferenceMAX, README, --gpu-memory-utilization 0.9.
_RESERVE_FRACTION: Final = 0.1
#: What a first token takes beyond passes and queue: HTTP, tokenizer, scheduler (docs/serving.md) [s].
_FIRST_TOKEN_S: Final = {"vllm": 0.027, "trtllm": 0.083, "sglang": 0.21}
_FIRST_TOKEN_ELSE_S: Final = 0.071
#: Share of requests whose prefill waits for those of half the others, as the first wave's do: the same fit.
_WAITING_SHARE: Final = 0.2
#: Requests after which the slots that run empty at a benchmark's end have cost as much as one of them
#: fully used: fitted to the throughput of ML.ENERGY v2 and v3.
CLOSED_LOOP_REQUESTS: Final = 1000.0
#: Of what an iteration takes beyond the datasheet bound, the share that is left in a server whose prefills
#: are counted apart: its kernels follow each other in a captured graph and its host works ahead, where
#: profiles time kernels one by one and hosts with whatever prefills were about (docs/serving.md).
_LEFT_OF_EXCESS: Final = 0.7
#: Software whose profiles are of servers.
SERVERS: Final = ("vllm", "sglang", "trtllm")
_OLD: Final = ("vllm_2023", "vllm_2024")
#: Software whose prefills share no pass with decoding: old schedulers, and SGLang's default.
_APART: Final = ("sglang", *_OLD)


@dataclass(frozen=True, kw_only=True)
class Pools:
    """Workers of a server whose prefill runs elsewhere; each worker is a deployment of its own."""

    prefill: float
    decode: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Load:
    """What a client asks for.

    Parameters
    ----------
    concurrency : ndarray
        Requests in flight.
    prompt, output : ndarray
        Mean lengths; prompt is nan where it is not told, and prefills are left out then [tokens].
    context : ndarray
        Mean cached tokens of a running sequence [tokens].
    """

    concurrency: Array
    prompt: Array
    output: Array
    context: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Server:
    """The steady state of a loaded server.

    Parameters
    ----------
    load : Load
    running : Quantity
        Requests that memory has room for at once, at most the concurrency.
    first_s : Quantity
        Prefill of one request on its own [s].
    each_s : Quantity
        What it takes of a server's time where prompts share passes up to the token budget, and stages
        of a pipeline work on different prompts [s].
    iteration_s : Quantity
        A decode pass of what is running [s].
    shared_s : Quantity
        What decoding adds to a pass that prefills too [s].
    shared_passes : Quantity
        Such passes while a request decodes.
    overhead_s : Quantity
        What a first token takes beside passes and queue [s].
    ranks : Quantity
        Requests that are prefilled side by side.
    pools : Pools or None
        None where one pool does both.

    Notes
    -----
    Every request of a closed loop is replaced at once, so while one passes through, each of the
    `running` others is prefilled once, and the decode passes are those of its own output:
    ``cycle = running each + (output - shared_passes) iteration + shared_passes shared``. Little's law
    (Little 1961, doi:10.1287/opre.9.3.383) gives the rest: throughput is ``running output / cycle``,
    requests beyond `running` wait for ``(concurrency - running) cycle / running``.

    With equal requests a finished one is replaced while no other prefill is due, so a prompt waits for
    none; those that start together wait for half of each other. `_WAITING_SHARE` of them do.
    Arrivals in open loop, prefix caches and preemption are left out: times under load are longer with
    the first, shorter with the second.
    """

    load: Load
    running: Quantity
    first_s: Quantity
    each_s: Quantity
    iteration_s: Quantity
    shared_s: Quantity
    shared_passes: Quantity
    overhead_s: Quantity
    ranks: Quantity
    pools: Pools | None = None

    @property
    def cycle_s(self) -> Quantity:
        """From the start of a request's prefill to its last token [s]."""
        if self.pools is not None:
            return self.first_s + self.load.output * self.iteration_s
        decoding_s = (self.load.output - self.shared_passes) * self.iteration_s
        return self.running * self.each_s + decoding_s + self.shared_passes * self.shared_s

    @property
    def queue_s(self) -> Quantity:
        """Waiting before a prefill begins [s]."""
        workers = 1.0 if self.pools is None else self.pools.prefill
        ahead = maximum(self.load.concurrency / workers - self.ranks, 0.0) / 2.0
        wave_s = _WAITING_SHARE * minimum(ahead, self.running) * self.each_s
        if self.pools is None:
            return wave_s + (self.load.concurrency - self.running) / self.running * self.cycle_s
        return wave_s + maximum(self.load.concurrency * self.each_s / workers - self.cycle_s, 0.0)

    @property
    def ttft_s(self) -> Quantity:
        """Mean time to first token [s]."""
        return self.overhead_s + self.iteration_s + self.first_s + self.queue_s

    @property
    def tpot_s(self) -> Quantity:
        """Mean time per output token of a request, prefills of others included [s]."""
        return (self.cycle_s - self.first_s) / self.load.output

    @property
    def steady_tokens_per_s(self) -> Quantity:
        """Tokens per second while every slot is taken."""
        cycle_s = self.cycle_s + (self.queue_s if self.pools is not None else 0.0)
        slots = self.load.concurrency if self.pools is not None else self.running
        return slots * self.load.output / cycle_s

    @property
    def output_tokens_per_s(self) -> Quantity:
        """Tokens per second over a whole benchmark.

        Notes
        -----
        At its end slots run empty: of a number of requests, those of one concurrency cost as much
        again, ``1 + concurrency / CLOSED_LOOP_REQUESTS``.
        """
        return self.steady_tokens_per_s / (1.0 + self.load.concurrency / CLOSED_LOOP_REQUESTS)

    def rows(self, index: NDArray[np.int64]) -> "Server":
        """Return the server at some entries of its load."""
        count = self.load.concurrency.shape

        def picked(value: Any) -> Any:
            return np.broadcast_to(value, count)[index] if isinstance(value, np.ndarray | float) else value

        load = Load(**{name: picked(value) for name, value in vars(self.load).items()})
        own = {name: picked(value) for name, value in vars(self).items() if name != "load"}
        return Server(load=load, **own)


def servers(scenario: Scenario, load: Load, pools: Pools | None) -> tuple[Mapping[str, Server], str]:
    """Return the server at its predicted, low, high and ideal times, and what its decoding rests on.

    Parameters
    ----------
    scenario : Scenario
        One worker; its prefill deployment is one of the prefill pool.
    pools : Pools or None
        How many workers; None where one deployment does both.
    """
    kept = replace(scenario.deployment, reserve_fraction=_RESERVE_FRACTION)
    scenario = replace(scenario, deployment=kept)
    prefilling = (scenario.prefill_deployment or kept).parallelism
    ranks, stages = prefilling.data, prefilling.pipeline
    at_once = load.concurrency / (1.0 if pools is None else pools.decode)
    room = _room(scenario, load, at_once)
    told = np.where(np.isnan(load.prompt), 0.0, 1.0)
    prompt = np.where(told > 0.0, load.prompt, 1.0)
    together = ranks * np.clip(_TOKENS_PER_PASS / prompt, 1.0, np.maximum(load.concurrency / ranks, 1.0))
    one, one_ideal = _prefill(scenario, np.broadcast_to(ranks, prompt.shape), prompt)
    many, many_ideal = _prefill(scenario, together, prompt)
    running = np.minimum(at_once, room)
    if pools is not None:
        each_s = told * many.value / together / stages / pools.prefill
        running = _decoding(scenario, load, room, told * one.value, each_s, pools)
    workload = replace(scenario.workload, batch_size=running, context_tokens=load.context)
    filled = replace(kept, microbatches=_filling(kept, running))
    decode, _ = analyze_decode(
        replace(scenario, deployment=filled, workload=workload), axes=1, tables=("basis",)
    )
    software = scenario.deployment.runtime.software
    passes = told * _shared_passes(software, pools, running, load, together * prompt / ranks)
    added_s = _added_s(scenario, running, load, together, prompt)
    overhead = next(
        (size for name, size in _FIRST_TOKEN_S.items() if software.startswith(name)), _FIRST_TOKEN_ELSE_S
    )

    captured = software.startswith(SERVERS) and not software.startswith(_OLD)
    left = np.where(told > 0.0, _LEFT_OF_EXCESS, 1.0) if captured else 1.0

    def server(first: Quantity, many: Quantity, pass_s: Quantity, overhead_s: float) -> Server:
        iteration = decode.ideal_s + left * (pass_s - decode.ideal_s)
        return Server(
            load=load,
            running=load.concurrency if pools is not None else running,
            first_s=told * first,
            each_s=told * many / together / stages,
            iteration_s=iteration,
            shared_s=minimum(added_s, iteration),
            shared_passes=passes,
            overhead_s=overhead_s,
            ranks=ranks,
            pools=pools,
        )

    found = {
        kind: server(getattr(one, kind), getattr(many, kind), getattr(decode.time_s, kind), overhead)
        for kind in ("value", "low", "high")
    }
    basis_s = decode.basis_s
    basis = max(basis_s, key=lambda name: float(np.sum(basis_s[name])), default="datasheet")
    return {**found, "ideal": server(one_ideal, many_ideal, decode.ideal_s, 0.0)}, str(basis)


#: Concurrencies that are tried, as shares of what memory has room for.
_SHARES: Final = (1.0, 0.7, 0.5, 0.25, 0.125)


def busiest(scenario: Scenario, load: Load) -> tuple[Mapping[str, Server], str]:
    """Return the server at the concurrency that gives most tokens, of those memory has room for.

    Parameters
    ----------
    load : Load
        Its concurrency is not used.

    Notes
    -----
    Requests all come at once and there are many, as in ``trtllm-bench throughput``: no slot runs empty.
    Schedulers that start no request they might have to evict reserve its full length, and so does this.
    """
    kept = replace(scenario.deployment, reserve_fraction=_RESERVE_FRACTION)
    ranks = np.broadcast_to(kept.parallelism.data, load.prompt.shape)
    room = np.maximum(_room(replace(scenario, deployment=kept), load, ranks), 1.0)
    tried = {name: np.tile(value, len(_SHARES)) for name, value in vars(load).items()}
    tried["concurrency"] = np.concatenate([np.maximum(share * room, 1.0) for share in _SHARES])
    found, basis = servers(scenario, Load(**tried), None)
    speeds = np.reshape(found["value"].steady_tokens_per_s, (len(_SHARES), -1))
    count = len(room)
    best = np.argmax(speeds, axis=0) * count + np.arange(count)
    return {kind: server.rows(best) for kind, server in found.items()}, basis


def _filling(deployment: Deployment, running: Array) -> int:
    """Return the parts a decode pass is cut into, so that every stage of a pipeline has one."""
    return int(max(1.0, min(float(deployment.parallelism.pipeline), float(np.min(running)))))


def _room(scenario: Scenario, load: Load, at_once: Array) -> Array:
    """Return how many requests have room at their full length; all of them where not even one has."""
    full = np.maximum(np.nan_to_num(load.prompt) + load.output, load.context)
    workload = replace(scenario.workload, batch_size=at_once, context_tokens=full)
    _, memory = analyze_decode(replace(scenario, workload=workload), axes=1, intervals=False, tables=())
    near = next(iter(memory.used_bytes))
    used = memory.used_bytes[near]
    cached = total(used.get(tensor, 0.0) for tensor in ("kv_cache", "state"))
    free = memory.capacity_bytes[near] - (total(used.values()) - cached)
    room: Array = np.broadcast_to(at_once * free / np.maximum(cached, 1.0), at_once.shape)
    return np.where(room < 1.0, at_once, room)


#: After as many rounds 95 of 100 rows of AIConfigurator's sample stand still, the others move by 6 % at most.
_ROUNDS: Final = 4


def _decoding(
    scenario: Scenario, load: Load, room: Array, first_s: Quantity, each_s: Quantity, pools: Pools
) -> Array:
    """Return how many requests decode on one worker where prefill runs elsewhere.

    By Little's law it is the share of a request's time that it decodes, and that time is at least what
    the prefill pool takes for all in flight.
    """
    most = load.concurrency / pools.decode
    running: Array = np.minimum(most, room)
    for _ in range(_ROUNDS):
        workload = replace(scenario.workload, batch_size=running, context_tokens=load.context)
        phase, _ = analyze_decode(replace(scenario, workload=workload), axes=1, intervals=False, tables=())
        decoding_s = load.output * phase.time_s.value
        whole_s = maximum(first_s + decoding_s, load.concurrency * each_s)
        running = np.clip(np.broadcast_to(most * decoding_s / whole_s, most.shape), 1.0, room)
    return running


def _prefill(scenario: Scenario, batch: Array, prompt: Array) -> tuple[Interval, Quantity]:
    workload = replace(
        scenario.workload, batch_size=batch, prompt_tokens=prompt, output_tokens=1.0, context_tokens=None
    )
    report = analyze(replace(scenario, workload=workload), axes=1, keep_rows=False, tables=())
    return report.ttft_s, report.prefill.ideal_s


def _shared_passes(software: str, pools: Pools | None, running: Array, load: Load, tokens: Array) -> Quantity:
    """Passes of a request's decoding that prefill the others, at `tokens` prompt tokens each."""
    if pools is not None or software.startswith(_APART):
        return 0.0
    return np.minimum(running * np.nan_to_num(load.prompt) / np.maximum(tokens, 1.0), load.output)


def _added_s(scenario: Scenario, running: Array, load: Load, together: Array, prompt: Array) -> Quantity:
    """Return what decoding adds to a pass over prompts [s]."""
    workload = replace(
        scenario.workload, batch_size=together, prompt_tokens=prompt, output_tokens=1.0, context_tokens=None
    )
    decoding = replace(scenario.workload, batch_size=running, context_tokens=load.context)
    alone = workload.prefill()
    mixed = Step(sequences=alone.sequences + decoding.decode(0.0).sequences)
    deployment = scenario.deployment
    both_s, alone_s = (deployment.time(step, "prefill", tables=()).time_s for step in (mixed, alone))
    return maximum(both_s - alone_s, 0.0)
