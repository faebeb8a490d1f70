import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pandas")

_TABLE = """device,op,dtype,m,n,k,latency_us
h100-sxm,gemm,bf16,4096,4096,4096,190
h100-sxm,gemm,bf16,4096,4096,4096,nan
h100-sxm,gemm,bf16,4096,8192,4096,360
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(_TABLE)
    return path


def test_it_shows_errors_and_names_the_line_it_left_out(roofline: Callable[[str], Any], table: Path) -> None:
    outcome = roofline(f"roofline validate {table}")

    assert outcome.status == 0
    assert "3 rows, 2 predicted, 1 left out" in outcome.out
    assert "1 rows: latency_us is not a number: 'nan' (line 3)" in outcome.out


def test_json_holds_every_row(roofline: Callable[[str], Any], table: Path) -> None:
    document = json.loads(roofline(f"roofline validate {table} --format json").out)

    assert [row["skipped"] == "" for row in document["rows"]] == [True, False, True]
    assert document["all"]["rows"] == 2


def test_rows_go_to_a_file_and_a_picture(roofline: Callable[[str], Any], table: Path) -> None:
    pytest.importorskip("matplotlib")
    folder = table.parent
    outcome = roofline(f"roofline validate {table} -o {folder}/rows.csv --plot {folder}/picture.png")

    assert outcome.status == 0
    header, *rows = (folder / "rows.csv").read_text().splitlines()
    assert header == _TABLE.splitlines()[0] + ",predicted,ideal,low,high,error,basis,skipped"
    assert len(rows) == 3
    assert (folder / "picture.png").read_bytes()[:4] == b"\x89PNG"


def test_a_file_that_is_not_there_is_told_in_one_line(roofline: Callable[[str], Any], tmp_path: Path) -> None:
    outcome = roofline(f"roofline validate {tmp_path}/none.csv")

    assert (outcome.status, outcome.out) == (2, "")
    assert "there is no such file" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--self-check rows.csv", "--self-check: measures this machine, so want no FILE with it"),
        ("rows.csv --threads 2", "--threads: belongs to --self-check"),
        ("", "want a file of measurements, or --self-check"),
    ],
)
def test_options_that_contradict_are_told(roofline: Callable[[str], Any], arguments: str, told: str) -> None:
    outcome = roofline(f"roofline validate {arguments}")

    assert (outcome.status, outcome.out) == (2, "")
    assert told in outcome.err
