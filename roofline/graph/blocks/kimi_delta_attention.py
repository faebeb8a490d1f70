"""Linear attention that forgets channel by channel (Kimi Linear)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from roofline.graph.blocks.recurrence import convolve, delta_rule, resident_state
from roofline.graph.matrix_product import linear, project
from roofline.graph.operator import Operator, Terms
from roofline.graph.step import Step
from roofline.graph.weight import Weight
from roofline.quantity import Quantity, ceil
from roofline.units import Count

__all__ = ["KimiDeltaAttention"]


@dataclass(frozen=True, kw_only=True, eq=False)
class KimiDeltaAttention:
    """Gated delta rule with a decay for each key channel.

    Parameters
    ----------
    heads, head_dim : Quantity
        Heads of queries, keys and values, and their width; each has a state of ``head_dim x head_dim``.
    gate_rank : Quantity
        Width between the two matrices that make the decays, and between those of the output gate.
    convolution_kernel : Quantity
        Taps of the causal convolution over queries, keys and values.

    Notes
    -----
    ``S <- diag(a) S``, then the delta rule of `GatedDeltaNet` with the same operations per state element
    (Kimi Team 2025, arXiv:2510.26692, in the order of transformers' ``recurrent_kimi_delta_attention``).
    Exponentials of the decays, one a channel, are not counted.
    """

    kind: Literal["kimi_delta_attention"] = "kimi_delta_attention"
    heads: Count
    head_dim: Count
    gate_rank: Count
    convolution_kernel: Count = 4.0

    def weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        """Return projections, convolution, decay parameters, output norm and output projection."""
        width = self.heads * self.head_dim

        def split(name: str, inputs: Quantity, outputs: Quantity) -> Weight:
            return Weight(name=name, inputs=inputs, outputs=outputs, split="outputs", units=self.heads)

        def vector(name: str, size: Quantity) -> Weight:
            return Weight(
                name=name, inputs=1.0, outputs=size, split="outputs", units=self.heads, tensor="vector"
            )

        return (
            *(split(name, hidden_size, width) for name in ("query", "key", "value")),
            split("beta", hidden_size, self.heads),
            Weight(name="decay_down", inputs=hidden_size, outputs=self.gate_rank),
            split("decay_up", self.gate_rank, width),
            Weight(name="gate_down", inputs=hidden_size, outputs=self.gate_rank),
            split("gate_up", self.gate_rank, width),
            Weight(
                name="convolution", inputs=self.convolution_kernel, outputs=3.0 * width, split="outputs",
                units=self.heads, tensor="vector",
            ),
            vector("time_step_bias", width),
            vector("log_decay", self.heads),
            Weight.vector("norm", self.head_dim),
            Weight(name="output", inputs=width, outputs=hidden_size, split="inputs", units=self.heads),
        )  # fmt: skip

    def operators(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return projections, convolution, recurrence, gated norm, output projection and all-reduce."""
        step = step.share(terms.parallelism.data)
        *matrices, convolution, bias, decay, norm, output = self.weights(terms.hidden_size)
        heads = ceil(self.heads / terms.parallelism.tensor)
        width = heads * self.head_dim
        yield from project(terms, "query_key_value", tuple(matrices[:3]), step.tokens)
        for weight in matrices[3:]:
            yield from linear(terms, weight.name, (weight,), step.tokens)
        yield convolve(terms, step, weight=convolution, channels=3.0 * width, kernel=self.convolution_kernel)
        yield from delta_rule(
            terms,
            step,
            key_heads=heads,
            key_head_dim=self.head_dim,
            value_heads=heads,
            value_head_dim=self.head_dim,
            inputs=4.0 * width + heads,
            vectors=(bias, decay),
            norm=norm,
            output=output,
        )

    def resident(self, step: Step, terms: Terms) -> Mapping[str, Quantity]:
        """Return the states and the convolution's last inputs."""
        width = ceil(self.heads / terms.parallelism.tensor) * self.head_dim
        return resident_state(
            terms,
            step.share(terms.parallelism.data),
            state_elements=width * self.head_dim,
            convolution_elements=(self.convolution_kernel - 1.0) * 3.0 * width,
        )
