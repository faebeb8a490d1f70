"""What keeping tokens with their experts saves."""

import numpy as np

from roofline.studies.expert_exchange import exchange_reduction


def test_keeping_everything_local_saves_the_exchange() -> None:
    found = exchange_reduction(
        local_before=0.25, local_after=np.array([0.25, 0.625, 1.0]), exchange_share=0.8
    )

    np.testing.assert_allclose(found, [0.0, 0.4, 0.8], atol=1e-15)
