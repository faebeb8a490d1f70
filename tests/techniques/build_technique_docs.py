"""Write docs/techniques.md: ``python tests/techniques/build_technique_docs.py``."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from roofline.analysis import analyze
from roofline.api import make_scenario
from roofline.decoding.workload import Workload
from roofline.quantity import total
from roofline.report import Report
from roofline.scenario import Scenario
from roofline.techniques.table import TECHNIQUES, apply_techniques

ROOT: Final = Path(__file__).parents[2]
TARGET: Final = ROOT / "docs" / "techniques.md"
REFERENCE: Final = ROOT / "tests" / "reference" / "techniques.toml"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A claim with our gain at datasheet figures and under the default profile."""

    claim: dict[str, Any]
    ideal: float
    calibrated: float

    @property
    def published(self) -> str:
        low, high = self.claim["low"], self.claim["high"]
        if np.isinf(high):
            return f"over {low:g}"
        return f"{low:g}" if low == high else f"{low:g} to {high:g}"

    @property
    def error(self) -> float:
        """Signed distance of the calibrated gain from the nearest end of the published range, relative."""
        low, high = self.claim["low"], self.claim["high"]
        return self.calibrated / min(max(self.calibrated, low), high) - 1.0

    @property
    def held(self) -> str:
        """Whether the calibrated gain is within 10 %, or ideal and calibrated bracket what is published."""
        low, high = sorted((self.ideal, self.calibrated))
        if abs(self.error) <= 0.1:
            return "within 10 %"
        return "bracket" if low <= self.claim["high"] and high >= self.claim["low"] else "no"


def scenario_of(claim: dict[str, Any], software: str | None) -> Scenario:
    """Return the run without the technique; its context may be longer than the model was made for."""
    given = {key: claim[key] for key in ("devices", "weights") if key in claim}
    scenario = make_scenario(
        claim["model"], claim["hardware"], software=software, prompt=1, output=2, **given
    )
    numbers = {key: float(value) for key, value in claim["workload"].items()}
    return scenario.replace(workload=Workload(**numbers))


def figure(scenario: Scenario, name: str) -> float:
    if name == "throughput":
        batches = np.arange(1.0, 1025.0)
        report = analyze(scenario.replace_at("workload.batch_size", batches), axes=1, intervals=False)
        fitting = np.broadcast_to(report.fits, batches.shape) > 0
        return 1.0 / float(np.max(np.where(fitting, report.decode_tokens_per_s, 0.0)))
    report = analyze(scenario, intervals=False, keep_rows=False)
    return _value(report, name)


def _value(report: Report, name: str) -> float:
    if name in ("cache", "weights"):
        tensor = "kv_cache" if name == "cache" else "weights"
        return float(total(tier.get(tensor, 0.0) for tier in report.memory.used_bytes.values()))
    if name == "work":
        return float(report.prefill.flops)
    return float(getattr(report, f"{name}_s").value)


def answer(claim: dict[str, Any]) -> Answer:
    gains = []
    for software in ("datasheet", None):
        base = scenario_of(claim, software)
        changed = apply_techniques(base, [claim["technique"]])
        gains.append(figure(base, claim["gain"]) / figure(changed, claim["gain"]))
    return Answer(claim=claim, ideal=gains[0], calibrated=gains[1])


def claims() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads(REFERENCE.read_text(encoding="utf-8"))["claim"]
    return found


def _settings(name: str) -> str:
    parts = []
    for key, cited in TECHNIQUES[name].settings.items():
        value = f"{cited.value:g}" if isinstance(cited.value, float) else str(cited.value)
        mark = " *estimate*" if cited.kind == "estimate" else ""
        parts.append(f"`{key}={value}`{mark}: {cited.source}")
    return "<br>".join(parts)


def document() -> str:
    lines = [
        "# Techniques", "",
        "A technique is a change of a scenario: `roofline analyze MODEL HARDWARE --technique NAME`, with",
        "settings as `NAME:KEY=VALUE,KEY=VALUE`. A value may be one number per layer, `1*14/0.875/0.75 ...`,",
        "or a curve over depth 0 to 1: `linear(1;0.1)`, `sigmoid(center;steepness;floor)`,",
        "`step(at;before;after)`. Several go together in any order; two that set the same slot are refused,",
        "but for schedules, which combine: shares of tokens, layers and width multiply, of budgets, windows",
        "and reads the smallest holds.",
        "This page is written by `python tests/techniques/build_technique_docs.py`.", "",
        "## What there is", "",
        "| name | what | paper | sets | settings and where they are from | published |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, entry in TECHNIQUES.items():
        away = "://" in entry.paper
        paper = f"[paper]({entry.paper})" if away else f"[{entry.paper}](https://arxiv.org/abs/{entry.paper})"
        slots = "<br>".join(f"`{slot}`" for slot in entry.slots)
        lines.append(
            f"| `{name}` | {entry.title} | {paper} | {slots} | {_settings(name)} | {entry.published} |"
        )
    lines += [
        "", "## Published and ours", "",
        "Gain: the figure without the technique over the figure with it. *Ideal* is at datasheet figures,",
        "*calibrated* under the default software profile of the device; the error is that of the",
        "calibrated gain from the nearer end of what is published. A claim held where that is within 10 %,",
        "or ideal and calibrated bracket it. Runs are in `tests/reference/techniques.toml`.", "",
        "| technique | gain in | published | ideal | calibrated | error | held | assumed | from | note |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for claim in claims():
        found = answer(claim)
        lines.append(
            f"| `{claim['technique']}` | {claim['gain']} | {found.published} x | {found.ideal:.2f} x | "
            f"{found.calibrated:.2f} x | {100 * found.error:+.0f} % | {found.held} | "
            f"{claim.get('assumed', '')} | {claim['source']} | {claim.get('verdict', '')} |"
        )
    lines += ["", *_REMARKS, ""]
    return "\n".join(lines)


_REMARKS: Final = (
    "## What a skipped token, layer or neuron saves", "",
    "- A token pruned in a layer is missing from that layer's products, attention and cache, in the",
    "  prefill and in every later decode.",
    "- A layer that a token skips saves its weights only if all tokens of the pass skip it: at a share e",
    "  of n tokens it is read for `1 - (1 - e)^n` of the passes. Keys of skipped layers are missing from",
    "  the cache, or are filled: projections to keys and values are then paid for every token.",
    "- Neurons chosen for each token are read as their union over the pass; the part all tokens share is",
    "  a setting, so a gain at a batch of 1 fades with the batch as it does on hardware.",
    "- Retrieval keeps the whole cache and pays for choosing: a share of its bytes and operations.",
    "- A sparse prefill changes decoding in nothing.",
    "- Keys that sequences share are read once for all only where the kernels can (`hydragen`); without",
    "  it they are stored once and read for each.", "",
    "## Why our numbers differ from LLM-Viewer's", "",
    "`roofline analyze llama-2-7b a6000 --prompt 2048 --no-flash --compat llm-viewer` starts from ours and",
    "switches on one departure after the other; the last row is that tool's number, to the digits it",
    "prints.",
)  # fmt: skip


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
