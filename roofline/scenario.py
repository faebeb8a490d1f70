"""A scenario: a deployment, what is asked of it, and how it decodes."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from pydantic import ConfigDict

from roofline.decoding.autoregressive import Autoregressive
from roofline.decoding.union import AnyDecoding
from roofline.decoding.workload import Workload
from roofline.dotted_path import replace_at
from roofline.provenance import Citation
from roofline.timing.deployment import Deployment

__all__ = ["Scenario"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scenario:
    """Everything an analysis needs.

    Parameters
    ----------
    deployment : Deployment
        The model as it is run; it prefills too unless `prefill_deployment` does.
    workload : Workload
    decoding : decoding
    prefill_deployment : Deployment or None
        A pool of its own for prefill (disaggregated serving).
    citations : tuple of Citation
        Origins of the figures of model and system.
    assumptions : tuple of str
        What was assumed where nothing was said.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    deployment: Deployment
    workload: Workload = field(default_factory=Workload)
    decoding: AnyDecoding = field(default_factory=Autoregressive)
    prefill_deployment: Deployment | None = None
    citations: tuple[Citation, ...] = ()
    assumptions: tuple[str, ...] = ()

    def replace(self, **changes: Any) -> "Scenario":
        """Return the scenario with fields replaced; drafters follow a new deployment of their target."""
        changed = replace(self, **changes)
        return changed if "decoding" in changes else self._followed(changed)

    def replace_at(self, path: str, new: object) -> "Scenario":
        """Return the scenario with the part at a dotted path replaced, e.g. ``workload.batch_size``."""
        return self._followed(replace_at(self, path, new))

    def _followed(self, changed: "Scenario") -> "Scenario":
        """The changed scenario, its decoding's deployments standing where the target stands now.

        What ran on the target's system, under its runtime or over its ranks does so again; what was
        made of the target (its layers, heads on it) takes its formats too.
        """
        old, new = self.deployment, changed.deployment
        if new is old:
            return changed

        def follows(part: Deployment) -> Deployment:
            alike = {
                "system": part.system.name == old.system.name,
                "runtime": _run(part) == _run(old),
                "parallelism": _degrees(part) == _degrees(old),
                "precision": part.precision == old.precision and part.model.name.startswith(old.model.name),
            }
            return replace(part, **{name: getattr(new, name) for name, same in alike.items() if same})

        return replace(changed, decoding=changed.decoding.with_deployments(follows))


def _run(deployment: Deployment) -> tuple[str, str]:
    return deployment.runtime.device, deployment.runtime.software


def _degrees(deployment: Deployment) -> tuple[object, ...]:
    own = deployment.parallelism
    return own.tensor, own.pipeline, own.data, own.expert
