"""Mixture of experts: a router, routed experts and shared experts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from roofline.graph.blocks.feed_forward import feed_forward_operators, feed_forward_weights
from roofline.graph.matrix_product import linear
from roofline.graph.operator import Operator, Terms, collective, pointwise
from roofline.graph.step import Step
from roofline.graph.weight import Weight
from roofline.quantity import Quantity, where
from roofline.units import Count

__all__ = ["MixtureOfExperts"]


@dataclass(frozen=True, kw_only=True, eq=False)
class MixtureOfExperts:
    """Each token passes through `top_k` of `experts` networks, and through the shared one.

    Parameters
    ----------
    experts, top_k : Quantity
        Routed experts, and how many each token visits.
    intermediate_size : Quantity
        Inner width of one routed expert.
    shared_intermediate_size : Quantity
        Inner width of all shared experts together; 0 for none.
    shared_gate : bool
        Whether a sigmoid gate weighs the shared experts' output (Qwen2-MoE).
    gated, bias : bool
        As in a dense feed-forward network.
    router_bias, selection_bias : bool
        A bias of the router, and one used only to choose experts (DeepSeek-V3).
    latent_size : Quantity or None
        Experts work on this width between a down and an up projection; None for the hidden size
        (Nemotron-3 LatentMoE).

    Notes
    -----
    Only experts that some token of the pass visits are read: their expected number comes from the
    routing, and lies between `top_k` and ``min(experts, tokens top_k)``. docs/formulas.md section 5.
    """

    kind: Literal["mixture_of_experts"] = "mixture_of_experts"
    experts: Count
    top_k: Count
    intermediate_size: Count
    shared_intermediate_size: Count = 0.0
    shared_gate: bool = False
    gated: bool = True
    bias: bool = False
    router_bias: bool = False
    selection_bias: bool = False
    latent_size: Count | None = None

    def weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        """Return router, expert and shared matrices."""
        return (
            Weight(name="router", inputs=hidden_size, outputs=self.experts, bias=self.router_bias),
            *self._selection(),
            *self._latent(hidden_size),
            *self._experts(hidden_size),
            *self._shared(hidden_size),
            *self._shared_gate(hidden_size),
        )

    def _selection(self) -> tuple[Weight, ...]:
        return (Weight.vector("selection_bias", self.experts),) if self.selection_bias else ()

    def _shared_gate(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        return (
            (Weight(name="shared_output_gate", inputs=hidden_size, outputs=1.0),) if self.shared_gate else ()
        )

    def _latent(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        if self.latent_size is None:
            return ()
        return (
            Weight(name="latent_down", inputs=hidden_size, outputs=self.latent_size),
            Weight(name="latent_up", inputs=self.latent_size, outputs=hidden_size),
        )

    def _experts(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        width = hidden_size if self.latent_size is None else self.latent_size
        matrices = feed_forward_weights(
            width, self.intermediate_size, gated=self.gated, bias=self.bias, prefix="expert_"
        )
        return tuple(replace(matrix, groups=self.experts, tensor="expert_weight") for matrix in matrices)

    def _shared(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        return feed_forward_weights(
            hidden_size, self.shared_intermediate_size, gated=self.gated, bias=False, prefix="shared_"
        )

    def operators(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return router, dispatch, experts, combination, shared experts and all-reduce."""
        parallelism, hidden_size = terms.parallelism, terms.hidden_size
        own_tokens = step.tokens / parallelism.data
        ranks = parallelism.expert
        router = self.weights(hidden_size)[0]
        yield from linear(terms, "router", (router,), own_tokens)
        # Softmax or sigmoid of each logit, then a comparison in the search for the largest.
        yield pointwise(
            terms, "selection", rows=own_tokens, columns=self.experts,
            reads=1.0, writes=2.0 * self.top_k / self.experts, flops_per_element=4.0,
            weights=self._selection(),
        )  # fmt: skip
        latent = self._latent(hidden_size)
        if latent:
            yield from linear(terms, "latent_down", latent[:1], own_tokens)
        width = self._experts(hidden_size)[0].inputs
        visits = own_tokens * self.top_k * width
        yield collective(terms, "dispatch", "all_to_all", ranks=ranks, elements=visits)
        yield from self._routed(step, terms)
        yield collective(terms, "combine", "all_to_all", ranks=ranks, elements=visits)
        yield pointwise(
            terms, "weighted_sum", rows=own_tokens, columns=width,
            reads=self.top_k, writes=1.0, flops_per_element=2.0,
        )  # fmt: skip
        if latent:
            yield from linear(terms, "latent_up", latent[1:], own_tokens)
        shown = where(self.shared_intermediate_size > 0, own_tokens, 0.0)
        yield from feed_forward_operators(terms, self._shared(hidden_size), shown, prefix="shared_")
        if self.shared_gate:
            yield from linear(terms, "shared_output_gate", self._shared_gate(hidden_size), own_tokens)
        yield collective(
            terms,
            "experts_all_reduce",
            "all_reduce",
            ranks=parallelism.tensor,
            elements=own_tokens * hidden_size,
        )

    def _routed(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return the products of one rank's experts with the tokens that chose them."""
        experts, ranks = self._experts(terms.hidden_size), terms.parallelism.expert
        touched = terms.routing.touched(experts=self.experts, top_k=self.top_k, tokens=step.tokens)
        local = experts[-1].local(terms.parallelism)
        # Every rank is shown with the load of the busiest, for which all wait.
        routed = step.tokens * self.top_k / ranks * where(ranks > 1, terms.routing.imbalance, 1.0)
        return linear(
            terms,
            "experts",
            experts,
            routed,
            touched=touched / self.experts,
            kind="grouped_gemm",
            chained=True,
            shape={
                "tokens": step.tokens,
                "hidden_size": experts[0].inputs,
                "intermediate_size": self.intermediate_size,
                "experts": self.experts,
                "top_k": self.top_k,
                "tensor_ranks": self.intermediate_size / local.inputs,
                "expert_ranks": ranks,
                "touched": touched / ranks,
                # Dispatch hands a rank only the pairs its own experts compute.
                "routed": routed,
                "matrices": float(len(experts)),
            },
        )

    def resident(self, step: Step, terms: Terms) -> Mapping[str, Quantity]:
        """Return nothing: experts keep no state."""
        return {}
