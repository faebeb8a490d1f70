"""What cards of a maker without rows are lent by another maker's."""

import numpy as np

from roofline import analyze
from roofline.calibration.fits.other_makers import lent_to_other_makers
from roofline.timing.runtime import KernelFit, Runtime

LENDER = "transferred/nvidia_hbm_professional_hopper_2022"
SHELF = "transferred/amd_hbm_professional_any_2023"


def fit(kind: str, **parameters: float) -> KernelFit:
    return KernelFit(
        kind=kind, format="bf16", form="overhead_roofline", parameters=parameters, low=-0.1, high=1.2,
        basis="measured", points=3, source="a table",
    )  # fmt: skip


def test_products_are_scaled_and_bands_reach_as_far_as_makers_differ() -> None:
    lent = Runtime(
        device="h", software="vllm 1", kernels=(fit("gemm", compute_fraction=0.8), fit("norm", t0_s=1e-6))
    )
    found = lent_to_other_makers({f"{LENDER}/vllm": lent, "elsewhere/vllm": lent})
    assert list(found) == [f"{SHELF}/vllm"]
    product, norm = found[f"{SHELF}/vllm"].kernels
    np.testing.assert_allclose(product.parameters["compute_fraction"], 0.6, rtol=1e-9)
    np.testing.assert_allclose(norm.parameters["t0_s"], 1e-6, rtol=1e-9)
    np.testing.assert_allclose((product.low, product.high), (-0.53, 1.2), rtol=1e-9)
    assert {product.basis, norm.basis} == {"transferred"}


def test_a_card_without_rows_serves_with_a_wide_interval() -> None:
    found = analyze("llama-3.1-8b", "mi300x", software="vllm")
    assert found.basis == "transferred"
    assert found.tpot_s.high / found.tpot_s.low > 1.8
    assert float(found.tpot_s.value) > float(np.asarray(found.decode.ideal_s).mean())
