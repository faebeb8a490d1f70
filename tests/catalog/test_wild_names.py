"""Names as tables write them stand for what they mean, and for nothing else."""

import pytest

from roofline.catalog.wild_names import device_called, engine_called, format_called, model_called
from roofline.errors import UnknownNameError


@pytest.mark.parametrize(
    ("written", "stem"),
    [
        ("Intel 265K Custom PC (Nvidia RTX 4090)", "nvidia_rtx_4090"),
        ("MSI GeForce RTX 4090 Suprim X 24G", "nvidia_rtx_4090"),
        ("RTX 4090 24GB + 2x Xeon Gold 6454S (8x DDR5-4800/socket)", "nvidia_rtx_4090"),
        ("MacBook Pro M1 Max 64GB", "apple_m1_max"),
        ("DGX Spark", "nvidia_gb10"),
        ("Pi 5 - 8GB (AMD RX 6700 XT) 12GB", "amd_rx_6700_xt"),
        ("Pi 500+ - 16GB (Intel Arc A310 ECO)", "intel_arc_a310"),
        ("NVIDIA GeForce RTX 4070 Laptop GPU", "nvidia_rtx_4070_laptop"),
        ("Xiaomi 14 Pro (Snapdragon 8 Gen 3)", "qualcomm_snapdragon_8_gen_3"),
    ],
)
def test_the_device_in_a_longer_name_is_found(written: str, stem: str) -> None:
    assert device_called(written) == stem


@pytest.mark.parametrize(
    "written", ["H1000", "RTX 4070 SUPER Laptop", "Raspberry Pi 5 Cluster (4x)", "RTX 9070 Ti", "M9 Max"]
)
def test_another_device_is_not_taken_for_a_known_one(written: str) -> None:
    with pytest.raises(UnknownNameError, match="no device is called"):
        device_called(written)


@pytest.mark.parametrize(
    ("written", "engine"), [("Snapdragon X Elite NPU", "npu"), ("Apple M3 CPU", "cpu"), ("RTX 4090", None)]
)
def test_the_engine_is_what_the_name_ends_on(written: str, engine: str | None) -> None:
    assert engine_called(written) == engine


@pytest.mark.parametrize(
    ("written", "stem"),
    [
        ("llama3.1:8b-instruct-q4_K_M", "meta_llama_3.1_8b"),
        ("mlx-community/Qwen3-8B-4bit-DWQ", "alibaba_qwen3_8b"),
        ("bartowski/gemma-2-9b-it-GGUF", "google_gemma_2_9b"),
        ("OpenHermes-2.5-Mistral-7B-v0.1", "mistral_7b_v0.1"),
        ("Nous-Hermes-Llama-2-7b-GPTQ", "meta_llama_2_7b"),
    ],
)
def test_packaging_and_tuning_are_no_part_of_a_models_name(written: str, stem: str) -> None:
    assert model_called(written) == stem


@pytest.mark.parametrize(
    "written", ["Llama-2-7B-draft-160m", "Lama-9", "Qwen3-8B pruned 4B", "EAGLE-Llama-2-7B", "Llama 2"]
)
def test_another_model_is_not_taken_for_a_known_one(written: str) -> None:
    with pytest.raises(UnknownNameError, match="no model is called"):
        model_called(written)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Q4_K_M", "q4_k_m"), ("UD-Q4_K_XL", "q4_k_m"), ("Q5_K_S", "q5_k_s"), ("EXL2 4.0 bpw", "4_bits"),
        ("exl3 3.25bpw", "3.25_bits"), ("INT4 g32", "int4_g32"), ("W4A16 g128", "int4"),
        ("4-bit (DWQ)", "int4"), ("8da4w", "int4_g32"), ("q4f16_1", "int4"), ("FP8 (E4M3)", "fp8"),
        ("F16", "fp16"), ("MXFP4", "mxfp4"), ("Q4_0 (imatrix)", "q4_0"),
    ],
)  # fmt: skip
def test_formats_are_read_as_tables_write_them(written: str, name: str) -> None:
    assert format_called(written) == name


@pytest.mark.parametrize("written", ["", "Q4_K_Z", "as shipped"])
def test_what_is_no_format_is_refused(written: str) -> None:
    with pytest.raises(UnknownNameError):
        format_called(written)
