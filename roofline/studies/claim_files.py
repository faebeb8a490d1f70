"""Claim files: other people's published numbers, and the runs that answer them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from pydantic import ConfigDict

from roofline.catalog.files import find, names_in, read_toml
from roofline.catalog.sourced import validated
from roofline.errors import FileFormatError, nearest
from roofline.settings import Settings
from roofline.studies.claim_answers import ANSWERS, Answer, factor_of
from roofline.studies.claim_parts import PARTS, Part

__all__ = ["Claim", "ClaimFile", "Run", "load_claims", "placed", "read_claims", "refuse_unknown"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """The settings of one run, and where each is stated.

    Parameters
    ----------
    settings : mapping
        Keys of `Settings`.
    at : str
        Where the authors state those not assumed.
    assumed : mapping of str to str
        Keys they do not state, and how the value was chosen.
    largest_batch : bool
        Whether the batch is the largest that fits in memory.
    """

    settings: Mapping[str, Any]
    at: str
    assumed: Mapping[str, str] = field(default_factory=dict)
    largest_batch: bool = False


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One published figure and what of ours answers it.

    Parameters
    ----------
    setting, metric, unit, at, provenance : str
        What was measured or stated, and where it can be read.
    published : float, list of two floats or str
        A figure, a range, or words.
    bound : str
        ``over`` where the authors say "more than", else empty; "up to" is taken at its word.
    answer : str or None
        A figure of `ANSWERS` or `PARTS`.
    run, against : str or None
        The run it is read from, and the run it is compared with.
    form : str
        ``value``; ``ratio``, run / against; ``gain``, how many times better; ``reduction``,
        1 - run / against; ``increase``, run / against - 1; ``difference``, against - run.
    vary : mapping
        Settings, stated in `setting`, that this row changes in both runs.
    part : mapping
        Arguments of a figure of `PARTS`.
    inputs : str
        Where the figures in `part` are stated.
    unknown : mapping of str to (least, most)
        What is not published: arguments of `part`, settings of the run or dotted paths, each with the ends
        of its range. The answer is a bracket over all of them.
    not_published : str
        What a reader would need and the authors do not say; with `unknown`, why its range is that.
    note : str
        What stands between the two figures.
    needs : str or None
        The capability this waits for.
    none : str or None
        No number to hit: the analysis a reader would run.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    setting: str
    metric: str
    at: str
    published: float | tuple[float, float] | str
    unit: str = ""
    provenance: str = ""
    bound: Literal["", "over"] = ""
    answer: str | None = None
    run: str | None = None
    against: str | None = None
    form: Literal["value", "gain", "ratio", "reduction", "increase", "difference"] = "value"
    vary: Mapping[str, Any] = field(default_factory=dict)
    part: Mapping[str, str | float] = field(default_factory=dict)
    inputs: str = ""
    unknown: Mapping[str, tuple[str | float, str | float]] = field(default_factory=dict)
    not_published: str = ""
    note: str = ""
    needs: str | None = None
    none: str | None = None

    def check(self, where: str, runs: Mapping[str, Run]) -> None:
        """Raise `FileFormatError` unless the claim is answered in exactly one way."""
        ways = [name for name in ("answer", "needs", "none") if getattr(self, name) is not None]
        if len(ways) != 1:
            raise FileFormatError(f"{where}: want one of answer, needs or none, got {len(ways)}")
        if self.answer is None:
            return
        if isinstance(self.published, str):
            raise FileFormatError(f"{where}: published: want a number beside answer, got {self.published!r}")
        known: dict[str, Answer | Part] = {**ANSWERS, **PARTS}
        if self.answer not in known:
            raise FileFormatError(f"{where}: no answer {self.answer!r}{nearest(self.answer, known)}")
        refuse_unknown(self.vary, f"{where}: vary")
        if self.unknown and not self.not_published:
            raise FileFormatError(f"{where}: unknown: want not_published, why the range is that")
        if self.answer not in PARTS:
            refuse_unknown(placed(self.unknown), f"{where}: unknown")
        for name in (self.run, self.against):
            if name is not None and name not in runs:
                raise FileFormatError(f"{where}: no run {name!r}{nearest(name, runs)}")
        if self.run is None or (self.form == "value") != (self.against is None):
            raise FileFormatError(f"{where}: want run, and against for every form but value")
        dimension = known[self.answer].dimension if self.form in ("value", "difference") else ""
        factor_of(self.unit, dimension, where)


@dataclass(frozen=True, kw_only=True)
class ClaimFile:
    """All claims of one system.

    Parameters
    ----------
    system, arxiv : str
        As the field calls it; identifier or empty.
    asks : str
        The question its users have.
    repositories : tuple of str
        Whose measurements are this paper's own; a profile fitted on them is told.
    """

    name: str
    system: str
    arxiv: str
    asks: str
    repositories: tuple[str, ...]
    runs: Mapping[str, Run]
    claims: tuple[Claim, ...]


@dataclass(frozen=True, kw_only=True)
class _Document:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    system: str
    arxiv: str = ""
    aliases: tuple[str, ...] = ()
    asks: str = ""
    repositories: tuple[str, ...] = ()
    run: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    claim: tuple[Claim, ...]


def load_claims(systems: Sequence[str] = ()) -> list[Path]:
    """Return the claim files of those systems, of all where none is named.

    Raises
    ------
    UnknownNameError
        With the nearest name there is.
    """
    if not systems:
        return list(names_in("claims").values())
    return [find(name, "claims") for name in systems]


def read_claims(path: Path) -> ClaimFile:
    """Return a claim file.

    Raises
    ------
    FileFormatError, InvalidSpecError
        Naming the file and the key that is missing, unknown or does not convert.
    """
    document = validated(_Document, read_toml(path), path.name)
    runs: dict[str, Run] = {}
    for name, table in document.run.items():
        runs[name] = _run(table, runs, f"{path.name}: run.{name}", path.parent)
    for index, claim in enumerate(document.claim):
        claim.check(f"{path.name}: claim {index + 1}", runs)
    return ClaimFile(
        name=path.stem,
        system=document.system,
        arxiv=document.arxiv,
        asks=document.asks,
        repositories=document.repositories,
        runs=runs,
        claims=document.claim,
    )


def refuse_unknown(keys: Mapping[str, Any], where: str) -> None:
    """Raise `FileFormatError` unless every key is a setting that a claim may state.

    Host time of a draft call, and figures of a runtime profile, are fitted to measurements: a claim
    that gave them could be fitted to its own target.
    """
    for key in keys:
        if key not in _KEYS:
            raise FileFormatError(f"{where}: unknown key {key!r}{nearest(key, _KEYS)}")
    for path in keys.get("set", {}):
        if path.partition(".")[0] not in _ROOTS:
            raise FileFormatError(f"{where}: set.{path}: want a path from one of {', '.join(_ROOTS)}")
    for technique in keys.get("technique", ()):
        for part in technique.partition(":")[2].split(","):
            if part.partition("=")[0] in _COUNTED:
                raise FileFormatError(f"{where}: technique: {part.partition('=')[0]} is not a claim's to set")


_KEYS: Final = frozenset(entry.name for entry in fields(Settings)) - {"draft_host"}
#: What `set` may reach: stated figures of hardware, model and workload, never those of a fit.
_ROOTS: Final = (
    "workload",
    "model",
    "memory",
    "engine",
    "host",
    "host_link",
    "peer_link",
    "storage",
    "routing",
)
#: Settings of techniques that stand for time spent outside the model.
_COUNTED: Final = ("call", "around", "operations")
#: Figures that decide an answer and so must be stated, not chosen.
_STATED: Final = ("accept", "hit_rate", "reuse", "prefetch")
_RUN_KEYS: Final = ("at", "assumed", "like", "largest_batch")


def _run(table: Mapping[str, Any], before: Mapping[str, Run], where: str, folder: Path) -> Run:
    """Return a run; ``like`` starts from one that stands before it."""
    base = Run(settings={}, at="")
    if "like" in table:
        if table["like"] not in before:
            raise FileFormatError(f"{where}: like: no run {table['like']!r} stands before it")
        base = before[table["like"]]
    given = {key: value for key, value in table.items() if key not in _RUN_KEYS}
    for key in ("model", "hardware", "draft"):
        if str(given.get(key, "")).endswith(".toml"):
            given[key] = str(folder / given[key])
    settings = {**base.settings, **given}
    if "set" in given:
        settings["set"] = {**base.settings.get("set", {}), **given["set"]}
    kept = {key: why for key, why in base.assumed.items() if key not in given}
    run = Run(
        settings=settings,
        at=str(table.get("at", base.at)),
        assumed={**kept, **table.get("assumed", {})},
        largest_batch=bool(table.get("largest_batch", base.largest_batch)),
    )
    refuse_unknown(settings, where)
    for key in _STATED:
        if key in run.assumed:
            raise FileFormatError(f"{where}: assumed.{key}: want a stated value, or none")
    chosen = settings.get("set", {}) if "set" in run.assumed else {}
    for path in chosen:
        if not path.startswith("workload."):
            raise FileFormatError(f"{where}: assumed.set: {path}: want a stated figure, or none")
    loose = set(run.assumed) - set(settings)
    if loose:
        raise FileFormatError(f"{where}: assumed.{min(loose)} explains no key of this run")
    if not run.at:
        raise FileFormatError(f"{where}: want at, where the settings are stated")
    return run


def placed(ends: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings, dotted paths among them under ``set``."""
    paths = {key: value for key, value in ends.items() if "." in key}
    return {
        **{key: value for key, value in ends.items() if key not in paths},
        **({"set": paths} if paths else {}),
    }
