import json
from pathlib import Path

import numpy as np
import pytest

from roofline.calibration.measurements.measured_files import read_measured_file
from roofline.calibration.table_calibration import calibrate_table
from roofline.calibration.validate import validate
from roofline.catalog.fits import load_runtime
from roofline.errors import InvalidSpecError

pytest.importorskip("pandas")
pytest.importorskip("scipy")

_SHAPES = [
    (m, n, k)
    for m in (1, 16, 256, 4096)
    for n, k in ((4096, 4096), (14336, 4096), (4096, 14336), (1024, 8192))
]


def _table(folder: Path, shapes: list[tuple[int, int, int]], slower: float = 1.3) -> Path:
    """Gemm times `slower` times what the shipped profile of an RTX 4090 says."""
    path = folder / "own.csv"
    rows = [f"rtx-4090,vllm 9.9.9,gemm,bf16,{m},{n},{k},1e6" for m, n, k in shapes]
    path.write_text("\n".join(("device,software,op,dtype,m,n,k,latency_s", *rows)) + "\n")
    path.write_text(path.read_text().replace(",1e6", ",1"))
    predicted = [
        validate_one(path.read_text().splitlines()[0], row, folder)
        for row in path.read_text().splitlines()[1:]
    ]
    rows = [row.replace(",1e6", f",{slower * value!r}") for row, value in zip(rows, predicted, strict=True)]
    path.write_text("\n".join(("device,software,op,dtype,m,n,k,latency_s", *rows)) + "\n")
    return path


def validate_one(header: str, row: str, folder: Path) -> float:
    from roofline.calibration.predictions.operator_predictions import predict_operators

    path = folder / "one.csv"
    path.write_text(f"{header}\n{row}\n")
    return float(predict_operators(read_measured_file(path)).predicted[0])


def test_own_rows_take_out_a_steady_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _table(tmp_path, _SHAPES)
    made = calibrate_table(path, tmp_path)
    (fit,) = made.fits

    np.testing.assert_allclose(fit.before, 1 - 1 / 1.3, atol=0.02)
    assert fit.after < 0.05
    monkeypatch.setenv("ROOFLINE_CATALOG", str(tmp_path))
    assert load_runtime("rtx-4090", "vllm").software == "vllm 9.9.9"
    assert validate([path]).scored()[0].score.median < 0.05


def test_other_kernels_of_the_profile_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = {(kernel.kind, kernel.format) for kernel in load_runtime("rtx-4090", "vllm").kernels}
    calibrate_table(_table(tmp_path, _SHAPES), tmp_path)
    monkeypatch.setenv("ROOFLINE_CATALOG", str(tmp_path))

    assert {(kernel.kind, kernel.format) for kernel in load_runtime("rtx-4090", "vllm").kernels} == shipped


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ([(1, 4096, 4096)] * 1, "1 different shapes; want at least 4"),
        ([(m, 4096, 4096) for m in (1, 2, 3, 4)], "times the work of the smallest"),
    ],
)
def test_points_that_cannot_tell_parameters_apart_are_refused(
    tmp_path: Path, shapes: list[tuple[int, int, int]], reason: str
) -> None:
    if reason.startswith("times"):
        shapes = [(4096 + m, 4096, 4096) for m, _, _ in shapes]

    with pytest.raises(InvalidSpecError, match=reason):
        calibrate_table(_table(tmp_path, shapes), tmp_path)


def test_whole_model_speeds_make_a_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = (
        "device,device_count,model,quant,runtime,phase,batch,prompt_len,gen_len,context,"
        "metric,value,unit,note"
    )
    rows = [
        f"rtx-4090,1,{model},{quant},llama.cpp b9999,decode,1,,128,64,decode_tok_s,{speed},tok/s,"
        for model, quant, speed in (
            ("Llama-3.1-8B", "F16", 50.0),
            ("Llama-3.1-8B", "Q8_0", 90.0),
            ("Llama-3.2-3B", "F16", 115.0),
            ("Llama-3.2-1B", "F16", 280.0),
        )
    ]
    path = tmp_path / "speeds.csv"
    path.write_text("\n".join((header, *rows)) + "\n")
    made = calibrate_table(path, tmp_path)
    monkeypatch.setenv("ROOFLINE_CATALOG", str(tmp_path))

    assert made.fits[0].after < 0.15
    assert load_runtime("rtx-4090", "llama.cpp").software == "llama.cpp b9999"


def _own_rows(folder: Path, shapes: list[tuple[int, int, int]], noise: float = 0.0) -> Path:
    """Products on a device without measurements, that reach 0.7 of peak and bandwidth after 3 us."""
    rows = []
    for number, (m, n, k) in enumerate(shapes):
        time_s = 3e-6 + max(2.0 * m * n * k / (0.7 * 97.5e12), 2.0 * n * k / (0.7 * 717e9))
        time_s *= 1.0 + noise * (-1.0) ** number
        rows.append(f"rtx-4080,torch 9.9,gemm,bf16,{m},{n},{k},{time_s!r}")
    path = folder / "rows.csv"
    path.write_text("\n".join(("device,software,op,dtype,m,n,k,latency_s", *rows)) + "\n")
    return path


def _width(band: tuple[float, float]) -> float:
    return band[1] - band[0]


def test_ten_rows_narrow_what_other_devices_lent(tmp_path: Path) -> None:
    shapes = [(m, n, k) for m in (1, 16, 256, 1024, 4096) for n, k in ((4096, 4096), (14336, 4096))]
    (fit,) = calibrate_table(_own_rows(tmp_path, shapes, noise=0.03), tmp_path).fits

    assert fit.band_before is not None
    assert _width(fit.band) < _width(fit.band_before)
    assert fit.after < 0.15


@pytest.mark.parametrize(
    ("shapes", "untold"),
    [
        # Few rows only: the weights are read, the peak is never reached.
        ([(1, n, k) for n in (1024, 4096, 14336) for k in (4096, 8192)], "compute_fraction"),
        # Many rows only: products are computed, the bandwidth is never reached.
        ([(4096, n, k) for n in (4096, 14336) for k in (4096, 8192)], "memory_fraction"),
        # So small that every launch takes the same time.
        ([(m, 128, k) for m in (1, 16) for k in (128, 256, 512)], "compute_fraction"),
    ],
)
def test_what_rows_do_not_tell_stays_and_widens_the_interval(
    tmp_path: Path, shapes: list[tuple[int, int, int]], untold: str
) -> None:
    told = [(m, n, k) for m in (1, 16, 256, 4096) for n, k in ((1024, 4096), (4096, 4096), (14336, 4096))]
    (rich,) = calibrate_table(_own_rows(tmp_path, told), tmp_path / "rich").fits
    (poor,) = calibrate_table(_own_rows(tmp_path, shapes), tmp_path / "poor").fits

    assert untold in poor.untold
    assert untold not in rich.untold
    assert _width(poor.band) > _width(rich.band)


def test_a_peak_below_what_rows_reach_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = [
        f"rtx-4080,torch 9.9,norm,bf16,{m},4096,{2e-6 + 2 * m * 8192 / (8 * 717e9)!r}"
        for m in (65536, 131072, 262144, 524288)
    ]
    path.write_text("\n".join(("device,software,op,dtype,m,n,latency_s", *rows)) + "\n")

    with pytest.raises(InvalidSpecError, match=r"nothing to fit .*(the rows want|below the floor)"):
        calibrate_table(path, tmp_path)


def test_a_longer_table_starts_from_the_profile_of_before_and_keeps_other_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOFLINE_CATALOG", str(tmp_path))
    norms = tmp_path / "norms.csv"
    rows = [
        f"rtx-4080,torch 9.9,norm,bf16,{m},4096,{3e-6 + 2 * m * 8192 / (0.7 * 717e9)!r}"
        for m in (64, 512, 4096, 16384)
    ]
    norms.write_text("\n".join(("device,software,op,dtype,m,n,latency_s", *rows)) + "\n")
    calibrate_table(norms, tmp_path)
    (first,) = calibrate_table(_own_rows(tmp_path, _SHAPES[:8], noise=0.03), tmp_path).fits
    (second,) = calibrate_table(_own_rows(tmp_path, _SHAPES, noise=0.03), tmp_path).fits
    kernels = {
        kernel.kind: kernel
        for kernel in load_runtime("rtx-4080", "torch").kernels
        if kernel.format in ("bf16", "*")
    }

    assert first.band_before == second.band_before
    assert kernels["norm"].source.startswith("own measurement")
    assert kernels["gemm"].points == 16
    assert not [*(tmp_path / "fits").glob("*/*.earlier")]


def test_llama_bench_narrows_the_interval_of_a_lent_profile(tmp_path: Path) -> None:
    """Decode at 0.7 of 717 GB/s beside 50 us per layer, prompts at 0.3 of the peak."""
    header = "device,model,quant,runtime,batch,prompt_len,gen_len,context,metric,value"
    rows = []
    for model, billions, layers in (
        ("Llama-3.2-1B", 1.24, 16),
        ("Llama-3.2-3B", 3.2, 28),
        ("Qwen3-4B", 4.0, 36),
    ):
        for quant, bits in (("F16", 16.0), ("Q8_0", 8.5)):
            token_s = billions * 1e9 * bits / 8 / (0.7 * 717e9) + 50e-6 * layers
            prompt_s = 2 * billions * 1e9 * 512 / (0.3 * 97.5e12) + 50e-6 * layers
            rows += [
                f"rtx-4080,{model},{quant},llama.cpp b9999,1,,128,64,decode_tok_s,{1 / token_s!r}",
                f"rtx-4080,{model},{quant},llama.cpp b9999,1,512,,,prefill_tok_s,{512 / prompt_s!r}",
            ]
    path = tmp_path / "speeds.csv"
    path.write_text("\n".join((header, *rows)) + "\n")
    made = {fit.kind: fit for fit in calibrate_table(path, tmp_path).fits}

    assert set(made) == {"decode", "prefill"}
    assert all(_width(fit.band) < _width(fit.band_before) for fit in made.values() if fit.band_before)
    assert made["decode"].after < 0.15
    assert all(fit.points == 6 for fit in made.values())


def test_serving_rows_fit_the_host_beside_the_kernels_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten results of `vllm bench serve` on an H100, 20 % slower than predicted."""
    kernels = load_runtime("h100-sxm", "vllm").kernels
    results = [
        {
            "backend": "vllm", "model_id": "meta-llama/Llama-3.1-8B-Instruct", "max_concurrency": batch,
            "request_rate": "inf", "completed": 100, "total_input_tokens": 51200,
            "total_output_tokens": 25600, "output_throughput": 100.0, "median_ttft_ms": 50.0,
            "median_itl_ms": 8.5 + 0.05 * batch, "device": "h100-sxm", "quant": "bf16",
        }
        for batch in (1, 2, 4, 8, 16, 32, 48, 64, 96, 128)
    ]  # fmt: skip
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    (fit,) = calibrate_table(path, tmp_path).fits
    monkeypatch.setenv("ROOFLINE_CATALOG", str(tmp_path))
    own = load_runtime("h100-sxm", "vllm")

    assert fit.band_before is not None
    assert _width(fit.band) < _width(fit.band_before)
    assert [kernel.kind for kernel in own.kernels] == [kernel.kind for kernel in kernels]
    assert own.host.source.startswith("own measurement")


def test_too_few_speeds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "speeds.csv"
    path.write_text(
        "device,model,quant,runtime,batch,gen_len,metric,value\n"
        "rtx-4080,Llama-3.2-1B,F16,llama.cpp b9999,4,128,decode_tok_s,800\n"
    )

    with pytest.raises(InvalidSpecError, match="no speed of one sequence on one device"):
        calibrate_table(path, tmp_path)


def test_rows_that_decide_nothing_are_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "speeds.csv"
    path.write_text(
        "device,device_count,model,quant,runtime,batch,gen_len,metric,value\n"
        "rtx-4080,1,Llama-3.2-1B,F16,llama.cpp b9999,1,128,decode_tok_s,200\n"
        "rtx-4080,1,Llama-3.2-1B,Q8_0,llama.cpp b9999,1,128,decode_tok_s,330\n"
        "rtx-4080,2,Llama-3.2-1B,F16,llama.cpp b9999,1,128,decode_tok_s,210\n"
        "rtx-4080,1,no-such-model,F16,llama.cpp b9999,1,128,decode_tok_s,200\n"
    )
    made = calibrate_table(path, tmp_path)

    assert [fit.points for fit in made.fits] == [2]
    assert [one.what for one in made.refused] == ["line 5", "line 4"]
    assert "one sequence on one device" in made.refused[1].reason
