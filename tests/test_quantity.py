import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from roofline.quantity import maximum, minimum, smooth_maximum, total, where


@given(st.floats(0, 1e20), st.floats(0, 1e20), st.floats(1, 50))
def test_smooth_maximum_lies_between_maximum_and_sum(a: float, b: float, exponent: float) -> None:
    value = smooth_maximum(a, b, exponent)

    assert max(a, b) * (1 - 1e-12) <= value <= (a + b) * (1 + 1e-12)


def test_smooth_maximum_of_nothing_is_nothing() -> None:
    assert smooth_maximum(0.0, 0.0, 3.0) == 0.0


def test_operations_broadcast_like_their_scalar_calls() -> None:
    a, b = np.array([1.0, 5.0, 3.0]), 4.0

    np.testing.assert_array_equal(maximum(a, b), [4, 5, 4])
    np.testing.assert_array_equal(minimum(a, b), [1, 4, 3])
    np.testing.assert_array_equal(where(a > b, a, b), [4, 5, 4])
    np.testing.assert_array_equal(total((1.0, a, np.ones((2, 1)), a)), np.ones((2, 1)) * (2 * a + 2))
    assert isinstance(where(1.0 > 0.0, 2.0, 3.0), float)
