"""`roofline offload`, and the offloading options of every command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Run = Callable[[str], Any]

PHONE = "qwen3-30b-a3b snapdragon-8-elite --weights q4_0 --prompt 64 --output 8"


def test_plans_are_shown_by_budget_and_the_best_is_drawn(roofline: Run) -> None:
    found = roofline(f"offload {PHONE} --budget '8 GiB' --budget '20 GiB' --timeline")

    assert found.status == 0
    assert "8 GiB" in found.out
    assert "20 GiB" in found.out
    assert "Fastest at 20 GiB: resident" in found.out
    assert "Decode step by stream" in found.out
    assert "####" in found.out


def test_json_holds_every_trial(roofline: Run) -> None:
    found = roofline(f"offload {PHONE} --budget '8 GiB' --format json")

    document = json.loads(found.out)
    assert {trial["plan"] for trial in document["trials"]} >= {"resident", "cache from storage"}
    assert document["best"][0]["plan"] == "cache from storage"


def test_a_trace_is_written_for_a_viewer(roofline: Run, tmp_path: Path) -> None:
    file = tmp_path / "step.json"
    found = roofline(f"offload {PHONE} --memory-limit '8 GiB' --trace {file}")

    assert found.status == 0
    assert json.loads(file.read_text())["traceEvents"]


def test_a_model_that_fits_nowhere_is_an_answer(roofline: Run) -> None:
    found = roofline("offload llama-3.1-405b raspberry-pi-5 --budget '8 GiB' --prompt 64 --output 8")

    assert found.status == 0
    assert "none fits" in found.out
    assert "lacks unified" in found.out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"offload {PHONE} --budget 8", "want text such as"),
        (f"offload {PHONE} --budget '800 GiB'", "at most the 24 GiB"),
        (f"offload {PHONE} --hits", "wants --routing trace:FILE"),
        (f"offload {PHONE} --cache-memory '8 GiB'", "--cache-memory: holds the caches of --requests"),
        (f"analyze {PHONE} --offload tape", "no tier is called 'tape'"),
        (f"analyze {PHONE} --offload host", "no tier 'host'"),
        (f"analyze {PHONE} --routing zipf:-1", "want uniform, zipf:SKEW"),
    ],
)
def test_wrong_use_is_one_line(roofline: Run, line: str, message: str) -> None:
    found = roofline(line)

    assert found.status == 2
    assert message in found.err
    assert found.err.count("\n") == 1


def test_a_window_and_bundle_are_found_by_budget(roofline: Run) -> None:
    found = roofline(
        "offload opt-6.7b phone-snapdragon-8-gen-3 --budget '4 GiB' --budget '8 GiB' --neurons 0.1,5:0.24"
        " --format json"
    )

    small, large = json.loads(found.out)["neurons"]
    assert small == {"budget_bytes": 4 * 2**30, "fits": False}
    assert large["window"] >= 4
    assert large["memory_bytes"] <= 8 * 2**30


@pytest.mark.parametrize("text", ["0.1", "0.3,5:0.2", "nan,5:0.2", "0.1,1:0.2"])
def test_an_impossible_use_of_neurons_is_refused(roofline: Run, text: str) -> None:
    found = roofline(f"offload opt-6.7b phone-snapdragon-8-gen-3 --budget '8 GiB' --neurons {text}")

    assert found.status == 2
    assert "neurons: want" in found.err


def test_requests_are_generated_from_host_memory_beside_and_apart(roofline: Run) -> None:
    line = "offload mixtral-8x7b a40 --budget '24 GiB' --prompt 98 --output 32 --requests 20000"
    found = json.loads(roofline(f"{line} --cache-memory '70 GB' --format json").out)["generations"]
    table = roofline(line)

    assert found["beside"]["tokens_per_s"] > found["apart"]["tokens_per_s"] > 0.0
    assert table.status == 0
    assert "preempted" in table.out


def test_a_trace_is_counted_by_policy(roofline: Run, tmp_path: Path) -> None:
    file = tmp_path / "routes.npy"
    chosen = np.random.default_rng(1).permuted(np.tile(np.arange(128), (60, 1)), axis=1)[:, :8]
    np.save(file, chosen)
    line = f"offload {PHONE} --budget '8 GiB' --routing trace:{file} --hits"
    found = roofline(line)
    counted = json.loads(roofline(f"{line} --format json").out)["hits"]

    assert "belady" in found.out
    assert "experts in a layer" in found.out
    rates = [size["hit_rates"]["belady"] for size in counted]
    assert rates == sorted(rates)
    assert all(size["hit_rates"]["belady"] >= size["hit_rates"]["lru"] for size in counted)
