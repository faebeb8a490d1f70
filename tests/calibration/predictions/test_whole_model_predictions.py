from pathlib import Path

import numpy as np
import pytest

from roofline.api import analyze
from roofline.calibration.measurements.measured_files import read_measured_file
from roofline.calibration.predictions.parallelism_names import degrees_of
from roofline.calibration.predictions.whole_model_predictions import runtimes, whole_model_groups
from roofline.calibration.validate import Validation, validate
from roofline.errors import InvalidSpecError

pytest.importorskip("pandas")

_HEADER = (
    "device,device_count,model,quant,runtime,parallelism,phase,batch,prompt_len,gen_len,context,"
    "metric,value,unit,note"
)
_DECODE = "H100 SXM,1,Llama-3.1-8B,BF16,vLLM,,decode,1,,,1024,decode_tok_s,140,tok/s,"


def _validated(folder: Path, *rows: str) -> Validation:
    path = folder / "speeds.csv"
    path.write_text("\n".join((_HEADER, *rows)) + "\n")
    return validate([path])


def test_a_decode_row_is_what_analyze_says_at_that_context(tmp_path: Path) -> None:
    row = _validated(tmp_path, _DECODE).frame().iloc[0]
    report = analyze("llama-3.1-8b", "h100-sxm", context=1024, weights="bf16", software="vllm")

    np.testing.assert_allclose(row["predicted"], report.decode_tokens_per_s, rtol=1e-9)
    np.testing.assert_allclose(row["ideal"], 1.0 / report.decode.ideal_s, rtol=1e-9)
    assert row["low"] < row["predicted"] < row["high"] < row["ideal"]


def test_a_prefill_row_is_what_analyze_says_of_the_whole_batch(tmp_path: Path) -> None:
    text = "H100 SXM,1,Llama-3.1-8B,BF16,vLLM,,prefill,4,2048,,,ttft_ms,300,ms,"
    row = _validated(tmp_path, text).frame().iloc[0]
    report = analyze("llama-3.1-8b", "h100-sxm", batch=4, prompt=2048, weights="bf16", software="vllm")

    np.testing.assert_allclose(row["predicted"], 1e3 * report.ttft_s.value, rtol=1e-9)


def test_rows_of_one_group_are_predicted_as_if_each_stood_alone(tmp_path: Path) -> None:
    rows = [
        _DECODE.replace(",1,,,1024,", f",{batch},,,{context},") for batch in (1, 8) for context in (512, 4096)
    ]
    together = _validated(tmp_path, *rows).frame()["predicted"].to_numpy(float)
    alone = [float(_validated(tmp_path, row).frame()["predicted"].iloc[0]) for row in rows]

    np.testing.assert_allclose(together, alone, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("H100 SXM", "H1000"), "no device is called 'H1000'"),
        (("Llama-3.1-8B", "Lama-9"), "no model is called 'Lama-9'"),
        (("BF16", "BF17"), "no number format is called"),
        (("140", "-140"), "value is not above 0"),
        (("140", "1e9"), "value is faster than the floor"),
        (("140", ""), "value is missing"),
        (("tok/s", "furlongs"), "unit is not one of decode_tok_s: 'furlongs'"),
        (("decode_tok_s", "decode_toks"), "metric 'decode_toks' is not predicted (nearest: 'decode_tok_s'"),
        ((",1024,", ",many,"), "context is not a number"),
        ((",1,,,1024", ",0,,,1024"), "batch is not a number from 1: '0'"),
        (("vLLM,,", "vLLM,TP4,"), "parallelism does not make 1 devices: 'TP4'"),
        (("tok/s,", "tok/s,ANOMALY of the source"), "marked as an outlier"),
    ],
)
def test_a_bad_row_is_named_by_line_and_the_rest_is_used(
    tmp_path: Path, change: tuple[str, str], reason: str
) -> None:
    result = _validated(tmp_path, _DECODE, _DECODE.replace(*change))

    (left,) = result.left_out()
    assert result.scored()[0].score.rows == 1
    assert left.places[0][1] == 3
    assert left.example.startswith(reason)


@pytest.mark.parametrize(
    ("text", "devices", "framework", "degrees"),
    [
        ("", 1.0, "vllm", (1.0, 1.0, 1.0, 1.0)),
        ("", 4.0, "vllm", (4.0, 1.0, 1.0, 1.0)),
        ("", 2.0, "llama.cpp", (1.0, 2.0, 1.0, 1.0)),
        ("layer split x4", 4.0, "llama.cpp", (1.0, 4.0, 1.0, 1.0)),
        ("TP8 PP2", 16.0, "vllm", (8.0, 2.0, 1.0, 1.0)),
        ("TEP8", 8.0, "vllm", (8.0, 1.0, 1.0, 8.0)),
        ("DEP8", 8.0, "vllm", (1.0, 1.0, 8.0, 8.0)),
        ("TP1 EP4 DP1", 4.0, "vllm", (1.0, 1.0, 4.0, 4.0)),
    ],
)
def test_degrees_are_read_from_what_tables_say(
    text: str, devices: float, framework: str, degrees: tuple[float, ...]
) -> None:
    assert degrees_of(text, devices, framework) == degrees


def test_a_row_split_has_no_degrees() -> None:
    with pytest.raises(InvalidSpecError, match="row split"):
        degrees_of("row split x2 (inferred)", 2.0, "llama.cpp")


def test_software_without_a_profile_widens_the_default_ones_interval(tmp_path: Path) -> None:
    row = "Apple M4 Max (128GB),1,Llama-3.2-3B,4bit,{runtime},,decode,1,,,1024,decode_tok_s,140,tok/s,"
    both = _validated(tmp_path, *(row.format(runtime=name) for name in ("llama.cpp", "unheard-of"))).frame()
    own, foreign = (np.log(both["high"] / both["predicted"])[index] for index in (0, 1))

    np.testing.assert_allclose(foreign, np.hypot(own, 0.32), rtol=1e-9)


def test_the_path_of_a_result_tells_its_runtime(tmp_path: Path) -> None:
    path = tmp_path / "speeds.csv"
    sources = ("results/raw/mlx/a.json", "results/raw/gguf/a.json", "results/raw/mlx/b.json")
    labels = ("llama.cpp unknown", "llama.cpp unknown", "mlx-lm 0.31.2")
    rows = [
        f"{_DECODE.replace('vLLM', label)},{source}" for label, source in zip(labels, sources, strict=True)
    ]
    path.write_text("\n".join((f"{_HEADER},source", *rows)) + "\n")

    assert [*runtimes(read_measured_file(path))] == ["mlx", "llama.cpp unknown", "mlx-lm 0.31.2"]


def test_rows_that_exceed_the_memory_are_in_no_group(tmp_path: Path) -> None:
    path = tmp_path / "speeds.csv"
    paged = _DECODE + "model exceeds RAM; swaps"
    path.write_text("\n".join((_HEADER, _DECODE, paged.replace("140", "0.01"))) + "\n")
    file = read_measured_file(path)

    rows = [row for _, rows in whole_model_groups(file, np.ones(2, dtype=bool)) for row in rows.index]
    assert rows == [0]


def test_a_build_with_faster_arithmetic_than_the_profile_is_not_beyond_the_floor(tmp_path: Path) -> None:
    # Lanes multiply 4.1 TFLOP/s, so 8.0e9 parameters at most 260 tokens/s; accelerators four times that.
    row = "Apple M5 10-core GPU 32GB,1,Llama-3.1-8B,Q4_0,llama.cpp,,prefill,1,512,,,prefill_tok_s,500,tok/s,"
    frame = _validated(tmp_path, row, row.replace("500", "5000")).frame()

    assert frame["skipped"][0] == ""
    assert frame["skipped"][1].startswith("value is faster than the floor")


def test_bandwidth_that_is_reached_is_the_weights_of_one_device_over_its_iteration(tmp_path: Path) -> None:
    """6.74e9 parameters less the 0.13e9 of the embedding, in 2 bytes, by 2 devices: 6.61 GB."""
    name = "A100-SXM-80GB,2,Llama-2-7B,BF16,gpt-fast,TP2,decode,1,,,512"
    rows = (f"{name},decode_tok_s,160,tok/s,", f"{name},achieved_bandwidth_per_gpu,1100,GB/s,")
    rate, reached = _validated(tmp_path, *rows).frame()["predicted"]

    np.testing.assert_allclose(reached / rate, 6.607, rtol=1e-3)


def test_a_batch_whose_tokens_choose_experts_alike_may_beat_independent_ones(tmp_path: Path) -> None:
    """32 tokens that choose as 16.5 do read fewer experts; one token reads what it reads."""
    row = "NVIDIA GB10,1,gpt-oss-120b,MXFP4,llama.cpp,,decode,{},,,528,decode_tok_s,{},tok/s,"
    apart = _validated(tmp_path, row.format(32, 150), row.format(1, 40)).frame()["ideal"]
    faster = _validated(tmp_path, row.format(32, 1.3 * apart[0]), row.format(1, 1.3 * apart[1])).frame()

    assert faster["skipped"][0] == ""
    assert faster["skipped"][1].startswith("value is faster than the floor")
