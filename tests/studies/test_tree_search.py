"""The chosen tree against every tree there is, and the cases where none is right."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from roofline import make_scenario
from roofline.decoding.acceptance import Acceptance
from roofline.decoding.draft_heads import autoregressive_head, parallel_heads
from roofline.decoding.drafters import Lookup, ModelDrafter
from roofline.decoding.speculative import Speculative
from roofline.decoding.tree import SpecTree
from roofline.errors import InvalidSpecError
from roofline.scenario import Scenario
from roofline.studies.tree_search import break_even_batch, iteration_time, search_tree, speed_up

RANKS = Acceptance(given="rank", rates=((0.6, 0.15, 0.08),))


def scenario(**settings: object) -> Scenario:
    return make_scenario("llama-3.1-8b", "h100-sxm5-80gb", **{"context": 500, **settings})


def every_tree(nodes: int, depth: int) -> list[SpecTree]:
    """All trees of up to `nodes` nodes whose siblings are the likeliest candidates, at most three."""
    found: dict[tuple[int, ...], SpecTree] = {}
    for size in range(1, nodes + 1):
        for parents in product(*(range(-1, node) for node in range(size))):
            tree = SpecTree(parents=parents)
            if tree.depth <= depth and tree.sibling_ranks.max() < 3 and list(parents) == sorted(parents):
                found[parents] = tree
    return list(found.values())


@pytest.mark.parametrize("software", ["datasheet", None], ids=["bound", "fitted"])
@pytest.mark.parametrize("kind", ["lookup", "layer", "heads"])
def test_the_search_finds_the_best_of_all_small_trees(software: str | None, kind: str) -> None:
    given = scenario(software=software, batch=8)
    drafter = {
        "lookup": Lookup(),
        "layer": autoregressive_head(given.deployment),
        "heads": parallel_heads(given.deployment, 4),
    }[kind]
    found = search_tree(given, RANKS, drafter, nodes=5, depth=4)

    rivals = [
        float(
            speed_up(
                given.replace(decoding=Speculative(tree=tree, acceptance=RANKS, drafter=drafter))
            ).speed_up
        )
        for tree in every_tree(5, 4)
    ]

    # The search leaves out the drafts' own cached tokens, 5 of 500, while it compares.
    np.testing.assert_allclose(float(found.result.speed_up), max(rivals), rtol=1e-3)


def test_rates_by_depth_make_a_chain() -> None:
    found = search_tree(scenario(), Acceptance(given="depth", rates=((0.7,),)), Lookup(), nodes=16)

    assert found.best.depth == found.best.nodes


def test_a_drafter_as_dear_as_the_target_is_not_used() -> None:
    given = scenario()
    found = search_tree(given, RANKS, ModelDrafter(deployment=given.deployment), nodes=16)

    assert found.tree is None
    assert found.scenario.decoding.kind == "autoregressive"
    assert float(found.result.speed_up) < 1.0


def test_a_full_device_does_not_gain_and_an_idle_one_does() -> None:
    layer = autoregressive_head(scenario().deployment)

    assert search_tree(scenario(batch=1), RANKS, layer, nodes=16, depth=5).tree is not None
    assert search_tree(scenario(batch=2048), RANKS, layer, nodes=16, depth=5).tree is None


def test_a_fixed_budget_is_spent_on_tokens() -> None:
    found = search_tree(scenario(batch=64), RANKS, Lookup(), nodes=12, depth=6, goal="tokens")

    assert found.best.nodes == 12
    assert found.result.tokens == max(
        search_tree(scenario(), RANKS, Lookup(), nodes=12, depth=level, goal="tokens").result.tokens
        for level in range(1, 7)
    )


def test_the_break_even_batch_is_where_the_gain_ends() -> None:
    given = scenario()
    decoding = Speculative(
        tree=SpecTree.chain(4), acceptance=Acceptance(given="depth", rates=((0.6,),)),
        drafter=autoregressive_head(given.deployment),
    )  # fmt: skip
    drafted = given.replace(decoding=decoding)

    batch = break_even_batch(drafted)

    assert batch is not None
    assert batch > 1
    assert speed_up(drafted.replace_at("workload.batch_size", float(batch))).speed_up > 1.0
    assert speed_up(drafted.replace_at("workload.batch_size", float(batch + 1))).speed_up <= 1.0


def test_parts_of_an_iteration_add_up_to_it() -> None:
    given = scenario()
    layer = replace(autoregressive_head(given.deployment), host_s=3e-4)
    drafted = given.replace(
        decoding=Speculative(tree=SpecTree.branching([3, 2]), acceptance=RANKS, drafter=layer)
    )

    parts = iteration_time(drafted)

    whole = parts.draft_s + parts.verify_s + parts.overhead_s + parts.host_s
    np.testing.assert_allclose(whole, float(speed_up(drafted).iteration_s), rtol=1e-9)
    assert min(parts.draft_s, parts.verify_s, parts.overhead_s) > 0.0
    assert parts.host_s >= 2 * 3e-4


def test_measured_tokens_cannot_be_searched() -> None:
    with pytest.raises(InvalidSpecError, match="one tree"):
        search_tree(scenario(), Acceptance(given="tokens", rates=((3.0,),)), Lookup())
