"""Claim files, their verdicts, and the gallery they make."""

import csv
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roofline.catalog.files import find, read_toml
from roofline.errors import FileFormatError, InvalidSpecError, UnknownNameError
from roofline.settings import Settings
from roofline.studies.claim_files import load_claims, read_claims, refuse_unknown
from roofline.studies.gallery import counted, write_gallery
from roofline.studies.gallery_charts import curves_of
from roofline.studies.reproduce import Found, reproduce

FILES = load_claims()
PUBLISHED = Path(__file__).parents[3] / "shared" / "reference" / "published_claims.csv"
KEYS = [
    "system", "source", "setting", "metric", "unit", "published", "ideal", "predicted", "low", "high",
    "error", "verdict", "binding",
]  # fmt: skip
VERDICTS = ("reproduced", "bracketed", "missed", "impossible as stated", "no number")


@pytest.fixture(scope="module")
def answered() -> list[tuple[Any, list[Found]]]:
    return list(reproduce(FILES))


def claim_file(folder: Path, text: str) -> Path:
    path = folder / "some.toml"
    path.write_text('system = "Some"\n' + text, encoding="utf-8")
    return path


RUN = '[run.one]\nat = "table 1"\nmodel = "llama-2-7b"\nhardware = "a6000"\n'
CLAIM = (
    '[[claim]]\nsetting = "s"\nmetric = "time"\nunit = "ms"\nat = "table 1"\nrun = "one"\nanswer = "tpot"\n'
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_input_is_a_stated_setting_or_an_assumption_with_its_reason(path: Path) -> None:
    file = read_claims(path)
    allowed = {entry.name for entry in fields(Settings)} - {"draft_host"}

    for run in file.runs.values():
        assert run.at
        assert set(run.settings) <= allowed
        assert all(len(why) > 3 for why in run.assumed.values())
        assert "software" not in run.settings or "software" in run.assumed or "software" in run.at
    for claim in file.claims:
        assert set(claim.vary) <= allowed
        assert claim.at
        assert claim.provenance


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_file_reaches_into_a_fit(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    for fitted in ("runtime.", "draft_host", "deployment.scale", "call=", "around=", "operations="):
        assert fitted not in text


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the list of published claims is not at hand")
def test_every_published_system_has_a_file_with_as_many_claims() -> None:
    with PUBLISHED.open(encoding="utf-8") as stream:
        listed = [row["system"] for row in csv.DictReader(stream)]
    held = {read_toml(path)["system"]: len(read_toml(path)["claim"]) for path in FILES}

    assert {find(name, "claims").stem for name in held} == {path.stem for path in FILES}
    missing = {name for name in listed if held.get(name, 0) < min(listed.count(name), 4)}
    assert missing == set()


def test_rows_have_exactly_the_keys_and_verdicts_that_are_documented(
    answered: list[tuple[Any, list[Found]]],
) -> None:
    rows = [one.row() for _, found in answered for one in found]

    assert all(list(row) == KEYS for row in rows)
    assert all(row["verdict"] in VERDICTS or row["verdict"].startswith("needs: ") for row in rows)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_no_run_of_the_gallery_fails(answered: list[tuple[Any, list[Found]]]) -> None:
    failed = [one.row() for _, found in answered for one in found if "a run that works" in one.verdict]

    assert failed == []


def test_most_answered_claims_are_reproduced_or_bracketed(answered: list[tuple[Any, list[Found]]]) -> None:
    verdicts = [one.verdict for _, found in answered for one in found]
    held = sum(verdicts.count(name) for name in ("reproduced", "bracketed"))

    assert held / (held + verdicts.count("missed") + verdicts.count("impossible as stated")) > 0.75


def test_a_profile_fitted_on_the_papers_own_data_is_named(answered: list[tuple[Any, list[Found]]]) -> None:
    told = {file.name for file, found in answered for one in found if one.own_data}

    assert {"lookahead_alipay", "idealized_runtime", "powerinfer_2"} <= told
    assert "medusa" not in told


def test_points_along_batch_are_drawn_as_a_curve(answered: list[tuple[Any, list[Found]]]) -> None:
    drawn = {file.name: list(curves_of(file, found)) for file, found in answered}

    assert any("decode step" in picture for picture in drawn["llm_viewer"])
    assert drawn["rapid"] == []


def test_the_html_needs_no_network(answered: list[tuple[Any, list[Found]]]) -> None:
    pages = dict(write_gallery(answered))

    assert set(pages) == {"gallery.md", "gallery.html"}
    assert "http" not in pages["gallery.html"].partition("<h2")[0]
    assert "src=" not in pages["gallery.html"]
    assert "<svg" in pages["gallery.html"]
    assert counted([one for _, found in answered for one in found]) in pages["gallery.md"]


def verdict_of(folder: Path, published: str, extra: str = "") -> Found:
    path = claim_file(folder, f"{RUN}\n{CLAIM}published = {published}\nprovenance = 'p'\n{extra}")
    return next(iter(reproduce([path])))[1][0]


def test_verdicts_follow_the_distance(tmp_path: Path) -> None:
    # One 7B at 16 bits on 768 GB/s: 13.3 GB take 17 ms at the least.
    near = verdict_of(tmp_path, "19")
    assert near.ideal is not None
    assert near.predicted is not None

    assert verdict_of(tmp_path, str(near.predicted)).verdict == "reproduced"
    assert verdict_of(tmp_path, str(near.predicted * 3.0)).verdict == "missed"
    assert verdict_of(tmp_path, str(near.ideal * 0.5)).verdict == "impossible as stated"
    assert verdict_of(tmp_path, f"[{near.predicted}, 100.0]").error == 0.0
    assert verdict_of(tmp_path, str(near.predicted / 3.0), "bound = 'over'").verdict == "reproduced"


def test_a_run_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    text = RUN.replace("a6000", "no-such-device") + CLAIM + "published = 1\nprovenance = 'p'\n"
    path = claim_file(
        tmp_path, text + "[[claim]]\nsetting='s'\nmetric='m'\nat='a'\npublished='x'\nnone='none'\n"
    )

    (_, found), _ = list(reproduce([path, FILES[0]]))
    assert found[0].verdict.startswith("needs: a run that works (no device")
    assert found[1].verdict == "no number"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("unit = \"ms\"", "unit = \"GB\""), "does not convert to s"),
        (("unit = \"ms\"", "unit = \"parsec\""), "no unit 'parsec'"),
        (("answer = \"tpot\"", "answer = \"tpto\""), "no answer 'tpto'.*'tpot'"),
        (("run = \"one\"", "run = \"two\""), "no run 'two'"),
        (("metric = \"time\"", "metric = \"time\"\nfudge = 2"), "fudge"),
        (("at = \"table 1\"\nmodel", "model"), "want at, where the settings are stated"),
        (("hardware = \"a6000\"", "hardware = \"a6000\"\nefficiency = 0.7"), "unknown key 'efficiency'"),
    ],
)  # fmt: skip
def test_a_bad_claim_file_says_what_is_wrong(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    text = (RUN + CLAIM + "published = 1\n").replace(*change)

    with pytest.raises((FileFormatError, InvalidSpecError), match=message):
        read_claims(claim_file(tmp_path, text))


def test_a_claim_cannot_set_what_is_fitted() -> None:
    for keys in ({"draft_host": "1 ms"}, {"set": {"runtime.host.per_layer": "1 ms"}},
                 {"technique": ["medusa:call=3"]}):  # fmt: skip
        with pytest.raises(FileFormatError):
            refuse_unknown(keys, "here")


@pytest.mark.parametrize(
    "chosen",
    [
        'speculate = "chain:3"\naccept = "0.9"\nassumed = { accept = "so that it fits" }\n',
        'set = { "memory.gddr.bandwidth" = "500 GB/s" }\nassumed = { set = "so that it fits" }\n',
    ],
)
def test_what_decides_an_answer_cannot_be_assumed(tmp_path: Path, chosen: str) -> None:
    with pytest.raises(FileFormatError, match="want a stated"):
        read_claims(claim_file(tmp_path, RUN + chosen + CLAIM + "published = 1\n"))


def test_an_unknown_system_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="medusa"):
        load_claims(["medusaa"])


UNKNOWN = CLAIM.replace('answer = "tpot"', 'answer = "sparse_gain"').replace('"ms"', '"x"')


@pytest.mark.parametrize(
    ("published", "most", "verdict"),
    [(1.5, 0.4, "bracketed"), (9.0, 0.4, "missed"), (1.5, 0.8, "needs: sparsity"), (1.05, 0.1, "reproduced")],
)
def test_what_is_not_published_makes_a_bracket(
    tmp_path: Path, published: float, most: float, verdict: str
) -> None:
    # 1 / (1 - 0) to 1 / (1 - most): up to 1.67 or 5
    text = f'published = {published}\nunknown = {{ sparsity = [0.0, {most}] }}\nnot_published = "sparsity"\n'
    path = claim_file(tmp_path, RUN + UNKNOWN + text)

    ((_, (found,)),) = reproduce([path])

    assert found.verdict == verdict
    assert found.low == 1.0
    np.testing.assert_allclose(found.high, 1.0 / (1.0 - most), rtol=1e-12)


def test_a_setting_may_be_what_is_not_published(tmp_path: Path) -> None:
    text = (
        'published = 20\nunknown = { batch = [1, 2], "memory.gddr.bandwidth" = ["700 GB/s", "768 GB/s"] }\n'
    )
    path = claim_file(tmp_path, RUN + CLAIM + text + 'not_published = "batch and clocks"\n')

    ((_, (found,)),) = reproduce([path])

    assert found.verdict == "bracketed"
    assert found.low is not None
    assert found.high is not None
    assert found.low < 20.0 < found.high


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("unknown = { sparsity = [0.0, 0.4] }", "why the range"),
        ('unknown = { sparsity = 0.4 }\nnot_published = "x"', "unknown.sparsity"),
        ('answer = "tpot"\nunknown = { "runtime.host" = [1, 2] }\nnot_published = "x"', "runtime"),
    ],
)
def test_a_range_without_a_reason_or_into_a_fit_is_refused(tmp_path: Path, text: str, says: str) -> None:
    claim = UNKNOWN if "answer" not in text else CLAIM.replace('answer = "tpot"\n', "")
    path = claim_file(tmp_path, RUN + claim + "published = 2.0\n" + text)

    with pytest.raises(FileFormatError, match=says):
        read_claims(path)
