"""A matrix on several engines of one memory."""

import numpy as np
import pytest

from roofline.catalog.hardware import load_device
from roofline.errors import InvalidSpecError
from roofline.studies.engine_split import EngineSplit, split_matrix

PHONE = load_device("snapdragon-8-gen-3").value


def split(tokens: float | np.ndarray, engines: tuple[str, ...], least: float = 1.0) -> EngineSplit:
    return split_matrix(
        PHONE,
        weight_bytes=33e6,
        parameters=58.7e6,
        tokens=tokens,
        engines=engines,
        least_tokens={"npu": least},
    )


def test_one_token_is_split_by_what_each_draws_under_the_cap_of_both() -> None:
    # PowerInfer-2, section 2.3.1: 43.9 and 56 GB/s alone, 59.6 together; half of a matrix each (4.1.2)
    found = split(1.0, ("cpu", "npu"))

    np.testing.assert_allclose(found.shares["npu"], 56.0 / (56.0 + 43.9), rtol=1e-9)
    np.testing.assert_allclose(found.time_s, 33e6 / 59.6e9, rtol=1e-9)


def test_larger_batches_go_to_the_engine_of_dense_products() -> None:
    shares = np.asarray(split(np.array([1.0, 8.0, 64.0]), ("cpu", "npu")).shares["npu"])

    assert np.all(np.diff(shares) > 0.0)
    assert shares[-1] > 0.9


def test_below_its_least_batch_an_engine_takes_as_long_as_at_it() -> None:
    few, enough = (split(tokens, ("npu",), least=256.0).time_s for tokens in (1.0, 256.0))

    np.testing.assert_allclose(few, enough, rtol=1e-12)
    assert float(few) > float(split(1.0, ("npu",)).time_s)


def test_more_engines_are_never_slower() -> None:
    tokens = np.geomspace(1.0, 512.0, 20)

    both, one, other = (split(tokens, names).time_s for names in (("cpu", "npu"), ("cpu",), ("npu",)))

    assert np.all(np.asarray(both) <= np.minimum(one, other) * (1.0 + 1e-12))


@pytest.mark.parametrize(
    ("engines", "says"), [(("cpu", "tpu"), "no engine 'tpu'"), (("cpu", "cpu"), "each once"), ((), "none")]
)
def test_impossible_engines_are_refused(engines: tuple[str, ...], says: str) -> None:
    with pytest.raises(InvalidSpecError, match=says):
        split(1.0, engines)
