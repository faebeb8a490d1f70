"""What every way of decoding offers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from roofline.decoding.workload import Workload
from roofline.graph.step import Step
from roofline.quantity import Quantity
from roofline.timing.deployment import Deployment
from roofline.timing.pass_time import MemoryUse, Phase

__all__ = ["Decoding", "Iteration", "Loaded", "Pass"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pass:
    """A forward pass of a deployment, made `count` times.

    Parameters
    ----------
    host_s, device_s : Quantity
        Time around each pass, of the host and of the device, that the model's graph does not show [s].
    """

    deployment: Deployment
    step: Step
    phase: Phase
    count: Quantity = 1.0
    host_s: Quantity = 0.0
    device_s: Quantity = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """A deployment in memory, at the pass at which it holds most.

    Parameters
    ----------
    weights, cache : bool
        Whether its weights, and its caches and states, are its own; shared ones are counted once,
        where they belong.
    copies : Quantity
        Sets of weights like its own, of which a pass uses one.
    """

    deployment: Deployment
    step: Step
    weights: bool = True
    cache: bool = True
    copies: Quantity = 1.0

    def memory(self, *, activation_bytes: Quantity) -> MemoryUse:
        """Return what it adds to one device's memory; all models take turns at the activations."""
        use = self.deployment.memory(self.step, activation_bytes=activation_bytes)
        kept = {
            tier: {
                tensor: size * self.copies if tensor == "weights" else size
                for tensor, size in tensors.items()
                if self._counts(tensor)
            }
            for tier, tensors in use.used_bytes.items()
        }
        return replace(use, used_bytes=kept)

    def _counts(self, tensor: str) -> bool:
        if tensor in ("activations", "reserve"):
            return True
        return self.weights if tensor == "weights" else self.cache


@dataclass(frozen=True, kw_only=True, eq=False)
class Iteration:
    """Passes that follow each other, and the tokens per sequence they give."""

    passes: tuple[Pass, ...]
    tokens: Quantity


class Decoding(Protocol):
    """A way to turn passes into tokens."""

    @property
    def kind(self) -> str:
        """What a file calls it."""
        ...

    def prefill(self, target: Deployment, workload: Workload) -> tuple[Pass, ...]:
        """Return the passes before the first token."""
        ...

    def iteration(self, target: Deployment, workload: Workload, generated: Quantity) -> Iteration:
        """Return one iteration after `generated` tokens of each sequence are cached."""
        ...

    def loaded(self, target: Deployment, workload: Workload) -> tuple[Loaded, ...]:
        """Return everything that must fit in memory together at the end of the run."""
        ...

    def with_deployments(self, change: Callable[[Deployment], Deployment]) -> "Decoding":
        """Return the decoding with each deployment of its own changed."""
        ...
