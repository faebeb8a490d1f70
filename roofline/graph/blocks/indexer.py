"""The part of a sparse attention that picks the keys each token attends to."""

from collections.abc import Iterable
from dataclasses import dataclass

from roofline.graph.formats import format_named
from roofline.graph.matrix_product import linear, project
from roofline.graph.operator import Operator, Terms, pointwise
from roofline.graph.step import Sequences, Step, Visible
from roofline.graph.weight import Weight
from roofline.quantity import Quantity, minimum, total, where
from roofline.units import Count

__all__ = ["Indexer", "selected"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Indexer:
    """Small attention whose scores choose the tokens that the layer attends to.

    Parameters
    ----------
    heads, head_dim : Quantity
        Index heads and their width; all heads share one key per token.

    Notes
    -----
    The score of a pair is ``sum_h w_h relu(q_h . k)`` (DeepSeek-V3.2, arXiv:2512.02556, eq. 1):
    ``2 heads (head_dim + 1)`` FLOPs.
    """

    heads: Count
    head_dim: Count

    def weights(self, hidden_size: Quantity, q_lora_rank: Quantity) -> tuple[Weight, ...]:
        """Return the projections of index queries, keys and head weights, and the key's LayerNorm."""
        return (
            Weight(name="index_query", inputs=q_lora_rank, outputs=self.heads * self.head_dim),
            Weight(name="index_key", inputs=hidden_size, outputs=self.head_dim),
            Weight(name="index_head_weights", inputs=hidden_size, outputs=self.heads),
            Weight.vector("index_key_norm_gain", self.head_dim),
            Weight.vector("index_key_norm_bias", self.head_dim),
        )

    def operators(self, step: Step, terms: Terms, *, weights: tuple[Weight, ...], rope_dim: Quantity,
                  top_k: Quantity) -> Iterable[Operator]:  # fmt: skip
        """Return projections, scores over all visible pairs, and the choice of `top_k` of them."""
        query, key, head_weights, *norm = weights
        yield from linear(terms, "index_query", (query,), step.tokens)
        yield from project(terms, "index_key_weights", (key, head_weights), step.tokens)
        yield pointwise(
            terms, "index_key_norm", kind="norm", rows=step.tokens, columns=self.head_dim,
            reads=1.0, writes=1.0, flops_per_element=5.0, weights=tuple(norm),
        )  # fmt: skip
        yield pointwise(
            terms, "index_rotary", rows=step.tokens * (self.heads + 1.0), columns=rope_dim,
            reads=1.0, writes=1.0, flops_per_element=3.0,
        )  # fmt: skip
        for sequences in step.sequences:
            yield self._scores(terms, sequences)
            yield _choice(terms, sequences, top_k)

    def _scores(self, terms: Terms, sequences: Sequences) -> Operator:
        hidden, index = format_named(terms.precision.hidden), format_named(terms.precision.index_cache)
        count, new, visible = sequences.count, sequences.new_tokens, sequences.visible()
        past = total(count * tokens for tokens in visible.past_tokens)
        pairs = count * visible.pairs
        return Operator(
            name="index_scores",
            kind="index_scores",
            flops=2.0 * pairs * self.heads * (self.head_dim + 1.0),
            read={
                "kv_cache": index.stored_bytes(self.head_dim, past),
                "activation": index.stored_bytes(self.head_dim, count * new * (self.heads + 1.0))
                + hidden.stored_bytes(count * new * self.heads),
            },
            written={
                "kv_cache": index.stored_bytes(self.head_dim, count * new),
                "activation": _SCORES.stored_bytes(pairs),
            },
            shape={
                "sequences": count,
                "heads": self.heads,
                "kv_heads": 1.0,
                "head_dim": self.head_dim,
                "new_tokens": new,
                "keys": visible.keys,
                "pairs": visible.pairs,
                "cache_bits": index.bits,
            },
            format=index.name,
            compute_format=index.operand,
            kernels=where(count * new > 0, 1.0, 0.0),
            layer=terms.layer,
            block=terms.block,
        )


#: Scores and chosen positions leave the kernels as 32-bit numbers.
_SCORES = format_named("fp32")


def _choice(terms: Terms, sequences: Sequences, top_k: Quantity) -> Operator:
    """Return the kernel that reads every score, compares it once and writes the chosen positions."""
    pairs = sequences.count * sequences.visible().pairs
    chosen = sequences.count * sequences.visible(top_k).pairs
    return Operator(
        name="index_choice",
        kind="elementwise",
        flops=pairs,
        read={"activation": _SCORES.stored_bytes(pairs)},
        written={"activation": _SCORES.stored_bytes(chosen)},
        shape={"rows": sequences.count * sequences.new_tokens, "columns": sequences.past_tokens},
        format=_SCORES.name,
        kernels=where(pairs > 0, 1.0, 0.0),
        layer=terms.layer,
        block=terms.block,
    )


def selected(sequences: Sequences, top_k: Quantity) -> Visible:
    """Return what is attended to when each new token chooses `top_k` of the tokens it sees.

    Notes
    -----
    Token at position p has ``min(p + 1, top_k)`` pairs, as many as under a window of `top_k`. Cached
    tokens read: what n tokens choose without overlap, at most all, ``min(P, n top_k)``; overlapping
    choices read fewer. docs/formulas.md section 4.
    """
    visible = sequences.visible()
    share = minimum(
        1.0, sequences.new_tokens * top_k / where(sequences.past_tokens > 0, sequences.past_tokens, 1.0)
    )
    past = tuple(tokens * share for tokens in visible.past_tokens)
    return Visible(
        pairs=sequences.visible(top_k).pairs,
        keys=total((sequences.new_tokens, *past)),
        past_tokens=past,
    )
