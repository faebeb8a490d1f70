"""`roofline speculate`: which tree to draft, what it gains, and where that ends."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from roofline.cli.flags import Given, takes_settings
from roofline.cli.output import FileOption, Format, FormatOption, as_json, write
from roofline.cli.sections import Section, render
from roofline.cli.tables import count, percent, quantity, render_table
from roofline.errors import InvalidSpecError

if TYPE_CHECKING:
    from roofline.decoding.speculative import Speculative
    from roofline.decoding.tree import SpecTree
    from roofline.scenario import Scenario
    from roofline.settings import Settings
    from roofline.studies.tree_search import TreeSearch

__all__ = ["EXAMPLES", "run"]

EXAMPLES: Final = """
roofline speculate llama-3.1-8b h100-sxm --draft eagle --accept rank:0.7,0.12,0.06
roofline speculate llama-3.1-8b h100-sxm --draft eagle3:32000 --accept 0.75 --batch 64
roofline speculate llama-3.1-8b h100-sxm --accept rank:0.4,0.1 --nodes 16 --goal tokens
roofline speculate llama-3.1-8b h100-sxm --speculate chain:4 --accept 0.8 --format json
roofline speculate llama-3.1-8b h100-sxm --speculate chain:4 --accept tokens:2.6 --draft eagle --claim 3
"""

#: Batches and contexts at which the tree is shown again, and nodes of the searched table.
_BATCHES: Final = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)
_CONTEXTS: Final = (512.0, 2048.0, 8192.0, 32768.0)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
#: Nodes drawn of a tree; the rest is counted.
_DRAWN: Final = 40


class Goal(StrEnum):
    """What a tree is chosen for."""

    SPEED = "speed"
    TOKENS = "tokens"


@takes_settings
def run(
    given: Given,
    nodes: Annotated[int, typer.Option(help="Nodes of the largest tree looked at.")] = 64,
    depth: Annotated[int, typer.Option(help="Depth of the deepest tree looked at.")] = 8,
    goal: Annotated[
        Goal, typer.Option(help="Least time per token, or most tokens per iteration within --nodes.")
    ] = Goal.SPEED,
    claim: Annotated[
        float | None,
        typer.Option(metavar="X", help="A published speed-up to judge: likely, possible or neither."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw the answer into this .png, .pdf or .svg.")
    ] = None,
    form: FormatOption = Format.TABLE,
    out: FileOption = None,
) -> None:
    """Find the draft tree that decodes fastest on a device, and say when not to speculate.

    Wants --accept and, for anything but looked-up drafts, --draft. With --speculate that tree is
    judged instead of searching one. Verification and draft calls cost what the runtime profile says,
    the host included.
    """
    settings = given.settings()
    if settings.accept is None:
        raise InvalidSpecError("want --accept, the acceptance rate of drafted tokens")
    found = None
    if settings.speculate is None:
        found = _searched(settings, nodes=nodes, depth=depth, goal=goal)
        scenario = found.drafted
    else:
        scenario = given.scenario()
    decoding = _drafted(scenario)
    document = _document(scenario, decoding, found)
    if claim is not None:
        document["claim"] = _judged(scenario, claim)
    if plot is not None:
        from roofline.plotting.speculation import save_speculation

        save_speculation(document, plot)
    if form is Format.JSON:
        write(as_json(document), out)
    elif form is Format.CSV:
        write(_csv(document), out)
    else:
        title = f"{scenario.deployment.model.name} on {scenario.deployment.system.name}: speculative decoding"
        write(render(title, _sections(decoding.tree, document), form), out)


def _searched(settings: "Settings", *, nodes: int, depth: int, goal: Goal) -> "TreeSearch":
    from roofline.speculation import make_acceptance
    from roofline.studies.tree_search import search_tree

    plain = replace(
        settings, accept=None, draft=None, draft_weights=None, draft_tensor=None, draft_host=None
    ).scenario()
    acceptance = make_acceptance(settings.accept or 0.0)
    drafter = settings.drafter(plain.deployment)
    return search_tree(plain, acceptance, drafter, nodes=nodes, depth=depth, goal=goal.value)


def _drafted(scenario: "Scenario") -> "Speculative":
    from roofline.decoding.speculative import Speculative

    if not isinstance(scenario.decoding, Speculative):
        raise InvalidSpecError("want a scenario that speculates")
    return scenario.decoding


def _document(scenario: "Scenario", decoding: "Speculative", found: "TreeSearch | None") -> dict[str, Any]:
    """Everything the answer shows, as plain numbers with units in their keys."""
    from roofline.studies.tree_search import break_even_batch, iteration_time, speed_up

    tree, gain = decoding.tree, speed_up(scenario)
    wins = float(gain.speed_up) > 1.0 and bool(gain.fits)
    parts = iteration_time(scenario)
    document: dict[str, Any] = {
        "speculate": wins,
        "tree": {
            "nodes": tree.nodes,
            "depth": tree.depth,
            "nodes_by_depth": [int(width) for width in tree.widths],
            "parents": list(tree.parents),
            "ranks": [int(rank) for rank in tree.sibling_ranks],
        },
        "speed_up": float(gain.speed_up),
        "speed_up_ideal": float(gain.ideal),
        "tokens_per_iteration": float(gain.tokens),
        "accepted_tokens_distribution": [float(chance) for chance in decoding.acceptance.distribution(tree)],
        "decode_pass_s": float(gain.plain_s),
        "iteration_s": float(gain.iteration_s),
        "iteration_parts_s": {
            "draft": parts.draft_s,
            "verify": parts.verify_s,
            "overhead": parts.overhead_s,
            "host": parts.host_s,
        },
        "fits": bool(gain.fits),
        "break_even_batch": break_even_batch(scenario),
        "by_batch": _along(scenario, "workload.batch_size", _BATCHES),
        "by_context": _along(scenario, "workload.context_tokens", _contexts(scenario)),
    }
    if found is not None:
        document["searched"] = {
            "depths": [int(depth) for depth in found.depths],
            "nodes": [int(size) for size in found.nodes],
            "speed_up": found.surface.tolist(),
        }
        document["best_by_batch"] = _best_by_batch(scenario, decoding, found)
    return document


def _best_by_batch(
    scenario: "Scenario", decoding: "Speculative", found: "TreeSearch"
) -> list[dict[str, Any]]:
    """The best tree at other batches than the one asked for."""
    from roofline.studies.tree_search import search_tree

    rows = []
    for batch in _BATCHES:
        best = search_tree(
            scenario.replace_at("workload.batch_size", batch),
            decoding.acceptance,
            decoding.drafter,
            nodes=int(found.nodes[-1]),
            depth=int(found.depths[-1]),
        )
        gain = float(best.result.speed_up)
        rows.append(
            {"batch_size": batch, "nodes": best.best.nodes, "depth": best.best.depth, "speed_up": gain,
             "speculate": best.tree is not None}
        )  # fmt: skip
    return rows


def _judged(scenario: "Scenario", claim: float) -> dict[str, Any]:
    from roofline.decoding.autoregressive import Autoregressive
    from roofline.studies.claims_check import check_claim, needed_tokens

    plain = scenario.replace(decoding=Autoregressive())
    found = check_claim(plain, scenario, claim)
    return {
        "claimed": claim,
        "verdict": found.verdict,
        "expected": float(found.expected.value),
        "expected_low": float(found.expected.low),
        "expected_high": float(found.expected.high),
        "ceiling": found.ceiling,
        "baseline_slowdown": found.baseline_slowdown,
        "decides": found.decides,
        "needed_tokens_per_iteration": needed_tokens(plain, scenario, claim),
    }


def _contexts(scenario: "Scenario") -> tuple[float, ...]:
    longest = float(scenario.deployment.model.context_tokens)
    return tuple(tokens for tokens in _CONTEXTS if not longest or tokens <= longest)


def _along(scenario: "Scenario", path: str, values: tuple[float, ...]) -> list[dict[str, Any]]:
    import numpy as np

    from roofline.studies.tree_search import gains_along

    gain = gains_along(scenario, path, values)
    columns = {
        "speed_up": gain.speed_up, "decode_pass_s": gain.plain_s, "iteration_s": gain.iteration_s,
        "fits": gain.fits,
    }  # fmt: skip
    name = path.rpartition(".")[2]
    spread = {key: np.broadcast_to(np.asarray(column), len(values)) for key, column in columns.items()}
    return [
        {
            name: value,
            **{key: bool(spread[key][row]) if key == "fits" else float(spread[key][row]) for key in columns},
        }
        for row, value in enumerate(values)
    ]


def _sections(tree: "SpecTree", document: Mapping[str, Any]) -> Iterator[Section]:
    yield Section(title="Answer", remarks=tuple(_answer(document)))
    if "claim" in document:
        yield Section(title="Claim", remarks=tuple(_claim(document["claim"])))
    yield Section(title="Tree", remarks=tuple(_drawn(tree)))
    parts = document["iteration_parts_s"]
    whole = sum(parts.values())
    yield Section(
        title="Time of an iteration",
        header=("part", "time", "share"),
        rows=[(name, quantity(part, "s"), percent(part / whole)) for name, part in parts.items()],
    )
    if "searched" in document:
        yield _searched_section(document["searched"])
        yield Section(
            title="Best tree by batch",
            header=("batch size", "nodes", "depth", "speed-up", "speculate"),
            rows=[
                (
                    count(row["batch_size"]),
                    str(row["nodes"]),
                    str(row["depth"]),
                    f"{row['speed_up']:.2f} x",
                    "yes" if row["speculate"] else "no",
                )
                for row in document["best_by_batch"]
            ],
        )
    for key, unit in (("by_batch", "batch_size"), ("by_context", "context_tokens")):
        yield Section(
            title=f"Speed-up by {key.removeprefix('by_')}",
            header=(unit.replace("_", " "), "speed-up", "decode pass", "iteration", "fits"),
            rows=[
                (
                    count(row[unit]),
                    f"{row['speed_up']:.2f} x",
                    quantity(row["decode_pass_s"], "s"),
                    quantity(row["iteration_s"], "s"),
                    "yes" if row["fits"] else "no",
                )
                for row in document[key]
            ],
        )


def _answer(document: Mapping[str, Any]) -> Iterator[str]:
    tree = document["tree"]
    shape = f"{tree['nodes']} drafted tokens in {tree['depth']} levels"
    if document["speculate"]:
        yield f"Speculate: {shape}, {document['speed_up']:.2f} x as fast."
    elif not document["fits"]:
        yield f"Do not speculate: target, drafter and {shape} do not fit in memory."
    else:
        yield f"Do not speculate: even the best tree, {shape}, is {document['speed_up']:.2f} x as fast."
    yield (
        f"{document['tokens_per_iteration']:.2f} tokens per iteration of "
        f"{quantity(document['iteration_s'], 's')}; a plain decode pass takes "
        f"{quantity(document['decode_pass_s'], 's')}."
    )
    yield f"At datasheet figures, without host time and overheads: {document['speed_up_ideal']:.2f} x."
    batch = document["break_even_batch"]
    if batch is None:
        yield "This tree gains at every batch up to 4,096."
    elif batch == 0:
        yield "This tree gains at no batch."
    else:
        yield f"This tree gains, and fits, up to batch {batch:,}."


def _claim(found: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"{found['claimed']:.2f} x: {found['verdict']}. {found['expected']:.2f} x is expected "
        f"({found['expected_low']:.2f} to {found['expected_high']:.2f} from the fits), "
        f"at most {found['ceiling']:.2f} x on this hardware."
    )
    if found["verdict"] == "needs a slower baseline":
        yield f"The baseline must have been {found['baseline_slowdown']:.2f} times slower than expected."
    yield (
        f"It takes {found['needed_tokens_per_iteration']:.2f} tokens per iteration; what decides is "
        f"{found['decides']}."
    )


def _drawn(tree: "SpecTree") -> Iterator[str]:
    """The tree as indented lines; a run of only children on one line."""
    children: dict[int, list[int]] = {}
    for node, parent in enumerate(tree.parents):
        children.setdefault(parent, []).append(node)
    ranks, shown = tree.sibling_ranks, 0
    waiting = [(node, 0) for node in reversed(children[-1])]
    while waiting and shown < _DRAWN:
        node, level = waiting.pop()
        line = [f"candidate {ranks[node] + 1}"]
        shown += 1
        while len(children.get(node, ())) == 1:
            node = children[node][0]
            line.append(f"{ranks[node] + 1}")
            shown += 1
        yield "  " * level + " - ".join(line)
        waiting += [(child, level + len(line)) for child in reversed(children.get(node, []))]
    if shown < tree.nodes:
        yield f"and {tree.nodes - shown} more"


def _searched_section(searched: Mapping[str, Any]) -> Section:
    sizes = [size for size in _SIZES if size in searched["nodes"]]
    return Section(
        title="Speed-up of the best tree by depth and nodes",
        header=("depth", *(str(size) for size in sizes)),
        rows=[
            (str(depth), *(f"{row[size - 1]:.2f}" for size in sizes))
            for depth, row in zip(searched["depths"], searched["speed_up"], strict=True)
        ],
    )


def _csv(document: Mapping[str, Any]) -> str:
    rows = [("batch_size", row["batch_size"], row) for row in document["by_batch"]]
    rows += [("context_tokens", row["context_tokens"], row) for row in document["by_context"]]
    columns = ("speed_up", "decode_pass_s", "iteration_s", "fits")
    body = [[axis, str(value), *(str(row[key]) for key in columns)] for axis, value, row in rows]
    return render_table(("axis", "value", *columns), body, Format.CSV)
