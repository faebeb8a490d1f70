"""The JSON document is what docs/report.schema.json says, and agrees with itself."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roofline.analysis import analyze
from roofline.api import make_scenario
from roofline.errors import InvalidSpecError
from roofline.report_document import document_of, shares

SCHEMA: dict[str, Any] = json.loads((Path(__file__).parents[1] / "docs/report.schema.json").read_text())

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "number": (int, float),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip

CASES: list[dict[str, Any]] = [
    {},
    {"batch": 16, "devices": 2, "weights": "fp8", "chunk": 300},
    {"devices": 4, "tensor": 2, "pipeline": 2},
    {"context": 4000, "flash": False},
    {"output": 1},
    {"software": "datasheet"},
]


def problems(value: Any, schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield where a value departs from the part of JSON Schema that our file uses."""
    if "$ref" in schema:
        target: Any = SCHEMA
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        yield from problems(value, target, path)
    types = schema.get("type", [])
    names = [types] if isinstance(types, str) else types
    if names and not any(isinstance(value, _TYPES[name]) for name in names):
        yield f"{path}: want {types}, got {value!r}"
        return
    if "const" in schema and value != schema["const"]:
        yield f"{path}: want {schema['const']!r}, got {value!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is none of {schema['enum']}"
    if isinstance(value, int | float) and not schema.get("minimum", value) <= value <= schema.get(
        "maximum", value
    ):
        yield f"{path}: {value!r} is out of range"
    if isinstance(value, dict):
        yield from (f"{path}: no {key}" for key in schema.get("required", []) if key not in value)
        rest = schema.get("additionalProperties", {})
        for key, part in value.items():
            yield from problems(part, schema.get("properties", {}).get(key, rest), f"{path}.{key}")
    if isinstance(value, list):
        for index, part in enumerate(value):
            yield from problems(part, schema.get("items", {}), f"{path}.{index}")


def document(**settings: Any) -> dict[str, Any]:
    return document_of(analyze(make_scenario("llama-3.1-8b", "h100-sxm", **settings)), settings)


@pytest.mark.parametrize("settings", CASES, ids=str)
def test_the_document_follows_its_schema(settings: dict[str, Any]) -> None:
    found = document(**settings)

    assert list(problems(found, SCHEMA)) == []
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_schema_describes_every_key() -> None:
    found = document()

    assert set(found) == set(SCHEMA["properties"]) == set(SCHEMA["required"])
    assert set(found["decode"]) == set(SCHEMA["$defs"]["phase"]["properties"])
    assert set(found["decode"]["operators"][0]) == set(SCHEMA["$defs"]["operator"]["properties"])


@pytest.mark.parametrize("settings", CASES, ids=str)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_operators_add_up_to_their_phase(settings: dict[str, Any], phase: str) -> None:
    found = document(**settings)[phase]

    for key in ("flops", "bytes"):
        np.testing.assert_allclose(sum(row[key] for row in found["operators"]), found[key], rtol=1e-12)
    np.testing.assert_allclose(sum(row["share"] for row in found["operators"]), 1.0, rtol=1e-12)
    for tensor, size in found["bytes_by_tensor"].items():
        moved = sum(row[way].get(tensor, 0.0) for row in found["operators"] for way in ("read", "written"))
        np.testing.assert_allclose(moved, size, rtol=1e-12)


def test_numbers_are_those_of_the_report() -> None:
    report = analyze(make_scenario("llama-3.1-8b", "h100-sxm", batch=4))

    found = document_of(report)

    assert found["ttft_s"] == report.ttft_s.value
    assert found["tpot_high_s"] == report.tpot_s.high
    assert found["decode"]["time_s"] == report.decode.time_s.value
    assert found["fits"] is True
    # 128,256 x 4,096 embedding and head; per layer 2 norms of 4,096, 4,096 x (4,096 + 1,024 + 1,024 + 4,096)
    # and 3 x 4,096 x 14,336; one last norm.
    assert (
        found["model"]["parameters"]
        == 2 * 128256 * 4096 + 32 * (2 * 4096 + 4096 * (4096 + 1024 + 1024 + 4096) + 3 * 4096 * 14336) + 4096
    )


def test_chunks_of_a_prefill_are_one_row_each_operator() -> None:
    rows = document(chunk=100)["prefill"]["operators"]

    places = [(row["layer"], row["block"], row["name"]) for row in rows]
    assert len(places) == len(set(places))
    # 1,024 tokens in chunks of 100 are 11 passes over 32 layers.
    assert next(row["launches"] for row in rows if row["name"] == "down") == 11 * 32


def test_what_does_not_fit_is_a_result() -> None:
    found = document(batch=512, prompt=8192)

    assert found["fits"] is False
    memory = found["memory"]["hbm"]
    assert memory["shortfall_bytes"] == memory["used_bytes"] - memory["capacity_bytes"] > 0.0


def test_numbers_that_are_not_finite_are_refused() -> None:
    report = analyze(make_scenario("llama-3.1-8b", "h100-sxm"))
    broken = type(report)(**{**vars(report), "output_tokens_per_s": math.inf})

    with pytest.raises(InvalidSpecError, match="output_tokens_per_s"):
        document_of(broken)


def test_shares_of_nothing_are_zero() -> None:
    assert shares({"memory": 0.0, "compute": 0.0}) == {"memory": 0.0, "compute": 0.0}
