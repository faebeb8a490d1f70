"""Speculative decoding through whole analyses."""

from dataclasses import replace

import numpy as np
import pytest

from roofline import analyze, make_scenario
from roofline.decoding.acceptance import Acceptance
from roofline.decoding.draft_heads import autoregressive_head, first_layers, parallel_heads, sequential_heads
from roofline.decoding.drafters import Lookup, ModelDrafter
from roofline.decoding.speculative import Speculative
from roofline.decoding.tree import SpecTree
from roofline.errors import InvalidSpecError, UnknownNameError
from roofline.graph.blocks.embedding import Embedding
from roofline.scenario import Scenario

MODEL, DEVICE = "llama-3.1-8b", "h100-sxm5-80gb"


def plain(**settings: object) -> Scenario:
    return make_scenario(MODEL, DEVICE, **{"software": "datasheet", "context": 1000, **settings})


def speculative(scenario: Scenario, length: int, rate: float, **changes: object) -> Scenario:
    decoding = Speculative(
        tree=SpecTree.chain(length), acceptance=Acceptance(given="depth", rates=((rate,),)), **changes
    )  # type: ignore[arg-type]
    return scenario.replace(decoding=decoding)


def test_verification_computes_every_node_and_reads_the_cache_once() -> None:
    # 5 drafts and the root: 6 tokens, 6 x 7 / 2 = 21 pairs among them and 6 x 1000 with the past.
    report = analyze(speculative(plain(), 5, 0.8))

    rows = {row.operator.name: row.operator for row in report.decode.rows}
    assert rows["attention"].flops == 32 * (6 * 1000 + 21) * 2 * (128 + 128)
    assert rows["head"].flops == 2 * 6 * 4096 * 128256
    assert rows["attention"].read["kv_cache"] == analyze(plain()).decode.rows[4].operator.read["kv_cache"]


def test_free_drafts_that_are_always_accepted_divide_the_passes() -> None:
    report = analyze(speculative(plain(), 4, 1.0))

    assert report.decode.tokens == 5.0
    np.testing.assert_allclose(report.tpot_s.value, report.decode.time_s.value / 5.0, rtol=1e-12)


@pytest.mark.parametrize("software", ["datasheet", None])
@pytest.mark.parametrize("length", [1, 4, 16])
def test_drafts_that_are_never_accepted_never_win(software: str | None, length: int) -> None:
    scenario = plain(software=software)

    assert analyze(speculative(scenario, length, 0.0)).tpot_s.value >= analyze(scenario).tpot_s.value


def test_a_chain_of_draft_calls_is_counted_and_grows_its_own_cache() -> None:
    scenario = plain()
    draft = ModelDrafter(deployment=scenario.deployment)

    passes = (
        speculative(scenario, 4, 0.8, drafter=draft)
        .decoding.iteration(scenario.deployment, scenario.workload, 0.0)
        .passes
    )

    assert [float(part.count) for part in passes] == [1.0, 3.0, 1.0]
    assert [part.phase for part in passes] == ["draft", "draft", "verification"]
    # The later three calls have 1, 2 and 3 drafted tokens cached: 2 in the mean.
    assert passes[1].step.sequences[0].past[-1].tokens == 2.0


def test_a_tree_drafts_a_level_per_call_and_heads_draft_all_at_once() -> None:
    scenario, tree = plain(), SpecTree.branching([4, 2, 2])
    rate = Acceptance(given="depth", rates=((0.8, 0.6, 0.4),))

    def tokens_and_calls(drafter: ModelDrafter) -> list[tuple[float, float]]:
        decoding = Speculative(tree=tree, acceptance=rate, drafter=drafter)
        passes = decoding.iteration(scenario.deployment, scenario.workload, 0.0).passes
        return [(float(part.step.tokens), float(part.count)) for part in passes]

    # Root, 4 and 8 nodes are computed; the 16 leaves are only proposed. Verification: 28 + root.
    layer = autoregressive_head(scenario.deployment)
    expected = 1 + 0.8 * (1 + 0.6 * (1 + 0.4))
    np.testing.assert_allclose(tokens_and_calls(layer), [(expected, 1), (4, 1), (8, 1), (29, 1)], rtol=1e-12)
    assert tokens_and_calls(parallel_heads(scenario.deployment, 5)) == [(1, 1), (29, 1)]


def test_five_medusa_heads_on_vicuna_size_are_the_published_file() -> None:
    # 5 (4096^2 + 4096 x 32000) weights of 2 bytes: the 1.48 GB file of FasterDecoding's heads.
    target = plain().deployment
    model = replace(target.model, head=replace(target.model.head, vocabulary_size=32000.0))

    heads = parallel_heads(replace(target, model=model), 5).deployment.model

    np.testing.assert_allclose(2 * float(heads.parameters) / 1e9, 1.48, rtol=5e-3)


def test_memory_counts_what_is_stored_and_only_that() -> None:
    scenario = plain(batch=4)
    target = scenario.deployment

    def weights(drafter: ModelDrafter | Lookup) -> float:
        memory = analyze(speculative(scenario, 3, 0.5, drafter=drafter)).memory
        return float(memory.used_bytes["hbm"]["weights"])

    alone = weights(Lookup())
    assert weights(first_layers(target, 8)) == alone
    assert weights(ModelDrafter(deployment=target)) == 2 * alone
    head = 4096 * 128256
    assert weights(parallel_heads(target, 3)) - alone > 3 * 2 * head
    assert weights(sequential_heads(target, 3)) - alone > 3 * 2 * head
    layer = weights(autoregressive_head(target)) - alone
    assert layer < 2 * (2 * 4096 * 4096 + 4096 * (2 * 4096 + 2 * 1024) + 3 * 4096 * 14336) + 1e5
    assert weights(autoregressive_head(target, draft_vocabulary=32000.0)) - alone - layer == 2 * 4096 * 32000


def test_target_and_draft_that_do_not_fit_say_so() -> None:
    scenario = plain(batch=8)
    big = replace(
        scenario.deployment,
        model=replace(
            scenario.deployment.model,
            order=tuple(replace(run, repeat=160) for run in scenario.deployment.model.order),
        ),
    )

    assert analyze(scenario).fits
    assert not analyze(speculative(scenario, 3, 0.5, drafter=ModelDrafter(deployment=big))).fits


def test_a_drafter_with_another_vocabulary_is_refused() -> None:
    scenario = plain()
    model = replace(scenario.deployment.model, embedding=Embedding(vocabulary_size=32000.0))
    other = ModelDrafter(deployment=replace(scenario.deployment, model=model))

    with pytest.raises(InvalidSpecError, match="vocabulary"):
        analyze(speculative(scenario, 3, 0.5, drafter=other))


def test_rates_batches_and_contexts_on_axes_equal_single_points() -> None:
    rates, batches = np.array([0.3, 0.6, 0.9]), np.array([1.0, 8.0, 64.0])
    scenario = plain()
    layer = autoregressive_head(scenario.deployment)
    grid = speculative(scenario, 3, 0.5, drafter=layer)
    grid = grid.replace_at("decoding.acceptance.rates.0.0", rates[:, None])
    grid = grid.replace_at("workload.batch_size", batches[None, :])

    from roofline.analysis import analyze as analyze_grid

    swept = analyze_grid(grid, axes=2).tpot_s.value

    for i, rate in enumerate(rates):
        for j, batch in enumerate(batches):
            point = speculative(scenario, 3, float(rate), drafter=layer).replace_at(
                "workload.batch_size", float(batch)
            )
            np.testing.assert_allclose(np.asarray(swept)[i, j], analyze(point).tpot_s.value, rtol=1e-12)


def test_host_time_of_draft_calls_is_paid_for_each_call() -> None:
    scenario = plain()
    target = scenario.deployment
    free, slow = autoregressive_head(target), replace(autoregressive_head(target), host_s=5e-4)

    without = analyze(speculative(scenario, 6, 0.5, drafter=free)).decode.time_s.value
    with_host = analyze(speculative(scenario, 6, 0.5, drafter=slow)).decode.time_s.value

    np.testing.assert_allclose(with_host - without, 6 * 5e-4, rtol=1e-9)


def test_the_keys_of_a_user_make_the_same_decoding() -> None:
    scenario = plain(speculate="tree:4,2,2", accept="0.8,0.6,0.4", draft="eagle3:32000", draft_host="0.5 ms")

    decoding = scenario.decoding

    assert isinstance(decoding, Speculative)
    assert decoding.tree.nodes == 28
    np.testing.assert_allclose(analyze(scenario).decode.tokens, 1 + 0.8 + 0.48 + 0.192, rtol=1e-12)
    assert isinstance(decoding.drafter, ModelDrafter)
    assert decoding.drafter.host_s == 5e-4
    assert decoding.drafter.deployment.model.head.vocabulary_size == 32000.0


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"accept": 0.8}, InvalidSpecError),
        ({"speculate": "chain:4"}, InvalidSpecError),
        ({"speculate": "chain:4", "accept": "0.8,0.7"}, InvalidSpecError),
        ({"speculate": "chian:4", "accept": 0.8}, InvalidSpecError),
        ({"speculate": "chain:4", "accept": 1.5}, InvalidSpecError),
        ({"speculate": "chain:4", "accept": 0.8, "draft": "eagle4"}, UnknownNameError),
        ({"speculate": "chain:4", "accept": 0.8, "draft": "medusa"}, InvalidSpecError),
        ({"speculate": "chain:4", "accept": 0.8, "draft": "mtp"}, InvalidSpecError),
        ({"speculate": "chain:4", "accept": 0.8, "draft": "self:99"}, InvalidSpecError),
        (
            {"speculate": "chain:4", "accept": 0.8, "draft": "eagle", "draft_weights": "int4"},
            InvalidSpecError,
        ),
        ({"speculate": "tree:1000,1000", "accept": 0.8}, InvalidSpecError),
        ({"speculate": "parents:1,0", "accept": 0.8}, InvalidSpecError),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        plain(**settings)


@pytest.mark.parametrize("draft", ["eagle", "short:512", "medusa:3"])
def test_a_change_of_the_hardware_reaches_the_drafter(draft: str) -> None:
    given = {"speculate": "chain:3", "accept": 0.7, "draft": draft}
    whole = plain(**given, set={"memory.hbm.bandwidth": "6.7 TB/s"})
    path = "deployment.system.device.memory.hbm.bandwidth_bytes_per_s"

    changed = plain(**given).replace_at(path, 6.7e12)

    assert analyze(changed).tpot_s.value == analyze(whole).tpot_s.value
    assert changed.decoding.drafter.deployment.system is changed.deployment.system  # type: ignore[union-attr]


def test_studies_change_tree_acceptance_formats_and_degrees() -> None:
    from roofline.studies.changes import apply

    given = {"draft": "eagle", "speculate": "chain:3", "accept": 0.7, "context": 1000}
    scenario = plain(**given)

    for key, value in (
        ("speculate", "tree:2,2"), ("accept", "0.5"), ("weights", "int8"), ("devices", 2.0),
        ("hardware", "a100-80gb"), ("batch", 8.0),
    ):  # fmt: skip
        settings = {"hardware": DEVICE, "software": "datasheet", **given, key: value}
        again = make_scenario(MODEL, settings.pop("hardware"), **settings)  # type: ignore[arg-type]
        np.testing.assert_allclose(
            analyze(apply(scenario, key, value)).tpot_s.value, analyze(again).tpot_s.value, rtol=1e-12
        )


def test_a_drafter_made_for_another_target_is_refused() -> None:
    from roofline.studies.changes import apply

    with pytest.raises(InvalidSpecError, match="made for another model"):
        analyze(apply(plain(draft="eagle", speculate="chain:3", accept=0.7), "model", "llama-3.1-70b"))
