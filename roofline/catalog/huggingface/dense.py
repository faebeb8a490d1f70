"""Dense decoders: each architecture is a recipe."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from roofline.catalog.huggingface.config import Config
from roofline.catalog.huggingface.decoder import Biases, Recipe, attention_shape, attentions, decoder, depth
from roofline.graph.blocks.feed_forward import FeedForward
from roofline.graph.blocks.grouped_query_attention import GroupedQueryAttention
from roofline.graph.blocks.normalization import Normalization
from roofline.graph.model import ModelSpec

__all__ = [
    "COHERE", "COHERE2", "DENSE", "GEMMA3", "LAYER_NORM", "LLAMA", "MISTRAL", "QWEN2", "QWEN3", "dense",
    "granite_window_attentions",
]  # fmt: skip

LAYER_NORM: Final = Normalization(bias=True)
_NO_GAIN: Final = Normalization(affine=False)


def _attention_bias(config: Config) -> Biases:
    """One key for all four projections of attention."""
    flag = config.flag("attention_bias", default=False)
    return Biases(projection=flag, output=flag)


def _attention_and_mlp_bias(config: Config) -> Biases:
    flag = config.flag("attention_bias", default=False)
    return Biases(projection=flag, output=flag, feed_forward=config.flag("mlp_bias", default=False))


def _every_bias_unless_said(config: Config) -> Biases:
    """As `_attention_and_mlp_bias`, with biases where the configuration says nothing (Jais 2)."""
    flag = config.flag("attention_bias", default=True)
    return Biases(projection=flag, output=flag, feed_forward=config.flag("mlp_bias", default=True))


def _query_key_value_bias(config: Config) -> Biases:
    """Always on query, key and value, whatever the configuration says (Qwen2)."""
    return Biases(projection=True)


def _all_biases(config: Config) -> Biases:
    return Biases(projection=True, output=True, feed_forward=True)


def _use_bias(default: bool) -> Callable[[Config], Biases]:
    def read(config: Config) -> Biases:
        flag = config.flag("use_bias", default=default)
        return Biases(projection=flag, output=flag, feed_forward=flag)

    return read


def _glm_bias(config: Config) -> Biases:
    return Biases(projection=config.flag("attention_bias", default=True))


def _stablelm_bias(config: Config) -> Biases:
    return Biases(projection=config.flag("use_qkv_bias", default=False))


def _seed_bias(config: Config) -> Biases:
    return Biases(
        projection=config.flag("attention_bias", default=True),
        output=config.flag("attention_out_bias", default=False),
        feed_forward=config.flag("mlp_bias", default=False),
    )


def _internlm2_bias(config: Config) -> Biases:
    flag = config.flag("bias", default=False)
    return Biases(projection=flag, output=flag)


def _projection_and_mlp_bias(config: Config) -> Biases:
    """One key for query, key and value; the output projection has none."""
    return Biases(
        projection=config.flag("attention_bias", default=False),
        feed_forward=config.flag("mlp_bias", default=False),
    )


LLAMA: Final = Recipe(biases=_attention_and_mlp_bias)
MISTRAL: Final = Recipe(kv_heads=8, windows="every", window_default=4096)
QWEN2: Final = Recipe(kv_heads=32, biases=_query_key_value_bias, windows="flagged", window_default=4096)
QWEN3: Final = Recipe(
    kv_heads=32, head_dim=128, biases=_attention_bias, query_key_norm="head", windows="flagged",
    window_default=4096,
)  # fmt: skip
GEMMA3: Final = Recipe(
    tied=True, placement="sandwich", head_dim=256, kv_heads=4, biases=_attention_bias,
    query_key_norm="head", windows=6, window_default=4096,
)  # fmt: skip
COHERE: Final = Recipe(tied=True, placement="parallel", biases=_attention_bias)
COHERE2: Final = Recipe(
    tied=True, placement="parallel", biases=_attention_bias, windows=4, window_default=4096
)

_OLMO2: Final = Recipe(placement="post", biases=_attention_bias, query_key_norm="full")
_EXAONE4: Final = Recipe(placement="post", query_key_norm="head", kv_heads=32, windows=4, window_default=4096)
_GEMMA2: Final = Recipe(
    tied=True, placement="sandwich", head_dim=256, kv_heads=4, biases=_attention_bias, windows=2,
    window_default=4096,
)  # fmt: skip
_GLM: Final = Recipe(head_dim=128, kv_heads=2, biases=_glm_bias)

#: Architectures that a recipe describes completely.
DENSE: Final[dict[str, Recipe]] = {
    "apertus": Recipe(biases=_attention_bias, query_key_norm="head", gated=False, activation="xielu"),
    "arcee": Recipe(biases=_attention_and_mlp_bias, gated=False),
    "baichuan": Recipe(),
    "cohere2": COHERE2,
    "ernie4_5": Recipe(tied=True, kv_heads=2, head_dim=128, biases=_use_bias(False)),
    "exaone": Recipe(),
    "exaone4": _EXAONE4,
    "gemma": Recipe(tied=True, head_dim=256, kv_heads=16, biases=_attention_bias),
    "gemma2": _GEMMA2,
    "gemma3_text": GEMMA3,
    "glm": _GLM,
    "glm4": replace(_GLM, placement="sandwich"),
    "granite": LLAMA,
    "hunyuan_v1_dense": Recipe(biases=_attention_bias, query_key_norm="head"),
    "internlm2": Recipe(biases=_internlm2_bias),
    "internlm3": Recipe(kv_heads=2, head_dim=128, biases=_attention_and_mlp_bias),
    "iquestcoder": replace(LLAMA, kv_heads=8, head_dim=128),
    "jais2": Recipe(biases=_every_bias_unless_said, norm=LAYER_NORM, gated=False),
    "llama": LLAMA,
    "ministral": Recipe(kv_heads=8, windows="every", window_default=4096),
    "ministral3": Recipe(kv_heads=8, head_dim=128, windows="every"),
    "mistral": MISTRAL,
    "nanochat": Recipe(biases=_attention_bias, query_key_norm="plain", norm=_NO_GAIN, gated=False),
    "nemotron": Recipe(biases=_attention_and_mlp_bias, norm=LAYER_NORM, gated=False),
    "olmo": Recipe(norm=_NO_GAIN, biases=_attention_bias),
    "olmo2": _OLMO2,
    "olmo3": replace(_OLMO2, windows=4, window_default=4096),
    "phi3": Recipe(windows="every"),
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "seed_oss": Recipe(head_dim=128, kv_heads=8, biases=_seed_bias),
    "smollm3": Recipe(tied=True, kv_heads=4, biases=_attention_and_mlp_bias, windows="flagged"),
    "starcoder2": Recipe(
        tied=True, kv_heads=2, norm=LAYER_NORM, biases=_use_bias(True), windows="every", gated=False
    ),
    "vaultgemma": replace(_GEMMA2, placement="pre"),
}


#: Keys that some published files of an architecture have, and the one value that is understood.
_ONLY: Final[dict[str, dict[str, object]]] = {
    "apertus": {"hidden_act": "xielu", "qk_norm": True},
    "cohere2": {
        "order_of_interleaved_layers": "local_attn_first", "use_embedding_sharing": True,
        "use_gated_activation": True, "use_parallel_block": True, "position_embedding_type": "rope_gptj",
    },
    "phi3": {"full_attn_mod": 1, "lm_head_bias": False},
    "starcoder2": {"norm_type": "layer_norm", "mlp_type": "default"},
}  # fmt: skip
#: Keys of an architecture that change neither weights nor what a token sees.
_IGNORED: Final = {"phi3": "interpolate_factor", "smollm3": "no_rope_layers no_rope_layer_interval"}


def dense(model_type: str) -> Callable[[Config], ModelSpec]:
    """Return the reader of an architecture of `DENSE`."""
    recipe = DENSE[model_type]

    def read(config: Config) -> ModelSpec:
        for key, value in _ONLY.get(model_type, {}).items():
            config.only(key, value)
        config.ignore(_IGNORED.get(model_type, ""))
        return decoder(config, recipe)

    return read


def read_cohere(config: Config) -> ModelSpec:
    """Cohere Command: optional norms over all heads' queries and keys."""
    normed = config.flag("use_qk_norm", default=False)
    return decoder(config, replace(COHERE, query_key_norm="full" if normed else "none"))


def read_hyperclovax(config: Config) -> ModelSpec:
    """HyperCLOVA X: Granite with norms after blocks too, unless switched off."""
    after = config.flag("use_post_norm", default=True)
    return decoder(config, replace(LLAMA, placement="sandwich" if after else "pre"))


def read_cwm(config: Config) -> ModelSpec:
    """Code World Model: a window in all but the first of every four layers."""
    config.only("attention_bias", False)
    recipe = Recipe(
        head_dim=128, kv_heads=8, windows=4, window_default=8192,
        biases=lambda stated: Biases(feed_forward=stated.flag("mlp_bias", default=False)),
    )  # fmt: skip
    _first_of_four_full(config)
    return decoder(config, recipe)


def _first_of_four_full(config: Config) -> None:
    """Fill in ``layer_types`` where absent: a window in all but the first of every four layers."""
    if "layer_types" not in config:
        config.values["layer_types"] = [
            "sliding_attention" if index % 4 else "full_attention" for index in range(depth(config))
        ]


def granite_window_attentions(config: Config, recipe: Recipe) -> list[GroupedQueryAttention]:
    """Return Granite's attention with windows and sinks; rotary where ``layer_rope_theta`` is not 0."""
    _first_of_four_full(config)
    bases = config.sequence("layer_rope_theta", depth(config)) or [1] * depth(config)
    mixers = attentions(config, replace(recipe, windows=4, window_default=128, sinks=True))
    return [replace(mixer, rotary=bool(base)) for mixer, base in zip(mixers, bases, strict=True)]


def read_granite_swa(config: Config) -> ModelSpec:
    """Granite Swash: Granite with windows in all but the first of every four layers, and sinks."""
    recipe = replace(LLAMA, tied=True, kv_heads=4)
    return decoder(config, recipe, mixers=granite_window_attentions(config, recipe))


def read_helium(config: Config) -> ModelSpec:
    """Helium: its output projection is square, so heads fill the hidden size."""
    recipe = Recipe(head_dim=128, kv_heads=20, biases=_projection_and_mlp_bias)
    heads, _, head_dim = attention_shape(config, recipe)
    if heads * head_dim != config.count("hidden_size"):
        config.refuse("head_dim", "hidden_size / num_attention_heads")
    return decoder(config, recipe)


def read_phi(config: Config) -> ModelSpec:
    """Phi-1.5 and Phi-2: one norm, biases everywhere, attention beside the feed-forward network."""
    config.only("qk_layernorm", False)
    recipe = Recipe(norm=LAYER_NORM, placement="parallel", biases=_all_biases, gated=False, head_bias=True)
    return decoder(config, recipe)


def read_stablelm(config: Config) -> ModelSpec:
    """StableLM: LayerNorms; a parallel form with one norm."""
    config.only("qk_layernorm", False)
    parallel = config.flag("use_parallel_residual", default=False)
    recipe = Recipe(
        norm=LAYER_NORM, placement="parallel" if parallel else "pre", kv_heads=32, biases=_stablelm_bias
    )
    return decoder(config, recipe)


def read_openelm(config: Config) -> ModelSpec:
    """OpenELM: heads and widths that grow with depth (Mehta et al. 2024, arXiv:2404.14619, section 2.1)."""
    config.only("ffn_with_glu", True)
    config.only("normalization_layer_name", "rms_norm")
    config.ignore("num_gqa_groups qkv_multipliers activation_fn_name rope_max_length")
    layers = depth(config)
    head_dim = config.count("head_dim")
    heads = config.counts("num_query_heads", layers, least=1)
    kv_heads = config.counts("num_kv_heads", layers, least=1)
    if heads is None or kv_heads is None:
        config.refuse("num_query_heads", "query and KV heads of each layer")
    multipliers = config.sequence("ffn_multipliers", layers)
    if multipliers is None or not all(_is_multiplier(value) for value in multipliers):
        config.refuse("ffn_multipliers", "a number of at most 100 for each layer")
    normed = config.flag("normalize_qk_projections", default=True)
    hidden_size, divisor = config.count("hidden_size"), config.count("ffn_dim_divisor", default=256)
    if any(query % key for query, key in zip(heads, kv_heads, strict=True)):
        config.refuse("num_kv_heads", "divisors of num_query_heads")
    mixers = [
        GroupedQueryAttention(
            heads=float(query),
            kv_heads=float(key),
            head_dim=float(head_dim),
            query_key_norm="head" if normed else "none",
        )
        for query, key in zip(heads, kv_heads, strict=True)
    ]
    feeds = [
        FeedForward(intermediate_size=float(_divisible(multiplier * hidden_size, divisor)))
        for multiplier in multipliers
    ]
    tied = config.flag("share_input_output_layers", default=True)
    recipe = Recipe(tied=tied)
    config.ignore("tie_word_embeddings")
    config.values.pop("tie_word_embeddings", None)
    spec = decoder(config, recipe, mixers=mixers, feed_forwards=feeds)
    context = config.count("max_context_length", default=0, least=0)
    return replace(spec, context_tokens=float(context))


def _is_multiplier(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 100


def _divisible(width: float, divisor: int) -> int:
    """Return the multiple of `divisor` nearest to `width`, at most a tenth below it."""
    nearest_multiple = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return nearest_multiple + divisor if nearest_multiple < 0.9 * width else nearest_multiple


def read_geblm(config: Config) -> ModelSpec:
    """GEB: llama with its own spellings."""
    config.only("add_bias_linear", False)
    config.only("add_qkv_bias", False)
    config.only("normalization", "RMSNorm")
    config.ignore("swiglu")
    return decoder(config, Recipe())


def read_chatglm(config: Config) -> ModelSpec:
    """ChatGLM2 and 3 and GLM-4 in the publisher's own files: several query heads to a group of keys."""
    config.only("add_bias_linear", False)
    config.only("multi_query_attention", True)
    config.only("rmsnorm", True)
    config.only("post_layer_norm", True)
    config.only("apply_residual_connection_post_layernorm", False)
    config.only("pre_seq_len")
    config.ignore(
        "apply_query_key_layer_scaling bias_dropout_fusion fp32_residual_connection "
        "original_rope quantization_bit prefix_projection"
    )
    bias = config.flag("add_qkv_bias", default=False)
    recipe = Recipe(biases=lambda _: Biases(projection=bias))
    spec = decoder(config, recipe)
    return replace(spec, context_tokens=float(config.count("seq_length", default=2048, most=10**9)))


def read_bitnet(config: Config) -> ModelSpec:
    """BitNet b1.58: norms before the last matrix of attention and of the network."""
    bias = config.flag("attention_bias", default=False)
    recipe = Recipe(kv_heads=5, biases=lambda _: Biases(projection=bias, output=bias))
    network = FeedForward(intermediate_size=float(config.count("intermediate_size")), inner_norm=True)
    heads, _, head_dim = attention_shape(config, recipe)
    if heads * head_dim != config.count("hidden_size"):
        config.refuse("head_dim", "hidden_size / num_attention_heads")
    return decoder(
        config,
        recipe,
        mixers=[replace(mixer, output_norm=True) for mixer in attentions(config, recipe)],
        feed_forwards=[network] * depth(config),
    )


def read_persimmon(config: Config) -> ModelSpec:
    """Persimmon: biases everywhere, LayerNorms over queries and keys."""
    normed = config.flag("qk_layernorm", default=True)
    recipe = Recipe(
        norm=LAYER_NORM, grouped=False, gated=False, biases=_all_biases,
        query_key_norm="head" if normed else "none",
    )  # fmt: skip
    config.only("num_key_value_heads")
    mixers = [replace(mixer, norm_bias=normed) for mixer in attentions(config, recipe)]
    return decoder(config, recipe, mixers=mixers)
