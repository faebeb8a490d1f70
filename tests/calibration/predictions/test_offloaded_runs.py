"""Rows of offloaded runs: placed by their runtime, timed, and near what was measured."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roofline.calibration.measurements.measured_files import read_measured_file
from roofline.calibration.predictions.predictions import Predictions
from roofline.calibration.predictions.whole_model_predictions import predict_whole_models

HEADER = (
    "device,device_count,device_class,model,params_total_b,params_active_b,quant,bits_per_weight,runtime,"
    "parallelism,phase,batch,prompt_len,gen_len,context,metric,value,unit,source,licence,note"
)
XEON = "RTX 4090D + 1x Xeon Gold 6454S"


def row(**cells: Any) -> str:
    own = {"device_count": 1, "phase": "offload", "batch": 1, "unit": "tok/s", **cells}
    return ",".join(str(own.get(name, "")) for name in HEADER.split(","))


def predicted(tmp_path: Path, *rows: dict[str, Any]) -> Predictions:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join((HEADER, *(row(**cells) for cells in rows))), encoding="utf-8")
    return predict_whole_models(read_measured_file(path))


def deepseek(**cells: Any) -> dict[str, Any]:
    own = {"device": XEON, "model": "DeepSeek-V3", "quant": "Q4_K_M", "runtime": "KTransformers V0.2"}
    return {**own, "metric": "decode_tok_s", "prompt_len": 500, "value": 8.73, "note": "8 experts", **cells}


def test_experts_on_a_processor_are_near_what_was_measured(tmp_path: Path) -> None:
    two = "RTX 4090D + 2x Xeon Gold 6454S"
    found = predicted(
        tmp_path,
        deepseek(),
        deepseek(note="6 experts", value=10.303),
        deepseek(device=two, value=12.208),
        deepseek(metric="prefill_tok_s", value=54.21),
    )

    assert list(found.skipped) == [""] * 4
    # Leave-out errors of docs/offload.md: within 10 % decoding, 30 % prefilling.
    assert np.all(np.abs(found.error[:3]) < 0.15)
    assert abs(found.error[3]) < 0.35
    assert np.all((found.low < found.measured) & (found.measured < found.high))
    assert "placed as ktransformers" in str(found.profile[0])


def test_more_experts_on_the_card_are_faster_and_long_prompts_are_fetched(tmp_path: Path) -> None:
    def next_80b(ratio: int) -> dict[str, Any]:
        metric = f"throughput_tok_s_gpu_expert_ratio_{ratio}"
        return {"device": "4x RTX 4090 + Xeon Gold 6454S", "device_count": 4, "value": 60.0, "quant": "FP8",
                "model": "Qwen3-Next-80B-A3B", "runtime": "kt-kernel TP4", "metric": metric}  # fmt: skip

    def minimax(prompt: int) -> dict[str, Any]:
        return {"device": "1x RTX 4090 48GB + 2x Xeon 8488C PCIe4", "model": "MiniMax-M2.1", "quant": "FP8",
                "runtime": "kt-kernel + SGLang", "prompt_len": prompt, "metric": "prefill_tok_s",
                "value": 669.0}  # fmt: skip

    found = predicted(tmp_path, next_80b(0), next_80b(50), minimax(2048), minimax(8192))

    assert list(found.skipped) == [""] * 4
    assert found.predicted[0] < found.predicted[1]
    assert found.predicted[3] > 2.0 * found.predicted[2]


def test_a_model_read_in_turn_falls_off_a_cliff_where_memory_ends(tmp_path: Path) -> None:
    pi = {"device": "Raspberry Pi 5 8GB", "quant": "Q8_0", "runtime": "llama.cpp", "gen_len": 128,
          "metric": "decode_tok_s", "value": 1.0, "note": "EXCEEDS usable RAM: mmap paging"}  # fmt: skip
    found = predicted(tmp_path, {**pi, "model": "Qwen2.5-7B"}, {**pi, "model": "gemma-2-9b"})

    assert found.predicted[0] > 1.0
    assert found.predicted[1] < 0.1


def test_tokens_drawn_at_random_find_fewer_experts_in_memory(tmp_path: Path) -> None:
    pi = {"device": "Raspberry Pi 5 8GB", "quant": "Q4_K_M", "model": "DeepSeek-V2-Lite", "value": 1.764,
          "metric": "decode_tok_s", "note": "EXCEEDS usable RAM: mmap paging"}  # fmt: skip
    written = {**pi, "runtime": "llama.cpp"}
    found = predicted(
        tmp_path, written, {**written, "gen_len": 128}, {**written, "runtime": "llama.cpp llama-bench"}
    )

    assert found.predicted[0] > 1.5 * found.predicted[1]
    np.testing.assert_allclose(found.predicted[2], found.predicted[1], rtol=0.01)


def test_a_short_host_memory_keeps_the_experts_used_last(tmp_path: Path) -> None:
    card = {"model": "gpt-oss-120b", "quant": "MXFP4", "runtime": "llama.cpp", "metric": "decode_tok_s",
            "value": 5.0}  # fmt: skip
    found = predicted(
        tmp_path,
        {**card, "device": "RTX 4090 24GB + i9-13900K 128GB DDR5"},
        {**card, "device": "RTX 4090 24GB + i9-13900K 32GB DDR5"},
        {**card, "device": "RTX 4090 24GB + i9-13900K 32GB DDR5", "gen_len": 128},
    )

    assert list(found.skipped) == [""] * 3
    # 63 GB of experts, of which card and host hold 24 and 31: neighbours choose alike, drawn tokens do not.
    assert found.predicted[0] > found.predicted[1] > 1.1 * found.predicted[2]


def test_at_the_edge_of_memory_the_interval_holds_both_sides(tmp_path: Path) -> None:
    # Of 8 GiB 0.55 are kept and some working space: 7.7 GB for 7.7 GB of layers.
    edge = {"device": "Raspberry Pi 5 8GB", "quant": "Q4_K_M", "model": "NexusRaven-V2-13B", "gen_len": 128,
            "runtime": "llama.cpp", "metric": "decode_tok_s", "value": 0.035, "bits_per_weight": 4.84,
            "note": "EXCEEDS usable RAM: mmap paging"}  # fmt: skip
    found = predicted(tmp_path, edge)

    assert found.low[0] < 0.06
    assert found.high[0] > 1.0


def test_what_exceeds_the_card_is_placed_though_the_row_does_not_say_so(tmp_path: Path) -> None:
    # 43 GB of weights on 24 GB: the host reads about 20 GB for each token.
    card = {"device": "Ryzen 9 7900X (Nvidia 4090)", "quant": "Q4_K_M", "metric": "decode_tok_s",
            "phase": "decode", "model": "Llama-3.1-70B", "value": 3.1}  # fmt: skip
    found = predicted(
        tmp_path, {**card, "runtime": "Ollama"}, {**card, "runtime": "Ollama", "model": "Llama-3.1-8B"}
    )

    assert 2.0 < found.predicted[0] < 6.0
    assert "placed as llama.cpp" in str(found.profile[0])
    assert "placed" not in str(found.profile[1])


def test_a_board_has_the_memory_that_its_cell_states(tmp_path: Path) -> None:
    # 17.3 GB of weights on boards sold with 32 GB: of 16 GiB nearly all experts in use are there, of 8 half.
    board = {"model": "Qwen3-30B-A3B", "quant": "Q4_0", "runtime": "llama.cpp", "metric": "decode_tok_s",
             "phase": "decode", "value": 9.07}  # fmt: skip
    found = predicted(tmp_path, *({**board, "device": f"RK3588 {size}GB CPU"} for size in (32, 16, 8)))

    assert "placed" not in str(found.profile[0])
    assert found.predicted[0] >= found.predicted[1] > 0.9 * found.predicted[0]
    assert found.predicted[2] < 0.5 * found.predicted[0]


def test_a_cap_in_the_name_makes_the_difference(tmp_path: Path) -> None:
    phone = {"device": "OnePlus 13 (Snapdragon 8 Elite) CPU", "quant": "Q4_0", "metric": "decode_tok_s",
             "runtime": "PowerInfer (llama.cpp fork)", "value": 1.09}  # fmt: skip
    found = predicted(tmp_path, {**phone, "model": "Qwen3-1.7B (limit 1G)"}, {**phone, "model": "Qwen3-1.7B"})

    assert found.predicted[0] < 3.0 < found.predicted[1]


@pytest.mark.parametrize("runtime", ["MoE-Infinity", "HF Accelerate", "DeepSpeed ZeRO-Inference", "Fiddler",
                                     "Ollama", "AirLLM", "vLLM 0.8", "an unknown engine"])  # fmt: skip
def test_every_policy_places_a_mixture_on_one_card(runtime: str, tmp_path: Path) -> None:
    mixtral = {"device": "RTX A5000 24GB", "model": "Mixtral-8x7B", "quant": "FP16", "runtime": runtime,
               "metric": "tpot_s", "unit": "s", "value": 1.0}  # fmt: skip
    found = predicted(tmp_path, mixtral)

    assert found.skipped[0] == ""
    # 93 GB that a card of 24 GB has not: no faster than its own memory, no slower than a disk.
    assert 0.02 < found.predicted[0] < 120.0
    assert found.low[0] < found.predicted[0] < found.high[0]


def test_what_other_machines_hold_is_skipped_with_the_reason(tmp_path: Path) -> None:
    found = predicted(tmp_path, deepseek(runtime="Petals"))

    assert "swarm of other machines" in str(found.skipped[0])


def test_layers_and_experts_that_a_row_leaves_to_the_host_stay_there(tmp_path: Path) -> None:
    card = {"device": "RTX 3090 24GB + i9-13900K 128GB DDR5", "metric": "decode_tok_s", "value": 3.0}
    dense = {**card, "model": "Llama-2-70B", "quant": "Q4_0", "runtime": "llama.cpp"}
    found = predicted(
        tmp_path,
        {**dense, "note": "-ngl 20"},
        {**dense, "note": "-ngl 40"},
        {**card, "model": "gpt-oss-120b", "quant": "MXFP4", "runtime": "llama.cpp -ot exps=CPU"},
    )

    assert list(found.skipped) == [""] * 3
    assert found.predicted[0] < found.predicted[1]
    assert found.predicted[2] > 10.0


def test_a_ring_of_devices_holds_what_none_of_them_does(tmp_path: Path) -> None:
    home = {"model": "Llama-3-70B", "quant": "Q4_K_M", "runtime": "prima.cpp", "unit": "ms/token",
            "metric": "decode_ms_per_token", "value": 700.0, "phase": "decode"}  # fmt: skip
    ring = "Mac M1 8GB + RTX 3070 laptop + RTX 2080 Ti desktop + Mate 40 Pro"
    found = predicted(tmp_path, {**home, "device": ring}, {**home, "device": "Mac M1 8GB"})

    assert list(found.skipped) == ["", ""]
    assert found.predicted[0] < 0.3 * found.predicted[1]
    assert found.high[0] > 3.0 * found.predicted[0]


def test_a_row_may_divide_a_model_over_machines_as_its_runtime_does(tmp_path: Path) -> None:
    pis = {"model": "Llama-2-13B", "quant": "Q4_0", "metric": "decode_tok_s", "value": 1.0, "phase": "decode"}
    found = predicted(
        tmp_path,
        {**pis, "device": "4x Raspberry Pi 5 8GB", "device_count": 4, "runtime": "distributed-llama"},
        {**pis, "device": "Raspberry Pi 5 Cluster (4x 8GB)", "runtime": "llama.cpp", "value": 1.0},
        {**pis, "device": "2x Mac Studio M2 Ultra 192GB", "device_count": 2, "runtime": "exo", "value": 20},
        {**pis, "device": "home cluster (4 devices)", "device_count": 4, "runtime": "prima.cpp"},
    )

    assert list(found.skipped[:3]) == [""] * 3
    assert found.predicted[0] > 2.0 * found.predicted[1]  # shares at once, layers one after another
    assert "no machine is named" in str(found.skipped[3])


def test_layers_that_the_host_cannot_hold_are_paged_in(tmp_path: Path) -> None:
    desktop = {"device": "RTX 2080 Ti 11GB + i9-13900K", "model": "Llama-2-70B", "quant": "Q4_K_M"}
    run = {**desktop, "runtime": "llama.cpp", "metric": "tpot_ms", "unit": "ms", "value": 9000}
    found = predicted(
        tmp_path,
        {**run, "note": "64 GB RAM"},
        {**run, "note": "16 GB RAM"},
        {**run, "note": "9.7 GiB RAM available"},
    )

    # 41 GB less 11: in memory some 30 GB at 60 GB/s; else all of them by page faults.
    assert found.predicted[0] < 1e3
    assert found.predicted[1] == found.predicted[2] > 5e3


def test_unpacking_on_the_card_takes_its_share_of_a_pass(tmp_path: Path) -> None:
    card = {"device": "T4 16GB + 208GB DRAM + SSD (GCP)", "model": "OPT-30B", "batch": 512, "prompt_len": 512,
            "gen_len": 32, "metric": "generation_tok_s", "value": 8.38}  # fmt: skip
    found = predicted(
        tmp_path,
        {**card, "quant": "INT4", "runtime": "FlexGen + 4-bit compression"},
        {**card, "quant": "FP16", "runtime": "FlexGen", "batch": 144, "value": 7.32},
    )

    # 30e9 weights in 16 batches and 2e11 cached elements, 13 B each at 320 GB/s: 28 s of a pass.
    assert found.predicted[0] < 512 / 28.0
    assert found.predicted[0] > found.predicted[1]


def test_a_loop_over_experts_fetches_those_that_are_not_picked(tmp_path: Path) -> None:
    card = {"device": "RTX A5000 24GB", "model": "Mixtral-8x7B", "quant": "BF16", "metric": "tpot_ms",
            "unit": "ms", "value": 5000}  # fmt: skip
    found = predicted(tmp_path, {**card, "runtime": "Accelerate"}, {**card, "runtime": "vLLM"})

    # 93 GB of which 22 stay, at 0.3 of 31.5 GB/s: 7.5 s; vLLM's fused kernels touch two of eight experts.
    assert 6500.0 < found.predicted[0] < 9000.0
    assert found.predicted[1] < found.predicted[0] / 4.0
