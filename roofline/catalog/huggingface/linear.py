"""Hybrids of softmax attention with linear attention or short convolutions."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from roofline.catalog.huggingface.assembly import assembled, head_of
from roofline.catalog.huggingface.config import Config
from roofline.catalog.huggingface.decoder import Recipe, attentions, decoder, depth, layer
from roofline.catalog.huggingface.dense import LLAMA, QWEN3
from roofline.catalog.huggingface.mixture import experts, sparse_or_dense, stepwise
from roofline.catalog.huggingface.prediction import with_prediction
from roofline.graph.blocks.feed_forward import FeedForward
from roofline.graph.blocks.linear_attention import GatedDeltaNet, LightningAttention
from roofline.graph.blocks.mixture_of_experts import MixtureOfExperts
from roofline.graph.blocks.normalization import Normalization
from roofline.graph.blocks.short_convolution import ShortConvolution
from roofline.graph.blocks.union import AnyBlock
from roofline.graph.model import ModelSpec

__all__ = [
    "read_lfm2",
    "read_lfm2_moe",
    "read_minimax",
    "read_olmo_hybrid",
    "read_qwen3_5",
    "read_qwen3_5_moe",
    "read_qwen3_next",
]

_NORM: Final = Normalization()


def _linear_layers(config: Config) -> list[bool]:
    """Return which layers are linear: those ``layer_types`` names, else all but every fourth, or n-th."""
    layers = depth(config)
    interval = config.count("full_attention_interval", default=4)
    kinds = config.words("layer_types", layers, ("linear_attention", "full_attention"))
    if kinds is not None:
        return [kind == "linear_attention" for kind in kinds]
    return [(index + 1) % interval != 0 for index in range(layers)]


def _delta_net(config: Config) -> GatedDeltaNet:
    key_heads = config.count("linear_num_key_heads")
    value_heads = config.count("linear_num_value_heads")
    if value_heads % key_heads:
        config.refuse("linear_num_value_heads", f"a multiple of linear_num_key_heads = {key_heads}")
    return GatedDeltaNet(
        key_heads=float(key_heads),
        key_head_dim=float(config.count("linear_key_head_dim")),
        value_heads=float(value_heads),
        value_head_dim=float(config.count("linear_value_head_dim")),
        convolution_kernel=float(config.count("linear_conv_kernel_dim", default=4)),
    )


def _delta_mixers(config: Config, recipe: Recipe) -> list[AnyBlock]:
    linear = _delta_net(config)
    return [
        linear if here else attention
        for here, attention in zip(_linear_layers(config), attentions(config, recipe), strict=True)
    ]


_QWEN_HYBRID: Final = replace(QWEN3, head_dim=256, output_gate=True, windows="none")


def _shared_gated(config: Config) -> MixtureOfExperts:
    width = config.count("shared_expert_intermediate_size")
    return experts(config, shared_intermediate_size=width, shared_gate=True)


def read_qwen3_next(config: Config) -> ModelSpec:
    """Qwen3-Next: gated delta rule, gated attention in every fourth layer, a gated shared expert."""
    recipe = replace(_QWEN_HYBRID, kv_heads=2)
    feeds = sparse_or_dense(config, stepwise(config), _shared_gated(config))
    return decoder(config, recipe, mixers=_delta_mixers(config, recipe), feed_forwards=feeds)


def read_qwen3_5(config: Config) -> ModelSpec:
    """Qwen3.5, dense."""
    config.only("attn_output_gate", True)
    config.ignore("mamba_ssm_dtype")
    recipe = replace(_QWEN_HYBRID, kv_heads=4)
    spec = decoder(config, recipe, mixers=_delta_mixers(config, recipe))
    return _with_qwen_prediction(config, recipe, spec)


def read_qwen3_5_moe(config: Config) -> ModelSpec:
    """Qwen3.5, mixture of experts in every layer."""
    config.only("attn_output_gate", True)
    config.only("mlp_only_layers", [])
    config.ignore("mamba_ssm_dtype")
    recipe = replace(_QWEN_HYBRID, kv_heads=2)
    feeds = [_shared_gated(config)] * depth(config)
    spec = decoder(config, recipe, mixers=_delta_mixers(config, recipe), feed_forwards=feeds)
    return _with_qwen_prediction(config, recipe, spec)


def _with_qwen_prediction(config: Config, recipe: Recipe, spec: ModelSpec) -> ModelSpec:
    """Return the model with its module of softmax attention and the network of other layers."""
    config.only("mtp_num_hidden_layers", 0, 1)
    config.only("mtp_use_dedicated_embeddings", False)
    last = spec.layers[spec.layer_names()[-1]]
    network = last["experts" if "experts" in last else "feed_forward"]
    module = layer(recipe, attentions(config, recipe)[-1], network)
    return with_prediction(spec, config, "mtp_num_hidden_layers", module)


def read_olmo_hybrid(config: Config) -> ModelSpec:
    """OLMo hybrid: norms after attention layers' blocks, before those of linear layers."""
    config.ignore(
        "linear_a_log_min linear_a_log_max linear_dt_min linear_dt_max linear_dt_init_floor "
        "linear_allow_neg_eigval"
    )
    before = Recipe(biases=LLAMA.biases, query_key_norm="full")
    after = replace(before, placement="post")
    mixers = _delta_mixers(config, before)
    if all(mixer.kind == "gated_delta_net" for mixer in mixers):
        config.refuse("layer_types", "at least one layer of full_attention")
    feed = FeedForward(intermediate_size=float(config.count("intermediate_size")))
    layers = [layer(before if mixer.kind == "gated_delta_net" else after, mixer, feed) for mixer in mixers]
    return assembled(config, layers, head=head_of(config, tied=False), norm=_NORM)


def read_minimax(config: Config) -> ModelSpec:
    """MiniMax-Text-01: lightning attention, softmax attention in some layers, a mixture in all."""
    config.ignore(
        "block_size full_attn_alpha_factor full_attn_beta_factor linear_attn_alpha_factor "
        "linear_attn_beta_factor mlp_alpha_factor mlp_beta_factor router_jitter_noise"
    )
    layers = depth(config)
    kinds = config.words("layer_types", layers, ("linear_attention", "full_attention"))
    if kinds is None:
        kinds = ["linear_attention" if index % 2 else "full_attention" for index in range(layers)]
    recipe = Recipe(kv_heads=8, windows="every")
    mixers: list[AnyBlock] = [
        LightningAttention(heads=attention.heads, head_dim=attention.head_dim)
        if kind == "linear_attention"
        else attention
        for attention, kind in zip(attentions(config, recipe), kinds, strict=True)
    ]
    mixture = experts(config, width="intermediate_size")
    return decoder(config, recipe, mixers=mixers, feed_forwards=[mixture] * layers)


_LFM2: Final = Recipe(tied=True, kv_heads=8, query_key_norm="head")


def _lfm2_mixers(config: Config, kinds: Sequence[str]) -> list[AnyBlock]:
    convolution = ShortConvolution(
        kernel=float(config.count("conv_L_cache", default=3)), bias=config.flag("conv_bias", default=False)
    )
    return [
        convolution if kind == "conv" else attention
        for attention, kind in zip(attentions(config, _LFM2), kinds, strict=True)
    ]


def _lfm2_width(config: Config) -> int:
    """Return two thirds of the stated width times a factor, rounded up to a multiple, unless switched off."""
    width = config.count("intermediate_size")
    adjusted = config.flag("block_auto_adjust_ff_dim", default=True)
    multiple = config.count("block_multiple_of", default=256)
    factor = config.number("block_ffn_dim_multiplier", 1.0)
    if not adjusted:
        return width
    width = int(2 * width / 3)
    if config.values.get("block_ffn_dim_multiplier", factor) is None:
        return width
    return -(-int(factor * width) // multiple) * multiple


def read_lfm2(config: Config) -> ModelSpec:
    """LFM2: short convolutions, and attention in some layers."""
    hidden_size = config.count("hidden_size")
    for key in ("block_dim", "conv_dim", "conv_dim_out"):
        config.only(key, hidden_size)
    config.only("num_heads", config.count("num_attention_heads"))
    config.only("block_use_swiglu", True)
    config.only("use_pos_enc", True)
    config.ignore("block_mlp_init_scale block_out_init_scale block_use_xavier_init conv_use_xavier_init")
    layers = depth(config)
    attending = config.counts("full_attn_idxs")
    kinds = config.words("layer_types", layers, ("full_attention", "conv"))
    if kinds is None:
        kinds = ["full_attention" if attending is None or at in attending else "conv" for at in range(layers)]
    network = FeedForward(intermediate_size=float(_lfm2_width(config)))
    return decoder(config, _LFM2, mixers=_lfm2_mixers(config, kinds), feed_forwards=[network] * layers)


def read_lfm2_moe(config: Config) -> ModelSpec:
    """LFM2 mixture: its first layers are dense."""
    config.ignore("use_expert_bias")
    layers = depth(config)
    kinds = config.words("layer_types", layers, ("full_attention", "conv"))
    if kinds is None:
        config.refuse("layer_types", "conv or full_attention for each layer")
    dense = config.count("num_dense_layers", default=2, least=0)
    feeds = sparse_or_dense(config, [index >= dense for index in range(layers)], experts(config))
    return decoder(config, _LFM2, mixers=_lfm2_mixers(config, kinds), feed_forwards=feeds)


#: Letters of ``hybrid_override_pattern``, and the words of ``layers_block_type``.
