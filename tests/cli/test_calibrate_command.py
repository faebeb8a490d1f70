import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pandas")
pytest.importorskip("scipy")

_ROWS = "\n".join(
    f"rtx-4090,vllm 9.9,gemm,bf16,{m},{n},4096,{microseconds}"
    for m, n, microseconds in (
        (1, 4096, 40), (1, 14336, 130), (16, 4096, 42), (16, 14336, 132), (256, 4096, 70),
        (256, 14336, 230), (2048, 4096, 480), (2048, 14336, 1650), (4096, 4096, 950), (4096, 14336, 3300),
    )
)  # fmt: skip
_TABLE = f"device,software,op,dtype,m,n,k,latency_us\n{_ROWS}\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(_TABLE)
    return path


@pytest.fixture(autouse=True)
def _own_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOFLINE_CATALOG", str(tmp_path / "mine"))


def test_intervals_are_shown_before_and_after(roofline: Callable[[str], Any], table: Path) -> None:
    outcome = roofline(f"roofline calibrate --from-table {table}")
    header, row = outcome.out.splitlines()[:2]

    assert outcome.status == 0
    assert "80 % interval before" in header
    assert row.count(" to ") == 2
    assert (table.parent / "mine" / "fits" / "nvidia_rtx_4090" / "vllm.toml").is_file()


def test_json_holds_the_intervals_and_what_rows_did_not_tell(
    roofline: Callable[[str], Any], table: Path
) -> None:
    (fit,) = json.loads(roofline(f"roofline calibrate --from-table {table} --format json").out)["fits"]

    assert fit["low"] < 0.0 < fit["high"]
    assert fit["before"][0] < fit["before"][1]
    assert isinstance(fit["not_told_by_the_rows"], list)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--minutes 0", "--minutes: want more than 0, got 0"),
        ("--from-table none.csv", "there is no such file"),
        ("--storage none", "cannot be measured there"),
        ("--device nonsense-9000", "no device is called 'nonsense-9000'"),
        ("--ranks 1 --busy", "want at least 2 ranks, got 1"),
    ],
)
def test_wrong_use_is_told_in_one_line(roofline: Callable[[str], Any], arguments: str, told: str) -> None:
    pytest.importorskip("torch")
    outcome = roofline(f"roofline calibrate --engine cpu {arguments}")

    assert (outcome.status, outcome.out) == (2, "")
    assert told in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1


def test_without_a_folder_the_two_ways_to_name_one_are_told(
    roofline: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ROOFLINE_CATALOG")
    outcome = roofline("roofline calibrate")

    assert outcome.status == 2
    assert "want --folder, or a folder of your own in ROOFLINE_CATALOG" in outcome.err


def test_a_busy_machine_is_refused(roofline: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr("roofline.calibration.microbenchmarks.measure.busy_fraction", lambda: 2.0)
    outcome = roofline("roofline calibrate --engine cpu")

    assert (outcome.status, outcome.out) == (2, "")
    assert "others use 200% of this machine's processors: wait, or say --busy" in outcome.err


def test_an_interrupt_says_that_nothing_is_lost(
    roofline: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")

    def interrupted(*arguments: Any, **keys: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("roofline.calibration.calibrate.calibrate_machine", interrupted)
    outcome = roofline("roofline calibrate --engine cpu")

    assert outcome.status == 130
    assert "what was measured is kept" in outcome.err


def test_the_self_check_asks_for_a_calibration_first(roofline: Callable[[str], Any]) -> None:
    pytest.importorskip("torch")
    outcome = roofline("roofline validate --self-check --device rtx-4090 --software nonsense")

    assert (outcome.status, outcome.out) == (2, "")
    assert "run roofline calibrate first" in outcome.err
