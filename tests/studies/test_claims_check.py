"""Published speed-ups against what hardware allows and software gives."""

from dataclasses import replace

import numpy as np
import pytest

from roofline import make_scenario
from roofline.decoding.acceptance import Acceptance
from roofline.decoding.draft_heads import autoregressive_head
from roofline.decoding.drafters import ModelDrafter
from roofline.decoding.speculative import Speculative
from roofline.decoding.tree import SpecTree
from roofline.errors import InvalidSpecError
from roofline.scenario import Scenario
from roofline.studies.claims_check import check_claim, needed_tokens


def shorter_context(context: float, rate: float, length: int) -> tuple[Scenario, Scenario]:
    """RAPID: the target drafts for itself from 8,192 tokens."""
    plain = make_scenario("llama-3.1-8b", "a100-80gb", context=context, software="datasheet")
    drafter = ModelDrafter(deployment=plain.deployment, shares="weights", context_tokens=8192.0)
    decoding = Speculative(
        tree=SpecTree.chain(length), acceptance=Acceptance(given="depth", rates=((rate,),)), drafter=drafter
    )
    return plain, plain.replace(decoding=decoding)


def layered(software: str | None = None, host_s: float = 0.0) -> tuple[Scenario, Scenario]:
    plain = make_scenario("llama-3.1-8b", "h100-sxm", software=software, context=600)
    layer = replace(autoregressive_head(plain.deployment, draft_vocabulary=32000.0), host_s=host_s)
    decoding = Speculative(
        tree=SpecTree.chain(4), acceptance=Acceptance(given="tokens", rates=((2.6,),)), drafter=layer
    )
    return plain, plain.replace(decoding=decoding)


def test_a_bandwidth_bound_drafter_of_the_same_size_cannot_give_twofold() -> None:
    # RAPID, arXiv:2502.20330: more than 2 x. At an acceptance of 0.9 and 128K tokens both sides read
    # their weights and caches; no software makes the ratio larger than their bytes do.
    found = check_claim(*shorter_context(130_000.0, 0.9, 3), 2.0)

    assert found.verdict == "needs a slower baseline"
    np.testing.assert_allclose(float(found.expected.value), 1.38, rtol=0.02)
    assert found.decides == "draft"


def test_a_figure_within_the_models_error_is_likely() -> None:
    plain, drafted = layered()
    expected = float(check_claim(plain, drafted, 1.0).expected.value)

    assert check_claim(plain, drafted, expected * 1.1).verdict == "likely"
    assert check_claim(plain, drafted, expected * 0.5).verdict == "less than expected"
    assert check_claim(plain, drafted, 4.0).verdict == "needs a slower baseline"


def test_what_decides_is_what_costs_most() -> None:
    assert check_claim(*layered(host_s=3e-3), 2.0).decides == "draft"
    plain = make_scenario("llama-3.1-8b", "h100-sxm", batch=256, context=600)
    wide = Speculative(tree=SpecTree.chain(6), acceptance=Acceptance(given="tokens", rates=((3.0,),)))
    assert check_claim(plain, plain.replace(decoding=wide), 2.0).decides == "verification"
    single = plain.replace(decoding=wide).replace_at("workload.batch_size", 1.0)
    assert check_claim(plain.replace_at("workload.batch_size", 1.0), single, 2.0).decides == "tokens"


def test_the_tokens_a_claim_needs_give_it() -> None:
    plain, drafted = layered()

    tokens = needed_tokens(plain, drafted, 1.5)
    checked = drafted.replace_at("decoding.acceptance.rates.0.0", tokens)

    np.testing.assert_allclose(float(check_claim(plain, checked, 1.5).expected.value), 1.5, rtol=1e-3)


def test_the_band_of_a_ratio_is_narrower_than_that_of_a_time() -> None:
    expected = check_claim(*layered(), 2.0).expected

    assert expected.low <= expected.value <= expected.high
    assert float(expected.high / expected.low) < 1.5


def test_a_claim_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidSpecError, match="above 0"):
        check_claim(*layered(), 0.0)
