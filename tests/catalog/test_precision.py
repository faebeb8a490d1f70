"""Formats as a user names them: what stays wide, and what a file of one format holds beside it."""

import pytest

from roofline.catalog.precision import quantised_whole, with_formats
from roofline.graph.operator import Precision
from roofline.graph.weight import Weight

HEAD = Weight(name="vocabulary", inputs=64.0, outputs=256.0, tensor="embedding")
ROUTER = Weight(name="router", inputs=64.0, outputs=8.0)
DOWN = Weight(name="down", inputs=64.0, outputs=64.0)


def formats(precision):
    """Formats of head, router and a layer's weight."""
    return (
        precision.of_weight("head", "head", HEAD).name,
        precision.of_weight("layer", "experts", ROUTER).name,
        precision.of_weight("layer", "feed_forward", DOWN).name,
    )


def test_checkpoints_of_servers_keep_head_and_router_wide():
    assert formats(with_formats(Precision(), weights="int4")) == ("bf16", "bf16", "int4")


@pytest.mark.parametrize(
    ("weights", "head"), [("q4_0", "q6_k"), ("q4_k_m", "q4_k_m"), ("q8_0", "q8_0"), ("q6_k", "q6_k")]
)
def test_gguf_files_quantise_the_head_too(weights, head):
    assert formats(with_formats(Precision(), weights=weights)) == (head, "bf16", weights)


@pytest.mark.parametrize(
    ("framework", "head"), [("mlx", "int4"), ("exllamav2", "q6_k"), ("executorch", "int8_wo")]
)
def test_frameworks_for_one_user_quantise_the_head_in_their_own_way(framework, head):
    made = quantised_whole(with_formats(Precision(), weights="int4"), framework)

    assert formats(made)[0] == head
