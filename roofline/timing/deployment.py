"""A model as it is run: all that is needed to time one pass."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import ConfigDict

from roofline.errors import InvalidSpecError, nearest
from roofline.graph.formats import format_named
from roofline.graph.kernel_policy import KernelPolicy
from roofline.graph.model import ModelSpec
from roofline.graph.operator import Precision, Terms
from roofline.graph.parallelism import Parallelism
from roofline.graph.routing import Routing
from roofline.graph.schedule import Schedule
from roofline.graph.step import Step
from roofline.hardware import System
from roofline.quantity import Quantity, maximum
from roofline.timing.pass_time import TABLES, MemoryUse, PassTime, Phase
from roofline.timing.placement import Placement
from roofline.timing.runtime import Runtime, datasheet_runtime
from roofline.timing.tally import Tally, activations_of
from roofline.timing.timeline import Composition

__all__ = ["Deployment"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Deployment:
    """A model with formats, schedules, system, parallelism, placement and runtime.

    Parameters
    ----------
    policy : KernelPolicy or None
        Kernels to assume; None takes the runtime's.
    microbatches : int
        Parts a pass is cut into for the pipeline.
    reserve_fraction : float
        Share of each device memory that nothing of the model may use.
    engine_runtimes : mapping of engine to Runtime
        Of engines other than the device's first; the datasheet bound where an engine is not named.
    scale : mapping of fit kind to Quantity
        Factors on fitted times, and as ``pass_decode`` and ``pass_prefill`` on whole passes, set
        by perturbations.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    model: ModelSpec
    system: System
    runtime: Runtime
    precision: Precision = field(default_factory=Precision)
    parallelism: Parallelism = field(default_factory=Parallelism)
    routing: Routing = field(default_factory=Routing)
    policy: KernelPolicy | None = None
    schedules: tuple[Schedule, ...] = ()
    placement: Placement = field(default_factory=Placement)
    composition: Composition = field(default_factory=Composition)
    microbatches: int = 1
    reserve_fraction: float = 0.05
    engine_runtimes: Mapping[str, Runtime] = field(default_factory=dict)
    scale: Mapping[str, Quantity] = field(default_factory=dict)

    @property
    def terms(self) -> Terms:
        """The terms its blocks are run on."""
        return Terms(
            hidden_size=self.model.hidden_size,
            precision=self.precision,
            policy=self.runtime.policy if self.policy is None else self.policy,
            parallelism=self.parallelism,
            routing=self.routing,
        )

    def time(
        self, step: Step, phase: Phase, *, keep_rows: bool = False, tables: Collection[str] = TABLES
    ) -> PassTime:
        """Return how long one pass takes.

        Parameters
        ----------
        step : Step
            What the pass is asked to do, on all devices together.
        phase : str
            Only chooses how host and device streams compose.
        keep_rows : bool
            Whether to keep a row per operator; a grid keeps none.
        tables : collection of str
            Which breakdowns to make, of `TABLES`; the others stay empty.
        """
        parts = float(self.microbatches)
        tally = Tally(
            system=self.system,
            placement=self.placement,
            routing=self.routing,
            parallelism=self.parallelism,
            scale=self.scale,
            runtime_of=self.runtime_of,
            microbatches=parts,
            hidden_bytes=self._hidden_bytes(step.tokens / parts),
            tables=tables,
        )
        for operator in self.model.operators(step.share(parts), self.terms, self.schedules):
            tally.add(operator, keep_rows)
        return tally.result(
            phase,
            sequences=step.count / parts,
            layers=float(sum(self.model.layer_counts().values())),
            composition=self.composition,
        )

    def _hidden_bytes(self, tokens: Quantity) -> Quantity:
        """Hidden states of some tokens on one rank [B]."""
        bits = format_named(self.precision.hidden).bits
        return tokens / self.parallelism.data * self.model.hidden_size * bits / 8.0

    def runtime_of(self, engine: str) -> Runtime:
        """Return the runtime of one of the system's engines."""
        if engine == next(iter(self.system.device.engine)):
            return self.runtime
        return self.engine_runtimes.get(engine, datasheet_runtime(engine))

    def operations_s(self, count: Quantity) -> Quantity:
        """Return the host time of small tensor operations around the model [s]."""
        return count * self.runtime.host.per_operation_s * self.scale.get("host", 1.0)

    def memory(self, step: Step, *, activation_bytes: Quantity | None = None) -> MemoryUse:
        """Return what one device holds while it runs a pass, by tier and tensor.

        Parameters
        ----------
        step : Step
            The pass after which the cache is largest.
        activation_bytes : Quantity, optional
            Largest activations of a kernel where passes were timed already [B]; otherwise those of
            `step`.
        """
        device = self.system.device
        near = next(iter(device.memory))
        terms, stages = self.terms, self.parallelism.pipeline
        working = activation_bytes
        if working is None:
            rows = self.model.operators(step.share(self.microbatches), terms, self.schedules)
            working = maximum(0.0, *map(activations_of, rows))
        used: dict[str, dict[str, Quantity]] = {near: {}}
        for layer, block, tensor, size in self.weight_bytes():
            for tier, share in self.placement.stored(layer, block, tensor, memory=near).items():
                tier_used = used.setdefault(tier, {})
                tier_used["weights"] = tier_used.get("weights", 0.0) + share * size
        for layer, block, tensor, size in self.model.resident_by_block(step, terms, self.schedules):
            for tier, share in self.placement.stored(layer, block, tensor, memory=near).items():
                tier_used = used.setdefault(tier, {})
                tier_used[tensor] = tier_used.get(tensor, 0.0) + share * size / stages
        used[near]["activations"] = working
        capacity = self._capacities()
        for tier in used:
            if tier not in capacity:
                hint = nearest(tier, capacity)
                raise InvalidSpecError(f"{self.system.name}: there is no tier {tier!r}{hint}")
        used[near]["reserve"] = self.reserve_fraction * capacity[near]
        return MemoryUse(used_bytes=used, capacity_bytes={tier: capacity[tier] for tier in used})

    def weight_bytes(self) -> Iterator[tuple[str, str, str, Quantity]]:
        """Yield ``(layer, block, tensor, bytes)`` of one device's weights, over all equal layers [B]."""
        hidden = format_named(self.precision.hidden)
        for layer, block, weight, repeat in self.model.weights():
            stored = weight.local(self.parallelism).stored_bytes(
                self.precision.of_weight(layer, block, weight), hidden
            )
            tensor = "expert_weight" if weight.tensor == "expert_weight" else "weight"
            yield layer, block, tensor, repeat * stored / self.parallelism.pipeline

    def _capacities(self) -> dict[str, Quantity]:
        found = {name: memory.capacity_bytes for name, memory in self.system.device.memory.items()}
        if self.system.host is not None:
            host = next(iter(self.system.host.memory.values()))
            found["host"] = host.capacity_bytes / self.system.device_count
        if self.system.storage is not None:
            found["storage"] = self.system.storage.capacity_bytes
        return found
