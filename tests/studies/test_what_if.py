from typing import Any

import numpy as np
import pytest

from roofline import InvalidSpecError, Scenario, make_scenario, what_if
from roofline.studies.changes import ALIASES, apply, factor_of, figure_paths
from roofline.studies.waterfall import change, group_seconds, shown_seconds


def scenario(**settings: Any) -> Scenario:
    return make_scenario("llama-3.1-8b", "h100-sxm", **{"software": "datasheet", **settings})


def test_twice_the_bandwidth_halves_a_memory_bound_step() -> None:
    answer = what_if(scenario(context=4096), bandwidth="x2")

    np.testing.assert_allclose(answer.tpot_ratio, 0.5, rtol=1e-12)
    assert answer.explanation[-1] == "Decode stays memory-bound."


def test_twice_the_peak_does_nothing_to_a_memory_bound_step() -> None:
    assert what_if(scenario(context=4096), peak="x2").tpot_ratio == 1.0


@pytest.mark.parametrize("changes", [{"bandwidth": "x3"}, {"weights": "fp8", "batch": 32}, {"tensor": 2}])
@pytest.mark.parametrize("software", ["datasheet", None])
def test_moves_of_operators_add_up_to_the_change(changes: dict[str, Any], software: str | None) -> None:
    answer = what_if(scenario(software=software), **changes)

    for phase, key in (("prefill", "ttft_s"), ("decode", "tpot_s")):
        change = sum(m.change_s for m in answer.moves if m.phase == phase and m.of == "operators")
        whole = getattr(answer.after, key).value - getattr(answer.before, key).value
        np.testing.assert_allclose(change, whole, rtol=1e-9)


def test_groups_add_up_to_the_phase() -> None:
    phase = what_if(scenario(devices=4), batch=2).before.prefill

    np.testing.assert_allclose(sum(group_seconds(phase).values()), phase.time_s.value, rtol=1e-12)
    assert "communication" in group_seconds(phase)


def test_a_dotted_path_takes_text_with_a_unit() -> None:
    changed = apply(scenario(), "memory.hbm.bandwidth", "6.7 TB/s")

    assert changed.deployment.system.device.memory["hbm"].bandwidth_bytes_per_s == 6.7e12


def test_a_factor_multiplies_every_peak() -> None:
    before, after = scenario(), apply(scenario(), "peak", "x1.5")
    for path in figure_paths(before, "peak"):
        *_, operand, accumulate = path.split(".")
        old, new = (
            part.deployment.system.device.engine["gpu"].peak_flops_per_s[operand][accumulate]
            for part in (before, after)
        )

        assert new == 1.5 * old


@pytest.mark.parametrize("alias", ALIASES)
def test_every_alias_names_figures(alias: str) -> None:
    if alias == "storage_bandwidth":
        with pytest.raises(InvalidSpecError, match="has no storage"):
            figure_paths(scenario(devices=2), alias)
    else:
        assert figure_paths(scenario(devices=2), alias)


@pytest.mark.parametrize(
    "changes", [{"hardware": "a100"}, {"model": "qwen3-8b"}, {"hardware": "l40s", "weights": "fp8"}]
)
def test_a_changed_scenario_is_the_one_made_anew(changes: dict[str, Any]) -> None:
    settings = {"model": "llama-3.1-8b", "hardware": "h100-sxm", "batch": 4, **changes}
    anew = make_scenario(**settings)
    changed = make_scenario("llama-3.1-8b", "h100-sxm", batch=4)
    for key, value in changes.items():
        changed = apply(changed, key, value)
    one, two = what_if(anew).before, what_if(changed).before

    assert (one.ttft_s.value, one.tpot_s.value) == (two.ttft_s.value, two.tpot_s.value)
    assert set(anew.citations) == set(changed.citations)


def test_what_no_longer_fits_is_said() -> None:
    assert what_if(scenario(), batch=5000).explanation[-1] == "It no longer fits in memory."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bandwith": "x2"}, "nearest: 'bandwidth'"),
        ({"memory.hbm.bandwidth": 5}, "want text with a unit, or a factor"),
        ({"memory.hbm.bandwidth": "5 GB"}, "memory.hbm.bandwidth: want text such as"),
        ({"batch": "many"}, "batch: want a number or a factor"),
        ({"tensor": 1.5}, "tensor: want a whole number"),
        ({"flash": "yes"}, "flash: want true or false"),
        ({"link_bandwidth": "1 GB"}, "link_bandwidth: "),
    ],
)
def test_what_cannot_be_changed_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpecError, match=message):
        what_if(scenario(), **changes)


@pytest.mark.parametrize(
    ("text", "factor"), [("x2", 2.0), ("x0.5", 0.5), ("×3", 3.0), ("2x", None), (2.0, None)]
)
def test_a_factor_is_text_that_starts_with_x(text: object, factor: float | None) -> None:
    assert factor_of(text) == factor


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.5, "1.50 s"), (0.0123, "12.3 ms"), (9.999e-4, "1.00 ms"), (2e-7, "0.20 µs")]
)
def test_times_are_shown_with_three_digits(seconds: float, text: str) -> None:
    assert shown_seconds(seconds) == text


def test_a_placed_model_is_not_left_where_other_sizes_put_it() -> None:
    placed = make_scenario("qwen3-30b-a3b", "desktop-rtx-4090", software="datasheet", offload="host")
    by_hand = make_scenario("llama-3.1-8b", "desktop-rtx-4090", software="datasheet", n_gpu_layers=16)

    for changes in ({"batch": 8}, {"kv": "fp8"}, {"capacity": "x0.5"}):
        with pytest.raises(InvalidSpecError, match="placed for the sizes it had"):
            what_if(placed, **changes)
    assert what_if(placed, host_bandwidth="x2").tpot_ratio < 1.0
    assert what_if(by_hand, batch=8).after.fits


def test_rounding_is_no_change() -> None:
    assert change(0.1 + 0.2, 0.3) == 0.0
    np.testing.assert_allclose(change(0.3, 0.300001), 1e-6, rtol=1e-6)
