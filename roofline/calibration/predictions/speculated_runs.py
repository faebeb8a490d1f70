"""Speed-ups of speculative decoding, from the method and the accepted tokens the same table states."""

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from roofline.analysis import analyze_decode
from roofline.calibration.predictions.named_scenarios import NamedScenarios
from roofline.calibration.predictions.predictions import Predictions
from roofline.catalog.fits import load_runtime, softwares
from roofline.catalog.models import load_model
from roofline.catalog.plain_decoders import SHAPE_SPREAD
from roofline.catalog.wild_names import device_called
from roofline.decoding.acceptance import Acceptance
from roofline.decoding.drafters import ModelDrafter
from roofline.decoding.speculative import Speculative
from roofline.decoding.tree import SpecTree
from roofline.errors import InvalidSpecError, RooflineError
from roofline.quantity import Quantity
from roofline.scenario import Scenario
from roofline.techniques.table import apply_techniques
from roofline.timing.runtime import Runtime

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ACCEPTED", "SpeculatedRuns", "is_speed_up"]

#: The row that states what the others of its model and method need.
ACCEPTED: Final = "mean_accepted_tokens_per_step"


@dataclass(frozen=True, kw_only=True)
class _Method:
    """A method: what it is called, its technique, and whether it brings a model file of its own.

    `technique` is empty for drafts of a small model.
    """

    called: str
    technique: str = ""
    own_file: bool = True


#: By how Spec-Bench names them, first match wins; which attention each runs is in its plots/claims file.
#: ``SAMD[EAGLE2]`` drafts as EAGLE-2 where its automaton finds nothing: it is taken to always do so.
_METHODS: Final = (
    _Method(called=r"\beagle-?3\b", technique="eagle3"),
    _Method(called=r"\beagle-?2\b", technique="eagle2"),
    _Method(called=r"\beagle\b", technique="eagle"),
    _Method(called=r"\bhydra\b", technique="hydra"),
    _Method(called=r"\bmedusa\b", technique="medusa"),
    _Method(called=r"\blookahead\b", technique="lookahead"),
    _Method(called=r"\brecycling\b", technique="token-recycling"),
    _Method(called=r"\brest\b", technique="rest"),
    _Method(called=r"\b(?:pld|prompt[ -]lookup)\b", technique="prompt-lookup", own_file=False),
    _Method(called=r"\bsps\b", own_file=False),
)
#: Lengths, which no row states: as in plots/claims [tokens].
_PROMPT, _OUTPUT = 512.0, 256.0
#: Where transformers was measured; other devices are lent its shares of theirs.
_MEASURED_ON: Final = "nvidia_a100_sxm4_80gb"
_PLAIN, _OWN_FILE = "huggingface_sdpa", "huggingface_eager"
#: Vicuna 68M, the draft model of Spec-Bench, has the shape of LLaMA 68M; five drafts and the operations
#: around them are the default of assisted generation.
_SMALL: Final = "jackfram_llama_68m"
_DRAFTS, _DRAFT_OPERATIONS, _ACCEPT_OPERATIONS = 5, 15.0, 17.0
#: Logarithmic half-widths of 80 % intervals: of 28 runs over all tasks 23 lie within 0.14; a task accepts
#: other tokens than the mean, and four of five lie within 0.28 of the overall speed-up.
_OVERALL, _TASK = 0.14, 0.28
#: The same where transformers was not measured on the device.
_LENT: Final = 0.2


def is_speed_up(table: "pd.DataFrame") -> "pd.Series[bool]":
    """Return which rows are speed-ups of speculative decoding over plain decoding."""
    found: pd.Series[bool] = (table["phase"] == "spec") & table["stated_metric"].str.startswith("speedup")
    return found


class SpeculatedRuns:
    """Reads rows of one table.

    Parameters
    ----------
    table : DataFrame
        All its rows: those of accepted tokens are inputs of the others.
    """

    def __init__(self, named: NamedScenarios, table: "pd.DataFrame") -> None:
        self._named = named
        stated = table[table["stated_metric"] == ACCEPTED]
        self._accepted = {_run(row): float(row["value_number"]) for _, row in stated.iterrows()}
        self._found: dict[tuple[str, ...], tuple[float, float, str]] = {}

    def predict(self, result: Predictions, table: "pd.DataFrame") -> None:
        """Enter the predictions of usable rows of speed-ups, or why there is none."""
        for index, row in table.iterrows():
            place = np.array([index])
            try:
                value, ideal, basis = self._speed_up(row)
            except RooflineError as error:
                result.skipped[place] = str(error)
                continue
            overall = row["stated_metric"] == "speedup_overall"
            spread = np.hypot(_OVERALL if overall else _TASK, _LENT if basis == "transferred" else 0.0)
            result.predicted[place], result.ideal[place] = value, ideal
            result.low[place], result.high[place] = value * np.exp(-spread), value * np.exp(spread)
            # No iteration is faster than a plain pass; tokens of a single task are not stated.
            result.floor[place] = self._accepted[_run(row)] if overall else np.inf
            size = self._named.size(row)
            if size is not None:
                result.widen(place, spread=SHAPE_SPREAD, others=())
                result.stand_in[place] = f"a plain decoder of {size} parameters"
            result.basis[place] = basis
            result.profile[place] = _PLAIN

    def _speed_up(self, row: "pd.Series[Any]") -> tuple[float, float, str]:
        """Return the predicted and ideal speed-up of a row, and what it rests on."""
        run = _run(row)
        if run not in self._found:
            if run not in self._accepted:
                raise InvalidSpecError(f"speculative: no row {ACCEPTED} of the same run states its tokens")
            self._found[run] = self._predicted(row, self._accepted[run])
        return self._found[run]

    def _predicted(self, row: "pd.Series[Any]", tokens: float) -> tuple[float, float, str]:
        name = row["runtime"].rpartition(")")[2].strip() or row["runtime"]
        method = next((one for one in _METHODS if re.search(one.called, name.casefold())), None)
        if method is None:
            raise InvalidSpecError(f"speculative: there is no technique for the method {name!r}")
        named = self._named.scenario(row.fillna({"device_count": 1.0}))
        workload = replace(named.workload, prompt_tokens=_PROMPT, output_tokens=_OUTPUT, context_tokens=None)
        device = device_called(row["device"])
        plain = _on(replace(named, workload=workload), device, _PLAIN)
        own = _on(plain, device, _OWN_FILE if method.own_file else _PLAIN)
        drafted = _drafting(own, tokens) if not method.technique else (
            apply_techniques(own, (f"{method.technique}:tokens={tokens!r}",))
        )  # fmt: skip
        before, _ = analyze_decode(plain, intervals=False, tables=())
        after, _ = analyze_decode(drafted, intervals=False, tables=())

        def ratio(plain_s: Quantity, drafted_s: Quantity) -> float:
            return float(plain_s * after.tokens / drafted_s)

        measured = plain.deployment.runtime.host.basis == "measured"
        value = ratio(before.time_s.value, after.time_s.value)
        return value, ratio(before.ideal_s, after.ideal_s), "measured" if measured else "transferred"


def _run(row: "pd.Series[Any]") -> tuple[str, ...]:
    return tuple(str(row[name]) for name in ("device", "device_count", "model", "quant", "runtime"))


def _on(scenario: Scenario, device: str, software: str) -> Scenario:
    """Return the scenario under transformers, lent by the device it was measured on where need be."""
    if software in softwares(device):
        runtime = load_runtime(device, software)
    else:
        runtime = _lent(load_runtime(_MEASURED_ON, software), device)
    return scenario.replace(deployment=replace(scenario.deployment, runtime=runtime, policy=runtime.policy))


def _lent(runtime: Runtime, device: str) -> Runtime:
    """Return a runtime as another device is lent it: the same shares of its own peaks, the same host."""
    return replace(
        runtime,
        device=device,
        kernels=tuple(replace(kernel, basis="transferred") for kernel in runtime.kernels),
        host=replace(runtime.host, basis="transferred"),
    )


def _drafting(own: Scenario, tokens: float) -> Scenario:
    """Return the scenario with a small model that drafts for it."""
    small = load_model(_SMALL).value
    decoding = Speculative(
        tree=SpecTree.chain(_DRAFTS),
        acceptance=Acceptance(given="tokens", rates=((tokens,),)),
        drafter=ModelDrafter(deployment=replace(own.deployment, model=small), operations=_DRAFT_OPERATIONS),
        accept_operations=_ACCEPT_OPERATIONS,
    )
    return own.replace(decoding=decoding)
