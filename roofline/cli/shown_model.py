"""A model as a plain document and as sections: sizes, layers, formats and every weight."""

from collections.abc import Iterator, Mapping
from typing import Any

from roofline.catalog.sourced import Sourced
from roofline.cli.sections import Section, source_documents, source_section
from roofline.cli.tables import count, exact, quantity
from roofline.decoding.workload import Workload
from roofline.graph.formats import format_named
from roofline.graph.model import ModelSpec
from roofline.graph.operator import Terms
from roofline.quantity import Quantity
from roofline.scenario_file import encode_whole

__all__ = ["model_document", "model_sections"]


def model_document(model: Sourced[ModelSpec]) -> dict[str, Any]:
    """Return a model as a plain document: sizes, layers, weights and sources.

    Notes
    -----
    `weight_bytes` are all weights in the checkpoint's formats; `kv_bytes_per_token` what the first
    token of a sequence adds to the KV cache of all layers; `state_bytes` what a sequence keeps
    whatever its length [B].
    """
    spec = model.value
    terms = Terms(hidden_size=spec.hidden_size, precision=spec.precision)
    kept = spec.resident(Workload(prompt_tokens=1.0).prefill(), terms)
    weights = list(_weights(spec))
    return {
        "name": spec.name,
        "parameters": _whole(spec.parameters),
        "active_parameters": _whole(spec.active_parameters),
        "language_parameters": _whole(spec.language_parameters),
        "prediction_modules": spec.prediction_modules,
        "prediction_parameters": _whole(spec.prediction_parameters),
        "weight_bytes": float(spec.stored_bytes(terms) + _encoder_bytes(spec)),
        "kv_bytes_per_token": float(kept.get("kv_cache", 0.0)),
        "state_bytes": float(kept.get("state", 0.0)),
        "hidden_size": float(spec.hidden_size),
        "context_tokens": float(spec.context_tokens),
        "layer_count": sum(spec.layer_counts().values()),
        "order": [{"layers": list(part.layers), "repeat": part.repeat} for part in spec.order],
        "layers": list(_layers(spec, weights)),
        "formats": _by_format(weights),
        "weights": weights,
        "sources": source_documents(model.citations),
    }


def _weights(spec: ModelSpec) -> Iterator[dict[str, Any]]:
    """Every weight that has parameters, with the format and bytes it is stored in."""
    hidden = format_named(spec.precision.hidden)
    for layer, block, weight, repeat in spec.weights():
        if not float(weight.parameters):
            continue
        format = spec.precision.of_weight(layer, block, weight)
        yield {
            "layer": layer,
            "block": block,
            "name": weight.name,
            "repeat": repeat,
            "inputs": float(weight.inputs),
            "outputs": float(weight.outputs),
            "groups": float(weight.groups),
            "parameters": _whole(repeat * weight.parameters),
            "format": format.name,
            "bytes": float(repeat * weight.stored_bytes(format, hidden)),
        }


def _layers(spec: ModelSpec, weights: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every distinct layer with its blocks, and the parameters of one of them."""
    counts = spec.layer_counts()
    for name, layer in spec.layers.items():
        own = (weight["parameters"] / weight["repeat"] for weight in weights if weight["layer"] == name)
        yield {
            "name": name,
            "repeat": counts.get(name, 0),
            "parameters": _whole(sum(own)),
            "blocks": {block: encode_whole(value) for block, value in layer.items()},
        }


def _encoder_bytes(spec: ModelSpec) -> Quantity:
    """Bytes of the image encoder's weights, where there is one [B]."""
    if spec.vision is None:
        return 0.0
    return spec.vision.stored_bytes(
        Terms(hidden_size=spec.vision.hidden_size, precision=spec.vision.precision)
    )


def _by_format(weights: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for weight in weights:
        sums = found.setdefault(weight["format"], {"parameters": 0, "bytes": 0.0})
        sums["parameters"] += weight["parameters"]
        sums["bytes"] += weight["bytes"]
    return found


def _whole(value: Quantity) -> int | float:
    number = float(value)
    return int(number) if number.is_integer() else number


def model_sections(document: Mapping[str, Any]) -> list[Section]:
    """Return the document of a model as sections for the screen."""
    order = " then ".join(f"{part['repeat']} x ({', '.join(part['layers'])})" for part in document["order"])
    blocks = [
        (layer["name"], f"{layer['repeat']}", block, numbers["kind"], _numbers(numbers))
        for layer in document["layers"]
        for block, numbers in layer["blocks"].items()
    ]
    formats = [
        (name, count(sums["parameters"]), quantity(sums["bytes"], "B"))
        for name, sums in document["formats"].items()
    ]
    return [
        Section(title="", header=("", ""), rows=list(_sizes(document))),
        Section(
            title=f"Layers: {order}",
            header=("layer", "times", "block", "kind", "figures"),
            rows=blocks,
            left=5,
        ),
        Section(title="Formats", header=("format", "parameters", "bytes"), rows=formats),
        Section(
            title="Weights",
            header=("weight", "times", "shape", "parameters", "format", "bytes"),
            rows=[_weight_row(weight) for weight in document["weights"]],
        ),
        *source_section(document["sources"]),
    ]


def _sizes(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "parameters", count(document["parameters"])
    yield "active parameters", count(document["active_parameters"])
    if document["prediction_modules"]:
        apart = (
            f"{document['prediction_modules']}, apart: {count(document['prediction_parameters'])} parameters"
        )
        yield "prediction modules", apart
    yield "weights", quantity(document["weight_bytes"], "B")
    yield "KV cache per token", quantity(document["kv_bytes_per_token"], "B")
    if document["state_bytes"]:
        yield "state per sequence", quantity(document["state_bytes"], "B")
    yield "layers", str(document["layer_count"])
    yield "hidden size", exact(document["hidden_size"])
    yield "longest context", exact(document["context_tokens"]) if document["context_tokens"] else "not stated"


def _weight_row(weight: Mapping[str, Any]) -> tuple[str, ...]:
    sides = ("outputs", "inputs") if weight["groups"] == 1 else ("groups", "outputs", "inputs")
    return (
        ".".join(dict.fromkeys((weight["layer"], weight["block"], weight["name"]))),
        str(weight["repeat"]),
        " x ".join(f"{weight[side]:g}" for side in sides),
        count(weight["parameters"]),
        weight["format"],
        quantity(weight["bytes"], "B"),
    )


def _numbers(block: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in block.items()
        if key != "kind"
    )
