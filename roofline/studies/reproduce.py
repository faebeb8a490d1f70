"""Other people's published numbers beside ours, as their claim files state them."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Final, TypeAlias

from roofline.analysis import analyze
from roofline.catalog.sourced import validated
from roofline.errors import InvalidSpecError, RooflineError
from roofline.provenance import Citation
from roofline.quantity import Quantity
from roofline.report import Report
from roofline.scenario import Scenario
from roofline.settings import Settings
from roofline.studies.claim_answers import ANSWERS, UNITS, Answer, largest_batch, together
from roofline.studies.claim_files import Claim, ClaimFile, placed, read_claims
from roofline.studies.claim_parts import PARTS, part_figure
from roofline.timing.uncertainty import band

__all__ = ["Found", "reproduce"]

#: A prediction this near is a reproduction; a bracket wider than this says nothing.
_NEAR: Final = 0.15
_WIDEST: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class Found:
    """A claim beside our answer, in the published unit.

    Parameters
    ----------
    ideal, predicted, low, high : float or None
        At datasheet figures; calibrated with its 80 % interval.
    error : float or None
        Signed, predicted / published - 1, from the nearer end of a range.
    verdict : str
        ``reproduced``, ``bracketed``, ``missed``, ``impossible as stated``, ``needs: ...`` or
        ``no number``.
    own_data : str
        A profile that was fitted on this paper's own data, else empty.
    """

    claim: Claim
    system: str
    arxiv: str
    verdict: str
    ideal: float | None = None
    predicted: float | None = None
    low: float | None = None
    high: float | None = None
    error: float | None = None
    binding: str = ""
    own_data: str = ""

    def row(self) -> dict[str, Any]:
        """Return the row that JSON shows."""
        claim = self.claim
        places = [f"arXiv:{self.arxiv}" if self.arxiv else "", claim.at, claim.provenance, self.own_data]
        published = list(claim.published) if isinstance(claim.published, tuple) else claim.published
        return {
            "system": self.system,
            "source": "; ".join(part for part in places if part),
            "setting": claim.setting,
            "metric": claim.metric,
            "unit": claim.unit,
            "published": published,
            "ideal": self.ideal,
            "predicted": self.predicted,
            "low": self.low,
            "high": self.high,
            "error": self.error,
            "verdict": self.verdict,
            "binding": self.binding,
        }


_Key: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]


def reproduce(paths: Iterable[Path]) -> Iterator[tuple[ClaimFile, list[Found]]]:
    """Yield each system with its claims answered; a run that fails is told in its verdicts."""
    for path in paths:
        file = read_claims(path)
        desk = _Desk(file)
        yield file, [desk.answer(claim) for claim in file.claims]


class _Desk:
    """The runs of one system, each evaluated once."""

    def __init__(self, file: ClaimFile) -> None:
        self.file = file
        self._scenarios: dict[_Key, Scenario] = {}
        self._reports: dict[_Key, Report] = {}
        self._moved: dict[tuple[_Key, ...], tuple[Report, ...]] = {}

    def answer(self, claim: Claim) -> Found:
        if claim.answer is None:
            verdict = f"needs: {claim.needs}" if claim.needs is not None else "no number"
            return self._found(claim, verdict)
        try:
            return self._bracket(claim) if claim.unknown else self._figure(claim)
        except Exception as error:  # whatever breaks one run, the others are still worth seeing
            what = str(error) if isinstance(error, RooflineError) else f"{type(error).__name__}: {error}"
            return self._found(claim, f"needs: a run that works ({what})")

    def _figure(self, claim: Claim) -> Found:
        if claim.answer in PARTS:
            return self._part(claim)
        return self._scenario_figure(claim, ANSWERS[str(claim.answer)])

    def _bracket(self, claim: Claim) -> Found:
        """Answer at every corner of what is not published; reproduced where each of them is near."""
        corners = [
            self._figure(_cornered(claim, dict(zip(claim.unknown, ends, strict=True))))
            for ends in product(*claim.unknown.values())
        ]
        low = min(float(one.low or 0.0) for one in corners)
        high = max(float(one.high or 0.0) for one in corners)
        middle = math.sqrt(max(low, 0.0) * high)
        least, most = _range(claim)
        verdict = "missed"
        if max(1.0 - low / least, high / most - 1.0) <= _NEAR:
            verdict = "reproduced"
        elif low <= most and least <= high:
            narrow = low > 0.0 and high <= _WIDEST * low * (1.0 + 1e-9)
            verdict = "bracketed" if narrow else f"needs: {claim.not_published}"
        return replace(
            corners[0],
            claim=claim,
            verdict=verdict,
            ideal=max(corners, key=lambda one: float(one.ideal or 0.0)).ideal,
            predicted=middle,
            low=low,
            high=high,
            error=middle / min(max(middle, least), most) - 1.0,
        )

    def _found(self, claim: Claim, verdict: str, **figures: Any) -> Found:
        return Found(claim=claim, system=self.file.system, arxiv=self.file.arxiv, verdict=verdict, **figures)

    def _keys(self, claim: Claim) -> tuple[_Key, ...]:
        vary = tuple(sorted((name, repr(value)) for name, value in claim.vary.items()))
        for name in (claim.run, claim.against):
            if name is not None and (name, vary) not in self._scenarios:
                self._scenarios[name, vary] = self._scenario(name, claim.vary)
        return tuple((name, vary) for name in (claim.run, claim.against) if name is not None)

    def _scenario(self, name: str, vary: Mapping[str, Any]) -> Scenario:
        run, where = self.file.runs[name], f"{self.file.name}.toml: run.{name}"
        both = {**run.settings.get("set", {}), **vary.get("set", {})}
        changed = {**run.settings, **vary, **({"set": both} if both else {})}
        made = validated(Settings, changed, where).scenario()
        return largest_batch(made) if run.largest_batch else made

    def _report(self, key: _Key) -> Report:
        if key not in self._reports:
            self._reports[key] = analyze(self._scenarios[key], intervals=False, keep_rows=False)
        return self._reports[key]

    def _together(self, keys: tuple[_Key, ...]) -> tuple[Report, ...]:
        if keys not in self._moved:
            self._moved[keys] = together(tuple(self._scenarios[key] for key in keys))
        return self._moved[keys]

    def _part(self, claim: Claim) -> Found:
        name = str(claim.answer)
        figures = [part_figure(name, self._scenarios[key], claim.part) for key in self._keys(claim)]
        value, binding = figures[0]
        if len(figures) > 1:
            value = float(_formed(claim.form, value, figures[1][0], PARTS[name].better))
        return self._judged(claim, value, value, value, value, "exact", binding)

    def _scenario_figure(self, claim: Claim, answer: Answer) -> Found:
        keys = self._keys(claim)
        reports = tuple(self._report(key) for key in keys)
        moved = self._together(keys)
        if claim.against is None:
            values, ideal = answer.value(moved[0]), float(answer.ideal(reports[0]))
            best, sense = ideal, answer.better
        else:
            values = _formed(claim.form, answer.value(moved[0]), answer.value(moved[1]), answer.better)
            ideals = [float(answer.ideal(report)) for report in reports]
            ideal = float(_formed(claim.form, ideals[0], ideals[1], answer.better))
            # The most a gain can be: the baseline as its software runs it, the change at its bound.
            plain = float(answer.value(reports[1]))
            best = max(ideal, float(_formed(claim.form, ideals[0], plain, answer.better)))
            sense = "high" if claim.form == "gain" and answer.better != "exact" else "exact"
        predicted, low, high = (float(part) for part in band(values, 0))
        phase = reports[0].prefill if answer.phase == "prefill" else reports[0].decode
        return self._judged(claim, ideal, predicted, low, high, sense, phase.bound, best=best)

    def _judged(
        self,
        claim: Claim,
        ideal: float,
        predicted: float,
        low: float,
        high: float,
        sense: str,
        binding: str,
        *,
        best: float | None = None,
    ) -> Found:
        unit = UNITS[claim.unit][1]
        shown = [value / unit for value in (ideal, predicted, low, high)]
        least, most = _range(claim)
        error = shown[1] / min(max(shown[1], least), most) - 1.0
        return self._found(
            claim,
            _verdict(least, most, error, shown, sense, (ideal if best is None else best) / unit),
            **dict(zip(("ideal", "predicted", "low", "high"), shown, strict=True)),
            error=error,
            binding=binding,
            own_data=self._own_data(claim),
        )

    def _own_data(self, claim: Claim) -> str:
        """Tell which profile or hardware figure of the claim's runs rests on this paper's own data."""
        marks = [*self.file.repositories, *([f"arXiv:{self.file.arxiv}"] if self.file.arxiv else [])]
        told = []
        for key in self._keys(claim):
            scenario = self._scenarios[key]
            runtime = scenario.deployment.runtime
            sources = [runtime.host.source, *(fit.source for fit in runtime.kernels)]
            if claim.answer in ANSWERS and any(mark in source for mark in marks for source in sources):
                told.append(f"profile {runtime.software!r} was fitted on this paper's own data")
            cited = [f"{found.source.title} {found.source.url}" for found in _near(scenario, claim)]
            if any(mark in text for mark in marks for text in cited):
                told.append("a hardware figure it uses is this paper's own")
        return "; ".join(dict.fromkeys(told))


def _near(scenario: Scenario, claim: Claim) -> Iterator[Citation]:
    """Yield the citations of the hardware figures that decide a claim about storage or memory."""
    wanted = {
        "storage_rate": "read",
        "storage_time": "read",
        "transfer": "read",
        "memory_rate": "bandwidth",
        "neuron_speed": "read",
        "read_share": "read",
        "issuer_loss": "issuers",
        "shared_speed": "bandwidth",
        "flash_latency": "read",
        "flash_gain": "read",
    }
    word = wanted.get(str(claim.answer))
    for citation in scenario.citations:
        name = citation.path.rpartition(".")[2]
        if word is not None and (word in name or name in ("near_latency", "near_range")):
            yield citation


def _cornered(claim: Claim, ends: Mapping[str, Any]) -> Claim:
    """Return the claim with what is not published at one end of its range."""
    if claim.answer in PARTS:
        return replace(claim, part={**claim.part, **ends})
    return replace(claim, vary={**claim.vary, **placed(ends)})


def _range(claim: Claim) -> tuple[float, float]:
    """Return least and most of what is published, in its unit."""
    if isinstance(claim.published, tuple):
        return claim.published
    if isinstance(claim.published, str):
        raise InvalidSpecError(f"{claim.metric}: {claim.published!r} is no number")
    return claim.published, math.inf if claim.bound == "over" else claim.published


def _formed(form: str, value: Quantity, other: Quantity, better: str) -> Quantity:
    if form == "gain":
        return value / other if better == "high" else other / value
    if form == "difference":
        return other - value
    ratio = value / other
    return {"ratio": ratio, "reduction": 1.0 - ratio, "increase": ratio - 1.0}[form]


def _verdict(least: float, most: float, error: float, shown: Sequence[float], sense: str, best: float) -> str:
    if abs(error) <= _NEAR:
        return "reproduced"
    if (sense == "low" and most < best) or (sense == "high" and least > best):
        return "impossible as stated"
    bottom, top = min(shown), max(shown)
    if bottom <= most and least <= top and bottom > 0.0 and top <= _WIDEST * bottom:
        return "bracketed"
    return "missed"
