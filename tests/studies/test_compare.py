import numpy as np
import pytest

from roofline import InvalidSpecError, compare, make_scenario


def test_differences_are_named_and_labels_tell_scenarios_apart() -> None:
    found = compare(
        [
            make_scenario("llama-3.1-8b", "h100-sxm", software="datasheet", weights=weights, batch=batch)
            for weights in ("bf16", "fp8")
            for batch in (1, 64)
        ]
    )

    assert found.differences == {
        "weights": ("bf16", "bf16", "fp8", "fp8"),
        "batch": ("1", "64", "1", "64"),
    }
    assert found.labels == ("bf16, 1", "bf16, 64", "fp8, 1", "fp8, 64")


def test_the_first_is_the_base() -> None:
    base = make_scenario("llama-3.1-8b", "h100-sxm", software="datasheet", context=1024)
    found = compare([base, base.replace_at("workload.batch_size", 2.0)])

    assert found.rows[0]["tpot_ratio"] == 1.0
    assert found.rows[1]["tpot_ratio"] == found.rows[1]["tpot_s"] / found.rows[0]["tpot_s"]


def test_moves_add_up_to_what_lies_between() -> None:
    found = compare([make_scenario("llama-3.1-8b", name) for name in ("a100", "h100-sxm")])
    change = sum(m.change_s for m in found.moves(1) if m.phase == "decode" and m.of == "operators")

    np.testing.assert_allclose(change, found.rows[1]["tpot_s"] - found.rows[0]["tpot_s"], rtol=1e-9)


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(InvalidSpecError, match="at least one scenario"):
        compare([])
