"""The answer of `roofline speculate` as sections for the screen, and as CSV."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from roofline.cli.output import Format
from roofline.cli.sections import Section
from roofline.cli.tables import count, percent, quantity, render_table
from roofline.decoding.tree import SpecTree

__all__ = ["speculation_csv", "speculation_sections"]

#: Nodes of the trees in the table of a search.
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
#: Nodes drawn of a tree; the rest is counted.
_DRAWN: Final = 40


def speculation_sections(tree: SpecTree, document: Mapping[str, Any]) -> Iterator[Section]:
    """Yield verdict, tree, parts of an iteration, and speed-ups by batch and context."""
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


def _drawn(tree: SpecTree) -> Iterator[str]:
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


def speculation_csv(document: Mapping[str, Any]) -> str:
    """Return speed-ups by batch and context as CSV."""
    rows = [("batch_size", row["batch_size"], row) for row in document["by_batch"]]
    rows += [("context_tokens", row["context_tokens"], row) for row in document["by_context"]]
    columns = ("speed_up", "decode_pass_s", "iteration_s", "fits")
    body = [[axis, str(value), *(str(row[key]) for key in columns)] for axis, value, row in rows]
    return render_table(("axis", "value", *columns), body, Format.CSV)
