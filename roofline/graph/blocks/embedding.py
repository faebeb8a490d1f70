"""What stands before the first layer and after the last: embedding and language-model head."""

from collections.abc import Iterable
from dataclasses import dataclass

from roofline.graph.matrix_product import linear
from roofline.graph.operator import Operator, Terms, collective, pointwise
from roofline.graph.step import Step
from roofline.graph.weight import Weight
from roofline.quantity import Quantity
from roofline.units import Count

__all__ = ["Embedding", "Head"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedding:
    """Token embedding, and learned positions where a model has them.

    Parameters
    ----------
    vocabulary_size : Quantity
        Rows, padding included as the checkpoint stores it.
    positions : Quantity
        Learned position rows; 0 for none.
    width : Quantity
        Columns where they differ from the hidden size (OPT-350M); 0 for the hidden size.
    norm : bool
        A LayerNorm right after it (BLOOM).
    layer_inputs : int, layer_input_size, layer_vocabulary_size : Quantity
        Layers with an embedding of their own beside it, its width in one layer, and its rows (per-layer
        embeddings of Gemma 3n and 4); 0 for none.
    """

    vocabulary_size: Count
    positions: Count = 0.0
    width: Count = 0.0
    norm: bool = False
    layer_inputs: int = 0
    layer_input_size: Count = 0.0
    layer_vocabulary_size: Count = 0.0

    def weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        """Return the tables, and the projections around a narrower width."""
        width = hidden_size if self.width == 0.0 else self.width
        rows = [
            Weight(
                name="tokens", inputs=width, outputs=self.vocabulary_size, split="outputs", tensor="embedding"
            )
        ]
        rows.append(Weight(name="positions", inputs=hidden_size, outputs=self.positions, tensor="embedding"))
        if self.width:
            rows.append(Weight(name="project_in", inputs=width, outputs=hidden_size))
        if self.norm:
            rows += [Weight.vector("norm_gain", hidden_size), Weight.vector("norm_bias", hidden_size)]
        return (*rows, *self._layer_weights(hidden_size))

    def _layer_weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        width = self.layer_inputs * self.layer_input_size
        if not self.layer_inputs:
            return ()
        return (
            Weight(name="layer_tokens", inputs=width, outputs=self.layer_vocabulary_size, tensor="embedding"),
            Weight(name="layer_projection", inputs=hidden_size, outputs=width),
            Weight.vector("layer_norm", self.layer_input_size),
        )

    def operators(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return the gather: each new token reads one row."""
        yield pointwise(
            terms, "embedding", kind="embedding", rows=step.tokens, columns=terms.hidden_size,
            reads=1.0, writes=1.0, flops_per_element=0.0,
        )  # fmt: skip
        if self.width:
            yield from linear(terms, "project_in", (self.weights(terms.hidden_size)[2],), step.tokens)
        if self.layer_inputs:
            _, projection, norm = self._layer_weights(terms.hidden_size)
            width = self.layer_inputs * self.layer_input_size
            yield pointwise(
                terms, "layer_embedding", kind="embedding", rows=step.tokens, columns=width,
                reads=1.0, writes=1.0, flops_per_element=0.0,
            )  # fmt: skip
            yield from linear(terms, "layer_projection", (projection,), step.tokens)
            yield pointwise(
                terms, "layer_norm", kind="norm", rows=step.tokens, columns=width,
                reads=2.0, writes=1.0, flops_per_element=6.0, weights=(norm,),
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Head:
    """The language-model head.

    Parameters
    ----------
    vocabulary_size : Quantity
        Rows.
    tied : bool
        Whether it is the embedding table again.
    bias : bool
        GPT-J and Phi-2 have one.
    width : Quantity
        Columns where they differ from the hidden size; 0 for the hidden size.
    """

    vocabulary_size: Count
    tied: bool = False
    bias: bool = False
    width: Count = 0.0

    def weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        """Return the matrix; a tied one is declared by the embedding and only read here."""
        width = hidden_size if self.width == 0.0 else self.width
        head = Weight(
            name="vocabulary", inputs=width, outputs=self.vocabulary_size, bias=self.bias,
            split="outputs", tensor="embedding",
        )  # fmt: skip
        if self.width:
            return (Weight(name="project_out", inputs=hidden_size, outputs=width), head)
        return (head,)

    def operators(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return the product for the tokens whose logits are wanted, and the gather of the logits."""
        *project, head = self.weights(terms.hidden_size)
        tokens = step.logit_tokens / terms.parallelism.data
        for weight in project:
            yield from linear(terms, weight.name, (weight,), tokens)
        yield from linear(terms, "head", (head,), tokens)
        ranks = terms.parallelism.tensor
        yield collective(
            terms, "logits_all_gather", "all_gather", ranks=ranks, elements=tokens * self.vocabulary_size
        )
