"""The document of a report as sections for the screen."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from roofline.cli.sections import Section
from roofline.cli.tables import count, exact, percent, quantity

__all__ = [
    "memory_section",
    "notes_sections",
    "operator_section",
    "phase_section",
    "result_section",
    "title_of",
]

PHASES: Final = {"prefill": "Prefill", "decode": "Decode step"}

Document = Mapping[str, Any]


def title_of(document: Document) -> str:
    """Return model, hardware and software in one line, formats and workload in the next."""
    hardware, formats, workload = document["hardware"], document["formats"], document["workload"]
    devices = "" if hardware["devices"] == 1 else f"{exact(hardware['devices'])} x "
    asked = [f"batch {exact(workload['batch_size'])}"]
    if workload["context_tokens"] is None:
        asked.append(f"prompt {exact(workload['prompt_tokens'])}")
    else:
        asked.append(f"context {exact(workload['context_tokens'])}")
    asked.append(f"output {exact(workload['output_tokens'])}")
    return (
        f"{document['model']['name']} on {devices}{hardware['device']}, {document['software']}\n"
        f"{formats['weights']} weights, {formats['kv_cache']} KV cache; {', '.join(asked)}"
    )


def result_section(document: Document, phases: Sequence[str]) -> Section:
    """Return latencies with their intervals, and throughputs."""
    rows = []
    if "prefill" in phases:
        rows.append(_latency(document, "TTFT", "ttft", "prefill"))
    if "decode" in phases:
        rows.append(_latency(document, "TPOT", "tpot", "decode"))
    if len(phases) == 2:
        rows.append(_latency(document, "End to end", "end_to_end", ""))
        rows.append(("Output throughput", f"{count(document['output_tokens_per_s'])} token/s", "", ""))
        rows.append(("Total token throughput", f"{count(document['total_tokens_per_s'])} token/s", "", ""))
    if "decode" in phases and document["decode"]["tokens_per_sequence"] != 1.0:
        rows.append(("Tokens per decode step", count(document["decode"]["tokens_per_sequence"]), "", ""))
    if "decode" in phases:
        rows.append(("Decode throughput", f"{count(document['decode_tokens_per_s'])} token/s", "", ""))
    return Section(title="", header=("", "value", "80 % interval", "rests on"), rows=rows)


def _latency(document: Document, name: str, key: str, phase: str) -> tuple[str, str, str, str]:
    low, high = document[f"{key}_low_s"], document[f"{key}_high_s"]
    interval = "none" if low == high else f"{quantity(low, 's')} to {quantity(high, 's')}"
    basis = document["basis"] if not phase else _basis(document[phase])
    return name, quantity(document[f"{key}_s"], "s"), interval, basis


def _basis(phase: Document) -> str:
    return f"{phase['basis']} ({percent(phase['basis_share'])})"


def phase_section(document: Document, phases: Sequence[str]) -> Section:
    """Return what each phase does, its bounds, and what binds it."""
    rows = [
        (
            PHASES[name],
            f"{phase['bound']} ({percent(phase['bound_share'])})",
            quantity(phase["time_s"], "s"),
            quantity(phase["ideal_s"], "s"),
            quantity(phase["no_overlap_s"], "s"),
            quantity(phase["host_s"], "s"),
            quantity(phase["flops"], "FLOP"),
            quantity(phase["bytes"], "B"),
        )
        for name, phase in ((name, document[name]) for name in phases)
    ]
    header = ("", "bound by", "time", "ideal", "no overlap", "host", "work", "traffic")
    return Section(title="", header=header, rows=rows, left=2)


def memory_section(document: Document) -> Section:
    """Return what one device holds, by tier, against what it has."""
    tiers = document["memory"]
    tensors = list(dict.fromkeys(tensor for tier in tiers.values() for tensor in tier["tensor_bytes"]))
    rows = [
        (
            name,
            *(quantity(tier["tensor_bytes"].get(tensor, 0.0), "B") for tensor in tensors),
            quantity(tier["used_bytes"], "B"),
            quantity(tier["capacity_bytes"], "B"),
            percent(tier["used_bytes"] / tier["capacity_bytes"]),
        )
        for name, tier in tiers.items()
    ]
    header = ("", *(tensor.replace("_", " ") for tensor in tensors), "used", "capacity", "share")
    verdict = "fits" if document["fits"] else "DOES NOT FIT"
    lacking = [
        f"{name} lacks {quantity(tier['shortfall_bytes'], 'B')}"
        for name, tier in tiers.items()
        if tier["shortfall_bytes"] > 0.0
    ]
    return Section(title=f"Memory of one device: {verdict}", header=header, rows=rows, remarks=tuple(lacking))


def operator_section(document: Document, phase: str) -> Section:
    """Return every operator of a phase, with its bytes by tensor."""
    operators = document[phase]["operators"]
    tensors = list(
        dict.fromkeys(name for row in operators for part in ("read", "written") for name in row[part])
    )
    rows = [
        (
            _place(row),
            row["kind"],
            row["runs_as"],
            row["bound"],
            count(row["launches"]),
            quantity(row["flops"], "FLOP"),
            *(quantity(row["read"].get(name, 0.0) + row["written"].get(name, 0.0), "B") for name in tensors),
            "" if row["intensity"] is None else count(row["intensity"]),
            quantity(row["ideal_s"], "s"),
            quantity(row["time_s"], "s"),
            percent(row["share"]),
        )
        for row in operators
    ]
    header = (
        *("operator", "kind", "runs as", "bound", "launches", "work"),
        *(name.replace("_", " ") for name in tensors),
        *("FLOP/B", "ideal", "time", "share"),
    )
    return Section(title=f"{PHASES[phase]}, operator by operator", header=header, rows=rows, left=4)


def _place(row: Document) -> str:
    return ".".join(dict.fromkeys((row["layer"], row["block"], row["name"])))


def notes_sections(document: Document, *, every_source: bool) -> list[Section]:
    """Return assumptions, and sources: all with their figures, or the first few titles."""
    sources = document["sources"]
    if every_source:
        remarks = [
            f"{source['title']} ({source['kind']}, {source['accessed']}) {source['url']}".rstrip()
            + (
                f": {', '.join(dict.fromkeys(filter(None, source['figures'])))}"
                if any(source["figures"])
                else ""
            )
            for source in sources
        ]
    else:
        remarks = [f"{source['title']} ({source['kind']})" for source in sources[:SHOWN_SOURCES]]
        if len(sources) > SHOWN_SOURCES:
            remarks.append(f"and {len(sources) - SHOWN_SOURCES} more: --sources shows all of them")
    estimated = [
        figure for source in sources if source["kind"] == "estimate" for figure in source["figures"] if figure
    ]
    assumed = list(document["assumptions"])
    if estimated:
        assumed.append(f"estimates, not from a maker or measurement: {', '.join(dict.fromkeys(estimated))}")
    found = [Section(title="Assumptions", remarks=tuple(assumed))]
    return [*found, Section(title="Sources", remarks=tuple(remarks))] if remarks else found


#: Titles shown without --sources.
SHOWN_SOURCES: Final = 5
