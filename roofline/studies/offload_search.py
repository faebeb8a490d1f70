"""Which placement of a model is fastest, by memory budget."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from roofline.analysis import analyze
from roofline.catalog.usual_hosts import on_usual_machine
from roofline.errors import InvalidSpecError
from roofline.graph.blocks.mixture_of_experts import MixtureOfExperts
from roofline.report import Report
from roofline.scenario import Scenario
from roofline.settings import Settings
from roofline.timing.cost import COLLECTIVES
from roofline.timing.deployment import Deployment
from roofline.timing.pass_time import PassTime
from roofline.timing.timeline import Span, spans_of
from roofline.units import parse, render

__all__ = [
    "PLANS",
    "WAITS",
    "CachedExperts",
    "OffloadSearch",
    "Plan",
    "Timeline",
    "Trial",
    "cached_experts",
    "chrome_trace",
    "decode_timeline",
    "mixture_of",
    "search_offload",
]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A way to place a model, as the settings `offload` and `offload_mode`."""

    name: str
    offload: str | None = None
    mode: str | None = None


#: In the order in which equal ones win.
PLANS: Final = (
    Plan(name="resident"),
    Plan(name="compute on host", offload="host", mode="compute"),
    Plan(name="fetch or compute", offload="host", mode="choose"),
    Plan(name="cache from host", offload="host", mode="cache"),
    Plan(name="stream from host", offload="host", mode="stream"),
    Plan(name="cache from storage", offload="storage", mode="cache"),
    Plan(name="stream from storage", offload="storage", mode="stream"),
    Plan(name="map from storage", offload="storage", mode="mmap"),
)

#: Name of the spans in which the engine stands still.
WAITS: Final = "waits"

#: Waits shorter than this share of a step are rounding.
_ROUNDING: Final = 1e-9

#: Budgets as shares of what is installed, where none are given.
_SHARES: Final = (0.125, 0.25, 0.375, 0.5, 0.75, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """One plan under one budget."""

    plan: Plan
    budget_bytes: float
    report: Report

    @property
    def fits(self) -> bool:
        """Whether every tier holds what is placed in it."""
        return bool(self.report.fits)

    @property
    def decode_tokens_per_s(self) -> float:
        """Tokens of all sequences per second of decoding."""
        return float(self.report.decode_tokens_per_s)

    @property
    def shortfall_bytes(self) -> dict[str, float]:
        """What each tier lacks, tiers that hold theirs left out [B]."""
        lacking = {tier: float(size) for tier, size in self.report.memory.shortfall_bytes.items()}
        return {tier: size for tier, size in lacking.items() if size > 0.0}


@dataclass(frozen=True, kw_only=True, eq=False)
class OffloadSearch:
    """Every plan under every budget."""

    trials: tuple[Trial, ...]

    @property
    def budgets(self) -> tuple[float, ...]:
        """Budgets that were tried, rising [B]."""
        return tuple(sorted({trial.budget_bytes for trial in self.trials}))

    def best(self, budget_bytes: float) -> Trial | None:
        """Return the fastest plan that fits in a budget, or None."""
        fitting = [trial for trial in self.trials if trial.budget_bytes == budget_bytes and trial.fits]
        return max(fitting, key=lambda trial: trial.decode_tokens_per_s, default=None)


def search_offload(settings: Settings, *, budgets: Sequence[float] | None = None) -> OffloadSearch:
    """Return every plan the system has tiers for, under every budget of near memory.

    Parameters
    ----------
    settings : Settings
        `offload` and `offload_mode` in it are ignored; a `memory_limit` is the largest budget.
    budgets : sequence of float, optional
        Near memory that may be used [B].

    Raises
    ------
    InvalidSpecError
        If a budget is not above 0 and at most what is installed.
    """
    plain = replace(settings, offload=None, offload_mode=None, memory_limit=None)
    base = on_usual_machine(plain.scenario())
    system = base.deployment.system
    installed = float(next(iter(system.device.memory.values())).capacity_bytes)
    most = installed if settings.memory_limit is None else parse(settings.memory_limit, "bytes")
    tried = [share * most for share in _SHARES] if budgets is None else sorted(budgets)
    for budget in tried:
        if not 0.0 < budget <= installed:
            raise InvalidSpecError(
                f"budget: want more than 0 and at most the {installed / 2**30:.3g} GiB installed, "
                f"got {budget / 2**30:.3g} GiB"
            )
    return OffloadSearch(trials=tuple(_trials(plain, base, tried)))


def _trials(plain: Settings, base: Scenario, budgets: Sequence[float]) -> Iterator[Trial]:
    for budget in budgets:
        limited = replace(plain, memory_limit=render(budget, "bytes"))
        for plan in _possible(base):
            scenario = replace(limited, offload=plan.offload, offload_mode=plan.mode).scenario()
            report = analyze(scenario, intervals=False, keep_rows=False)
            yield Trial(plan=plan, budget_bytes=budget, report=report)


def _possible(base: Scenario) -> Iterator[Plan]:
    """Plans for tiers the system has and tensors the model has."""
    system = base.deployment.system
    experts = any(
        block.kind == "mixture_of_experts"
        for layer in base.deployment.model.layers.values()
        for block in layer.values()
    )
    for plan in PLANS:
        there = {
            None: True,
            "host": system.host is not None and system.host_link is not None,
            "storage": system.storage is not None,
        }
        if there[plan.offload] and (experts or plan.mode not in ("cache", "choose")):
            yield plan


@dataclass(frozen=True, kw_only=True)
class CachedExperts:
    """An expert cache in a decode step.

    Parameters
    ----------
    slots, experts, touched : float
        Of a layer: experts that have a slot, all of them, and those a pass touches.
    served : float
        Share of those touched that are found there, 0..1.
    """

    slots: float
    experts: float
    touched: float
    served: float


def mixture_of(scenario: Scenario) -> MixtureOfExperts:
    """Return a model's first mixture of experts.

    Raises
    ------
    InvalidSpecError
        If it has none.
    """
    model = scenario.deployment.model
    blocks = (block for layer in model.layers.values() for block in layer.values())
    found = next((block for block in blocks if isinstance(block, MixtureOfExperts)), None)
    if found is None:
        raise InvalidSpecError(f"{model.name}: has no mixture of experts")
    return found


def cached_experts(scenario: Scenario) -> CachedExperts | None:
    """Return what the expert cache of a placed scenario serves, None where it has none."""
    deployment = scenario.deployment
    cache = next((rule.cache for rule in deployment.placement.rules if rule.cache is not None), None)
    if cache is None:
        return None
    mixture = mixture_of(scenario)
    shape = {
        "experts": mixture.experts,
        "top_k": mixture.top_k,
        "tokens": scenario.workload.sequences,
    }
    return CachedExperts(
        slots=float(cache.capacity) * float(mixture.experts),
        experts=float(mixture.experts),
        touched=float(deployment.routing.touched(**shape)),
        served=float(cache.hits(**shape, routing=deployment.routing).experts),
    )


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """A decode step in the middle of a generation: which stream works when.

    Parameters
    ----------
    spans : tuple of Span
        Of the engine, each engine beside it, the tiers it fetches from and the link; where the engine stands
        still for one of these, the layer is `WAITS`.
    time_s : float
        Of the step [s].
    busy_s : mapping of stream to float
        How long each stream works, waits apart [s].
    bubble_s : float
        How long the engine stands still, waiting for bytes or the host [s].
    """

    spans: tuple[Span, ...]
    time_s: float
    busy_s: dict[str, float]
    bubble_s: float

    @property
    def binding(self) -> str:
        """The stream that works longest."""
        return max(self.busy_s, key=lambda name: self.busy_s[name])


def decode_timeline(scenario: Scenario) -> Timeline:
    """Return the streams of one autoregressive decode step, layer by layer."""
    deployment, workload = scenario.deployment, scenario.workload
    step = workload.decode(workload.generated_at(0.5))
    timed = deployment.time(step, "decode", keep_rows=True)
    engines, tiers = _work(deployment, timed)
    # A tier serves what is fetched ahead and what is waited for in turn: a layer takes at least both.
    streams = {
        layer: {name: float(seconds) for name, seconds in {**parts, **tiers.get(layer, {})}.items()}
        for layer, parts in timed.streams_s.items()
    }
    names = [name for name in deployment.model.layer_names() if name in streams]
    order = [name for name in ("embedding",) if name in streams] + names
    order += [name for name in streams if name not in order]
    busy = {name: float(seconds) for name, seconds in timed.busy_s.items() if float(seconds) > 0.0}
    bubble_s = float(timed.bound_s.get("transfer", 0.0)) + float(timed.bound_s["host"])
    busy["engine"] = max(float(timed.time_s) - bubble_s - busy.get("link", 0.0), 0.0)
    return Timeline(
        spans=tuple(_with_waits(spans_of(order, streams, deployment.composition), engines, order)),
        time_s=float(timed.time_s),
        busy_s=busy,
        bubble_s=bubble_s,
    )


_Work = dict[str, dict[str, float]]


def _work(deployment: Deployment, timed: PassTime) -> tuple[_Work, _Work]:
    """What engines, waits apart, and far tiers work in all layers of a name [s]."""
    first = next(iter(deployment.system.device.engine))
    engines: _Work = {}
    tiers: _Work = {}
    for row in timed.rows:
        layer = row.operator.layer
        if row.operator.kind not in COLLECTIVES:
            name = "engine" if row.engine == first else row.engine
            work = engines.setdefault(layer, {})
            work[name] = work.get(name, 0.0) + float(row.cost.device_s * row.launches)
        for tier, seconds in row.cost.transfer_s.items():
            name = "host_memory" if tier == "host" else tier
            work = tiers.setdefault(layer, {})
            work[name] = work.get(name, 0.0) + float(seconds * row.launches)
    return engines, tiers


def _with_waits(spans: Sequence[Span], engines: _Work, order: Sequence[str]) -> Iterator[Span]:
    """Yield the spans of a step with the engine's work and waits apart, and the engines beside it."""
    for span in spans:
        if span.stream != "engine":
            yield span
            continue
        each = {name: size / order.count(span.layer) for name, size in engines.get(span.layer, {}).items()}
        worked = min(span.start_s + each.pop("engine", 0.0), span.end_s)
        yield replace(span, end_s=worked)
        if span.end_s - worked > _ROUNDING * span.end_s:
            yield replace(span, layer=WAITS, start_s=worked)
        for name, seconds in each.items():
            if seconds > 0.0:
                yield replace(span, stream=name, end_s=span.start_s + seconds)


def chrome_trace(timeline: Timeline) -> dict[str, Any]:
    """Return a timeline in the Trace Event Format of Chrome's and Perfetto's viewers [us]."""
    streams = list(dict.fromkeys(span.stream for span in timeline.spans))
    names = [
        {"ph": "M", "name": "thread_name", "pid": 1, "tid": number, "args": {"name": stream}}
        for number, stream in enumerate(streams)
    ]
    spans = [
        {
            "ph": "X", "name": span.layer, "cat": span.stream, "pid": 1, "tid": streams.index(span.stream),
            "ts": span.start_s * 1e6, "dur": (span.end_s - span.start_s) * 1e6,
        }
        for span in timeline.spans
    ]  # fmt: skip
    return {"traceEvents": [*names, *spans], "displayTimeUnit": "ms"}
