"""A window of layers in memory, against TPI-LLM."""

import numpy as np
import pytest

from roofline.errors import InvalidSpecError
from roofline.studies.sliding_window import (
    is_steady,
    star_hops,
    window_memory,
    windowed_layer,
    windowed_token,
)

#: TPI-LLM (arXiv:2410.00531), table 1: width, layers, billions of layer parameters, vocabulary, s/token.
TABLE_1 = {
    "Llama 2-3B": (3200, 26, 3.221, 32000, 1.9),
    "Llama 2-7B": (4096, 32, 6.476, 32000, 2.6),
    "Llama 2-13B": (5120, 40, 12.69, 32000, 2.9),
    "Llama 2-70B": (8192, 80, 68.45, 32000, 26.1),
    "Llama 3.1-8B": (4096, 32, 6.980, 128256, 4.3),
    "Llama 3.1-70B": (8192, 80, 68.45, 128256, 29.9),
    "Yi-34B": (7168, 60, 33.47, 64000, 13.7),
}


def test_hiding_a_copy_gains_at_most_a_factor_of_two() -> None:
    # SE-MoE (arXiv:2205.10034), abstract: 13 % more inference throughput with ring memory.
    copy = np.linspace(0.0, 2.0, 9)

    gains = (1.0 + copy) / np.asarray(windowed_layer(compute_s=1.0, exchange_s=0.0, load_s=copy))

    assert gains.min() <= 1.13 <= gains.max() == 2.0


def token_s(name: str, rate: float) -> float:
    """Eight devices in fp32; what they compute is less than what they load."""
    width, layers, billions, vocabulary, _ = TABLE_1[name]
    found = windowed_token(
        layer_bytes=4e9 * billions / layers,
        head_bytes=4.0 * width * vocabulary,
        layers=layers,
        devices=8,
        compute_s=0.0,
        exchange_s=0.0195,
        read_bytes_per_s=rate,
    )
    return float(found)


def implied_rate(name: str) -> float:
    """The rate at which a row is met."""
    rates = np.arange(1e8, 9e9, 1e7)
    return float(np.interp(-TABLE_1[name][4], [-token_s(name, rate) for rate in rates], rates))


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("Llama 2-7B", 0.12), ("Llama 2-70B", 0.06), ("Llama 3.1-8B", 0.06), ("Llama 3.1-70B", 0.06),
     ("Yi-34B", 0.06), ("Llama 2-13B", 0.9), ("Llama 2-3B", 0.25)],
)  # fmt: skip
def test_a_rate_from_the_other_models_gives_a_models_latency(name: str, tolerance: float) -> None:
    # The 13B row alone is 1.8 times as quick as its bytes allow at the others' rate.
    rate = float(np.median([implied_rate(other) for other in TABLE_1 if other != name]))

    error = token_s(name, rate) / TABLE_1[name][4] - 1.0

    assert abs(error) <= tolerance


def test_loading_binds_or_computing_does() -> None:
    found = windowed_layer(compute_s=0.028, exchange_s=0.028, load_s=np.array([0.048, 0.060]))

    np.testing.assert_allclose(found, [0.056, 0.060], rtol=1e-12)


def test_the_papers_laptops_reach_the_steady_state() -> None:
    # Section 3.3: 11, 17 and 14 ms against 18 and 30 ms; loading of 40 ms for attention would not hide.
    load = np.array([0.018, 0.040])

    found = is_steady(
        attention_s=0.011, feed_forward_s=0.017, all_reduce_s=0.014, load_attention_s=load,
        load_feed_forward_s=0.030, layers=32,
    )  # fmt: skip

    np.testing.assert_allclose(found, [1.0, 0.0], atol=0.0)


def test_hops_are_those_of_the_paper() -> None:
    # Section 3.2: eight devices, four links between two of them.
    assert star_hops(devices=8.0, links=4.0, topology="star") == 8.0
    assert star_hops(devices=8.0, links=4.0, topology="ring") == 56.0


def test_a_tree_has_a_level_for_every_doubling() -> None:
    # Eight devices: three levels up and down, of four links each; nine need a fourth.
    assert star_hops(devices=8.0, links=4.0, topology="tree") == 24.0
    assert star_hops(devices=9.0, links=4.0, topology="tree") == 32.0
    with pytest.raises(InvalidSpecError, match="want star, tree, ring"):
        star_hops(devices=8.0, links=4.0, topology="mesh")


def test_embedding_and_head_are_the_peak_of_a_small_window() -> None:
    found = window_memory(around_bytes=2.0, layers_bytes=np.array([0.0, 8.0]), devices=4.0)

    np.testing.assert_allclose(found, [2.0, 4.0], rtol=1e-12)
