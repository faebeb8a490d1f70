"""State-space models, and hybrids of these with softmax attention."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from roofline.catalog.huggingface.assembly import Blocks, assembled, head_of
from roofline.catalog.huggingface.config import Config
from roofline.catalog.huggingface.decoder import Recipe, attentions, decoder, depth
from roofline.catalog.huggingface.dense import LLAMA
from roofline.catalog.huggingface.mixture import experts, sparse_or_dense
from roofline.graph.blocks.feed_forward import FeedForward
from roofline.graph.blocks.mixture_of_experts import MixtureOfExperts
from roofline.graph.blocks.normalization import Normalization
from roofline.graph.blocks.state_space import Mamba, Mamba2
from roofline.graph.blocks.union import AnyBlock
from roofline.graph.model import ModelSpec

__all__ = [
    "read_bamba",
    "read_falcon_h1",
    "read_granitemoehybrid",
    "read_jamba",
    "read_mamba",
    "read_mamba2",
    "read_nemotron_h",
]

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
