"""`roofline speculate` as a user runs it."""

import json
from pathlib import Path

import numpy as np
import pytest

from roofline.cli.main import run

BASE = ["speculate", "llama-3.1-8b", "h100-sxm", "--context", "1000", "--nodes", "8", "--depth", "4"]


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        run([*BASE, *arguments])
    shown = capsys.readouterr()
    return int(left.value.code or 0), shown.out, shown.err


def test_a_search_says_what_to_draft_and_where_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = answer(capsys, "--draft", "eagle", "--accept", "rank:0.7,0.1", "--format", "json")

    document = json.loads(out)
    assert status == 0
    assert document["speculate"] is True
    assert document["tree"]["nodes"] <= 8
    assert document["break_even_batch"] > 1
    np.testing.assert_allclose(sum(document["accepted_tokens_distribution"]), 1.0, rtol=1e-12)
    assert document["best_by_batch"][0]["speculate"] is True


def test_a_useless_drafter_is_advised_against(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = answer(capsys, "--draft", "llama-3.1-8b", "--accept", "0.5")

    assert status == 0
    assert "Do not speculate" in out


def test_a_given_tree_is_judged_and_drawn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "answer.png"
    status, out, _ = answer(capsys, "--speculate", "tree:2,2", "--accept", "0.6", "--plot", str(file))

    assert status == 0
    assert "6 drafted tokens in 2 levels" in out
    assert file.stat().st_size > 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--accept", "1.5"],
        ["--accept", "tokens:3"],
        ["--accept", "0.5", "--draft", "no-such-model"],
        ["--accept", "0.5", "--nodes", "0"],
        ["--accept", "0"],
    ],
)
def test_wrong_use_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    status, out, err = answer(capsys, *arguments)

    assert (status, out) == (2, "")
    assert len(err.strip().splitlines()) == 1


def test_sweep_and_compare_take_trees(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pandas")
    given = ["llama-3.1-8b", "h100-sxm", "--speculate", "chain:4", "--accept", "0.8", "--draft", "eagle"]
    with pytest.raises(SystemExit) as left:
        run(["sweep", *given, "--batch", "1,8", "--vary", "speculate=chain:2,chain:8", "--format", "csv"])
    swept = capsys.readouterr().out.splitlines()

    assert not left.value.code
    assert len(swept) == 1 + 2 * 2

    with pytest.raises(SystemExit) as left:
        run(["compare", "llama-3.1-8b", "h100-sxm,a100-80gb", *given[2:]])
    assert not left.value.code
    assert "TPOT" in capsys.readouterr().out
