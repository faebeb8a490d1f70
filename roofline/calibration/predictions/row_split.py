"""llama.cpp's split of matrices by rows: every product is handed out and gathered by the main GPU."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from roofline.errors import InvalidSpecError
from roofline.graph.model import ModelSpec
from roofline.quantity import Quantity
from roofline.report import Interval

__all__ = ["RowSplit"]

#: Time of one product beside its rows: copies, events and launches on the host, for the call and for each
#: GPU; and what all copies together reach. From GPU-Benchmarks-on-LLM-Inference (RTX 4090, RTX 4000 Ada,
#: RTX A6000; 2 to 6 GPUs) and MLC's llm-perf-bench (A100, A10G; 2 to 8 GPUs), docs/serving.md.
_PRODUCT_S: Final = 22e-6
_PRODUCT_PER_GPU_S: Final = 15e-6
_COPIED_BYTES_PER_S: Final = 11e9
#: Size of the 10 % and 90 % quantiles of the logarithm of measured over predicted time with a device
#: left out: of passes over one token, and of those that copy much, which is each computer's own.
_SPREAD_CALLS, _SPREAD_COPIES = 0.2, 0.9
_FLOAT_BYTES: Final = 4.0


@dataclass(frozen=True, kw_only=True)
class RowSplit:
    """A model whose matrices lie on several GPUs by rows, all else on the first.

    Parameters
    ----------
    gpus : float
        How many.
    products, inputs, outputs : float
        Matrix products of one pass, and the elements per token they take and give.

    Notes
    -----
    ``t = t_1 / n + products (a + b n) + tokens bytes ((n - 1) inputs + (n - 1) / n outputs) / rate``:
    each GPU reads its rows; inputs go to every other GPU and outputs come back as 32-bit floats
    (``ggml_cuda_op_mul_mat``). Attention, on the first GPU alone, is counted as divided too: less than
    a tenth of a pass up to some 1,000 cached tokens.
    """

    gpus: float
    products: float
    inputs: float
    outputs: float

    @classmethod
    def of(cls, model: ModelSpec, gpus: float) -> "RowSplit":
        """Return how a model is split.

        Raises
        ------
        InvalidSpecError
            If it has experts, of which each pass takes others.
        """
        products = inputs = outputs = 0.0
        for _, _, weight, repeat in model.weights():
            if weight.tensor == "expert_weight":
                raise InvalidSpecError(f"row split is not described for {model.name}, which has experts")
            if weight.tensor == "weight":
                products += float(repeat)
                inputs += float(repeat * weight.inputs)
                outputs += float(repeat * weight.outputs)
        return cls(gpus=gpus, products=products, inputs=inputs, outputs=outputs)

    def added_s(self, tokens: Quantity) -> Quantity:
        """Return what handing out and gathering takes in a pass over some tokens [s]."""
        others = self.gpus - 1.0
        elements = tokens * (others * self.inputs + others / self.gpus * self.outputs)
        calls_s = self.products * (_PRODUCT_S + self.gpus * _PRODUCT_PER_GPU_S)
        return calls_s + elements * _FLOAT_BYTES / _COPIED_BYTES_PER_S

    def split(self, alone: Interval, tokens: Quantity) -> Interval:
        """Return the pass over all GPUs, from that of one that had room for everything [s]."""
        added_s = self.added_s(tokens)
        value = alone.value / self.gpus + added_s
        low, high = (np.log((end / self.gpus + added_s) / value) for end in (alone.low, alone.high))
        spread = np.where(tokens > 1.0, _SPREAD_COPIES, _SPREAD_CALLS)
        return replace(
            alone,
            value=value,
            low=value * np.exp(-np.hypot(low, spread)),
            high=value * np.exp(np.hypot(high, spread)),
        )
