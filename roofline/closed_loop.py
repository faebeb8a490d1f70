"""The steady state of a server in closed loop: queues, waits and throughput by Little's law."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from roofline.quantity import Quantity, maximum, minimum

__all__ = ["CLOSED_LOOP_REQUESTS", "ROUNDS", "Load", "Pools", "Server"]

Array = NDArray[np.float64]

#: Requests of a benchmark for each one in flight, whose first ones all come together
#: (InferenceMAX, README: --num-prompts 10 x concurrency).
ROUNDS: Final = 10.0
#: Requests after which the slots that run empty at a benchmark's end have cost as much as one of them
#: fully used: fitted to the throughput of ML.ENERGY v2 and v3.
CLOSED_LOOP_REQUESTS: Final = 1000.0


@dataclass(frozen=True, kw_only=True)
class Pools:
    """Workers of a server whose prefill runs elsewhere; each worker is a deployment of its own.

    Parameters
    ----------
    prefill : Quantity
        nan where not told: the fewest that keep pace with decoding, since pools are sized for one rate of
        requests (Zhong et al. 2024, DistServe, arXiv:2401.09670).
    decode : float
    """

    prefill: Quantity
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
    alike : ndarray of bool
        Whether all prompts are of one length, and all outputs.
    """

    concurrency: Array
    prompt: Array
    output: Array
    context: Array
    alike: NDArray[np.bool_]


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
    waiting_share : Quantity
        Share of requests whose prefill waits for those of half the others: 0 where requests come one by
        one, 1 where all come together.

    Notes
    -----
    Every request of a closed loop is replaced at once, so while one passes through, each of the
    `running` others is prefilled once, and the decode passes are those of its own output:
    ``cycle = running each + (output - shared_passes) iteration + shared_passes shared``. Little's law
    (Little 1961, doi:10.1287/opre.9.3.383) gives the rest: throughput is ``running output / cycle``,
    requests beyond `running` wait for ``(concurrency - running) cycle / running``.

    Those that come together wait for half of each other: the first ones of a benchmark, one in `ROUNDS`.
    Later ones replace one that ended, at a time of its own, and wait for none. `waiting_share` of all wait.
    What a request waits so is no part of its time per token: time to first token and ``output tpot`` make
    a cycle.
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
    waiting_share: Quantity = 1.0 / ROUNDS

    @property
    def cycle_s(self) -> Quantity:
        """From the start of a request's prefill to its last token [s]."""
        if self.pools is not None:
            return self.first_s + self.load.output * self.iteration_s
        decoding_s = (self.load.output - self.shared_passes) * self.iteration_s
        return self.running * self.each_s + decoding_s + self.shared_passes * self.shared_s

    @property
    def wave_s(self) -> Quantity:
        """Waiting for the prefills of requests that came at the same time [s]."""
        workers = 1.0 if self.pools is None else self.pools.prefill
        ahead = maximum(self.load.concurrency / workers - self.ranks, 0.0) / 2.0
        return self.waiting_share * minimum(ahead, self.running) * self.each_s

    @property
    def queue_s(self) -> Quantity:
        """Waiting before a prefill begins [s]."""
        workers = 1.0 if self.pools is None else self.pools.prefill
        if self.pools is None:
            return self.wave_s + (self.load.concurrency - self.running) / self.running * self.cycle_s
        return self.wave_s + maximum(self.load.concurrency * self.each_s / workers - self.cycle_s, 0.0)

    @property
    def ttft_s(self) -> Quantity:
        """Mean time to first token [s]."""
        return self.overhead_s + self.iteration_s + self.first_s + self.queue_s

    @property
    def tpot_s(self) -> Quantity:
        """Mean time per output token of a request, prefills of others after its own included [s]."""
        waited_s = self.wave_s if self.pools is None else 0.0
        return (self.cycle_s - self.first_s - waited_s) / self.load.output

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
            return np.broadcast_to(value, count)[index] if isinstance(value, np.ndarray) else value

        load = Load(**{name: picked(value) for name, value in vars(self.load).items()})
        own = {name: picked(value) for name, value in vars(self).items() if name != "load"}
        return Server(load=load, **own)
