"""State-space models, linear attention, and hybrids of these with softmax attention."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from roofline.catalog.huggingface.assembly import Blocks, assembled, head_of
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
from roofline.graph.blocks.state_space import Mamba, Mamba2
from roofline.graph.blocks.union import AnyBlock
from roofline.graph.model import ModelSpec

__all__ = [
    "read_bamba", "read_falcon_h1", "read_granitemoehybrid", "read_jamba", "read_lfm2", "read_lfm2_moe",
    "read_mamba", "read_mamba2", "read_minimax", "read_nemotron_h", "read_olmo_hybrid", "read_qwen3_5",
    "read_qwen3_5_moe", "read_qwen3_next",
]  # fmt: skip

_NORM: Final = Normalization()


def read_mamba(config: Config) -> ModelSpec:
    """Mamba and Falcon-Mamba; the latter's inner norms have no gains."""
    hidden_size = config.count("hidden_size")
    config.ignore(
        "use_mambapy use_associative_scan mixer_rms_eps time_step_scale residual_in_fp32 "
        "rescale_prenorm_residual fused_add_norm rms_norm ssm_cfg d_inner d_model n_layer "
        "pad_vocab_size_multiple time_step_min time_step_max time_step_floor time_step_limit "
        "max_position_embeddings expand"
    )
    inner = config.count("intermediate_size", default=config.count("expand", default=2) * hidden_size)
    mixer = Mamba(
        intermediate_size=float(inner),
        state_size=float(config.count("state_size", default=16)),
        time_step_rank=float(_time_step_rank(config, "time_step_rank", hidden_size)),
        convolution_kernel=float(config.count("conv_kernel", default=4)),
        convolution_bias=config.flag("use_conv_bias", default=True),
        bias=config.flag("use_bias", default=False),
    )
    single: Blocks = {"norm": _NORM, "mixer": mixer}
    return assembled(config, [single] * depth(config), head=head_of(config, tied=True), norm=_NORM)


def _time_step_rank(config: Config, key: str, hidden_size: int) -> int:
    """Return the rank; ``auto`` is a sixteenth of the hidden size, rounded up."""
    if config.raw(key) in (None, "auto"):
        return -(-hidden_size // 16)
    return config.count(key)


def read_mamba2(config: Config) -> ModelSpec:
    """Mamba-2."""
    config.ignore(
        "residual_in_fp32 rescale_prenorm_residual chunk_size time_step_rank time_step_min time_step_max "
        "time_step_floor time_step_limit rms_norm intermediate_size norm_before_gate use_mem_eff_path "
        "max_position_embeddings"
    )
    hidden_size = config.count("hidden_size")
    heads, head_dim = config.count("num_heads"), config.count("head_dim")
    expand = config.number("expand", 2)
    if heads * head_dim != int(expand * hidden_size):
        config.refuse("num_heads", f"expand x hidden_size / head_dim = {expand * hidden_size / head_dim:g}")
    mixer = Mamba2(
        heads=float(heads),
        head_dim=float(head_dim),
        groups=float(config.count("n_groups")),
        state_size=float(config.count("state_size")),
        convolution_kernel=float(config.count("conv_kernel", default=4)),
        convolution_bias=config.flag("use_conv_bias", default=True),
        bias=config.flag("use_bias", default=False),
    )
    single: Blocks = {"norm": _NORM, "mixer": mixer}
    return assembled(config, [single] * depth(config), head=head_of(config, tied=False), norm=_NORM)


def _periodic(config: Config, name: str, period: int, offset: int) -> list[bool]:
    period = config.count(f"{name}_layer_period", default=period)
    offset = config.count(f"{name}_layer_offset", default=offset, least=0)
    if offset >= period:
        config.refuse(f"{name}_layer_offset", f"less than {name}_layer_period = {period}")
    return [index % period == offset for index in range(depth(config))]


def read_jamba(config: Config) -> ModelSpec:
    """Jamba: Mamba with inner norms, an attention layer in eight, a mixture in every second."""
    config.ignore(
        "num_logits_to_keep calc_logits_for_entire_prompt use_mamba_kernels layers_block_type "
        "layers_num_experts"
    )
    config.only("mamba_inner_layernorms", True)
    config.only("sliding_window")
    hidden_size = config.count("hidden_size")
    attention_here = _periodic(config, "attn", 8, 4)
    config.ignore("layers_block_type")
    mixer = Mamba(
        intermediate_size=float(config.count("mamba_expand", default=2) * hidden_size),
        state_size=float(config.count("mamba_d_state", default=16)),
        time_step_rank=float(_time_step_rank(config, "mamba_dt_rank", hidden_size)),
        convolution_kernel=float(config.count("mamba_d_conv", default=4)),
        convolution_bias=config.flag("mamba_conv_bias", default=True),
        bias=config.flag("mamba_proj_bias", default=False),
        inner_norms=True,
    )
    recipe = Recipe(kv_heads=8, rotary=False)
    mixers: list[AnyBlock] = [
        attention if here else mixer
        for attention, here in zip(attentions(config, recipe), attention_here, strict=True)
    ]
    sparse_here = _periodic(config, "expert", 2, 1)
    if config.count("num_experts", default=16) == 1:
        config.ignore("num_experts_per_tok")
        return decoder(config, recipe, mixers=mixers)
    mixture = experts(config, width="intermediate_size")
    feeds = sparse_or_dense(config, sparse_here, mixture)
    return decoder(config, recipe, mixers=mixers, feed_forwards=feeds)


def _mamba2(config: Config, *, heads: str, head_dim: str, groups: str, state: str, kernel: str,
            convolution_bias: str, bias: bool, norm: bool = True) -> Mamba2:  # fmt: skip
    """Return a Mamba-2 mixer from keys that each hybrid spells its own way."""
    return Mamba2(
        heads=float(config.count(heads)),
        head_dim=float(config.count(head_dim)),
        groups=float(config.count(groups)),
        state_size=float(config.count(state)),
        convolution_kernel=float(config.count(kernel, default=4)),
        convolution_bias=config.flag(convolution_bias, default=True),
        bias=bias,
        norm=norm,
    )


def _prefixed_mamba2(config: Config, *, norm: bool = True) -> Mamba2:
    """Return the mixer of Bamba, Granite 4 and Falcon-H1."""
    config.ignore("mamba_chunk_size mamba_expand mamba_d_ssm")
    mixer = _mamba2(
        config, heads="mamba_n_heads", head_dim="mamba_d_head", groups="mamba_n_groups",
        state="mamba_d_state", kernel="mamba_d_conv", convolution_bias="mamba_conv_bias",
        bias=config.flag("mamba_proj_bias", default=False), norm=norm,
    )  # fmt: skip
    inner = config.optional_count("mamba_d_ssm")
    if inner is None:
        inner = int(config.number("mamba_expand", 2.0) * config.count("hidden_size"))
    if mixer.heads * mixer.head_dim != inner:
        config.refuse("mamba_n_heads", f"mamba_n_heads x mamba_d_head = {inner}")
    return mixer


def read_bamba(config: Config) -> ModelSpec:
    """Bamba: Mamba-2, with attention in the layers that ``attn_layer_indices`` lists."""
    config.ignore("num_logits_to_keep z_loss_coefficient layer_types layers_block_type")
    here = config.counts("attn_layer_indices") or []
    layers = depth(config)
    if any(index >= layers for index in here):
        config.refuse("attn_layer_indices", f"layers below {layers}")
    mixer = _prefixed_mamba2(config)
    mixers = [
        attention if index in here else mixer for index, attention in enumerate(attentions(config, LLAMA))
    ]
    return decoder(config, replace(LLAMA, kv_heads=8), mixers=mixers)


def read_granitemoehybrid(config: Config) -> ModelSpec:
    """Granite 4: Mamba-2 or attention, a mixture and a shared network, or the latter alone."""
    config.ignore("position_embedding_type normalization_function init_method")
    layers = depth(config)
    kinds = config.words("layer_types", layers, ("mamba", "attention", "linear_attention", "full_attention"))
    if kinds is None:
        kinds = ["mamba"] * layers
    mixer = _prefixed_mamba2(config) if any(kind in ("mamba", "linear_attention") for kind in kinds) else None
    config.ignore(
        "mamba_n_heads mamba_n_groups mamba_d_state mamba_d_head mamba_d_conv mamba_expand "
        "mamba_chunk_size mamba_conv_bias mamba_proj_bias"
    )
    recipe = replace(LLAMA, rotary=config.raw("position_embedding_type") == "rope")
    mixers: list[AnyBlock] = [
        mixer if mixer is not None and kind in ("mamba", "linear_attention") else attention
        for attention, kind in zip(attentions(config, recipe), kinds, strict=True)
    ]
    shared = config.count("shared_intermediate_size", default=1024)
    if config.count("num_experts", default=8, least=0) == 0:
        config.ignore("num_experts_per_tok intermediate_size")
        feed: AnyBlock = FeedForward(intermediate_size=float(shared))
    else:
        feed = experts(config, width="intermediate_size", shared_intermediate_size=shared)
    return decoder(config, recipe, mixers=mixers, feed_forwards=[feed] * layers)


def read_falcon_h1(config: Config) -> ModelSpec:
    """Falcon-H1: Mamba-2 and attention side by side in every layer."""
    config.ignore(
        "num_logits_to_keep lm_head_multiplier mlp_multipliers key_multiplier attention_out_multiplier "
        "attention_in_multiplier ssm_multipliers ssm_in_multiplier ssm_out_multiplier "
        "mamba_norm_before_gate attn_layer_indices mamba_use_mlp mlp_expansion_factor layers_block_type"
    )
    config.only("projectors_bias", False)
    config.only("mamba_proj_bias", False)
    mixer = _prefixed_mamba2(config, norm=config.flag("mamba_rms_norm", default=False))
    recipe = replace(LLAMA, kv_heads=8)
    feed = FeedForward(
        intermediate_size=float(config.count("intermediate_size")),
        bias=config.flag("mlp_bias", default=False),
    )
    layers: list[Blocks] = [
        {
            "attention_norm": _NORM,
            "mixer": mixer,
            "attention": attention,
            "feed_forward_norm": _NORM,
            "feed_forward": feed,
        }
        for attention in attentions(config, recipe)
    ]
    return assembled(config, layers, head=head_of(config, tied=False), norm=_NORM)


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
_NEMOTRON_LETTERS: Final = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}


def _nemotron_layers(config: Config) -> list[str]:
    pattern = config.raw("hybrid_override_pattern")
    words = config.sequence("layers_block_type")
    if isinstance(pattern, str) and set(pattern) <= set(_NEMOTRON_LETTERS):
        kinds = [_NEMOTRON_LETTERS[letter] for letter in pattern]
    elif words is not None and all(word in _NEMOTRON_LETTERS.values() for word in words):
        return list(words)
    else:
        config.refuse("hybrid_override_pattern", "one letter of M, E, * and - per layer")
    stated = config.optional_count("num_hidden_layers", most=10_000)
    if stated is not None and stated != len(kinds):
        config.refuse("hybrid_override_pattern", f"{stated} layers")
    return kinds


def read_nemotron_h(config: Config) -> ModelSpec:
    """Nemotron-H and Nemotron 3: one mixer and one norm a layer; mixers are Mamba-2, attention, networks."""
    config.ignore(
        "chunk_size expand rescale_prenorm_residual residual_in_fp32 num_logits_to_keep "
        "moe_shared_expert_overlap mtp_hybrid_override_pattern mtp_layers_block_type "
        "num_nextn_predict_layers mamba_ssm_cache_dtype use_mamba_kernels time_step_rank "
        "attention_head_dim num_query_groups max_seq_length n_group hidden_dropout intermediate_size "
        "num_hidden_layers"
    )
    kinds = _nemotron_layers(config)
    config.values["num_hidden_layers"] = len(kinds)
    config.only("attention_bias", False)
    config.only("tie_word_embeddings", False)
    recipe = Recipe(kv_heads=8, head_dim=128, windows="every", rotary=False)
    blocks: dict[str, tuple[str, AnyBlock]] = {}
    if "attention" in kinds:
        blocks["attention"] = ("attention", attentions(config, recipe)[0])
    if "mamba" in kinds:
        config.only("mamba_proj_bias", config.flag("use_bias", default=False))
        mixer = _mamba2(
            config, heads="mamba_num_heads", head_dim="mamba_head_dim", groups="n_groups",
            state="ssm_state_size", kernel="conv_kernel", convolution_bias="use_conv_bias",
            bias=config.flag("use_bias", default=False),
        )  # fmt: skip
        blocks["mamba"] = ("mixer", mixer)
    if "mlp" in kinds:
        network = FeedForward(
            intermediate_size=float(config.count("intermediate_size")),
            gated=False,
            bias=config.flag("mlp_bias", default=False),
        )
        blocks["mlp"] = ("feed_forward", network)
    if "moe" in kinds:
        config.only("mlp_bias", False)
        blocks["moe"] = ("experts", _nemotron_experts(config))
    config.ignore("mlp_bias attention_bias head_dim num_key_value_heads num_attention_heads sliding_window")
    return assembled(config, _single(kinds, blocks), head=head_of(config, tied=False), norm=_NORM)


def _single(kinds: Sequence[str], blocks: dict[str, tuple[str, AnyBlock]]) -> list[Blocks]:
    """Return layers of one norm and one block."""
    return [{"norm": _NORM, blocks[kind][0]: blocks[kind][1]} for kind in kinds]


def _nemotron_experts(config: Config) -> MixtureOfExperts:
    """Return experts without gates; a shared one is as wide as its own key says, whatever its count."""
    config.ignore("n_shared_experts")
    latent = config.optional_count("moe_latent_size")
    shared = config.count("moe_shared_expert_intermediate_size")
    mixture = experts(config, shared_intermediate_size=shared, gated=False)
    return replace(mixture, latent_size=None if latent is None else float(latent))
