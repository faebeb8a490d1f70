"""The gallery of published numbers beside ours, as Markdown and as one HTML file without links."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Final

from roofline.studies.claim_files import ClaimFile, Run
from roofline.studies.gallery_charts import curves_of, multiples_of
from roofline.studies.reproduce import Found

__all__ = ["cells_of", "counted", "write_gallery"]

Answered = Sequence[tuple[ClaimFile, list[Found]]]


def _digits(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "more"


def _published(found: Found) -> str:
    claim = found.claim
    if isinstance(claim.published, str):
        return claim.published
    if isinstance(claim.published, tuple):
        return f"{_digits(claim.published[0])} to {_digits(claim.published[1])} {claim.unit}".rstrip()
    return f"{'over ' if claim.bound else ''}{_digits(claim.published)} {claim.unit}".rstrip()


def cells_of(found: Found) -> tuple[str, ...]:
    """Return the cells of a table row: setting, metric, verdict, binding, then the figures."""
    verdict = found.verdict + (f" ({found.own_data})" if found.own_data else "")
    start = (found.claim.setting, found.claim.metric, verdict, found.binding, _published(found))
    if found.predicted is None or found.ideal is None or found.low is None or found.high is None:
        return (*start, "", "", "", "")
    error = "" if found.error is None else f"{100 * found.error:+.1f} %"
    spread = "" if found.low == found.high else f"{_digits(found.low)} to {_digits(found.high)}"
    return (*start, _digits(found.ideal), _digits(found.predicted), spread, error)


def counted(found: Iterable[Found]) -> str:
    """Return how many claims have each verdict, in one line."""
    kept = list(found)
    kinds = Counter(one.verdict.partition(":")[0] for one in kept)
    answered = sum(kinds[name] for name in ("reproduced", "bracketed", "missed", "impossible as stated"))
    held = kinds["reproduced"] + kinds["bracketed"]
    parts = ", ".join(f"{count} {name}" for name, count in kinds.most_common())
    if not answered:
        return f"{len(kept)} claims: {parts}."
    own = sum(1 for one in kept if one.own_data)
    share = f"{100 * held / answered:.0f} % of the {answered} answered are reproduced or bracketed"
    return f"{len(kept)} claims: {parts}; {share}; {own} answers rest on the paper's own data."


_HEADER: Final = ("setting", "metric", "verdict", "binds", "published", "ideal", "ours", "80 %", "error")

_PREFACE: Final = (
    "Numbers that others published, and ours from the inputs they state. *Ideal* is at datasheet figures,",
    "*ours* under the software profile named in the run, with its 80 % interval. Reproduced: within 15 %.",
    "Bracketed: between ideal and the interval, no wider than a factor of two. Impossible as stated: beyond",
    "the bound. What is not published is varied over a stated range; the bracket of that is the answer.",
    "No run holds a constant fitted to its own target; a profile that was fitted on a paper's",
    "own data is named in the verdict. *Needs* names the capability, profile or unpublished input that is",
    "missing; *no number* is a claim without a cost, with the analysis a reader would run. Written by",
    "`roofline reproduce --gallery docs`.",
)


def write_gallery(answered: Answered) -> Iterator[tuple[str, str]]:
    """Yield the name and text of each file."""
    yield "gallery.md", "\n".join(_markdown(answered))
    yield "gallery.html", "\n".join(_html(answered))


def _used(run: Run) -> str:
    given = ", ".join(
        f"{key}={_shown(value)}" for key, value in run.settings.items() if key not in run.assumed
    )
    chosen = "; ".join(f"{key}={run.settings[key]}: {why}" for key, why in run.assumed.items())
    return f"{given} ({run.at})" + (f". Assumed: {chosen}" if chosen else "")


def _shown(value: object) -> object:
    """A setting as a reader knows it: a file beside the claims by its name."""
    return Path(value).name if isinstance(value, str) and value.endswith(".toml") else value


def _all(answered: Answered) -> list[Found]:
    return [one for _, found in answered for one in found]


def _markdown(answered: Answered) -> Iterator[str]:
    def row(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    yield "# Reproduction gallery"
    yield ""
    yield from _PREFACE
    yield ""
    yield counted(_all(answered))
    for file, found in answered:
        yield ""
        yield f"## {file.system}" + (f" (arXiv:{file.arxiv})" if file.arxiv else "")
        yield ""
        if file.asks:
            yield from (file.asks, "")
        yield row(_HEADER)
        yield "|---|---|---|---|---:|---:|---:|---:|---:|"
        for one in found:
            yield row(cells_of(one))
        notes = list(_notes(found))
        if notes:
            yield ""
            yield from (f"- {note}" for note in notes)
        if file.runs:
            yield ""
            yield from (f"- run `{name}`: {_used(run)}" for name, run in file.runs.items())


def _notes(found: Iterable[Found]) -> Iterator[str]:
    told = []
    for one in found:
        claim = one.claim
        for start, text in (
            ("inputs", claim.inputs),
            ("not published", claim.not_published),
            ("", claim.note),
            ("to run", claim.none or ""),
        ):
            if text:
                told.append(f"{claim.metric}: {start}{': ' if start else ''}{text}")
    yield from dict.fromkeys(told)


_STYLE: Final = """
body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:78em;padding:0 1em;color:#222}
table{border-collapse:collapse;font-size:13px}
td,th{border-bottom:1px solid #ddd;padding:3px 7px;text-align:left;vertical-align:top}
td:nth-child(n+5){text-align:right;white-space:nowrap}summary{cursor:pointer;color:#555}
.reproduced{color:#00734f}.bracketed{color:#0072b2}.missed,.impossible{color:#b03a00}.needs,.no{color:#777}
svg text{font:11px system-ui,sans-serif}"""


def _html(answered: Answered) -> Iterator[str]:
    yield '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Reproduction gallery</title>'
    yield f"<style>{_STYLE}</style></head><body><h1>Reproduction gallery</h1>"
    yield f"<p>{escape(' '.join(_PREFACE)).replace('*', '').replace('`', '')}</p>"
    yield f"<p><b>{escape(counted(_all(answered)))}</b></p>"
    for file, found in answered:
        title = file.system + (f" (arXiv:{file.arxiv})" if file.arxiv else "")
        yield f'<h2 id="{escape(file.name)}">{escape(title)}</h2>'
        if file.asks:
            yield f"<p>{escape(file.asks)}</p>"
        yield from curves_of(file, found)
        yield multiples_of(found)
        yield "<table><tr>" + "".join(f"<th>{escape(name)}</th>" for name in _HEADER) + "</tr>"
        for one in found:
            kind = one.verdict.replace(":", " ").split(" ")[0]
            cells = (f"<td>{escape(cell)}</td>" for cell in cells_of(one))
            yield f'<tr class="{kind}">{"".join(cells)}</tr>'
        yield "</table>"
        lines = [*_notes(found), *(f"run {name}: {_used(run)}" for name, run in file.runs.items())]
        if lines:
            yield "<details><summary>inputs and notes</summary><ul>"
            yield "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul></details>"
    yield "</body></html>"
