"""The block kinds a model file may use; a new kind is one file and one line here."""

from typing import Annotated, Final, TypeAlias

from roofline.graph.blocks.block import Block
from roofline.kinds import ByKind

__all__ = ["BLOCKS", "AnyBlock"]

BLOCKS: Final = ByKind(
    "roofline.graph.blocks",
    {
        "alternating_updates": "alternating_updates.AlternatingUpdates",
        "bottleneck": "bottleneck.Bottleneck",
        "cross_attention": "cross_attention.CrossAttention",
        "feed_forward": "feed_forward.FeedForward",
        "gated_delta_net": "linear_attention.GatedDeltaNet",
        "grouped_query_attention": "grouped_query_attention.GroupedQueryAttention",
        "kimi_delta_attention": "kimi_delta_attention.KimiDeltaAttention",
        "latent_attention": "latent_attention.LatentAttention",
        "lightning_attention": "linear_attention.LightningAttention",
        "mamba": "state_space.Mamba",
        "mamba2": "state_space.Mamba2",
        "mixture_of_experts": "mixture_of_experts.MixtureOfExperts",
        "normalization": "normalization.Normalization",
        "projection": "projection.Projection",
        "projector": "projector.Projector",
        "short_convolution": "short_convolution.ShortConvolution",
    },
)

AnyBlock: TypeAlias = Annotated[Block, BLOCKS]
