import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from roofline.calibration.microbenchmarks.storage_speed import (
    StorageSpeed,
    fit_storage,
    storage_speeds,
    storage_tasks,
)
from roofline.errors import InvalidSpecError

pytest.importorskip("scipy")

_BLOCKS = (4096, 65536, 1048576)


def _speeds(bandwidth: float = 3e9, latency_s: float = 100e-6, depth: float = 8.0) -> list[StorageSpeed]:
    """Rates of storage that serves 8 requests at once."""
    rates = [StorageSpeed(order="write", block_bytes=2**20, queue_depth=1, bytes_per_s=1e9, method="fsync")]
    for block in _BLOCKS:
        for queue in (1, 4, 8, 16):
            alone = block / (latency_s + block / bandwidth)
            rate = min(bandwidth, min(queue, depth) * alone)
            rates += [
                StorageSpeed(
                    order=order, block_bytes=block, queue_depth=queue, bytes_per_s=rate, method="fio"
                )
                for order in ("random", "sequential")
            ]
    return rates


def test_bandwidth_request_time_and_depth_come_back() -> None:
    found = fit_storage(_speeds(), name="x", capacity_bytes=1e12)

    np.testing.assert_allclose(float(found.storage.read_bandwidth_bytes_per_s), 3e9, rtol=1e-3)
    np.testing.assert_allclose(float(found.storage.read_latency_s), 100e-6, rtol=1e-3)
    assert found.storage.queue_depth == 8.0
    assert found.error < 1e-3


@pytest.mark.parametrize("kept", ["write", "random"])
def test_a_curve_is_not_made_of_half_the_measurements(kept: str) -> None:
    with pytest.raises(InvalidSpecError, match="give it more minutes"):
        fit_storage([one for one in _speeds() if one.order == kept], name="x", capacity_bytes=1e12)


def _measured(folder: Path, table: Path) -> list[str]:
    labels = []
    with storage_tasks(folder, table, size_bytes=2**21, seconds=0.005) as tasks:
        for task in tasks:
            task.run()
            labels.append(task.label)
    return labels


def test_every_point_is_read_once_and_the_scratch_file_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, "O_DIRECT"):
        pytest.skip("this system has no O_DIRECT")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    table = tmp_path / "storage.csv"
    try:
        first = _measured(tmp_path, table)
    except InvalidSpecError as error:
        pytest.skip(str(error))
    found = storage_speeds(table, tmp_path)

    assert len(first) == 31
    assert len({(one.order, one.block_bytes, one.queue_depth) for one in found}) == 31
    assert min(one.bytes_per_s for one in found) > 0
    assert [path.name for path in tmp_path.iterdir()] == ["storage.csv"]
    assert _measured(tmp_path, table) == []


def test_fio_is_asked_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in prints what fio does, warnings first."""
    fio = tmp_path / "bin" / "fio"
    fio.parent.mkdir()
    fio.write_text(
        '#!/bin/sh\necho "note: both iodepth >= 1"\necho \'{"jobs": [{"read": {"bw_bytes": 7e8}}]}\'\n'
    )
    fio.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fio.parent}{os.pathsep}{os.environ['PATH']}")
    table = tmp_path / "storage.csv"
    _measured(tmp_path, table)
    reads = [one for one in storage_speeds(table, tmp_path) if one.order != "write"]

    assert {(one.method, one.bytes_per_s) for one in reads} == {("fio", 7e8)}


def test_a_fio_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fio = tmp_path / "bin" / "fio"
    fio.parent.mkdir()
    fio.write_text("#!/bin/sh\necho 'fio: engine libaio not loadable' >&2\nexit 1\n")
    fio.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fio.parent}{os.pathsep}{os.environ['PATH']}")

    with pytest.raises(InvalidSpecError, match="fio failed: fio: engine libaio not loadable"):
        _measured(tmp_path, tmp_path / "storage.csv")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(InvalidSpecError, match="cannot be measured"),
        storage_tasks(tmp_path / "none", tmp_path / "storage.csv"),
    ):
        pass
