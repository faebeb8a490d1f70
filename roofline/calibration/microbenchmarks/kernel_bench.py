"""Runs one kernel of torch again and again on this machine, on operands that no cache holds."""

import time
from collections.abc import Callable
from functools import cached_property, partial
from math import prod
from typing import Any, Final

from roofline.calibration.microbenchmarks.campaign import Point, Probe, first_quartile
from roofline.calibration.microbenchmarks.designed_points import MEMORY_SHARE
from roofline.calibration.microbenchmarks.machine import Machine, wait_for

__all__ = ["KernelBench"]

Call = Callable[[], Any]

_FEWEST_REPEATS: Final = 5
_MOST_REPEATS: Final = 60
_SECONDS_PER_POINT: Final = 0.25
#: Copies of the operands that are used in turn fill this many times the last-level cache.
_CACHES: Final = 2.0
#: Scales of 8-bit products: one per tensor, or one per row and column.
_EIGHT_BIT: Final = ("fp8", "fp8_channel")
_MOST_DRAWN: Final = 2**20
#: What probes run: some milliseconds on a processor, on other engines far more than a launch takes.
_PROBES: Final = {
    True: (Point(op="gemm", dtype="fp32", shape={"m": 256, "n": 1024, "k": 1024}), 2**26),
    False: (Point(op="gemm", dtype="bf16", shape={"m": 1024, "n": 4096, "k": 4096}), 2**30),
}
_PROBE_REPEATS: Final = 5
_LAUNCHES: Final = 2000


class KernelBench:
    """Times kernels of torch on one machine."""

    def __init__(self, torch: Any, machine: Machine) -> None:
        self.torch = torch
        self.machine = machine
        self.types = {
            "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32,
            **dict.fromkeys(_EIGHT_BIT, torch.float8_e4m3fn),
        }  # fmt: skip

    def formats(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return formats of products this machine can run, and why others are left out.

        Processors multiply in 8 bits by converting first, so they are not asked.
        """
        if self.machine.kind == "cpu":
            return ("bf16", "fp32"), ()
        found, left_out = ["bf16"], []
        for dtype in _EIGHT_BIT:
            point = Point(op="gemm", dtype=dtype, shape={"m": 16, "n": 64, "k": 64})
            try:
                for call in self.calls(point)[1]:
                    call()
                wait_for(self.torch, self.machine.kind)
            except (RuntimeError, NotImplementedError, AttributeError, TypeError) as error:
                reason = (str(error) or type(error).__name__).strip().splitlines()[0][:120]
                left_out.append(f"{dtype} products: {reason}")
            else:
                found.append(dtype)
        return tuple(found), tuple(left_out)

    def time(self, point: Point) -> tuple[str, list[float]]:
        """Return the kernel's name and its times [s]; those of a captured graph on CUDA."""
        kernel, calls = self.calls(point)
        return kernel, self.timed(calls)

    def timed(self, calls: list[Call]) -> list[float]:
        """Return times of calls that are made in turn [s]."""
        with self.torch.inference_mode():
            for call in calls[:2]:
                call()
            wait_for(self.torch, self.machine.kind)
            return self._in_graph(calls) if self.machine.kind == "cuda" else self._by_clock(calls)

    def calls(self, point: Point) -> tuple[str, list[Call]]:
        """Return the kernel's name and calls of it on operands of their own.

        Raises
        ------
        KeyError
            If there is no such operator or format.
        """
        if point.op == "gemm":
            return self._products(point)
        if point.op in ("copy", "read"):
            return self._streams(point)
        if point.op in ("norm", "elementwise"):
            return self._passes(point)
        return self._attention(point)

    # -------------------------------------------------------------- kernels

    def _new(self, *size: int, dtype: str) -> Any:
        """Return random numbers; many are repeated, since drawing them takes longer than most kernels."""
        total = prod(size)
        drawn = self.torch.randn(min(total, _MOST_DRAWN), device=self.machine.kind).to(self.types[dtype])
        if total > _MOST_DRAWN:
            drawn = drawn.repeat(-(-total // _MOST_DRAWN))[:total]
        return drawn.view(size)

    def _many(self, size_bytes: float, *size: int, dtype: str, most: int = 64) -> list[Any]:
        """Return copies of one operand of `size_bytes` that no cache holds together."""
        first = self._new(*size, dtype=dtype)
        return [first, *(first.clone() for _ in range(self._copies(size_bytes, most) - 1))]

    def _width(self, dtype: str) -> float:
        return float(self.torch.finfo(self.types[dtype]).bits) / 8.0

    def _copies(self, size_bytes: float, most: int) -> int:
        room = min(_CACHES * self.machine.cache_bytes, MEMORY_SHARE * self.machine.memory_bytes)
        return max(1, min(int(room / max(size_bytes, 1.0)) + 1, most))

    def _products(self, point: Point) -> tuple[str, list[Call]]:
        """Return products with weights; those in 8 bits first convert their rows, as the model counts."""
        m, n, k = (point.shape[name] for name in ("m", "n", "k"))
        weights = self._many(n * k * self._width(point.dtype), n, k, dtype=point.dtype)
        if point.dtype not in _EIGHT_BIT:
            rows = self._new(m, k, dtype=point.dtype)
            return "linear", [partial(self.torch.nn.functional.linear, rows, weight) for weight in weights]
        rows = self._new(m, k, dtype="bf16")
        by_channel = point.dtype == "fp8_channel"
        row_scale = self.torch.ones((m, 1) if by_channel else (), device=self.machine.kind)
        column_scale = self.torch.ones((1, n) if by_channel else (), device=self.machine.kind)

        def product(weight: Any) -> Any:
            return self.torch._scaled_mm(
                rows.to(weight.dtype), weight.t(), row_scale, column_scale, out_dtype=self.torch.bfloat16
            )

        return "scaled_mm", [partial(product, weight) for weight in weights]

    def _passes(self, point: Point) -> tuple[str, list[Call]]:
        size = (point.shape["m"], point.shape["n"])
        inputs = self._many(size[0] * size[1] * self._width(point.dtype), *size, dtype=point.dtype)
        if point.op == "elementwise":
            other = self._new(*size, dtype=point.dtype)
            return "add", [partial(self.torch.add, part, other) for part in inputs]
        scale = self._new(size[1], dtype=point.dtype)
        rms_norm = self.torch.nn.functional.rms_norm
        return "rms_norm", [partial(rms_norm, part, (size[1],), scale) for part in inputs]

    def _streams(self, point: Point) -> tuple[str, list[Call]]:
        """Return copies or sums; sums are of 32-bit words, which no processor converts first."""
        size = (point.shape["m"], point.shape["n"])
        size_bytes = size[0] * size[1] * self._width(point.dtype)
        inputs = self._many(size_bytes, *size, dtype=point.dtype, most=1024)
        if point.op == "read":
            return "sum", [partial(self.torch.sum, part.view(self.torch.float32)) for part in inputs]
        return "copy", [partial(part.clone().copy_, part) for part in inputs]

    def _attention(self, point: Point) -> tuple[str, list[Call]]:
        shape = point.shape
        batch, keys, features = shape["batch"], shape["kv_len"], shape["head_dim"]
        queries = self._new(batch, shape["heads"], shape["q_len"], features, dtype=point.dtype)
        size = (batch, shape["kv_heads"], keys, features)
        both = 2.0 * batch * shape["kv_heads"] * keys * features * self._width(point.dtype)
        keys_of = self._many(both, *size, dtype=point.dtype)
        attend = partial(
            self.torch.nn.functional.scaled_dot_product_attention,
            queries,
            is_causal=shape["q_len"] > 1,
            enable_gqa=shape["heads"] != shape["kv_heads"],
        )
        return "scaled_dot_product_attention", [partial(attend, key, key.clone()) for key in keys_of]

    # -------------------------------------------------------------- clocks

    def _by_clock(self, calls: list[Call]) -> list[float]:
        times: list[float] = []
        began = time.perf_counter()
        for turn in range(_MOST_REPEATS):
            start = time.perf_counter()
            calls[turn % len(calls)]()
            wait_for(self.torch, self.machine.kind)
            times.append(time.perf_counter() - start)
            spent = time.perf_counter() - began
            if len(times) >= _FEWEST_REPEATS and spent > _SECONDS_PER_POINT:
                break
        return times

    def _in_graph(self, calls: list[Call]) -> list[float]:
        """Return times of a captured graph of all calls, so that no launch is timed."""
        cuda = self.torch.cuda
        graph = cuda.CUDAGraph()
        rounds = max(1, 16 // len(calls))
        with cuda.graph(graph):
            for _ in range(rounds):
                for call in calls:
                    call()
        times: list[float] = []
        for _ in range(_FEWEST_REPEATS + 1):
            start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
            start.record()
            graph.replay()
            end.record()
            cuda.synchronize()
            times.append(start.elapsed_time(end) * 1e-3 / (rounds * len(calls)))
        return times[1:]

    @cached_property
    def _probe_calls(self) -> tuple[list[Call], list[Call]]:
        product, read_bytes = _PROBES[self.machine.kind == "cpu"]
        part = self._new(min(read_bytes, int(MEMORY_SHARE * self.machine.memory_bytes)) // 4, dtype="fp32")
        return self.calls(product)[1][:1], [partial(self.torch.sum, part)]

    def probe(self) -> Probe:
        """Return the times of one fixed product and of one fixed read, each the quickest of five."""
        quickest = []
        with self.torch.inference_mode():
            for call in (self._probe_calls[0][0], self._probe_calls[1][0]):
                times = []
                for _ in range(_PROBE_REPEATS):
                    wait_for(self.torch, self.machine.kind)
                    start = time.perf_counter()
                    call()
                    wait_for(self.torch, self.machine.kind)
                    times.append(time.perf_counter() - start)
                quickest.append(min(times))
        return Probe(product_s=quickest[0], read_s=quickest[1])

    def launch_s(self) -> dict[str, float]:
        """Return the host's time for one small kernel [s]: launched one by one, and in a CUDA graph."""
        part = self._new(16, dtype="fp32")
        with self.torch.inference_mode():
            wait_for(self.torch, self.machine.kind)
            start = time.perf_counter()
            for _ in range(_LAUNCHES):
                part = part + 1.0
            # Without waiting: what the device still has to do is not the host's.
            found = {"eager": (time.perf_counter() - start) / _LAUNCHES}
            wait_for(self.torch, self.machine.kind)
            if self.machine.kind == "cuda":
                calls: list[Call] = [partial(self.torch.add, part, 1.0)] * 64
                for call in calls[:2]:
                    call()
                found["graph"] = first_quartile(self._in_graph(calls))
        return found
