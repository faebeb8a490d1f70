"""`roofline analyze` answers in every form, and complains in one line."""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roofline.analysis import analyze
from roofline.api import make_scenario
from roofline.cli.analyze import EXAMPLES
from roofline.scenario_text import to_text

Run = Callable[[str], Any]

#: A dense decoder small enough to read, in the configuration format of the examples.
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1000,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "max_position_embeddings": 4096,
}  # fmt: skip


@pytest.mark.parametrize("line", EXAMPLES.strip().splitlines())
def test_every_example_works(
    line: str, roofline: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.json").write_text(json.dumps(CONFIG))
    Path("scenario.toml").write_text('model = "llama-3.1-8b"\nhardware = "h100-sxm"\nprompt = 100\n')

    found = roofline(line)

    assert (found.status, found.err) == (0, "")
    assert found.out or Path("answer.json").stat().st_size > 1000


def test_json_is_all_that_is_printed_and_says_what_the_api_says(roofline: Run) -> None:
    found = roofline("roofline analyze llama-3.1-8b h100-sxm --batch 4 --weights fp8 --format json")

    document = json.loads(found.out)
    report = analyze(make_scenario("llama-3.1-8b", "h100-sxm", batch=4, weights="fp8"))
    assert found.err == ""
    assert document["ttft_s"] == report.ttft_s.value
    assert document["tpot_s"] == report.tpot_s.value
    assert document["settings"] == {
        "model": "llama-3.1-8b",
        "hardware": "h100-sxm",
        "batch": 4.0,
        "weights": "fp8",
    }


def test_the_table_shows_what_users_look_for(roofline: Run) -> None:
    out = roofline("roofline analyze llama-3.1-8b h100-sxm").out

    for word in ("TTFT", "TPOT", "Output throughput", "Total token throughput", "80 % interval", "measured",
                 "ideal", "no overlap", "host", "Memory of one device: fits", "kv cache", "capacity",
                 "Assumptions", "Sources", "prompt 1,024"):  # fmt: skip
        assert word in out


def test_speculation_shows_how_many_tokens_a_step_gives(roofline: Run) -> None:
    plain = roofline("roofline analyze llama-3.1-8b h100-sxm").out
    drafted = roofline("roofline analyze llama-3.1-8b h100-sxm --speculate chain:4 --accept 0.5").out

    assert "Tokens per decode step" not in plain
    # 1 + 0.5 + 0.25 + 0.125 + 0.0625
    assert re.search(r"Tokens per decode step +1\.94\n", drafted)


def test_what_does_not_fit_is_said_and_is_no_error(roofline: Run) -> None:
    found = roofline("roofline analyze llama-3.1-8b h100-sxm --batch 512 --prompt 8192")

    assert found.status == 0
    assert "DOES NOT FIT" in found.out


def test_a_phase_alone_hides_the_other(roofline: Run) -> None:
    decode = roofline("roofline analyze llama-3.1-8b h100-sxm --phase decode").out
    prefill = roofline("roofline analyze llama-3.1-8b h100-sxm --phase prefill").out
    context = roofline("roofline analyze llama-3.1-8b h100-sxm --context 5000").out

    assert "TTFT" not in decode
    assert "TPOT" in decode
    assert "TPOT" not in prefill
    assert "TTFT" not in context
    assert "context 5,000" in context


def test_operators_are_shown_with_bytes_by_tensor(roofline: Run) -> None:
    out = roofline("roofline analyze llama-3.1-8b h100-sxm --per-operator --format md").out

    assert "| decoder.feed_forward.down | gemm | bf16 |" in out
    assert "| weight |" in out.replace("activation | weight", "| weight |")


def test_csv_is_one_row_or_one_per_operator(roofline: Run) -> None:
    (row,) = csv.DictReader(io.StringIO(roofline("roofline analyze llama-3.1-8b h100-sxm --format csv").out))
    operators = list(
        csv.DictReader(
            io.StringIO(roofline("roofline analyze llama-3.1-8b h100-sxm --per-operator --format csv").out)
        )
    )

    report = analyze(make_scenario("llama-3.1-8b", "h100-sxm"))
    assert float(row["tpot_s"]) == report.tpot_s.value
    decode = [row for row in operators if row["phase"] == "decode"]
    np.testing.assert_allclose(sum(float(row["flops"]) for row in decode), report.decode.flops, rtol=1e-12)


def test_an_explanation_names_roofs_and_ridge_point(roofline: Run) -> None:
    out = roofline("roofline analyze llama-3.1-8b h100-sxm --explain --software datasheet").out

    # 989.4 TFLOP/s over 3.35 TB/s.
    assert "ridge point of 295 FLOP/B" in out
    assert "largest operators" in out
    assert "the time is the ideal bound" in out


def test_an_explanation_bounds_the_experts_that_a_pass_touches(roofline: Run) -> None:
    out = roofline(
        "roofline analyze mixtral-8x7b h100-sxm --devices 2 --batch 8 --explain --phase decode"
    ).out
    dense = roofline("roofline analyze llama-3.1-8b h100-sxm --explain").out

    # 8 (1 - (6/8)^8) = 7.20; 8 a (1 - a) + 56 (b - a^2) with a = (6/8)^8, b = (30/56)^8 is 0.734^2.
    assert "touch 7.2 of 8 experts in a layer, standard deviation 0.734; under any, 2 to 8" in out
    assert "experts in a layer" not in dense


def test_sources_are_short_unless_asked_for(roofline: Run) -> None:
    short = roofline("roofline analyze llama-3.1-8b h100-sxm").out
    full = roofline("roofline analyze llama-3.1-8b h100-sxm --sources").out

    assert "--sources shows all" in short
    assert "memory.hbm.bandwidth" in full
    assert "https://" in full


def test_flags_go_on_top_of_a_scenario_file(roofline: Run, tmp_path: Path) -> None:
    file = tmp_path / "scenario.toml"
    file.write_text('model = "llama-3.1-8b"\nhardware = "h100-sxm"\nbatch = 8\nprompt = 100\n')

    found = json.loads(roofline(f"roofline analyze {file} --batch 2 --format json").out)

    assert found["workload"]["batch_size"] == 2.0
    assert found["workload"]["prompt_tokens"] == 100.0
    assert found["settings"] == {
        "model": "llama-3.1-8b",
        "hardware": "h100-sxm",
        "batch": 2.0,
        "prompt": 100,
    }


def test_a_whole_scenario_file_is_answered(roofline: Run, tmp_path: Path) -> None:
    scenario = make_scenario("llama-3.1-8b", "h100-sxm", batch=3)
    file = tmp_path / "scenario.toml"
    file.write_text(to_text(scenario, "toml"))

    found = json.loads(roofline(f"roofline analyze {file} --format json").out)

    assert found["ttft_s"] == analyze(scenario).ttft_s.value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("llama-3.1-8 h100-sxm", "nearest: 'llama-3.1-8b'"),
        ("llama-3.1-8b h100-sxmm", "no device or system is called 'h100-sxmm'"),
        ("llama-3.1-8b h100-sxm --weights fp7", "no number format is called 'fp7'"),
        ("llama-3.1-8b h100-sxm --software none", "no runtime profile of 'none'"),
        ("llama-3.1-8b h100-sxm --batch 0", "batch: want a number >= 1"),
        ("llama-3.1-8b h100-sxm --batch=-3", "batch: want a number >= 1"),
        ("llama-3.1-8b h100-sxm --batch nan", "batch: want a number >= 1"),
        ("llama-3.1-8b h100-sxm --batch inf", "batch: want a number >= 1"),
        ("llama-3.1-8b h100-sxm --batch many", "'--batch' / '-b': want a number, got 'many'"),
        ("llama-3.1-8b h100-sxm --memory-limit 8", "memory_limit: want text such as '80 GiB', got '8'"),
        ("llama-3.1-8b h100-sxm --prefix=-1", "prefix: want a number >= 0"),
        ("llama-3.1-8b h100-sxm --tensor 1.5", "tensor: want a whole number"),
        ("llama-3.1-8b h100-sxm --devices 3 --tensor 2", "there are 3 devices"),
        ("llama-3.1-8b h100-sxm --expert 2", "expert: want at most"),
        ("llama-3.1-8b h100-sxm --prompt 200000", "131072 tokens of context"),
        ("llama-3.1-8b h100-sxm --chunk 1 --prompt 100000", "at most 10000 passes"),
        ("llama-3.1-8b h100-sxm --context 10 --prompt 10", "context fixes the cached tokens"),
        ("llama-3.1-8b h100-sxm --context 10 --phase both", "no prefill to show"),
        ("llama-3.1-8b h100-sxm --set batch", "want KEY=VALUE"),
        ("llama-3.1-8b h100-sxm --set =3", "want KEY=VALUE"),
        ("llama-3.1-8b h100-sxm --set memory.hbn.bandwidth=3", "nearest: 'hbm'"),
        ("llama-3.1-8b h100-sxm --set memory.hbm.bandwidth=3", "want text such as '3.35 TB/s'"),
        ("llama-3.1-8b h100-sxm --set 'memory.hbm.bandwidth=0 B/s'", "divided by is zero"),
        ("llama-3.1-8b h100-sxm --set workload.batch_size=nan", "want a number >= 0"),
        ("llama-3.1-8b h100-sxm --set workload.batch_size=-2", "want a number >= 0"),
        ("llama-3.1-8b h100-sxm --format xml", "'xml' is not one of"),
        ("llama-3.1-8b h100-sxm --bach 3", "--bach"),
        ("llama-3.1-8b h100-sxm surplus", "surplus"),
        ("llama-3.1-8b", "want MODEL and HARDWARE"),
        ("", "MODEL"),
        ("missing.toml", "cannot be read"),
        ("missing.toml h100-sxm", "cannot be read"),
        ("llama-3.1-8b h100-sxm -o /no/such/folder/file", "cannot be written"),
        ("llama-3.1-8b h100-sxm -o /", "cannot be written"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(arguments: str, message: str, roofline: Run) -> None:
    found = roofline(f"roofline analyze {arguments}")

    assert found.status == 2
    assert found.out == ""
    assert found.err.startswith("roofline: ")
    assert found.err.count("\n") == 1
    assert message in found.err


def test_a_file_is_written_whole_or_not_at_all(
    roofline: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "answer.json"
    line = f"roofline analyze llama-3.1-8b h100-sxm --format json -o {file}"

    assert roofline(line).out == ""
    before = file.read_text()
    json.loads(before)

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", broken)
    found = roofline(line + " --batch 2")
    assert found.status == 2
    assert "No space left" in found.err
    assert file.read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["answer.json"]


def test_an_explanation_shows_the_tiles_of_the_largest_products(roofline: Run) -> None:
    out = roofline("roofline analyze llama-2-7b a100-sxm-80gb --batch 8 --explain --phase decode").out

    assert "Tiles: decode step" in out
    assert "8 x 22,016 x 4,096" in out
    assert "on 108" in out
    assert "the largest tile for every shape" in out
