"""Offline generation over a model in host memory, pass by pass: MoE-Lens, stage 2."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from roofline.analysis import analyze
from roofline.catalog.usual_hosts import on_usual_machine
from roofline.errors import InvalidSpecError
from roofline.quantity import total
from roofline.scenario import Scenario

__all__ = ["BLOCK_TOKENS", "Generation", "HostPass", "generate", "host_pass", "saturating_tokens"]

#: Tokens of a block of a paged cache (vLLM's default).
BLOCK_TOKENS: Final = 16
_MOST_PASSES: Final = 1_000_000


@dataclass(frozen=True, kw_only=True)
class HostPass:
    """What a pass takes whose weights cross the link while the host attends to the cache it holds.

    Parameters
    ----------
    weight_bytes, link_bytes_per_s : float
        Weights that cross the link in each pass [B], at the link's rate [B/s].
    saturating_tokens : float
        Tokens that keep the device busy for as long as that takes.
    cache_bytes, cache_bytes_per_token : float
        Host memory for the cache, and what a token takes of it [B].
    host_bytes_per_s : float
        Rate of the host's memory, which the link and attention share [B/s].
    attention_flops_per_token, host_flops_per_s : float
        Operations for each cached token of a sequence that decodes [FLOP], and the host's rate [FLOP/s].
    depth : float
        Pieces into which a pass is cut so that its streams overlap, its layers as a rule; 1 where copying,
        the device and the host follow each other.
    """

    weight_bytes: float
    link_bytes_per_s: float
    saturating_tokens: float
    cache_bytes: float
    cache_bytes_per_token: float
    host_bytes_per_s: float = float("inf")
    attention_flops_per_token: float = 0.0
    host_flops_per_s: float = float("inf")
    depth: float = 32.0

    def busy_s(self, *, tokens: float, cached_tokens: float) -> dict[str, float]:
        """Return how long link, device and host work in a pass [s].

        Parameters
        ----------
        tokens : float
            Tokens that pass through the model.
        cached_tokens : float
            Cached tokens of the sequences that decode.
        """
        link_s = self.weight_bytes / self.link_bytes_per_s
        moved = self.weight_bytes + cached_tokens * self.cache_bytes_per_token
        attended = cached_tokens * self.attention_flops_per_token
        return {
            "link": link_s,
            "device": link_s * tokens / self.saturating_tokens,
            "host": max(moved / self.host_bytes_per_s, attended / self.host_flops_per_s),
        }

    def time_s(self, *, tokens: float, cached_tokens: float) -> float:
        """Return the time of a pass [s]: the longest stream, and a piece of the others."""
        busy = self.busy_s(tokens=tokens, cached_tokens=cached_tokens).values()
        longest = max(busy)
        return longest + (sum(busy) - longest) / self.depth


@dataclass(frozen=True, kw_only=True)
class Generation:
    """A batch of requests from first to last.

    Parameters
    ----------
    time_s : float
    passes, preempted : int
        Passes over the weights, and times a sequence lost its cache to older ones.
    tokens_per_s : float
        Generated tokens per second.
    worked_tokens : float
        Tokens that passed through the model, those computed again included.
    utilisation, decode_utilisation : float
        Share of the time that the device works, 0..1; the same of passes without prompts.
    busy_s : mapping of str to float
        How long link, device and host work [s].
    """

    time_s: float
    passes: int
    preempted: int
    tokens_per_s: float
    worked_tokens: float
    utilisation: float
    decode_utilisation: float
    busy_s: Mapping[str, float]

    @property
    def binding(self) -> str:
        """What works longest: ``link``, ``device`` or ``host``."""
        return max(self.busy_s, key=lambda name: self.busy_s[name])


@dataclass
class _Group:
    """Sequences that are alike: how many, their cached tokens, and tokens still to generate."""

    count: int
    cached: int
    left: int


@dataclass
class _State:
    """Sequences that run, oldest first, and those that wait."""

    waiting: list[_Group]
    blocks: int
    block: int
    running: list[_Group] = field(default_factory=list)
    preempted: int = 0

    def of(self, tokens: int) -> int:
        """Blocks of so many tokens."""
        return -(-tokens // self.block)

    def wanted(self, group: _Group, *, reserved: bool = False) -> int:
        """Blocks that a sequence wants for its next token, or to its end."""
        return self.of(group.cached + (group.left if reserved else 1))

    def free(self, *, reserved: bool = False) -> int:
        """Blocks left once every running sequence has what it wants."""
        return self.blocks - sum(
            group.count * self.wanted(group, reserved=reserved) for group in self.running
        )

    def preempt(self) -> None:
        """Let the youngest go until the others' next tokens fit; they compute what they had again."""
        while (lacking := -self.free()) > 0:
            youngest = self.running[-1]
            lost = min(-(-lacking // self.wanted(youngest)), youngest.count)
            youngest.count -= lost
            if not youngest.count:
                self.running.pop()
            self.preempted += lost
            self.waiting.insert(0, _Group(count=lost, cached=youngest.cached + 1, left=youngest.left))

    def admit(self, tokens: float, *, reserved: bool) -> list[_Group]:
        """Start and return what memory and so many tokens allow, one sequence at least where none runs."""
        started: list[_Group] = []
        worked, free = 0, self.free(reserved=reserved)
        while self.waiting:
            first = self.waiting[0]
            each = self.wanted(first, reserved=reserved)
            fitting = min(first.count, free // each, int((tokens - worked) // first.cached))
            if fitting <= 0 and not worked and not self.running and free >= each:
                fitting = 1
            if fitting <= 0:
                break
            started.append(_Group(count=fitting, cached=first.cached, left=first.left))
            free -= fitting * each
            worked += fitting * first.cached
            first.count -= fitting
            if not first.count:
                self.waiting.pop(0)
        self.running += started
        return started

    def advance(self, decoded: list[_Group], started: list[_Group]) -> None:
        """Give sequences their next token; those that decoded have cached the one before."""
        for group in decoded:
            group.cached += 1
        for group in (*decoded, *started):
            group.left -= 1
        self.running = [group for group in self.running if group.left > 0]


def generate(
    costs: HostPass,
    *,
    requests: int,
    prompt_tokens: int,
    output_tokens: int,
    block_tokens: int = BLOCK_TOKENS,
    mixed: bool = True,
) -> Generation:
    """Return how a batch of equal requests is generated, pass by pass.

    Parameters
    ----------
    requests, prompt_tokens, output_tokens, block_tokens : int
        All at least 1; a block of the paged cache holds `block_tokens`.
    mixed : bool
        Whether passes that decode take prompts too. Otherwise memory is filled with prompts, room for
        their outputs reserved, and all of them decode to their end before the next.

    Raises
    ------
    InvalidSpecError
        If a number is below 1, the cache is too small for one request, or it would take more than 10^6
        passes.

    Notes
    -----
    After MoE-Lens (Yuan et al. 2025, arXiv:2504.09345, sections 5.5 and 6): a pass decodes every running
    sequence, takes prompts up to the tokens that saturate the device, and where blocks run short the
    youngest sequences lose their cache and are computed again as prompts. Weights cross the link, the
    device computes and the host attends side by side, the host's memory serving both others (its
    equation 5). It follows the description of their scheduler; their closed forms of the same (equations
    8 to 13) are not used. A prompt gives the first token with its own pass, and attends on the device,
    which `saturating_tokens` counts. Requests of one length stand for their mean: the tail of long ones
    is left out.
    """
    given = {"requests": requests, "prompt": prompt_tokens, "output": output_tokens, "block": block_tokens}
    for name, value in given.items():
        if value < 1:
            raise InvalidSpecError(f"{name}: want at least 1, got {value:g}")
    blocks = int(costs.cache_bytes / (costs.cache_bytes_per_token * block_tokens))
    first = _Group(count=requests, cached=prompt_tokens, left=output_tokens)
    state = _State(waiting=[first], blocks=blocks, block=block_tokens)
    if state.of(prompt_tokens + output_tokens) > blocks:
        raise InvalidSpecError(
            f"generate: a request of {prompt_tokens} + {output_tokens} tokens wants more cache than "
            f"{costs.cache_bytes:.3g} B"
        )
    busy = {"link": 0.0, "device": 0.0, "host": 0.0}
    time_s = worked = decode_s = decode_busy_s = 0.0
    passes, started = 0, []
    while state.waiting or state.running:
        state.preempt()
        decoded = list(state.running)
        decoding = sum(group.count for group in decoded)
        if mixed:
            started = state.admit(costs.saturating_tokens - decoding, reserved=False)
        elif started or not decoded:
            started = state.admit(costs.saturating_tokens, reserved=True)
            decoded = [] if started else decoded
        tokens = sum(group.count for group in decoded) + sum(group.count * group.cached for group in started)
        cached = sum(group.count * group.cached for group in decoded)
        spent = costs.busy_s(tokens=tokens, cached_tokens=cached)
        took = costs.time_s(tokens=tokens, cached_tokens=cached)
        if not started:
            decode_s, decode_busy_s = decode_s + took, decode_busy_s + spent["device"]
        busy = {name: busy[name] + seconds for name, seconds in spent.items()}
        time_s, worked, passes = time_s + took, worked + tokens, passes + 1
        state.advance(decoded, started)
        if passes > _MOST_PASSES:
            raise InvalidSpecError(f"generate: more than {_MOST_PASSES} passes; want fewer requests")
    return Generation(
        time_s=time_s,
        passes=passes,
        preempted=state.preempted,
        tokens_per_s=requests * output_tokens / time_s,
        worked_tokens=worked,
        utilisation=busy["device"] / time_s,
        decode_utilisation=decode_busy_s / decode_s if decode_s else 0.0,
        busy_s=busy,
    )


def host_pass(
    scenario: Scenario,
    *,
    cache_bytes: float | None = None,
    link_bytes_per_s: float | None = None,
    host_bytes_per_s: float | None = None,
    saturating: float | None = None,
) -> HostPass:
    """Return what a pass of a scenario's model takes on its device, its host and the link between them.

    Parameters
    ----------
    cache_bytes : float, optional
        Host memory for the cache [B]; what the weights leave of it where None.
    link_bytes_per_s, host_bytes_per_s : float, optional
        Rates as measured [B/s]; those of the catalogue where None.
    saturating : float, optional
        Tokens that keep the device busy while the weights cross, as measured; by its profile where None.

    Raises
    ------
    InvalidSpecError
        If the device has no host, or the host's memory does not hold the weights.
    """
    whole = on_usual_machine(scenario)
    deployment = whole.deployment
    system = deployment.system
    if system.host is None or system.host_link is None:
        raise InvalidSpecError(f"{system.name}: has no host, and no link to one")
    memory = next(iter(system.host.memory.values()))
    processor = next(iter(system.host.engine.values()))
    weights = float(total(size for *_, size in deployment.weight_bytes()))
    room = float(memory.capacity_bytes) - weights if cache_bytes is None else cache_bytes
    if room <= 0.0:
        raise InvalidSpecError(f"{system.host.name}: {weights:.3g} B of weights exceed its memory")
    link = float(system.host_link.bandwidth_bytes_per_s) if link_bytes_per_s is None else link_bytes_per_s
    host = float(memory.bandwidth_bytes_per_s) if host_bytes_per_s is None else host_bytes_per_s
    most = saturating_tokens(whole, link_bytes_per_s=link) if saturating is None else saturating
    report = analyze(whole, intervals=False, keep_rows=False)
    workload = whole.workload
    cached = workload.sequences * (workload.prompt_tokens + workload.output_tokens - 1.0)
    held = total(tier.get("kv_cache", 0.0) for tier in report.memory.used_bytes.values())
    return HostPass(
        weight_bytes=weights,
        link_bytes_per_s=link,
        saturating_tokens=most,
        cache_bytes=room,
        cache_bytes_per_token=float(held / cached),
        host_bytes_per_s=host,
        attention_flops_per_token=_attention_flops(whole),
        host_flops_per_s=float(processor.vector_flops_per_s),
        depth=float(sum(deployment.model.layer_counts().values())),
    )


def saturating_tokens(scenario: Scenario, *, link_bytes_per_s: float) -> float:
    """Return the tokens of a pass that takes as long as moving all weights over a link."""
    weights = float(total(size for *_, size in scenario.deployment.weight_bytes()))
    prompt = float(scenario.workload.prompt_tokens)
    tokens = np.geomspace(1e2, 1e6, 400)
    report = analyze(
        scenario.replace_at("workload.batch_size", tokens / prompt), axes=1, intervals=False, keep_rows=False
    )
    return float(np.interp(weights / link_bytes_per_s, np.asarray(report.prefill.time_s.value), tokens))


def _attention_flops(scenario: Scenario) -> float:
    """Operations that a decode pass asks of one more cached token of a sequence [FLOP]."""
    flops = [scenario.deployment.time(scenario.workload.decode(n), "decode").flops for n in (0.0, 1024.0)]
    return float(flops[1] - flops[0]) / 1024.0 / float(scenario.workload.sequences)
