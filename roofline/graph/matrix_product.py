"""Products with weights: `linear` is every one of them, batched and grouped ones too."""

from collections.abc import Mapping
from dataclasses import replace

from roofline.graph.formats import Format, format_named, wider
from roofline.graph.operator import Operator, Terms, collective
from roofline.graph.weight import Weight
from roofline.quantity import Quantity, total, where

__all__ = ["linear", "output_projection", "project"]


def linear(
    terms: Terms,
    name: str,
    weights: tuple[Weight, ...],
    tokens: Quantity,
    *,
    touched: Quantity = 1.0,
    kind: str = "gemm",
    chained: bool = False,
    shape: Mapping[str, Quantity] | None = None,
    stored_as: tuple[Weight, ...] = (),
) -> tuple[Operator, ...]:
    """Return the product of `tokens` rows with weights that run as one kernel.

    Parameters
    ----------
    weights : tuple of Weight
        Whole weights; this takes the rank's part. Side by side they share their input rows;
        chained ones each read and write rows of their own.
    tokens : Quantity
        Rows multiplied *with each group's share*: for experts, rows over all groups of this rank.
    touched : Quantity
        Share of the groups whose weights are read, 0..1.
    shape : mapping, optional
        Keys beyond m, n, k for fits of this kind.
    stored_as : tuple of Weight
        The declared weights behind `weights` where those are transposed or grouped views of them.

    Notes
    -----
    FLOPs ``2 tokens inputs outputs``; bytes: stored weights x `touched`, inputs, outputs. Derived in
    docs/formulas.md section 2. An activation quantised on the way in is charged by the fit.
    """
    stored: list[Quantity] = []
    flops: list[Quantity] = []
    inputs_bytes: list[Quantity] = []
    outputs_bytes: list[Quantity] = []
    hidden = format_named(terms.precision.hidden)
    own = terms.precision.of_weight(terms.layer, terms.block, weights[0])
    fed = terms.precision.of_inputs(own)
    parts = [weight.local(terms.parallelism) for weight in weights]
    passes = own.nonzero_share * (own.planes * fed.planes or 1)
    for part in parts:
        flops.append(2.0 * tokens * part.inputs * part.outputs * passes)
        if chained or not inputs_bytes:
            inputs_bytes.append(fed.stored_bytes(tokens * part.inputs))
        outputs_bytes.append(hidden.stored_bytes(tokens * part.outputs))
    for weight in stored_as or parts:
        kept = terms.precision.of_weight(terms.layer, terms.block, weight)
        held = weight.local(terms.parallelism) if stored_as else weight
        stored.append(held.stored_bytes(kept, terms.precision.of_vectors()))
    groups = parts[0].groups * touched
    tensor = "weight" if weights[0].tensor in ("vector", "embedding") else weights[0].tensor
    main = Operator(
        name=name,
        kind=kind,
        flops=total(flops),
        read={tensor: total(stored) * touched, "activation": total(inputs_bytes)},
        written={"activation": total(outputs_bytes)},
        shape={
            "m": tokens / groups,
            "n": total(part.outputs for part in parts),
            "k": parts[0].inputs,
            "groups": groups,
            "weight_bits": own.bits,
            "activation_bits": fed.bits,
            **(shape or {}),
        },
        format=own.name,
        compute_format=wider(own.operand, fed.operand),
        kernels=where(tokens > 0, 1.0, 0.0),
        layer=terms.layer,
        block=terms.block,
    )
    return _with_outliers(terms, main, own, fed)


def _with_outliers(terms: Terms, main: Operator, own: Format, fed: Format) -> tuple[Operator, ...]:
    """Return a product and the kernels a mixed format needs around it.

    Notes
    -----
    Inputs are read and written in their format; outliers are multiplied in 16 bits and added to the
    output; sums in 32 bits are scaled to 16 (LLM.int8(), arXiv:2208.07339, figure 2). Weights of
    outliers are read with the main product's.
    """
    if not own.outlier_share:
        return (main,)
    hidden, sums = format_named(terms.precision.hidden), format_named("fp32")
    rows = main.shape["m"] * main.shape["groups"]
    columns, outputs = main.shape["k"], main.shape["n"]
    result = hidden.stored_bytes(rows * outputs)
    outliers = replace(
        main,
        name=f"{main.name}_outliers",
        flops=main.flops * own.outlier_share,
        read={"activation": hidden.stored_bytes(rows * columns * own.outlier_share) + result},
        written={"activation": result},
        shape={**main.shape, "k": columns * own.outlier_share},
        format=hidden.name,
        compute_format=hidden.operand,
    )
    if not own.rounds_inputs:
        return (main, outliers)
    whole = hidden.stored_bytes(rows * columns)
    rounding = replace(
        outliers, name=f"{main.name}_round", kind="elementwise", flops=rows * columns, compute_format="",
        read={"activation": whole}, written={"activation": fed.stored_bytes(rows * columns)},
        shape={"rows": rows, "columns": columns},
    )  # fmt: skip
    scaling = replace(
        outliers, name=f"{main.name}_scale", kind="elementwise", flops=rows * outputs, compute_format="",
        read={"activation": sums.stored_bytes(rows * outputs)}, written={"activation": result},
        shape={"rows": rows, "columns": outputs},
    )  # fmt: skip
    return (rounding, main, scaling, outliers)


def project(terms: Terms, name: str, weights: tuple[Weight, ...], tokens: Quantity) -> tuple[Operator, ...]:
    """Return the products of the same rows with several weights.

    Where the policy fuses projections they are one kernel called `name`; otherwise, and where there is
    only one, each goes by its weight's own name.
    """
    if terms.policy.fused_projections and len(weights) > 1:
        return linear(terms, name, weights, tokens)
    return tuple(row for weight in weights for row in linear(terms, weight.name, (weight,), tokens))


def output_projection(
    terms: Terms, weight: Weight, tokens: Quantity, *, all_reduce: str
) -> tuple[Operator, ...]:
    """Return the product with a block's last matrix and the all-reduce, so called, of the ranks' parts."""
    return (
        *linear(terms, "output", (weight,), tokens),
        collective(
            terms, all_reduce, "all_reduce",
            ranks=terms.parallelism.tensor, elements=tokens * terms.hidden_size,
        ),
    )  # fmt: skip
