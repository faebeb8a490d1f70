from pathlib import Path

import numpy as np
import pytest

from roofline.calibration.microbenchmarks.link_speed import (
    Copies,
    LinkFit,
    cuda_copies,
    fit_host_link,
    fit_line,
    host_link_file,
    link_tasks,
)
from roofline.catalog.hardware import load_link, load_system
from roofline.errors import InvalidSpecError

pytest.importorskip("scipy")

_RATES = {"pinned": 50e9, "pageable": 10e9}


def _copies(direction: str, memory: str, size_bytes: int) -> list[float]:
    latency_s = 5e-6 if direction == "host_to_device" else 8e-6
    return [latency_s + size_bytes / _RATES[memory]] * 3


def test_a_line_gives_back_its_latency_and_bandwidth() -> None:
    sizes = [4096.0, 1e5, 1e6, 1e8]
    latency_s, rate, error = fit_line(sizes, [5e-6 + size / 50e9 for size in sizes])

    np.testing.assert_allclose([latency_s, rate], [5e-6, 50e9], rtol=1e-6)
    assert error < 1e-6


@pytest.mark.parametrize(
    ("sizes", "times", "reason"),
    [
        ([1e3, 1e3, 1e6, 1e6], [1e-6] * 4, "2 sizes were copied"),
        ([1e3, 1e4, 1e5, 1e6], [1e-3, 1e-4, 1e-5, 1e-6], "no longer the larger"),
    ],
)
def test_copies_that_show_no_bandwidth_are_refused(
    sizes: list[float], times: list[float], reason: str
) -> None:
    with pytest.raises(InvalidSpecError, match=reason):
        fit_line(sizes, times)


def _measured(path: Path, copies: Copies) -> tuple[LinkFit, ...]:
    for task in link_tasks(path, copies, software="pytorch 9.9"):
        task.run()
    return fit_host_link(path, software="pytorch 9.9")


def test_the_link_of_a_campaign_is_a_file_of_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = _measured(tmp_path / "host_link.csv", _copies)
    links = tmp_path / "hardware" / "links"
    links.mkdir(parents=True)
    (links / "box_host_link.toml").write_text(host_link_file(fits, device="box"))
    monkeypatch.setenv("ROOFLINE_CATALOG", str(tmp_path))
    link = load_link("box_host_link").value

    # An RTX 4090 whose link was measured takes that one in place of its file's.
    (links / "nvidia_rtx_4090_host_link.toml").write_text(host_link_file(fits, device="nvidia_rtx_4090"))
    used = load_system("rtx-4090").value.host_link

    assert used is not None
    np.testing.assert_allclose(used.bandwidth_bytes_per_s, 50e9, rtol=1e-4)
    assert len(fits) == 4
    np.testing.assert_allclose(link.bandwidth_bytes_per_s, 50e9, rtol=1e-4)
    np.testing.assert_allclose(link.latency_s, 5e-6, rtol=1e-3)


def test_a_campaign_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "host_link.csv"
    stopped_after = 5
    asked: list[tuple[str, str, int]] = []

    def interrupted(direction: str, memory: str, size_bytes: int) -> list[float]:
        if len(asked) == stopped_after:
            raise KeyboardInterrupt
        asked.append((direction, memory, size_bytes))
        return _copies(direction, memory, size_bytes)

    with pytest.raises(KeyboardInterrupt):
        _measured(path, interrupted)
    stopped_after = -1
    fits = _measured(path, interrupted)

    assert sum(fit.points for fit in fits) == len(asked) == len(set(asked)) == 36


def test_copies_are_timed_on_a_cuda_device() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")

    assert min(cuda_copies(torch)("device_to_host", "pinned", 4096)) > 0
