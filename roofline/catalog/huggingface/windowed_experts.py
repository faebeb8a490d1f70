"""Mixtures of experts on softmax attention that differs between layers: windows, chunks, heads."""

from dataclasses import replace

from roofline.catalog.huggingface.config import Config
from roofline.catalog.huggingface.decoder import Biases, Recipe, attention_shape, attentions, decoder, depth
from roofline.catalog.huggingface.dense import COHERE2, LLAMA, QWEN3, granite_window_attentions
from roofline.catalog.huggingface.mixture import (
    after_first,
    experts,
    listed_sparse,
    shared_width,
    sparse_or_dense,
)
from roofline.graph.model import ModelSpec


def _windowed(config: Config, recipe: Recipe) -> Recipe:
    """Return the recipe with windows if ``layer_types`` lists any; without that list there are none."""
    if config.raw("layer_types") is None:
        config.ignore("sliding_window")
        return replace(recipe, windows="none")
    return replace(recipe, windows=4)


def read_mellum(config: Config) -> ModelSpec:
    """Mellum: Qwen3-MoE with windows where ``layer_types`` has them."""
    config.only("num_mtp_layers", 0)
    feeds = sparse_or_dense(config, listed_sparse(config, [True] * depth(config)), experts(config))
    return decoder(config, _windowed(config, replace(QWEN3, kv_heads=4)), feed_forwards=feeds)


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
    feeds = sparse_or_dense(config, listed_sparse(config, [bool(index) for index in range(layers)]), mixture)
    return decoder(config, recipe, mixers=mixers, feed_forwards=feeds)


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


def read_granitemoe_swa(config: Config) -> ModelSpec:
    """Granite Swash mixture: windows in all but the first of every four layers, and sinks."""
    shared = config.count("shared_intermediate_size", default=0, least=0)
    mixture = experts(config, width="intermediate_size", shared_intermediate_size=shared)
    mixers = granite_window_attentions(config, LLAMA)
    return decoder(config, LLAMA, mixers=mixers, feed_forwards=[mixture] * depth(config))


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


def read_exaone_moe(config: Config) -> ModelSpec:
    """EXAONE mixture: norms before blocks, windows on three of four layers."""
    config.ignore("num_nextn_predict_layers")
    recipe = Recipe(query_key_norm="head", kv_heads=32, windows=4, window_default=4096)
    mixture = experts(config, shared_intermediate_size=shared_width(config, "num_shared_experts"))
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
        shared_intermediate_size=shared_width(config, "num_shared_experts", 2),
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
