"""Predictions against files of measurements: every row, every group, and what was left out and why."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from roofline.calibration.accuracy.scores import Score, score
from roofline.calibration.measurements.measured_files import MeasuredFile, read_measured_file
from roofline.calibration.predictions.operator_predictions import predict_operators
from roofline.calibration.predictions.predictions import Predictions
from roofline.calibration.predictions.whole_model_predictions import predict_whole_models
from roofline.errors import FileFormatError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KEYS", "RESULT_COLUMNS", "Left", "Scored", "Validation", "validate"]

#: What rows are grouped by.
KEYS: Final = ("device", "software", "measured", "format")
#: What the basis of a row says where a plain decoder stands in for its model.
_PLAIN: Final = ", plain decoder"
#: What is added to the columns of a file, in the unit of its measured column.
RESULT_COLUMNS: Final = ("predicted", "ideal", "low", "high", "error", "basis", "skipped")


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """A group of rows with its errors."""

    keys: Mapping[str, str]
    score: Score
    profiles: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Left:
    """Rows left out for one reason: where they are, as (file, line), and the first one's full text."""

    reason: str
    example: str
    places: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Validation:
    """Files of measurements with their predictions."""

    parts: tuple[tuple[MeasuredFile, Predictions], ...]

    def frame(self) -> "pd.DataFrame":
        """Return the input rows of all files, in order, with `RESULT_COLUMNS`; not predicted is empty."""
        import pandas as pd

        def added(file: MeasuredFile, found: Predictions) -> pd.DataFrame:
            own = file.cells.drop(columns=[name for name in RESULT_COLUMNS if name in file.cells])
            used = found.skipped == ""
            numbers = {name: np.where(used, getattr(found, name), np.nan) for name in RESULT_COLUMNS[:5]}
            basis = np.where(used, found.basis + np.where(found.stand_in == "", "", _PLAIN), "")
            return own.assign(**numbers, basis=basis, skipped=found.skipped)

        return pd.concat([added(*part) for part in self.parts], ignore_index=True)

    def scored(self, *keys: str) -> list[Scored]:
        """Return the errors of each group, by some of `KEYS`; of all rows together without any."""
        table = self._used()
        if not keys:
            return [_scored({}, table)] if len(table) else []
        return [
            _scored(dict(zip(keys, map(str, values), strict=True)), rows)
            for values, rows in table.groupby(list(keys), sort=True)
        ]

    def profiles_used(self) -> list[tuple[str, str, int]]:
        """Return which profile stood for which software, and for how many rows, most first."""
        pairs = self._used().groupby(["software", "profile"]).size().sort_values(ascending=False)
        table = pairs.reset_index(name="rows")
        return [
            (str(software), str(profile), int(rows))
            for software, profile, rows in table.itertuples(index=False)
        ]

    def stand_ins(self) -> list[tuple[str, str, int]]:
        """Return which models were predicted as what else, and for how many rows, most first."""
        import pandas as pd

        pairs = [
            pd.DataFrame({"model": file.column("model"), "stand_in": found.stand_in, "rows": 1})[
                (found.skipped == "") & (found.stand_in != "")
            ]
            for file, found in self.parts
            if file.schema == "whole_models"
        ]
        if not pairs:
            return []
        together = pd.concat(pairs).groupby(["model", "stand_in"], sort=False)["rows"].sum()
        counts = together.sort_values(ascending=False, kind="stable").reset_index()
        return [(str(model), str(stand_in), int(rows)) for model, stand_in, rows in counts.to_numpy()]

    def left_out(self) -> list[Left]:
        """Return the reasons why rows have no prediction, commonest first, and where those rows are."""
        found: dict[str, list[tuple[str, int]]] = {}
        examples: dict[str, str] = {}
        for file, predictions in self.parts:
            for row in np.flatnonzero(predictions.skipped != ""):
                text = str(predictions.skipped[row])
                reason = text.partition(": ")[0]
                examples.setdefault(reason, text)
                found.setdefault(reason, []).append((str(file.path), int(file.lines[row])))
        return [
            Left(reason=reason, example=examples[reason], places=tuple(places))
            for reason, places in sorted(found.items(), key=lambda pair: -len(pair[1]))
        ]

    def document(self) -> dict[str, Any]:
        """Return everything as plain values; numbers that do not exist are None."""
        return {
            "files": [
                {
                    "path": str(file.path),
                    "rows": len(found.skipped),
                    "predicted": int(np.sum(found.skipped == "")),
                    "left_out": int(np.sum(found.skipped != "")),
                }
                for file, found in self.parts
            ],
            "all": next((asdict(every.score) for every in self.scored()), None),
            "by_measured": [_group_document(group) for group in self.scored("measured")],
            "groups": [_group_document(group) for group in self.scored(*KEYS)],
            "left_out": [
                {
                    "reason": left.reason,
                    "example": left.example,
                    "rows": len(left.places),
                    "places": [f"{path}:{line}" for path, line in left.places],
                }
                for left in self.left_out()
            ],
            "rows": list(self._row_documents()),
        }

    def _row_documents(self) -> Iterator[dict[str, Any]]:
        for file, found in self.parts:
            columns = {name: getattr(found, name) for name in ("measured", *RESULT_COLUMNS[:5])}
            for row, line in enumerate(file.lines):
                yield {
                    "file": str(file.path),
                    "line": int(line),
                    **{name: _plain(values[row]) for name, values in columns.items()},
                    "basis": str(found.basis[row]),
                    "stand_in": str(found.stand_in[row]),
                    "skipped": str(found.skipped[row]),
                }

    def _used(self) -> "pd.DataFrame":
        import pandas as pd

        tables = []
        for _, found in self.parts:
            numbers = {
                name: getattr(found, name)
                for name in ("predicted", "ideal", "low", "high", "seconds", "profile")
            }
            table = found.keys.assign(**numbers, value=found.measured)
            tables.append(table[found.skipped == ""])
        together: pd.DataFrame = pd.concat(tables, ignore_index=True)
        return together


def _plain(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def _group_document(group: Scored) -> dict[str, Any]:
    return {**group.keys, **asdict(group.score), "profiles": list(group.profiles)}


def _scored(keys: Mapping[str, str], rows: "pd.DataFrame") -> Scored:
    figures = {name: rows[name].to_numpy(float) for name in ("predicted", "ideal", "low", "high", "seconds")}
    return Scored(
        keys=keys,
        score=score(measured=rows["value"].to_numpy(float), **figures),
        profiles=tuple(sorted(set(rows["profile"]) - {""})),
    )


def validate(paths: Iterable[Path], said: Mapping[str, str] | None = None) -> Validation:
    """Return predictions for every row of files of measurements.

    Parameters
    ----------
    paths : iterable of Path
        Tables or outputs as `read_measured_file` takes them; a table of sources is passed over.
    said : mapping of str to str, optional
        Cells by column for rows where they are empty, such as a device that an output does not name.

    Raises
    ------
    FileFormatError
        If a file cannot be read, or none of them holds measurements.
    """
    parts = []
    for path in paths:
        file = replace(read_measured_file(path), said=dict(said or {}))
        if file.schema == "operators":
            parts.append((file, predict_operators(file)))
        elif file.schema == "whole_models":
            parts.append((file, predict_whole_models(file)))
    if not parts:
        raise FileFormatError("want at least one file of measurements")
    return Validation(parts=tuple(parts))
