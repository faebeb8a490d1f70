import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofline.errors import InvalidSpecError
from roofline.units import DIMENSIONS, dimension_of, file_key, parse, render


@pytest.mark.parametrize(
    ("text", "dimension", "expected"),
    [
        ("3.35 TB/s", "bytes_per_s", 3.35e12),
        ("80 GiB", "bytes", 80 * 2**30),
        ("80 GB", "bytes", 80e9),
        ("989.4 TFLOP/s", "flops_per_s", 989.4e12),
        ("45 TOPS", "flops_per_s", 45e12),
        ("400 Gbit/s", "bytes_per_s", 50e9),
        ("2.5 us", "s", 2.5e-6),
        ("1.83 GHz", "hertz", 1.83e9),
        ("700 W", "watts", 700.0),
        ("1_000 B", "bytes", 1000.0),
    ],
)
def test_text_with_a_unit_is_read_in_si(text: str, dimension: str, expected: float) -> None:
    # Decimal prefixes are powers of 1000 and Gi is 2**30, so nothing is gained or lost by 7.4 %.
    np.testing.assert_allclose(parse(text, dimension), expected, rtol=1e-15)


@pytest.mark.parametrize(
    "bad",
    [3350, "3350", "3.35 TB", "3.35 tb/s", "-1 TB/s", "nan TB/s", "1e400 TB/s", "", None, True, "x" * 200],
)
def test_anything_else_is_refused_with_an_example(bad: object) -> None:
    with pytest.raises(InvalidSpecError, match=r"want (text such as '3.35 TB/s'|a finite value)"):
        parse(bad, "bytes_per_s")


@given(st.floats(0, 1e30), st.sampled_from(sorted(DIMENSIONS)))
def test_rendered_values_are_read_back_unchanged(value: float, dimension: str) -> None:
    assert parse(render(value, dimension), dimension) == value


def test_field_names_lose_their_unit_at_the_border() -> None:
    assert file_key("bandwidth_bytes_per_s") == "bandwidth"
    assert file_key("capacity_bytes") == "capacity"
    assert file_key("heads") == "heads"
    assert dimension_of("tdp_watts") == "watts"
    assert dimension_of("units") is None
