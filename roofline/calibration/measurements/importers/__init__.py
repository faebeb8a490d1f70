"""Output of other benchmarks, read into rows of the whole-model table."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Final

from roofline.calibration.measurements.importers import aiperf, llama_bench, silicon, vllm_serve
from roofline.errors import FileFormatError

__all__ = ["COLUMNS", "imported"]

#: Columns of the table that every importer fills; what an output does not say stays empty.
COLUMNS: Final = (
    *("device", "device_count", "model", "quant", "runtime", "parallelism", "phase", "batch"),
    *("prompt_len", "gen_len", "context", "lengths", "metric", "value", "unit", "note"),
)
_IMPORTERS: Final = (llama_bench, vllm_serve, aiperf, silicon)
#: Those whose outputs are CSV too.
_IN_CSV: Final = (llama_bench, silicon)


def imported(path: Path, text: str) -> tuple[list[str], list[list[str]], list[int]] | None:
    """Return header and rows of a foreign file, and where each stands; None where it is a table of ours.

    Where is the number of the record in a JSON file, the line in a CSV whose rows take one each.

    Raises
    ------
    FileFormatError
        If it is JSON, but not an output we know.
    """
    found = _records(path, text)
    if found is None:
        return None
    records, first = found
    rows: list[list[str]] = []
    places: list[int] = []
    for number, record in enumerate(records, start=first):
        importer = next((one for one in _IMPORTERS if one.recognises(record)), None)
        if importer is None:
            raise FileFormatError(
                f"{path}: record {number} is no output of llama-bench, vLLM, AIPerf or AIConfigurator: "
                f"it has {', '.join(sorted(map(str, record))[:6]) or 'no keys'}"
            )
        for row in importer.rows(record):
            rows.append([_cell(row.get(name)) for name in COLUMNS])
            places.append(number)
    if not rows:
        raise FileFormatError(f"{path}: holds no measured speed")
    return list(COLUMNS), rows, places


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.12g}" if isinstance(value, float) else str(value)


def _records(path: Path, text: str) -> tuple[Sequence[Mapping[str, Any]], int] | None:
    """Return the records of a JSON or JSON-lines text, or of a foreign CSV, and where the first stands.

    None for other CSV.
    """
    start = text.lstrip()[:1]
    if start in ("{", "["):
        return _mappings(path, _json(path, text)), 1
    header = next(csv.reader(StringIO(text)), [])
    if any(one.recognises(dict.fromkeys(header)) for one in _IN_CSV):
        return list(csv.DictReader(StringIO(text))), 2
    return None


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as whole:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            raise FileFormatError(f"{path}: not valid JSON ({whole})") from None
    except RecursionError:
        raise FileFormatError(f"{path}: not valid JSON (nested too deeply)") from None


def _mappings(path: Path, document: Any) -> list[Mapping[str, Any]]:
    records: Iterable[Any] = document if isinstance(document, list) else [document]
    found = list(records)
    for number, record in enumerate(found, start=1):
        if not isinstance(record, Mapping):
            raise FileFormatError(f"{path}: record {number}: want an object, got {type(record).__name__}")
    return found
