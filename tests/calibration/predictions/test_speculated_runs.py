from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from roofline.api import analyze
from roofline.calibration.validate import validate

if TYPE_CHECKING:
    import pandas as pd

pytest.importorskip("pandas")

_HEADER = "device,device_count,model,quant,runtime,phase,batch,metric,value,unit,note"
_RUN = (
    "{device},1,Vicuna-7B,FP16,Spec-Bench (PyTorch HF) {method},spec,1,{metric},{value},"
    "x vs HF autoregressive,"
)


def _frame(folder: Path, *rows: tuple[str, str, float], device: str = "A100-80GB") -> "pd.DataFrame":
    path = folder / "speeds.csv"
    lines = [
        _RUN.format(device=device, method=method, metric=metric, value=value)
        for method, metric, value in rows
    ]
    path.write_text("\n".join((_HEADER, *lines)) + "\n")
    return validate([path]).frame()


def test_a_speed_up_is_that_of_its_technique_at_the_stated_tokens(tmp_path: Path) -> None:
    frame = _frame(tmp_path, ("PLD", "mean_accepted_tokens_per_step", 1.75), ("PLD", "speedup_overall", 1.66))
    shared: dict[str, Any] = {"model": "vicuna-7b", "hardware": "a100-80gb", "prompt": 512, "output": 256}
    plain = analyze(**shared, weights="fp16", software="huggingface_sdpa")
    drafted = analyze(
        **shared, weights="fp16", software="huggingface_sdpa", technique=("prompt-lookup:tokens=1.75",)
    )

    assert "input of the speed-ups" in frame["skipped"][0]
    np.testing.assert_allclose(frame["predicted"][1], plain.tpot_s.value / drafted.tpot_s.value, rtol=1e-3)


def test_one_task_is_less_certain_than_all(tmp_path: Path) -> None:
    frame = _frame(
        tmp_path, ("EAGLE2", "mean_accepted_tokens_per_step", 4.34), ("EAGLE2", "speedup_overall", 2.36),
        ("EAGLE2", "speedup_translation", 1.88),
    )  # fmt: skip
    every, one = frame.iloc[1], frame.iloc[2]

    assert every["predicted"] == one["predicted"]
    assert one["low"] < every["low"] < every["predicted"] < every["high"] < one["high"]


def test_a_speed_up_without_accepted_tokens_is_left_out(tmp_path: Path) -> None:
    frame = _frame(
        tmp_path, ("Hydra", "mean_accepted_tokens_per_step", 3.26), ("Medusa", "speedup_overall", 1.71)
    )

    assert frame["skipped"][1].startswith("speculative: no row mean_accepted_tokens_per_step")


def test_another_device_is_lent_the_host_and_says_so(tmp_path: Path) -> None:
    rows = (("SpS", "mean_accepted_tokens_per_step", 2.28), ("SpS", "speedup_overall", 1.52))
    measured, lent = (_frame(tmp_path, *rows, device=device).iloc[1] for device in ("A100-80GB", "RTX 3090"))

    assert (measured["basis"], lent["basis"]) == ("measured", "transferred")
    assert lent["high"] / lent["predicted"] > measured["high"] / measured["predicted"]
