"""A campaign: a folder of raw measurements of one machine that can be taken up again."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from roofline.calibration.measurements.operator_kinds import ROTATED
from roofline.calibration.microbenchmarks.machine import Machine
from roofline.errors import InvalidSpecError

__all__ = ["COLUMNS", "Campaign", "Chosen", "Point", "Probe", "appended", "first_quartile", "raw_rows"]

_SIZES: Final = (
    *("m", "n", "k", "batch", "heads", "kv_heads", "head_dim", "q_len", "kv_len"),
    *("world", "bytes"),
)
_PROBES: Final = ("product_probe_us", "read_probe_us")
#: Columns of a campaign's table, which is an operator table like any other (calibrate/README.md).
COLUMNS: Final = (
    *("device", "op", "dtype", "kv_dtype", *_SIZES, "kernel", "operands", "latency_us", "std_us"),
    *("repeats", *_PROBES, "src_id"),
)
#: What a machine is measured against is the probe that one in ten beat: a single lucky one says little.
_AT_ITS_BEST: Final = 0.1
#: A row whose probes took that many times as long shows who else used the machine.
_SLOWED: Final = 1.3


@dataclass(frozen=True, kw_only=True)
class Point:
    """One shape to measure."""

    op: str
    dtype: str
    shape: Mapping[str, int]

    @property
    def key(self) -> tuple[str, ...]:
        """What tells a point from every other."""
        return (self.op, self.dtype, *(f"{name}={size}" for name, size in sorted(self.shape.items())))

    @property
    def label(self) -> str:
        """What is shown while it is measured."""
        return " ".join((self.op, self.dtype, *(f"{name}={size}" for name, size in self.shape.items())))


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Times of one fixed product and of one fixed read of memory [s]: how fast the machine is now."""

    product_s: float
    read_s: float


def first_quartile(times_s: Sequence[float]) -> float:
    """Return the time that a quarter of the repeats beat [s]; what is slower was interrupted by others."""
    return sorted(times_s)[len(times_s) // 4]


def raw_rows(path: Path) -> list[dict[str, str]]:
    """Return the whole rows of a raw table that may not exist; an unfinished last line is dropped."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if None not in (*row, *row.values())]


def appended(path: Path, row: Mapping[str, Any]) -> None:
    """Add one row to a raw table, at once and whole; the first also writes the header.

    A torn line that an interrupted run left behind is taken away first.
    """
    kept = raw_rows(path)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if not kept or not text.endswith("\n"):
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(row), lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)
    with path.open("a", newline="", encoding="utf-8") as stream:
        csv.DictWriter(stream, list(row), lineterminator="\n").writerow(row)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """One row of every point that was measured."""

    undisturbed: tuple[dict[str, str], ...]
    slowed: tuple[dict[str, str], ...]

    @property
    def fitted(self) -> tuple[dict[str, str], ...]:
        """Undisturbed rows where those are the most, else all: a busy machine shows itself busy."""
        few = len(self.undisturbed) <= len(self.slowed)
        return (*self.undisturbed, *self.slowed) if few else self.undisturbed


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """A folder with what was measured, and how.

    ``<device>.csv`` holds the raw rows, ``sources.csv`` the software, ``campaign.json`` versions,
    command, probes and what they showed; ``fitted_rows.csv`` the rows that were fitted last.
    """

    folder: Path
    device: str

    @property
    def table(self) -> Path:
        """The operator table."""
        return self.folder / f"{self.device}.csv"

    def rows(self) -> list[dict[str, str]]:
        """Return every row that has been measured so far."""
        return raw_rows(self.table)

    def done(self) -> set[tuple[str, ...]]:
        """Return the keys of the points that were measured while nothing slowed the machine."""
        rows = self.rows()
        return {_key(row) for row, slower in zip(rows, _slowdowns(rows), strict=True) if slower <= _SLOWED}

    def chosen(self) -> "Chosen":
        """Return the least disturbed row of every point, those that something slowed apart."""
        best: dict[tuple[str, ...], tuple[float, dict[str, str]]] = {}
        rows = self.rows()
        for row, slower in zip(rows, _slowdowns(rows), strict=True):
            key = _key(row)
            if key not in best or slower < best[key][0]:
                best[key] = slower, row
        return Chosen(
            undisturbed=tuple(row for slower, row in best.values() if slower <= _SLOWED),
            slowed=tuple(row for slower, row in best.values() if slower > _SLOWED),
        )

    def best_probe(self) -> Probe | None:
        """Return the probes at the machine's best; None where there are none."""
        product_us, read_us = (_best_us(self.rows(), name) for name in _PROBES)
        if product_us is None or read_us is None:
            return None
        return Probe(product_s=product_us * 1e-6, read_s=read_us * 1e-6)

    def fitted_table(self) -> Path:
        """Write the chosen rows and return their table."""
        path = self.folder / "fitted_rows.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.chosen().fitted)
        return path

    def start(self, machine: Machine) -> None:
        """Make the folder and what does not change.

        Raises
        ------
        InvalidSpecError
            If it holds rows of other software, which is another campaign.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        sources = self.folder / "sources.csv"
        known = {row["software"] for row in raw_rows(sources)}
        if known and machine.software not in known:
            raise InvalidSpecError(
                f"{self.folder}: was measured with {', '.join(sorted(known))}, and this is "
                f"{machine.software}: move it away or take another --folder"
            )
        if not known:
            text = "src_id,source,source_commit,source_path,software,licence\n"
            sources.write_text(f"{text}0,own measurement,,{self.table.name},{machine.software},\n")

    def append(
        self, point: Point, *, kernel: str, times_s: Sequence[float], probe: Probe | None = None
    ) -> None:
        """Add one measured point.

        Parameters
        ----------
        probe : Probe, optional
            The machine's speed beside it; without one the row counts as undisturbed.
        """
        middle = first_quartile(times_s)
        spread = (sum((value - middle) ** 2 for value in times_s) / len(times_s)) ** 0.5
        row = {
            "device": self.device, "op": point.op, "dtype": point.dtype, "kernel": kernel,
            "kv_dtype": point.dtype if point.op.startswith("attention") else "", **point.shape,
            "operands": "" if "world" in point.shape else ROTATED,
            "latency_us": f"{middle * 1e6:.6g}", "std_us": f"{spread * 1e6:.4g}", "repeats": len(times_s),
            "product_probe_us": "" if probe is None else f"{probe.product_s * 1e6:.6g}",
            "read_probe_us": "" if probe is None else f"{probe.read_s * 1e6:.6g}", "src_id": 0,
        }  # fmt: skip
        appended(self.table, {name: row.get(name, "") for name in COLUMNS})

    def note(self, entry: Mapping[str, Any]) -> None:
        """Add an entry to ``campaign.json``: one per run."""
        path = self.folder / "campaign.json"
        runs = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        runs.append(dict(entry))
        path.write_text(json.dumps(runs, indent=2) + "\n", encoding="utf-8")


def _key(row: Mapping[str, str]) -> tuple[str, ...]:
    shape = {name: int(row[name]) for name in _SIZES if row.get(name)}
    return Point(op=row["op"], dtype=row["dtype"], shape=shape).key


def _slowdowns(rows: Sequence[Mapping[str, str]]) -> list[float]:
    """Return how many times longer the probes beside each row took than at the machine's best, >= 1."""
    slowest = np.ones(len(rows))
    for name in _PROBES:
        best_us = _best_us(rows, name)
        if best_us is not None:
            slowest = np.fmax(slowest, [float(row.get(name) or "nan") / best_us for row in rows])
    return [float(value) for value in slowest]


def _best_us(rows: Sequence[Mapping[str, str]], name: str) -> float | None:
    """Return the time of a probe at the machine's best [us]; None where it was not taken."""
    taken = [float(row[name]) for row in rows if row.get(name)]
    return float(np.quantile(taken, _AT_ITS_BEST)) if taken else None
