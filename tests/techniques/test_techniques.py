"""Every technique sets only what it declares, goes together with others in any order, and cites."""

import ast
import dataclasses
import inspect
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roofline.analysis import analyze
from roofline.api import make_scenario
from roofline.decoding.workload import Workload
from roofline.errors import InvalidSpecError, RooflineError, UnknownNameError
from roofline.scenario import Scenario
from roofline.studies.changes import apply
from roofline.studies.compare import facets
from roofline.techniques.table import TECHNIQUES, apply_techniques, technique_named

FOLDER = Path(inspect.getfile(technique_named)).parent

#: Settings that make a technique fit the small model and short run of these tests.
ASKED = {"specpc": "specpc:draft=llama-3.1-8b"}
NAMES = sorted(TECHNIQUES)


@pytest.fixture(scope="module")
def base() -> Scenario:
    scenario = make_scenario("llama-3.1-8b", "h100-sxm", software="datasheet")
    workload = Workload(batch_size=4.0, prompt_tokens=8192.0, image_tokens=1000.0, output_tokens=64.0)
    # Bit planes need a one-bit matrix unit, which this device has not; any rate will do here.
    peaks = "deployment.system.device.engine.gpu.peak_flops_per_s"
    return scenario.replace(workload=workload).replace_at(
        peaks, lambda known: {**known, "int1": {"int32": 8e15}}
    )


@pytest.fixture(scope="module")
def tiered() -> dict[str, Scenario]:
    """Models larger than a memory, for techniques that place them."""
    mixture = make_scenario("qwen3-30b-a3b", "desktop-rtx-4090", software="datasheet", weights="q8_0")
    phone = make_scenario("qwen3-30b-a3b", "phone-snapdragon-8-gen-3", software="datasheet")
    dense = make_scenario("opt-6.7b", "phone-snapdragon-8-gen-3", software="datasheet")
    return {"powerinfer-2": phone, "llm-in-a-flash": dense, "": mixture}


def fit_for(name: str, base: Scenario, tiered: dict[str, Scenario]) -> Scenario:
    """The scenario a technique is for: one with a host or storage where it places a model."""
    places = "deployment.placement" in TECHNIQUES[name].slots
    return tiered.get(name, tiered[""]) if places else base


def test_bit_planes_are_refused_without_a_one_bit_unit() -> None:
    with pytest.raises(InvalidSpecError, match="int1"):
        analyze(make_scenario("llama-3.1-8b", "h100-sxm", technique=["bit-planes"]))


def under(scenario: Scenario, *names: str) -> Scenario:
    return apply_techniques(scenario, [ASKED.get(name, name) for name in names])


def changed(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield the dotted paths at which two values differ."""
    if before is after:
        return
    if dataclasses.is_dataclass(before) and type(before) is type(after):
        for field in dataclasses.fields(before):
            yield from changed(
                getattr(before, field.name), getattr(after, field.name), f"{path}.{field.name}"
            )
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in {**before, **after}:
            yield from changed(before.get(key), after.get(key), f"{path}.{key}")
    elif not np.array_equal(np.asarray(before, dtype=object), np.asarray(after, dtype=object)):
        yield path.removeprefix(".")


def rows(scenario: Scenario) -> list[tuple[Any, ...]]:
    """Return all operators of prefill and decode, without the names of the rules behind them."""
    workload, decoding = scenario.workload, scenario.decoding
    passes = (
        *decoding.prefill(scenario.deployment, workload),
        *decoding.iteration(scenario.deployment, workload, 10.0).passes,
    )
    return sorted(
        (row.name, part.phase, float(row.flops), sorted(row.read.items()), sorted(row.written.items()),
         float(row.repeat), float(row.kernels), float(part.count))
        for part in passes
        for row in part.deployment.model.operators(
            part.step, part.deployment.terms, part.deployment.schedules
        )
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_technique_sets_only_its_slots(name: str, base: Scenario, tiered: dict[str, Scenario]) -> None:
    slots, base = TECHNIQUES[name].slots, fit_for(name, base, tiered)
    paths = [path for path in changed(base, under(base, name)) if path != "assumptions"]

    assert paths, "it changes nothing"
    assert not [path for path in paths if not any(path.startswith(slot) for slot in slots)]


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(NAMES, 2)))
def test_two_techniques_give_the_same_rows_in_both_orders_or_are_refused(
    first: str, second: str, base: Scenario
) -> None:
    try:
        one = under(base, first, second)
    except InvalidSpecError:
        with pytest.raises(InvalidSpecError):
            under(base, second, first)
        return

    assert rows(one) == rows(under(base, second, first))


@pytest.mark.parametrize("name", NAMES)
def test_a_technique_on_a_grid_equals_points(name: str, base: Scenario) -> None:
    prompts = np.array([6000.0, 8192.0, 20000.0])
    if {"workload.prefill_chunk", "deployment.placement"} & set(TECHNIQUES[name].slots):
        pytest.skip("chunks and placements are structure")
    grid = analyze(under(base.replace_at("workload.prompt_tokens", prompts), name), axes=1, intervals=False)
    points = [
        analyze(under(base.replace_at("workload.prompt_tokens", float(prompt)), name), intervals=False)
        for prompt in prompts
    ]

    for figure in ("ttft_s", "tpot_s"):
        np.testing.assert_allclose(
            np.broadcast_to(getattr(grid, figure).value, (3,)),
            [getattr(point, figure).value for point in points],
            rtol=1e-12,
        )


def test_schedules_precision_prefix_and_speculation_go_together(base: Scenario) -> None:
    fp8 = base.replace_at("deployment.precision.weights", "fp8")
    plain, together = (analyze(under(fp8, *names), intervals=False)
                       for names in ((), ("aim", "duo-attention", "hydragen", "sirius")))  # fmt: skip

    assert together.ttft_s.value < plain.ttft_s.value


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["aims"], ("no technique", "nearest: 'aim'")),
        (["aim:mergd=0.5"], ("aim", "mergd", "merged")),
        (["aim:merged=much"], ("merged", "number", "much")),
        (["aim:merged"], ("setting=value",)),
        (["ftp:sparsity=0.1/0.2"], ("32", "2")),
        (["ftp:sparsity=1.5"], ("layer", "executed", "-0.5")),
        (["ftp:sparsity=sigmoyd(1;2;3)"], ("sigmoyd", "sigmoid")),
        (["aim", "hired"], ("aim and hired", "workload.image_tokens")),
        (["gemfilter", "sirius"], ("decoding",)),
        (["snapkv:tokens=1e6"], ("layer 0", "kv_budget_tokens", "1e+06")),
        (["lm-infinite:window=99999"], ("layer 0", "window_tokens", "99999")),
    ],
)
def test_impossible_requests_are_refused_in_words(
    asked: list[str], words: tuple[str, ...], base: Scenario
) -> None:
    with pytest.raises((InvalidSpecError, UnknownNameError)) as error:
        apply_techniques(base, asked)

    assert isinstance(error.value, RooflineError)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_technique_and_a_setting_on_one_slot_are_refused() -> None:
    with pytest.raises(InvalidSpecError, match="speculate and sirius both set decoding"):
        make_scenario("llama-3.1-8b", "h100-sxm", speculate="chain:3", accept=0.8, technique=["sirius"])


def test_settings_and_estimates_are_told(base: Scenario) -> None:
    told = apply_techniques(base, ["duo-attention:sinks=16"]).assumptions[-1]

    assert told == "duo-attention (arXiv:2410.10819): full = 0.5, window = 256 (our estimate), sinks = 16"


def test_techniques_may_be_varied_and_are_told_apart(base: Scenario) -> None:
    plain, one, two = (apply(base, "technique", text) for text in ("none", "aim", "duo-attention+gemfilter"))

    assert [facets(part)["technique"] for part in (plain, one, two)] == [
        "none", "aim", "duo-attention + gemfilter",
    ]  # fmt: skip


def test_settings_may_be_lists_and_curves(base: Scenario) -> None:
    listed = apply_techniques(base, ["ftp:sparsity=0*16/0.5*16"])
    curved = apply_techniques(base, ["ftp:sparsity=step(0.5;0;0.5)"])

    assert rows(listed) == rows(curved)


def _calls(tree: ast.AST, name: str) -> list[ast.Call]:
    return [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name
    ]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.name)
def test_every_number_in_a_preset_has_a_source(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    cited = {id(inner) for call in _calls(tree, "Cited") for inner in ast.walk(call)}
    loose = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, float) and id(node) not in cited
    ]

    # 1 and 2 are what shares and means are made of.
    assert set(loose) <= {0.0, 1.0, 2.0}
    assert all(any(word.arg == "source" for word in call.keywords) for call in _calls(tree, "Cited"))


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_at_most_twenty_lines(name: str) -> None:
    assert len(inspect.getsource(TECHNIQUES[name].preset).splitlines()) <= 20


@pytest.mark.parametrize("name", [name for name in NAMES if "deployment.placement" in TECHNIQUES[name].slots])
def test_a_placing_technique_makes_a_large_model_run(
    name: str, base: Scenario, tiered: dict[str, Scenario]
) -> None:
    scenario = fit_for(name, base, tiered)
    placed = analyze(under(scenario, name), intervals=False)

    assert placed.fits
    assert placed.tpot_s.value > 0.0


@pytest.mark.parametrize("name", ["fiddler", "ktransformers", "moe-infinity", "powerinfer-2"])
def test_a_technique_of_experts_wants_a_model_with_experts(name: str, base: Scenario) -> None:
    with pytest.raises(InvalidSpecError, match="has no experts"):
        under(base, name)
