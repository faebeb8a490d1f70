"""Serving software on cards of a maker none of whose rows were measured: another maker's fits."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from roofline.calibration.fits.fitting import rounded
from roofline.timing.runtime import KernelFit, Runtime

__all__ = ["lent_to_other_makers"]


@dataclass(frozen=True, kw_only=True)
class _Lender:
    """The shelf that lends, and how much of a peak the borrower's products reach over the lender's."""

    shelf: str
    compute: float
    source: str


#: What the ROCm builds of these run are ports of the same kernels.
_SOFTWARE: Final = ("vllm", "sglang")
_LENT: Final = {
    "amd_hbm_professional_any_2023": _Lender(
        shelf="nvidia_hbm_professional_hopper_2022",
        compute=0.75,
        source="products scaled by 0.75: the largest bf16 products reach 51, 60 and 68 % of the peak on "
        "MI300X, MI325X and MI355X, 80 % on H100 (stas00/ml-engineering, maximum achievable matmul FLOPS)",
    )
}
#: Logarithms that hold 80 % of measured over predicted time of 2,584 kernels of vLLM over 100 us on an Arc
#: Pro B60, by the fits of NVIDIA's GDDR cards (docs/decisions/0006-matrix-products-by-dispatch.md).
_BAND: Final = (-0.53, 0.96)


def lent_to_other_makers(profiles: Mapping[str, Runtime]) -> dict[str, Runtime]:
    """Return shelves for cards of makers without rows, from the shelves of another maker's cards.

    Parameters
    ----------
    profiles : mapping of str to Runtime
        By path below the fits folder.
    """
    found: dict[str, Runtime] = {}
    for shelf, lender in _LENT.items():
        for software in _SOFTWARE:
            lent = profiles.get(f"transferred/{lender.shelf}/{software}")
            if lent is not None:
                kernels = tuple(_carried(fit, lender) for fit in lent.kernels)
                found[f"transferred/{shelf}/{software}"] = replace(lent, device=shelf, kernels=kernels)
    return found


def _carried(fit: KernelFit, lender: _Lender) -> KernelFit:
    parameters = dict(fit.parameters)
    if "compute_fraction" in parameters:
        parameters["compute_fraction"] = rounded(parameters["compute_fraction"] * lender.compute)
    low, high = _BAND
    return replace(
        fit,
        parameters=parameters,
        low=rounded(min(fit.low, low)),
        high=rounded(max(fit.high, high)),
        basis="transferred",
        source=f"{fit.source}; {lender.source}",
    )
