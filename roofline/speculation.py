"""Speculative decoding from the words a user writes: tree, acceptance and drafter."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from roofline.catalog.files import read_json
from roofline.decoding.acceptance import Acceptance, Given
from roofline.decoding.draft_heads import (
    autoregressive_head,
    first_layers,
    parallel_heads,
    prediction_module,
    sequential_heads,
)
from roofline.decoding.drafters import AnyDrafter, Lookup, ModelDrafter
from roofline.decoding.growth import confidence_ranked
from roofline.decoding.tree import SpecTree
from roofline.errors import InvalidSpecError, UnknownNameError, nearest
from roofline.timing.deployment import Deployment

__all__ = ["DraftSettings", "drafter_on", "make_acceptance", "make_tree", "on_target", "placed"]

_TREES: Final = ("chain", "tree", "dynamic", "parents", "choices")
_GIVEN: Final[tuple[Given, ...]] = ("depth", "rank", "retry", "heads", "tokens")
#: Drafters that need no model of their own, and what stands after the colon.
_ON_TARGET: Final = {
    "lookup": "", "medusa": "HEADS", "hydra": "HEADS", "eagle": "", "eagle3": "DRAFT_VOCABULARY",
    "block": "POSITIONS", "mtp": "", "self": "LAYERS", "short": "CONTEXT",
}  # fmt: skip


def make_tree(text: str, acceptance: Acceptance) -> SpecTree:
    """Return the tree a text describes.

    Parameters
    ----------
    text : str
        ``chain:5``; ``tree:4,2,2``, children of every node by level; ``dynamic:6,10,60``, depth,
        candidates kept per level, and nodes kept in the end; ``parents:-1,0,0,1``, parent of each node;
        ``choices:FILE.json``, a list of paths of ranks as Medusa and EAGLE publish them.
    acceptance : Acceptance
        Decides what a dynamic tree keeps.

    Raises
    ------
    InvalidSpecError, FileFormatError
        If the text, the file or the tree is impossible.
    """
    kind, _, rest = text.partition(":")
    if kind not in _TREES:
        raise InvalidSpecError(
            f"speculate: want one of {', '.join(_TREES)} and numbers such as tree:4,2,2, got {text!r}"
            f"{nearest(kind, _TREES)}"
        )
    if kind == "choices":
        return _chosen(Path(rest))
    numbers = _whole_numbers(rest, f"speculate: {kind}")
    if kind == "parents":
        return SpecTree.from_parents(numbers)
    if kind == "tree":
        return SpecTree.branching(numbers)
    if kind == "chain":
        if len(numbers) != 1:
            raise InvalidSpecError(f"speculate: want one length such as chain:5, got {text!r}")
        return SpecTree.chain(numbers[0])
    if len(numbers) != 3:
        raise InvalidSpecError(f"speculate: want dynamic:DEPTH,WIDTH,NODES, got {text!r}")
    depth, width, nodes = numbers
    return confidence_ranked(acceptance, depth=depth, width=width, nodes=nodes)


def _chosen(path: Path) -> SpecTree:
    document = read_json(path)
    paths = isinstance(document, list) and all(isinstance(entry, list) for entry in document)
    if not paths or not all(isinstance(rank, int) for entry in document for rank in entry):
        raise InvalidSpecError(f"{path}: want a list of paths, each a list of whole numbers")
    return SpecTree.from_choices(document)


def _whole_numbers(text: str, where: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InvalidSpecError(f"{where}: want whole numbers with commas between, got {text!r}") from None


def make_acceptance(text: str | float) -> Acceptance:
    """Return the acceptance a text describes.

    Parameters
    ----------
    text : str or float
        ``0.8``, or one rate for each depth ``0.8,0.6,0.4``; ``rank:0.63,0.11``, by candidate;
        ``heads:0.6,0.1;0.4,0.1``, by depth and candidate; ``retry:0.7,0.5``, by candidate given that
        those before it were rejected; ``tokens:3.6``, measured tokens per iteration.
    """
    given, _, rest = str(text).rpartition(":")
    given = given or "depth"
    for kind in _GIVEN:
        if kind == given:
            rows = tuple(_rates(row) for row in rest.split(";"))
            return Acceptance(given=kind, rates=rows)
    raise InvalidSpecError(f"accept: want rates or {', '.join(_GIVEN)} and rates, got {text!r}")


def _rates(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InvalidSpecError(f"accept: want numbers with commas between, got {text!r}") from None


@dataclass(frozen=True, kw_only=True, eq=False)
class DraftSettings:
    """What a user says about the drafter beyond its name.

    Parameters
    ----------
    tensor : float or None
        Ranks it is divided over; the target's where None.
    host_s : float
        Host time of a call beyond the runtime's own [s].
    """

    tensor: float | None = None
    host_s: float = 0.0


def on_target(name: str) -> bool:
    """Return whether a drafter of that name needs no model but the target's."""
    return name.partition(":")[0] in _ON_TARGET


def drafter_on(target: Deployment, name: str, given: DraftSettings) -> AnyDrafter:
    """Return the drafter of that name that needs no model but the target's.

    Parameters
    ----------
    name : str
        ``lookup``; ``medusa:5`` heads; ``hydra:4`` heads; ``eagle``, a layer on the target;
        ``eagle3:32000``, with a vocabulary of its own; ``block:4``, such a layer for 4 positions a
        call; ``mtp``, the model's own prediction module; ``self:8``, its first layers; ``short:8192``,
        the target itself over a shorter context.

    Raises
    ------
    UnknownNameError, InvalidSpecError
        If there is no such drafter, or its number is missing or impossible.
    """
    kind, _, rest = name.partition(":")
    if kind not in _ON_TARGET:
        raise UnknownNameError(f"no drafter is called {name!r}{nearest(kind, _ON_TARGET)}")
    if bool(rest) != bool(_ON_TARGET[kind]):
        wanted = f"{kind}:{_ON_TARGET[kind]}" if _ON_TARGET[kind] else kind
        raise InvalidSpecError(f"draft: want {wanted}, got {name!r}")
    if kind == "lookup":
        return Lookup(host_s=given.host_s)
    count = _whole_numbers(rest, f"draft: {kind}")[0] if rest else 0
    return placed(_built(target, kind, count), given)


def _built(target: Deployment, kind: str, count: int) -> ModelDrafter:
    if kind != "mtp" and kind != "eagle" and count < 1:
        raise InvalidSpecError(f"draft: want {kind}:{_ON_TARGET[kind]} of at least 1, got {count}")
    if kind == "medusa":
        return parallel_heads(target, count)
    if kind == "hydra":
        return sequential_heads(target, count)
    if kind == "eagle":
        return autoregressive_head(target)
    if kind == "eagle3":
        return autoregressive_head(target, draft_vocabulary=float(count))
    if kind == "block":
        return autoregressive_head(target, positions_per_call=count)
    if kind == "mtp":
        return prediction_module(target)
    if kind == "self":
        return first_layers(target, count)
    return ModelDrafter(deployment=target, shares="weights", context_tokens=float(count))


def placed(drafter: ModelDrafter, given: DraftSettings) -> ModelDrafter:
    """Return a drafter divided and driven as the user said."""
    deployment = drafter.deployment
    if given.tensor is not None:
        deployment = replace(deployment, parallelism=replace(deployment.parallelism, tensor=given.tensor))
    return replace(drafter, deployment=deployment, host_s=given.host_s)
