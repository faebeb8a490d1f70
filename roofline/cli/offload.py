"""`roofline offload`: where a model that does not fit should live."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from roofline.cli.flags import Given, takes_settings
from roofline.cli.output import FileOption, Format, FormatOption, as_json, write
from roofline.cli.sections import Section, render
from roofline.cli.tables import count, percent, quantity, render_table
from roofline.errors import InvalidSpecError
from roofline.units import parse

if TYPE_CHECKING:
    from roofline.scenario import Scenario
    from roofline.studies.cache_simulator import TraceCount
    from roofline.studies.flash_neurons import FlashPlan
    from roofline.studies.host_memory_schedule import Generation
    from roofline.studies.offload_search import OffloadSearch, Timeline, Trial

__all__ = ["EXAMPLES", "run"]

EXAMPLES: Final = """
roofline offload qwen3-30b-a3b desktop-rtx-4090 --weights q4_0
roofline offload qwen3-30b-a3b snapdragon-8-elite --weights q4_0 --memory-limit '8 GiB'
roofline offload llama-3.1-70b desktop-rtx-4090 --weights q4_0 --budget '12 GiB' --budget '24 GiB'
roofline offload qwen3-30b-a3b desktop-rtx-4090 --timeline --trace step.json
roofline offload opt-6.7b phone-snapdragon-8-gen-3 --budget '8 GiB' --neurons 0.1,5:0.24
roofline offload qwen3-30b-a3b desktop-rtx-4090 --routing trace:routes.npy --hits
roofline offload mixtral-8x7b a40 --prompt 98 --output 32 --requests 20000 --cache-memory '70 GB'
"""

_WIDTH: Final = 60
#: Slots that are counted, over experts.
_SLOTS: Final = (0.0625, 0.125, 0.25, 0.375, 0.5, 0.75)


@takes_settings
def run(
    given: Given,
    budget: Annotated[
        list[str] | None,
        typer.Option(metavar="SIZE", help="Near memory to plan for, e.g. '8 GiB'; may be repeated."),
    ] = None,
    timeline: Annotated[bool, typer.Option("--timeline", help="Show the streams of a decode step.")] = False,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the best plan's decode step for chrome://tracing."),
    ] = None,
    neurons: Annotated[
        str | None,
        typer.Option(
            metavar="ACTIVE,TOKENS:SHARE",
            help="Also read single neurons from storage: the share a token uses, and the share that so many "
            "tokens use together, e.g. 0.1,5:0.24.",
        ),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Also generate so many requests offline, weights streamed from host memory each pass and "
            "caches attended there (MoE-Lens).",
        ),
    ] = None,
    cache_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Host memory for the caches of --requests. [default: what weights leave]"
        ),
    ] = None,
    hits: Annotated[
        bool,
        typer.Option("--hits", help="Also count what caches serve of the trace of --routing, by policy."),
    ] = False,
    form: FormatOption = Format.TABLE,
    out: FileOption = None,
) -> None:
    """Try every placement the system has tiers for, and show the fastest by memory budget.

    Resident, computed on the host, cached or streamed from host memory or storage, or mapped from
    storage: tokens per second of each, and the plan that is fastest under the largest budget drawn.
    """
    from roofline.studies.offload_search import chrome_trace, decode_timeline, search_offload

    sizes = None if budget is None else [parse(text, "bytes", of="--budget") for text in budget]
    found = search_offload(given.settings(), budgets=sizes)
    best = found.best(found.budgets[-1])
    plans = {} if neurons is None else _neuron_plans(found, neurons)
    if requests is None and cache_memory is not None:
        raise InvalidSpecError("--cache-memory: holds the caches of --requests, so want that too")
    counts = _counts(given.settings().scenario(), given.settings().routing) if hits else ()
    batches = {} if requests is None else _batches(given.settings().scenario(), requests, cache_memory)
    if trace is not None:
        if best is None:
            raise InvalidSpecError("--trace: no plan fits the largest budget")
        write(as_json(chrome_trace(decode_timeline(best.report.scenario))), trace)
    if form is Format.JSON:
        beside = {**_neuron_document(plans), **_batch_document(batches), **_hit_document(counts)}
        write(as_json({**_document(found), **beside}), out)
    elif form is Format.CSV:
        write(_csv(found), out)
    else:
        sections = [*_sections(found, best, timeline), *([_neurons(plans)] if plans else [])]
        sections += [*([_generations(batches)] if batches else []), *([_hits(counts)] if counts else [])]
        write(render(_title(found), sections, form), out)


def _title(found: "OffloadSearch") -> str:
    deployment = found.trials[0].report.scenario.deployment
    return (
        f"{deployment.model.name} on {deployment.system.name}, {deployment.runtime.software}, "
        f"{deployment.precision.weights} weights: placements"
    )


def _sections(found: "OffloadSearch", best: "Trial | None", timeline: bool) -> Iterator[Section]:
    yield _budgets(found)
    if best is None:
        yield Section(title="No plan fits", remarks=tuple(_lacking(found)))
        return
    yield _plan(best)
    yield Section(title="Assumptions", remarks=best.report.assumptions)
    if timeline:
        from roofline.studies.offload_search import decode_timeline

        yield _timeline(decode_timeline(best.report.scenario))


def _budgets(found: "OffloadSearch") -> Section:
    """Decode tokens per second by budget and plan."""
    plans = list(dict.fromkeys(trial.plan.name for trial in found.trials))
    rows = []
    for size in found.budgets:
        here = {trial.plan.name: trial for trial in found.trials if trial.budget_bytes == size}
        best = found.best(size)
        speeds = [count(here[name].decode_tokens_per_s) if here[name].fits else "-" for name in plans]
        rows.append((f"{size / 2**30:.3g} GiB", *speeds, "none fits" if best is None else best.plan.name))
    return Section(
        title="Decode [token/s] by near memory; - does not fit",
        header=("budget", *plans, "fastest"),
        rows=rows,
    )


def _lacking(found: "OffloadSearch") -> Iterator[str]:
    largest = found.budgets[-1]
    for trial in found.trials:
        if trial.budget_bytes == largest:
            short = ", ".join(f"{tier} {quantity(size, 'B')}" for tier, size in trial.shortfall_bytes.items())
            yield f"{trial.plan.name}: lacks {short}"


def _plan(best: "Trial") -> Section:
    """What lies where under the best plan, as bars."""
    memory = best.report.memory
    rows = []
    for tier, tensors in memory.used_bytes.items():
        capacity = float(memory.capacity_bytes[tier])
        held = {name: float(size) for name, size in tensors.items() if float(size) > 0.0}
        used = sum(held.values())
        parts = ", ".join(f"{name.replace('_', ' ')} {quantity(size, 'B')}" for name, size in held.items())
        rows.append(
            (tier, _bar(used / capacity, 20), percent(used / capacity), quantity(capacity, "B"), parts)
        )
    title = (
        f"Fastest at {best.budget_bytes / 2**30:.3g} GiB: {best.plan.name}, "
        f"{count(best.decode_tokens_per_s)} token/s, bound by {best.report.decode.bound}"
    )
    return Section(
        title=title, header=("tier", "", "used", "of", "holds"), rows=rows, left=5, remarks=_cached(best)
    )


def _cached(best: "Trial") -> tuple[str, ...]:
    """What the expert cache of a plan serves, where it has one."""
    from roofline.studies.offload_search import cached_experts

    found = cached_experts(best.report.scenario)
    if found is None:
        return ()
    return (
        f"of {count(found.experts)} experts in a layer {count(found.slots)} are near; a decode step touches "
        f"{count(found.touched)} and finds {percent(found.served)} of them there",
    )


def _counts(scenario: "Scenario", routing: str | None) -> "tuple[TraceCount, ...]":
    """What caches of several sizes serve of the trace of `routing`."""
    from roofline.catalog.traces import read_trace
    from roofline.studies.cache_simulator import count_trace
    from roofline.studies.offload_search import mixture_of

    kind, _, path = (routing or "").partition(":")
    if kind != "trace":
        raise InvalidSpecError("--hits wants --routing trace:FILE, the trace to count")
    mixture = mixture_of(scenario)
    experts = int(mixture.experts)
    slots = sorted({max(round(share * experts), 1) for share in _SLOTS})
    trace = read_trace(path, experts=experts, top_k=int(mixture.top_k))
    return count_trace(trace, slots, batch=max(round(float(scenario.workload.sequences)), 1))


def _hits(counts: "tuple[TraceCount, ...]") -> Section:
    policies = list(counts[0].hit_rates)
    rows = [
        (count(float(one.slots)), *(percent(one.hit_rates[policy]) for policy in policies)) for one in counts
    ]
    return Section(
        title="Experts of the trace found in a cache, by slots of a layer and policy",
        header=("slots", *policies),
        rows=rows,
        remarks=(
            f"a pass touches {count(counts[0].distinct)} experts of a layer, {percent(counts[0].reuse)} of "
            "them as the pass before; static: the best fixed set; give --hit-rate what your cache serves",
        ),
    )


def _neuron_plans(found: "OffloadSearch", text: str) -> "dict[float, FlashPlan | None]":
    """The fastest window and bundle by budget."""
    from roofline.studies.flash_neurons import best_plan, neurons_of, parse_use

    deployment = found.trials[0].report.scenario.deployment
    storage = deployment.system.storage
    if storage is None:
        raise InvalidSpecError(f"--neurons: {deployment.system.name} has no storage")
    neurons, use = neurons_of(deployment), parse_use(text)
    return {size: best_plan(storage, neurons, use, budget_bytes=size) for size in found.budgets}


def _neurons(plans: "dict[float, FlashPlan | None]") -> Section:
    rows = [
        (f"{size / 2**30:.3g} GiB", "does not fit", "-", "-", "-", "-")
        if plan is None
        else (
            f"{size / 2**30:.3g} GiB", count(float(plan.window)), count(float(plan.bundle)),
            quantity(float(plan.memory_bytes), "B"), quantity(float(plan.read_bytes), "B"),
            quantity(float(plan.read_s), "s"),
        )
        for size, plan in plans.items()
    ]  # fmt: skip
    return Section(
        title="Neurons from storage: fastest window and bundle",
        header=("budget", "window [token]", "neurons per read", "in memory", "read per token", "takes"),
        rows=rows,
        remarks=("reading alone; computing and deleting rows come on top", "caches are not in the budget"),
    )


def _neuron_document(plans: "dict[float, FlashPlan | None]") -> dict[str, Any]:
    if not plans:
        return {}
    fields = ("window", "bundle", "memory_bytes", "read_bytes", "access_bytes", "read_s")
    found = [
        {
            "budget_bytes": size,
            "fits": plan is not None,
            **({} if plan is None else {name: float(getattr(plan, name)) for name in fields}),
        }
        for size, plan in plans.items()
    ]
    return {"neurons": found}


def _batches(scenario: "Scenario", requests: int, cache_memory: str | None) -> "dict[str, Generation]":
    """A batch generated from host memory, prompts beside decoding and apart."""
    from roofline.studies.host_memory_schedule import generate, host_pass

    size = None if cache_memory is None else parse(cache_memory, "bytes", of="--cache-memory")
    costs = host_pass(scenario, cache_bytes=size)
    lengths = [float(getattr(scenario.workload, name)) for name in ("prompt_tokens", "output_tokens")]
    prompt, output = (max(round(length), 1) for length in lengths)
    return {
        name: generate(costs, requests=requests, prompt_tokens=prompt, output_tokens=output, mixed=mixed)
        for name, mixed in (("beside", True), ("apart", False))
    }


def _generations(batches: "dict[str, Generation]") -> Section:
    rows = [
        (
            name, quantity(found.time_s, "s"), count(found.tokens_per_s), percent(found.utilisation),
            count(float(found.passes)), count(float(found.preempted)), found.binding,
        )
        for name, found in batches.items()
    ]  # fmt: skip
    return Section(
        title="Requests generated from host memory, prompts beside decoding or apart from it",
        header=("prompts", "takes", "token/s", "device busy", "passes", "preempted", "works longest"),
        rows=rows,
        remarks=("weights cross the link in every pass; the host attends, at its memory's and lanes' peaks",),
    )


def _batch_document(batches: "dict[str, Generation]") -> dict[str, Any]:
    if not batches:
        return {}
    return {"generations": {name: asdict(found) for name, found in batches.items()}}


def _hit_document(counts: "tuple[TraceCount, ...]") -> dict[str, Any]:
    return {"hits": [asdict(one) for one in counts]} if counts else {}


def _timeline(timeline: "Timeline") -> Section:
    """How long each stream works in a step, and when in its first layers."""
    rows = [
        (
            stream,
            _bar(seconds / timeline.time_s, _WIDTH),
            quantity(seconds, "s"),
            percent(seconds / timeline.time_s),
        )
        for stream, seconds in sorted(timeline.busy_s.items(), key=lambda item: -item[1])
    ]
    remark = (
        f"a step takes {quantity(timeline.time_s, 's')}; {timeline.binding} works longest; the engine stands "
        f"still {quantity(timeline.bubble_s, 's')} ({percent(timeline.bubble_s / timeline.time_s)})"
    )
    return Section(
        title="Decode step by stream",
        header=("stream", "", "busy", "share"),
        rows=rows,
        left=2,
        remarks=(remark,),
    )


def _bar(share: float, width: int) -> str:
    filled = min(max(round(share * width), 1 if share > 0.0 else 0), width)
    return "#" * filled + "." * (width - filled)


def _document(found: "OffloadSearch") -> dict[str, Any]:
    return {
        "trials": [_trial(trial) for trial in found.trials],
        "best": [
            {"budget_bytes": size, "plan": None if best is None else best.plan.name}
            for size, best in ((size, found.best(size)) for size in found.budgets)
        ],
    }


def _trial(trial: "Trial") -> dict[str, Any]:
    return {
        "budget_bytes": trial.budget_bytes,
        "plan": trial.plan.name,
        "offload": trial.plan.offload,
        "offload_mode": trial.plan.mode,
        "fits": trial.fits,
        "shortfall_bytes": trial.shortfall_bytes,
        "decode_tokens_per_s": trial.decode_tokens_per_s,
        "ttft_s": float(trial.report.ttft_s.value),
        "tpot_s": float(trial.report.tpot_s.value),
        "bound": trial.report.decode.bound,
    }


def _csv(found: "OffloadSearch") -> str:
    rows = [_trial(trial) for trial in found.trials]
    names = [name for name in rows[0] if name != "shortfall_bytes"]
    return render_table(names, [[row[name] for name in names] for row in rows], Format.CSV)
