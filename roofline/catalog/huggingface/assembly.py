"""From a list of layers, one per depth, to a model: names, run lengths, embedding and head."""

from collections.abc import Mapping, Sequence
from typing import Final

from roofline.catalog.huggingface.config import Config
from roofline.catalog.run_lengths import run_lengths
from roofline.graph.blocks.embedding import Embedding, Head
from roofline.graph.blocks.grouped_query_attention import GroupedQueryAttention
from roofline.graph.blocks.normalization import Normalization
from roofline.graph.blocks.union import AnyBlock
from roofline.graph.layer import Run
from roofline.graph.model import ModelSpec

__all__ = ["Blocks", "arranged", "assembled", "head_of"]

#: The blocks of one layer by name, in order.
Blocks = Mapping[str, AnyBlock]

_WORDS: Final = {
    "cross_attention": "cross",
    "feed_forward": "dense",
    "gated_delta_net": "linear",
    "kimi_delta_attention": "linear",
    "latent_attention": "latent",
    "lightning_attention": "linear",
    "mamba": "mamba",
    "mamba2": "mamba",
    "mixture_of_experts": "sparse",
    "projection": "matrix",
    "short_convolution": "convolution",
}


def _word(block: AnyBlock) -> str | None:
    """Return what tells a layer with this block from others; norms tell nothing."""
    if isinstance(block, GroupedQueryAttention):
        if block.window is not None:
            return "local"
        return "global" if block.chunk is None else "chunked"
    return _WORDS.get(block.kind)


def arranged(layers: Sequence[Blocks]) -> tuple[dict[str, Blocks], tuple[Run, ...]]:
    """Return the distinct layers by name, and their order.

    A name is made of what differs between layers: ``local_sparse``; ``decoder`` if nothing does.
    """
    words = [tuple(word for block in layer.values() if (word := _word(block))) for layer in layers]
    varying = {word for row in words for word in row if any(word not in other for other in words)}
    named: dict[str, Blocks] = {}
    keys: dict[str, str] = {}
    order: list[str] = []
    for layer, row in zip(layers, words, strict=True):
        key = repr(layer)
        if key not in keys:
            told = [word for word in row if word in varying] or (row if varying else ("decoder",))
            base = "_".join(told) or "empty"
            taken = sum(name == base or name.startswith(base + "_v") for name in named)
            keys[key] = base if not taken else f"{base}_v{taken + 1}"
            named[keys[key]] = layer
        order.append(keys[key])
    return named, run_lengths(tuple(order))


def head_of(config: Config, *, tied: bool, bias: bool = False, width: float = 0.0) -> Head:
    """Return the language-model head; `tied` is the class default of ``tie_word_embeddings``."""
    shared = config.flag("tie_word_embeddings", default=tied)
    if shared and bias:
        config.refuse("tie_word_embeddings", "false, since the head has a bias of its own")
    return Head(
        vocabulary_size=float(config.count("vocab_size")),
        tied=shared,
        bias=bias,
        width=width,
    )


def assembled(
    config: Config,
    layers: Sequence[Blocks],
    *,
    head: Head,
    embedding: Embedding | None = None,
    norm: Normalization | None,
) -> ModelSpec:
    """Return the model of `layers`, one per depth, closed by `norm`."""
    named, order = arranged(layers)
    context = config.optional_count("max_position_embeddings", most=10**9)
    return ModelSpec(
        name="",
        hidden_size=float(config.count("hidden_size")),
        layers=named,
        order=order,
        embedding=embedding or Embedding(vocabulary_size=head.vocabulary_size),
        head=head,
        final_norm={} if norm is None else {"norm": norm},
        context_tokens=float(context or 0),
    )
