"""Several hidden states side by side, of which a layer computes one (Gemma 3n)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from roofline.graph.matrix_product import linear
from roofline.graph.operator import Operator, Terms, pointwise
from roofline.graph.step import Step
from roofline.graph.weight import Weight
from roofline.quantity import Quantity
from roofline.units import Count

__all__ = ["AlternatingUpdates"]


@dataclass(frozen=True, kw_only=True, eq=False)
class AlternatingUpdates:
    """Prediction of all states before a layer and their correction after it.

    Parameters
    ----------
    states : Quantity
        Hidden states of one token.

    Notes
    -----
    Baykal et al. 2023 (arXiv:2301.13310), algorithm 1, with coefficients that a router makes from the
    active state, in the order of transformers' ``Gemma3nTextAltUp``. A prediction mixes `states` states
    into each; a correction adds a share of one difference to each.
    """

    kind: Literal["alternating_updates"] = "alternating_updates"
    states: Count

    def weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        """Return router with its norm, the coefficients of prediction and correction, and a scale."""
        return (
            Weight(name="router", inputs=hidden_size, outputs=self.states),
            Weight(name="prediction", inputs=self.states, outputs=self.states * self.states),
            Weight(name="correction", inputs=self.states, outputs=self.states),
            Weight.vector("router_norm", hidden_size),
            Weight.vector("output_scale", hidden_size),
        )

    def operators(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return, for prediction and correction, the norm, router, coefficients and the sums."""
        tokens = step.tokens / terms.parallelism.data
        width = terms.hidden_size
        router, prediction, correction, norm, scale = self.weights(width)
        for name, coefficients, products, reads, scaled in (
            ("prediction", prediction, self.states, 1.0, ()),
            ("correction", correction, 1.0, 1.0 + 2.0 / self.states, (scale,)),
        ):
            first = name == "prediction"
            yield pointwise(
                terms, f"{name}_norm", kind="norm", rows=tokens, columns=width,
                reads=1.0, writes=1.0, flops_per_element=4.0, weights=(norm,) if first else (),
            )  # fmt: skip
            if first:
                yield from linear(terms, "router", (router,), tokens)
            else:
                # The router's few rows are in the cache by now: a multiply-add for each column.
                yield pointwise(
                    terms, "router_again", rows=tokens, columns=self.states * width,
                    reads=1.0 / self.states, writes=1.0 / width, flops_per_element=2.0,
                )  # fmt: skip
            yield from linear(terms, f"{name}_coefficients", (coefficients,), tokens)
            # Columns are multiply-adds: each state is a sum over all states, or gets one addition.
            yield pointwise(
                terms, name, rows=tokens, columns=self.states * width * products,
                reads=reads / products, writes=1.0 / products, flops_per_element=2.0, weights=scaled,
            )  # fmt: skip

    def resident(self, step: Step, terms: Terms) -> Mapping[str, Quantity]:
        """Return nothing: no state outlives a token."""
        return {}
