import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest

from roofline import InvalidSpecError, Scenario, UnknownNameError, make_scenario, sweep
from roofline.analysis import NODES, analyze, analyze_decode
from roofline.studies import sweep as sweep_module
from roofline.studies.changes import apply
from roofline.studies.sweep import columns_of, sweep_blocks, to_xarray
from roofline.timing.pass_time import BOUNDS

pytest.importorskip("pandas")


def scenario(**settings: Any) -> Scenario:
    return make_scenario("llama-3.1-8b", "h100-sxm", **settings)


def expect_scalar_calls(base: Scenario, axes: dict[str, Any], frame: Any) -> None:
    for index, values in enumerate(itertools.product(*axes.values())):
        point = base
        for key, value in zip(axes, values, strict=True):
            point = apply(point, key, value if isinstance(value, str) else float(value))
        report, row = analyze(point), frame.iloc[index]
        pairs = {
            "ttft_s": report.ttft_s.value, "ttft_low_s": report.ttft_s.low, "ttft_high_s": report.ttft_s.high,
            "tpot_s": report.tpot_s.value, "tpot_low_s": report.tpot_s.low, "tpot_high_s": report.tpot_s.high,
            "tpot_ideal_s": report.decode.ideal_s, "output_tokens_per_s": report.output_tokens_per_s,
        }  # fmt: skip
        for column, value in pairs.items():
            np.testing.assert_allclose(row[column], value, rtol=1e-12, err_msg=f"{values} {column}")
        assert row["fits"] == bool(report.fits)
        assert (row["prefill_bound"], row["decode_bound"]) == (report.prefill.bound, report.decode.bound)


@pytest.mark.parametrize("software", ["datasheet", None])
@pytest.mark.parametrize(
    "axes",
    [
        {"batch": [8]},
        {"batch": np.linspace(1, 64, NODES)},
        {"output": np.linspace(16, 600, NODES)},
        {"batch": [1, 9], "prompt": [100, 1000, 9000], "output": [10, 500]},
        {"bandwidth": ["x1", "x2"], "batch": [1, 300]},
    ],
    ids=["one value", "as many as nodes", "outputs as many as nodes", "three axes", "a factor"],
)
def test_a_grid_equals_scalar_calls(axes: dict[str, Any], software: str | None) -> None:
    base = scenario(software=software)

    expect_scalar_calls(base, axes, sweep(base, axes))


def test_blocks_do_not_change_a_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    base = scenario()
    axes = {"batch": np.arange(1.0, 8.0), "context": np.arange(1000.0, 1011.0)}
    whole = sweep(base, axes)
    monkeypatch.setattr(sweep_module, "POINTS", 12)
    cut = sweep(base, axes)

    for name in whole:
        if whole[name].dtype == np.float64:
            np.testing.assert_allclose(cut[name], whole[name], rtol=1e-12)
        else:
            assert (cut[name] == whole[name]).all()


def test_structure_is_swept_beside_numbers() -> None:
    base = scenario(software="datasheet")
    axes = {"weights": ["bf16", "fp8"], "batch": [1, 64]}

    expect_scalar_calls(base, axes, sweep(base, axes))


def test_rows_of_blocks_are_those_of_the_table() -> None:
    base = scenario()
    axes = {"weights": ["bf16", "fp8"], "batch": [1, 4, 16]}
    frame, blocks = sweep(base, axes), list(sweep_blocks(base, axes))

    for name in frame:
        assert [str(value) for value in frame[name]] == [str(v) for block in blocks for v in block[name]]


def test_decode_alone_is_the_decode_of_both_phases() -> None:
    base = scenario(context=5000.0)
    both = sweep(base, {"batch": [1, 32]})
    alone = sweep(base, {"batch": [1, 32]}, phases="decode")

    for name in ("tpot_s", "tpot_low_s", "tpot_high_s", "tpot_ideal_s", "decode_tokens_per_s"):
        np.testing.assert_allclose(alone[name], both[name], rtol=1e-12)
    assert list(alone["decode_bound"]) == list(both["decode_bound"])


def test_the_mean_iteration_is_that_of_the_report() -> None:
    base = scenario()
    decode, _ = analyze_decode(base)
    report = analyze(base)

    assert decode.time_s.value == report.decode.time_s.value
    assert set(decode.bound_s) <= set(BOUNDS)


def test_an_endless_axis_is_read_as_it_is_needed() -> None:
    blocks = sweep_blocks(scenario(), {"batch": itertools.count(1)}, phases="decode")

    assert next(blocks)["batch"][:3].tolist() == [1.0, 2.0, 3.0]


def test_two_endless_axes_are_refused() -> None:
    with pytest.raises(InvalidSpecError, match="only one axis may be endless"):
        next(sweep_blocks(scenario(), {"batch": itertools.count(1), "context": itertools.count(1)}))


def peak_bytes(work: Any) -> int:
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


GRID = {"batch": np.arange(1.0, 1001.0), "context": np.arange(1000.0, 2000.0)}


def test_a_million_points_stay_under_64_megabytes() -> None:
    base = scenario(software="datasheet")

    def rows() -> None:
        assert sum(len(block["tpot_s"]) for block in sweep_blocks(base, GRID, phases="decode")) == 1_000_000

    assert peak_bytes(rows) < 64e6


def test_a_table_of_a_million_points_stays_under_64_megabytes() -> None:
    base = scenario(software="datasheet")
    columns = ("tpot_s", "decode_bound", "fits")

    assert peak_bytes(lambda: sweep(base, GRID, phases="decode", columns=columns)) < 64e6


def test_calibrated_blocks_with_intervals_stay_under_64_megabytes() -> None:
    base = scenario()
    axes = {"batch": np.arange(1.0, 257.0), "output": np.arange(2.0, 42.0)}

    assert peak_bytes(lambda: list(sweep_blocks(base, axes))) < 64e6


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"bacth": [1]}, "nothing to change is called 'bacth' .nearest: 'batch'"),
        ({"memory.hbn.bandwidth": ["1 TB/s"]}, "no 'hbn' here"),
        ({"batch": [0]}, "batch: want at least 1"),
        ({"batch": []}, "batch: want at least one value"),
        ({"peak": ["900 TFLOP/s"]}, "want a factor such as 'x2'"),
        ({"bandwidth": [2]}, "bandwidth: want text such as '3.35 TB/s'"),
        ({"context": [10_000_000]}, "was made for 131072 tokens"),
    ],
)
def test_what_cannot_be_swept_is_refused(axes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpecError, match=message):
        sweep(scenario(), axes)


def test_unknown_names_and_columns_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="no number format is called 'fp9'"):
        sweep(scenario(), {"weights": ["fp9"]})
    with pytest.raises(InvalidSpecError, match="no column 'tpot'"):
        sweep(scenario(), {"batch": [1]}, columns=["tpot"])


def test_progress_ends_at_one() -> None:
    shares: list[float] = []
    sweep(scenario(), {"batch": [1, 2]}, progress=shares.append)

    assert shares[-1] == 1.0


def test_a_labelled_array_has_the_axes_as_dimensions() -> None:
    pytest.importorskip("xarray")
    axes = {"batch": [1.0, 2.0], "prompt": [10.0, 20.0, 30.0]}

    assert dict(to_xarray(sweep(scenario(), axes), axes).sizes) == {"batch": 2, "prompt": 3}


def test_columns_are_named_ahead() -> None:
    frame = sweep(scenario(), {"batch": [1]})

    assert tuple(frame.columns) == ("batch", *columns_of())
