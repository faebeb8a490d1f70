"""A tensor-parallel group of small devices that streams its layers through a window in memory."""

from roofline.errors import InvalidSpecError
from roofline.quantity import Quantity, ceil, log, maximum, where

__all__ = ["is_steady", "star_hops", "window_memory", "windowed_layer", "windowed_token"]

#: Of a logarithm, so that powers of two are whole.
_ROUNDING = 1e-9


def windowed_layer(*, compute_s: Quantity, exchange_s: Quantity, load_s: Quantity) -> Quantity:
    """Return the time of a layer that is loaded while the one before computes and exchanges [s].

    Parameters
    ----------
    compute_s, load_s : Quantity
        Of a device's share of attention and feed-forward together [s].
    exchange_s : Quantity
        Of the layer's all-reduces [s].

    Notes
    -----
    TPI-LLM (Li et al. 2024, arXiv:2410.00531, section 3.3): in the steady state the longer of both. So it
    is where one device copies a section of experts from its host while it computes the one before
    (SE-MoE, Shen et al. 2022, arXiv:2205.10034, ring memory): two slots hide the shorter of both, further
    ones only fill sooner.
    """
    return maximum(compute_s + exchange_s, load_s)


def windowed_token(
    *,
    layer_bytes: Quantity,
    head_bytes: Quantity,
    layers: Quantity,
    devices: Quantity,
    compute_s: Quantity,
    exchange_s: Quantity,
    read_bytes_per_s: Quantity,
) -> Quantity:
    """Return the time of a token whose layers and head are read anew [s].

    Parameters
    ----------
    layer_bytes : Quantity
        Of one decoder layer, divided over the devices [B].
    head_bytes : Quantity
        Of the head, which one device has and loads after the last layer [B].
    compute_s, exchange_s : Quantity
        Of a layer on each device [s].
    read_bytes_per_s : Quantity
        Of each device [B/s].

    Notes
    -----
    The paper's formulas leave the head out. With it, one rate of 1.35 GB/s gives five of the seven models of
    its table 1 within 8 %, vocabularies of 32,000 to 128,256 tokens (docs/edge.md).
    """
    layer = windowed_layer(
        compute_s=compute_s, exchange_s=exchange_s, load_s=layer_bytes / devices / read_bytes_per_s
    )
    return layers * layer + head_bytes / read_bytes_per_s


def is_steady(
    *,
    attention_s: Quantity,
    feed_forward_s: Quantity,
    all_reduce_s: Quantity,
    load_attention_s: Quantity,
    load_feed_forward_s: Quantity,
    layers: Quantity,
) -> Quantity:
    """Return 1 where loading hides behind computing and exchanging throughout a pass, else 0.

    Notes
    -----
    The loose condition (arXiv:2410.00531, proposition 3): a whole layer must cover a whole layer's loading
    (equation 4), and either all attentions before the l-th feed-forward the l feed-forwards loaded by then
    (equation 5), or the other way round (equation 6), for every l up to the number of layers. Both sides are
    linear in l, so the ends l = 1 and l = L decide.
    """
    total = attention_s + feed_forward_s + 2.0 * all_reduce_s
    loaded = load_attention_s + load_feed_forward_s
    whole = where(total >= loaded, 1.0, 0.0)
    first = maximum(
        where(attention_s + all_reduce_s >= load_feed_forward_s, 1.0, 0.0)
        * _last(total, feed_forward_s + all_reduce_s, loaded, load_attention_s, layers),
        where(feed_forward_s + all_reduce_s >= load_attention_s, 1.0, 0.0)
        * _last(total, attention_s + all_reduce_s, loaded, load_feed_forward_s, layers),
    )
    return whole * first


def _last(each: Quantity, less: Quantity, loaded: Quantity, fewer: Quantity, layers: Quantity) -> Quantity:
    return where(layers * each - less >= layers * loaded - fewer, 1.0, 0.0)


def star_hops(*, devices: Quantity, links: Quantity, topology: str) -> Quantity:
    """Return how many link latencies an all-reduce of small messages waits for.

    Parameters
    ----------
    devices : Quantity
        Of the group, >= 2.
    links : Quantity
        Links between two devices, through routers, >= 1.
    topology : str
        ``star``: to one device and back; ``tree``: pairs up to one device and back; ``ring``: around twice,
        step by step.

    Raises
    ------
    InvalidSpecError
        If there is no such topology.

    Notes
    -----
    arXiv:2410.00531, section 3.2: 8 for a star of 8 devices four links apart, 56 for a ring. A binary tree
    of n devices has ``ceil(log2 n)`` levels each way.
    """
    steps = {"star": 1.0, "tree": ceil(log(devices) / log(2.0) - _ROUNDING), "ring": devices - 1.0}
    if topology not in steps:
        raise InvalidSpecError(f"star_hops: want {', '.join(steps)}, got {topology!r}")
    return 2.0 * steps[topology] * links


def window_memory(*, around_bytes: Quantity, layers_bytes: Quantity, devices: Quantity) -> Quantity:
    """Return what the device with embedding and head holds [B].

    Parameters
    ----------
    around_bytes : Quantity
        Embedding and head, which are not divided [B].
    layers_bytes : Quantity
        Decoder layers in memory at once, divided over the devices [B]; 0 with a window of two blocks, whose
        peak is at embedding and head.

    Notes
    -----
    arXiv:2410.00531, equation 7, without its factor for what a runtime holds beside weights, which is not
    published.
    """
    return around_bytes + layers_bytes / devices
