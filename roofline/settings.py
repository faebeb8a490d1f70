"""The keys a user sets, on the command line, in a scenario file or as keyword arguments alike."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pydantic import ConfigDict

from roofline.catalog.fits import load_runtime
from roofline.catalog.hardware import load_link, load_system
from roofline.catalog.models import load_model
from roofline.catalog.precision import with_formats
from roofline.catalog.sourced import validated
from roofline.decoding.autoregressive import Autoregressive
from roofline.decoding.union import AnyDecoding
from roofline.decoding.workload import Workload
from roofline.errors import InvalidSpecError
from roofline.graph.kernel_policy import KernelPolicy
from roofline.graph.model import ModelSpec
from roofline.graph.operator import Precision
from roofline.graph.parallelism import Parallelism
from roofline.offload_settings import OffloadSettings
from roofline.overrides import set_value
from roofline.scenario import Scenario
from roofline.timing.deployment import Deployment
from roofline.timing.runtime import Runtime, datasheet_runtime
from roofline.units import LARGEST_AMOUNT, parse
from roofline.workload_settings import allocated, pixels, refuse_beyond_context, with_images

if TYPE_CHECKING:
    from roofline.decoding.acceptance import Acceptance
    from roofline.decoding.drafters import AnyDrafter
    from roofline.decoding.tree import SpecTree

__all__ = ["RULED", "Settings", "settings_of"]

#: Least value of each amount.
_LEAST: Final = {
    "batch": 1, "prompt": 1, "output": 1, "samples": 1, "context": 1, "chunk": 1, "prefix_shared_by": 1,
    "prefix": 0, "images": 0,
}  # fmt: skip
#: How an acceptance that a file has begins.
CURVE: Final = "curve:"
#: How the assumption that tells of format rules begins.
RULED: Final = "formats by rule: "
_MOST_CHUNKS: Final = 1e4  # each is a pass of its own to add up


@dataclass(frozen=True, kw_only=True, eq=False)
class Settings(OffloadSettings):
    """Everything a user may say about one scenario; None means: as model, device or default has it.

    Where a model lives that does not fit is said as in `OffloadSettings`.

    Parameters
    ----------
    model, hardware : str
        Catalogue names or files.
    devices : float or None
        How many; divided by tensor parallelism unless the degrees below say otherwise.
    batch, prompt, output, context, samples, prefix, prefix_shared_by, images, chunk
        The workload, as in `Workload`; the model's encoder says how many tokens an image is.
    image_size : str
        Width and height of every image [pixels].
    weights, activations, kv : str or None
        Number formats.
    kv_alloc : str
        How cache memory is allocated: ``growth``, exactly what is filled; ``paged`` or ``paged:BLOCK``,
        whole blocks, of 16 tokens where not said; ``max`` or ``max:TOKENS``, that many for each
        sequence from the start, the model's context where not said.
    format_rule : tuple of str
        Formats of single weights, each ``PATTERN=FORMAT`` as in
        `roofline.catalog.format_rules.with_format_rules`.
    tensor, pipeline, data, expert : float or None
        Degrees of parallelism.
    software : str or None
        Runtime profile; ``datasheet`` for none.
    flash : bool or None
        Whether attention is fused.
    speculate : str or None
        Draft tree, e.g. ``chain:5`` or ``tree:4,2,2``; None decodes one token at a time.
    accept : str, float or None
        Acceptance of drafted tokens, e.g. ``0.8`` or ``0.8,0.6,0.4``; ``curve:FILE`` takes it from a
        table over drafter size, draft tokens and batch.
    draft : str or None
        Drafter: a model of the catalogue, or ``eagle``, ``medusa:5`` ... on the target; None looks
        drafts up.
    draft_weights : str or None
        Weight format of a draft model; None is its checkpoint's.
    draft_tensor : float or None
        Tensor parallelism of the drafter; None is the target's.
    draft_host : str or None
        Host time of a draft call beyond the runtime's own, e.g. ``0.5 ms``.
    link : str or None
        Catalogue name of the link that joins the devices, e.g. ``wifi-6``; None is the device's own.
    host, storage : str or None
        Catalogue names of the processor beside the devices and of the storage behind it; where a model is
        offloaded from a device that has none, None is what is usually found there.
    set : mapping of str to str
        Any other figure by dotted path, e.g. ``memory.hbm.bandwidth = "4.8 TB/s"``.
    technique : tuple of str
        Published techniques on top of everything else, each ``name`` or ``name:setting=value,...``.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    model: str
    hardware: str
    devices: float | None = None
    batch: float = 1.0
    prompt: float = 1024.0
    output: float = 128.0
    context: float | None = None
    samples: float = 1.0
    prefix: float = 0.0
    prefix_shared_by: float = 1.0
    images: float = 0.0
    image_size: str = "1024x1024"
    chunk: float | None = None
    weights: str | None = None
    activations: str | None = None
    kv: str | None = None
    kv_alloc: str = "growth"
    format_rule: tuple[str, ...] = ()
    tensor: float | None = None
    pipeline: float | None = None
    data: float | None = None
    expert: float | None = None
    software: str | None = None
    flash: bool | None = None
    speculate: str | None = None
    accept: str | float | None = None
    draft: str | None = None
    draft_weights: str | None = None
    draft_tensor: float | None = None
    draft_host: str | None = None
    link: str | None = None
    host: str | None = None
    storage: str | None = None
    set: Mapping[str, str] = field(default_factory=dict)
    technique: tuple[str, ...] = ()

    def scenario(self) -> Scenario:
        """Return the scenario these settings describe.

        Raises
        ------
        RooflineError
            If a name is unknown, a value impossible, or two settings contradict each other.
        """
        self._check()
        model = load_model(self.model)
        parallelism = self._parallelism()
        system = load_system(self.hardware, devices=self.devices or float(parallelism.devices))
        if self._degrees() is None:
            parallelism = Parallelism(tensor=float(system.value.device_count))
        if float(parallelism.devices) != float(system.value.device_count):
            raise InvalidSpecError(
                f"tensor x pipeline x data = {parallelism.devices:g}, but there are "
                f"{system.value.device_count:g} devices"
            )
        device = system.value.device
        runtime = self._runtime(system.name if system.value.name == device.name else device.name)
        spec, precision = self._formats(model.value)
        deployment = Deployment(
            model=spec,
            system=dataclasses.replace(system.value, device=device.led_by(runtime.engine)),
            runtime=runtime,
            precision=precision,
            parallelism=parallelism,
            policy=self._policy(runtime),
            microbatches=int(max(1.0, min(float(parallelism.pipeline), self.batch * self.samples))),
        )
        scenario = Scenario(
            deployment=deployment,
            workload=self._workload(spec),
            decoding=self._decoding(deployment),
            citations=(*model.citations, *system.citations),
            assumptions=(*model.assumptions, *self._assumptions(deployment)),
        )
        scenario = self._with_machine(self._linked(scenario))
        for path, text in self.set.items():
            scenario = set_value(scenario, path, text)
        return self._with_techniques(self._offloaded(scenario))

    def _assumptions(self, deployment: Deployment) -> Iterator[str]:
        yield f"{deployment.reserve_fraction:.0%} of each device's memory is kept in reserve"
        yield "every request of the batch arrives at once; no queueing"
        weights = (weight for *_, weight, _ in deployment.model.weights())
        if self.weights == "fp8" and any(weight.tensor == "expert_weight" for weight in weights):
            yield "fp8 has one scale per tensor; with scales per block (DeepSeek, Qwen3) it is fp8_block"
        if deployment.runtime.host.per_sequence_s > 0.0:
            yield "host time is of loaded servers: prefills of others that share passes with decode are in it"
        if self.format_rule:
            yield RULED + ", ".join(self.format_rule)
        if str(self.accept).startswith(CURVE):
            yield f"tokens per iteration are those of {self.accept} at a batch of {self.batch:g}"
        if deployment.runtime.software == "datasheet":
            yield f"no runtime profile for {deployment.system.device.name}: times are datasheet bounds"

    def _linked(self, scenario: Scenario) -> Scenario:
        if self.link is None:
            return scenario
        link = load_link(self.link)
        joined = scenario.replace_at("deployment.system.peer_link", link.value)
        return joined.replace(citations=(*joined.citations, *link.citations))

    def _with_machine(self, scenario: Scenario) -> Scenario:
        if self.host is None and self.storage is None:
            return scenario
        from roofline.catalog.usual_hosts import with_machine

        return with_machine(scenario, host=self.host, storage=self.storage)

    # Few scenarios offload, speculate or apply a technique: what does is imported where one asks for it.

    def _offloaded(self, scenario: Scenario) -> Scenario:
        if not self.offloads():
            return scenario
        from roofline.offloading import offloaded

        return offloaded(scenario, self)

    def _with_techniques(self, scenario: Scenario) -> Scenario:
        if not self.technique:
            return scenario
        from roofline.techniques.table import apply_techniques

        return apply_techniques(scenario, self.technique, taken=self._taken())

    def _taken(self) -> dict[str, str]:
        """Slots that these settings fill, which no technique may fill again."""
        formats = (self.weights, self.activations)
        taken = {"deployment.precision.weights": "weights"} if any(formats) else {}
        if self.format_rule:
            taken["deployment.precision.rules"] = "format_rule"
        if self.offloads():
            taken["deployment.placement"] = "offloading"
        return {**taken, "decoding": "speculate"} if self.speculate is not None else taken

    def _check(self) -> None:
        for name in ("tensor", "pipeline", "data", "expert", "devices", "draft_tensor"):
            value = getattr(self, name)
            if value is not None and not (1 <= value <= LARGEST_AMOUNT and value == int(value)):
                raise InvalidSpecError(f"{name}: want a whole number >= 1, got {value:g}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= LARGEST_AMOUNT:
                raise InvalidSpecError(
                    f"{name}: want a number >= {least} and <= {LARGEST_AMOUNT:g}, got {value:g}"
                )
        if self.chunk is not None and self.prompt / self.chunk > _MOST_CHUNKS:
            passes = self.prompt / self.chunk
            raise InvalidSpecError(f"chunk: want at most {_MOST_CHUNKS:g} passes, this makes {passes:g}")

    def _degrees(self) -> tuple[float, float, float] | None:
        if self.tensor is None and self.pipeline is None and self.data is None:
            return None
        return (self.tensor or 1.0, self.pipeline or 1.0, self.data or 1.0)

    def _parallelism(self) -> Parallelism:
        tensor, pipeline, data = self._degrees() or (self.devices or 1.0, 1.0, 1.0)
        expert = self.expert or 1.0
        if expert > tensor * data:
            raise InvalidSpecError(f"expert: want at most tensor x data = {tensor * data:g}, got {expert:g}")
        return Parallelism(tensor=tensor, pipeline=pipeline, data=data, expert=expert)

    def _formats(self, model: ModelSpec) -> tuple[ModelSpec, Precision]:
        precision = with_formats(
            model.precision, weights=self.weights, activations=self.activations, kv=self.kv
        )
        if not self.format_rule:
            return model, precision
        from roofline.catalog.format_rules import with_format_rules

        return with_format_rules(model, precision, self.format_rule)

    def _policy(self, runtime: Runtime) -> KernelPolicy | None:
        if self.flash is None:
            return None
        return dataclasses.replace(runtime.policy, fused_attention=self.flash)

    def _runtime(self, device: str) -> Runtime:
        if self.software == "datasheet":
            return datasheet_runtime(device)
        return load_runtime(device, self.software)

    def _decoding(self, target: Deployment) -> AnyDecoding:
        if self.speculate is None:
            for name in ("accept", "draft", "draft_weights", "draft_tensor", "draft_host"):
                if getattr(self, name) is not None:
                    raise InvalidSpecError(f"{name}: says how drafts are made, so want speculate too")
            return Autoregressive()
        if self.accept is None:
            raise InvalidSpecError("speculate: want accept too, the acceptance rate of drafted tokens")
        from roofline.decoding.speculative import Speculative
        from roofline.speculation import make_acceptance, make_tree

        drafter = self.drafter(target)
        curve = str(self.accept).startswith(CURVE)
        if curve and self.speculate.startswith("dynamic"):
            raise InvalidSpecError(
                "accept: a curve says nothing of one candidate, which a dynamic tree wants"
            )
        acceptance = make_acceptance("0" if curve else self.accept)
        tree = make_tree(self.speculate, acceptance)
        if curve:
            acceptance = self._on_curve(drafter, tree)
        acceptance.check(tree)
        return Speculative(tree=tree, acceptance=acceptance, drafter=drafter)

    def _on_curve(self, drafter: "AnyDrafter", tree: "SpecTree") -> "Acceptance":
        from roofline.catalog.acceptance_curves import tokens_on_curve
        from roofline.decoding.drafters import ModelDrafter
        from roofline.speculation import make_acceptance

        if not isinstance(drafter, ModelDrafter):
            raise InvalidSpecError(
                "accept: a curve is over parameters of a drafter, which lookup has none of"
            )
        tau = tokens_on_curve(
            Path(str(self.accept).removeprefix(CURVE)),
            draft_parameters=float(drafter.deployment.model.parameters),
            draft_tokens=float(tree.nodes),
            batch=self.batch,
        )
        return make_acceptance(f"tokens:{tau!r}")

    def drafter(self, target: Deployment) -> "AnyDrafter":
        """Return what drafts for a target.

        Raises
        ------
        RooflineError
            If its name is unknown, or its tokens are not the target's.
        """
        from roofline.decoding.drafters import ModelDrafter
        from roofline.speculation import DraftSettings, drafter_on, on_target, placed

        given = DraftSettings(
            tensor=self.draft_tensor,
            host_s=0.0 if self.draft_host is None else parse(self.draft_host, "s", of="draft_host"),
        )
        name = self.draft or "lookup"
        if on_target(name):
            if self.draft_weights is not None:
                raise InvalidSpecError(f"draft_weights: {name} has the target's formats")
            return drafter_on(target, name, given)
        model = load_model(name).value
        deployment = dataclasses.replace(
            target,
            model=model,
            precision=with_formats(model.precision, weights=self.draft_weights, kv=self.kv),
            schedules=(),
        )
        drafter = placed(ModelDrafter(deployment=deployment), given)
        drafter.check(target)
        return drafter

    def _workload(self, model: ModelSpec) -> Workload:
        workload = Workload(
            batch_size=self.batch,
            prompt_tokens=self.prompt,
            output_tokens=self.output,
            samples=self.samples,
            prefix_tokens=self.prefix,
            prefix_shared_by=self.prefix_shared_by,
            context_tokens=self.context,
            prefill_chunk=self.chunk,
        )
        workload = allocated(workload, self.kv_alloc, model)
        width, height = pixels(self.image_size)
        workload = with_images(model, workload, images=self.images, width=width, height=height)
        refuse_beyond_context(model, workload)
        return workload


def settings_of(document: Mapping[str, Any], where: str = "settings") -> Settings:
    """Return a document with the keys of `Settings` as settings.

    Raises
    ------
    RooflineError
        If a key is unknown, a value impossible, or two keys contradict each other.
    """
    if "context" in document:
        for name in ("prompt", "prefix"):
            if name in document:
                raise InvalidSpecError(
                    f"{where}: context fixes the cached tokens of decoding, so {name} cannot be given with it"
                )
    return validated(Settings, document, where)
