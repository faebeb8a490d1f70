"""Plans by budget, and the timeline of a step."""

import numpy as np
import pytest

from roofline.errors import InvalidSpecError
from roofline.settings import Settings
from roofline.studies.offload_search import WAITS, chrome_trace, decode_timeline, search_offload
from roofline.timing.timeline import Composition, spans_of

GIB = 2.0**30


def settings(**keys: object) -> Settings:
    return Settings(
        model="qwen3-30b-a3b", hardware="desktop_rtx_4090", weights="q4_0", prompt=128.0, output=16.0,
        **keys,  # type: ignore[arg-type]
    )  # fmt: skip


def test_the_best_plan_is_the_fastest_that_fits_and_never_worsens_with_memory() -> None:
    found = search_offload(settings(), budgets=[6 * GIB, 12 * GIB, 24 * GIB])

    best = [found.best(size) for size in found.budgets]
    speeds = [trial.decode_tokens_per_s for trial in best if trial is not None]
    assert len(speeds) == 3
    assert all(np.diff(speeds) >= 0)
    assert best[-1] is not None
    assert best[-1].plan.name == "resident"
    for trial in found.trials:
        chosen = found.best(trial.budget_bytes)
        assert chosen is not None
        assert not trial.fits or trial.decode_tokens_per_s <= chosen.decode_tokens_per_s
        assert trial.fits == (not trial.shortfall_bytes)


def test_a_model_that_fits_nowhere_says_what_is_lacking() -> None:
    found = search_offload(
        Settings(model="llama-3.1-405b", hardware="raspberry-pi-5", prompt=64.0, output=8.0),
        budgets=[8 * GIB],
    )

    assert found.best(8 * GIB) is None
    lacking = {trial.plan.name: trial.shortfall_bytes for trial in found.trials}
    assert lacking["resident"]["unified"] > 700e9
    assert lacking["map from storage"]["storage"] > 500e9


@pytest.mark.parametrize("budget", [0.0, 80 * GIB])
def test_a_budget_beyond_the_memory_is_refused(budget: float) -> None:
    with pytest.raises(InvalidSpecError, match="at most the 24 GiB installed"):
        search_offload(settings(), budgets=[budget])


def test_a_timeline_fills_the_step() -> None:
    scenario = settings(offload="storage", memory_limit="8 GiB").scenario()
    timeline = decode_timeline(scenario)

    last = max(span.end_s for span in timeline.spans)
    assert 0 < last <= timeline.time_s * (1 + 1e-9)
    assert timeline.binding == "storage"
    assert 0 < timeline.bubble_s < timeline.time_s
    assert {span.layer for span in timeline.spans} == {"embedding", "decoder", "final", "head", WAITS}
    assert {span.stream for span in timeline.spans} == {"engine", "storage"}
    events = chrome_trace(timeline)["traceEvents"]
    assert sum(event["ph"] == "X" for event in events) == len(timeline.spans)


def test_a_timeline_shows_waits_and_every_engine() -> None:
    fetched = decode_timeline(settings(offload="host", memory_limit="8 GiB").scenario())
    shared = decode_timeline(
        Settings(
            model="mistral-7b-v0.1", hardware="phone-snapdragon-8-gen-3", weights="int4", engine="cpu+npu"
        ).scenario()
    )

    still = sum(span.end_s - span.start_s for span in fetched.spans if span.layer == WAITS)
    moved = sum(span.end_s - span.start_s for span in fetched.spans if span.stream == "host_memory")
    np.testing.assert_allclose(moved, fetched.busy_s["host_memory"], rtol=1e-9)
    assert 0.9 * moved < still <= fetched.bubble_s
    assert {span.stream for span in shared.spans} == {"engine", "npu"}


def test_chains_start_together_and_streams_of_a_chain_follow_each_other() -> None:
    streams = {"a": {"engine": 2.0, "link": 1.0, "storage": 4.0}}
    spans = spans_of(["a", "a"], streams, Composition())

    # Two layers of 1 s engine, then 0.5 s link, beside 2 s storage, which sets the pace.
    found = [(span.stream, span.start_s, span.end_s) for span in spans]
    assert found == [
        ("engine", 0.0, 1.0), ("link", 1.0, 1.5), ("storage", 0.0, 2.0),
        ("engine", 2.0, 3.0), ("link", 3.0, 3.5), ("storage", 2.0, 4.0),
    ]  # fmt: skip
