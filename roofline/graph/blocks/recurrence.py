"""What blocks with a recurrent state share: causal convolution, state update, and what is kept."""

from collections.abc import Iterator, Mapping

from roofline.graph.formats import format_named
from roofline.graph.matrix_product import output_projection
from roofline.graph.operator import Operator, Terms, pointwise
from roofline.graph.step import Step
from roofline.graph.weight import Weight
from roofline.quantity import Quantity, total, where

__all__ = ["convolve", "delta_rule", "recur", "resident_state"]


def convolve(
    terms: Terms,
    step: Step,
    *,
    weight: Weight,
    channels: Quantity,
    kernel: Quantity,
    activation_flops: float = 4.0,
) -> Operator:
    """Return a causal depthwise convolution and its activation, its last inputs kept per sequence.

    Parameters
    ----------
    channels : Quantity
        Channels on this rank.
    kernel : Quantity
        Taps; the newest ``kernel - 1`` inputs of each channel are the state.
    activation_flops : float
        Operations of the activation on each output, about 4 for SiLU; 0 for none [FLOP].

    Notes
    -----
    ``2 kernel`` FLOPs a channel and token, and those of the activation.
    """
    hidden = format_named(terms.precision.hidden)
    kept = hidden.stored_bytes((kernel - 1.0) * channels)
    elements = step.tokens * channels
    vectors = terms.precision.of_vectors()
    return Operator(
        name="convolution",
        kind="elementwise",
        flops=(2.0 * kernel + activation_flops) * elements,
        read={
            "activation": hidden.stored_bytes(elements),
            "weight": weight.local(terms.parallelism).stored_bytes(vectors, vectors),
            "state": kept * _continued(step),
        },
        written={"activation": hidden.stored_bytes(elements), "state": kept * step.count},
        shape={"rows": step.tokens, "columns": channels},
        format=hidden.name,
        kernels=where(step.tokens > 0, 1.0, 0.0),
        layer=terms.layer,
        block=terms.block,
    )


def recur(
    terms: Terms,
    name: str,
    step: Step,
    *,
    state_elements: Quantity,
    flops_per_token: Quantity,
    inputs: Quantity,
    outputs: Quantity,
    heads: Quantity,
    weights: tuple[Weight, ...] = (),
) -> Operator:
    """Return the update of a recurrent state by every new token, and its output.

    Parameters
    ----------
    state_elements : Quantity
        Elements of the state of one sequence on this rank.
    flops_per_token : Quantity
        Operations of the recurrence for one token on this rank [FLOP].
    inputs, outputs : Quantity
        Activation elements read and written per token.
    heads : Quantity
        Independent heads or channels on this rank.
    weights : tuple of Weight
        Vectors read, such as decay rates.

    Notes
    -----
    The count is that of the recurrence, so a prefill of n tokens has the FLOPs of n decodes. Kernels
    that work in chunks of C tokens trade it for matrix products and do more: that belongs to
    their fit. The state is read once per sequence that has one and written once per sequence.
    docs/formulas.md section 6.
    """
    hidden, state = format_named(terms.precision.hidden), format_named(terms.precision.state)
    size = state.stored_bytes(state_elements)
    stored = terms.precision.of_vectors()
    vectors = total(weight.local(terms.parallelism).stored_bytes(stored, stored) for weight in weights)
    return Operator(
        name=name,
        kind="recurrence",
        flops=flops_per_token * step.tokens,
        read={
            "activation": hidden.stored_bytes(step.tokens * inputs),
            "state": size * _continued(step),
            "weight": vectors,
        },
        written={"activation": hidden.stored_bytes(step.tokens * outputs), "state": size * step.count},
        shape={
            "sequences": step.count,
            "new_tokens": step.tokens / where(step.count > 0, step.count, 1.0),
            "heads": heads,
            "state_elements": state_elements,
        },
        format=state.name,
        compute_format=hidden.operand,
        kernels=where(step.tokens > 0, 1.0, 0.0),
        layer=terms.layer,
        block=terms.block,
    )


def resident_state(
    terms: Terms, step: Step, *, state_elements: Quantity, convolution_elements: Quantity = 0.0
) -> Mapping[str, Quantity]:
    """Return the states of all sequences on one rank, whatever their length [B]."""
    hidden, state = format_named(terms.precision.hidden), format_named(terms.precision.state)
    return {
        "state": step.count * (state.stored_bytes(state_elements) + hidden.stored_bytes(convolution_elements))
    }


def _continued(step: Step) -> Quantity:
    """Sequences that bring a state: those with cached tokens."""
    return total(where(part.past_tokens > 0, part.count, 0.0) for part in step.sequences)


def delta_rule(
    terms: Terms,
    step: Step,
    *,
    key_heads: Quantity,
    key_head_dim: Quantity,
    value_heads: Quantity,
    value_head_dim: Quantity,
    inputs: Quantity,
    vectors: tuple[Weight, ...],
    norm: Weight,
    output: Weight,
) -> Iterator[Operator]:
    """Yield what follows the convolution of a gated delta rule, up to the all-reduce of its output.

    Parameters
    ----------
    key_heads, key_head_dim, value_heads, value_head_dim : Quantity
        Heads on this rank and their widths; each value head has a state of
        ``key_head_dim x value_head_dim``.
    inputs : Quantity
        Elements a token brings to the recurrence.
    vectors : tuple of Weight
        Parameters of the decay that the recurrence reads.
    norm, output : Weight
        Norm over each value head, with a gate, and the output projection.

    Notes
    -----
    Per state element 1 operation to decay, 2 to recall, 2 to write, 2 to read, and 2 per value element
    for the correction (Yang et al. 2024, arXiv:2412.06464).
    """
    value = value_heads * value_head_dim
    state = value * key_head_dim
    # Queries and keys are scaled to unit length; a square, a sum, a scale (3 an element).
    yield pointwise(
        terms, "query_key_norm", kind="norm", rows=step.tokens * 2.0 * key_heads, columns=key_head_dim,
        reads=1.0, writes=1.0, flops_per_element=3.0,
    )  # fmt: skip
    yield recur(
        terms,
        "delta_rule",
        step,
        state_elements=state,
        flops_per_token=7.0 * state + 2.0 * value,
        inputs=inputs,
        outputs=value,
        heads=value_heads,
        weights=vectors,
    )
    yield pointwise(
        terms, "gated_norm", kind="norm", rows=step.tokens * value_heads, columns=value_head_dim,
        reads=2.0, writes=1.0, flops_per_element=9.0, weights=(norm,),
    )  # fmt: skip
    yield from output_projection(terms, output, step.tokens, all_reduce="attention_all_reduce")
