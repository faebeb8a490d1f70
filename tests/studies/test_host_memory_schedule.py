"""Offline generation over a model in host memory, pass by pass."""

from dataclasses import replace

import numpy as np
import pytest

from roofline import make_scenario
from roofline.errors import InvalidSpecError
from roofline.studies.host_memory_roofline import host_memory_roof
from roofline.studies.host_memory_schedule import HostPass, generate, host_pass

#: A second for the weights, in which the device works on 8 tokens; memory for 8 cached ones.
SMALL = HostPass(
    weight_bytes=10.0,
    link_bytes_per_s=10.0,
    saturating_tokens=8.0,
    cache_bytes=8.0,
    cache_bytes_per_token=1.0,
)
#: MoE-Lens, section 6: Mixtral 8x7B on an A40 with 70 GB of cache, as measured there.
MIXTRAL = HostPass(
    weight_bytes=94e9, link_bytes_per_s=19.5e9, saturating_tokens=18_500.0, cache_bytes=70e9,
    cache_bytes_per_token=131_072.0, host_bytes_per_s=150e9,
)  # fmt: skip


def test_a_batch_is_what_its_passes_are_by_hand() -> None:
    # 2 + 2 tokens: with room for the next token a prompt wants 3 of 8, so two start (4 tokens), decode
    # (2 tokens) and end; the other two follow. Four passes of a second, 12 tokens of 32 that fit.
    found = generate(replace(SMALL, depth=1e12), requests=4, prompt_tokens=2, output_tokens=2, block_tokens=1)

    assert (found.passes, found.preempted, found.worked_tokens) == (4, 0, 12)
    np.testing.assert_allclose(
        [found.time_s, found.tokens_per_s, found.utilisation], [4, 2, 12 / 32], rtol=1e-9
    )
    np.testing.assert_allclose(found.decode_utilisation, 2 / 8, rtol=1e-9)


def test_the_youngest_is_computed_again_where_blocks_run_short() -> None:
    # 2 + 3 tokens, room for 6: both start (3 each), decode once (3 each), and want 4 each: one goes. The
    # other ends, and the one that went comes back with 4 tokens for its last: 4 + 2 + 1 + 4 tokens.
    found = generate(
        replace(SMALL, cache_bytes=6.0), requests=2, prompt_tokens=2, output_tokens=3, block_tokens=1
    )

    assert (found.passes, found.preempted, found.worked_tokens) == (4, 1, 11)


def test_apart_from_prompts_nothing_is_preempted_and_memory_holds_whole_requests() -> None:
    # 2 + 3 tokens each to the end, room for 8: one at a time, a prompt pass and two decodes.
    found = generate(SMALL, requests=3, prompt_tokens=2, output_tokens=3, block_tokens=1, mixed=False)

    assert (found.passes, found.preempted, found.worked_tokens) == (9, 0, 3 * 4)


def test_streams_overlap_but_for_a_piece_and_share_the_hosts_memory() -> None:
    # Link 1 s; device 4 / 8 s; the host moves 10 B of weights and 6 of cache at 8 B/s: 2 s.
    costs = replace(SMALL, host_bytes_per_s=8.0, depth=2.0)

    np.testing.assert_allclose(costs.time_s(tokens=4.0, cached_tokens=6.0), 2.0 + 1.5 / 2.0, rtol=1e-12)
    np.testing.assert_allclose(
        replace(costs, depth=1.0).time_s(tokens=4.0, cached_tokens=6.0), 3.5, rtol=1e-12
    )


@pytest.mark.parametrize("output", [32, 128, 256])
def test_a_long_batch_comes_near_the_roof_from_below(output: int) -> None:
    roof = host_memory_roof(
        weight_bytes=94e9, link_bytes_per_s=19.5e9, cache_bytes=70e9, cache_bytes_per_token=131_072.0,
        prompt_tokens=98.0, output_tokens=float(output), saturating_tokens=18_500.0, host_bytes_per_s=150e9,
    )  # fmt: skip
    found = generate(MIXTRAL, requests=20_000, prompt_tokens=98, output_tokens=output, block_tokens=1)

    # What is computed again counts as work, so generated tokens are compared.
    share = found.tokens_per_s * (98 + output) / output / float(roof.tokens_per_s)
    assert 0.7 < share < 1.0


def test_many_requests_keep_the_device_as_busy_as_was_measured() -> None:
    # Published: 90 % (Figure 3) with mixed passes, 16.5 % in the decode stage of an engine without (Figure
    # 1), which fills 35 to 56 % of the memory that ours fills.
    mixed, apart = (
        generate(MIXTRAL, requests=100_000, prompt_tokens=98, output_tokens=32, mixed=way)
        for way in (True, False)
    )

    np.testing.assert_allclose(mixed.utilisation, 0.90, rtol=0.03)
    assert 0.165 < apart.decode_utilisation < 0.165 / 0.56
    assert mixed.tokens_per_s > 1.5 * apart.tokens_per_s


def test_a_scenario_has_what_a_pass_costs() -> None:
    scenario = make_scenario("mixtral-8x7b", "a40", prompt=98, output=32, software="datasheet")
    costs = host_pass(scenario, cache_bytes=70e9, link_bytes_per_s=19.5e9)

    # Two matrices of 8 heads of 128 in 16 bits in 32 layers; two products of 32 heads of 128.
    np.testing.assert_allclose(costs.cache_bytes_per_token, 2 * 8 * 128 * 2 * 32, rtol=1e-9)
    np.testing.assert_allclose(costs.attention_flops_per_token, 2 * 2 * 32 * 128 * 32, rtol=1e-9)
    np.testing.assert_allclose(costs.weight_bytes, 93.4e9, rtol=0.01)


def test_what_no_memory_holds_is_refused() -> None:
    with pytest.raises(InvalidSpecError, match="wants more cache"):
        generate(SMALL, requests=1, prompt_tokens=8, output_tokens=8, block_tokens=1)
    with pytest.raises(InvalidSpecError, match="at least 1"):
        generate(SMALL, requests=0, prompt_tokens=1, output_tokens=1)
