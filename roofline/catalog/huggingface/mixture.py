"""What families of mixtures of experts share: the mixture itself, and which layers have it."""

from collections.abc import Sequence

from roofline.catalog.huggingface.config import Config
from roofline.catalog.huggingface.decoder import depth
from roofline.graph.blocks.feed_forward import FeedForward
from roofline.graph.blocks.mixture_of_experts import MixtureOfExperts
from roofline.graph.blocks.union import AnyBlock

__all__ = ["after_first", "experts", "listed_sparse", "shared_width", "sparse_or_dense", "stepwise"]


def experts(
    config: Config,
    *,
    width: str = "moe_intermediate_size",
    shared_intermediate_size: int = 0,
    shared_gate: bool = False,
    bias: bool = False,
    router_bias: bool = False,
    gated: bool = True,
    counted_bias: bool = False,
) -> MixtureOfExperts:
    """Return the mixture a configuration describes; `width` names the key of one expert's width.

    Parameters
    ----------
    counted_bias : bool
        Whether the bias that only chooses experts is a parameter; most publish it as a buffer.

    Raises
    ------
    FileFormatError
        If a token visits more experts than there are.
    """
    count = config.count("num_experts")
    top_k = config.count("num_experts_per_tok")
    if top_k > count:
        config.refuse("num_experts_per_tok", f"at most num_experts = {count}")
    return MixtureOfExperts(
        experts=float(count),
        top_k=float(top_k),
        intermediate_size=float(config.count(width)),
        shared_intermediate_size=float(shared_intermediate_size),
        shared_gate=shared_gate,
        gated=gated,
        bias=bias,
        router_bias=router_bias,
        selection_bias=counted_bias,
    )


def sparse_or_dense(
    config: Config, sparse: Sequence[bool], mixture: MixtureOfExperts, width: str = "intermediate_size"
) -> list[AnyBlock]:
    """Return for each layer the mixture, or the dense network whose width `width` names."""
    if all(sparse):
        config.ignore(width)
        return [mixture] * len(sparse)
    network = FeedForward(intermediate_size=float(config.count(width)))
    return [mixture if here else network for here in sparse]


def listed_sparse(config: Config, default: list[bool]) -> list[bool]:
    """Return which layers are sparse: those ``mlp_layer_types`` says, else the default."""
    listed = config.words("mlp_layer_types", depth(config), ("dense", "sparse"))
    return default if listed is None else [kind == "sparse" for kind in listed]


def after_first(config: Config, default: int) -> list[bool]:
    """Return which layers are sparse: all after ``first_k_dense_replace``."""
    layers = depth(config)
    first = config.count("first_k_dense_replace", default=default, least=0)
    config.only("moe_layer_freq", 1, [1] * layers, [0] * min(first, layers) + [1] * max(0, layers - first))
    return listed_sparse(config, [index >= first for index in range(layers)])


def stepwise(config: Config) -> list[bool]:
    """Return which layers are sparse: every ``decoder_sparse_step``-th but ``mlp_only_layers``."""
    layers = depth(config)
    step = config.count("decoder_sparse_step", default=1)
    dense = config.counts("mlp_only_layers") or []
    return [(index + 1) % step == 0 and index not in dense for index in range(layers)]


def shared_width(config: Config, key: str = "n_shared_experts", default: int | None = None) -> int:
    """Return the width of all shared experts, each as wide as a routed one."""
    return config.count(key, default=default, least=0) * config.count("moe_intermediate_size")
