"""Attention from the tokens of a decoder to those of an encoder."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from roofline.graph.attention import attend
from roofline.graph.formats import format_named
from roofline.graph.matrix_product import linear, output_projection, project
from roofline.graph.operator import Operator, Terms, pointwise
from roofline.graph.step import Segment, Sequences, Step, Visible
from roofline.graph.weight import Weight
from roofline.quantity import Quantity, ceil, minimum, total
from roofline.units import Count

__all__ = ["CrossAttention"]

_NONE = Segment(tokens=0.0, origin="encoder")


@dataclass(frozen=True, kw_only=True, eq=False)
class CrossAttention:
    """Queries of new tokens over keys and values of an encoder's tokens.

    Parameters
    ----------
    heads, kv_heads, head_dim : Quantity
        As in grouped-query attention.
    encoder_size : Quantity or None
        Width of the encoder's tokens; None for the hidden size.
    query_key_norm : bool
        Norms of ``head_dim`` on queries and on keys.
    projection_bias, output_bias : bool
        Biases of query, key and value, and of the output projection.
    gates : Quantity
        Learned scalars that scale what the layer adds (Llama 3.2 Vision: attention and feed-forward).

    Notes
    -----
    Keys and values are made in the pass that brings the encoder's tokens and cached for the rest
    (Vaswani et al. 2017, arXiv:1706.03762, section 3.2.3). Every token sees all of them.
    """

    kind: Literal["cross_attention"] = "cross_attention"
    heads: Count
    kv_heads: Count
    head_dim: Count
    encoder_size: Count | None = None
    query_key_norm: bool = False
    projection_bias: bool = False
    output_bias: bool = False
    gates: Count = 0.0

    def weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        """Return projections, norms and gates."""
        query, key_value = self.heads * self.head_dim, self.kv_heads * self.head_dim
        source = hidden_size if self.encoder_size is None else self.encoder_size
        key_norms = (Weight.vector("query_norm", self.head_dim), Weight.vector("key_norm", self.head_dim))
        return (
            Weight(
                name="query", inputs=hidden_size, outputs=query, bias=self.projection_bias,
                split="outputs", units=self.heads,
            ),
            *(
                Weight(
                    name=name, inputs=source, outputs=key_value, bias=self.projection_bias,
                    split="outputs", units=self.kv_heads,
                )
                for name in ("key", "value")
            ),
            Weight(
                name="output", inputs=query, outputs=hidden_size, bias=self.output_bias,
                split="inputs", units=self.heads,
            ),
            Weight.vector("gates", self.gates),
            *(key_norms if self.query_key_norm else ()),
        )  # fmt: skip

    def operators(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return projections of queries and of new encoder tokens, attention, output and all-reduce."""
        step = step.share(terms.parallelism.data)
        ranks = terms.parallelism.tensor
        query, key, value, output, gates, *norms = self.weights(terms.hidden_size)
        heads, kv_heads = ceil(self.heads / ranks), ceil(self.kv_heads / ranks)
        encoded = total(part.count * part.new_encoder_tokens for part in step.sequences)
        yield from linear(terms, "query", (query,), step.tokens)
        yield from project(terms, "key_value", (key, value), encoded)
        if self.query_key_norm:
            for name, rows, norm in (
                ("query_norm", step.tokens * heads, norms[0]),
                ("key_norm", encoded * kv_heads, norms[1]),
            ):
                yield pointwise(
                    terms, name, kind="norm", rows=rows, columns=self.head_dim,
                    reads=1.0, writes=1.0, flops_per_element=4.0, weights=(norm,),
                )  # fmt: skip
        for sequences in step.sequences:
            cached, visible = _encoder_view(sequences)
            yield from attend(
                terms,
                "cross_attention",
                cached,
                visible,
                heads=heads,
                kv_heads=kv_heads,
                key_dim=self.head_dim,
                value_dim=self.head_dim,
                cached_elements=2.0 * kv_heads * self.head_dim,
                new_keys=sequences.new_encoder_tokens,
                weights=(gates,),
            )
        yield from output_projection(terms, output, step.tokens, all_reduce="attention_all_reduce")

    def resident(self, step: Step, terms: Terms) -> Mapping[str, Quantity]:
        """Return keys and values of all encoder tokens, shared ones once."""
        step = step.share(terms.parallelism.data)
        kv_heads = ceil(self.kv_heads / terms.parallelism.tensor)
        tokens = total(
            part.count * (part.encoder or _NONE).tokens / (part.encoder or _NONE).shared_by
            for part in step.sequences
        )
        cache = format_named(terms.precision.kv_cache)
        return {"kv_cache": cache.stored_bytes(tokens * 2.0 * kv_heads * self.head_dim)}


def _encoder_view(sequences: Sequences) -> tuple[Sequences, Visible]:
    """Return the sequences with the encoder's cached tokens as their past, and what they see of them."""
    encoder = _NONE if sequences.encoder is None else sequences.encoder
    read = encoder.tokens if encoder.read_tokens is None else minimum(encoder.tokens, encoder.read_tokens)
    cached = read - minimum(read, sequences.new_encoder_tokens)
    visible = Visible(
        pairs=sequences.new_tokens * read * encoder.head_fraction, keys=read, past_tokens=(cached,)
    )
    return replace(sequences, past=(replace(encoder, tokens=cached),)), visible
