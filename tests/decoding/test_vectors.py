"""Every number of a way of decoding may be an array: vector in, vector out."""

import numpy as np
import pytest

from roofline import make_scenario
from roofline.analysis import analyze
from roofline.decoding.acceptance import Acceptance
from roofline.decoding.draft_heads import autoregressive_head, first_layers
from roofline.decoding.drafters import Lookup, ModelDrafter
from roofline.decoding.macro_step import MacroStep
from roofline.decoding.speculative import Speculative
from roofline.decoding.superposed import Superposed
from roofline.decoding.tree import SpecTree
from roofline.scenario import Scenario


def with_decoding(name: str) -> Scenario:
    scenario = make_scenario("llama-3.1-8b", "h100-sxm", prompt=600, output=64, samples=2)
    target = scenario.deployment
    rates = Acceptance(given="rank", rates=((0.6, 0.2),))
    tree = SpecTree.branching([2, 2])
    decodings = {
        "lookup": Speculative(tree=tree, acceptance=rates, drafter=Lookup(host_s=1e-4, extra_tokens=4.0)),
        "layer": Speculative(tree=tree, acceptance=rates, drafter=autoregressive_head(target)),
        "short": Speculative(
            tree=tree, acceptance=rates,
            drafter=ModelDrafter(deployment=target, shares="weights", context_tokens=100.0),
        ),
        "macro": MacroStep(micro=first_layers(target, 2).deployment, tokens_per_step=2.0, merged_prompt=True),
        "superposed": Superposed(host_s=1e-4),
    }  # fmt: skip
    return scenario.replace(decoding=decodings[name])


@pytest.mark.parametrize(
    ("name", "path", "values"),
    [
        ("lookup", "accept_s", (0.0, 1e-3, 2e-3)),
        ("lookup", "acceptance.rates.0.0", (0.0, 0.4, 0.7)),
        ("lookup", "acceptance.rates.0.1", (0.0, 0.1, 0.3)),
        ("lookup", "drafter.host_s", (0.0, 1e-3, 2e-3)),
        ("lookup", "drafter.extra_tokens", (0.0, 7.0, 30.0)),
        ("layer", "drafter.host_s", (0.0, 1e-3, 2e-3)),
        ("layer", "drafter.copies", (1.0, 2.0, 4.0)),
        ("layer", "drafter.deployment.model.head.vocabulary_size", (8000.0, 32000.0, 128256.0)),
        ("layer", "acceptance.rates.0.0", (0.0, 0.4, 0.7)),
        ("short", "drafter.context_tokens", (50.0, 100.0, 600.0)),
        ("macro", "tokens_per_step", (1.0, 2.5, 4.0)),
        ("superposed", "host_s", (0.0, 1e-3, 2e-3)),
    ],
)
def test_an_array_of_a_number_equals_scalar_calls(name: str, path: str, values: tuple[float, ...]) -> None:
    scenario = with_decoding(name)
    array = analyze(scenario.replace_at(f"decoding.{path}", np.asarray(values)), axes=1)

    for index, value in enumerate(values):
        point = analyze(scenario.replace_at(f"decoding.{path}", value))
        for field in ("ttft_s", "tpot_s", "end_to_end_s"):
            for end in ("value", "low", "high"):
                swept = np.broadcast_to(np.asarray(getattr(getattr(array, field), end)), (len(values),))
                np.testing.assert_allclose(
                    swept[index], getattr(getattr(point, field), end), rtol=1e-9, err_msg=f"{field} {end}"
                )
        used = np.broadcast_to(np.asarray(array.memory.used_bytes["hbm"]["weights"]), (len(values),))
        np.testing.assert_allclose(used[index], point.memory.used_bytes["hbm"]["weights"], rtol=1e-12)
