"""How long one kernel takes: every latency form, each with its parameters and where it comes from.

A form is a function of the kernel's work, the engine's datasheet ceilings, fitted parameters and
discrete choices. All but the choices broadcast. Times are in seconds.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from roofline.quantity import Quantity, maximum, minimum, where
from roofline.timing.forms.attention import causal_attention, split_attention
from roofline.timing.forms.matrix_product import grouped_matrix_product, tiled_matrix_product
from roofline.timing.forms.streaming import (
    overhead_roofline,
    rowwise_pass,
    two_protocol_collective,
    vector_roofline,
)
from roofline.timing.forms.work import Ceilings, Form, Work

__all__ = ["FORMS", "Ceilings", "Form", "Work", "attention_time", "kernel_time"]

FORMS: Final[dict[str, Form]] = {
    "overhead_roofline": overhead_roofline,
    "tiled_matrix_product": tiled_matrix_product,
    "grouped_matrix_product": grouped_matrix_product,
    "split_attention": split_attention,
    "causal_attention": causal_attention,
    "two_protocol_collective": two_protocol_collective,
    "rowwise_pass": rowwise_pass,
    "vector_roofline": vector_roofline,
}


class _Fitted(Protocol):
    @property
    def form(self) -> str: ...
    @property
    def parameters(self) -> Mapping[str, float]: ...
    @property
    def choices(self) -> Mapping[str, float]: ...


def kernel_time(
    form: str,
    *,
    work: Work,
    ceilings: Ceilings,
    parameters: Mapping[str, Quantity],
    choices: Mapping[str, float],
    warm: bool = False,
) -> Quantity:
    """Return the fitted time of one launch [s].

    Parameters
    ----------
    form : str
        A name in `FORMS`.
    warm : bool
        True only to score a timing loop that reuses its operands, see `Form`.
    """
    return maximum(FORMS[form](work, ceilings, parameters, choices, warm), 0.0)


#: Packed query rows a decode kernel holds where its form does not say.
_DECODE_ROWS: Final = 64.0


def attention_time(
    decode: _Fitted, prefill: _Fitted, *, work: Work, ceilings: Ceilings, warm: bool = False
) -> Quantity:
    """Return the time of attention with the kernel a serving library would choose [s].

    Parameters
    ----------
    decode, prefill : fitted kernels
        Fits of the split-key and of the causal kernel for this device, software and cache format.
    work : Work
        ``shape`` has new_tokens, heads and kv_heads, next to what the two forms read.

    Notes
    -----
    ``new_tokens heads / kv_heads`` query rows share their keys. While they fit in one row tile of the
    decode kernel it runs as for a single token. Beyond that libraries choose by heuristics; the
    faster of both is taken, so verification of a few tokens over long keys stays with split keys
    and a prompt goes to the causal kernel.

    References
    ----------
    Ye et al. 2025, FlashInfer, arXiv:2501.01005, section 3 (query-head packing and tile choice).
    """

    def time(fit: _Fitted) -> Quantity:
        return kernel_time(
            fit.form,
            work=work,
            ceilings=ceilings,
            parameters=fit.parameters,
            choices=fit.choices,
            warm=warm,
        )

    shape = work.shape
    rows = shape["new_tokens"] * shape["heads"] / shape["kv_heads"]
    single = (shape["new_tokens"] <= 1.0) | (rows <= decode.choices.get("rows", _DECODE_ROWS))
    few = time(decode)
    return where(single, few, minimum(few, time(prefill)))
