"""Mixtures of experts on softmax attention."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from roofline.catalog.huggingface.config import Config
from roofline.catalog.huggingface.decoder import (
    Biases,
    Recipe,
    attention_shape,
    attentions,
    decoder,
    depth,
)  # fmt: skip
from roofline.catalog.huggingface.dense import COHERE2, LAYER_NORM, LLAMA, QWEN3, granite_window_attentions
from roofline.catalog.huggingface.prediction import with_prediction
from roofline.graph.blocks.feed_forward import FeedForward
from roofline.graph.blocks.mixture_of_experts import MixtureOfExperts
from roofline.graph.blocks.union import AnyBlock
from roofline.graph.model import ModelSpec

__all__ = ["after_first", "experts", "sparse_or_dense", "stepwise"]


def experts(
    config: Config,
    *,
    width: str = "moe_intermediate_size",
    shared_intermediate_size: int = 0,
    shared_gate: bool = False,
    bias: bool = False,
    router_bias: bool = False,
    gated: bool = True,
    counted_bias: bool = False,
) -> MixtureOfExperts:
    """Return the mixture a configuration describes; `width` names the key of one expert's width.

    Parameters
    ----------
    counted_bias : bool
        Whether the bias that only chooses experts is a parameter; most publish it as a buffer.

    Raises
    ------
    FileFormatError
        If a token visits more experts than there are.
    """
    count = config.count("num_experts")
    top_k = config.count("num_experts_per_tok")
    if top_k > count:
        config.refuse("num_experts_per_tok", f"at most num_experts = {count}")
    return MixtureOfExperts(
        experts=float(count),
        top_k=float(top_k),
        intermediate_size=float(config.count(width)),
        shared_intermediate_size=float(shared_intermediate_size),
        shared_gate=shared_gate,
        gated=gated,
        bias=bias,
        router_bias=router_bias,
        selection_bias=counted_bias,
    )


def sparse_or_dense(
    config: Config, sparse: Sequence[bool], mixture: MixtureOfExperts, width: str = "intermediate_size"
) -> list[AnyBlock]:
    """Return for each layer the mixture, or the dense network whose width `width` names."""
    if all(sparse):
        config.ignore(width)
        return [mixture] * len(sparse)
    network = FeedForward(intermediate_size=float(config.count(width)))
    return [mixture if here else network for here in sparse]


def after_first(config: Config, default: int) -> list[bool]:
    """Return which layers are sparse: all after ``first_k_dense_replace``."""
    layers = depth(config)
    first = config.count("first_k_dense_replace", default=default, least=0)
    config.only("moe_layer_freq", 1, [1] * layers, [0] * min(first, layers) + [1] * max(0, layers - first))
    listed = config.words("mlp_layer_types", layers, ("dense", "sparse"))
    if listed is not None:
        return [kind == "sparse" for kind in listed]
    return [index >= first for index in range(layers)]


def stepwise(config: Config) -> list[bool]:
    """Return which layers are sparse: every ``decoder_sparse_step``-th but ``mlp_only_layers``."""
    layers = depth(config)
    step = config.count("decoder_sparse_step", default=1)
    dense = config.counts("mlp_only_layers") or []
    return [(index + 1) % step == 0 and index not in dense for index in range(layers)]


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


def read_mellum(config: Config) -> ModelSpec:
    """Mellum: Qwen3-MoE with windows where ``layer_types`` has them."""
    config.only("num_mtp_layers", 0)
    feeds = sparse_or_dense(config, _listed(config, [True] * depth(config)), experts(config))
    return decoder(config, _windowed(config, replace(QWEN3, kv_heads=4)), feed_forwards=feeds)


def _listed(config: Config, default: list[bool]) -> list[bool]:
    """Return which layers are sparse: those ``mlp_layer_types`` says, else the default."""
    listed = config.words("mlp_layer_types", depth(config), ("dense", "sparse"))
    return default if listed is None else [kind == "sparse" for kind in listed]


def _windowed(config: Config, recipe: Recipe) -> Recipe:
    """Return the recipe with windows if ``layer_types`` lists any; without that list there are none."""
    if config.raw("layer_types") is None:
        config.ignore("sliding_window")
        return replace(recipe, windows="none")
    return replace(recipe, windows=4)


def read_laguna(config: Config) -> ModelSpec:
    """Laguna: gated attention, with heads of each layer's own number, and a shared expert."""
    config.ignore("moe_routed_scaling_factor moe_router_logit_softcapping")
    config.only("moe_apply_router_weight_on_input", False)
    gating = config.raw("gating")
    if gating not in (None, True, "per-head", "per-element"):
        config.refuse("gating", "true, per-head or per-element")
    by_head = gating != "per-element"
    config.only("attention_bias", False)
    recipe = Recipe(kv_heads=8, head_dim=128, query_key_norm="head", window_default=512)
    recipe = _windowed(config, recipe)
    layers = depth(config)
    heads = config.counts("num_attention_heads_per_layer", layers, least=1)
    mixers = []
    for index, mixer in enumerate(attentions(config, recipe)):
        own = mixer if heads is None else replace(mixer, heads=float(heads[index]))
        if float(own.heads) % float(own.kv_heads):
            config.refuse("num_attention_heads_per_layer", f"multiples of {mixer.kv_heads:g} KV heads")
        mixers.append(replace(own, head_gate=by_head, output_gate=not by_head))
    shared = config.count("shared_expert_intermediate_size", default=512)
    mixture = experts(config, shared_intermediate_size=shared, counted_bias=True)
    feeds = sparse_or_dense(config, _listed(config, [bool(index) for index in range(layers)]), mixture)
    return decoder(config, recipe, mixers=mixers, feed_forwards=feeds)


def read_olmoe(config: Config) -> ModelSpec:
    """OLMoE: norms over all heads' queries and keys."""
    mixture = experts(config, width="intermediate_size")
    return decoder(config, _OLMOE, feed_forwards=[mixture] * depth(config))


def read_flex_olmo(config: Config) -> ModelSpec:
    """FlexOlmo: OLMoE with norms after the blocks."""
    mixture = experts(config, width="intermediate_size")
    return decoder(config, replace(_OLMOE, placement="post"), feed_forwards=[mixture] * depth(config))


def read_gpt_oss(config: Config) -> ModelSpec:
    """gpt-oss: sinks, biases everywhere, every second layer with a window."""
    config.ignore("initial_context_length")
    bias = config.flag("attention_bias", default=True)
    recipe = Recipe(
        kv_heads=8,
        head_dim=64,
        biases=lambda _: Biases(projection=bias, output=bias),
        windows=2,
        window_default=128,
        sinks=True,
    )
    mixture = experts(config, width="intermediate_size", bias=True, router_bias=True)
    return decoder(config, recipe, feed_forwards=[mixture] * depth(config))


def read_granitemoe(config: Config) -> ModelSpec:
    """Granite 3 mixture, with a shared network where one is given."""
    shared = config.count("shared_intermediate_size", default=0, least=0)
    mixture = experts(config, width="intermediate_size", shared_intermediate_size=shared)
    return decoder(config, LLAMA, feed_forwards=[mixture] * depth(config))


def read_granitemoe_swa(config: Config) -> ModelSpec:
    """Granite Swash mixture: windows in all but the first of every four layers, and sinks."""
    shared = config.count("shared_intermediate_size", default=0, least=0)
    mixture = experts(config, width="intermediate_size", shared_intermediate_size=shared)
    mixers = granite_window_attentions(config, LLAMA)
    return decoder(config, LLAMA, mixers=mixers, feed_forwards=[mixture] * depth(config))


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


def read_cohere2_moe(config: Config) -> ModelSpec:
    """Cohere mixture: attention beside the experts, rotary where there is a window.

    Notes
    -----
    Dense layers have a pattern of windows of their own; the pattern of the others starts after them. A dense
    layer whose pattern is 1 turns positions though it sees everything.
    """
    config.ignore("shared_expert_combination_strategy expert_selection_fn")
    layers = depth(config)
    dense = config.count("first_k_dense_replace", default=0, least=0, most=layers)
    prefix = config.count("prefix_dense_sliding_window_pattern", default=1)
    period = config.count("sliding_window_pattern", default=4)
    if "layer_types" not in config:
        places = [(index, prefix) for index in range(dense)]
        places += [(index, period) for index in range(layers - dense)]
        config.values["layer_types"] = [
            "sliding_attention" if (index + 1) % every else "full_attention" for index, every in places
        ]
    sparse = after_first(config, 0)
    recipe = replace(COHERE2, head_dim=128)
    mixers = [
        replace(mixer, rotary=mixer.window is not None or (prefix == 1 and not here))
        for mixer, here in zip(attentions(config, recipe), sparse, strict=True)
    ]
    shared = config.count("num_shared_experts", default=0, least=0) * config.count("intermediate_size")
    mixture = experts(config, width="intermediate_size", shared_intermediate_size=shared)
    width = "prefix_dense_intermediate_size"
    config.ignore(width)
    feeds = sparse_or_dense(config, sparse, mixture, width if width in config else "intermediate_size")
    return decoder(config, recipe, mixers=mixers, feed_forwards=feeds)


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


def _shared_width(config: Config, key: str = "n_shared_experts", default: int | None = None) -> int:
    """Return the width of all shared experts, each as wide as a routed one."""
    return config.count(key, default=default, least=0) * config.count("moe_intermediate_size")


def read_glm4_moe(config: Config) -> ModelSpec:
    """GLM-4.5 and later."""
    bias = config.flag("attention_bias", default=False)
    recipe = Recipe(
        kv_heads=8,
        biases=lambda _: Biases(projection=bias),
        query_key_norm="head" if config.flag("use_qk_norm", default=False) else "none",
    )
    mixture = experts(config, shared_intermediate_size=_shared_width(config))
    feeds = sparse_or_dense(config, after_first(config, 1), mixture)
    return with_prediction(decoder(config, recipe, feed_forwards=feeds), config)


def read_mimo_v2_flash(config: Config) -> ModelSpec:
    """MiMo-V2-Flash: windows with sinks and twice the KV heads but in the first and every sixth layer."""
    layers, value_dim = depth(config), config.count("v_head_dim", default=128)
    if "layer_types" not in config:
        config.values["layer_types"] = [
            "sliding_attention" if index and (index + 1) % 6 else "full_attention" for index in range(layers)
        ]
    before = config.optional_count("sliding_window_size")
    if before is not None:
        # The published key counts the tokens before a token, the class the token too.
        config.only("sliding_window", before, before + 1)
        config.values["sliding_window"] = before + 1
    bias = config.flag("attention_bias", default=False)
    recipe = Recipe(
        kv_heads=4, head_dim=192, biases=lambda _: Biases(projection=bias), windows=6, window_default=129
    )
    full = [replace(mixer, value_head_dim=float(value_dim)) for mixer in attentions(config, recipe)]
    heads, kv_heads, head_dim = attention_shape(config, recipe)
    if heads % (2 * kv_heads):
        config.refuse("num_key_value_heads", f"half a divisor of num_attention_heads = {heads}")
    mixers = [
        mixer if mixer.window is None else replace(mixer, kv_heads=2.0 * kv_heads, sinks=True)
        for mixer in full
    ]
    for key, value in {
        "add_full_attention_sink_bias": False, "add_swa_attention_sink_bias": True,
        "attention_chunk_size": before, "hybrid_layer_pattern": [int(mixer.sinks) for mixer in mixers],
        "n_shared_experts": 0, "swa_head_dim": head_dim, "swa_num_attention_heads": heads,
        "swa_num_key_value_heads": 2 * kv_heads, "swa_v_head_dim": value_dim,
    }.items():  # fmt: skip
        config.only(key, value)
    config.ignore("attention_value_scale")
    feeds = sparse_or_dense(config, after_first(config, 1), experts(config))
    return decoder(config, recipe, mixers=mixers, feed_forwards=feeds)


def read_dots1(config: Config) -> ModelSpec:
    """dots.llm1."""
    recipe = replace(QWEN3, head_dim=None, windows="flagged")
    mixture = experts(config, shared_intermediate_size=_shared_width(config))
    feeds = sparse_or_dense(config, after_first(config, 0), mixture)
    return decoder(config, recipe, feed_forwards=feeds)


def read_solar_open(config: Config) -> ModelSpec:
    """Solar Open: every layer sparse."""
    recipe = Recipe(kv_heads=8, head_dim=128, biases=lambda _: Biases())
    config.only("attention_bias", False)
    config.ignore("intermediate_size first_k_dense_replace")
    mixture = experts(config, shared_intermediate_size=_shared_width(config))
    return decoder(config, recipe, feed_forwards=[mixture] * depth(config))


def read_exaone_moe(config: Config) -> ModelSpec:
    """EXAONE mixture: norms before blocks, windows on three of four layers."""
    config.ignore("num_nextn_predict_layers")
    recipe = Recipe(query_key_norm="head", kv_heads=32, windows=4, window_default=4096)
    mixture = experts(config, shared_intermediate_size=_shared_width(config, "num_shared_experts"))
    feeds = sparse_or_dense(config, after_first(config, 1), mixture)
    return decoder(config, recipe, feed_forwards=feeds)


def read_afmoe(config: Config) -> ModelSpec:
    """Arcee Trinity: gated attention output, four norms, a counted selection bias."""
    config.only("attention_bias", False)
    config.ignore(
        "mup_enabled route_scale route_norm score_func load_balance_coeff num_expert_groups "
        "num_limited_groups use_grouped_mm"
    )
    layers = depth(config)
    period = config.count("global_attn_every_n_layers", default=4)
    recipe = Recipe(
        placement="sandwich", head_dim=128, query_key_norm="head", windows=period, window_default=1024,
        output_gate=True,
    )  # fmt: skip
    dense = config.count("num_dense_layers", default=1, least=0)
    mixture = experts(
        config,
        shared_intermediate_size=_shared_width(config, "num_shared_experts", 2),
        counted_bias=True,
    )
    sparse = [index >= dense for index in range(layers)]
    return decoder(config, recipe, feed_forwards=sparse_or_dense(config, sparse, mixture))


def read_llama4(config: Config) -> ModelSpec:
    """Llama 4: one shared expert; layers with chunks but for every fourth, which has no positions."""
    config.only("attention_bias", False)
    config.ignore("attn_temperature_tuning floor_scale attn_scale _attn_implementation_autoset")
    layers = depth(config)
    normed = config.flag("use_qk_norm", default=True)
    recipe = Recipe(
        kv_heads=8, head_dim=128, query_key_norm="plain" if normed else "none",
    )  # fmt: skip
    rotary = config.counts("no_rope_layers")
    period = config.count("no_rope_layer_interval", default=4)
    if not rotary:
        rotary = [int((index + 1) % period != 0) for index in range(layers)]
    if len(rotary) != layers:
        config.refuse("no_rope_layers", f"an entry for each of {layers} layers")
    kinds = config.words("layer_types", layers, ("chunked_attention", "full_attention"))
    if kinds is None:
        kinds = ["chunked_attention" if turns else "full_attention" for turns in rotary]
    chunk = config.optional_count("attention_chunk_size", most=10**9)
    mixers = [
        replace(
            mixer,
            chunk=float(chunk) if chunk is not None and kind == "chunked_attention" else None,
            rotary=bool(turns),
            query_key_norm=mixer.query_key_norm if turns else "none",
        )
        for mixer, kind, turns in zip(attentions(config, recipe), kinds, rotary, strict=True)
    ]
    step = config.count("interleave_moe_layer_step", default=1)
    listed = config.counts("moe_layers")
    sparse = [index in listed if listed is not None else (index + 1) % step == 0 for index in range(layers)]
    mixture = experts(
        config,
        width="intermediate_size",
        shared_intermediate_size=config.count("intermediate_size"),
    )
    feeds = sparse_or_dense(config, sparse, mixture, "intermediate_size_mlp")
    return decoder(config, recipe, mixers=mixers, feed_forwards=feeds)


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
    shared = _shared_width(config, "num_shared_experts")
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
