"""Mixtures of experts on softmax attention that is the same in all layers."""

from dataclasses import replace
from typing import Final

from roofline.catalog.huggingface.config import Config
from roofline.catalog.huggingface.decoder import Biases, Recipe, decoder, depth
from roofline.catalog.huggingface.dense import LAYER_NORM, LLAMA, QWEN3
from roofline.catalog.huggingface.mixture import (
    after_first,
    experts,
    shared_width,
    sparse_or_dense,
    stepwise,
)
from roofline.catalog.huggingface.prediction import with_prediction
from roofline.graph.model import ModelSpec

_MIXTRAL: Final = Recipe(kv_heads=8, windows="every")
_OLMOE: Final = Recipe(biases=LLAMA.biases, query_key_norm="full")


def read_mixtral(config: Config) -> ModelSpec:
    """Mixtral."""
    mixture = experts(config, width="intermediate_size")
    return decoder(config, _MIXTRAL, feed_forwards=[mixture] * depth(config))


def read_minimax_m2(config: Config) -> ModelSpec:
    """MiniMax-M2: norms over all heads' queries and keys."""
    config.only("qk_norm_type", "per_layer")
    config.only("use_qk_norm", True)
    config.only("shared_intermediate_size", 0)
    config.only("attn_type_list", [1] * depth(config))
    config.ignore("use_routing_bias use_mtp num_mtp_modules mtp_transformer_layers")
    recipe = replace(_MIXTRAL, head_dim=128, query_key_norm="full", windows="none")
    config.only("sliding_window", 0)
    mixture = experts(config, width="intermediate_size")
    return decoder(config, recipe, feed_forwards=[mixture] * depth(config))


def read_phimoe(config: Config) -> ModelSpec:
    """Phi-3.5-MoE: LayerNorms, and biases of attention and head."""
    bias = config.flag("attention_bias", default=False)
    recipe = replace(
        _MIXTRAL,
        norm=LAYER_NORM,
        biases=lambda _: Biases(projection=bias, output=bias),
        head_bias=config.flag("lm_head_bias", default=False),
    )
    mixture = experts(config, width="intermediate_size")
    return decoder(config, recipe, feed_forwards=[mixture] * depth(config))


def read_qwen2_moe(config: Config) -> ModelSpec:
    """Qwen1.5-MoE and Qwen2-MoE: a gated shared expert."""
    bias = config.flag("qkv_bias", default=True)
    recipe = Recipe(
        kv_heads=16, biases=lambda _: Biases(projection=bias), windows="flagged", window_default=4096
    )
    mixture = experts(
        config, shared_intermediate_size=config.count("shared_expert_intermediate_size"), shared_gate=True
    )
    return decoder(config, recipe, feed_forwards=sparse_or_dense(config, stepwise(config), mixture))


def read_qwen3_moe(config: Config) -> ModelSpec:
    """Qwen3-MoE."""
    recipe = replace(QWEN3, kv_heads=4, head_dim=None)
    feeds = sparse_or_dense(config, stepwise(config), experts(config))
    return decoder(config, recipe, feed_forwards=feeds)


def read_olmoe(config: Config) -> ModelSpec:
    """OLMoE: norms over all heads' queries and keys."""
    mixture = experts(config, width="intermediate_size")
    return decoder(config, _OLMOE, feed_forwards=[mixture] * depth(config))


def read_flex_olmo(config: Config) -> ModelSpec:
    """FlexOlmo: OLMoE with norms after the blocks."""
    mixture = experts(config, width="intermediate_size")
    return decoder(config, replace(_OLMOE, placement="post"), feed_forwards=[mixture] * depth(config))


def read_granitemoe(config: Config) -> ModelSpec:
    """Granite 3 mixture, with a shared network where one is given."""
    shared = config.count("shared_intermediate_size", default=0, least=0)
    mixture = experts(config, width="intermediate_size", shared_intermediate_size=shared)
    return decoder(config, LLAMA, feed_forwards=[mixture] * depth(config))


def read_dbrx(config: Config) -> ModelSpec:
    """DBRX: its attention and its experts have objects of their own."""
    config.only("tie_word_embeddings", False)
    attention = config.nested("attn_config")
    config.values["num_key_value_heads"] = attention.count("kv_n_heads", default=1)
    attention.ignore("clip_qkv")
    attention.finish()
    network = config.nested(
        "ffn_config", spellings={"moe_num_experts": "num_experts", "moe_top_k": "num_experts_per_tok"}
    )
    mixture = experts(network, width="ffn_hidden_size")
    network.only("hidden_size", config.count("hidden_size"))
    network.ignore("ffn_act_fn moe_normalize_expert_weights")
    network.finish()
    return decoder(config, Recipe(), feed_forwards=[mixture] * depth(config))


def read_hy_v3(config: Config) -> ModelSpec:
    """Tencent Hy3: norms over each head's queries and keys, one dense layer."""
    config.only("mlp_bias", False)
    config.ignore("router_scaling_factor enable_moe_fp32_combine num_nextn_predict_layers")
    recipe = Recipe(kv_heads=8, head_dim=128, biases=LLAMA.biases, query_key_norm="head")
    shared = config.count("num_shared_experts", default=1) * config.count("moe_intermediate_size")
    mixture = experts(config, shared_intermediate_size=shared)
    feeds = sparse_or_dense(config, after_first(config, 1), mixture)
    return decoder(config, recipe, feed_forwards=feeds)


def read_ernie4_5_moe(config: Config) -> ModelSpec:
    """ERNIE 4.5: the bias that chooses experts is a parameter."""
    bias = config.flag("use_bias", default=False)
    recipe = Recipe(
        tied=True,
        kv_heads=4,
        biases=lambda _: Biases(projection=bias, output=bias, feed_forward=bias),
    )
    if bias:
        config.refuse("use_bias", "false")
    layers = depth(config)
    start = config.count("moe_layer_start_index", default=1, least=0)
    end = config.optional_count("moe_layer_end_index", least=-1)
    last = layers - 1 if end in (None, -1) else int(end or 0)
    interval = config.count("moe_layer_interval", default=1)
    width = config.count("moe_intermediate_size")
    shared = config.count("moe_num_shared_experts", default=2, least=0)
    mixture = experts(config, shared_intermediate_size=shared * width, counted_bias=True)
    sparse = [(index + 1) % interval == 0 and start <= index <= last for index in range(layers)]
    config.ignore("num_nextn_predict_layers moe_norm_min moe_capacity moe_gate moe_use_aux_free")
    return decoder(config, recipe, feed_forwards=sparse_or_dense(config, sparse, mixture))


def read_glm4_moe(config: Config) -> ModelSpec:
    """GLM-4.5 and later."""
    bias = config.flag("attention_bias", default=False)
    recipe = Recipe(
        kv_heads=8,
        biases=lambda _: Biases(projection=bias),
        query_key_norm="head" if config.flag("use_qk_norm", default=False) else "none",
    )
    mixture = experts(config, shared_intermediate_size=shared_width(config))
    feeds = sparse_or_dense(config, after_first(config, 1), mixture)
    return with_prediction(decoder(config, recipe, feed_forwards=feeds), config)


def read_dots1(config: Config) -> ModelSpec:
    """dots.llm1."""
    recipe = replace(QWEN3, head_dim=None, windows="flagged")
    mixture = experts(config, shared_intermediate_size=shared_width(config))
    feeds = sparse_or_dense(config, after_first(config, 0), mixture)
    return decoder(config, recipe, feed_forwards=feeds)


def read_solar_open(config: Config) -> ModelSpec:
    """Solar Open: every layer sparse."""
    recipe = Recipe(kv_heads=8, head_dim=128, biases=lambda _: Biases())
    config.only("attention_bias", False)
    config.ignore("intermediate_size first_k_dense_replace")
    mixture = experts(config, shared_intermediate_size=shared_width(config))
    return decoder(config, recipe, feed_forwards=[mixture] * depth(config))


def read_hunyuan_v1_moe(config: Config) -> ModelSpec:
    """Hunyuan-A13B: one shared network as wide as an expert."""
    bias = config.flag("attention_bias", default=False)
    recipe = Recipe(
        biases=lambda _: Biases(projection=bias, output=bias),
        query_key_norm="head" if config.flag("use_qk_norm", default=True) else "none",
    )
    mixture = experts(
        config, width="intermediate_size", shared_intermediate_size=config.count("intermediate_size")
    )
    return decoder(config, recipe, feed_forwards=[mixture] * depth(config))


def read_bailing_moe(config: Config) -> ModelSpec:
    """Ling and Ring, 1.x and 2.0, which share a ``model_type`` and are told apart by their class.

    Notes
    -----
    ``modeling_bailing_moe.py`` and ``modeling_bailing_moe_v2.py`` of the publisher. The second has norms over
    each head's queries and keys and modules for multi-token prediction; its bias that chooses experts is a
    buffer.
    """
    second = config.raw("model_type") == "bailing_moe_v2" or config.raw("architectures") == [
        "BailingMoeV2ForCausalLM"
    ]
    config.ignore("norm_softmax norm_head score_function moe_router_enable_expert_bias router_dtype")
    config.only("use_rmsnorm", True)
    config.only("use_sliding_window", False)
    config.ignore("sliding_window max_window_layers")
    config.ignore("moe_router_enable_shared_expert")
    for key in ("num_key_value_heads", "num_shared_experts", *(("use_qk_norm",) if second else ())):
        if key not in config:
            config.refuse(key, "a value, since classes differ in what they take without it")
    shared = shared_width(config, "num_shared_experts")
    config.only("moe_shared_expert_intermediate_size", shared)
    qkv_bias = config.flag("use_qkv_bias", default=False)
    output_bias = config.flag("use_bias", default=not second)
    normed = second and config.flag("use_qk_norm", default=True)
    if not second:
        config.only("use_qk_norm", False)
    recipe = Recipe(
        biases=lambda _: Biases(projection=qkv_bias, output=output_bias),
        query_key_norm="head" if normed else "none",
    )
    feeds = sparse_or_dense(config, after_first(config, 0), experts(config, shared_intermediate_size=shared))
    spec = decoder(config, recipe, feed_forwards=feeds)
    return with_prediction(spec, config) if second else spec
