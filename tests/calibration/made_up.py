"""Measurements that the forms themselves made, at known parameters."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from roofline.calibration.fits.fitted_forms import form_of
from roofline.calibration.fits.fitting import predict
from roofline.calibration.measurements.operator_tables import Measurements
from roofline.timing.forms import Ceilings, Work


def products(
    device: str, parameters: Mapping[str, float], choices: Mapping[str, float], *, rows: int, seed: int
) -> Measurements:
    """Return 16-bit products of drawn shapes on an engine like an H100, two to a shape family."""
    random = np.random.default_rng(seed)
    m = 2.0 ** random.integers(0, 14, rows)
    n, k = (128.0 * random.integers(1, 100, rows) for _ in range(2))
    data = Measurements(
        device=device,
        software="vllm 1.0",
        kind="gemm",
        format="bf16",
        engine="gpu",
        kernel="made up",
        source="this test",
        work=Work(
            flops=2 * m * n * k,
            bytes=2 * (m * k + k * n + m * n),
            shape={"m": m, "n": n, "k": k, "groups": 1.0, "weight_bits": 16.0, "activation_bits": 16.0},
        ),
        ceilings=Ceilings(flops_per_s=1e15, bytes_per_s=3e12, units=132.0, cache_bytes=50e6),
        times_s=np.ones(rows),
        family=np.arange(rows) // 2,
    )
    return replace(data, times_s=predict(form_of("gemm", "bf16", "gpu"), data, parameters, choices))
