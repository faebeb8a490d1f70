"""Published configurations are read exactly or refused in one line."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from roofline.analysis import analyze
from roofline.catalog.models import load_model
from roofline.errors import FileFormatError
from roofline.graph.model import ModelSpec
from roofline.report_document import sources_of
from roofline.settings import Settings

MODELS: list[dict[str, Any]] = tomllib.loads(
    (Path(__file__).parents[1] / "reference" / "parameters.toml").read_text(encoding="utf-8")
)["model"]
#: Models no block can express yet, and what is missing.
INEXPRESSIBLE = {
    "deepseek-v4-flash": "compressed attention and hyper-connections",
    "phi-3-small": "block-sparse attention in every second layer",
    "llama-3.2-11b-vision": "tile embeddings and gated layers of its image encoder",
}
#: Why a published file may be refused: no block for it, or half of it was left out when it was copied.
REASONS = ("not an architecture known here", "vision_config: want an object")
PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "hf_configs"

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 512,
    "torch_dtype": "float16",
}


def with_nulls(table: dict[str, Any]) -> dict[str, Any]:
    """Return a ``config`` table as JSON would have it: ``none`` lists the keys that are null."""
    values = {
        key: with_nulls(value) if isinstance(value, dict) else value
        for key, value in table.items()
        if key != "none"
    }
    return values | dict.fromkeys(table.get("none", []))


def written(folder: Path, values: object) -> str:
    path = folder / "config.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return str(path)


def all_parameters(spec: ModelSpec) -> float:
    """Return the parameters with those of an image encoder."""
    return float(spec.parameters)


@pytest.mark.parametrize(
    "model", [pytest.param(m, id=m["name"]) for m in MODELS if m["name"] not in INEXPRESSIBLE]
)
def test_parameters_are_exact(model: dict[str, Any], tmp_path: Path) -> None:
    spec = load_model(written(tmp_path, with_nulls(model["config"]))).value

    assert all_parameters(spec) == model["parameters"]


@pytest.mark.parametrize("name", sorted(INEXPRESSIBLE))
def test_what_no_block_can_express_is_refused(name: str, tmp_path: Path) -> None:
    (model,) = [model for model in MODELS if model["name"] == name]

    with pytest.raises(FileFormatError, match="is not an architecture known here"):
        load_model(written(tmp_path, with_nulls(model["config"])))


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="needs the published configurations beside the checkout")
@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.json")), ids=lambda path: path.stem)
def test_published_files_are_exact_or_refused(path: Path) -> None:
    known = {model["parameters"] for model in MODELS}

    try:
        found, reason = all_parameters(load_model(str(path)).value), ""
    except FileFormatError as error:
        found, reason = 0.0, str(error)

    assert found in known or any(part in reason for part in REASONS)


def test_a_folder_stands_for_its_config_file(tmp_path: Path) -> None:
    written(tmp_path, LLAMA)

    assert load_model(str(tmp_path)).value.layer_counts() == {"decoder": 2}


def test_a_file_in_the_folder_one_works_in_is_called_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    monkeypatch.chdir(tmp_path)

    assert load_model("./config.json").value.name == tmp_path.name


def test_formats_and_context_are_those_of_the_file(tmp_path: Path) -> None:
    spec = load_model(written(tmp_path, LLAMA)).value

    assert (spec.precision.weights, spec.precision.kv_cache, spec.context_tokens) == ("fp16", "fp16", 512.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": -64}, "hidden_size: want a whole number"),
        ({"hidden_size": 0}, "hidden_size: want a whole number"),
        ({"hidden_size": "64"}, "hidden_size: want a whole number"),
        ({"hidden_size": 64.5}, "hidden_size: want a whole number"),
        ({"hidden_size": True}, "hidden_size: want a whole number"),
        ({"hidden_size": None}, "hidden_size: want a whole number"),
        ({"hidden_size": 10**4000}, "got a number of more than 18 digits"),
        ({"hidden_size": float("nan")}, "hidden_size: want a whole number"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers: want a whole number from 1 to 10000"),
        ({"num_attention_heads": 7}, "num_key_value_heads: want a divisor"),
        ({"num_key_value_heads": 3}, "num_key_value_heads: want a divisor"),
        ({"num_key_value_heads": 1, "num_attention_heads": 5}, "num_attention_heads: want a divisor"),
        ({"attention_bias": "yes"}, "attention_bias: want true or false"),
        ({"num_experts": 8}, "num_experts: not known for this architecture"),
        ({"cross_layer_sharing_factor": 2}, "cross_layer_sharing_factor: not known"),
        ({"torch_dtype": "float5"}, "torch_dtype: want one of"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder: want false"),
        ({"model_type": "lama"}, "nearest: 'llama'"),
        ({"model_type": 3}, "model_type: want the name of an architecture"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "architectures: want LlamaForCausalLM"),
        ({"architectures": "LlamaForCausalLM"}, "architectures: want a list"),
    ],
)
def test_nonsense_is_refused_in_one_line(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = written(tmp_path, LLAMA | change)

    with pytest.raises(FileFormatError) as caught:
        load_model(path)

    assert message in str(caught.value)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("key", ["hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size"])
def test_a_missing_size_is_refused(key: str, tmp_path: Path) -> None:
    path = written(tmp_path, {name: value for name, value in LLAMA.items() if name != key})

    with pytest.raises(FileFormatError, match=f"{key}: want a whole number, got nothing"):
        load_model(path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", "null", "{", "[" * 100_000, '{"hidden_size": ' + "9" * 100_000 + "}", '{"a": 1}'],
    ids=["empty", "list", "number", "null", "cut", "deep", "digits", "no-type"],
)
def test_hostile_text_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError):
        load_model(written(tmp_path, text))


def test_broken_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.json").write_bytes(b'{"model_type": "\xe9"}')
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    (tmp_path / "empty").mkdir()

    for name in ("latin.json", "loop.json", "empty", "missing.json"):
        with pytest.raises(FileFormatError):
            load_model(str(tmp_path / name))


def test_null_and_switched_off_keys_are_let_pass(tmp_path: Path) -> None:
    changes = {"num_experts": None, "use_new_thing": False, "shared_layers": 0, "mlp_extra": []}

    assert load_model(written(tmp_path, LLAMA | changes)).value.layer_counts() == {"decoder": 2}


def test_spellings_that_disagree_are_refused(tmp_path: Path) -> None:
    model = {"model_type": "gpt2", "n_embd": 64, "hidden_size": 32, "n_layer": 1, "n_head": 4}

    with pytest.raises(FileFormatError, match="hidden_size: want the same as n_embd"):
        load_model(written(tmp_path, model))


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "phi3", "full_attn_mod": 1, "interpolate_factor": 1, "lm_head_bias": False},
        {
            "model_type": "cohere2",
            "order_of_interleaved_layers": "local_attn_first",
            "use_parallel_block": True,
        },
        {"model_type": "starcoder2", "norm_type": "layer_norm", "mlp_type": "default"},
        {"model_type": "smollm3", "no_rope_layers": [1, 0], "no_rope_layer_interval": 2},
        {"model_type": "gemma2", "cache_implementation": "hybrid", "attn_logit_softcapping": 50.0},
        {"model_type": "exaone4", "sliding_window": 128, "sliding_window_pattern": "LG"},
        {
            "model_type": "bloom",
            "n_embed": 64,
            "skip_bias_add": True,
            "intermediate_size": None,
            "num_key_value_heads": None,
        },
    ],
    ids=lambda change: change["model_type"],
)
def test_keys_that_published_files_carry_along_are_understood(change: dict[str, Any], tmp_path: Path) -> None:
    without = {key: value for key, value in LLAMA.items() if key != "architectures"}

    assert len(load_model(written(tmp_path, without | change)).value.layer_names()) == 2


def test_letters_say_which_layers_have_a_window(tmp_path: Path) -> None:
    change = {"model_type": "exaone4", "sliding_window": 128, "sliding_window_pattern": "LG"}
    without = {key: value for key, value in LLAMA.items() if key != "architectures"}

    assert load_model(written(tmp_path, without | change)).value.layer_names() == ("local", "global")


def test_figures_cite_the_file(tmp_path: Path) -> None:
    model = load_model(written(tmp_path, LLAMA))

    # 2 tables of 100 x 64; 2 layers of 12,288 (attention), 24,576 (network), 2 norms of 64; a last norm.
    assert [(citation.path, citation.value, citation.at) for citation in model.citations] == [
        ("parameters", "86848", "model_type"),
        ("precision", "fp16", "torch_dtype"),
    ]
    assert {(cited.source.kind, cited.source.url) for cited in model.citations} == {
        ("config", str(tmp_path / "config.json"))
    }
    assert model.assumptions == ()


def test_a_format_that_is_not_stated_is_an_assumption(tmp_path: Path) -> None:
    without = {key: value for key, value in LLAMA.items() if key != "torch_dtype"}
    written(tmp_path, without)

    report = analyze(Settings(model=str(tmp_path), hardware="nvidia_h100_sxm5_80gb", prompt=64).scenario())

    assert any("states no dtype: bf16 assumed" in line for line in report.scenario.assumptions)
    assert any(source["kind"] == "config" for source in sources_of(report))


def test_a_copy_without_its_image_encoder_is_refused_with_the_reason(tmp_path: Path) -> None:
    text = LLAMA | {"model_type": "llama4_text"}
    outer = {"model_type": "llama4", "text_config": text}

    with pytest.raises(FileFormatError, match=r"vision_config: want an object .* none is guessed"):
        load_model(written(tmp_path, outer))
