"""A scenario served in closed loop: what a client sees that keeps a number of requests in flight."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofline.analysis import analyze, analyze_decode
from roofline.closed_loop import ROUNDS, Load, Pools, Server
from roofline.errors import InvalidSpecError
from roofline.graph.step import Step
from roofline.quantity import Quantity, maximum, minimum, total
from roofline.report import Interval
from roofline.scenario import Scenario
from roofline.timing.deployment import Deployment

__all__ = ["Served", "busiest", "loaded", "serve"]

Array = NDArray[np.float64]

#: Tokens of one pass at most (InferenceMAX, README: --max-num-batched-tokens 8192) [tokens].
_TOKENS_PER_PASS: Final = 8192.0
#: Device memory a server leaves alone: InferenceMAX, README, --gpu-memory-utilization 0.9.
_RESERVE_FRACTION: Final = 0.1
#: What a first token takes beyond passes and queue: HTTP, tokenizer, scheduler (docs/serving.md) [s].
_FIRST_TOKEN_S: Final = {"vllm": 0.041, "trtllm": 0.096, "sglang": 0.17}
_FIRST_TOKEN_ELSE_S: Final = 0.09
#: What it takes more where one pool hands a request and its cache to another (docs/serving.md) [s].
_HAND_OVER_S: Final = 0.2
#: Of what an iteration takes beyond the datasheet bound, the share that is left in a server whose prefills
#: are counted apart: its kernels follow each other in a captured graph and its host works ahead, where
#: profiles time kernels one by one and hosts with whatever prefills were about (docs/serving.md).
_LEFT_OF_EXCESS: Final = 0.7
#: Software whose profiles are of servers.
_SERVERS: Final = ("vllm", "sglang", "trtllm")
#: Half-width of the logarithmic 80 % interval of a server whose device is lent a profile of single
#: requests: vLLM on Gaudi 3 takes 3.3 times what that says.
_NO_SERVER: Final = 1.2
#: That of two pools, whose tables tell neither drafting nor, most of them, how many workers decode: 0.57
#: holds 80 % of the times per token of SGLang, 0.5 of TensorRT-LLM.
_TWO_POOLS: Final = 0.55
#: Lowest and highest logarithm of measured over predicted value, beyond what passes and waves explain, that
#: hold 80 % of the rows of a source that took no part, in the mean of sources (docs/serving.md section 2).
_SPREAD: Final = {
    "ttft_s": (-0.2, 1.6),
    "tpot_s": (-0.12, 0.31),
    "output_tokens_per_s": (-0.67, 0.35),
    "steady_tokens_per_s": (-0.67, 0.35),
}
_RATES: Final = ("output_tokens_per_s", "steady_tokens_per_s")
_OLD: Final = ("vllm_2023", "vllm_2024")
#: Software that takes cache memory as a sequence grows (Kwon et al. 2023, arXiv:2309.06180, section 4.3).
_PAGED: Final = ("vllm", "sglang")
#: Software whose prefills share no pass with decoding: old schedulers, and SGLang's default.
_APART: Final = ("sglang", *_OLD)


@dataclass(frozen=True, kw_only=True, eq=False)
class Served:
    """A loaded server at its predicted, low, high and ideal times.

    Parameters
    ----------
    fits : ndarray
        Whether at least one request has room beside the weights; all are taken to run where not.
    measured_server : bool
        Whether the profile is of a server, not of single requests.
    basis : str
        What its decoding rests on.
    """

    value: Server
    low: Server
    high: Server
    ideal: Server
    fits: NDArray[np.bool_]
    measured_server: bool
    basis: str

    @property
    def running(self) -> Array:
        """Requests that are being prefilled or decoded."""
        return np.broadcast_to(self.value.running, self.value.load.concurrency.shape)

    def interval(self, name: str, *, least: str = "") -> Interval:
        """Return a quantity of `Server` with its 80 % interval.

        Parameters
        ----------
        name : str
            ``ttft_s``, ``tpot_s``, ``output_tokens_per_s`` or ``steady_tokens_per_s``.
        least : str
            A quantity that it may be as small as; empty for none.

        Notes
        -----
        In squares: passes, requests that all come together or one by one, what a device or two pools leave
        open, and the errors of sources that took no part. A decode pool that is faster than thought fills
        the queue before the prefill pool.
        """
        value = getattr(self.value, name)
        waves = [np.log(getattr(replace(self.value, waiting_share=s), name) / value) for s in (0.0, 1.0)]
        if least:
            waves.append(np.log(getattr(self.value, least) / value))
        below, above = _SPREAD[name]
        other = np.hypot(
            0.0 if self.measured_server else _NO_SERVER, 0.0 if self.value.pools is None else _TWO_POOLS
        )
        low, high = self._ends(name)
        reach = (
            (getattr(low, name), minimum(*waves), below, -1.0),
            (getattr(high, name), maximum(*waves), above, 1.0),
        )
        ends = [
            value * np.exp(sign * np.sqrt(np.log(end / value) ** 2 + wave**2 + spread**2 + other**2))
            for end, wave, spread, sign in reach
        ]
        return Interval(value=value, low=ends[0], high=ends[1])

    def _ends(self, name: str) -> tuple[Server, Server]:
        """The servers whose passes make a quantity least and most."""
        if name in _RATES:
            return self.high, self.low
        if name == "ttft_s" and self.value.pools is not None:
            fast, slow = self.low.iteration_s, self.high.iteration_s
            return replace(self.low, iteration_s=slow), replace(self.high, iteration_s=fast)
        return self.low, self.high

    def rows(self, index: NDArray[np.int64]) -> "Served":
        """Return the server at some entries of its load."""
        own = {name: getattr(self, name).rows(index) for name in ("value", "low", "high", "ideal")}
        return replace(self, fits=self.fits[index], **own)


def serve(scenario: Scenario, concurrency: Array) -> Served:
    """Return a server of a scenario's prompts and outputs, all of those lengths, with so many in flight.

    Parameters
    ----------
    scenario : Scenario
        Its batch is not used.
    concurrency : ndarray
        Requests in flight, >= 1.

    Raises
    ------
    InvalidSpecError
        If a concurrency is below 1, or the scenario has a fixed context, several answers to a prompt, or
        speculates: servers are not described for those.
    """
    workload = scenario.workload
    if np.any(~(concurrency >= 1.0)):
        raise InvalidSpecError(f"concurrency: want at least 1, got {np.min(concurrency):g}")
    if workload.context_tokens is not None:
        raise InvalidSpecError("a server has prompts and outputs: give --prompt and --output, not --context")
    if workload.samples != 1.0 or scenario.decoding.kind != "autoregressive":
        raise InvalidSpecError(
            f"a server is described for one answer to a prompt, decoded token by token; got "
            f"{workload.samples:g} answers, {scenario.decoding.kind} decoding"
        )

    def each(value: Quantity) -> Array:
        return np.broadcast_to(np.asarray(value, dtype=np.float64), concurrency.shape)

    prompt, output = each(workload.prompt_tokens), each(workload.output_tokens)
    cached = each(workload.prefix_tokens) + prompt + output / 2.0
    alike = np.ones(concurrency.shape, dtype=bool)
    load = Load(concurrency=concurrency, prompt=prompt, output=output, context=cached, alike=alike)
    return loaded(scenario, load, None)


def loaded(scenario: Scenario, load: Load, pools: Pools | None) -> Served:
    """Return a server under a load.

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
    room, fits = _room(scenario, load, at_once)
    told = np.where(np.isnan(load.prompt), 0.0, 1.0)
    prompt = np.where(told > 0.0, load.prompt, 1.0)
    together = ranks * np.clip(_TOKENS_PER_PASS / prompt, 1.0, np.maximum(load.concurrency / ranks, 1.0))
    one, one_ideal = _prefill(scenario, np.broadcast_to(ranks, prompt.shape), prompt)
    many, many_ideal = _prefill(scenario, together, prompt)
    running = np.minimum(at_once, room)
    first_s, each_s = told * one.value, told * many.value / together / stages
    if pools is not None:
        running = _decoding(scenario, load, room, first_s, each_s, pools)
    workload = replace(scenario.workload, batch_size=running, context_tokens=load.context)
    filled = replace(kept, microbatches=_filling(kept, running))
    decode, _ = analyze_decode(
        replace(scenario, deployment=filled, workload=workload), axes=1, tables=("basis",)
    )
    software = scenario.deployment.runtime.software
    passes = told * _shared_passes(software, pools, running, load, together * prompt / ranks)
    added_s = _added_s(scenario, running, load, together, prompt)
    overhead = _first_token_s(software, pools)
    measured_server = software.startswith(_SERVERS)
    captured = measured_server and not software.startswith(_OLD)
    left = np.where(told > 0.0, _LEFT_OF_EXCESS, 1.0) if captured else 1.0

    def iteration_s(pass_s: Quantity) -> Quantity:
        return decode.ideal_s + left * (pass_s - decode.ideal_s)

    share: Quantity = 1.0 / ROUNDS
    if pools is None:
        share = _waiting_share(software, load, ranks)
    else:
        pools = _sized(pools, load, each_s, first_s + load.output * iteration_s(decode.time_s.value))

    def server(first: Quantity, many: Quantity, pass_s: Quantity, overhead_s: float) -> Server:
        iteration = iteration_s(pass_s)
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
            waiting_share=share,
        )

    found = {
        kind: server(getattr(one, kind), getattr(many, kind), getattr(decode.time_s, kind), overhead)
        for kind in ("value", "low", "high")
    }
    basis_s = decode.basis_s
    basis = max(basis_s, key=lambda name: float(np.sum(basis_s[name])), default="datasheet")
    return Served(
        **found,
        ideal=server(one_ideal, many_ideal, decode.ideal_s, 0.0),
        fits=fits,
        measured_server=measured_server,
        basis=str(basis),
    )


#: Concurrencies that are tried, as shares of what memory has room for.
_SHARES: Final = (1.0, 0.7, 0.5, 0.25, 0.125)


def busiest(scenario: Scenario, load: Load) -> Served:
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
    room = np.maximum(_room(replace(scenario, deployment=kept), load, ranks)[0], 1.0)
    tried = {name: np.tile(value, len(_SHARES)) for name, value in vars(load).items()}
    tried["concurrency"] = np.concatenate([np.maximum(share * room, 1.0) for share in _SHARES])
    found = loaded(scenario, Load(**tried), None)
    speeds = np.reshape(found.value.steady_tokens_per_s, (len(_SHARES), -1))
    count = len(room)
    best = np.argmax(speeds, axis=0) * count + np.arange(count)
    return found.rows(best)


def _filling(deployment: Deployment, running: Array) -> int:
    """Return the parts a decode pass is cut into, so that every stage of a pipeline has one."""
    return int(max(1.0, min(float(deployment.parallelism.pipeline), float(np.min(running)))))


def _room(scenario: Scenario, load: Load, at_once: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Return how many requests have room, all of them where not even one has, and whether one has.

    Pages are taken as sequences grow, which holds their mean length at a time; servers that start no
    request they might have to evict reserve its whole length.
    """
    full = np.maximum(np.nan_to_num(load.prompt) + load.output, load.context)
    paged = scenario.deployment.runtime.software.startswith(_PAGED)
    held = load.context if paged else full
    workload = replace(scenario.workload, batch_size=at_once, context_tokens=held)
    _, memory = analyze_decode(replace(scenario, workload=workload), axes=1, intervals=False, tables=())
    near = next(iter(memory.used_bytes))
    used = memory.used_bytes[near]
    cached = total(used.get(tensor, 0.0) for tensor in ("kv_cache", "state"))
    free = memory.capacity_bytes[near] - (total(used.values()) - cached)
    room: Array = np.broadcast_to(at_once * free / np.maximum(cached, 1.0), at_once.shape)
    fits: NDArray[np.bool_] = np.asarray(room >= 1.0)
    return np.where(fits, room, at_once), fits


#: After as many steps 95 of 100 rows of AIConfigurator's sample stand still, the others move by 6 % at most.
_STEPS: Final = 4


def _decoding(
    scenario: Scenario, load: Load, room: Array, first_s: Quantity, each_s: Quantity, pools: Pools
) -> Array:
    """Return how many requests decode on one worker where prefill runs elsewhere.

    By Little's law it is the share of a request's time that it decodes, and that time is at least what
    the prefill pool takes for all in flight, where its size is told.
    """
    most = load.concurrency / pools.decode
    pool_s = np.nan_to_num(load.concurrency * each_s / pools.prefill)
    running: Array = np.minimum(most, room)
    for _ in range(_STEPS):
        workload = replace(scenario.workload, batch_size=running, context_tokens=load.context)
        phase, _ = analyze_decode(replace(scenario, workload=workload), axes=1, intervals=False, tables=())
        decoding_s = load.output * phase.time_s.value
        whole_s = maximum(first_s + decoding_s, pool_s)
        running = np.clip(np.broadcast_to(most * decoding_s / whole_s, most.shape), 1.0, room)
    return running


def _sized(pools: Pools, load: Load, each_s: Quantity, cycle_s: Quantity) -> Pools:
    """Return the pools with the fewest prefill workers that need no longer for all than a request takes."""
    fewest = np.maximum(np.ceil(load.concurrency * each_s / cycle_s), 1.0)
    return replace(pools, prefill=np.where(np.isnan(pools.prefill), fewest, pools.prefill))


def _prefill(scenario: Scenario, batch: Array, prompt: Array) -> tuple[Interval, Quantity]:
    workload = replace(
        scenario.workload, batch_size=batch, prompt_tokens=prompt, output_tokens=1.0, context_tokens=None
    )
    report = analyze(replace(scenario, workload=workload), axes=1, keep_rows=False, tables=())
    return report.ttft_s, report.prefill.ideal_s


def _first_token_s(software: str, pools: Pools | None) -> float:
    """Return what a first token takes beside passes and queue [s]."""
    own_s = (size for name, size in _FIRST_TOKEN_S.items() if software.startswith(name))
    return next(own_s, _FIRST_TOKEN_ELSE_S) + (0.0 if pools is None else _HAND_OVER_S)


def _waiting_share(software: str, load: Load, ranks: Quantity) -> Array:
    """Return the share of requests that wait for half of the others.

    Notes
    -----
    Where all lengths are alike, what was prefilled together ends together. If prefills go before decoding,
    all that follow come together too; if they share passes, a pass apart, so that a prompt meets the one
    before it (docs/serving.md: 1.0 was chosen on vLLM).
    """
    ahead = np.maximum(load.concurrency - ranks, 0.0) / 2.0
    again = 1.0 if software.startswith(_APART) else 1.0 / np.maximum(ahead, 1.0)
    share: Array = np.minimum(1.0 / ROUNDS + np.where(load.alike, again, 0.0), 1.0)
    return share


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
