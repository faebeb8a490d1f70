"""Decoders with multi-head latent attention."""

from dataclasses import replace
from typing import Final

from roofline.catalog.huggingface.config import Config
from roofline.catalog.huggingface.decoder import Recipe, decoder, depth
from roofline.catalog.huggingface.mixture import after_first, experts, sparse_or_dense
from roofline.catalog.huggingface.prediction import with_prediction
from roofline.graph.blocks.indexer import Indexer
from roofline.graph.blocks.kimi_delta_attention import KimiDeltaAttention
from roofline.graph.blocks.latent_attention import LatentAttention
from roofline.graph.blocks.union import AnyBlock
from roofline.graph.model import ModelSpec

__all__ = [
    "latent_attention", "read_deepseek", "read_deepseek_v2", "read_deepseek_v32", "read_dense_latent",
    "read_glm4_moe_lite", "read_kimi_linear",
]  # fmt: skip

_RECIPE: Final = Recipe()


def latent_attention(config: Config) -> LatentAttention:
    """Return dense latent attention; ``head_dim`` and the number of KV heads do not shape it."""
    config.ignore("head_dim num_key_value_heads qk_head_dim")
    if "q_lora_rank" not in config.values:
        config.refuse("q_lora_rank", "a rank, or null for none")
    rank = config.optional_count("q_lora_rank")
    return LatentAttention(
        heads=float(config.count("num_attention_heads")),
        q_lora_rank=None if rank is None else float(rank),
        kv_lora_rank=float(config.count("kv_lora_rank")),
        qk_nope_head_dim=float(config.count("qk_nope_head_dim")),
        qk_rope_head_dim=float(config.count("qk_rope_head_dim")),
        v_head_dim=float(config.count("v_head_dim")),
        bias=config.flag("attention_bias", default=False),
    )


def _feeds(config: Config, first_dense: int) -> list[AnyBlock]:
    width = config.count("moe_intermediate_size")
    if "n_shared_experts" not in config.values:
        config.refuse("n_shared_experts", "a number, or null for none")
    shared = config.count("n_shared_experts", default=0, least=0) * width
    mixture = experts(config, shared_intermediate_size=shared)
    return sparse_or_dense(config, after_first(config, first_dense), mixture)


def read_deepseek(config: Config) -> ModelSpec:
    """DeepSeek-V3 and R1, Kimi K2: latent attention and a mixture after three dense layers."""
    return _latent_decoder(config, 3)


def read_deepseek_v2(config: Config) -> ModelSpec:
    """DeepSeek-V2: as V3, but sparse from the first layer unless the configuration says otherwise."""
    return _latent_decoder(config, 0)


def read_glm4_moe_lite(config: Config) -> ModelSpec:
    """GLM-4.7-Flash: as DeepSeek-V3, with one dense layer."""
    return _latent_decoder(config, 1)


def _latent_decoder(config: Config, first_dense: int) -> ModelSpec:
    mixers = [latent_attention(config)] * depth(config)
    spec = decoder(config, _RECIPE, mixers=mixers, feed_forwards=_feeds(config, first_dense))
    return with_prediction(spec, config)


def read_deepseek_v32(config: Config) -> ModelSpec:
    """DeepSeek-V3.2, GLM-5: an indexer chooses the tokens each layer attends to."""
    config.ignore("indexer_rope_interleave")
    layers = depth(config)
    sparse = replace(
        latent_attention(config),
        top_k=float(config.count("index_topk")),
        indexer=Indexer(
            heads=float(config.count("index_n_heads")), head_dim=float(config.count("index_head_dim"))
        ),
    )
    kinds = config.words("indexer_types", layers, ("full", "shared")) or ["full"] * layers
    if kinds[0] == "shared":
        config.refuse("indexer_types", "a first layer with an indexer")
    mixers = [sparse if kind == "full" else replace(sparse, indexer=None) for kind in kinds]
    spec = decoder(config, _RECIPE, mixers=mixers, feed_forwards=_feeds(config, 3))
    if "shared" in kinds:
        config.ignore("num_nextn_predict_layers")
        return spec
    return with_prediction(spec, config)


def _kimi_layer_types(config: Config, linear: Config | None) -> list[str]:
    """Return the kind of each layer; the published lists count from one."""
    layers = depth(config)
    stated = config.words("layer_types", layers, ("full_attention", "linear_attention"))
    full = None if linear is None else linear.counts("full_attn_layers", least=1)
    delta = None if linear is None else linear.counts("kda_layers", least=1)
    if stated is not None:
        return stated
    if full is None or delta is None:
        return [
            "full_attention" if index and index % 4 == 0 else "linear_attention" for index in range(layers)
        ]
    if sorted(full + delta) != list(range(1, layers + 1)):
        config.refuse("linear_attn_config", f"each of {layers} layers in full_attn_layers or in kda_layers")
    return ["full_attention" if index + 1 in full else "linear_attention" for index in range(layers)]


def read_kimi_linear(config: Config) -> ModelSpec:
    """Kimi Linear: delta attention with a decay per channel, and latent attention without positions."""
    config.only("mla_use_nope", True)
    config.ignore("moe_renormalize moe_router_activation_func use_grouped_topk num_expert_group")
    linear = config.nested("linear_attn_config") if "linear_attn_config" in config else None
    kinds = _kimi_layer_types(config, linear)
    heads = config.count("linear_num_heads", default=32)
    head_dim = config.count("linear_head_dim", default=128)
    kernel = config.count("linear_conv_kernel_dim", default=4)
    if linear is not None:
        heads = linear.count("num_heads", default=heads)
        head_dim = linear.count("head_dim", default=head_dim)
        kernel = linear.count("short_conv_kernel_size", default=kernel)
        linear.finish()
    delta = KimiDeltaAttention(
        heads=float(heads),
        head_dim=float(head_dim),
        gate_rank=float(head_dim),
        convolution_kernel=float(kernel),
    )
    latent = replace(latent_attention(config), rotary=False)
    mixers: list[AnyBlock] = [latent if kind == "full_attention" else delta for kind in kinds]
    config.count("n_shared_experts")
    return with_prediction(decoder(config, _RECIPE, mixers=mixers, feed_forwards=_feeds(config, 1)), config)


def read_dense_latent(config: Config) -> ModelSpec:
    """MiniCPM3 and Youtu: latent attention with dense networks."""
    config.ignore("scale_emb scale_depth dim_model_base")
    config.only("mlp_bias", False)
    return decoder(config, replace(_RECIPE, tied=True), mixers=[latent_attention(config)] * depth(config))
