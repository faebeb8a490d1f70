"""Host time: what a sequence adds, and how an interval of a whole pass acts."""

from dataclasses import replace

import numpy as np

from roofline.analysis import analyze
from roofline.settings import Settings
from roofline.timing.runtime import HostTime


def scenario(batch_size=4.0, **host):
    made = Settings(model="llama-3.1-8b", hardware="nvidia_h100_sxm5_80gb", software="datasheet").scenario()
    runtime = replace(made.deployment.runtime, host=HostTime(composition={"decode": "sum"}, **host))
    workload = replace(made.workload, batch_size=batch_size, context_tokens=100.0)
    return replace(made, workload=workload, deployment=replace(made.deployment, runtime=runtime))


def iteration_s(**host):
    return analyze(scenario(**host)).decode.time_s


def test_each_sequence_of_a_pass_adds_its_host_time():
    plain, slow = iteration_s(), iteration_s(per_sequence_s=1e-3)

    np.testing.assert_allclose(slow.value - plain.value, 4e-3, rtol=1e-9)


def test_the_interval_of_a_pass_is_that_of_its_quantiles():
    found = iteration_s(per_pass_s=1.0, low=-0.1, high=0.3)

    np.testing.assert_allclose(found.low / found.value, np.exp(-0.1), rtol=1e-9)
    np.testing.assert_allclose(found.high / found.value, np.exp(0.3), rtol=1e-9)


def test_no_interval_reaches_below_the_datasheet_bound():
    found = iteration_s(low=-0.5, high=0.5)

    np.testing.assert_allclose(found.low, found.value, rtol=1e-9)


def test_a_phase_may_have_quantiles_of_its_own():
    found = iteration_s(per_pass_s=1.0, low=-0.1, high=0.1, high_of={"decode": 0.4})

    np.testing.assert_allclose(found.high / found.value, np.exp(0.4), rtol=1e-9)


def test_a_prompt_takes_its_own_time_more_and_decode_does_not():
    plain, cold = (
        analyze(replace(made, deployment=replace(made.deployment, runtime=runtime)))
        for made in (scenario(),)
        for runtime in (
            replace(
                made.deployment.runtime, host=HostTime(composition={"prefill": "sum"}, per_prompt_s=seconds)
            )
            for seconds in (0.0, 0.5)
        )
    )

    np.testing.assert_allclose(cold.prefill.time_s.value - plain.prefill.time_s.value, 0.5, rtol=1e-9)
    np.testing.assert_allclose(cold.decode.time_s.value, plain.decode.time_s.value, rtol=1e-12)
