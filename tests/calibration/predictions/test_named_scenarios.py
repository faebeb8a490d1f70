"""Rows of models that the catalogue does not hold are predicted from their size, told and widened."""

from pathlib import Path

import numpy as np
import pytest

from roofline.calibration.validate import Validation, validate

pytest.importorskip("pandas")

_HEADER = (
    "device,device_count,model,params_total_b,params_active_b,quant,bits_per_weight,runtime,parallelism,phase,"
    "batch,prompt_len,gen_len,context,metric,value,unit,note"
)


def row(model: str, *, total: str = "", active: str = "", quant: str = "Q4_K_M", bits: str = "") -> str:
    sizes = f"{total},{active},{quant},{bits}"
    return f"RTX 4090,1,{model},{sizes},llama.cpp,,decode,1,,,256,decode_tok_s,100,tok/s,"


def validated(folder: Path, *rows: str) -> Validation:
    path = folder / "speeds.csv"
    path.write_text("\n".join((_HEADER, *rows)) + "\n")
    return validate([path])


def test_an_unknown_model_is_predicted_from_its_stated_size_in_a_wider_interval(tmp_path: Path) -> None:
    known = row("Llama-3.1-8B")
    sized = row("Unheard-of", total="8.03", active="8.03")
    found = validated(tmp_path, known, sized)

    near, far = (found.frame().iloc[index] for index in (0, 1))
    np.testing.assert_allclose(far["predicted"], near["predicted"], rtol=0.15)
    assert far["high"] / far["low"] > 1.05 * near["high"] / near["low"]
    assert (near["basis"], far["basis"]) == ("measured", "measured, plain decoder")
    assert found.stand_ins() == [("Unheard-of", "a plain decoder of 8.03 B parameters", 1)]


def test_the_active_part_counts_and_a_name_states_the_size_too(tmp_path: Path) -> None:
    found = validated(tmp_path, row("Unheard-of 14B"), row("Unheard-of 14B-A2B"))

    dense, mixture = found.frame()["predicted"]
    assert 3.0 < mixture / dense < 7.0


def test_a_size_never_replaces_a_name_of_the_catalogue(tmp_path: Path) -> None:
    plain, sized = validated(
        tmp_path, row("Llama-3.1-8B"), row("Llama-3.1-8B", total="70", active="70")
    ).frame()["predicted"]

    assert plain == sized


def test_a_name_without_a_size_is_still_unknown(tmp_path: Path) -> None:
    (left,) = validated(tmp_path, row("Lama")).left_out()

    assert left.example.startswith("no model is called 'Lama'")


@pytest.mark.parametrize("quant", ["", "secret sauce"])
def test_an_unknown_format_is_of_the_stated_width(tmp_path: Path, quant: str) -> None:
    found = validated(tmp_path, row("Llama-3.1-8B", quant=quant, bits="4.85"), row("Llama-3.1-8B"))

    ideal = found.frame()["ideal"]
    np.testing.assert_allclose(ideal[0], ideal[1], rtol=1e-12)


def test_a_row_without_format_and_width_is_left_out(tmp_path: Path) -> None:
    (left,) = validated(tmp_path, row("Llama-3.1-8B", quant="")).left_out()

    assert left.example == "quant is missing"
