"""Every architecture is counted as transformers builds it, also with a key of its configuration changed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from roofline.catalog.huggingface.reading import model_of
from roofline.catalog.huggingface.registry import FAMILIES
from roofline.errors import FileFormatError

pytestmark = pytest.mark.trace

#: Architectures that transformers has no class for; their readers rest on the publishers' own code.
PUBLISHED_CODE = {
    "bailing_moe", "bailing_moe_v2", "baichuan", "chatglm", "exaone", "geblm", "internlm2", "kimi_k2",
    "nemotron-nas", "openelm",
}  # fmt: skip
#: One change in this many is tried, which keeps the file under a minute.
STRIDE = 4
#: Keys whose value shapes no weight, whatever the class.
OF_NO_EFFECT = re.compile(
    r"rope_(theta|param|scal|inter|type)|token_id|dropout|initializer|pdrop|_eps$|epsilon|version|use_cache|"
    r"output_|return_dict|id2label|label2id|chunk_size_feed|problem_type|architectures|dtype|is_encoder|"
    r"name_or_path|hidden_act|activation_function|router_(z|aux)|pretraining_tp|time_step|num_ln_in_"
)
#: Lists with an entry per layer: left out, so that the depth can be changed.
PER_LAYER = {
    "activation_sparsity_pattern", "per_layer_config", "layer_types", "mlp_layer_types", "layers_block_type",
    "no_rope_layers", "moe_layers", "attention_layers",
    "attention_types",
}  # fmt: skip
SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim"), 64),
    **dict.fromkeys(("intermediate_size", "ffn_dim"), 96),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers", "n_layers"), 4),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_heads", "n_heads", "attention_heads"), 4),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 8),
    **dict.fromkeys(("num_key_value_heads", "num_experts_per_tok", "moe_k", "max_window_layers"), 2),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 256),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "qk_rope_head_dim", "index_topk"), 8),
    **dict.fromkeys(("head_dim", "kv_lora_rank", "qk_nope_head_dim", "v_head_dim", "index_head_dim"), 16),
    **dict.fromkeys(("n_group", "topk_group", "mamba_n_groups"), 1),
    "vocab_size": 128, "moe_intermediate_size": 32, "q_lora_rank": 24, "index_n_heads": 4,
    "shared_expert_intermediate_size": 40, "moe_shared_expert_intermediate_size": 24,
    "moe_layer_end_index": -1,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "time_step_rank": 4, "intermediate_size_mlp": 80,
}  # fmt: skip
MAMBA = {"mamba_n_heads": 16, "mamba_d_head": 8, "mamba_expand": 2, "mamba_d_state": 8}
#: What else an architecture needs to be built small.
OTHERS: dict[str, dict[str, Any]] = {
    "bamba": MAMBA,
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 8, "moe_top_k": 2},
    },
    "deepseek_v2": {"num_experts_per_tok": 2, "first_k_dense_replace": 1},
    "dots1": {"n_shared_experts": 2, "n_routed_experts": 8, "num_experts_per_tok": 2},
    "falcon_h1": MAMBA | {"mamba_d_ssm": 128},
    "falcon_mamba": {"intermediate_size": 128},
    "gemma3n_text": {"intermediate_size": [96] * 4, "num_kv_shared_layers": 0, "laurel_rank": 8},
    "gemma4_text": {"moe_intermediate_size": 32, "top_k_experts": 2, "num_experts": 8},
    "glm_moe_dsa": {"indexer_types": ["full"] * 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": MAMBA,
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16, "num_experts": 4, "moe_topk": 2},
    "laguna": {"num_attention_heads_per_layer": [4, 8, 4, 8]},
    "lfm2": {"full_attn_idxs": [1, 3]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba": {"intermediate_size": 128},
    "mamba2": {"num_heads": 16, "head_dim": 8, "expand": 2},
    "ministral": {"head_dim": 16},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h": {
        "hybrid_override_pattern": "ME*-", "mamba_num_heads": 16, "mamba_head_dim": 8, "n_groups": 2,
        "ssm_state_size": 8,
    },
}  # fmt: skip


def small(model_type: str) -> dict[str, Any]:
    """Return a small configuration of an architecture, all keys of its class spelled out."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    defaults = CONFIG_MAPPING[model_type]().to_dict()
    values = {
        key: SMALL[key] if key in SMALL and (value is not None or key == "num_key_value_heads") else value
        for key, value in defaults.items()
        if key not in PER_LAYER and not OF_NO_EFFECT.search(key)
    }
    if "pad_token_id" in defaults:
        values["pad_token_id"] = 0
    return values | OTHERS.get(model_type, {}) | {"model_type": model_type}


def changes(values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the configuration with one key left out, flipped, doubled, halved or set."""
    for key, value in values.items():
        if key == "model_type":
            continue
        yield {name: other for name, other in values.items() if name != key}
        if isinstance(value, bool):
            yield values | {key: not value}
        elif value is None:
            yield from (values | {key: 2}, values | {key: True})
        elif isinstance(value, int):
            yield from (values | {key: value * 2}, values | {key: max(1, value // 2)})


def built_parameters(values: dict[str, Any]) -> int | None:
    """Return the parameters of the class, None where it cannot be built."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "reference"))
    try:
        from build_parameters import meta_model
    finally:
        sys.path.pop(0)
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    rest = {key: value for key, value in values.items() if key != "model_type"}
    try:
        model = meta_model(CONFIG_MAPPING[values["model_type"]](**rest))
    except Exception:
        return None
    return sum(parameter.numel() for parameter in model.parameters())


def read_parameters(values: dict[str, Any]) -> float | None:
    """Return the parameters as read, None where it is refused."""
    try:
        return float(model_of(dict(values), "config.json", "small").parameters)
    except FileFormatError:
        return None


@pytest.fixture(autouse=True)
def _quiet() -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    transformers.logging.set_verbosity_error()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", sorted(set(FAMILIES) - PUBLISHED_CODE))
def test_an_architecture_is_exact_or_refused_whatever_is_changed(model_type: str) -> None:
    values = small(model_type)

    built = built_parameters(values)
    assert built is not None
    assert read_parameters(values) == built

    wrong = []
    for changed in list(changes(values))[::STRIDE]:
        found, wanted = read_parameters(changed), built_parameters(changed)
        if None not in (found, wanted) and found != wanted:
            key = next(key for key in values if changed.get(key, values) != values[key])
            wrong.append((key, changed.get(key), found, wanted))
    assert wrong == []
