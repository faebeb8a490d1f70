"""Parameters of each block against the module of transformers that it describes."""

from dataclasses import dataclass
from typing import Any

import pytest

from roofline.graph.blocks.cross_attention import CrossAttention
from roofline.graph.blocks.feed_forward import FeedForward
from roofline.graph.blocks.grouped_query_attention import GroupedQueryAttention
from roofline.graph.blocks.indexer import Indexer
from roofline.graph.blocks.kimi_delta_attention import KimiDeltaAttention
from roofline.graph.blocks.latent_attention import LatentAttention
from roofline.graph.blocks.linear_attention import GatedDeltaNet, LightningAttention
from roofline.graph.blocks.mixture_of_experts import MixtureOfExperts
from roofline.graph.blocks.normalization import Normalization
from roofline.graph.blocks.patch_embedding import PatchEmbedding
from roofline.graph.blocks.projector import Projector
from roofline.graph.blocks.short_convolution import ShortConvolution
from roofline.graph.blocks.state_space import Mamba, Mamba2
from roofline.graph.layer import Run
from roofline.graph.vision import VisionEncoder

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

pytestmark = [
    pytest.mark.trace,
    pytest.mark.filterwarnings("ignore"),
]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A configuration, the module inside its model, and the block that stands for it."""

    name: str
    model_type: str
    module: str
    block: Any
    hidden_size: int
    config: dict[str, Any]
    text: dict[str, Any] | None = None


def _module(case: Case) -> Any:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    config = CONFIG_MAPPING[case.model_type](**case.config)
    images = case.model_type in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    auto = transformers.AutoModelForImageTextToText if images else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        return auto.from_config(config).get_submodule(case.module)


_LATENT = {
    "hidden_size": 512, "num_attention_heads": 16, "num_key_value_heads": 16, "q_lora_rank": 96,
    "kv_lora_rank": 64, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 24,
    "num_hidden_layers": 2, "vocab_size": 128, "intermediate_size": 640, "moe_intermediate_size": 32,
}  # fmt: skip
_INDEX = {"index_n_heads": 8, "index_head_dim": 32, "index_topk": 64}


def _latent(**changes: Any) -> LatentAttention:
    fields: dict[str, Any] = {
        "heads": 16, "q_lora_rank": 96, "kv_lora_rank": 64,
        "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 24,
    }  # fmt: skip
    return LatentAttention(**{**fields, **changes})


def _small(**changes: Any) -> dict[str, Any]:
    base = {
        "hidden_size": 256, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 48,
        "num_hidden_layers": 2, "vocab_size": 128, "intermediate_size": 320,
    }  # fmt: skip
    return {**base, **changes}


def _grouped(**changes: Any) -> GroupedQueryAttention:
    return GroupedQueryAttention(**{"heads": 8, "kv_heads": 4, "head_dim": 48, **changes})


_DELTA = {
    "linear_num_key_heads": 4, "linear_num_value_heads": 8, "linear_key_head_dim": 16,
    "linear_value_head_dim": 24, "linear_conv_kernel_dim": 4,
    "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
_NEMOTRON = {
    "mamba_num_heads": 16, "mamba_head_dim": 32, "n_groups": 2, "ssm_state_size": 64,
    "layers_block_type": ["mamba", "moe", "attention", "mlp"], "n_routed_experts": 8,
    "moe_intermediate_size": 96, "moe_shared_expert_intermediate_size": 160, "moe_latent_size": 64,
    "num_experts_per_tok": 2, "mlp_hidden_act": "relu2", "n_group": 1, "topk_group": 1,
}  # fmt: skip

CASES = (
    Case(name="deepseek-v3", model_type="deepseek_v3", module="model.layers.0.self_attn",
         block=_latent(), hidden_size=512, config=_LATENT),
    Case(name="deepseek-v2-lite", model_type="deepseek_v2", module="model.layers.0.self_attn",
         block=_latent(q_lora_rank=None), hidden_size=512, config={**_LATENT, "q_lora_rank": None}),
    Case(name="latent-bias", model_type="deepseek_v3", module="model.layers.0.self_attn",
         block=_latent(bias=True), hidden_size=512, config={**_LATENT, "attention_bias": True}),
    Case(name="deepseek-v3.2", model_type="deepseek_v32", module="model.layers.0.self_attn",
         block=_latent(top_k=64, indexer=Indexer(heads=8, head_dim=32)), hidden_size=512,
         config={**_LATENT, **_INDEX}),
    Case(name="glm-5", model_type="glm_moe_dsa", module="model.layers.0.self_attn",
         block=_latent(top_k=64, indexer=Indexer(heads=8, head_dim=32)), hidden_size=512,
         config={**_LATENT, **_INDEX, "indexer_types": ["full", "shared"], "mlp_layer_types": ["dense"] * 2}),
    Case(name="glm-5-shared-choice", model_type="glm_moe_dsa", module="model.layers.1.self_attn",
         block=_latent(top_k=64), hidden_size=512,
         config={**_LATENT, **_INDEX, "indexer_types": ["full", "shared"], "mlp_layer_types": ["dense"] * 2}),
    Case(name="qwen3-next-delta", model_type="qwen3_next", module="model.layers.0.linear_attn",
         block=GatedDeltaNet(key_heads=4, key_head_dim=16, value_heads=8, value_head_dim=24),
         hidden_size=256, config=_small(**_DELTA)),
    Case(name="qwen3.5-delta", model_type="qwen3_5_text", module="model.layers.0.linear_attn",
         block=GatedDeltaNet(key_heads=4, key_head_dim=16, value_heads=8, value_head_dim=24),
         hidden_size=256, config=_small(**_DELTA)),
    Case(name="qwen3-next-attention", model_type="qwen3_next", module="model.layers.1.self_attn",
         block=_grouped(output_gate=True, query_key_norm="head"), hidden_size=256, config=_small(**_DELTA)),
    Case(name="minimax-lightning", model_type="minimax", module="model.layers.0.self_attn",
         block=LightningAttention(heads=8, head_dim=48), hidden_size=256,
         config=_small(layer_types=["linear_attention", "full_attention"])),
    Case(name="kimi-delta", model_type="kimi_linear", module="model.layers.0.self_attn",
         block=KimiDeltaAttention(heads=4, head_dim=24, gate_rank=24, convolution_kernel=3), hidden_size=256,
         config={"hidden_size": 256, "num_hidden_layers": 1, "vocab_size": 128, "pad_token_id": 0,
                 "num_local_experts": 2, "num_experts_per_tok": 1, "linear_num_heads": 4,
                 "linear_head_dim": 24, "linear_conv_kernel_dim": 3}),
    Case(name="lfm2-convolution", model_type="lfm2", module="model.layers.0.conv",
         block=ShortConvolution(kernel=4, bias=True), hidden_size=256,
         config=_small(layer_types=["conv", "full_attention"], conv_L_cache=4, conv_bias=True)),
    Case(name="mamba", model_type="mamba", module="backbone.layers.0.mixer",
         block=Mamba(intermediate_size=512, state_size=16, time_step_rank=16), hidden_size=256,
         config={"hidden_size": 256, "num_hidden_layers": 1, "state_size": 16, "vocab_size": 128}),
    Case(name="jamba-mamba", model_type="jamba", module="model.layers.0.mamba",
         block=Mamba(intermediate_size=512, state_size=16, time_step_rank=16, inner_norms=True),
         hidden_size=256,
         config=_small(mamba_expand=2, mamba_dt_rank=16, num_experts=2, attn_layer_period=2,
                       attn_layer_offset=1, use_mamba_kernels=False)),
    Case(name="mamba2", model_type="mamba2", module="backbone.layers.0.mixer",
         block=Mamba2(heads=16, head_dim=32, groups=2, state_size=64), hidden_size=256,
         config={"hidden_size": 256, "num_hidden_layers": 1, "state_size": 64, "num_heads": 16,
                 "head_dim": 32, "n_groups": 2, "vocab_size": 128}),
    Case(name="nemotron-h-mamba2", model_type="nemotron_h", module="model.layers.0.mixer",
         block=Mamba2(heads=16, head_dim=32, groups=2, state_size=64), hidden_size=256,
         config=_small(**_NEMOTRON)),
    Case(name="nemotron-3-latent-experts", model_type="nemotron_h", module="model.layers.1.mixer",
         block=MixtureOfExperts(experts=8, top_k=2, intermediate_size=96, shared_intermediate_size=160,
                                gated=False, latent_size=64),
         hidden_size=256, config=_small(**_NEMOTRON)),
    Case(name="nemotron-h-feed-forward", model_type="nemotron_h", module="model.layers.3.mixer",
         block=FeedForward(intermediate_size=320, gated=False), hidden_size=256,
         config=_small(**_NEMOTRON)),
    Case(name="gpt-oss-attention", model_type="gpt_oss", module="model.layers.0.self_attn",
         block=_grouped(projection_bias=True, output_bias=True, sinks=True), hidden_size=256,
         config=_small(num_local_experts=4)),
    Case(name="gpt-oss-experts", model_type="gpt_oss", module="model.layers.0.mlp",
         block=MixtureOfExperts(experts=4, top_k=2, intermediate_size=320, bias=True, router_bias=True),
         hidden_size=256, config=_small(num_local_experts=4, num_experts_per_tok=2)),
    Case(name="mixtral", model_type="mixtral", module="model.layers.0.mlp",
         block=MixtureOfExperts(experts=4, top_k=2, intermediate_size=320), hidden_size=256,
         config=_small(num_local_experts=4)),
    Case(name="qwen2-moe", model_type="qwen2_moe", module="model.layers.0.mlp",
         block=MixtureOfExperts(experts=4, top_k=2, intermediate_size=96, shared_intermediate_size=160,
                                shared_gate=True),
         hidden_size=256,
         config=_small(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=96,
                       shared_expert_intermediate_size=160)),
    Case(name="qwen3-moe", model_type="qwen3_moe", module="model.layers.0.mlp",
         block=MixtureOfExperts(experts=4, top_k=2, intermediate_size=96), hidden_size=256,
         config=_small(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=96)),
    Case(name="deepseek-v3-experts", model_type="deepseek_v3", module="model.layers.0.mlp",
         block=MixtureOfExperts(experts=8, top_k=2, intermediate_size=32, shared_intermediate_size=32),
         hidden_size=512,
         config={**_LATENT, "first_k_dense_replace": 0, "n_routed_experts": 8, "n_group": 1,
                 "topk_group": 1, "num_experts_per_tok": 2, "n_shared_experts": 1}),
    Case(name="llama-4-experts", model_type="llama4_text", module="model.layers.0.feed_forward",
         block=MixtureOfExperts(experts=4, top_k=1, intermediate_size=320, shared_intermediate_size=320),
         hidden_size=256,
         config=_small(num_local_experts=4, interleave_moe_layer_step=1, intermediate_size_mlp=320)),
    Case(name="llama-4-attention", model_type="llama4_text", module="model.layers.0.self_attn",
         block=_grouped(query_key_norm="plain"), hidden_size=256,
         config=_small(num_local_experts=4, interleave_moe_layer_step=1, intermediate_size_mlp=320)),
    Case(name="glm-4.5-experts", model_type="glm4_moe", module="model.layers.1.mlp",
         block=MixtureOfExperts(experts=8, top_k=2, intermediate_size=96, shared_intermediate_size=96),
         hidden_size=256,
         config=_small(n_routed_experts=8, num_experts_per_tok=2, moe_intermediate_size=96,
                       n_shared_experts=1, first_k_dense_replace=1, n_group=1, topk_group=1)),
    Case(name="minimax-m2-experts", model_type="minimax_m2", module="model.layers.0.mlp",
         block=MixtureOfExperts(experts=8, top_k=2, intermediate_size=320), hidden_size=256,
         config=_small(num_local_experts=8, num_experts_per_tok=2)),
    Case(name="minimax-m2-attention", model_type="minimax_m2", module="model.layers.0.self_attn",
         block=_grouped(query_key_norm="full"), hidden_size=256,
         config=_small(num_local_experts=8, num_experts_per_tok=2)),
    Case(name="phi-3.5-moe", model_type="phimoe", module="model.layers.0.mlp",
         block=MixtureOfExperts(experts=4, top_k=2, intermediate_size=320), hidden_size=256,
         config=_small(num_local_experts=4, num_experts_per_tok=2)),
    Case(name="falcon-7b", model_type="falcon", module="transformer.h.0.self_attention",
         block=GroupedQueryAttention(heads=8, kv_heads=1, head_dim=32), hidden_size=256,
         config={"hidden_size": 256, "num_attention_heads": 8, "num_hidden_layers": 1, "vocab_size": 128,
                 "multi_query": True, "new_decoder_architecture": False, "bias": False}),
    Case(name="falcon-40b", model_type="falcon", module="transformer.h.0.self_attention",
         block=GroupedQueryAttention(heads=8, kv_heads=2, head_dim=32), hidden_size=256,
         config={"hidden_size": 256, "num_attention_heads": 8, "num_hidden_layers": 1, "vocab_size": 128,
                 "num_kv_heads": 2, "new_decoder_architecture": True, "bias": False}),
    Case(name="gpt-j", model_type="gptj", module="transformer.h.0.attn",
         block=GroupedQueryAttention(heads=8, kv_heads=8, head_dim=32), hidden_size=256,
         config={"n_embd": 256, "n_head": 8, "n_layer": 1, "vocab_size": 128, "rotary_dim": 16}),
    Case(name="phi-2", model_type="phi", module="model.layers.0.self_attn",
         block=GroupedQueryAttention(heads=8, kv_heads=8, head_dim=32, projection_bias=True,
                                     output_bias=True),
         hidden_size=256,
         config={"hidden_size": 256, "num_attention_heads": 8, "num_hidden_layers": 1, "vocab_size": 128}),
    Case(name="gemma-2", model_type="gemma2", module="model.layers.0.self_attn",
         block=_grouped(), hidden_size=256, config=_small()),
    Case(name="llama-3.2-vision-cross", model_type="mllama",
         module="model.language_model.layers.1.cross_attn",
         block=CrossAttention(heads=8, kv_heads=4, head_dim=32, query_key_norm=True), hidden_size=256,
         config={"text_config": {**_small(), "vocab_size": 128256, "head_dim": 32,
                                 "cross_attention_layers": [1],
                                 "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
                 "vision_config": {"num_hidden_layers": 1, "num_global_layers": 1}}),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_block_has_the_parameters_of_its_module(case: Case) -> None:
    module = _module(case)

    ours = sum(weight.parameters for weight in case.block.weights(float(case.hidden_size)))

    assert ours == sum(parameter.numel() for parameter in module.parameters())


def _encoder_layer(
    *, heads: int, head_dim: int, norm_bias: bool, feed_forward: FeedForward
) -> dict[str, Any]:
    return {
        "attention_norm": Normalization(bias=norm_bias),
        "attention": GroupedQueryAttention(
            heads=heads, kv_heads=heads, head_dim=head_dim, projection_bias=True, output_bias=True,
            kv_cache="none",
        ),
        "feed_forward_norm": Normalization(bias=norm_bias),
        "feed_forward": feed_forward,
    }  # fmt: skip


def _llava() -> tuple[VisionEncoder, dict[str, Any]]:
    """LLaVA-1.5-7B: CLIP ViT-L/14 at 336 pixels."""
    layer = _encoder_layer(
        heads=16, head_dim=64, norm_bias=True,
        feed_forward=FeedForward(intermediate_size=4096, gated=False, bias=True),
    )  # fmt: skip
    encoder = VisionEncoder(
        hidden_size=1024.0,
        patch=PatchEmbedding(patch_size=14, class_token=True, positions=577, norm=True),
        layers={"block": layer},
        order=(Run(layers=("block",), repeat=24),),
        final_norm={"norm": Normalization(bias=True, residual=False)},
        projectors={"projector": Projector(intermediate_size=4096, output_size=4096, skipped_tokens=1)},
    )
    return encoder, {"text_config": {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 1}}


def _qwen25() -> tuple[VisionEncoder, dict[str, Any]]:
    """Qwen2.5-VL-7B."""
    layer = _encoder_layer(
        heads=16, head_dim=80, norm_bias=False, feed_forward=FeedForward(intermediate_size=3420, bias=True)
    )
    encoder = VisionEncoder(
        hidden_size=1280.0,
        patch=PatchEmbedding(patch_size=14, frames=2),
        layers={"block": layer},
        order=(Run(layers=("block",), repeat=32),),
        projectors={
            "merger": Projector(merge=4, intermediate_size=5120, output_size=3584, norm="before_merge")
        },
    )
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16,
              "out_hidden_size": 3584, "patch_size": 14, "spatial_merge_size": 2}  # fmt: skip
    return encoder, {"vision_config": vision, "text_config": {"num_hidden_layers": 1, "hidden_size": 3584}}


def _qwen3() -> tuple[VisionEncoder, dict[str, Any]]:
    """Qwen3-VL-8B: one merger and three DeepStack mergers."""
    layer = _encoder_layer(
        heads=16, head_dim=72, norm_bias=True,
        feed_forward=FeedForward(intermediate_size=4304, gated=False, bias=True),
    )  # fmt: skip
    sizes: dict[str, Any] = {"merge": 4, "intermediate_size": 4608, "output_size": 4096, "norm_bias": True}
    encoder = VisionEncoder(
        hidden_size=1152.0,
        patch=PatchEmbedding(patch_size=16, frames=2, bias=True, positions=2304),
        layers={"block": layer},
        order=(Run(layers=("block",), repeat=27),),
        projectors={
            "merger": Projector(norm="before_merge", **sizes),
            **{f"deepstack_{i}": Projector(norm="after_merge", **sizes) for i in range(3)},
        },
    )
    vision = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16,
              "out_hidden_size": 4096, "deepstack_visual_indexes": [8, 16, 24]}  # fmt: skip
    return encoder, {"vision_config": vision, "text_config": {"num_hidden_layers": 1, "hidden_size": 4096}}


@pytest.mark.parametrize(
    ("build", "model_type", "modules"),
    [
        (_llava, "llava", ("model.vision_tower", "model.multi_modal_projector")),
        (_qwen25, "qwen2_5_vl", ("model.visual",)),
        (_qwen3, "qwen3_vl", ("model.visual",)),
    ],
    ids=["llava-1.5", "qwen2.5-vl", "qwen3-vl"],
)
def test_an_image_encoder_has_the_parameters_of_its_modules(
    build: Any, model_type: str, modules: tuple[str, ...]
) -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    encoder, config = build()
    with torch.device("meta"):
        model = transformers.AutoModelForImageTextToText.from_config(CONFIG_MAPPING[model_type](**config))

    theirs = sum(p.numel() for name in modules for p in model.get_submodule(name).parameters())

    assert encoder.parameters == theirs
