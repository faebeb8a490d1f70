"""Gemma 3n and 4: layers with an embedding of their own, and layers that read earlier keys and values."""

from dataclasses import replace
from typing import Final

from roofline.catalog.huggingface.assembly import Blocks, assembled, head_of
from roofline.catalog.huggingface.config import Config
from roofline.catalog.huggingface.decoder import attention_shape, attentions, depth, windows
from roofline.catalog.huggingface.dense import GEMMA3
from roofline.catalog.huggingface.mixture import experts
from roofline.graph.blocks.alternating_updates import AlternatingUpdates
from roofline.graph.blocks.bottleneck import Bottleneck
from roofline.graph.blocks.embedding import Embedding
from roofline.graph.blocks.feed_forward import FeedForward
from roofline.graph.blocks.grouped_query_attention import GroupedQueryAttention
from roofline.graph.blocks.normalization import Normalization
from roofline.graph.blocks.projection import Projection
from roofline.graph.blocks.union import AnyBlock
from roofline.graph.model import ModelSpec

__all__ = ["read_gemma3n_text", "read_gemma4_text"]

_BEFORE: Final = Normalization()
_AFTER: Final = Normalization(residual=False)


def _earlier(config: Config) -> list[bool]:
    """Return which layers read keys and values of an earlier layer of their kind: the last so many."""
    layers = depth(config)
    shared = config.count("num_kv_shared_layers", default=0, least=0)
    if shared >= layers:
        config.refuse("num_kv_shared_layers", f"less than num_hidden_layers = {layers}")
    return [index >= layers - shared for index in range(layers)]


def _reused(config: Config, mixers: list[GroupedQueryAttention]) -> list[GroupedQueryAttention]:
    """Return the attentions, those of the last layers without keys and values of their own."""
    earlier = _earlier(config)
    own = {mixer.window for mixer, later in zip(mixers, earlier, strict=True) if not later}
    if any(mixer.window not in own for mixer in mixers):
        config.refuse("num_kv_shared_layers", "a layer of each kind that makes keys and values")
    return [
        replace(mixer, kv_cache="earlier") if later else mixer
        for mixer, later in zip(mixers, earlier, strict=True)
    ]


def _embedding(config: Config) -> Embedding:
    width = config.count("hidden_size_per_layer_input", default=256, least=0)
    words = config.count("vocab_size_per_layer_input", default=262_144)
    own = float(config.count("vocab_size", default=262_144))
    if not width:
        return Embedding(vocabulary_size=own)
    return Embedding(
        vocabulary_size=own,
        layer_inputs=depth(config),
        layer_input_size=float(width),
        layer_vocabulary_size=float(words),
    )


def _layer_input(config: Config) -> Blocks:
    """Return the product with the layer's own embedding and the norm after it, where there is one."""
    width = config.count("hidden_size_per_layer_input", default=256, least=0)
    if not width:
        return {}
    return {
        "layer_input": Bottleneck(size=float(width), layer_input=True),
        "layer_input_post_norm": _AFTER,
    }


def _gemma4_attentions(config: Config) -> list[GroupedQueryAttention]:
    """Return the attentions; those without a window have wider heads, and may have fewer KV heads."""
    config.only("use_bidirectional_attention", "vision")
    local = replace(GEMMA3, window_default=512)
    heads = config.count("num_attention_heads")
    same = config.flag("attention_k_eq_v", default=False)
    stated = config.raw("layer_types")
    if isinstance(stated, list) and stated and stated[-1] != "full_attention":
        config.refuse("layer_types", "a last layer of full_attention")
    width = config.count("global_head_dim", default=512)
    kv_heads = config.optional_count("num_global_key_value_heads")
    config.only("per_layer_config")
    _, own_kv_heads, _ = attention_shape(config, local)
    kv_heads = own_kv_heads if kv_heads is None or not same else kv_heads
    if heads % kv_heads:
        config.refuse("num_global_key_value_heads", f"a divisor of num_attention_heads = {heads}")
    sees = windows(config, local)
    if sees[-1] is not None:
        sees[-1] = None
    return [
        replace(mixer, window=None, head_dim=float(width), kv_heads=float(kv_heads), value_from_key=same)
        if window is None
        else mixer
        for mixer, window in zip(attentions(config, local), sees, strict=True)
    ]


def read_gemma4_text(config: Config) -> ModelSpec:
    """Gemma 4: wider heads without a window, keys as values, a mixture beside the network.

    Notes
    -----
    The norm without gain over values is not counted.
    """
    width = config.count("intermediate_size")
    doubled = config.flag("use_double_wide_mlp", default=False)
    mixture: Blocks = {}
    if config.flag("enable_moe_block", default=False):
        # The router's scale over the hidden state is the gain of a norm; its scale of each expert is as
        # many numbers as the bias that chooses experts.
        mixture = {
            "feed_forward_own_norm": _AFTER,
            "router_norm": _AFTER,
            "experts_norm": _AFTER,
            "experts": experts(config, counted_bias=True),
            "experts_post_norm": _AFTER,
        }
    else:
        config.ignore("num_experts num_experts_per_tok moe_intermediate_size")

    def layer(mixer: GroupedQueryAttention) -> Blocks:
        wide = doubled and mixer.kv_cache == "earlier"
        network: AnyBlock = FeedForward(intermediate_size=float(2 * width if wide else width))
        return {
            "attention_norm": _BEFORE,
            "attention": mixer,
            "attention_post_norm": _AFTER,
            "feed_forward_norm": _BEFORE,
            "feed_forward": network,
            **mixture,
            "feed_forward_post_norm": _AFTER,
            **_layer_input(config),
        }

    head = head_of(config, tied=True)
    return assembled(
        config,
        [layer(mixer) for mixer in _reused(config, _gemma4_attentions(config))],
        head=head,
        embedding=_embedding(config),
        norm=_BEFORE,
    )


def _gemma3n_widths(config: Config) -> list[int]:
    """Return the width of each layer's network: one for all, or a list."""
    layers = depth(config)
    if isinstance(config.raw("intermediate_size"), list):
        return config.counts("intermediate_size", layers, least=1) or []
    return [config.count("intermediate_size", default=16_384)] * layers


def read_gemma3n_text(config: Config) -> ModelSpec:
    """Gemma 3n: four hidden states of which a layer computes one, and a low-rank branch beside attention.

    Notes
    -----
    Gains of activation sparsity are not counted: all weights are read and multiplied.
    """
    config.ignore("activation_sparsity_pattern altup_active_idx altup_coef_clip altup_correct_scale")
    states = config.count("altup_num_inputs", default=4)
    local = replace(GEMMA3, kv_heads=2, windows=5, window_default=512)
    updates = AlternatingUpdates(states=float(states))
    branch = Bottleneck(size=float(config.count("laurel_rank", default=64)))
    hidden_size = float(config.count("hidden_size", default=2048))
    others = Projection(output_size=(states - 1) * hidden_size)

    def layer(mixer: GroupedQueryAttention, width: int) -> Blocks:
        return {
            "updates": updates,
            "attention_norm": _AFTER,
            "branch": branch,
            "branch_norm": _AFTER,
            "attention": mixer,
            "attention_post_norm": _AFTER,
            "feed_forward_norm": _BEFORE,
            "feed_forward": FeedForward(intermediate_size=float(width)),
            "feed_forward_post_norm": _AFTER,
            **_layer_input(config),
        }

    head = head_of(config, tied=True)
    mixers = _reused(config, attentions(config, local))
    spec = assembled(
        config,
        [
            {"states": others},
            *(layer(mixer, width) for mixer, width in zip(mixers, _gemma3n_widths(config), strict=True)),
        ],
        head=head,
        embedding=_embedding(config),
        norm=_BEFORE,
    )
    return replace(spec, final_norm={"states": others, **spec.final_norm})
