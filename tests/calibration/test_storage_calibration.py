from pathlib import Path

import numpy as np
import pytest

from roofline.api import analyze
from roofline.calibration.microbenchmarks.storage_speed import StorageSpeed
from roofline.calibration.storage_calibration import calibrate_storage
from roofline.catalog.hardware import load_system

pytest.importorskip("scipy")

#: Reads of 1 ms and 1 MB/s, one at a time, and writes.
_READS = [(block, block / (1e-3 + block / 1e6)) for block in (4096, 65536, 1048576)]
_SPEEDS = (
    StorageSpeed(order="write", block_bytes=2**20, queue_depth=1, bytes_per_s=1e9, method="fsync"),
    *(
        StorageSpeed(order="random", block_bytes=block, queue_depth=1, bytes_per_s=rate, method="fio")
        for block, rate in _READS
    ),
)


def test_offloading_to_flash_uses_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model streamed from storage at 1 MB/s takes its bytes over that rate, with its origin cited."""
    table = tmp_path / "campaigns" / "amd_ryzen_9_7950x" / "storage.csv"
    monkeypatch.setattr("roofline.calibration.storage_calibration.storage_tasks", _all_done)
    monkeypatch.setattr(
        "roofline.calibration.storage_calibration.storage_speeds", lambda path, folder: _SPEEDS
    )
    made = calibrate_storage(tmp_path, tmp_path, device="amd_ryzen_9_7950x", seconds=10.0)
    before = analyze("llama-3.1-8b", "ryzen-9-7950x", memory_limit="8 GiB", offload="flash")
    monkeypatch.setenv("ROOFLINE_CATALOG", str(tmp_path))
    system = load_system("ryzen-9-7950x")
    after = analyze("llama-3.1-8b", "ryzen-9-7950x", memory_limit="8 GiB", offload="flash")

    assert made.fit is not None
    assert table in made.written
    assert system.value.storage is not None
    np.testing.assert_allclose(system.value.storage.read_bandwidth_bytes_per_s, 1e6, rtol=1e-3)
    assert any("roofline calibrate --storage" in citation.source.title for citation in system.citations)
    assert float(after.tpot_s.value) > 10 * float(before.tpot_s.value)


class _all_done:  # noqa: N801  (stands in for a function)
    def __init__(self, *arguments: object, **keys: object) -> None: ...

    def __enter__(self) -> list[object]:
        return []

    def __exit__(self, *error: object) -> None: ...
