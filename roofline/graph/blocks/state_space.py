"""State-space mixers: Mamba and Mamba-2."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from roofline.graph.blocks.recurrence import convolve, recur, resident_state
from roofline.graph.matrix_product import linear, output_projection, project
from roofline.graph.operator import Operator, Terms, collective, pointwise
from roofline.graph.step import Step
from roofline.graph.weight import Weight
from roofline.quantity import Quantity, ceil
from roofline.units import Count

__all__ = ["Mamba", "Mamba2"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Mamba:
    """Selective state space with a diagonal state matrix (Mamba, Jamba).

    Parameters
    ----------
    intermediate_size : Quantity
        Inner channels.
    state_size : Quantity
        State elements per channel.
    time_step_rank : Quantity
        Width of the low-rank time-step projection.
    convolution_kernel : Quantity
        Taps of the causal convolution.
    convolution_bias, bias : bool
        Biases of the convolution, and of the input and output projections.
    inner_norms : bool
        Norms with gains on time step, input and output vectors (Jamba).

    Notes
    -----
    Gu & Dao 2023 (arXiv:2312.00752), algorithm 2. Per channel and state element: 2 to discretise the
    decay (product, exponential), 1 for the input, 2 to update, 2 to read; per channel 3 more for the
    scaled input and the skip connection.
    """

    kind: Literal["mamba"] = "mamba"
    intermediate_size: Count
    state_size: Count = 16.0
    time_step_rank: Count
    convolution_kernel: Count = 4.0
    convolution_bias: bool = True
    bias: bool = False
    inner_norms: bool = False

    def weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        """Return projections, convolution, state matrix, skip and inner norms."""
        inner = self.intermediate_size
        inward = tuple(
            Weight(name=name, inputs=hidden_size, outputs=inner, bias=self.bias, split="outputs")
            for name in ("values", "gate")
        )
        norms = (
            Weight.vector("time_step_norm", self.time_step_rank),
            Weight.vector("state_in_norm", self.state_size),
            Weight.vector("state_out_norm", self.state_size),
        )
        return (
            *inward,
            Weight(
                name="convolution", inputs=self.convolution_kernel, outputs=inner,
                bias=self.convolution_bias, split="outputs", tensor="vector",
            ),
            Weight(
                name="selection", inputs=inner, outputs=self.time_step_rank + 2.0 * self.state_size,
                split="inputs",
            ),
            Weight(name="time_step", inputs=self.time_step_rank, outputs=inner, bias=True, split="outputs"),
            Weight(name="log_decay", inputs=self.state_size, outputs=inner, split="outputs", tensor="vector"),
            Weight(name="skip", inputs=1.0, outputs=inner, split="outputs", tensor="vector"),
            Weight(name="output", inputs=inner, outputs=hidden_size, bias=self.bias, split="inputs"),
            *(norms if self.inner_norms else ()),
        )  # fmt: skip

    def operators(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return projections, convolution, scan, gate, output projection and both all-reduces."""
        step = step.share(terms.parallelism.data)
        values, gate, convolution, selection, time_step, decay, skip, output, *norms = self.weights(
            terms.hidden_size
        )
        ranks = terms.parallelism.tensor
        inner, selected = self.intermediate_size / ranks, self.time_step_rank + 2.0 * self.state_size
        yield from project(terms, "values_gate", (values, gate), step.tokens)
        yield convolve(terms, step, weight=convolution, channels=inner, kernel=self.convolution_kernel)
        yield from linear(terms, "selection", (selection,), step.tokens)
        yield collective(
            terms, "selection_all_reduce", "all_reduce", ranks=ranks, elements=step.tokens * selected
        )
        if self.inner_norms:
            yield pointwise(
                terms, "inner_norms", kind="norm", rows=step.tokens, columns=selected,
                reads=1.0, writes=1.0, flops_per_element=4.0, weights=tuple(norms),
            )  # fmt: skip
        yield from linear(terms, "time_step", (time_step,), step.tokens)
        yield recur(
            terms,
            "scan",
            step,
            state_elements=inner * self.state_size,
            flops_per_token=inner * (7.0 * self.state_size + 3.0),
            inputs=2.0 * inner + 2.0 * self.state_size,
            outputs=inner,
            heads=inner,
            weights=(decay, skip),
        )
        yield pointwise(
            terms, "gate_product", rows=step.tokens, columns=inner,
            reads=2.0, writes=1.0, flops_per_element=5.0,
        )  # fmt: skip
        yield from output_projection(terms, output, step.tokens, all_reduce="mixer_all_reduce")

    def resident(self, step: Step, terms: Terms) -> Mapping[str, Quantity]:
        """Return the states and the convolution's last inputs."""
        inner = self.intermediate_size / terms.parallelism.tensor
        return resident_state(
            terms,
            step.share(terms.parallelism.data),
            state_elements=inner * self.state_size,
            convolution_elements=(self.convolution_kernel - 1.0) * inner,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Mamba2:
    """Selective state space with one decay per head (Mamba-2, Nemotron-H).

    Parameters
    ----------
    heads, head_dim : Quantity
        Heads and channels per head.
    groups : Quantity
        Groups of heads that share input and output vectors.
    state_size : Quantity
        State elements per channel.
    convolution_kernel : Quantity
        Taps of the causal convolution over values and both vectors.
    convolution_bias, bias : bool
        Biases of the convolution, and of the input and output projections.
    norm : bool
        Whether a gated norm with a gain precedes the output projection; without, only the gate.

    Notes
    -----
    Dao & Gu 2024 (arXiv:2405.21060), section 7. Per state element 1 to decay, 2 to update, 2 to read;
    per channel 3 for the scaled input and the skip connection.
    """

    kind: Literal["mamba2"] = "mamba2"
    heads: Count
    head_dim: Count
    groups: Count = 1.0
    state_size: Count = 128.0
    convolution_kernel: Count = 4.0
    convolution_bias: bool = True
    bias: bool = False
    norm: bool = True

    def weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        """Return projections, convolution, per-head scalars, norm and output projection."""
        inner, vectors = self.heads * self.head_dim, self.groups * self.state_size

        def projection(name: str, outputs: Quantity, units: Quantity) -> Weight:
            return Weight(
                name=name, inputs=hidden_size, outputs=outputs, bias=self.bias, split="outputs", units=units
            )

        def per_head(name: str, outputs: Quantity) -> Weight:
            return Weight(
                name=name, inputs=1.0, outputs=outputs, split="outputs", units=self.heads, tensor="vector"
            )

        return (
            projection("gate", inner, self.heads),
            projection("values", inner, self.heads),
            projection("state_in", vectors, self.groups),
            projection("state_out", vectors, self.groups),
            projection("time_step", self.heads, self.heads),
            Weight(
                name="convolution", inputs=self.convolution_kernel, outputs=inner + 2.0 * vectors,
                bias=self.convolution_bias, split="outputs", tensor="vector",
            ),
            per_head("time_step_bias", self.heads),
            per_head("log_decay", self.heads),
            per_head("skip", self.heads),
            Weight(
                name="output", inputs=inner, outputs=hidden_size, bias=self.bias,
                split="inputs", units=self.heads,
            ),
            *((per_head("norm", inner),) if self.norm else ()),
        )  # fmt: skip

    def operators(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return projections, convolution, scan, gated norm, output projection and all-reduce."""
        step = step.share(terms.parallelism.data)
        weights = self.weights(terms.hidden_size)
        projections, (convolution, bias, decay, skip, output, *norm) = weights[:5], weights[5:]
        heads, groups = self._local(terms)
        inner, vectors = heads * self.head_dim, groups * self.state_size
        yield from project(terms, "input", projections, step.tokens)
        yield convolve(
            terms, step, weight=convolution, channels=inner + 2.0 * vectors, kernel=self.convolution_kernel
        )
        yield recur(
            terms,
            "scan",
            step,
            state_elements=inner * self.state_size,
            flops_per_token=inner * (5.0 * self.state_size + 3.0),
            inputs=inner + 2.0 * vectors + heads,
            outputs=inner,
            heads=heads,
            weights=(bias, decay, skip),
        )
        yield pointwise(
            terms, "gated_norm" if self.norm else "gate_product", kind="norm" if self.norm else "elementwise",
            rows=step.tokens, columns=inner, reads=2.0, writes=1.0,
            flops_per_element=9.0 if self.norm else 5.0, weights=tuple(norm),
        )  # fmt: skip
        yield from output_projection(terms, output, step.tokens, all_reduce="mixer_all_reduce")

    def _local(self, terms: Terms) -> tuple[Quantity, Quantity]:
        ranks = terms.parallelism.tensor
        return ceil(self.heads / ranks), ceil(self.groups / ranks)

    def resident(self, step: Step, terms: Terms) -> Mapping[str, Quantity]:
        """Return the states and the convolution's last inputs."""
        heads, groups = self._local(terms)
        inner = heads * self.head_dim
        return resident_state(
            terms,
            step.share(terms.parallelism.data),
            state_elements=inner * self.state_size,
            convolution_elements=(self.convolution_kernel - 1.0) * (inner + 2.0 * groups * self.state_size),
        )
