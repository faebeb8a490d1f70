"""Adds up the operators of one pass: parts side by side, streams of a layer, then host and device."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from roofline.graph.operator import Operator
from roofline.graph.parallelism import Parallelism
from roofline.graph.routing import Routing
from roofline.hardware import System
from roofline.quantity import Quantity, maximum, revised, total, where
from roofline.timing.cost import COLLECTIVES, Cost, cost_of, side_by_side_s
from roofline.timing.pass_time import PassTime, Phase, Row
from roofline.timing.placement import HOST_ENGINE, Cut, Part, Placement
from roofline.timing.runtime import Runtime
from roofline.timing.timeline import Composition

__all__ = ["Tally", "activations_of"]


#: Transfers from far tiers among what an interval moves, and their log-quantiles of true over predicted
#: time: stated rates are the most a link or a drive gives (docs/offload.md, "How sure").
_TRANSFER: Final = "transfer"
_TRANSFER_SPREAD: Final = (0.0, 0.9)


class Tally:
    """Adds up the rows of one pass as they come.

    Parameters
    ----------
    system, placement, routing, parallelism, scale
        As in `Deployment`.
    runtime_of : callable
        The runtime of an engine.
    microbatches : float
        Parts the pass is cut into; rows are of one.
    hidden_bytes : Quantity
        Hidden states of one part's tokens on one rank [B].
    tables : collection of str
        Which breakdowns to make, of `TABLES`.
    """

    def __init__(
        self,
        *,
        system: System,
        placement: Placement,
        routing: Routing,
        parallelism: Parallelism,
        scale: Mapping[str, Quantity],
        runtime_of: Callable[[str], Runtime],
        microbatches: float,
        hidden_bytes: Quantity,
        tables: Collection[str],
    ) -> None:
        self.system, self.placement, self.routing = system, placement, routing
        self.parallelism, self.scale, self.runtime_of = parallelism, scale, runtime_of
        self.microbatches, self.hidden_bytes = microbatches, hidden_bytes
        self.engine = next(iter(system.device.engine))
        self.memory = next(iter(system.device.memory))
        self.streams: dict[str, dict[str, list[Quantity]]] = {}
        self.far_busy: dict[str, dict[str, list[Quantity]]] = {}
        self.other_busy: dict[str, list[Quantity]] = {}
        self.ideal_streams: dict[str, dict[str, list[Quantity]]] = {}
        self.terms: dict[str, dict[str, list[Quantity]]] = {name: {} for name in ("time", *tables)}
        self.activation_bytes: Quantity = 0.0
        self.spread: dict[str, tuple[float, float]] = {}
        self.runs_as: dict[str, str] = {}
        self.rows: list[Row] = []
        self.ranks = parallelism.tensor * parallelism.data
        self.copies = self.ranks * microbatches
        self._layer, self._on_host = "", False

    @property
    def _lateness(self) -> Quantity:
        """Factor on transfers from far tiers."""
        return self.scale.get(_TRANSFER, 1.0)

    def _add(self, table: str, key: str, value: Quantity) -> None:
        self.terms[table].setdefault(key, []).append(value)

    def add(self, operator: Operator, keep: bool) -> None:
        """Add all launches of an operator; `keep` also keeps a row of it."""
        self.activation_bytes = maximum(self.activation_bytes, activations_of(operator))
        cuts = self.placement.cut(operator, engine=self.engine, memory=self.memory, routing=self.routing)
        everywhere = operator.kernels * operator.repeat
        self._add("time", "kernels", everywhere)
        if "tensor" in self.terms:
            for traffic in (operator.read, operator.written):
                for tensor, size in traffic.items():
                    self._add("tensor", tensor, everywhere * size)
        self._hand_over(operator, cuts, everywhere)
        for cut in cuts:
            launches = everywhere * cut.layers
            costs = [
                cost_of(part, self.system, self.runtime_of(part.engine), self.scale, sharers=self.ranks)
                for part in cut.parts
            ]
            self._add_parts(operator, cut.parts, costs, launches, keep)

    def _hand_over(self, operator: Operator, cuts: Iterable[Cut], everywhere: Quantity) -> None:
        """Add what turning from the device to the host's processor and back costs, once for each turn.

        Hidden states go over the link and return; the host is woken and waited for (`per_handover_s`
        of its runtime). A layer that begins on the host follows one that ended there.
        """
        away = [
            (cut.layers, part) for cut in cuts for part in cut.parts if part.engine.startswith(HOST_ENGINE)
        ]
        turns = bool(away) and not self._on_host and operator.layer == self._layer
        self._layer, self._on_host = operator.layer, bool(away)
        link = self.system.host_link
        if not turns or link is None:
            return
        wire_s = 2.0 * (self.hidden_bytes / link.bandwidth_bytes_per_s + link.latency_s)
        for share, part in away:
            often = everywhere * share * where(part.flops > 0, 1.0, 0.0)
            waits_s = often * (wire_s + self.runtime_of(part.engine).host.per_handover_s)
            self._stream(self.streams, operator.layer, "engine", waits_s)
            self._stream(self.ideal_streams, operator.layer, "engine", often * wire_s)
            self._add("time", "no_overlap", often * wire_s)
            if "bound" in self.terms:
                self._add("bound", "transfer", waits_s)
            if "basis" in self.terms:
                self._add("basis", self.runtime_of(part.engine).host.basis, waits_s)

    def _add_parts(
        self, operator: Operator, parts: tuple[Part, ...], costs: list[Cost], launches: Quantity, keep: bool
    ) -> None:
        """Add parts that run side by side; their time is shared out by what each takes alone."""
        system = self.system
        link = operator.kind in COLLECTIVES
        stream = "link" if link else "engine"
        late = self._lateness
        bare = [
            (1.0 - part.prefetched) * total(cost.transfer_s.values()) if cost.transfer_s else None
            for part, cost in zip(parts, costs, strict=True)
        ]
        waits = [None if wait is None else wait * late for wait in bare]
        alone = [
            cost.device_s if wait is None else cost.device_s + wait
            for cost, wait in zip(costs, waits, strict=True)
        ]
        ideal = [maximum(cost.compute_s, cost.memory_s) for cost in costs]
        bounds = [own if wait is None else own + wait for own, wait in zip(ideal, bare, strict=True)]
        together = launches * side_by_side_s(alone, costs, system)
        self._stream(self.streams, operator.layer, stream, together)
        self._stream(
            self.ideal_streams, operator.layer, stream, launches * side_by_side_s(bounds, costs, system)
        )
        for part, cost, wait, own in zip(parts, costs, waits, alone, strict=True):
            device_s = together
            if len(parts) > 1:
                device_s = together * own / maximum(total(alone), 1e-300)
            self._add_transfers(operator.layer, part, cost, launches)
            if part.engine != self.engine:
                self.other_busy.setdefault(part.engine, []).append(launches * cost.device_s)
            waited_s = None if wait is None else device_s * wait / maximum(own, 1e-300)
            self._attribute(cost, device_s, waited_s, link)
            if "tier" in self.terms:
                for tier, size in part.tiers.items():
                    self._add("tier", "link" if link else tier, launches * size)
            self._add("time", "no_overlap", launches * cost.no_overlap_s)
            self._add("time", "flops", launches * part.flops)
            if cost.fit_kind:
                low, high = self.spread.get(cost.fit_kind, (0.0, 0.0))
                self.spread[cost.fit_kind] = (min(low, cost.low), max(high, cost.high))
            if operator.compute_format and operator.compute_format != cost.runs_as:
                self.runs_as[operator.compute_format] = cost.runs_as
            if keep:
                self.rows.append(
                    Row(operator=_own_work(operator, part, parts), engine=part.engine, cost=cost,
                        launches=launches, ideal_s=launches * cost.ideal_s, time_s=device_s,
                        copies=self.copies)
                )  # fmt: skip

    def _add_transfers(self, layer: str, part: Part, cost: Cost, launches: Quantity) -> None:
        """Add what far tiers fetch ahead of a part, and how long they are busy for it."""
        for tier, seconds in cost.transfer_s.items():
            far = "host_memory" if tier == "host" else tier
            ahead = launches * part.prefetched * seconds
            self._stream(self.streams, layer, far, ahead * self._lateness)
            self._stream(self.ideal_streams, layer, far, ahead)
            self._stream(self.far_busy, layer, far, launches * seconds)
            self.spread[_TRANSFER] = _TRANSFER_SPREAD

    def _attribute(self, cost: Cost, device_s: Quantity, waited_s: Quantity | None, link: bool) -> None:
        """Add a row's time to what it rests on and to what bound it, which `_bound` says as a code."""
        if "basis" in self.terms:
            computed = device_s if waited_s is None else device_s - waited_s
            self._add("basis", cost.basis, computed)
            if waited_s is not None:
                self._add("basis", "datasheet", waited_s)
        if "bound" not in self.terms:
            return
        if link:
            self._add("bound", "link", device_s)
            return
        if waited_s is not None:
            self._add("bound", "transfer", waited_s)
            device_s = device_s - waited_s
        slow = where(cost.overhead_binds, device_s, 0.0)
        compute = where(cost.compute_binds, device_s - slow, 0.0)
        self._add("bound", "overhead", slow)
        self._add("bound", "compute", compute)
        self._add("bound", "memory", device_s - slow - compute)

    @staticmethod
    def _composed(
        composition: Composition,
        streams: Mapping[str, Mapping[str, Quantity]],
        far: Mapping[str, Mapping[str, Quantity]],
    ) -> Quantity:
        """The time of all layers; a far tier serves what is waited for and what is fetched ahead in turn."""
        return total(
            maximum(composition.compose(lengths), *far.get(layer, {}).values())
            for layer, lengths in streams.items()
        )

    @staticmethod
    def _stream(
        table: dict[str, dict[str, list[Quantity]]], layer: str, stream: str, seconds: Quantity
    ) -> None:
        table.setdefault(layer, {}).setdefault(stream, []).append(seconds)

    def result(
        self, phase: Phase, *, sequences: Quantity, layers: float, composition: Composition
    ) -> PassTime:
        """Return the pass of everything added.

        Parameters
        ----------
        phase : str
            Chooses how host and device streams compose.
        sequences : Quantity
            Of one microbatch.
        layers : float
            Of the whole model.
        """
        sums = {name: _totals(table) for name, table in self.terms.items()}
        times = sums["time"]
        streams = {layer: _totals(lengths) for layer, lengths in self.streams.items()}
        host = self.runtime_of(self.engine).host
        parts, stages = self.microbatches, self.parallelism.pipeline
        far = {layer: _totals(lengths) for layer, lengths in self.far_busy.items()}
        late = {
            layer: {tier: seconds * self._lateness for tier, seconds in lengths.items()}
            for layer, lengths in far.items()
        }
        device_s = self._composed(composition, streams, late)
        alike = _ALIKE.get(phase, phase)
        host_s = self._host_s(alike, sequences=sequences, layers=layers, kernels=times["kernels"])
        composed = host.composition.get(phase, host.composition.get(alike))
        together = device_s + host_s if composed == "sum" else maximum(device_s, host_s)
        ideal_s = self._composed(
            composition, {name: _totals(part) for name, part in self.ideal_streams.items()}, far
        )
        waited_s = maximum(together - device_s, 0.0)
        moved = self.scale.get(f"pass_{alike}")
        if moved is not None:
            together = maximum(together * moved, ideal_s)
        bound, basis = dict(sums.get("bound", {})), dict(sums.get("basis", {}))
        if far:
            behind_s = _behind(streams, device_s)
            for table, name in ((bound, "transfer"), (basis, "datasheet")):
                table[name] = table.get(name, 0.0) + behind_s
        if "bound" in self.terms:
            bound["host"] = waited_s
        fill = (parts + stages - 1.0) / stages
        every = self.copies
        return PassTime(
            time_s=together * fill,
            ideal_s=ideal_s * fill,
            no_overlap_s=times["no_overlap"] * fill,
            steady_s=together * maximum(parts, stages) / stages,
            host_s=host_s,
            bound_s=bound,
            busy_s=self._busy_s(streams, late, host_s),
            basis_s=basis,  # type: ignore[arg-type]
            flops=every * times["flops"],
            bytes_by_tensor={name: every * size for name, size in sums.get("tensor", {}).items()},
            bytes_by_tier={name: every * size for name, size in sums.get("tier", {}).items()},
            spread={**self.spread, f"pass_{alike}": host.spread(alike)},
            runs_as=self.runs_as,
            activation_bytes=self.activation_bytes,
            streams_s=streams if self.rows else {},
            rows=tuple(self.rows),
        )

    def _host_s(self, phase: str, *, sequences: Quantity, layers: float, kernels: Quantity) -> Quantity:
        """Time of the host for one microbatch, as the runtime of the first engine has it [s]."""
        host = self.runtime_of(self.engine).host
        return (
            host.per_pass_s
            + (host.per_prompt_s if phase == "prefill" else 0.0)
            + host.per_layer_s * layers
            + host.per_kernel_s * kernels
            + host.per_sequence_s * sequences / self.parallelism.data
        ) * self.scale.get("host", 1.0)

    def _busy_s(
        self,
        streams: Mapping[str, Mapping[str, Quantity]],
        late: Mapping[str, Mapping[str, Quantity]],
        host_s: Quantity,
    ) -> dict[str, Quantity]:
        """How long the host, each engine, link and tier works in all layers; empty unless asked for [s]."""
        if "busy" not in self.terms:
            return {}
        busy: dict[str, list[Quantity]] = {"host": [host_s], **self.other_busy}
        for layer, lengths in streams.items():
            for stream, seconds in {**lengths, **late.get(layer, {})}.items():
                busy.setdefault(stream, []).append(seconds)
        return _totals(busy)


def _behind(streams: Mapping[str, Mapping[str, Quantity]], device_s: Quantity) -> Quantity:
    """Time that the device waits for far tiers, behind what is attributed row by row [s]."""
    own = (seconds for lengths in streams.values() for name, seconds in lengths.items() if name in _OWN)
    return maximum(device_s - total(own), 0.0)


#: Passes that are off together: what holds one of few tokens up holds all of them up.
_ALIKE: Final[Mapping[str, str]] = {"verification": "decode", "draft": "decode", "encode": "prefill"}

#: Streams whose time is attributed row by row.
_OWN: Final = ("engine", "link")


def _own_work(operator: Operator, part: Part, parts: tuple[Part, ...]) -> Operator:
    """The operator with only the work and, by the part's share of them, the bytes of one part."""
    if len(parts) == 1:
        return operator
    whole = maximum(total(size for other in parts for size in other.tiers.values()), 1e-300)
    share = total(part.tiers.values()) / whole
    return revised(
        operator,
        flops=part.flops,
        read={tensor: size * share for tensor, size in operator.read.items()},
        written={tensor: size * share for tensor, size in operator.written.items()},
    )


def activations_of(operator: Operator) -> Quantity:
    """Return the activations that one launch of an operator reads and writes [B]."""
    return total(traffic.get("activation", 0.0) for traffic in (operator.read, operator.written))


def _totals(table: Mapping[str, list[Quantity]]) -> dict[str, Quantity]:
    return {key: total(values) for key, values in table.items()}
