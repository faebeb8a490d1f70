"""Where bytes live and who computes: rules that cut an operator into parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import ClassVar

from pydantic import ConfigDict

from roofline.errors import InvalidSpecError
from roofline.graph.operator import Operator
from roofline.graph.routing import Routing
from roofline.quantity import Quantity, revised, total, where
from roofline.timing.expert_cache import ExpertCache
from roofline.units import Bytes, Count, Fraction, Seconds

__all__ = ["ACCESS_BYTES", "HOST_ENGINE", "QUEUE_DEPTH", "Cut", "Part", "Piece", "Placement", "Rule"]

#: Engines of the host processor are named ``host.cpu``; its memory is the tier ``host``.
HOST_ENGINE = "host."

#: How large weights are streamed from storage unless told: 1 MiB reads, 16 in flight, which reaches
#: 0.9 or more of every drive's sequential rate in the catalogue.
ACCESS_BYTES, QUEUE_DEPTH = 2.0**20, 16.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """One engine's piece of an operator.

    Parameters
    ----------
    engine : str or None
        Engine that computes; None is the device's first, ``host.cpu`` the host's processor.
    work : Quantity
        Share of the FLOPs, and of the bytes of tensors that `tiers` does not name, 0..1.
    tiers : mapping of tensor to mapping of tier to fraction
        Where this piece reads a tensor from, as shares of the whole operator's bytes of it; over
        all pieces they add up to 1. A tensor not named lies in the engine's nearest memory.
    prefetched : Quantity
        Share of the bytes from far tiers that are fetched while something else is computed; the
        engine waits for the rest, 0..1.
    access_bytes : Quantity
        Size of one read from storage [B].
    queue_depth : Quantity
        Reads in flight.
    range_bytes : Quantity or None
        Span of storage that reads jump about in [B]; None where they are in order.
    issuer : str
        Core that issues reads, a name in the storage's `issuers`; empty for the one it was measured on.
    read_s : Quantity
        Processor time of each read, in which the storage idles [s].
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    engine: str | None = None
    work: Fraction = 1.0
    tiers: Mapping[str, Mapping[str, Fraction]] = field(default_factory=dict)
    prefetched: Fraction = 1.0
    access_bytes: Bytes = ACCESS_BYTES
    queue_depth: Count = QUEUE_DEPTH
    range_bytes: Bytes | None = None
    issuer: str = ""
    read_s: Seconds = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Rule:
    """How some operators are placed.

    Parameters
    ----------
    pattern : str
        Shell pattern over ``layer.block``.
    reads : str or None
        Only operators that read this tensor, and only that tensor's stored bytes; None is all.
    layers : Quantity
        Share of the matching layers that it places, 0..1; the rest falls to later rules.
    pieces : tuple of Piece
        Work side by side on an operator; their `work` adds up to 1.
    stored : mapping of tensor to mapping of tier to fraction
        What of a tensor stays in each tier between passes, where that is not where it is read from.
    cache : ExpertCache or None
        Serves expert weights from the first piece's memory; then the last piece has what is missed, reading
        it from where its `tiers` say, and the first piece the hits.
    fetch_above : Quantity or None
        Tokens of a pass above which the first piece also has what is missed, fetching it from there.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    pattern: str
    reads: str | None = None
    layers: Fraction = 1.0
    pieces: tuple[Piece, ...] = (Piece(),)
    stored: Mapping[str, Mapping[str, Fraction]] = field(default_factory=dict)
    cache: ExpertCache | None = None
    fetch_above: Count | None = None

    def places(self, operator: Operator) -> bool:
        """Return whether this rule is about that operator."""
        if self.reads is not None and self.reads not in operator.read:
            return False
        return fnmatchcase(f"{operator.layer}.{operator.block}", self.pattern)

    def kept(self, tensor: str, *, memory: str) -> Mapping[str, Quantity]:
        """Return the shares of a tensor by tier between passes."""
        if tensor in self.stored:
            return self.stored[tensor]
        shares: dict[str, list[Quantity]] = {}
        named = any(tensor in piece.tiers for piece in self.pieces)
        for piece in self.pieces:
            own = _nearest(piece.engine, memory)
            for tier, share in piece.tiers.get(tensor, {} if named else {own: piece.work}).items():
                shares.setdefault(tier, []).append(share)
        return {tier: total(parts) for tier, parts in shares.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """The part of an operator that one engine computes, and its bytes by tier."""

    operator: Operator
    engine: str
    flops: Quantity
    tiers: Mapping[str, Quantity]
    prefetched: Quantity = 1.0
    access_bytes: Quantity = ACCESS_BYTES
    queue_depth: Quantity = QUEUE_DEPTH
    range_bytes: Quantity | None = None
    issuer: str = ""
    read_s: Quantity = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """Parts that run side by side, in a share of an operator's layers."""

    layers: Quantity
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Placement:
    """Rules in order: the first that matches an operator places it, in its share of the layers.

    Parameters
    ----------
    by_size : bool
        Whether their shares were worked out from sizes, so that other sizes want other rules.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    rules: tuple[Rule, ...] = ()
    by_size: bool = False

    def cut(self, operator: Operator, *, engine: str, memory: str, routing: Routing) -> tuple[Cut, ...]:
        """Return how an operator is placed; `engine` and `memory` are the defaults.

        Raises
        ------
        InvalidSpecError
            If an expert cache is put before an operator that is no mixture of experts.
        """
        cuts: list[Cut] = []
        left: Quantity = 1.0
        for rule in self.rules:
            if not rule.places(operator):
                continue
            pieces = rule.pieces
            if rule.cache is not None:
                pieces = _served(rule, rule.cache, operator, memory, routing)
            parts = tuple(_part(operator, piece, pieces, engine, memory) for piece in pieces)
            share = left * rule.layers
            if isinstance(rule.layers, float) and rule.layers == 1.0:
                return (*cuts, Cut(layers=left, parts=parts))
            cuts.append(Cut(layers=share, parts=parts))
            left = left - share
        own = Part(operator=operator, engine=engine, flops=operator.flops, tiers={memory: operator.bytes})
        return (*cuts, Cut(layers=left, parts=(own,)))

    def stored(self, layer: str, block: str, tensor: str, *, memory: str) -> Mapping[str, Quantity]:
        """Return the shares of a tensor by tier between passes, as memory accounting sees them."""
        shares: dict[str, list[Quantity]] = {}
        left: Quantity = 1.0
        for rule in self.rules:
            if rule.reads not in (None, tensor) or not fnmatchcase(f"{layer}.{block}", rule.pattern):
                continue
            placed = left * rule.layers
            for tier, share in rule.kept(tensor, memory=memory).items():
                shares.setdefault(tier, []).append(placed * share)
            left = left - placed
        if not shares:
            return {memory: 1.0}
        shares.setdefault(memory, []).append(left)
        return {tier: total(parts) for tier, parts in shares.items()}


def _nearest(engine: str | None, memory: str) -> str:
    """Name of the memory that an engine computes from."""
    return "host" if engine is not None and engine.startswith(HOST_ENGINE) else memory


def _served(
    rule: Rule, cache: ExpertCache, operator: Operator, memory: str, routing: Routing
) -> tuple[Piece, ...]:
    """The pieces of a rule, hits read from the first one's memory, misses from where the last one says."""
    shape = operator.shape
    if "top_k" not in shape:
        raise InvalidSpecError(f"{operator.layer}.{operator.block}.{operator.name}: has no experts to cache")
    hits = cache.hits(experts=shape["experts"], top_k=shape["top_k"], tokens=shape["tokens"], routing=routing)
    first, last = rule.pieces[0], rule.pieces[-1]
    source = last.tiers["expert_weight"]
    missed = {tier: (1.0 - hits.experts) * share for tier, share in source.items()}
    own = _nearest(first.engine, memory)
    found = {own: hits.experts}
    if len(rule.pieces) == 1:
        found[own] = found[own] + missed.pop(own, 0.0)
        return (_with_experts(first, 1.0, {**found, **missed}),)
    fetched = 0.0 if rule.fetch_above is None else where(shape["tokens"] > rule.fetch_above, 1.0, 0.0)
    near = {**found, **{tier: share * fetched for tier, share in missed.items()}}
    left = {tier: share * (1.0 - fetched) for tier, share in missed.items()}
    computed = (1.0 - hits.visits) * (1.0 - fetched)
    return (
        _with_experts(first, 1.0 - computed, found if rule.fetch_above is None else near),
        _with_experts(last, computed, left),
    )


def _with_experts(piece: Piece, work: Quantity, experts: Mapping[str, Quantity]) -> Piece:
    return revised(piece, work=work, tiers={**piece.tiers, "expert_weight": experts})


def _part(operator: Operator, piece: Piece, pieces: tuple[Piece, ...], engine: str, memory: str) -> Part:
    own = _nearest(piece.engine, memory)
    sizes: dict[str, list[Quantity]] = {}
    for traffic in (operator.read, operator.written):
        for tensor, size in traffic.items():
            named = any(tensor in other.tiers for other in pieces)
            for tier, share in piece.tiers.get(tensor, {} if named else {own: piece.work}).items():
                sizes.setdefault(tier, []).append(size * share)
    return Part(
        operator=operator,
        engine=piece.engine or engine,
        flops=operator.flops * piece.work,
        tiers={tier: total(parts) for tier, parts in sizes.items()},
        prefetched=piece.prefetched,
        access_bytes=piece.access_bytes,
        queue_depth=piece.queue_depth,
        range_bytes=piece.range_bytes,
        issuer=piece.issuer,
        read_s=piece.read_s,
    )
