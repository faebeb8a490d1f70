"""Multi-head, multi-query and grouped-query attention."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from roofline.graph.attention import attend
from roofline.graph.formats import format_named
from roofline.graph.matrix_product import output_projection, project
from roofline.graph.operator import Operator, Terms, pointwise
from roofline.graph.step import Sequences, Step
from roofline.graph.weight import Weight
from roofline.quantity import Quantity, ceil, minimum, total
from roofline.units import Count

__all__ = ["GroupedQueryAttention", "kept_tokens"]


@dataclass(frozen=True, kw_only=True, eq=False)
class GroupedQueryAttention:
    """Softmax attention whose query heads share `kv_heads` key-value heads.

    Parameters
    ----------
    heads, kv_heads : Quantity
        Equal for multi-head, 1 KV head for multi-query attention (Ainslie et al. 2023,
        arXiv:2305.13245).
    head_dim : Quantity
        Elements per head; not always ``hidden_size / heads``.
    value_head_dim : Quantity or None
        Elements of a value and an output per head; None for `head_dim` (192 and 128 in MiMo-V2-Flash).
    window : Quantity or None
        Sliding window: a token sees itself and ``window - 1`` before it [tokens].
    chunk : Quantity or None
        Chunked attention: a token sees its chunk only [tokens].
    query_key_norm : str
        ``head``: one norm of ``head_dim`` for queries and one for keys; ``full``: gains for all heads;
        ``plain``: norms without gains (Llama 4).
    norm_bias, output_norm : bool
        Whether norms of queries and keys have biases (Persimmon); a norm over all heads' output before its
        projection (BitNet).
    projection_bias, output_bias : bool
        Biases of query, key and value, and of the output projection.
    sinks : bool
        One learned logit per head (gpt-oss).
    output_gate : bool
        A sigmoid gate as wide as the output, projected with the queries (Qwen3-Next).
    head_gate : bool
        A gate of one number a head instead, projected with the queries (Laguna).
    value_from_key : bool
        Values are the keys before norm and rotation, so that they have no projection (Gemma 4).
    rotary : bool
        Whether positions are rotary embeddings.
    kv_cache : str
        ``own``; ``earlier``: keys and values of an earlier layer are read, none are made (Gemma 3n);
        ``none``: nothing outlives the pass (encoders).

    Notes
    -----
    Softmax, logit scaling and soft caps are not counted: per pair and head they are under 10 vector
    operations beside ``4 head_dim``; a fit of measured attention includes them.
    """

    kind: Literal["grouped_query_attention"] = "grouped_query_attention"
    heads: Count
    kv_heads: Count
    head_dim: Count
    value_head_dim: Count | None = None
    window: Count | None = None
    chunk: Count | None = None
    query_key_norm: Literal["none", "head", "full", "plain"] = "none"
    norm_bias: bool = False
    output_norm: bool = False
    projection_bias: bool = False
    output_bias: bool = False
    sinks: bool = False
    output_gate: bool = False
    head_gate: bool = False
    value_from_key: bool = False
    rotary: bool = True
    kv_cache: Literal["own", "earlier", "none"] = "own"

    def weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        """Return projections, and norms and sinks where there are any."""
        query, outward = self.heads * self.head_dim, self.heads * self._value_dim()
        key, value = self.kv_heads * self.head_dim, self.kv_heads * self._value_dim()
        made = [("key", key), ("value", value)][: 1 if self.value_from_key else 2]
        gate = (outward if self.output_gate else 0.0) + (self.heads if self.head_gate else 0.0)
        return (
            Weight(
                name="query", inputs=hidden_size, outputs=query + gate,
                bias=self.projection_bias, split="outputs", units=self.heads,
            ),
            *(
                Weight(
                    name=name, inputs=hidden_size, outputs=outputs,
                    bias=self.projection_bias, split="outputs", units=self.kv_heads,
                )
                for name, outputs in (made if self.kv_cache != "earlier" else ())
            ),
            Weight(
                name="output", inputs=outward, outputs=hidden_size,
                bias=self.output_bias, split="inputs", units=self.heads,
            ),
            *self._norms(),
            *self._output_norm(),
            *self._sinks(),
        )  # fmt: skip

    def _value_dim(self) -> Quantity:
        return self.head_dim if self.value_head_dim is None else self.value_head_dim

    def _norms(self) -> tuple[Weight, ...]:
        if self.query_key_norm in ("none", "plain"):
            return ()
        full = self.query_key_norm == "full"
        query = Weight.vector("query_norm", self.head_dim * (self.heads if full else 1.0))
        key = Weight.vector("key_norm", self.head_dim * (self.kv_heads if full else 1.0))
        norms = (query,) if self.kv_cache == "earlier" else (query, key)
        biases = (replace(norm, name=norm.name + "_bias") for norm in norms if self.norm_bias)
        return (*norms, *biases)

    def _output_norm(self) -> tuple[Weight, ...]:
        width = self.heads * self._value_dim()
        return (Weight.vector("output_norm", width),) if self.output_norm else ()

    def _sinks(self) -> tuple[Weight, ...]:
        sinks = Weight(
            name="sinks", inputs=1.0, outputs=self.heads, split="outputs", units=self.heads, tensor="vector"
        )
        return (sinks,) if self.sinks else ()

    def operators(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return projections, rotation, attention, output projection and its all-reduce."""
        step = step.share(terms.parallelism.data)
        ranks = terms.parallelism.tensor
        projections, output = self._projections(terms.hidden_size)
        heads, kv_heads = ceil(self.heads / ranks), ceil(self.kv_heads / ranks)
        made_heads = heads if self.kv_cache == "earlier" else heads + kv_heads
        yield from project(terms, "query_key_value", projections, step.tokens)
        if self.query_key_norm != "none":
            yield pointwise(
                terms, "query_key_norm", kind="norm", rows=step.tokens * made_heads,
                columns=self.head_dim, reads=1.0, writes=1.0, flops_per_element=4.0,
                weights=self._norms(),
            )  # fmt: skip
        if self.rotary:
            # Two multiplications and one addition an element (Su et al. 2021, arXiv:2104.09864, eq. 34).
            yield pointwise(
                terms, "rotary", rows=step.tokens * made_heads, columns=self.head_dim,
                reads=1.0, writes=1.0, flops_per_element=3.0,
            )  # fmt: skip
        for sequences in step.sequences:
            yield from attend(
                terms,
                "attention",
                sequences,
                sequences.visible(self.window, self.chunk),
                heads=heads,
                kv_heads=kv_heads,
                key_dim=self.head_dim,
                value_dim=self._value_dim(),
                cached_elements=kv_heads * (self.head_dim + self._value_dim()),
                written_elements=None if self.kv_cache == "own" else 0.0,
                weights=self._sinks(),
            )
        if self.output_gate or self.head_gate:
            yield pointwise(
                terms, "output_gate", rows=step.tokens, columns=heads * self._value_dim(),
                reads=2.0 if self.output_gate else 1.0, writes=1.0, flops_per_element=4.0,
            )  # fmt: skip
        if self.output_norm:
            yield pointwise(
                terms, "output_norm", kind="norm", rows=step.tokens, columns=heads * self._value_dim(),
                reads=1.0, writes=1.0, flops_per_element=4.0, weights=self._output_norm(),
            )  # fmt: skip
        yield from output_projection(terms, output, step.tokens, all_reduce="attention_all_reduce")

    def _projections(self, hidden_size: Quantity) -> tuple[tuple[Weight, ...], Weight]:
        named = {weight.name: weight for weight in self.weights(hidden_size)}
        inward = tuple(named[name] for name in ("query", "key", "value") if name in named)
        return inward, named["output"]

    def resident(self, step: Step, terms: Terms) -> Mapping[str, Quantity]:
        """Return the KV cache after the step; windows keep only what later tokens can see."""
        if self.kv_cache != "own":
            return {}
        step = step.share(terms.parallelism.data)
        kv_heads = ceil(self.kv_heads / terms.parallelism.tensor)
        reach = self.window if self.window is not None else self.chunk
        tokens = total(kept_tokens(sequences, reach) for sequences in step.sequences)
        cache = format_named(terms.precision.kv_cache)
        return {"kv_cache": cache.stored_bytes(tokens * kv_heads * (self.head_dim + self._value_dim()))}


def kept_tokens(sequences: Sequences, reach: Quantity | None) -> Quantity:
    """Return the cached tokens of all sequences after a step, shared ones once [tokens].

    With a reach only the newest `reach` tokens of each sequence are kept.
    """
    left: Quantity | None = reach
    kept: list[Quantity] = []
    for segment in reversed((*sequences.past, *sequences.new)):
        tokens = segment.tokens if left is None else minimum(left, segment.tokens)
        left = None if left is None else left - tokens
        kept.append(tokens * segment.head_fraction * sequences.count / segment.shared_by)
    return total(kept)
