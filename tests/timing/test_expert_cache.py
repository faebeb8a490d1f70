"""Closed hit rates against the caches they describe."""

import numpy as np
import pytest

from roofline.errors import InvalidSpecError
from roofline.graph.routing import Routing
from roofline.timing.expert_cache import USUAL_REUSE, ExpertCache, cyclic_hit_rate, recent_share

SIZES = {"experts": 64.0, "top_k": 8.0, "tokens": 1.0}


@pytest.mark.parametrize("policy", ["lru", "lfu", "static"])
def test_uniform_experts_are_found_as_often_as_there_are_slots(policy: str) -> None:
    # Every expert is as likely as any other, so no policy beats chance: C/E.
    hits = ExpertCache(capacity=0.25, policy=policy).hits(**SIZES, routing=Routing())

    np.testing.assert_allclose([hits.experts, hits.visits], 0.25, rtol=1e-9)


def test_the_hot_set_beats_recency_and_both_beat_chance_under_skew() -> None:
    routing = Routing(kind="zipf", skew=1.0)
    found = {
        policy: ExpertCache(capacity=0.25, policy=policy).hits(**SIZES, routing=routing).experts
        for policy in ("static", "lru")
    }

    assert 0.25 < found["lru"] < found["static"] < 1.0


def test_a_hot_expert_has_more_visits_than_bytes() -> None:
    routing = Routing(kind="zipf", skew=1.0)
    hits = ExpertCache(capacity=0.25, policy="static").hits(
        experts=64.0, top_k=8.0, tokens=32.0, routing=routing
    )

    assert hits.visits > hits.experts


@pytest.mark.parametrize("policy", ["lru", "static"])
def test_no_slot_serves_nothing_and_all_slots_serve_all(policy: str) -> None:
    routing = Routing(kind="zipf", skew=0.8)
    rates = [
        ExpertCache(capacity=share, policy=policy).hits(**SIZES, routing=routing).experts
        for share in (0.0, 1.0)
    ]

    np.testing.assert_allclose(rates, [0.0, 1.0], atol=1e-9)


def test_capacity_may_be_swept() -> None:
    routing = Routing(kind="zipf", skew=0.8)
    shares = np.array([0.1, 0.5, 0.9])
    swept = ExpertCache(capacity=shares, policy="lru").hits(**SIZES, routing=routing).experts
    single = [
        ExpertCache(capacity=float(share), policy="lru").hits(**SIZES, routing=routing).experts
        for share in shares
    ]

    np.testing.assert_allclose(swept, single, rtol=1e-9)


def test_a_given_rate_is_taken_and_must_be_given() -> None:
    hits = ExpertCache(capacity=0.5, policy="given", hit_rate=0.67).hits(**SIZES, routing=Routing())

    assert hits.experts == hits.visits == 0.67
    with pytest.raises(InvalidSpecError, match="wants a hit_rate"):
        ExpertCache(capacity=0.5, policy="given").hits(**SIZES, routing=Routing())


def test_passes_that_choose_alike_are_found_by_what_the_slots_hold_of_them() -> None:
    # 16 of 64 slots hold two passes of 8; a fifth repeats at once, so half repeat within 4 passes:
    # 1 - exp(-2 / 4) are recent, and of the others C/E = 0.25 are there.
    recent = 1.0 - np.exp(-0.5)

    hits = ExpertCache(capacity=0.25, reuse=0.2).hits(**SIZES, routing=Routing())

    np.testing.assert_allclose(hits.experts, recent + (1.0 - recent) * 0.25, rtol=1e-9)


def test_one_cache_for_all_layers_finds_nothing_of_a_pass_that_exceeds_it() -> None:
    # Uniform routing: 1 token touches 8 of 64 experts, and 16 slots hold them; 512 tokens touch all 64.
    found = [
        ExpertCache(capacity=0.25, policy="pages", reuse=0.2).hits(
            experts=64.0, top_k=8.0, tokens=tokens, routing=Routing()
        )
        for tokens in (1.0, 512.0)
    ]
    apart = ExpertCache(capacity=0.25, reuse=0.2).hits(**SIZES, routing=Routing())

    assert found[0].experts == apart.experts
    assert found[1].experts == 0.0


def test_all_or_nothing_is_found_where_all_or_nothing_repeats() -> None:
    np.testing.assert_array_equal(recent_share(held_passes=3.0, reuse=np.array([0.0, 1.0])), [0.0, 1.0])
    assert recent_share(held_passes=0.0, reuse=1.0) == 0.0


@pytest.mark.parametrize(("distance", "reuse"), [(1.0, 0.5), (4.0, 0.2)])
def test_the_closed_share_is_that_of_the_distances_it_assumes(distance: float, reuse: float) -> None:
    # Denning: what slots of w passes hold are the last t passes with r ln(1 + t / r) = w.
    for held in (0.5, 2.0, 6.0):
        last = distance * np.expm1(held / distance)

        np.testing.assert_allclose(
            recent_share(held_passes=held, reuse=reuse), last / (last + distance), rtol=1e-12
        )


@pytest.mark.parametrize(
    ("experts", "top_k", "slots", "published"),
    [
        (8, 2, 2, 0.36),  # Mixtral 8x7B, ExpertFlow (arXiv:2410.17954)
        (8, 2, 4, 0.67),  # the same
        (64, 8, 16, 0.514),  # OLMoE 1B-7B, JustVugg/colibri pull request 1092
        (128, 8, 51.2, 0.933),  # Qwen3 30B-A3B, kekzl/imp pull request 1359, mean of three prompts
        (128, 8, 17.2, 0.659),  # Qwen3 235B-A22B, Cacheable by Design (arXiv:2608.18261)
        (256, 8, 14.6, 0.476),  # Qwen3.6 35B-A3B, Paging the Experts (arXiv:2609.29032)
        (512, 10, 64, 0.67),  # Qwen3.8-Flash-Next, ggml-org/llama.cpp pull request 27861
        (512, 10, 128, 0.81),  # the same
    ],
)
def test_the_usual_reuse_is_within_a_fifth_of_published_rates(
    experts: float, top_k: float, slots: float, published: float
) -> None:
    cache = ExpertCache(capacity=slots / experts, reuse=USUAL_REUSE)

    hits = cache.hits(experts=experts, top_k=top_k, tokens=1.0, routing=Routing())

    assert abs(hits.experts - published) < 0.2


def test_a_cycle_that_does_not_fit_finds_nothing() -> None:
    sizes = np.array([7e9, 8e9, 9e9])

    served = cyclic_hit_rate(capacity_bytes=8e9, cycle_bytes=sizes)

    np.testing.assert_array_equal(served, [1.0, 1.0, 0.0])
