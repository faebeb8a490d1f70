"""Linear attention: gated delta rule, and lightning attention."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from roofline.graph.blocks.recurrence import convolve, delta_rule, recur, resident_state
from roofline.graph.matrix_product import linear, output_projection, project
from roofline.graph.operator import Operator, Terms, pointwise
from roofline.graph.step import Step
from roofline.graph.weight import Weight
from roofline.quantity import Quantity, ceil
from roofline.units import Count

__all__ = ["GatedDeltaNet", "LightningAttention"]


@dataclass(frozen=True, kw_only=True, eq=False)
class GatedDeltaNet:
    """Linear attention whose state forgets by a gate and is corrected by the delta rule.

    Parameters
    ----------
    key_heads, key_head_dim : Quantity
        Heads of queries and of keys, and their width.
    value_heads, value_head_dim : Quantity
        Heads of values, several to a key head, and their width; each has a state of
        ``key_head_dim x value_head_dim``.
    convolution_kernel : Quantity
        Taps of the causal convolution over queries, keys and values.

    Notes
    -----
    ``S <- a S + b k (v - (a S)^T k)^T``, output ``S^T q`` (the gated delta rule of Yang et al. 2024,
    arXiv:2412.06464, in the order of transformers' ``torch_recurrent_gated_delta_rule``): per state
    element 1 to decay, 2 to recall, 2 to write, 2 to read, and 2 per value element for the
    correction. Qwen3-Next stores the projections as two matrices, Qwen3.5 as four; the parameters
    are the same.
    """

    kind: Literal["gated_delta_net"] = "gated_delta_net"
    key_heads: Count
    key_head_dim: Count
    value_heads: Count
    value_head_dim: Count
    convolution_kernel: Count = 4.0

    def weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        """Return projections, convolution, decay parameters, output norm and output projection."""
        key, value = self.key_heads * self.key_head_dim, self.value_heads * self.value_head_dim

        def projection(name: str, outputs: Quantity, units: Quantity) -> Weight:
            return Weight(name=name, inputs=hidden_size, outputs=outputs, split="outputs", units=units)

        return (
            projection("query", key, self.key_heads),
            projection("key", key, self.key_heads),
            projection("value", value, self.value_heads),
            projection("gate", value, self.value_heads),
            projection("beta_decay", 2.0 * self.value_heads, self.value_heads),
            Weight(
                name="convolution", inputs=self.convolution_kernel, outputs=2.0 * key + value,
                split="outputs", tensor="vector",
            ),
            Weight(name="time_step_bias", inputs=1.0, outputs=self.value_heads, split="outputs",
                   units=self.value_heads, tensor="vector"),
            Weight(name="log_decay", inputs=1.0, outputs=self.value_heads, split="outputs",
                   units=self.value_heads, tensor="vector"),
            Weight.vector("norm", self.value_head_dim),
            Weight(name="output", inputs=value, outputs=hidden_size, split="inputs", units=self.value_heads),
        )  # fmt: skip

    def operators(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return projections, convolution, recurrence, gated norm, output projection and all-reduce."""
        step = step.share(terms.parallelism.data)
        *projections, beta_decay, convolution, bias, decay, norm, output = self.weights(terms.hidden_size)
        key_heads, value_heads = self._local(terms)
        key, value = key_heads * self.key_head_dim, value_heads * self.value_head_dim
        yield from project(terms, "query_key_value_gate", tuple(projections), step.tokens)
        yield from linear(terms, "beta_decay", (beta_decay,), step.tokens)
        yield convolve(
            terms, step, weight=convolution, channels=2.0 * key + value, kernel=self.convolution_kernel
        )
        yield from delta_rule(
            terms,
            step,
            key_heads=key_heads,
            key_head_dim=self.key_head_dim,
            value_heads=value_heads,
            value_head_dim=self.value_head_dim,
            inputs=2.0 * key + value + 2.0 * value_heads,
            vectors=(bias, decay),
            norm=norm,
            output=output,
        )

    def _local(self, terms: Terms) -> tuple[Quantity, Quantity]:
        ranks = terms.parallelism.tensor
        return ceil(self.key_heads / ranks), ceil(self.value_heads / ranks)

    def resident(self, step: Step, terms: Terms) -> Mapping[str, Quantity]:
        """Return the states and the convolution's last inputs."""
        key_heads, value_heads = self._local(terms)
        value = value_heads * self.value_head_dim
        return resident_state(
            terms,
            step.share(terms.parallelism.data),
            state_elements=self.key_head_dim * value,
            convolution_elements=(self.convolution_kernel - 1.0)
            * (2.0 * key_heads * self.key_head_dim + value),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LightningAttention:
    """Linear attention with a fixed decay per head (MiniMax-Text-01).

    Parameters
    ----------
    heads, head_dim : Quantity
        Heads of queries, keys and values; each has a state of ``head_dim x head_dim``.

    Notes
    -----
    ``S <- l S + k v^T``, output ``S^T q`` (MiniMax 2025, arXiv:2501.08313, in the order of transformers'
    ``MiniMaxLightningAttention``): per state element 1 to decay, 2 to write, 2 to read.
    """

    kind: Literal["lightning_attention"] = "lightning_attention"
    heads: Count
    head_dim: Count

    def weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        """Return projections, output gate, output norm and output projection."""
        width = self.heads * self.head_dim
        inward = tuple(
            Weight(name=name, inputs=hidden_size, outputs=width, split="outputs", units=self.heads)
            for name in ("query", "key", "value", "gate")
        )
        norm = Weight(
            name="norm", inputs=1.0, outputs=width, split="outputs", units=self.heads, tensor="vector"
        )
        output = Weight(name="output", inputs=width, outputs=hidden_size, split="inputs", units=self.heads)
        return (*inward, norm, output)

    def operators(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return projections, recurrence, norm and gate, output projection and all-reduce."""
        step = step.share(terms.parallelism.data)
        query, key, value, gate, norm, output = self.weights(terms.hidden_size)
        heads = ceil(self.heads / terms.parallelism.tensor)
        width = heads * self.head_dim
        yield from project(terms, "query_key_value", (query, key, value), step.tokens)
        yield pointwise(
            terms, "activation", rows=step.tokens, columns=3.0 * width,
            reads=1.0, writes=1.0, flops_per_element=4.0,
        )  # fmt: skip
        yield recur(
            terms,
            "decayed_sum",
            step,
            state_elements=width * self.head_dim,
            flops_per_token=5.0 * width * self.head_dim,
            inputs=3.0 * width,
            outputs=width,
            heads=heads,
        )
        yield from linear(terms, "gate", (gate,), step.tokens)
        yield pointwise(
            terms, "gated_norm", kind="norm", rows=step.tokens, columns=width,
            reads=2.0, writes=1.0, flops_per_element=8.0, weights=(norm,),
        )  # fmt: skip
        yield from output_projection(terms, output, step.tokens, all_reduce="attention_all_reduce")

    def resident(self, step: Step, terms: Terms) -> Mapping[str, Quantity]:
        """Return the states."""
        heads = ceil(self.heads / terms.parallelism.tensor)
        return resident_state(
            terms, step.share(terms.parallelism.data), state_elements=heads * self.head_dim * self.head_dim
        )
