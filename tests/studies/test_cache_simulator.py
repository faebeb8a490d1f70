"""Counted caches, by hand and against the closed forms."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from roofline.catalog.traces import popularity_of, read_trace
from roofline.errors import FileFormatError, InvalidSpecError
from roofline.graph.routing import Routing
from roofline.studies.cache_simulator import count_trace, simulate, synthetic_trace
from roofline.timing.expert_cache import ExpertCache


def choices(*experts: int) -> list[NDArray[np.int64]]:
    return [np.array([[expert] for expert in experts], dtype=np.int64)]


@pytest.mark.parametrize(
    ("policy", "hits"),
    [
        # 0 1 2 0 1 2 in two slots: a cycle one too long never finds what it just dropped.
        ("lru", 0),
        # The optimum holds 0 and 1, gives up 1 for 2, and finds 0 and 2: one miss of three.
        ("belady", 2),
        ("static", 4),
    ],
)
def test_a_cycle_by_hand(policy: str, hits: int) -> None:
    count = simulate(choices(0, 1, 2, 0, 1, 2), experts=3, slots=2, policy=policy)  # type: ignore[arg-type]

    assert (count.touched, count.hits) == (6, hits)


def test_a_frequent_expert_stays_under_lfu() -> None:
    count = simulate(choices(0, 0, 0, 1, 2, 0), experts=3, slots=1, policy="lfu")

    assert count.hits == 3


@pytest.mark.parametrize("skew", [0.0, 0.6, 1.2])
@pytest.mark.parametrize("slots", [12, 32])
@pytest.mark.parametrize("batch", [1, 4])
def test_closed_forms_are_near_counting(skew: float, slots: int, batch: int) -> None:
    routing = Routing(kind="zipf", skew=skew)
    for policy in ("lru", "static"):
        counted = simulate(
            synthetic_trace(routing, experts=64, top_k=4, tokens=12_000 * batch, seed=1),
            experts=64, slots=slots, policy=policy, batch=batch, warm_passes=500,
        )  # fmt: skip
        closed = ExpertCache(capacity=slots / 64, policy=policy).hits(
            experts=64.0, top_k=4.0, tokens=float(batch), routing=routing
        )

        # Skewed so much, a cache of about one pass's experts is where Che's independence is worst.
        np.testing.assert_allclose(closed.experts, counted.hit_rate, atol=0.012 if skew < 1 else 0.045)
        touched = routing.touched(experts=64.0, top_k=4.0, tokens=float(batch))
        np.testing.assert_allclose(touched, counted.distinct, rtol=0.015)


def test_no_policy_beats_the_one_that_knows_the_future() -> None:
    routing = Routing(kind="zipf", skew=0.8)
    rates = {
        policy: simulate(
            synthetic_trace(routing, experts=32, top_k=2, tokens=4000), experts=32, slots=8, policy=policy
        ).hit_rate
        for policy in ("lru", "lfu", "static", "belady")
    }

    assert max(rates, key=lambda name: rates[name]) == "belady"
    assert rates["lru"] < rates["lfu"] <= rates["static"] + 0.01


def test_all_slots_miss_only_once() -> None:
    count = simulate(
        synthetic_trace(Routing(), experts=16, top_k=4, tokens=500), experts=16, slots=16, policy="lru"
    )

    assert count.touched - count.hits == 16
    assert count.popularity.sum() == count.touched == 2000


def test_a_trace_comes_back_from_either_file(tmp_path: Path) -> None:
    chosen = np.concatenate(list(synthetic_trace(Routing(), experts=8, top_k=2, tokens=100)))
    np.save(tmp_path / "trace.npy", np.stack([chosen, 7 - chosen], axis=1))
    lines = ["token,layer,first,second"]
    lines += [f"{token},{layer},{a},{b}" for token, row in enumerate(chosen) for layer in (0, 1)
              for a, b in [row if layer == 0 else 7 - row]]  # fmt: skip
    (tmp_path / "trace.csv").write_text("\n".join(lines))

    for name in ("trace.npy", "trace.csv"):
        for layer, wanted in ((0, chosen), (1, 7 - chosen)):
            found = np.concatenate(list(read_trace(tmp_path / name, experts=8, layer=layer).chunks()))
            np.testing.assert_array_equal(found, wanted)


def test_popularity_is_counted_layer_by_layer(tmp_path: Path) -> None:
    routing = Routing(kind="zipf", skew=1.0)
    chosen = np.concatenate(list(synthetic_trace(routing, experts=8, top_k=2, tokens=20_000)))
    np.save(tmp_path / "trace.npy", np.stack([chosen, 7 - chosen], axis=1))

    weights = popularity_of(read_trace(tmp_path / "trace.npy", experts=8))

    counted = np.sort(np.bincount(chosen.ravel()))[::-1] / 20_000
    found = Routing(kind="popularity", popularity=weights).inclusion(experts=8.0, top_k=2.0)
    np.testing.assert_allclose(found, counted, rtol=1e-9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("token,layer,a,b\n0,0,1,9\n", "want experts from 0 to 7, got 9"),
        ("token,layer,a,b\n0,0,1,-1\n", "got -1"),
        ("token,layer,a,b\n0,0,1,2\n1,0,3\n", "line 3: want 2 experts, got 1"),
        ("token,layer,a,b\n0,0,1,x\n", "want whole numbers"),
        ("token,layer,a,b\n0,0,3,3\n", "names an expert twice"),
        ("token,layer,a,b\n", "no tokens of layer 0"),
        ("when,what\n", "want the columns token, layer"),
        ("token,layer\n0,0\n", "line 2: want 1 experts, got 0"),
        ("token,layer,a,b\n0,1000000000000,1,2\n", "want layers from 0 to 9999, got 1000000000000"),
        ("token,layer,a,b\n0,0,1,99999999999999999999\n", "line 2: a number is too large"),
    ],
)
def test_a_bad_trace_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(text)

    with pytest.raises(FileFormatError, match=message):
        list(read_trace(file, experts=8).chunks())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 3, 2), "want 4 experts for each token, got 2"),
        ((5, 9, 4), "want layers from 0 to 2, got 3"),
        ((5, 0, 4), "want whole numbers of shape"),
        ((0, 3, 4), "no tokens of layer 0"),
    ],
)
def test_a_trace_of_another_model_is_named(tmp_path: Path, shape: tuple[int, int, int], message: str) -> None:
    file = tmp_path / "trace.npy"
    np.save(file, np.broadcast_to(np.arange(shape[2]), shape))

    with pytest.raises(FileFormatError, match=message):
        popularity_of(read_trace(file, experts=8, top_k=4, layers=3))


def test_a_layer_without_tokens_is_named(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("token,layer,a\n0,0,1\n0,2,1\n")

    with pytest.raises(FileFormatError, match="no tokens of layer 1"):
        popularity_of(read_trace(file, experts=8))


def test_a_long_trace_file_is_counted_in_bounded_memory(tmp_path: Path) -> None:
    file = tmp_path / "trace.npy"
    np.save(file, np.broadcast_to(np.arange(4, dtype=np.int16), (40_000, 8, 4)))

    tracemalloc.start()
    weights = popularity_of(read_trace(file, experts=64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert weights[3] > 1.0 > weights[4]
    assert peak < 24 * 2**20


def test_a_cache_larger_than_the_model_is_refused() -> None:
    with pytest.raises(InvalidSpecError, match="want 0 to 8 slots"):
        simulate(choices(0), experts=8, slots=9, policy="lru")


def test_a_long_trace_is_counted_in_bounded_memory() -> None:
    piece = np.arange(2**16 * 4, dtype=np.int64).reshape(-1, 4) % 64

    def repeated() -> Iterator[NDArray[np.int64]]:
        for _ in range(6):
            yield piece

    tracemalloc.start()
    simulate(repeated(), experts=64, slots=16, policy="lru", batch=64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 16 * 2**20


def test_a_trace_is_counted_over_its_layers_by_policy_and_size(tmp_path: Path) -> None:
    # Layer 0 chooses expert 5 always, layer 1 experts 0, 1, 2 in turn: one LRU slot finds 11 + 0 of 24, three
    # find all but the first of each expert.
    chosen = np.stack([np.full((12, 1), 5), (np.arange(12) % 3)[:, None]], axis=1)
    np.save(tmp_path / "routes.npy", chosen)

    one, three = count_trace(read_trace(tmp_path / "routes.npy", experts=8), [1, 3])

    np.testing.assert_allclose([one.hit_rates["lru"], three.hit_rates["lru"]], [11 / 24, 20 / 24], rtol=1e-12)
    # A fixed expert of each layer is there from the start: all of layer 0, a third of layer 1.
    np.testing.assert_allclose(one.hit_rates["static"], 16 / 24, rtol=1e-12)
    assert three.hit_rates["belady"] >= three.hit_rates["lru"]
    assert (one.distinct, one.reuse) == (1.0, 11 / 24)
