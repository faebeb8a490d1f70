"""Which architecture is read by what: the table that a new one is added to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from roofline.catalog.huggingface import (
    dense,
    experts,
    gemma,
    latent,
    linear,
    positional,
    searched,
    state_space,
    vision,
    windowed_experts,
)
from roofline.catalog.huggingface.config import Config
from roofline.graph.model import ModelSpec

__all__ = ["FAMILIES", "IMAGE_FAMILIES", "TEXT_TYPES", "Family", "ImageFamily"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """One ``model_type``.

    Parameters
    ----------
    read : callable
        From configuration to model.
    classes : tuple of str
        Names that ``architectures`` may have.
    spellings : mapping
        Other names of keys that its configuration class accepts.
    """

    read: Callable[[Config], ModelSpec]
    classes: tuple[str, ...]
    spellings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ImageFamily:
    """One image-text ``model_type``.

    Parameters
    ----------
    encoder : callable
        From outer configuration and language model to image encoder.
    classes : tuple of str
    text : str or None
        Family of the language model where ``text_config`` names none.
    """

    encoder: vision.VisionReader
    classes: tuple[str, ...]
    text: str | None = None


def _family(read: Callable[[Config], ModelSpec], *classes: str, **spellings: str) -> Family:
    return Family(read=read, classes=classes, spellings=spellings)


def _dense(model_type: str, *classes: str, **spellings: str) -> Family:
    return Family(read=dense.dense(model_type), classes=classes, spellings=spellings)


_GPT2_KEYS: Final = {
    "n_embd": "hidden_size", "n_layer": "num_hidden_layers", "n_head": "num_attention_heads",
    "n_positions": "max_position_embeddings", "n_inner": "intermediate_size",
}  # fmt: skip
_EXPERT_KEYS: Final = {"num_local_experts": "num_experts"}
_ROUTED_KEYS: Final = {"n_routed_experts": "num_experts", "num_local_experts": "num_experts"}

#: ``model_type`` -> how it is read.
FAMILIES: Final[dict[str, Family]] = {
    "afmoe": _family(windowed_experts.read_afmoe, "AfmoeForCausalLM", **_EXPERT_KEYS),
    "apertus": _dense("apertus", "ApertusForCausalLM"),
    "arcee": _dense("arcee", "ArceeForCausalLM"),
    "baichuan": _dense("baichuan", "BaichuanForCausalLM", "BaiChuanForCausalLM",
                       model_max_length="max_position_embeddings"),
    "bailing_moe": _family(experts.read_bailing_moe, "BailingMoeForCausalLM", "BailingMoeV2ForCausalLM"),
    "bailing_moe_v2": _family(experts.read_bailing_moe, "BailingMoeV2ForCausalLM"),
    "bamba": _family(state_space.read_bamba, "BambaForCausalLM"),
    "biogpt": _family(positional.read_biogpt, "BioGptForCausalLM"),
    "bitnet": _family(dense.read_bitnet, "BitNetForCausalLM"),
    "bloom": _family(positional.read_bloom, "BloomForCausalLM", n_embed="hidden_size",
                     n_layer="num_hidden_layers", n_head="num_attention_heads"),
    "chatglm": _family(dense.read_chatglm, "ChatGLMModel", "ChatGLMForConditionalGeneration",
                       num_layers="num_hidden_layers", padded_vocab_size="vocab_size",
                       ffn_hidden_size="intermediate_size", kv_channels="head_dim",
                       multi_query_group_num="num_key_value_heads"),
    "codegen": _family(positional.read_codegen, "CodeGenForCausalLM", **_GPT2_KEYS),
    "cohere": _family(dense.read_cohere, "CohereForCausalLM"),
    "cohere2": _dense("cohere2", "Cohere2ForCausalLM"),
    "cohere2_moe": _family(windowed_experts.read_cohere2_moe, "Cohere2MoeForCausalLM"),
    "cwm": _family(dense.read_cwm, "CwmForCausalLM"),
    "dbrx": _family(experts.read_dbrx, "DbrxForCausalLM", d_model="hidden_size",
                    n_heads="num_attention_heads", n_layers="num_hidden_layers",
                    max_seq_len="max_position_embeddings"),
    "deepseek_v2": _family(latent.read_deepseek_v2, "DeepseekV2ForCausalLM", **_ROUTED_KEYS),
    "deepseek_v3": _family(latent.read_deepseek, "DeepseekV3ForCausalLM", **_ROUTED_KEYS),
    "deepseek_v32": _family(latent.read_deepseek_v32, "DeepseekV32ForCausalLM", **_ROUTED_KEYS),
    "dots1": _family(experts.read_dots1, "Dots1ForCausalLM", **_ROUTED_KEYS),
    "ernie4_5": _dense("ernie4_5", "Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM"),
    "ernie4_5_moe": _family(experts.read_ernie4_5_moe, "Ernie4_5_MoeForCausalLM",
                            moe_num_experts="num_experts", moe_k="num_experts_per_tok"),
    "exaone": _dense("exaone", "ExaoneForCausalLM", num_layers="num_hidden_layers"),
    "exaone4": _dense("exaone4", "Exaone4ForCausalLM"),
    "exaone_moe": _family(windowed_experts.read_exaone_moe, "ExaoneMoeForCausalLM", **_EXPERT_KEYS),
    "falcon": _family(positional.read_falcon, "FalconForCausalLM", "RWForCausalLM",
                      n_layer="num_hidden_layers", n_head="num_attention_heads", n_embed="hidden_size",
                      num_kv_heads="num_key_value_heads", n_head_kv="num_key_value_heads"),
    "falcon_h1": _family(state_space.read_falcon_h1, "FalconH1ForCausalLM"),
    "falcon_mamba": _family(state_space.read_mamba, "FalconMambaForCausalLM"),
    "flex_olmo": _family(experts.read_flex_olmo, "FlexOlmoForCausalLM", **_EXPERT_KEYS),
    "gemma": _dense("gemma", "GemmaForCausalLM"),
    "gemma2": _dense("gemma2", "Gemma2ForCausalLM"),
    "gemma3_text": _dense("gemma3_text", "Gemma3ForCausalLM"),
    "gemma3n_text": _family(gemma.read_gemma3n_text, "Gemma3nForCausalLM"),
    "gemma4_text": _family(gemma.read_gemma4_text, "Gemma4ForCausalLM", top_k_experts="num_experts_per_tok"),
    "geblm": _family(dense.read_geblm, "GEBForCausalLM", num_layers="num_hidden_layers",
                     padded_vocab_size="vocab_size", ffn_hidden_size="intermediate_size",
                     kv_channels="head_dim"),
    "glm": _dense("glm", "GlmForCausalLM"),
    "glm4": _dense("glm4", "Glm4ForCausalLM"),
    "glm4_moe": _family(experts.read_glm4_moe, "Glm4MoeForCausalLM", **_ROUTED_KEYS),
    "glm4_moe_lite": _family(latent.read_glm4_moe_lite, "Glm4MoeLiteForCausalLM", **_ROUTED_KEYS),
    "glm_moe_dsa": _family(latent.read_deepseek_v32, "GlmMoeDsaForCausalLM", **_ROUTED_KEYS),
    "gpt-sw3": _family(positional.read_gpt2, "GPT2LMHeadModel", **_GPT2_KEYS),
    "gpt2": _family(positional.read_gpt2, "GPT2LMHeadModel", **_GPT2_KEYS),
    "gpt_bigcode": _family(positional.read_gpt_bigcode, "GPTBigCodeForCausalLM", "GPTBigCodeLMHeadModel",
                           **_GPT2_KEYS),
    "gpt_neo": _family(positional.read_gpt_neo, "GPTNeoForCausalLM", num_layers="num_hidden_layers",
                       num_heads="num_attention_heads"),
    "gpt_neox": _family(positional.read_gpt_neox, "GPTNeoXForCausalLM"),
    "gpt_oss": _family(windowed_experts.read_gpt_oss, "GptOssForCausalLM",
                       experts_per_token="num_experts_per_tok", **_EXPERT_KEYS),
    "gptj": _family(positional.read_gptj, "GPTJForCausalLM", **_GPT2_KEYS),
    "granite": _dense("granite", "GraniteForCausalLM"),
    "granite_swa": _family(dense.read_granite_swa, "GraniteSWAForCausalLM"),
    "granitemoe": _family(experts.read_granitemoe, "GraniteMoeForCausalLM", **_EXPERT_KEYS),
    "granitemoehybrid": _family(state_space.read_granitemoehybrid, "GraniteMoeHybridForCausalLM",
                                layers_block_type="layer_types", **_EXPERT_KEYS),
    "granitemoeshared": _family(experts.read_granitemoe, "GraniteMoeSharedForCausalLM", **_EXPERT_KEYS),
    "granitemoe_swa": _family(windowed_experts.read_granitemoe_swa, "GraniteMoeSWAForCausalLM",
                              **_EXPERT_KEYS),
    "helium": _family(dense.read_helium, "HeliumForCausalLM"),
    "hunyuan_v1_dense": _dense("hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM"),
    "hunyuan_v1_moe": _family(experts.read_hunyuan_v1_moe, "HunYuanMoEV1ForCausalLM",
                              moe_topk="num_experts_per_tok", **_EXPERT_KEYS),
    "hy_v3": _family(experts.read_hy_v3, "HYV3ForCausalLM", **_EXPERT_KEYS),
    "hyperclovax": _family(dense.read_hyperclovax, "HyperCLOVAXForCausalLM"),
    "internlm2": _dense("internlm2", "InternLM2ForCausalLM"),
    "internlm3": _dense("internlm3", "InternLM3ForCausalLM", qkv_bias="attention_bias", bias="mlp_bias"),
    "iquestcoder": _dense("iquestcoder", "IQuestCoderForCausalLM", "LlamaForCausalLM"),
    "jais2": _dense("jais2", "Jais2ForCausalLM"),
    "jamba": _family(state_space.read_jamba, "JambaForCausalLM", **_EXPERT_KEYS),
    "kimi_k2": _family(latent.read_deepseek, "DeepseekV3ForCausalLM", **_ROUTED_KEYS),
    "kimi_linear": _family(latent.read_kimi_linear, "KimiLinearForCausalLM", **_EXPERT_KEYS,
                           model_max_length="max_position_embeddings", num_shared_experts="n_shared_experts",
                           num_experts_per_token="num_experts_per_tok"),
    "laguna": _family(windowed_experts.read_laguna, "LagunaForCausalLM", **_EXPERT_KEYS),
    "lfm2": _family(linear.read_lfm2, "Lfm2ForCausalLM", block_ff_dim="intermediate_size",
                    tie_embedding="tie_word_embeddings"),
    "lfm2_moe": _family(linear.read_lfm2_moe, "Lfm2MoeForCausalLM", tie_embedding="tie_word_embeddings"),
    "llama": _dense("llama", "LlamaForCausalLM", "LLaMAForCausalLM", "YiForCausalLM"),
    "llama4_text": _family(windowed_experts.read_llama4, "Llama4ForCausalLM", **_EXPERT_KEYS),
    "mamba": _family(state_space.read_mamba, "MambaForCausalLM"),
    "mamba2": _family(state_space.read_mamba2, "Mamba2ForCausalLM"),
    "mellum": _family(windowed_experts.read_mellum, "MellumForCausalLM", **_EXPERT_KEYS),
    "mimo_v2_flash": _family(windowed_experts.read_mimo_v2_flash, "MiMoV2FlashForCausalLM", **_ROUTED_KEYS),
    "minicpm3": _family(latent.read_dense_latent, "MiniCPM3ForCausalLM"),
    "minimax": _family(linear.read_minimax, "MiniMaxForCausalLM", **_EXPERT_KEYS),
    "minimax_m2": _family(experts.read_minimax_m2, "MiniMaxM2ForCausalLM", **_EXPERT_KEYS),
    "ministral": _dense("ministral", "MinistralForCausalLM"),
    "ministral3": _dense("ministral3", "Ministral3ForCausalLM"),
    "mistral": _dense("mistral", "MistralForCausalLM"),
    "mixtral": _family(experts.read_mixtral, "MixtralForCausalLM", **_EXPERT_KEYS),
    "mpt": _family(positional.read_mpt, "MPTForCausalLM", "MptForCausalLM", d_model="hidden_size",
                   n_layers="num_hidden_layers", n_heads="num_attention_heads",
                   max_seq_len="max_position_embeddings"),
    "nanochat": _dense("nanochat", "NanoChatForCausalLM"),
    "nemotron": _dense("nemotron", "NemotronForCausalLM"),
    "nemotron-nas": _family(searched.read_nemotron_nas, "DeciLMForCausalLM"),
    "nemotron_h": _family(state_space.read_nemotron_h, "NemotronHForCausalLM", **_ROUTED_KEYS),
    "olmo": _dense("olmo", "OlmoForCausalLM"),
    "olmo2": _dense("olmo2", "Olmo2ForCausalLM"),
    "olmo3": _dense("olmo3", "Olmo3ForCausalLM"),
    "olmo_hybrid": _family(linear.read_olmo_hybrid, "OlmoHybridForCausalLM"),
    "olmoe": _family(experts.read_olmoe, "OlmoeForCausalLM", **_EXPERT_KEYS),
    "opt": _family(positional.read_opt, "OPTForCausalLM"),
    "openai-gpt": _family(positional.read_openai_gpt, "OpenAIGPTLMHeadModel", **_GPT2_KEYS),
    "openelm": _family(dense.read_openelm, "OpenELMForCausalLM", model_dim="hidden_size",
                       num_transformer_layers="num_hidden_layers"),
    "persimmon": _family(dense.read_persimmon, "PersimmonForCausalLM"),
    "phi": _family(dense.read_phi, "PhiForCausalLM"),
    "phi3": _dense("phi3", "Phi3ForCausalLM"),
    "phimoe": _family(experts.read_phimoe, "PhiMoEForCausalLM", "PhimoeForCausalLM", **_EXPERT_KEYS),
    "qwen2": _dense("qwen2", "Qwen2ForCausalLM"),
    "qwen2_moe": _family(experts.read_qwen2_moe, "Qwen2MoeForCausalLM", **_EXPERT_KEYS),
    "qwen3": _dense("qwen3", "Qwen3ForCausalLM"),
    "qwen3_5_moe_text": _family(linear.read_qwen3_5_moe, "Qwen3_5MoeForCausalLM", **_EXPERT_KEYS),
    "qwen3_5_text": _family(linear.read_qwen3_5, "Qwen3_5ForCausalLM"),
    "qwen3_moe": _family(experts.read_qwen3_moe, "Qwen3MoeForCausalLM", **_EXPERT_KEYS),
    "qwen3_next": _family(linear.read_qwen3_next, "Qwen3NextForCausalLM", **_EXPERT_KEYS),
    "seed_oss": _dense("seed_oss", "SeedOssForCausalLM"),
    "smollm3": _dense("smollm3", "SmolLM3ForCausalLM"),
    "solar_open": _family(experts.read_solar_open, "SolarOpenForCausalLM", **_ROUTED_KEYS),
    "stablelm": _family(dense.read_stablelm, "StableLmForCausalLM"),
    "starcoder2": _dense("starcoder2", "Starcoder2ForCausalLM"),
    "vaultgemma": _dense("vaultgemma", "VaultGemmaForCausalLM"),
    "xglm": _family(positional.read_xglm, "XGLMForCausalLM", d_model="hidden_size",
                    num_layers="num_hidden_layers", attention_heads="num_attention_heads"),
    "youtu": _family(latent.read_dense_latent, "YoutuForCausalLM"),
}  # fmt: skip

#: Types of nested language models that are another family by another name.
TEXT_TYPES: Final = {
    "qwen2_vl_text": "qwen2", "qwen2_5_vl_text": "qwen2", "qwen3_vl_text": "qwen3",
    "qwen3_vl_moe_text": "qwen3_moe",
}  # fmt: skip


def _image(encoder: vision.VisionReader, *classes: str, text: str | None = None) -> ImageFamily:
    return ImageFamily(encoder=encoder, classes=classes, text=text)


#: ``model_type`` of image-text models -> how they are read.
IMAGE_FAMILIES: Final[dict[str, ImageFamily]] = {
    "gemma3": _image(vision.gemma3, "Gemma3ForConditionalGeneration", text="gemma3_text"),
    "kimi_k25": _image(vision.kimi, "KimiK25ForConditionalGeneration", "Kimi_K25ForConditionalGeneration"),
    "llama4": _image(vision.llama4, "Llama4ForConditionalGeneration"),
    "llava": _image(vision.llava, "LlavaForConditionalGeneration", text="llama"),
    "mistral3": _image(vision.mistral3, "Mistral3ForConditionalGeneration", text="mistral"),
    "qwen2_5_vl": _image(vision.qwen2_5, "Qwen2_5_VLForConditionalGeneration", text="qwen2"),
    "qwen2_vl": _image(vision.qwen2, "Qwen2VLForConditionalGeneration", text="qwen2"),
    "qwen3_5": _image(vision.qwen3, "Qwen3_5ForConditionalGeneration"),
    "qwen3_5_moe": _image(vision.qwen3, "Qwen3_5MoeForConditionalGeneration"),
    "qwen3_vl": _image(vision.qwen3, "Qwen3VLForConditionalGeneration"),
    "qwen3_vl_moe": _image(vision.qwen3, "Qwen3VLMoeForConditionalGeneration"),
}
