"""Short convolutions between two gates."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from roofline.graph.blocks.recurrence import convolve, resident_state
from roofline.graph.matrix_product import output_projection, project
from roofline.graph.operator import Operator, Terms, pointwise
from roofline.graph.step import Step
from roofline.graph.weight import Weight
from roofline.quantity import Quantity
from roofline.units import Count

__all__ = ["ShortConvolution"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ShortConvolution:
    """A causal depthwise convolution whose input and output are gated (LFM2).

    Parameters
    ----------
    kernel : Quantity
        Taps; the newest ``kernel - 1`` inputs of each channel are kept.
    bias : bool
        Biases of projections and convolution.

    Notes
    -----
    ``output(c * convolution(b * x))`` with gates b and c and value x projected from the hidden state, each
    as wide as it (in the order of transformers' ``Lfm2ShortConv``); neither gates nor convolution have an
    activation.
    """

    kind: Literal["short_convolution"] = "short_convolution"
    kernel: Count = 3.0
    bias: bool = False

    def weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        """Return the projections of gates and value, the convolution and the output projection."""
        return (
            *(
                Weight(name=name, inputs=hidden_size, outputs=hidden_size, bias=self.bias, split="outputs")
                for name in ("input_gate", "output_gate", "value")
            ),
            Weight(
                name="convolution", inputs=self.kernel, outputs=hidden_size, bias=self.bias, split="outputs",
                tensor="vector",
            ),
            Weight(name="output", inputs=hidden_size, outputs=hidden_size, bias=self.bias, split="inputs"),
        )  # fmt: skip

    def operators(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return projections, gates around the convolution, output projection and all-reduce."""
        step = step.share(terms.parallelism.data)
        *projections, convolution, output = self.weights(terms.hidden_size)
        channels = terms.hidden_size / terms.parallelism.tensor
        yield from project(terms, "gates_value", tuple(projections), step.tokens)
        yield pointwise(
            terms, "gated_input", rows=step.tokens, columns=channels,
            reads=2.0, writes=1.0, flops_per_element=1.0,
        )  # fmt: skip
        yield convolve(
            terms, step, weight=convolution, channels=channels, kernel=self.kernel, activation_flops=0.0
        )
        yield pointwise(
            terms, "gated_output", rows=step.tokens, columns=channels,
            reads=2.0, writes=1.0, flops_per_element=1.0,
        )  # fmt: skip
        yield from output_projection(terms, output, step.tokens, all_reduce="attention_all_reduce")

    def resident(self, step: Step, terms: Terms) -> Mapping[str, Quantity]:
        """Return the convolution's last inputs."""
        channels = terms.hidden_size / terms.parallelism.tensor
        return resident_state(
            terms,
            step.share(terms.parallelism.data),
            state_elements=0.0,
            convolution_elements=(self.kernel - 1.0) * channels,
        )
