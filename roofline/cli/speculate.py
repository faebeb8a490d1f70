"""`roofline speculate`: which tree to draft, what it gains, and where that ends."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from roofline.cli.flags import Given, takes_settings
from roofline.cli.output import FileOption, Format, FormatOption, as_json, write
from roofline.cli.sections import render
from roofline.cli.speculation_sections import speculation_csv, speculation_sections
from roofline.errors import InvalidSpecError

if TYPE_CHECKING:
    from roofline.decoding.speculative import Speculative
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

#: Batches and contexts at which the tree is shown again.
_BATCHES: Final = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)
_CONTEXTS: Final = (512.0, 2048.0, 8192.0, 32768.0)


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
        write(speculation_csv(document), out)
    else:
        title = f"{scenario.deployment.model.name} on {scenario.deployment.system.name}: speculative decoding"
        write(render(title, speculation_sections(decoding.tree, document), form), out)


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
