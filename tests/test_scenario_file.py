"""Scenarios survive being written and read, whatever the form."""

import dataclasses
from pathlib import Path
from typing import Any, get_args

import pytest

from roofline.analysis import analyze
from roofline.api import make_scenario
from roofline.errors import FileFormatError, InvalidSpecError, RooflineError, UnknownNameError
from roofline.report_document import document_of
from roofline.scenario import Scenario
from roofline.scenario_file import decode, encode, read_scenario
from roofline.scenario_text import TextForm, from_text, to_text
from roofline.settings import Settings, settings_of

FORMS = get_args(TextForm)

#: What users vary, each alone and some together.
VARIED: list[dict[str, Any]] = [
    {},
    {"batch": 3, "prompt": 777, "output": 33, "samples": 2},
    {"devices": 4, "weights": "fp8", "kv": "fp8"},
    {"devices": 2, "pipeline": 2, "weights": "int4", "flash": False},
    {"context": 8000.5, "chunk": 300},
    {"prefix": 512, "prefix_shared_by": 2, "batch": 4},
    {"set": {"memory.hbm.bandwidth": "4.8 TB/s", "deployment.reserve_fraction": "0.1"}},
    {"set": {"deployment.model.layers.decoder.feed_forward.intermediate_size": "11111"}},
    {"speculate": "tree:3,2", "accept": "0.8,0.6"},
    {"speculate": "chain:4", "accept": "0.8", "draft": "llama-3.2-1b", "draft_weights": "fp8"},
    {"technique": ("quest:tokens=512", "gemfilter"), "prompt": 4096},
    {"technique": ("tim",), "prompt": 4096, "output": 4096},
    {"hardware": "desktop_rtx_4090", "offload": "host", "memory_limit": "12 GB"},
]  # fmt: skip


def answer(scenario: Scenario) -> dict[str, Any]:
    return document_of(analyze(scenario))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("settings", VARIED, ids=str)
def test_a_scenario_read_back_gives_the_same_answer_bit_for_bit(
    settings: dict[str, Any], form: TextForm
) -> None:
    scenario = make_scenario("llama-3.1-8b", **{"hardware": "h100-sxm", **settings})

    again = from_text(to_text(scenario, form), form)

    assert isinstance(again, Scenario)
    assert answer(again) == answer(scenario)
    assert encode(again) == encode(scenario)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("settings", VARIED, ids=str)
def test_settings_read_back_are_the_same(settings: dict[str, Any], form: TextForm) -> None:
    given = settings_of({"model": "llama-3.1-8b", "hardware": "h100-sxm", **settings})

    again = from_text(to_text(given, form), form)

    assert isinstance(again, Settings)
    assert dataclasses.asdict(again) == dataclasses.asdict(given)


def test_catalogue_values_are_written_by_name_and_defaults_not_at_all() -> None:
    document = encode(make_scenario("llama-3.1-8b", "h100-sxm", devices=2))

    assert document["deployment"]["model"] == {"catalogue": "meta_llama_3.1_8b"}
    assert document["deployment"]["system"] == {"catalogue": "nvidia_h100_sxm5_80gb", "devices": 2.0}
    assert "citations" not in document
    assert "composition" not in document["deployment"]
    assert "batch_size" not in document.get("workload", {})


def test_a_changed_figure_is_written_with_its_unit() -> None:
    changed = make_scenario("llama-3.1-8b", "h100-sxm", set={"memory.hbm.bandwidth": "4.8 TB/s"})

    system = encode(changed)["deployment"]["system"]

    assert system["device"]["memory"]["hbm"]["bandwidth"] == "4800000000000.0 B/s"


def test_whole_values_fit_into_a_url() -> None:
    changed = make_scenario(
        "llama-3.1-8b",
        "h100-sxm",
        set={"memory.hbm.bandwidth": "4.8 TB/s", "model.hidden_size": "4224"},
    )

    # Browsers and servers take 8,000 characters at least (RFC 9110, section 4.1).
    assert len(to_text(changed, "url")) < 8000


def test_settings_in_a_url_are_readable() -> None:
    given = settings_of({"model": "llama-3.1-8b", "hardware": "h100-sxm", "batch": 32})

    assert to_text(given, "url") == "model=llama-3.1-8b&hardware=h100-sxm&batch=32.0"


@pytest.mark.parametrize(
    ("text", "form", "message"),
    [
        ("model = ", "toml", "not valid TOML"),
        ("{", "json", "not valid JSON"),
        ("[]", "json", "want a table"),
        ("scenario=AAAA", "url", "not valid URL"),
        ("scenario=eNpLTE4BAAJNASc", "url", "not valid URL"),
        ("modell=x", "url", "unknown key 'modell' (nearest: 'model'"),
        ("model=llama-3.1-8b&hardware=h100-sxm&batch=x", "url", "not valid URL"),
        ('model = "llama-3.1-8b"\nhardware = "h100-sxm"\nbatsch = 3', "toml", "batsch"),
        ('[deployment.model]\ncatalogue = "no such"\n', "toml", "no model is called"),
        ('[deployment.model]\ncatalogue = "llama-3.1-8b"\nextra = 1\n', "toml", "unknown key 'extra'"),
        ("[deployment.model]\ncatalogue = 3\n", "toml", "want a name"),
        ('[deployment.system]\ncatalogue = "h100-sxm"\ndevices = 0\n', "toml", "want a number >= 1"),
    ],
)
def test_malformed_text_is_refused_in_one_line(text: str, form: TextForm, message: str) -> None:
    with pytest.raises(RooflineError) as caught:
        from_text(text, form)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_grid_cannot_be_written() -> None:
    import numpy as np

    grid = make_scenario("llama-3.1-8b", "h100-sxm").replace_at("workload.batch_size", np.array([1.0, 2.0]))

    with pytest.raises(InvalidSpecError, match="grid"):
        encode(grid)


def test_changes_go_on_top_of_a_settings_file(tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(
        'model = "llama-3.1-8b"\nhardware = "h100-sxm"\nbatch = 8\n[set]\n"memory.hbm.bandwidth" = "2 TB/s"\n'
    )

    scenario = read_scenario(file, {"batch": 4.0, "set": {"deployment.reserve_fraction": "0.2"}})

    assert scenario.workload.batch_size == 4.0
    assert scenario.deployment.reserve_fraction == 0.2
    assert scenario.deployment.system.device.memory["hbm"].bandwidth_bytes_per_s == 2e12


def test_a_whole_scenario_file_takes_figures_but_no_settings(tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text(to_text(make_scenario("llama-3.1-8b", "h100-sxm"), "toml"))

    assert read_scenario(file, {"set": {"workload.batch_size": "4"}}).workload.batch_size == 4.0
    with pytest.raises(InvalidSpecError, match="whole scenario"):
        read_scenario(file, {"batch": 4.0})


def test_a_fixed_context_and_a_prompt_contradict_each_other() -> None:
    with pytest.raises(InvalidSpecError, match="context"):
        settings_of({"model": "llama-3.1-8b", "hardware": "h100-sxm", "context": 100, "prompt": 10})


def test_unknown_names_are_told(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError):
        decode({"deployment": {"model": {"catalogue": "llama-9"}}})
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_scenario(tmp_path / "missing.toml")
