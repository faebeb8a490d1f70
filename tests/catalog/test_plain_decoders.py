"""A plain decoder has the size it is asked for, and is as fast as models of that size."""

from dataclasses import replace

import numpy as np
import pytest

from roofline.analysis import analyze_decode
from roofline.catalog.models import load_model
from roofline.catalog.plain_decoders import SHAPE_SPREAD, Size, plain_decoder, size_in
from roofline.errors import InvalidSpecError
from roofline.settings import Settings

SIZES = (0.1e9, 0.5e9, 1.5e9, 3e9, 7.24e9, 13e9, 34e9, 70e9, 405e9)
MIXTURES = ((4e9, 0.6e9), (21e9, 3e9), (30.5e9, 3.3e9), (46.7e9, 12.9e9), (235e9, 22e9), (1e12, 32e9))


@pytest.mark.parametrize("total", SIZES)
def test_a_dense_decoder_has_its_size(total: float) -> None:
    found = plain_decoder(Size(total=total, active=total))

    np.testing.assert_allclose(float(found.parameters), total, rtol=1e-12)
    np.testing.assert_allclose(float(found.active_parameters), total, rtol=1e-12)


@pytest.mark.parametrize(("total", "active"), MIXTURES)
def test_a_mixture_has_its_size_and_nearly_its_active_part(total: float, active: float) -> None:
    found = plain_decoder(Size(total=total, active=active))

    np.testing.assert_allclose(float(found.parameters), total, rtol=1e-12)
    # Experts are whole, so that the active part misses by half an expert in E at most.
    np.testing.assert_allclose(float(found.active_parameters), active, rtol=0.02)


@pytest.mark.parametrize("cache", [1 / 3.1, 1.0, 3.1])
def test_the_cache_is_scaled_and_the_size_is_kept(cache: float) -> None:
    size = Size(total=8e9, active=8e9)
    usual, found = (
        vars(plain_decoder(size, cache=factor).layers["decoder"]["attention"])["kv_heads"]
        for factor in (1.0, cache)
    )

    assert 0.5 < found / usual / cache < 2.0
    np.testing.assert_allclose(float(plain_decoder(size, cache=cache).parameters), 8e9, rtol=1e-12)


@pytest.mark.parametrize(("total", "active"), [(1e6, 1e6), (1e14, 1e14), (7e9, 8e9), (1e12, 1e7), (0.0, 0.0)])
def test_what_is_no_size_is_refused(total: float, active: float) -> None:
    with pytest.raises(InvalidSpecError, match="no plain decoder has"):
        plain_decoder(Size(total=total, active=active))


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("Some-13B-chat", (13, 13)), ("SmallThinker-21B-A3B (sparse)", (21, 3)),
        ("smol 135M", (0.135, 0.135)), ("DeepSeekOCR 3B(A570M)", (3, 0.57)), ("acme/Base-v1.5-7b_q4", (7, 7)),
        ("Mixtral-8x7B", None),
        ("Gemma E2B", None), ("Model 9", None), ("7B draft of 70B", None),
    ],
)  # fmt: skip
def test_a_name_states_one_size_or_none(name: str, billions: tuple[float, float] | None) -> None:
    found = size_in(name)

    assert (found is None) == (billions is None)
    if found is not None and billions is not None:
        np.testing.assert_allclose((found.total / 1e9, found.active / 1e9), billions, rtol=1e-12)


#: One model of each maker, dense and mixed.
KNOWN = (
    "llama-3.1-8b", "qwen2.5-1.5b", "mistral-7b-v0.1", "gemma-2b", "phi-2", "opt-13b", "pythia-1.4b",
    "olmo-2-7b", "granite-3.1-8b", "yi-34b", "gpt2-xl", "falcon-40b", "mixtral-8x7b", "qwen3-30b-a3b",
    "gpt-oss-20b", "deepseek-v2-lite-16b", "olmoe-1b-7b", "phi-3.5-moe", "minimax-m2.5", "glm-4.5-air",
)  # fmt: skip


def test_four_of_five_known_models_decode_within_the_stated_spread() -> None:
    """One sequence, 128 tokens of cache, a card at 16 bits: what is not the cache's."""
    inside = []
    for name in KNOWN:
        spec = load_model(name).value
        active = float(spec.active_parameters if "experts" in str(spec.layers) else spec.language_parameters)
        plain = plain_decoder(Size(total=float(spec.language_parameters), active=active))
        known = Settings(model=name, hardware="rtx-4090", weights="bf16", prompt=64, output=1).scenario()
        other = replace(known, deployment=replace(known.deployment, model=plain))
        times = [analyze_decode(scenario)[0].time_s.value for scenario in (known, other)]
        inside.append(abs(np.log(times[1] / times[0])) <= SHAPE_SPREAD)

    assert np.mean(inside) >= 0.8
