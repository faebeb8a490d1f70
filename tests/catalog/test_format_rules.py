"""Formats of single weights: what a pattern reaches, and what is refused."""

import numpy as np
import pytest

from roofline import InvalidSpecError, analyze, make_scenario, what_if
from roofline.scenario import Scenario


def scenario(*rules: str, **settings: object) -> Scenario:
    return make_scenario("llama-3.1-8b", "h100-sxm", software="datasheet", format_rule=rules, **settings)


def weight_bytes(*rules: str, **settings: object) -> float:
    deployment = scenario(*rules, **settings).deployment
    return float(deployment.model.stored_bytes(deployment.terms))


#: Weights of one feed-forward network of Llama 3.1 8B: three matrices of 4096 x 14336.
NETWORK = 3 * 4096 * 14336


def test_a_rule_halves_the_bytes_of_what_it_matches() -> None:
    saved = weight_bytes() - weight_bytes("*.feed_forward.*=fp8")

    # One byte less each; fp8 has a 4-byte scale for each of 96 matrices.
    np.testing.assert_allclose(saved, 32 * NETWORK - 96 * 4, rtol=1e-12)


def test_depths_reach_those_layers_only() -> None:
    saved = weight_bytes() - weight_bytes("0-3.feed_forward.*=fp8")

    np.testing.assert_allclose(saved, 4 * NETWORK - 12 * 4, rtol=1e-12)
    assert len(scenario("0-3.feed_forward.*=fp8").deployment.model.layer_names()) == 32
    assert weight_bytes("31.feed_forward.*=fp8") > weight_bytes("0-3.feed_forward.*=fp8")


def test_the_first_of_two_matches_holds() -> None:
    both = weight_bytes("*.feed_forward.down=bf16", "*.feed_forward.*=fp8")

    np.testing.assert_allclose(weight_bytes() - both, 32 * NETWORK * 2 / 3 - 64 * 4, rtol=1e-12)


def test_a_rule_excepts_from_the_weight_format_at_any_way_of_naming() -> None:
    named = weight_bytes("*.attention.*=bf16", weights="fp8")
    by_depth = weight_bytes("0-31.attention.*=bf16", weights="fp8")

    np.testing.assert_allclose(named, by_depth, rtol=1e-12)
    assert named > weight_bytes(weights="fp8")


def test_layers_told_apart_cost_what_they_did() -> None:
    plain, split = (analyze(scenario(*rules)) for rules in ((), ("0-3.*=bf16", "4-31.*=fp16")))

    np.testing.assert_allclose(split.tpot_s.value, plain.tpot_s.value, rtol=1e-12)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (["feed_forward"], "want PATTERN=FORMAT"),
        (["*.feed_forwrd.*=fp8"], "matches no weight .nearest: .*feed_forward"),
        (["0-3.feed_forwrd.up=fp8"], "matches no weight .nearest: 'feed_forward.up'"),
        (["40.*=fp8"], "want depths from 0 to 31"),
        (["3-1.*=fp8"], "want depths from 0 to 31"),
        (["*.feed_forward.*=fp9"], "no number format is called 'fp9'"),
        (["*.attention_norm.*=fp8"], "norms and biases only"),
        (["*.up=fp8", "*.feed_forward.up=int4"], "contradicts the rules before it"),
    ],
)
def test_what_cannot_be_is_refused(rules: list[str], message: str) -> None:
    with pytest.raises(InvalidSpecError, match=message):
        scenario(*rules)


def test_planes_and_other_numbers_do_not_multiply() -> None:
    with pytest.raises(InvalidSpecError, match="planes multiply planes only"):
        scenario("*.up=planes2", weights="int8", activations="int8")
    with pytest.raises(InvalidSpecError, match="planes multiply planes only"):
        scenario(weights="planes2", activations="fp8")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activations": "int4"}, "int4 only stores weights"),
        ({"activations": "squeezellm4"}, "only stores weights"),
        ({"kv": "bf16_2of4"}, "kv: bf16_2of4 is a format of weights"),
    ],
)
def test_formats_where_they_cannot_stand_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidSpecError, match=message):
        scenario(**settings)


def test_a_technique_that_sets_formats_contradicts_a_rule() -> None:
    with pytest.raises(InvalidSpecError, match="format_rule and nvfp4 both set"):
        scenario("*.up=fp8", technique=("nvfp4",))


@pytest.mark.parametrize("change", [{"weights": "int4"}, {"model": "llama-2-7b"}])
def test_a_change_that_would_drop_rules_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(InvalidSpecError, match="would drop the format rules"):
        what_if(scenario("0-3.*=fp8"), **change)


def test_an_answer_says_which_rules_hold() -> None:
    assert "formats by rule: *.up=fp8, *.down=int4" in scenario("*.up=fp8", "*.down=int4").assumptions


@pytest.mark.parametrize(
    ("model", "told"), [("qwen3-30b-a3b", True), ("llama-3.1-8b", False)], ids=["experts", "dense"]
)
def test_experts_in_fp8_are_told_apart_from_those_with_scales_per_block(model: str, told: bool) -> None:
    found = make_scenario(model, "h100-sxm", weights="fp8").assumptions
    assert any("fp8_block" in one for one in found) is told
    assert not any("fp8_block" in one for one in make_scenario(model, "h100-sxm").assumptions)
