import json
import subprocess
import sys
from pathlib import Path

import pytest


def called(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "roofline", *arguments], capture_output=True, text=True, timeout=60
    )


PLAIN = ("llama-3.1-8b", "h100-sxm", "--software", "datasheet")


def test_a_sweep_writes_one_row_per_point() -> None:
    pytest.importorskip("pandas")
    done = called("sweep", *PLAIN, "--batch", "1..4x2", "--context", "512,2048", "--format", "json")
    rows = json.loads(done.stdout)

    assert done.stderr == ""
    assert [(row["batch"], row["context"]) for row in rows[:3]] == [(1, 512), (1, 2048), (2, 512)]
    assert len(rows) == 6


@pytest.mark.parametrize("ending", ["csv", "json", "md", "parquet"])
def test_the_ending_of_the_file_decides_the_form(ending: str, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    if ending == "parquet":
        pytest.importorskip("pyarrow")
    file = tmp_path / f"grid.{ending}"
    done = called("sweep", *PLAIN, "--batch", "1,2", "-o", str(file))

    assert (done.returncode, done.stdout) == (0, "")
    if ending in ("csv", "json", "parquet"):
        assert len(getattr(pandas, f"read_{ending}")(file)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sweep", *PLAIN), "nothing varies"),
        (("sweep", *PLAIN, "--batch", "1,2", "--vary", "bandwith=x1,x2"), "nearest: 'bandwidth'"),
        (("sweep", *PLAIN, "--batch", "9..1"), "never gets from 9 to 1"),
        (("sweep", *PLAIN, "--batch", "1.."), "batch: want a range such as 1..256x2"),
        (("sweep", *PLAIN, "--batch", "0..4"), "batch: want at least 1, got 0"),
        (("compare", *PLAIN, "--vary", "batch=1..100"), "use roofline sweep"),
        (("compare", *PLAIN, "--vary", "weights"), "want KEY=VALUES"),
    ],
)
def test_wrong_use_is_told_in_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = called(*arguments)

    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_comparison_says_where_the_time_went() -> None:
    text = called("compare", *PLAIN, "--vary", "weights=bf16,fp8").stdout
    document = json.loads(called("compare", *PLAIN, "--vary", "weights=bf16,fp8", "--format", "json").stdout)

    assert "Where the time went, decode: bf16 to fp8" in text
    assert document["differences"] == {"weights": ["bf16", "fp8"]}
    assert document["scenarios"][1]["tpot_ratio"] < 1.0


SPILLED = (
    "qwen3-30b-a3b", "desktop-rtx-4090", "--weights", "q4_0", "--prompt", "64", "--output", "8",
    "--software", "datasheet",
)  # fmt: skip


def test_a_sweep_places_the_model_anew_under_each_limit() -> None:
    pytest.importorskip("pandas")
    done = called(
        "sweep", *SPILLED, "--vary", "offload=host", "--vary", "memory_limit=8GiB,24GiB",
        "--vary", "host_bandwidth=x1,x2", "--format", "json",
    )  # fmt: skip

    rows = json.loads(done.stdout)
    assert [(row["memory_limit"], row["host_bandwidth"]) for row in rows] == [
        (8 * 2**30, 1.0), (8 * 2**30, 2.0), (24 * 2**30, 1.0), (24 * 2**30, 2.0),
    ]  # fmt: skip
    assert all(row["fits"] for row in rows)
    assert rows[0]["tpot_s"] > rows[1]["tpot_s"] > rows[2]["tpot_s"] == rows[3]["tpot_s"]


def test_a_comparison_places_the_model_anew_under_each_limit() -> None:
    done = called(
        "compare", *SPILLED, "--offload", "host", "--vary", "memory_limit=8GiB,24GiB",
        "--vary", "batch=1,2", "--format", "json",
    )  # fmt: skip

    rows = json.loads(done.stdout)["scenarios"]
    assert len(rows) == 4
    assert all(row["fits"] for row in rows)
    assert rows[2]["tpot_s"] < rows[3]["tpot_s"] < rows[0]["tpot_s"] < rows[1]["tpot_s"]
