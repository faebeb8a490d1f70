"""Attention: `attend` is every one of them, whatever keys it sees and however they are stored."""

from dataclasses import replace

from roofline.graph.formats import format_named
from roofline.graph.operator import Operator, Terms
from roofline.graph.step import Sequences, Visible
from roofline.graph.weight import Weight
from roofline.quantity import Quantity, total, where

__all__ = ["attend"]


def attend(
    terms: Terms,
    name: str,
    sequences: Sequences,
    visible: Visible,
    *,
    heads: Quantity,
    kv_heads: Quantity,
    key_dim: Quantity,
    value_dim: Quantity,
    cached_elements: Quantity,
    written_elements: Quantity | None = None,
    new_keys: Quantity | None = None,
    kind: str = "attention",
    cached: bool = True,
    weights: tuple[Weight, ...] = (),
    shown: Quantity = 1.0,
) -> tuple[Operator, ...]:
    """Return the attention of one group of sequences on one rank.

    Parameters
    ----------
    heads, kv_heads : Quantity
        Query and key-value heads on this rank.
    key_dim, value_dim : Quantity
        Elements of a query or key, and of a value or output, per head.
    cached_elements : Quantity
        Elements kept per token on this rank and read for each past token.
    written_elements : Quantity, optional
        Elements written per new token; `cached_elements` unless the cache holds something else than
        what is read (unabsorbed latent attention).
    new_keys : Quantity, optional
        Keys made in this pass per sequence; the new tokens unless they attend to an encoder [tokens].
    cached : bool
        Whether the past is read from the KV cache; otherwise it is an activation.
    weights : tuple of Weight
        Vectors the kernel reads, such as attention sinks.
    shown : Quantity
        1, or 0 to hide the row where another form of the same attention runs.

    Notes
    -----
    Per query-key pair and query head ``2 (key_dim + value_dim)`` FLOPs; past keys and values are
    read once per copy; the new tokens' own are activations just made and are written to the cache.
    Unfused, scores are written, read, written and read. docs/formulas.md section 3. Where the kernels
    read shared keys once, each shared segment is a row of its own: the queries of all sequences that
    share it make one product, and partial outputs are written and joined (Hydragen, Juravsky et al.
    2024, arXiv:2402.05099, section 3).
    """
    precision, count = terms.precision, sequences.count
    hidden, cache = format_named(precision.hidden), format_named(precision.kv_cache)
    past, own_pairs, own_keys = _not_apart(terms, sequences, visible)
    new = count * sequences.new_tokens
    pairs = count * own_pairs * heads
    keys = new if new_keys is None else count * new_keys
    stored = cached_elements if written_elements is None else written_elements
    queries = hidden.stored_bytes(new * heads * key_dim)
    own = hidden.stored_bytes(keys * cached_elements)
    if cached:
        read = {"kv_cache": cache.stored_bytes(past * cached_elements), "activation": queries + own}
    else:
        read = {"activation": hidden.stored_bytes(past * cached_elements) + queries + own}
    if weights:
        vectors = precision.of_vectors()
        read["weight"] = total(
            weight.local(terms.parallelism).stored_bytes(vectors, vectors) for weight in weights
        )
    written = {
        "activation": hidden.stored_bytes(new * heads * value_dim),
        "kv_cache": cache.stored_bytes(keys * stored),
    }
    shape = {
        "sequences": count,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": key_dim,
        "value_dim": value_dim,
        "new_tokens": sequences.new_tokens,
        "keys": own_keys,
        "pairs": own_pairs,
        "cache_bits": cache.bits,
    }
    if visible.unlimited is not None:
        all_keys, all_pairs = visible.unlimited
        shape.update(windowed=1.0, all_keys=all_keys, all_pairs=all_pairs)
    if not terms.policy.fused_attention:
        scores = hidden.stored_bytes(pairs)
        read = {**read, "activation": read["activation"] + 2.0 * scores}
        written = {**written, "activation": written["activation"] + 2.0 * scores}
    main = Operator(
        name=name,
        kind=kind,
        flops=2.0 * pairs * (key_dim + value_dim),
        read=read,
        written=written,
        shape=shape,
        format=cache.name,
        compute_format=hidden.operand,
        kernels=where(new > 0, 1.0, 0.0) * shown,
        layer=terms.layer,
        block=terms.block,
    )
    if not terms.policy.shared_prefix:
        return (main,)
    return (main, *_shared_rows(terms, main, sequences, visible, cached_elements=cached_elements))


def _apart(terms: Terms, sequences: Sequences, visible: Visible) -> list[Quantity]:
    """1 for each past segment that is a row of its own, being shared; 0 for the others."""
    if not (terms.policy.shared_prefix and visible.past_pairs):
        return [0.0] * len(sequences.past)
    return [where(segment.shared_by > 1, 1.0, 0.0) for segment in sequences.past]


def _not_apart(terms: Terms, sequences: Sequences, visible: Visible) -> tuple[Quantity, Quantity, Quantity]:
    """Past tokens of all sequences, pairs and keys of one, without segments that are rows of their own."""
    apart = _apart(terms, sequences, visible)
    past = total(
        (1.0 - alone) * tokens * sequences.count * segment.head_fraction
        for tokens, alone, segment in zip(visible.past_tokens, apart, sequences.past, strict=True)
    )
    pairs = visible.pairs - total(
        alone * part for alone, part in zip(apart, visible.past_pairs, strict=False)
    )
    keys = visible.keys - total(alone * part for alone, part in zip(apart, visible.past_tokens, strict=True))
    return past, pairs, keys


def _shared_rows(
    terms: Terms, main: Operator, sequences: Sequences, visible: Visible, *, cached_elements: Quantity
) -> tuple[Operator, ...]:
    """Return a row for each past segment, hidden where it is not shared, of an attention to own keys."""
    hidden, cache = format_named(terms.precision.hidden), format_named(terms.precision.kv_cache)
    heads, key_dim, value_dim = (main.shape[name] for name in ("heads", "head_dim", "value_dim"))
    count, new = sequences.count, sequences.count * sequences.new_tokens
    return tuple(
        replace(
            main,
            name=f"{main.name}_shared",
            flops=2.0 * count * part * heads * (key_dim + value_dim),
            read={
                "kv_cache": cache.stored_bytes(
                    tokens * count / segment.shared_by * segment.head_fraction * cached_elements
                ),
                "activation": hidden.stored_bytes(new * heads * key_dim),
            },
            written={"activation": hidden.stored_bytes(new * heads * value_dim)},
            shape={
                **main.shape,
                "sequences": count / segment.shared_by,
                "new_tokens": sequences.new_tokens * segment.shared_by,
                "keys": tokens,
                "pairs": part * segment.shared_by,
            },
            kernels=main.kernels * alone * where(tokens > 0, 1.0, 0.0),
        )
        for tokens, part, alone, segment in zip(
            visible.past_tokens, visible.past_pairs, _apart(terms, sequences, visible), sequences.past,
            strict=False,
        )
    )  # fmt: skip
