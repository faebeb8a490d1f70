"""The CUDA and MPS paths, run on the processor under a stand-in for torch's device modules."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roofline.calibration.machine_calibration import calibrate_machine
from roofline.calibration.microbenchmarks.campaign import Point, Probe
from roofline.calibration.microbenchmarks.designed_points import designed_points
from roofline.calibration.microbenchmarks.kernel_bench import KernelBench
from roofline.calibration.microbenchmarks.link_speed import cuda_copies
from roofline.calibration.microbenchmarks.machine import Machine, this_machine, wait_for

torch = pytest.importorskip("torch")
pytest.importorskip("pandas")
pytest.importorskip("scipy")

_GPU = Machine(
    kind="cuda", title="NVIDIA GeForce RTX 4090", device="nvidia_rtx_4090", cores=1, cache_bytes=2.0**16,
    memory_bytes=2.0**30, software="pytorch 9.9",
)  # fmt: skip


class _Event:
    """A clock that runs 2 ms from one record to the next."""

    now_ms = 0.0

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        _Event.now_ms += 2.0
        self.at_ms = _Event.now_ms

    def elapsed_time(self, end: "_Event") -> float:
        return end.at_ms - self.at_ms


class _Graph:
    """A graph that counts how often it was replayed."""

    def __init__(self) -> None:
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1


class _Capture:
    def __init__(self, graph: _Graph) -> None:
        self.graph = graph

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


class _Properties:
    name, L2_cache_size, total_memory = "NVIDIA GeForce RTX 4090", 75497472, 25757220864


class _Module:
    """What is used of ``torch.cuda``, and of ``torch.mps``."""

    Event, CUDAGraph = _Event, _Graph

    def __init__(self) -> None:
        self.waits = 0

    def graph(self, graph: _Graph) -> _Capture:
        return _Capture(graph)

    def synchronize(self) -> None:
        self.waits += 1

    def is_available(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def get_device_properties(self, index: int) -> _Properties:
        return _Properties()


class _Torch:
    """Torch whose CUDA and MPS devices are the processor."""

    def __init__(self) -> None:
        self.cuda = _Module()
        self.mps = _Module()
        self.backends = type("Backends", (), {"mps": self.mps})

    def __getattr__(self, name: str) -> Any:
        value = getattr(torch, name)
        if name not in ("randn", "ones", "randint"):
            return value

        def on_processor(*arguments: Any, device: str = "cpu", **keys: Any) -> Any:
            assert device in ("cpu", "cuda", "mps")
            return value(*arguments, **keys)

        return on_processor


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> _Torch:
    """Stand-in for a machine with one device."""
    fake = _Torch()
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    for module in (
        "microbenchmarks.machine",
        "microbenchmarks.small_decoder",
        "machine_calibration",
        "self_check",
    ):
        monkeypatch.setattr(f"roofline.calibration.{module}.import_torch", lambda: fake)
    return fake


def test_the_device_is_found_and_named(device: _Torch) -> None:
    machine = this_machine()

    assert (machine.kind, machine.device) == ("cuda", "nvidia_rtx_4090")
    assert (machine.cache_bytes, machine.memory_bytes) == (75497472.0, 25757220864.0)
    assert this_machine("mps").kind == "mps"


@pytest.mark.parametrize("op", ["gemm", "norm", "elementwise", "copy", "read", "attention_decode"])
def test_kernels_are_timed_by_the_events_of_a_graph(device: _Torch, op: str) -> None:
    shape = {"m": 2, "n": 16, "k": 16}
    if op == "attention_decode":
        shape = {"batch": 1, "heads": 4, "kv_heads": 2, "head_dim": 8, "q_len": 1, "kv_len": 4}
    bench = KernelBench(device, _GPU)
    _, calls = bench.calls(Point(op=op, dtype="bf16", shape=shape))
    times = bench.timed(calls)
    launched = max(1, 16 // len(calls)) * len(calls)

    np.testing.assert_allclose(times, 2e-3 / launched, rtol=1e-9)
    assert device.cuda.waits > 0


def test_formats_a_device_lacks_are_left_out_with_the_reason(
    device: _Torch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: Any, **keys: Any) -> None:
        raise RuntimeError(
            "torch._scaled_mm is only supported on CUDA devices with compute capability >= 9.0"
        )

    bench = KernelBench(device, _GPU)
    assert bench.formats() == (("bf16", "fp8", "fp8_channel"), ())
    monkeypatch.setattr(torch, "_scaled_mm", refused)
    formats, left_out = bench.formats()

    assert formats == ("bf16",)
    assert [text.partition(":")[0] for text in left_out] == ["fp8 products", "fp8_channel products"]
    assert "compute capability" in left_out[0]


@pytest.mark.parametrize("direction", ["host_to_device", "device_to_host"])
@pytest.mark.parametrize("memory", ["pinned", "pageable"])
def test_copies_over_the_link_are_timed_by_events(device: _Torch, direction: str, memory: str) -> None:
    times = cuda_copies(device)(direction, memory, 4096)

    assert len(times) == 9
    np.testing.assert_allclose(times, 2e-3, rtol=1e-9)


def test_launches_are_timed_eagerly_and_in_a_graph(device: _Torch) -> None:
    found = KernelBench(device, _GPU).launch_s()

    assert set(found) == {"eager", "graph"}
    assert min(found.values()) > 0.0


def test_every_engine_is_waited_for_in_its_own_way(device: _Torch) -> None:
    for kind in ("cuda", "mps", "cpu"):
        wait_for(device, kind)

    assert (device.cuda.waits, device.mps.waits) == (1, 1)


def test_the_machine_is_probed_with_waits_around_each_pass(
    device: _Torch, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = (Point(op="gemm", dtype="bf16", shape={"m": 1, "n": 8, "k": 8}), 2**10)
    monkeypatch.setattr(
        "roofline.calibration.microbenchmarks.kernel_bench._PROBES", {True: small, False: small}
    )
    probe = KernelBench(device, replace(_GPU, memory_bytes=2.0**20)).probe()

    assert min(probe.product_s, probe.read_s) > 0.0
    assert device.cuda.waits >= 20


def test_mps_is_timed_by_the_clock(device: _Torch) -> None:
    bench = KernelBench(device, replace(_GPU, kind="mps"))
    _, times = bench.time(Point(op="norm", dtype="bf16", shape={"m": 2, "n": 8}))

    assert min(times) > 0.0
    assert device.mps.waits >= len(times)
    assert set(bench.launch_s()) == {"eager"}


def test_a_whole_calibration_of_a_device_writes_fits_and_its_link(
    device: _Torch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times are made up from the device's own peaks, since the processor behind it has others."""
    monkeypatch.setenv("ROOFLINE_CATALOG", str(tmp_path))
    monkeypatch.setattr("roofline.calibration.microbenchmarks.host_speed.SmallDecoder", _TinyDecoder)
    monkeypatch.setattr(
        "roofline.calibration.microbenchmarks.measure.designed_points",
        lambda machine, formats: designed_points(machine, formats)[::2],
    )
    monkeypatch.setattr(KernelBench, "time", _made_up)
    monkeypatch.setattr(KernelBench, "probe", lambda bench: Probe(product_s=1e-3, read_s=1e-3))
    monkeypatch.setattr(
        "roofline.calibration.machine_calibration.cuda_copies",
        lambda torch: lambda direction, memory, size: [5e-6 + size / 20e9] * 3,
    )
    labels: list[str] = []
    made = calibrate_machine(
        _GPU, tmp_path, seconds=120.0, told=lambda done, total, what: labels.append(what)
    )
    from roofline.catalog.fits import load_runtime
    from roofline.catalog.hardware import load_system

    link = load_system("rtx-4090").value.host_link
    host = load_runtime("rtx-4090", "pytorch").host
    assert link is not None
    np.testing.assert_allclose(link.bandwidth_bytes_per_s, 20e9, rtol=1e-3)
    assert {(fit.kind, fit.format) for fit in made.fits} >= {
        ("gemm", "bf16"), ("gemm", "fp8"), ("attention_decode", "bf16"), ("attention_prefill", "bf16"),
        ("norm", "*"), ("elementwise", "*"),
    }  # fmt: skip
    # 1 ms per pass and 0.1 ms per layer, beside the device.
    np.testing.assert_allclose((host.per_pass_s, host.per_layer_s), (1e-3, 1e-4), rtol=1e-3)
    assert host.composition["decode"] == "max"
    assert any(label.startswith("host link") for label in labels)
    assert [text for text in made.left_out if text.startswith("collectives")]


class _TinyDecoder:
    def __init__(self, machine: Machine, config: Any) -> None:
        self.layers = config["num_hidden_layers"]

    def decode_times(self, batch: int, context: int) -> list[float]:
        return [1e-3 + 1e-4 * self.layers] * 5


def _made_up(bench: KernelBench, point: Point) -> tuple[str, list[float]]:
    """Return 3 us beside 0.7 of an RTX 4090's 1008 GB/s and 165 TFLOP/s."""
    shape = point.shape
    if point.op == "gemm":
        m, n, k = (shape[name] for name in ("m", "n", "k"))
        width = 2 if point.dtype == "bf16" else 1
        flops, moved = 2.0 * m * n * k / (3 - width), width * (n * k + m * k) + 2 * m * n
    elif "batch" in shape:
        pairs = shape["q_len"] * (shape["kv_len"] if shape["q_len"] == 1 else shape["kv_len"] / 2)
        flops = 4.0 * shape["batch"] * shape["heads"] * shape["head_dim"] * pairs
        moved = 4 * shape["batch"] * shape["kv_len"] * shape["kv_heads"] * shape["head_dim"]
    else:
        planes = {"norm": 2, "elementwise": 3, "copy": 2, "read": 1}[point.op]
        flops, moved = 0.0, 2 * planes * shape["m"] * shape["n"]
    return "made_up", [3e-6 + max(flops / (0.7 * 165e12), moved / (0.7 * 1008e9))] * 5
