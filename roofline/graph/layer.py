"""Layers by name, and the order they stand in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from roofline.graph.blocks.union import AnyBlock

__all__ = ["Layer", "Run", "layer_counts", "layer_names"]

Layer = Mapping[str, AnyBlock]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Layers in order, the whole run `repeat` times."""

    layers: tuple[str, ...]
    repeat: int = 1


def layer_names(order: Iterable[Run]) -> tuple[str, ...]:
    """Return the layer at each depth, in order."""
    return tuple(name for run in order for _ in range(run.repeat) for name in run.layers)


def layer_counts(order: Iterable[Run]) -> dict[str, int]:
    """Return how often each layer occurs."""
    counts: dict[str, int] = {}
    for run in order:
        for name in run.layers:
            counts[name] = counts.get(name, 0) + run.repeat
    return counts
