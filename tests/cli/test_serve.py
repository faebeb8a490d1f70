"""`roofline serve`: a loaded server."""

import json
from collections.abc import Callable
from typing import Any

Run = Callable[[str], Any]

ONE = "serve llama-3.1-8b h100-sxm --software vllm --prompt 2048 --output 256"


def test_every_concurrency_is_a_row(roofline: Run) -> None:
    found = roofline(f"{ONE} --concurrency 1,64")

    assert found.status == 0, found.err
    assert "TTFT" in found.out
    assert [line.split()[0] for line in found.out.splitlines()[4:6]] == ["1", "64"]


def test_json_holds_values_within_their_intervals(roofline: Run) -> None:
    rows = json.loads(roofline(f"{ONE} --concurrency 4,32 --format json").out)["rows"]

    assert [row["concurrency"] for row in rows] == [4.0, 32.0]
    for row in rows:
        assert row["ttft_low_s"] < row["ttft_s"] < row["ttft_high_s"]
        assert row["tpot_low_s"] < row["tpot_s"] < row["tpot_high_s"]
        assert row["output_tokens_low_per_s"] < row["output_tokens_per_s"] < row["output_tokens_high_per_s"]


def test_a_model_without_room_is_said_not_to_fit(roofline: Run) -> None:
    assert "DOES NOT FIT" in roofline("serve llama-3.1-70b h100-sxm --software vllm --concurrency 4").out


def test_a_concurrency_that_is_no_number_is_refused(roofline: Run) -> None:
    found = roofline(f"{ONE} --concurrency many")

    assert found.status == 2
    assert "--concurrency: want numbers with commas between, got 'many'" in found.err
