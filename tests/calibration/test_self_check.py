from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roofline.calibration.fits.profile_files import profile_text
from roofline.calibration.microbenchmarks.campaign import Campaign, Point, Probe
from roofline.calibration.microbenchmarks.host_speed import HOST_TABLE, fit_host_line, host_tasks, host_times
from roofline.calibration.microbenchmarks.machine import Machine
from roofline.calibration.microbenchmarks.small_decoder import DECODER, predicted_report
from roofline.calibration.self_check import self_check
from roofline.catalog.fits import load_runtime
from roofline.errors import InvalidSpecError

pytest.importorskip("torch")
pytest.importorskip("scipy")

_MACHINE = Machine(
    kind="cpu", title="x", device=None, cores=1, cache_bytes=0.0, memory_bytes=2**30, software="pytorch 9.9",
)  # fmt: skip


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an RTX 4090 a profile of this software, that of vLLM under another name."""
    runtime = replace(load_runtime("rtx-4090", "vllm"), software="pytorch 9.9")
    path = tmp_path / "fits" / "nvidia_rtx_4090" / "pytorch.toml"
    path.parent.mkdir(parents=True)
    path.write_text(profile_text(runtime))
    monkeypatch.setenv("ROOFLINE_CATALOG", str(tmp_path))
    return tmp_path


class _Slower:
    """A decoder that takes 1.25 times what is predicted."""

    def __init__(self, machine: Machine, config: Mapping[str, Any]) -> None:
        self.config = config

    def prefill_times(self, batch: int, prompt: int) -> list[float]:
        workload = {"batch": batch, "prompt": prompt, "output": 1}
        report = predicted_report(self.config, "nvidia_rtx_4090", "pytorch", **workload)
        return [1.25 * float(report.ttft_s.value)] * 5

    def decode_times(self, batch: int, context: int) -> list[float]:
        report = predicted_report(self.config, "nvidia_rtx_4090", "pytorch", batch=batch, context=context)
        return [1.25 * float(report.tpot_s.value)] * 5


def test_errors_are_signed_and_of_points_that_were_not_calibrated(
    profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roofline.calibration.self_check.SmallDecoder", _Slower)
    result = self_check(_MACHINE, "nvidia_rtx_4090")

    assert [check.phase for check in result.checks] == ["prefill"] * 3 + ["decode"] * 3
    np.testing.assert_allclose([check.error for check in result.checks], 1 / 1.25 - 1, rtol=1e-9)
    assert {check.slowed for check in result.checks} == {1.0}


def test_a_machine_slower_than_when_it_was_calibrated_is_told_and_tried_again(
    profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = "nvidia_rtx_4090"
    campaign = Campaign(folder=profile / "campaigns" / device, device=device)
    campaign.start(_MACHINE)
    point = Point(op="norm", dtype="bf16", shape={"m": 1, "n": 8})
    campaign.append(point, kernel="x", times_s=[1e-6], probe=Probe(product_s=1e-9, read_s=1e-9))
    monkeypatch.setattr("roofline.calibration.self_check.SmallDecoder", _Slower)
    result = self_check(_MACHINE, device)

    assert min(check.slowed for check in result.checks) > 1.3


def test_without_a_profile_the_way_to_one_is_told() -> None:
    with pytest.raises(InvalidSpecError, match="run roofline calibrate first"):
        self_check(_MACHINE, "nvidia_rtx_4090", software="nonsense")


def test_host_time_is_a_line_over_layers_that_never_falls() -> None:
    np.testing.assert_allclose(fit_host_line((2, 6, 12), (1.2e-3, 1.6e-3, 2.2e-3)), (1e-3, 1e-4), rtol=1e-9)
    assert fit_host_line((2, 6, 12), (3e-3, 2e-3, 1e-3))[1] == 0.0
    with pytest.raises(InvalidSpecError, match="want at least two depths"):
        fit_host_line((2, 2), (1e-3, 1e-3))


def test_host_times_are_kept_and_those_of_a_processor_hold_no_kernels(profile: Path) -> None:
    """1 ms a pass and 0.1 ms a layer beside what the profile says of the kernels."""
    table = profile / HOST_TABLE

    def decode(layers: int) -> list[float]:
        config = {**DECODER, "hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 2,
                  "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 256,
                  "num_hidden_layers": layers}  # fmt: skip
        report = predicted_report(config, "nvidia_rtx_4090", "pytorch", context=32)
        kernels_s = float(report.decode.time_s.value) - float(report.decode.host_s)
        return [kernels_s + 1e-3 + 1e-4 * layers] * 5

    for task in host_tasks(_MACHINE, table, decode):
        task.run()
    found = host_times(table, _MACHINE, "nvidia_rtx_4090", "pytorch")

    assert host_tasks(_MACHINE, table, decode) == []
    np.testing.assert_allclose((found["per_pass_s"], found["per_layer_s"]), (1e-3, 1e-4), rtol=1e-3)


def test_a_decoder_of_transformers_runs() -> None:
    pytest.importorskip("transformers")
    from roofline.calibration.microbenchmarks.small_decoder import SmallDecoder

    config = {**DECODER, "hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2,
              "num_key_value_heads": 1, "head_dim": 16, "vocab_size": 64, "num_hidden_layers": 1}  # fmt: skip
    decoder = SmallDecoder(_MACHINE, config)

    assert min(decoder.prefill_times(1, 4)) > 0.0
    assert min(decoder.decode_times(2, 4)) > 0.0
