import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roofline.calibration.microbenchmarks.machine import THIS_MACHINE, Machine, machine_name
from roofline.calibration.storage_calibration import CalibratedStorage
from roofline.calibration.table_calibration import Calibrated

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
        ("--device nonsense-9000", "a machine that is in no catalogue goes without it"),
        ("--ranks 1 --busy", "want at least 2 ranks, got 1"),
        ("--threads 0", "--threads: want at least 1, got 0"),
        ("--weights fp8", "--weights: belongs to --from-table"),
        ("--from-table a.csv --storage .", "--from-table and --storage: want one of them"),
        ("--storage . --ranks 2", "--ranks: belongs to measuring kernels"),
        ("--from-table a.csv --ranks 2", "--ranks: belongs to measuring kernels"),
        (f"--folder {__file__}", "--folder: want a folder, got the file"),
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

    monkeypatch.setattr("roofline.calibration.machine_calibration.calibrate_machine", interrupted)
    outcome = roofline("roofline calibrate --engine cpu")

    assert outcome.status == 130
    assert "what was measured is kept" in outcome.err


def test_the_self_check_asks_for_a_calibration_first(roofline: Callable[[str], Any]) -> None:
    pytest.importorskip("torch")
    outcome = roofline("roofline validate --self-check --device rtx-4090 --software nonsense")

    assert (outcome.status, outcome.out) == (2, "")
    assert "run roofline calibrate first" in outcome.err


_MACHINE = Machine(
    kind="cpu", title="Some Processor", device=None, cores=2, cache_bytes=3e7, memory_bytes=8e9,
    software="pytorch 2.9",
)  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the command hands on, in place of measuring."""
    found: dict[str, Any] = {}

    def called(engine: str | None = None) -> Machine:
        found["engine"] = engine
        return _MACHINE

    def measured(machine: Machine, folder: Path, **keys: Any) -> Calibrated:
        found.update(keys, folder=folder)
        return Calibrated(fits=(), refused=(), written=(folder / "fits",))

    def stored(storage: Path, folder: Path, **keys: Any) -> CalibratedStorage:
        found.update(keys, folder=folder, storage=storage)
        return CalibratedStorage(
            device=keys["device"], speeds=(), fit=None, left=0, written=(), doubts=("few",)
        )

    monkeypatch.setattr("roofline.calibration.microbenchmarks.machine.this_machine", called)
    monkeypatch.setattr("roofline.calibration.machine_calibration.calibrate_machine", measured)
    monkeypatch.setattr("roofline.calibration.storage_calibration.calibrate_storage", stored)
    return found


@pytest.mark.parametrize(
    ("arguments", "key", "value"),
    [
        ("", "seconds", 600.0),
        ("--minutes 0.5", "seconds", 30.0),
        ("--folder elsewhere", "folder", Path("elsewhere")),
        ("--device rtx-4090", "device", "rtx-4090"),
        ("--engine mps", "engine", "mps"),
        ("--threads 3", "threads", 3),
        ("", "even_if_busy", False),
        ("--busy", "even_if_busy", True),
        ("--ranks 2", "ranks", 2),
        ("--storage data", "storage", Path("data")),
        ("--storage data", "device", THIS_MACHINE),
        ("--storage data --device rtx-4090", "device", "nvidia_rtx_4090"),
        ("--storage data --minutes 2", "seconds", 120.0),
    ],
)
def test_each_option_reaches_what_measures(
    roofline: Callable[[str], Any], asked: dict[str, Any], arguments: str, key: str, value: object
) -> None:
    outcome = roofline(f"roofline calibrate {arguments}")

    assert outcome.status == 0
    assert asked[key] == value


def test_an_own_folder_that_is_not_listed_is_named_at_the_end(
    roofline: Callable[[str], Any], asked: dict[str, Any]
) -> None:
    assert (
        "To use it: export ROOFLINE_CATALOG=elsewhere"
        in roofline("roofline calibrate --folder elsewhere").err
    )
    assert roofline("roofline calibrate").err == ""


def test_rows_without_a_device_take_the_one_given(roofline: Callable[[str], Any], table: Path) -> None:
    table.write_text(table.read_text().replace("rtx-4090,", ","))
    outcome = roofline(f"roofline calibrate --from-table {table} --device rtx-4090 --format json")

    (fit,) = json.loads(outcome.out)["fits"]
    assert (fit["device"], fit["points"]) == ("nvidia_rtx_4090", 10)


def test_speeds_without_a_format_take_the_one_given(roofline: Callable[[str], Any], tmp_path: Path) -> None:
    # At 16 bits all of them would be faster than the memory allows, and nothing would be left to fit.
    lines = ["device,model,runtime,batch,prompt_len,gen_len,metric,value,unit"]
    rates = {"llama-3.2-1b": 520, "llama-3.2-3b": 230, "llama-3.1-8b": 120, "qwen3-8b": 118}
    for model, rate in rates.items():
        lines.append(f"rtx-4080,{model},llama.cpp,1,16,128,decode_tok_s,{rate},tok/s")
    table = tmp_path / "speeds.csv"
    table.write_text("\n".join(lines) + "\n")
    command = f"roofline calibrate --from-table {table}"

    assert roofline(f"{command} --weights q4_0").status == 0
    assert roofline(command).status == 2


@pytest.mark.parametrize("name", [None, "this_machine", "this-machine"])
def test_a_machine_in_no_catalogue_has_one_name(name: str | None) -> None:
    assert machine_name(name, _MACHINE) == THIS_MACHINE


@pytest.mark.parametrize(
    ("missing", "arguments", "told"),
    [
        ("scipy", "calibrate --from-table", "wants scipy: pip install 'roofline-tool[calibrate]'"),
        ("pandas", "validate", "wants pandas: pip install 'roofline-tool[validate]'"),
    ],
)
def test_a_missing_package_is_told_with_its_extra(
    roofline: Callable[[str], Any],
    table: Path,
    monkeypatch: pytest.MonkeyPatch,
    missing: str,
    arguments: str,
    told: str,
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    outcome = roofline(f"roofline {arguments} {table}")

    assert (outcome.status, outcome.out) == (2, "")
    assert told in outcome.err
