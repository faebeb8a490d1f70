"""A model as a graph of layers, and everything that follows from its weights."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import ConfigDict

from roofline.graph.blocks.block import Block
from roofline.graph.blocks.embedding import Embedding, Head
from roofline.graph.layer import Layer, Run, layer_counts, layer_names
from roofline.graph.operator import Operator, Precision, Terms, collective
from roofline.graph.schedule import Schedule, scheduled
from roofline.graph.step import Step
from roofline.graph.vision import VisionEncoder
from roofline.graph.weight import Weight
from roofline.quantity import Quantity, revised, total, where
from roofline.units import Count

__all__ = ["Layer", "ModelSpec", "Run"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelSpec:
    """A decoder-only language model.

    Parameters
    ----------
    hidden_size : Quantity
        Width of the hidden state.
    layers : mapping of str to mapping of str to block
        The distinct layers, each its blocks in order.
    order : tuple of Run
        Which layer stands where.
    embedding, head : Embedding, Head
    final_norm : mapping
        Blocks between the last layer and the head.
    prediction : mapping of str to block
        One multi-token-prediction module, outside `parameters`; empty for none.
    vision : VisionEncoder or None
        What turns images into tokens, outside `parameters` and `operators`: it runs in passes of its own.
    precision : Precision
        Formats the checkpoint is published in.
    context_tokens : Quantity
        Longest context the model was made for; 0 when not stated.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    hidden_size: Count
    layers: Mapping[str, Layer]
    order: tuple[Run, ...]
    embedding: Embedding
    head: Head
    final_norm: Layer = field(default_factory=dict)
    prediction: Layer = field(default_factory=dict)
    prediction_modules: int = 0
    vision: VisionEncoder | None = None
    precision: Precision = field(default_factory=Precision)
    context_tokens: Count = 0.0
    aliases: tuple[str, ...] = ()
    released: str = ""

    def layer_names(self) -> tuple[str, ...]:
        """Return the layer at each depth, in order."""
        return layer_names(self.order)

    def layer_counts(self) -> dict[str, int]:
        """Return how often each layer occurs."""
        return layer_counts(self.order)

    def weights(self) -> Iterator[tuple[str, str, Weight, int]]:
        """Yield ``(layer, block, weight, repeat)`` for every weight outside prediction modules."""
        for weight in self.embedding.weights(self.hidden_size):
            yield "embedding", "embedding", weight, 1
        for name, repeat in self.layer_counts().items():
            for block_name, block in self.layers[name].items():
                for weight in block.weights(self.hidden_size):
                    yield name, block_name, weight, repeat
        for block_name, block in self.final_norm.items():
            for weight in block.weights(self.hidden_size):
                yield "final", block_name, weight, 1
        for weight in self.head.weights(self.hidden_size):
            if not (self.head.tied and weight.name == "vocabulary"):
                yield "head", "head", weight, 1

    @property
    def language_parameters(self) -> Quantity:
        """Parameters of the language model, tied ones once, multi-token-prediction modules apart."""
        return total(repeat * weight.parameters for _, _, weight, repeat in self.weights())

    @property
    def parameters(self) -> Quantity:
        """Parameters as published: the language model's and those of the image encoder."""
        return self.language_parameters + (0.0 if self.vision is None else self.vision.parameters)

    @property
    def active_parameters(self) -> Quantity:
        """Parameters that one token passes through: experts count top-k of them."""
        return total(
            repeat * weight.parameters * self._active_share(layer, block, weight)
            for layer, block, weight, repeat in self.weights()
        )

    def _active_share(self, layer: str, block: str, weight: Weight) -> Quantity:
        if weight.tensor != "expert_weight":
            return 1.0
        from roofline.graph.blocks.mixture_of_experts import MixtureOfExperts

        found = self.layers[layer][block]
        return found.top_k / found.experts if isinstance(found, MixtureOfExperts) else 1.0

    @property
    def prediction_parameters(self) -> Quantity:
        """Parameters of all multi-token-prediction modules."""
        return self.prediction_modules * total(
            weight.parameters
            for block in self.prediction.values()
            for weight in block.weights(self.hidden_size)
        )

    def stored_bytes(self, terms: Terms) -> Quantity:
        """Return the bytes of all weights one rank holds, before pipelining [B]."""
        vectors = terms.precision.of_vectors()
        return total(
            repeat
            * weight.local(terms.parallelism).stored_bytes(
                terms.precision.of_weight(layer, block, weight), vectors
            )
            for layer, block, weight, repeat in self.weights()
        )

    def _scheduled(
        self, step: Step, schedules: tuple[Schedule, ...]
    ) -> Iterator[tuple[str, Step, Layer, Quantity]]:
        return scheduled(self.layers, self.order, step, schedules, model=self.name)

    def operators(self, step: Step, terms: Terms, schedules: tuple[Schedule, ...] = ()) -> Iterator[Operator]:
        """Yield one row per distinct kernel of a pass, with how many layers repeat it."""
        yield from _rows(self.embedding, step, revised(terms, layer="embedding", block="embedding"), 1.0)
        last = step
        for name, layer_step, layer, repeat in self._scheduled(step, schedules):
            for block_name, block in layer.items():
                yield from _rows(block, layer_step, revised(terms, layer=name, block=block_name), repeat)
            last = layer_step
        yield _stage_send(last, terms)
        for block_name, block in self.final_norm.items():
            yield from _rows(block, _logits_only(last), revised(terms, layer="final", block=block_name), 1.0)
        yield from _rows(self.head, last, revised(terms, layer="head", block="head"), 1.0)

    def resident(self, step: Step, terms: Terms, schedules: tuple[Schedule, ...] = ()) -> dict[str, Quantity]:
        """Return what one rank keeps after a step besides weights, by tensor [B]."""
        kept: dict[str, list[Quantity]] = {}
        for _, _, tensor, size in self.resident_by_block(step, terms, schedules):
            kept.setdefault(tensor, []).append(size)
        return {tensor: total(sizes) for tensor, sizes in kept.items()}

    def resident_by_block(
        self, step: Step, terms: Terms, schedules: tuple[Schedule, ...] = ()
    ) -> Iterator[tuple[str, str, str, Quantity]]:
        """Yield ``(layer, block, tensor, bytes)`` of what one rank keeps, over all equal layers [B]."""
        for name, layer_step, layer, repeat in self._scheduled(step, schedules):
            for block_name, block in layer.items():
                held = block.resident(layer_step, revised(terms, layer=name, block=block_name))
                for tensor, size in held.items():
                    yield name, block_name, tensor, repeat * size


def _rows(block: Block | Embedding | Head, step: Step, terms: Terms, repeat: Quantity) -> Iterable[Operator]:
    for row in block.operators(step, terms):
        yield revised(row, repeat=row.repeat * repeat)


def _stage_send(step: Step, terms: Terms) -> Operator:
    """The hidden states that each pipeline stage but the last sends on."""
    stages = terms.parallelism.pipeline
    sent = collective(
        revised(terms, layer="pipeline", block="stage"),
        "send",
        "send_receive",
        ranks=where(stages > 1, 2.0, 1.0),
        elements=step.tokens / terms.parallelism.data * terms.hidden_size,
    )
    return revised(sent, repeat=stages - 1.0)


def _logits_only(step: Step) -> Step:
    """The pass after the last layer: only tokens whose logits are wanted go on."""
    return step.with_sequences(
        revised(part, new=(revised(part.new[-1], tokens=part.logit_tokens),)) for part in step.sequences
    )
