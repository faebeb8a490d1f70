"""Operators: one row each of what a pass does, and the terms it is made on.

Each formula stands once: `pointwise`, which only streams activations, and `collective` here, every
product with weights in `matrix_product`, every attention in `attention`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import ClassVar

from pydantic import ConfigDict

from roofline.graph.formats import Format, format_named
from roofline.graph.kernel_policy import KernelPolicy
from roofline.graph.parallelism import Parallelism
from roofline.graph.routing import Routing
from roofline.graph.weight import Weight
from roofline.quantity import Quantity, total, where

__all__ = ["FormatRule", "Operator", "Precision", "Terms", "collective", "pointwise"]


@dataclass(frozen=True, kw_only=True)
class FormatRule:
    """A format for the weights whose ``layer.block.weight`` matches a shell pattern."""

    pattern: str
    format: str


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Number formats by tensor.

    Parameters
    ----------
    weights : str
        Format of matrix weights.
    activations : str or None
        Format of the inputs of matrix products with quantised weights; None is what the weight format
        says, `hidden` where it only stores weights.
    kv_cache : str
        Format of cached keys and values.
    hidden : str
        Format of everything else: hidden states, embeddings, norms and biases.
    vectors : str or None
        Format of norms and biases where it is another than `hidden` (GGUF files: fp32).
    state : str
        Format of recurrent states.
    index_cache : str
        Format of the keys that choose tokens in sparse attention, and of their scores' product
        (DeepSeek-V3.2, arXiv:2512.02556: fp8).
    rules : tuple of FormatRule
        Exceptions by weight, first match wins.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    weights: str = "bf16"
    activations: str | None = None
    kv_cache: str = "bf16"
    hidden: str = "bf16"
    vectors: str | None = None
    state: str = "fp32"
    index_cache: str = "fp8_g128"
    rules: tuple[FormatRule, ...] = ()

    def of_weight(self, layer: str, block: str, weight: Weight) -> Format:
        """Return the format a weight is stored in."""
        if weight.tensor == "vector":
            return self.of_vectors()
        path = f"{layer}.{block}.{weight.name}"
        for rule in self.rules:
            if fnmatchcase(path, rule.pattern):
                return format_named(rule.format)
        return format_named(self.hidden if weight.tensor == "embedding" else self.weights)

    def of_vectors(self) -> Format:
        """Return the format norms and biases are stored in."""
        return format_named(self.vectors or self.hidden)

    def of_inputs(self, weights: Format) -> Format:
        """Return the format of what is multiplied with weights of that format."""
        if weights.operand and weights.operand == format_named(self.hidden).operand:
            return format_named(self.hidden)
        if self.activations is not None:
            return format_named(self.activations)
        own = format_named(weights.inputs) if weights.inputs else weights
        return own if weights.operand else format_named(self.hidden)


@dataclass(frozen=True, kw_only=True, eq=False)
class Terms:
    """On what terms a block is run: everything that is neither the block nor the step."""

    hidden_size: Quantity
    precision: Precision = field(default_factory=Precision)
    policy: KernelPolicy = field(default_factory=KernelPolicy)
    parallelism: Parallelism = field(default_factory=Parallelism)
    routing: Routing = field(default_factory=Routing)
    layer: str = ""
    block: str = ""

    def activation_bytes(self, elements: Quantity) -> Quantity:
        """Return the bytes of hidden-state elements [B]."""
        return format_named(self.precision.hidden).stored_bytes(elements)


@dataclass(frozen=True, kw_only=True, eq=False)
class Operator:
    """One kernel, or several equal ones, of a pass on one rank.

    Parameters
    ----------
    kind : str
        What sort of kernel; fits are looked up by it.
    flops : Quantity
        Operations of one launch; a multiply-add is 2 [FLOP].
    read, written : mapping of str to Quantity
        Bytes by tensor: weight, expert_weight, embedding, activation, kv_cache, state, logits,
        message [B].
    shape : mapping of str to Quantity
        What fitted forms need, by operator kind.
    format : str
        Weight format of a matrix product, cache format of an attention.
    compute_format : str
        Arithmetic format; empty where only vector units work.
    kernels : Quantity
        Launches in one layer; 0 hides the row.
    repeat : Quantity
        Layers that do the same.
    """

    name: str
    kind: str
    flops: Quantity
    read: Mapping[str, Quantity]
    written: Mapping[str, Quantity]
    shape: Mapping[str, Quantity] = field(default_factory=dict)
    format: str = ""
    compute_format: str = ""
    kernels: Quantity = 1.0
    repeat: Quantity = 1.0
    layer: str = ""
    block: str = ""

    @property
    def bytes(self) -> Quantity:
        """Bytes read and written by one launch [B]."""
        return total((*self.read.values(), *self.written.values()))


def pointwise(
    terms: Terms,
    name: str,
    *,
    rows: Quantity,
    columns: Quantity,
    reads: Quantity,
    writes: Quantity,
    flops_per_element: float,
    kind: str = "elementwise",
    weights: tuple[Weight, ...] = (),
) -> Operator:
    """Return an operator that streams `rows` x `columns` elements through vector units.

    Parameters
    ----------
    reads, writes : Quantity
        How many times that many elements are read and written.
    flops_per_element : float
        Operations on each element [FLOP].
    weights : tuple of Weight
        Vectors read once for all rows.
    """
    elements = rows * columns
    hidden = format_named(terms.precision.hidden)
    stored = terms.precision.of_vectors()
    vectors = total(weight.local(terms.parallelism).stored_bytes(stored, stored) for weight in weights)
    read = {"activation": terms.activation_bytes(elements * reads)}
    return Operator(
        name=name,
        kind=kind,
        flops=flops_per_element * elements,
        read={**read, "weight": vectors} if weights else read,
        written={"activation": terms.activation_bytes(elements * writes)},
        shape={"rows": rows, "columns": columns},
        format=hidden.name,
        kernels=where(rows > 0, 1.0, 0.0),
        layer=terms.layer,
        block=terms.block,
    )


def collective(terms: Terms, name: str, kind: str, *, ranks: Quantity, elements: Quantity) -> Operator:
    """Return a collective over `ranks` ranks of a message of `elements` hidden-state elements.

    Notes
    -----
    Bytes each rank sends over its link: all-reduce ``2 (r - 1) / r`` of the message; all-gather,
    reduce-scatter and all-to-all ``(r - 1) / r``; a send all of it (Thakur et al. 2005,
    doi:10.1177/1094342005051521, ring algorithms). With one rank the row hides itself.
    """
    message = terms.activation_bytes(elements)
    rounds = {"all_reduce": 2.0, "send_receive": ranks / where(ranks > 1, ranks - 1.0, 1.0)}.get(kind, 1.0)
    return Operator(
        name=name,
        kind=kind,
        flops=0.0,
        read={},
        written={"message": rounds * message * (ranks - 1.0) / ranks},
        shape={"ranks": ranks, "message_bytes": message},
        format="*",
        kernels=where(ranks > 1, 1.0, 0.0),
        layer=terms.layer,
        block=terms.block,
    )
