"""What keeping tokens with their experts saves of an expert layer."""

from roofline.quantity import Quantity

__all__ = ["exchange_reduction"]


def exchange_reduction(
    *, local_before: Quantity, local_after: Quantity, exchange_share: Quantity
) -> Quantity:
    """Return by what share an expert layer gets faster where more token-expert pairs stay on their device.

    Parameters
    ----------
    local_before, local_after : Quantity
        Share of pairs whose expert is on the token's device, 0 to below 1; ``1 / devices`` where tokens and
        experts are placed without regard to each other.
    exchange_share : Quantity
        Of the layer's time, in which tokens are exchanged, 0..1.

    Notes
    -----
    Speculative MoE (Li et al. 2025, arXiv:2503.04398) groups experts and shuffles tokens by predicted
    routing. An all-to-all moves ``1 - local`` of all pairs; what it moves is taken to cost in proportion, so
    latency of its messages and imbalance are left out and the result is the most there is to save.
    """
    return exchange_share * (1.0 - (1.0 - local_after) / (1.0 - local_before))
