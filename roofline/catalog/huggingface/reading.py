"""Reading a ``config.json``: which architecture it is, and refusing what is not known exactly."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from roofline.catalog.files import read_text
from roofline.catalog.huggingface.config import Config
from roofline.catalog.huggingface.registry import FAMILIES, IMAGE_FAMILIES, TEXT_TYPES, Family, ImageFamily
from roofline.catalog.huggingface.vision import TEXT_DEFAULTS
from roofline.catalog.quantization import quantised
from roofline.errors import FileFormatError, nearest
from roofline.graph.model import ModelSpec
from roofline.graph.operator import FormatRule, Precision

__all__ = ["model_of", "read_config_file"]

_FORMATS: Final = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "half": "fp16", "float": "fp32"}


def read_config_file(path: Path) -> tuple[Path, ModelSpec, str | None]:
    """Return the file, the model of a ``config.json`` or of the folder that holds one, and its dtype's key.

    Returns
    -------
    tuple
        The file that was read; its model; the key that states the number format of what is not
        quantised, None where none does.

    Raises
    ------
    FileFormatError
        If it is no such file, of an architecture that is not known exactly, or has values that
        cannot be.
    """
    if path.is_dir():
        path = path / "config.json"
        if not path.exists():
            raise FileFormatError(f"{path.parent}: want a folder with a config.json in it")
    values = _object(path)
    name, stated = path.stem, None
    if path.name == "config.json":
        name = path.resolve().parent.name
        beside = path.with_name("hf_quant_config.json")
        stated = _object(beside).get("quantization") if beside.is_file() else None
        if stated is not None and not isinstance(stated, dict):
            raise FileFormatError(f"{beside}: quantization: want an object")
    return path, model_of(values, str(path), name, stated), _dtype_key(values)


def _dtype_key(values: Mapping[str, Any]) -> str | None:
    text = values.get("text_config")
    for prefix, part in (("", values), ("text_config.", text if isinstance(text, dict) else {})):
        for key in ("dtype", "torch_dtype"):
            if part.get(key) is not None:
                return prefix + key
    return None


def _object(path: Path) -> dict[str, Any]:
    try:
        # Infinity, which published files contain, is refused by the key that must not have it.
        values = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        raise FileFormatError(f"{path}: not valid JSON ({first[:100]})") from error
    if not isinstance(values, dict):
        raise FileFormatError(f"{path}: want an object, got a {type(values).__name__}")
    return values


def model_of(
    values: dict[str, Any], where: str, name: str, beside: Mapping[str, Any] | None = None
) -> ModelSpec:
    """Return the model that a parsed configuration describes.

    Parameters
    ----------
    beside : mapping or None
        What ``hf_quant_config.json`` says, which ModelOpt writes beside the configuration.
    """
    model_type = values.get("model_type")
    if not isinstance(model_type, str):
        raise FileFormatError(f"{where}: model_type: want the name of an architecture such as 'llama'")
    if model_type in IMAGE_FAMILIES:
        spec, config = _image_text_model(values, where, IMAGE_FAMILIES[model_type])
    else:
        config = Config(values, where, spellings=_family(model_type, where, "model_type").spellings)
        spec = _language_model(config, FAMILIES[model_type])
    spec = replace(spec, name=name, precision=_precision(config))
    return _with_stored_formats(spec, config, beside)


def _family(model_type: object, where: str, key: str) -> Family:
    shown = str(model_type)[:60]
    family = FAMILIES.get(TEXT_TYPES.get(shown, shown))
    if family is None:
        known = nearest(shown, [*FAMILIES, *IMAGE_FAMILIES])
        raise FileFormatError(f"{where}: {key}: {shown!r} is not an architecture known here{known}")
    return family


def _language_model(config: Config, family: Family) -> ModelSpec:
    _check_class(config, family.classes)
    config.only("is_encoder_decoder", False)
    config.only("add_cross_attention", False)
    spec = family.read(config)
    config.finish()
    return spec


def _image_text_model(values: dict[str, Any], where: str, family: ImageFamily) -> tuple[ModelSpec, Config]:
    """Return the model with its encoder, and the language model's configuration.

    Older files have the language model's keys beside ``vision_config``. Whether embeddings are tied is
    said by the outer object where it says anything.
    """
    outer = Config(values, where)
    _check_class(outer, family.classes)
    if "vision_config" not in outer:
        outer.refuse(
            "vision_config",
            "an object with the sizes of the image encoder: its weights count among the parameters, and a "
            "class's defaults need not be this model's, so none is guessed (a model of text alone has "
            "text_config's own model_type and no image-text class)",
        )
    if "text_config" in outer:
        stated = outer.nested("text_config").values.get("model_type", family.text)
        text_type = TEXT_TYPES.get(str(stated), str(stated))
        spellings = _family(stated, where, "text_config.model_type").spellings
        text = outer.nested("text_config", TEXT_DEFAULTS.get(text_type), spellings)
    else:
        if family.text is None:
            outer.refuse("text_config", "an object")
        text_type = family.text
        flat = {key: value for key, value in values.items() if key not in ("vision_config", "architectures")}
        text = Config(flat, where, spellings=FAMILIES[text_type].spellings)
        outer.ignore(" ".join(flat))
    if "tie_word_embeddings" in outer:
        text.values["tie_word_embeddings"] = outer.raw("tie_word_embeddings")
    for key in ("dtype", "torch_dtype", "quantization_config", "compression_config"):
        if outer.raw(key) is not None:
            text.values[key] = outer.raw(key)
    spec = _language_model(text, FAMILIES[text_type])
    spec = replace(spec, vision=family.encoder(outer, spec))
    outer.finish()
    return spec, text


def _with_stored_formats(spec: ModelSpec, config: Config, beside: Mapping[str, Any] | None) -> ModelSpec:
    """Return the model in the formats of its checkpoint, where they are not plain."""
    plain = spec.precision.hidden
    for key in ("quantization_config", "compression_config"):
        if config.raw(key) is not None:
            spec = quantised(spec, config.nested(key), plain)
            break
    else:
        if beside is not None:
            spec = quantised(spec, Config(beside, config.where, "hf_quant_config."), plain)
    if spec.prediction:
        rule = FormatRule(pattern="prediction.fusion.*", format=plain)
        spec = replace(spec, precision=replace(spec.precision, rules=(rule, *spec.precision.rules)))
    if spec.vision is None:
        return spec
    encoder = Precision(weights=plain, hidden=plain, kv_cache=plain)
    return replace(spec, vision=replace(spec.vision, precision=encoder))


def _check_class(config: Config, classes: tuple[str, ...]) -> None:
    stated = config.sequence("architectures")
    if stated is None:
        return
    if len(stated) != 1 or stated[0] not in classes:
        shown = stated[0] if len(stated) == 1 and isinstance(stated[0], str) else "a list"
        raise FileFormatError(
            f"{config.where}: {config.prefix}architectures: want {' or '.join(classes)}, got {shown[:60]}"
        )


def _precision(config: Config) -> Precision:
    stated = config.raw("dtype", "torch_dtype")
    if stated is None:
        return Precision()
    if not isinstance(stated, str) or stated.removeprefix("torch.") not in _FORMATS:
        config.refuse("dtype" if "dtype" in config else "torch_dtype", "one of " + ", ".join(_FORMATS))
    plain = _FORMATS[stated.removeprefix("torch.")]
    return Precision(weights=plain, hidden=plain, kv_cache=plain)
