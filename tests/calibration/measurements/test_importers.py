import json
from pathlib import Path
from typing import Any

import pytest

from roofline.calibration.measurements.importers import COLUMNS
from roofline.calibration.measurements.measured_files import read_measured_file
from roofline.calibration.validate import validate
from roofline.errors import FileFormatError

pytest.importorskip("pandas")

_TEST: dict[str, Any] = {
    "build_commit": "7f1de5b", "build_number": 6918, "backends": "CUDA", "cpu_info": "AMD EPYC 9654",
    "gpu_info": "NVIDIA GeForce RTX 4090", "model_filename": "models/Meta-Llama-3.1-8B-Instruct-Q4_K_M.gguf",
    "model_type": "llama 8B Q4_K - Medium", "n_gpu_layers": 99, "split_mode": "layer", "n_prompt": 0,
    "n_gen": 128, "n_depth": 1024, "avg_ts": 127.7, "stddev_ts": 0.2,
}  # fmt: skip
_SERVED: dict[str, Any] = {
    "backend": "vllm", "model_id": "meta-llama/Llama-3.1-8B-Instruct", "request_rate": "inf",
    "max_concurrency": 16, "num_prompts": 160, "completed": 160, "total_input_tokens": 160 * 1024,
    "total_output_tokens": 160 * 128, "output_throughput": 1500.0, "median_ttft_ms": 300.0,
    "median_tpot_ms": 9.0, "median_itl_ms": 8.5,
}  # fmt: skip
_PROFILED: dict[str, Any] = {
    "request_latency": {"unit": "ms", "avg": 2413.5, "p50": 2431.7},
    "time_to_first_token": {"unit": "ms", "avg": 195.8, "p50": 175.0},
    "inter_token_latency": {"unit": "ms", "avg": 9.2, "p50": 9.1},
    "output_token_throughput": {"unit": "tokens/sec", "avg": 800.0},
    "input_sequence_length": {"avg": 256.0},
    "output_sequence_length": {"avg": 64.0},
    "input_config": {
        "endpoint": {"model_names": ["Qwen/Qwen3-8B"]},
        "loadgen": {"concurrency": 8},
    },
    "telemetry_data": {"endpoints": {"a": {"gpus": {"gpu_0": {"gpu_name": "NVIDIA H100 80GB HBM3"}}}}},
}  # fmt: skip


def _rows(folder: Path, text: str, name: str = "out.json") -> list[dict[str, str]]:
    path = folder / name
    path.write_text(text)
    file = read_measured_file(path)
    assert file.header == COLUMNS
    return [dict(row) for _, row in file.cells.iterrows()]


def test_generation_at_depth_is_a_decode_row_at_its_mean_context(tmp_path: Path) -> None:
    (row,) = _rows(tmp_path, json.dumps([_TEST]))

    assert (row["model"], row["quant"]) == ("Meta-Llama-3.1-8B-Instruct", "Q4_K_M")
    assert (row["device"], row["device_count"]) == ("NVIDIA GeForce RTX 4090", "1")
    assert (row["metric"], row["context"], row["value"]) == ("decode_tok_s", "1088", "127.7")


def test_json_lines_and_csv_of_llama_bench_say_the_same(tmp_path: Path) -> None:
    prompt = {**_TEST, "n_prompt": 512, "n_gen": 0}
    lines = "\n".join(map(json.dumps, (_TEST, prompt)))
    table = "\n".join(
        (",".join(_TEST), *(",".join(f'"{value}"' for value in test.values()) for test in (_TEST, prompt)))
    )

    assert _rows(tmp_path, lines, "out.jsonl") == _rows(tmp_path, table, "out.csv")


def test_layers_on_the_host_make_it_an_offloaded_row(tmp_path: Path) -> None:
    (row,) = _rows(tmp_path, json.dumps([{**_TEST, "n_gpu_layers": 10}]))

    assert row["phase"] == "offload"


def test_no_layer_on_the_gpu_makes_it_a_cpu_row(tmp_path: Path) -> None:
    (row,) = _rows(tmp_path, json.dumps([{**_TEST, "n_gpu_layers": 0}]))

    assert row["device"] == "AMD EPYC 9654"


def test_a_served_result_is_four_rows_at_the_largest_concurrency(tmp_path: Path) -> None:
    rows = _rows(tmp_path, json.dumps(_SERVED))

    assert [row["metric"] for row in rows] == [
        "ttft_median_ms", "tpot_median_ms", "itl_median_ms", "output_tok_s",
    ]  # fmt: skip
    assert {(row["batch"], row["prompt_len"], row["gen_len"]) for row in rows} == {("16", "1024", "128")}


def test_a_finite_rate_without_a_limit_has_no_batch(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text(json.dumps({**_SERVED, "max_concurrency": None, "request_rate": 4.0}))
    result = validate([path], {"device": "h100-sxm", "quant": "bf16"})

    (left,) = result.left_out()
    assert left.example == "batch is not a number from 1: 'unlimited at 4.0 requests/s'"


def test_what_an_output_does_not_name_can_be_said(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text(json.dumps(_SERVED))

    assert validate([path]).left_out()[0].example == "device is missing"
    assert validate([path], {"device": "h100-sxm", "quant": "bf16"}).scored()[0].score.rows == 4


def test_an_aiperf_summary_names_its_gpu_from_telemetry(tmp_path: Path) -> None:
    path = tmp_path / "profile_export_aiperf.json"
    path.write_text(json.dumps(_PROFILED))
    result = validate([path], {"quant": "bf16", "runtime": "vllm"})

    assert result.scored()[0].score.rows == 3
    assert set(result.frame()["device"]) == {"NVIDIA H100 80GB HBM3"}


@pytest.mark.parametrize("text", ['{"a": 1}', "[]", "[1]", '{"a": ', "[" * 100_000])
def test_json_that_is_no_benchmark_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "out.json"
    path.write_text(text)

    with pytest.raises(FileFormatError, match=r"out\.json") as caught:
        read_measured_file(path)
    assert "\n" not in str(caught.value)


_WIDE = (
    "id,silicon_data_source,backend,backend_version,model_path,system,precision,mode,isl,osl,batch_size,"
    "tp_size,pp_size,attention_dp_size,moe_tp_size,moe_ep_size,prefill_batch_size,prefill_num_workers,"
    "prefill_tp_size,prefill_pp_size,prefill_attention_dp_size,prefill_moe_tp_size,prefill_moe_ep_size,"
    "decode_batch_size,decode_num_workers,decode_tp_size,decode_pp_size,decode_attention_dp_size,"
    "decode_moe_tp_size,decode_moe_ep_size,silicon_ttft_ms,silicon_tpot_ms"
)


def _line(
    mode: str, origin: str, *, pool: str = "," * 5, prefill: str = "," * 6, decode: str = "," * 6
) -> str:
    named = f"7,{origin},sglang,0.5.9,deepseek-ai/DeepSeek-V3,h200_sxm,fp8,{mode},1000,2000"
    return f"{_WIDE}\n{named},{pool},{prefill},{decode},260,10\n"


def test_a_line_of_a_serving_table_is_two_means_at_its_concurrency(tmp_path: Path) -> None:
    text = _line("agg", "own.csv; silicon_concurrency=16", pool="2,8,1,1,1,8")
    first, token = _rows(tmp_path, text, "silicon.csv")

    assert (first["metric"], first["value"]) == ("ttft_mean_ms", "260")
    assert (token["metric"], token["value"]) == ("tpot_mean_ms", "10")
    assert (first["device"], first["device_count"], first["parallelism"]) == ("h200_sxm", "8", "TP8 EP8")
    assert (first["batch"], first["prompt_len"], first["gen_len"]) == ("16", "1000", "2000")
    assert first["note"].startswith("id 7; own.csv")


def test_rows_stand_where_their_line_or_record_does(tmp_path: Path) -> None:
    line = _line("agg", "own", pool="2,8,1,1,1,8")
    table, document = tmp_path / "silicon.csv", tmp_path / "served.json"
    table.write_text(line + line.splitlines()[1] + "\n")
    document.write_text(json.dumps([_SERVED, _SERVED]))

    assert list(read_measured_file(table).lines) == [2, 2, 3, 3]
    assert list(read_measured_file(document).lines) == [1] * 4 + [2] * 4


def test_inferencex_draws_lengths_from_four_fifths_upwards(tmp_path: Path) -> None:
    """The mean of an even draw from 0.8 to 1 is 0.9."""
    first, _ = _rows(tmp_path, _line("agg", "db-dump/2026-04-27", pool="2,8,1,1,1,8"), "silicon.csv")

    assert (first["prompt_len"], first["gen_len"]) == ("900", "1800")


@pytest.mark.parametrize(
    ("pool", "parallelism", "devices"),
    [
        ("4,64,1,1,8,8", "TP8 EP8", "8"),
        ("4,1,1,64,8,8", "TP1 DP8 EP8", "8"),
        ("4,4,1,4,1,16", "TP4 EP4", "4"),
        ("4,8,1,1,8,1", "TP8", "8"),
    ],
)
def test_ranks_counted_twice_are_read_as_the_system_they_can_only_be(
    tmp_path: Path, pool: str, parallelism: str, devices: str
) -> None:
    first, _ = _rows(tmp_path, _line("agg", "db-dump", pool=pool), "silicon.csv")

    assert (first["parallelism"], first["device_count"]) == (parallelism, devices)


def test_two_pools_are_named_with_their_workers(tmp_path: Path) -> None:
    """1 worker of 8 devices and 9 of 8; 9 x 64 sequences decode."""
    text = _line("disagg", "own", prefill="1,1,8,1,1,1,8", decode="64,9,8,1,1,1,8")
    first, _ = _rows(tmp_path, text, "silicon.csv")

    assert first["parallelism"] == "prefill TP8 EP8, decode 9x TP8 EP8"
    assert (first["device_count"], first["batch"]) == ("80", "576")


def test_pools_whose_workers_a_line_leaves_open_are_named_so(tmp_path: Path) -> None:
    """One worker of each is all that the devices say: 8 + 8."""
    text = _line("disagg", "db-dump", prefill="1,,8,1,1,1,8", decode="64,,8,1,1,1,8")
    first, _ = _rows(tmp_path, text, "silicon.csv")

    assert first["parallelism"] == "prefill ?x TP8 EP8, decode ?x TP8 EP8"
    assert (first["device_count"], first["batch"]) == ("16", "64")


@pytest.mark.parametrize(("origin", "lengths"), [("db-dump", "drawn"), ("own", "equal")])
def test_who_ran_a_line_says_whether_its_lengths_are_alike(tmp_path: Path, origin: str, lengths: str) -> None:
    first, _ = _rows(tmp_path, _line("agg", origin, pool="4,8,1,1,8,1"), "silicon.csv")

    assert first["lengths"] == lengths
