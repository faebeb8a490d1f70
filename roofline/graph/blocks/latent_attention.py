"""Multi-head latent attention, absorbed or expanded, over all keys or those an indexer picks."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from roofline.graph.attention import attend
from roofline.graph.blocks.grouped_query_attention import kept_tokens
from roofline.graph.blocks.indexer import Indexer, selected
from roofline.graph.formats import format_named
from roofline.graph.matrix_product import linear, output_projection, project
from roofline.graph.operator import Operator, Terms, pointwise
from roofline.graph.step import Sequences, Step
from roofline.graph.weight import Weight
from roofline.quantity import Quantity, ceil, total, where
from roofline.units import Count

__all__ = ["LatentAttention"]


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentAttention:
    """Attention whose cache holds one latent and one rotary key per token, for all heads.

    Parameters
    ----------
    heads : Quantity
    q_lora_rank : Quantity or None
        Width of the query's latent; None projects queries directly (DeepSeek-V2-Lite).
    kv_lora_rank : Quantity
        Width of the latent of keys and values.
    qk_nope_head_dim, qk_rope_head_dim : Quantity
        Elements of a query and key without and with rotary position, per head.
    v_head_dim : Quantity
        Elements of a value per head.
    bias : bool
        Biases of the two down-projections and of the output projection.
    rotary : bool
        Whether the rotary part turns; Kimi Linear keeps its elements but leaves them as they are.
    top_k : Quantity or None
        Tokens that each token attends to at most (sparse attention); None is all.
    indexer : Indexer or None
        What chooses them; None where the choice of an earlier layer is used again.

    Notes
    -----
    DeepSeek-V2 (arXiv:2405.04434), section 2.1; counts in docs/formulas.md section 4. Sparse
    attention always runs absorbed (arXiv:2512.02556, section 2.1: multi-query mode). The latent
    and the indexer are replicated over tensor ranks. Expanded keys are counted as one product's
    output; the copy of the rotary key to every head is left out (``heads qk_rope_head_dim`` elements
    a token, at most a third of the expanded key).
    """

    kind: Literal["latent_attention"] = "latent_attention"
    heads: Count
    q_lora_rank: Count | None = None
    kv_lora_rank: Count
    qk_nope_head_dim: Count
    qk_rope_head_dim: Count
    v_head_dim: Count
    bias: bool = False
    rotary: bool = True
    top_k: Count | None = None
    indexer: Indexer | None = None

    def weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        """Return down- and up-projections, norms of the latents, the output projection, the indexer's."""
        return (
            *self._query(hidden_size),
            *self._key_value(hidden_size),
            self._output(hidden_size),
            *self._index(hidden_size),
        )

    def _query(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        width = self.heads * (self.qk_nope_head_dim + self.qk_rope_head_dim)
        if self.q_lora_rank is None:
            return (
                Weight(name="query", inputs=hidden_size, outputs=width, split="outputs", units=self.heads),
            )
        return (
            Weight(name="query_down", inputs=hidden_size, outputs=self.q_lora_rank, bias=self.bias),
            Weight.vector("query_norm", self.q_lora_rank),
            Weight(
                name="query_up", inputs=self.q_lora_rank, outputs=width, split="outputs", units=self.heads
            ),
        )

    def _key_value(self, hidden_size: Quantity) -> tuple[Weight, Weight, Weight, Weight]:
        return (
            Weight(name="key_value_down", inputs=hidden_size, outputs=self._latent_width, bias=self.bias),
            Weight.vector("key_value_norm", self.kv_lora_rank),
            Weight(
                name="key_up", inputs=self.kv_lora_rank, outputs=self.heads * self.qk_nope_head_dim,
                split="outputs", units=self.heads,
            ),
            Weight(
                name="value_up", inputs=self.kv_lora_rank, outputs=self.heads * self.v_head_dim,
                split="outputs", units=self.heads,
            ),
        )  # fmt: skip

    def _output(self, hidden_size: Quantity) -> Weight:
        return Weight(
            name="output", inputs=self.heads * self.v_head_dim, outputs=hidden_size, bias=self.bias,
            split="inputs", units=self.heads,
        )  # fmt: skip

    def _index(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        if self.indexer is None:
            return ()
        source = hidden_size if self.q_lora_rank is None else self.q_lora_rank
        return self.indexer.weights(hidden_size, source)

    @property
    def _latent_width(self) -> Quantity:
        return self.kv_lora_rank + self.qk_rope_head_dim

    def operators(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return projections, the indexer, attention in the form the policy names, and its all-reduce."""
        step = step.share(terms.parallelism.data)
        ranks, hidden_size = terms.parallelism.tensor, terms.hidden_size
        heads = ceil(self.heads / ranks)
        yield from self._projections(step, terms)
        if self.rotary:
            yield pointwise(
                terms, "rotary", rows=step.tokens * (heads + 1.0), columns=self.qk_rope_head_dim,
                reads=1.0, writes=1.0, flops_per_element=3.0,
            )  # fmt: skip
        if self.indexer is not None and self.top_k is not None:
            yield from self.indexer.operators(
                step, terms, weights=self._index(hidden_size),
                rope_dim=self.qk_rope_head_dim, top_k=self.top_k,
            )  # fmt: skip
        absorbed = tuple(self._absorbed_share(sequences, terms) for sequences in step.sequences)
        policy = "always" if self.top_k is not None else terms.policy.absorbed_latent
        if policy != "never":
            yield from self._absorbed(step, terms, heads, absorbed)
        if policy != "always":
            yield from self._expanded(step, terms, heads, absorbed)
        yield from output_projection(
            terms, self._output(hidden_size), step.tokens, all_reduce="attention_all_reduce"
        )

    def _projections(self, step: Step, terms: Terms) -> Iterable[Operator]:
        query, (down, norm, _, _) = self._query(terms.hidden_size), self._key_value(terms.hidden_size)
        yield from project(terms, "query_key_value_down", (query[0], down), step.tokens)
        if self.q_lora_rank is not None:
            yield pointwise(
                terms, "query_norm", kind="norm", rows=step.tokens, columns=self.q_lora_rank,
                reads=1.0, writes=1.0, flops_per_element=4.0, weights=query[1:2],
            )  # fmt: skip
        yield pointwise(
            terms, "key_value_norm", kind="norm", rows=step.tokens, columns=self.kv_lora_rank,
            reads=1.0, writes=1.0, flops_per_element=4.0, weights=(norm,),
        )  # fmt: skip
        if self.q_lora_rank is not None:
            yield from linear(terms, "query_up", query[2:], step.tokens)

    def _absorbed_share(self, sequences: Sequences, terms: Terms) -> Quantity:
        """1 where a group of sequences runs absorbed, 0 where it runs expanded.

        Both forms multiply each new token with both up-projections once; what differs per head is
        the work of a pair and the expansion of the past. docs/formulas.md section 4.
        """
        policy = terms.policy.absorbed_latent
        if self.top_k is not None or policy == "always":
            return 1.0
        if policy == "never":
            return 0.0
        visible = sequences.visible()
        past = total(visible.past_tokens)
        expansion = self.kv_lora_rank * (self.qk_nope_head_dim + self.v_head_dim)
        narrow = visible.pairs * (self.qk_nope_head_dim + self.qk_rope_head_dim + self.v_head_dim)
        wide = visible.pairs * (self._latent_width + self.kv_lora_rank)
        return where(wide <= narrow + past * expansion, 1.0, 0.0)

    def _absorbed(
        self, step: Step, terms: Terms, heads: Quantity, absorbed: tuple[Quantity, ...]
    ) -> Iterable[Operator]:
        *_, key_up, value_up = self._key_value(terms.hidden_size)
        tokens = total(
            share * part.count * part.new_tokens for share, part in zip(absorbed, step.sequences, strict=True)
        )
        into_latent = self._per_head(key_up, inputs=self.qk_nope_head_dim, outputs=self.kv_lora_rank)
        out_of_latent = self._per_head(value_up, inputs=self.kv_lora_rank, outputs=self.v_head_dim)
        yield from linear(
            terms, "query_absorb", (into_latent,), tokens * heads, kind="batched_gemm", stored_as=(key_up,)
        )
        for share, sequences in zip(absorbed, step.sequences, strict=True):
            yield from attend(
                terms,
                "latent_attention",
                sequences,
                sequences.visible() if self.top_k is None else selected(sequences, self.top_k),
                heads=heads,
                kv_heads=1.0,
                key_dim=self._latent_width,
                value_dim=self.kv_lora_rank,
                cached_elements=self._latent_width,
                kind="latent_attention" if self.top_k is None else "sparse_latent_attention",
                shown=share,
            )
        yield from linear(
            terms, "value_absorb", (out_of_latent,), tokens * heads, kind="batched_gemm",
            stored_as=(value_up,),
        )  # fmt: skip

    def _per_head(self, weight: Weight, *, inputs: Quantity, outputs: Quantity) -> Weight:
        """Return an up-projection as one matrix per head."""
        return replace(
            weight, inputs=inputs, outputs=outputs, groups=self.heads, split="groups", units=self.heads
        )

    def _expanded(
        self, step: Step, terms: Terms, heads: Quantity, absorbed: tuple[Quantity, ...]
    ) -> Iterable[Operator]:
        *_, key_up, value_up = self._key_value(terms.hidden_size)
        past = total(
            (1.0 - share) * self._past_copies(part, terms)
            for share, part in zip(absorbed, step.sequences, strict=True)
        )
        new = total(
            (1.0 - share) * part.count * part.new_tokens
            for share, part in zip(absorbed, step.sequences, strict=True)
        )
        yield Operator(
            name="latent_gather",
            kind="elementwise",
            flops=0.0 * past,
            read={"kv_cache": format_named(terms.precision.kv_cache).stored_bytes(past * self._latent_width)},
            written={"activation": terms.activation_bytes(past * self._latent_width)},
            shape={"rows": past, "columns": self._latent_width},
            format=format_named(terms.precision.kv_cache).name,
            kernels=where(past > 0, 1.0, 0.0),
            layer=terms.layer,
            block=terms.block,
        )
        yield from linear(terms, "key_value_up", (key_up, value_up), new + past)
        for share, sequences in zip(absorbed, step.sequences, strict=True):
            yield from attend(
                terms,
                "expanded_attention",
                sequences,
                sequences.visible(),
                heads=heads,
                kv_heads=heads,
                key_dim=self.qk_nope_head_dim + self.qk_rope_head_dim,
                value_dim=self.v_head_dim,
                cached_elements=heads * (self.qk_nope_head_dim + self.qk_rope_head_dim + self.v_head_dim),
                written_elements=self._latent_width,
                cached=False,
                shown=1.0 - share,
            )

    def _past_copies(self, sequences: Sequences, terms: Terms) -> Quantity:
        """Cached tokens that are expanded, shared ones once where the kernel shares them."""
        shared = terms.policy.shared_prefix
        return total(
            tokens * segment.head_fraction * sequences.count / (segment.shared_by if shared else 1.0)
            for tokens, segment in zip(sequences.visible().past_tokens, sequences.past, strict=True)
        )

    def resident(self, step: Step, terms: Terms) -> Mapping[str, Quantity]:
        """Return the latents, and the index keys of a layer with an indexer."""
        step = step.share(terms.parallelism.data)
        tokens = total(kept_tokens(sequences, None) for sequences in step.sequences)
        kept = format_named(terms.precision.kv_cache).stored_bytes(tokens * self._latent_width)
        if self.indexer is not None:
            index = format_named(terms.precision.index_cache)
            kept = kept + index.stored_bytes(self.indexer.head_dim, tokens)
        return {"kv_cache": kept}
