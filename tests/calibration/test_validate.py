from pathlib import Path

import numpy as np
import pytest

from roofline.calibration.measurements.measured_files import read_measured_file
from roofline.calibration.validate import RESULT_COLUMNS, Validation, validate
from roofline.errors import FileFormatError

pd = pytest.importorskip("pandas")

_HEADER = "device,op,dtype,m,n,k,latency_us,src_id"
_GEMM = "h100-sxm5-80gb,gemm,bf16,4096,4096,4096,{latency},7"


def _write(folder: Path, *rows: str, header: str = _HEADER, name: str = "table.csv") -> Path:
    (folder / "sources.csv").write_text("src_id,source,software\n7,mine,vllm 0.24.0\n")
    path = folder / name
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


def _reasons(result: Validation) -> dict[int, str]:
    return {line: left.example for left in result.left_out() for _, line in left.places}


def test_a_gemm_row_is_predicted_between_its_floor_and_twice_it(tmp_path: Path) -> None:
    # 2 x 4096**3 FLOP at 989.4 TFLOP/s dense are 138.9 us.
    result = validate([_write(tmp_path, _GEMM.format(latency="190"))])
    row = result.frame().iloc[0]

    np.testing.assert_allclose(row["ideal"], 2 * 4096**3 / 989.4e12 * 1e6, rtol=1e-3)
    assert row["ideal"] < row["low"] < row["predicted"] < row["high"] < 2 * row["ideal"]
    np.testing.assert_allclose(row["error"], row["predicted"] / 190 - 1, rtol=1e-12)
    assert (row["basis"], row["skipped"]) == ("measured", "")


def test_the_rows_of_a_file_come_back_in_order_with_seven_more_columns(tmp_path: Path) -> None:
    rows = [_GEMM.format(latency=value) for value in ("190", "oops", "191")]
    frame = validate([_write(tmp_path, *rows)]).frame()

    assert tuple(frame.columns) == (*_HEADER.split(","), *RESULT_COLUMNS)
    assert list(frame["latency_us"]) == ["190", "oops", "191"]
    assert frame["predicted"].isna().tolist() == [False, True, False]


def test_predictions_are_in_the_unit_of_the_latency_column(tmp_path: Path) -> None:
    one = validate([_write(tmp_path, _GEMM.format(latency="190"))]).frame().iloc[0]
    header = _HEADER.replace("latency_us", "latency_ms")
    other = validate([_write(tmp_path, _GEMM.format(latency="0.19"), header=header)]).frame().iloc[0]

    np.testing.assert_allclose(other["predicted"] * 1e3, one["predicted"], rtol=1e-12)
    np.testing.assert_allclose(other["error"], one["error"], rtol=1e-12)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (_GEMM.format(latency=""), "latency_us is missing"),
        (_GEMM.format(latency="fast"), "latency_us is not a number: 'fast'"),
        (_GEMM.format(latency="nan"), "latency_us is not a number: 'nan'"),
        (_GEMM.format(latency="inf"), "latency_us is not finite"),
        (_GEMM.format(latency="-190"), "latency_us is not above 0"),
        (_GEMM.format(latency="0"), "latency_us is not above 0"),
        (
            _GEMM.replace("4096,4096,4096", "4096,1e200,4096").format(latency="190"),
            "gemm needs n from 1 to 1e+12",
        ),
        (_GEMM.format(latency="0.19"), "latency_us is below the floor"),
        (_GEMM.format(latency="190000"), "latency_us seems to be in another unit"),
        (_GEMM.replace("4096,4096,4096", "4096,,4096").format(latency="190"), "gemm needs n from 1 to 1e+12"),
        (_GEMM.replace("gemm", "gem").format(latency="190"), "operator 'gem' is not predicted"),
        (_GEMM.replace("bf16", "bf61").format(latency="190"), "no number format is called 'bf61'"),
        (_GEMM.replace("h100-sxm5-80gb", "h1000").format(latency="190"), "no device is called 'h1000'"),
        (_GEMM.format(latency="190") + ",8", "has 9 cells, the header 8"),
    ],
)
def test_a_bad_row_is_named_by_line_and_the_rest_is_used(tmp_path: Path, row: str, reason: str) -> None:
    result = validate([_write(tmp_path, _GEMM.format(latency="190"), row, _GEMM.format(latency="191"))])

    assert result.scored()[0].score.rows == 2
    ((line, found),) = _reasons(result).items()
    assert line == 3
    assert found.startswith(reason)


def test_a_row_that_repeats_another_is_counted_once(tmp_path: Path) -> None:
    result = validate([_write(tmp_path, *[_GEMM.format(latency="190")] * 3)])

    assert result.scored()[0].score.rows == 1
    assert _reasons(result) == {3: "repeats an earlier row", 4: "repeats an earlier row"}


def test_software_comes_from_the_sources_beside_the_table(tmp_path: Path) -> None:
    (group,) = validate([_write(tmp_path, _GEMM.format(latency="190"))]).scored("software")

    assert group.keys == {"software": "vllm 0.24.0"}


def test_an_unknown_column_set_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    path = _write(tmp_path, "h100,gemm,1", header="device,op,latency_us")

    with pytest.raises(FileFormatError, match=r"lacks column 'dtype'"):
        validate([path])


@pytest.mark.parametrize("text", ["", "\n", "{", "[1, 2]", "op,op,dtype\n", '"op', "\x00\x01"])
def test_a_file_that_is_no_table_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)

    with pytest.raises(FileFormatError, match=r"table\.csv"):
        read_measured_file(path)


def test_the_document_has_every_row_and_no_number_that_is_none(tmp_path: Path) -> None:
    document = validate([_write(tmp_path, _GEMM.format(latency="190"), _GEMM.format(latency="x"))]).document()

    assert [row["line"] for row in document["rows"]] == [2, 3]
    assert document["rows"][1]["predicted"] is None
    assert document["left_out"][0]["rows"] == document["files"][0]["left_out"] == 1
