"""Costs of several samples, against hand counts and published shapes."""

import numpy as np
import pytest

from roofline.analysis import analyze
from roofline.api import make_scenario
from roofline.errors import InvalidSpecError
from roofline.scenario import Scenario
from roofline.studies.reasoning import (
    KINETICS_INTENSITY,
    CoveragePoints,
    PowerLaw,
    best_of,
    effective_flops,
    largest_samples,
)


@pytest.fixture(scope="module")
def base() -> Scenario:
    return make_scenario("llama-3.1-8b", "h100-sxm", software="datasheet", prompt=1024, output=256)


def test_one_sample_costs_one_request(base: Scenario) -> None:
    cost = best_of(base, [1.0], dollars_per_hour=3.6, watts=700.0)
    time_s = analyze(base, intervals=False).end_to_end_s.value

    np.testing.assert_allclose(cost.time_s, [time_s], rtol=1e-12)
    np.testing.assert_allclose(cost.dollars, [time_s / 1000], rtol=1e-12)
    np.testing.assert_allclose(cost.joules, [700 * time_s], rtol=1e-12)


def test_samples_cost_less_than_requests_until_memory_is_full(base: Scenario) -> None:
    cost = best_of(base, [1.0, 10.0, 100.0, 10000.0])

    assert np.all(np.diff(cost.time_s) > 0)
    assert np.all(np.diff(cost.time_s / cost.samples)[:2] < 0)
    assert cost.rounds[:3].tolist() == [1, 1, 1]
    assert cost.rounds[3] > 1


def test_a_cap_is_the_last_number_that_fits(base: Scenario) -> None:
    cap = largest_samples(base, 10000.0)

    assert analyze(base.replace_at("workload.samples", cap)).fits == 1
    assert analyze(base.replace_at("workload.samples", cap + 1.0)).fits == 0


def test_a_model_that_does_not_fit_has_no_samples() -> None:
    with pytest.raises(InvalidSpecError, match="one sample does not fit"):
        best_of(make_scenario("llama-2-13b", "t4", software="datasheet"), [4.0])


def test_coverage_goes_through_the_published_points() -> None:
    # SWE-bench Lite: 15.9 % with one sample, 56 % with 250 (arXiv:2407.21787, abstract).
    # Through both, b = ln(ln 0.56 / ln 0.159) / ln 250 = -0.2090 and a = ln 0.159 = -1.839.
    law = PowerLaw(a=-1.839, b=-0.2090)

    np.testing.assert_allclose(law.at(np.array([1.0, 250.0])), [0.159, 0.56], rtol=5e-4)
    np.testing.assert_allclose(
        CoveragePoints(samples=(1.0, 100.0), shares=(0.2, 0.6)).at(10.0), 0.4, rtol=1e-12
    )


def test_solved_problems_get_cheaper_or_dearer_as_coverage_says(base: Scenario) -> None:
    cost = best_of(base, [1.0, 4.0], coverage=CoveragePoints(samples=(1.0, 4.0), shares=(0.1, 0.9)),
                   dollars_per_hour=2.0)  # fmt: skip

    assert cost.dollars_per_solved is not None
    assert cost.dollars_per_solved[1] < cost.dollars_per_solved[0]


def kinetics_flops(
    *,
    parameters: float,
    attention_width: float,
    cache_width: float,
    prompt: float,
    generated: float,
    trials: float,
) -> float:
    """Return Kinetics' own eFLOPs of a question [FLOP].

    Widths are heads x head width x layers, of queries and of keys:
    ``n (2 N D + 2 (2 C + D) D a) + I 2 (2 C + n D) D c`` (cost_model_ntrial.py of
    Infini-AI-Lab/Kinetics at af7fa57). Two defects are absent from `effective_flops`:
    weights are never read, and I is an 8-bit rate beside keys of two bytes, twice the 16-bit ridge.
    """
    own = 2.0 * parameters * generated + 2.0 * (2.0 * prompt + generated) * generated * attention_width
    traffic = 2.0 * (2.0 * prompt + trials * generated) * generated * cache_width
    return trials * own + KINETICS_INTENSITY * traffic


def test_kinetics_counts_agree_with_our_graph_where_both_count(base: Scenario) -> None:
    # Llama 3.1 8B: 32 layers of 32 query heads and 8 KV heads of 128; weights that multiply a token.
    model, layers = base.deployment.model, 32.0
    multiplied = model.parameters - model.hidden_size * 128256.0
    for trials in (1.0, 8.0):
        theirs = kinetics_flops(
            parameters=multiplied, attention_width=layers * 32 * 128, cache_width=layers * 8 * 128,
            prompt=1024.0, generated=256.0, trials=trials,
        )  # fmt: skip
        shared = base.replace_at("workload.samples", trials).replace_at(
            "deployment.policy", base.deployment.terms.policy
        )
        ours = effective_flops(
            shared.replace_at("deployment.policy.shared_prefix", True),
            flops_per_byte=KINETICS_INTENSITY, weights=False,
        )  # fmt: skip

        # They count 256 steps where 255 passes run, each trial's tokens in every other trial's reads
        # as we do, no writes to the cache and no norms.
        np.testing.assert_allclose(ours, theirs, rtol=0.02)


def test_weights_are_what_kinetics_leaves_out(base: Scenario) -> None:
    with_weights, without = (effective_flops(base, weights=counted) for counted in (True, False))

    assert with_weights > 2 * without


@pytest.mark.parametrize("samples", [[], [0.5]])
def test_impossible_samples_are_refused(samples: list[float], base: Scenario) -> None:
    with pytest.raises(InvalidSpecError, match="samples"):
        best_of(base, samples)


def test_impossible_coverage_is_refused() -> None:
    with pytest.raises(InvalidSpecError, match="below 0"):
        PowerLaw(a=0.1, b=-0.5)
    with pytest.raises(InvalidSpecError, match="between 0 and 1"):
        CoveragePoints(samples=(1.0, 2.0), shares=(0.5, 1.5))
