from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from roofline.api import make_scenario
from roofline.calibration.predictions.parallelism_names import pools_of
from roofline.calibration.validate import validate
from roofline.closed_loop import CLOSED_LOOP_REQUESTS, Load, Pools, Server
from roofline.errors import InvalidSpecError
from roofline.serving import Served, loaded, serve

if TYPE_CHECKING:
    import pandas as pd

pytest.importorskip("pandas")

_HEADER = (
    "device,device_count,model,quant,runtime,parallelism,phase,batch,prompt_len,gen_len,context,"
    "metric,value,unit,note"
)


def _server(**changes: Any) -> Server:
    """8 requests in flight of 100 tokens; prefill 0.2 s, decode pass 0.01 s, no pass does both."""
    load = Load(
        concurrency=np.array([8.0]), prompt=np.array([1000.0]), output=np.array([100.0]),
        context=np.array([1050.0]), alike=np.array([False]),
    )  # fmt: skip
    server = Server(
        load=load, running=8.0, first_s=0.2, each_s=0.2, iteration_s=0.01, shared_s=0.0, shared_passes=0.0,
        overhead_s=0.05, ranks=1.0,
    )  # fmt: skip
    return replace(server, **changes)


def test_a_cycle_prefills_every_request_and_decodes_one_output() -> None:
    """8 x 0.2 + 100 x 0.01 = 2.6 s; neither its own prefill nor the 0.07 s before it is a token's time."""
    server = _server()

    np.testing.assert_allclose(server.cycle_s, 2.6, rtol=1e-12)
    np.testing.assert_allclose(server.tpot_s, (2.6 - 0.2 - 0.1 * 3.5 * 0.2) / 100, rtol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_what_is_waited_for_a_first_token_is_not_waited_again(share: float) -> None:
    """Queue, prefill and 100 tokens are one cycle, however many prompts come together (Little's law)."""
    server = _server(waiting_share=share)

    np.testing.assert_allclose(server.queue_s + 0.2 + 100 * server.tpot_s, server.cycle_s, rtol=1e-12)


def test_an_interval_reaches_from_requests_one_by_one_to_all_together() -> None:
    """Same passes at both ends: one by one waits for none, all together for 3.5 prefills of 0.2 s."""
    server = _server()
    served = Served(
        value=server, low=server, high=server, ideal=server, fits=np.array([True]), measured_server=True,
        basis="measured",
    )  # fmt: skip
    first = served.interval("ttft_s")

    assert first.low < 0.26
    assert first.high > 0.26 + 3.5 * 0.2
    assert served.interval("tpot_s").low < (2.6 - 0.2 - 0.7) / 100


def test_two_pools_are_less_certain_than_one() -> None:
    """Beside equal passes and no waves a token of one pool is within -0.12 and +0.31, of two 0.55 wider."""

    def width(server: Server) -> Any:
        served = Served(
            value=server, low=server, high=server, ideal=server, fits=np.array([True]),
            measured_server=True, basis="measured",
        )  # fmt: skip
        found = served.interval("tpot_s")
        return np.log(found.high / found.value), np.log(found.low / found.value)

    above, below = width(_server(pools=Pools(prefill=1.0, decode=1.0)))

    np.testing.assert_allclose(above, np.hypot(0.31, 0.55), rtol=1e-9)
    np.testing.assert_allclose(below, -np.hypot(0.12, 0.55), rtol=1e-9)


def test_throughput_is_what_a_cycle_gives_less_the_tail_of_the_benchmark() -> None:
    expected = 8 * 100 / 2.6 / (1 + 8 / CLOSED_LOOP_REQUESTS)

    np.testing.assert_allclose(_server().output_tokens_per_s, expected, rtol=1e-12)


def test_the_first_of_ten_rounds_waits_for_half_of_each_other() -> None:
    """0.05 + one pass 0.01 + own 0.2 + a tenth of (8 - 1) / 2 prefills of 0.2 s = 0.33 s."""
    np.testing.assert_allclose(_server().ttft_s, 0.05 + 0.01 + 0.2 + 0.1 * 3.5 * 0.2, rtol=1e-12)


def test_requests_without_room_wait_for_whole_cycles() -> None:
    """With room for 4 of 8: a cycle is 1.8 s, and (8 - 4) / 4 of it are waited; Little's law gives 8 back."""
    crowded = _server(running=4.0)
    waited = crowded.queue_s - 0.1 * 3.5 * 0.2
    per_s = 4.0 / crowded.cycle_s

    np.testing.assert_allclose(waited, 1.8, rtol=1e-12)
    np.testing.assert_allclose(per_s * (waited + crowded.cycle_s), 8.0, rtol=1e-12)


def test_passes_that_prefill_decode_as_well() -> None:
    """40 of 100 decode passes ride on prefills for 2 ms each: 1.6 + 60 x 0.01 + 40 x 0.002 s."""
    np.testing.assert_allclose(_server(shared_passes=40.0, shared_s=0.002).cycle_s, 2.28, rtol=1e-12)


def test_a_decode_pool_is_not_held_up_by_prefills() -> None:
    """Prefills of all in flight take 8 x 0.2 s, longer than 0.2 + 100 x 0.01: the rest is queue."""
    apart = _server(pools=Pools(prefill=1.0, decode=1.0))

    np.testing.assert_allclose(apart.tpot_s, 0.01, rtol=1e-12)
    np.testing.assert_allclose(apart.queue_s, 0.1 * 3.5 * 0.2 + (1.6 - 1.2), rtol=1e-12)


def _frame(folder: Path, *rows: str) -> "pd.DataFrame":
    path = folder / "speeds.csv"
    path.write_text("\n".join((_HEADER, *rows)) + "\n")
    frame = validate([path]).frame()
    assert set(frame["skipped"]) == {""}
    return frame


def _predicted(folder: Path, *rows: str) -> list[float]:
    return [float(value) for value in _frame(folder, *rows)["predicted"]]


def test_one_request_at_a_time_is_its_prefill_and_its_iterations(tmp_path: Path) -> None:
    """0.7 of what an iteration takes beyond its bound is left; 41 ms come before a first token."""
    name = "H100 SXM,1,Llama-3.1-8B,BF16,vLLM 0.12,"
    frame = _frame(
        tmp_path,
        f"{name},serve,1,1024,128,1088,output_tok_s,100,tok/s,",
        f"{name},prefill,1,1024,128,1088,ttft_mean_ms,60,ms,",
        f"{name},decode,1,1024,128,1088,tpot_mean_ms,10,ms,",
        f"{name},prefill,1,1024,128,,ttft_ms,60,ms,",
        f"{name},decode,1,1024,128,1088,itl_ms,10,ms,",
    )
    served, first, token, prefill, alone = map(float, frame["predicted"])
    bound = float(frame["ideal"].iloc[4])
    step = bound + 0.7 * (alone - bound)

    # One of 128 passes prefills and decodes: its decoding costs less than a pass of its own.
    assert 0.99 * step < token <= step
    np.testing.assert_allclose(first, 41.0 + step + prefill, rtol=1e-9)
    np.testing.assert_allclose(served, 128e3 / (prefill + 128 * token) / 1.001, rtol=1e-9)


def test_a_median_may_be_that_of_requests_which_no_prefill_held_up(tmp_path: Path) -> None:
    name = "H100 SXM,1,Llama-3.1-8B,BF16,vLLM 0.12,,decode,32,8192,128,8256"
    frame = _frame(tmp_path, f"{name},tpot_mean_ms,40,ms,", f"{name},tpot_median_ms,40,ms,")
    mean, median = frame.iloc[0], frame.iloc[1]

    assert median["predicted"] == mean["predicted"]
    assert median["low"] < mean["low"]
    assert median["high"] == mean["high"]


def test_a_pool_of_its_own_prefills_without_holding_up_decoding(tmp_path: Path) -> None:
    row = "H100 SXM,{},Llama-3.1-8B,BF16,vLLM 0.12,{},decode,16,4096,128,4160,tpot_mean_ms,20,ms,"
    together, apart = _predicted(tmp_path, row.format(1, "TP1"), row.format(2, '"prefill TP1, decode TP1"'))
    (alone,) = _predicted(
        tmp_path, "H100 SXM,1,Llama-3.1-8B,BF16,vLLM 0.12,,decode,16,4096,128,4160,itl_ms,9,ms,"
    )

    assert apart <= alone < together


@pytest.mark.parametrize(
    ("software", "alike", "share"),
    [("vllm", False, 0.1), ("sglang", False, 0.1), ("vllm", True, 0.1 + 1 / 4), ("sglang", True, 1.0)],
)
def test_requests_of_one_length_come_together_again(software: str, alike: bool, share: float) -> None:
    """Of 9 in flight 4 are ahead in the mean; one of them is met where prefills share passes."""
    scenario = make_scenario("llama-3.1-8b", "h100-sxm", software=software, prompt=1024, output=128)
    load = Load(
        concurrency=np.array([9.0]), prompt=np.array([1024.0]), output=np.array([128.0]),
        context=np.array([1088.0]), alike=np.array([alike]),
    )  # fmt: skip

    np.testing.assert_allclose(loaded(scenario, load, None).value.waiting_share, share, rtol=1e-12)


def test_a_table_says_whether_lengths_are_alike(tmp_path: Path) -> None:
    """All 16 together wait for 7.5 prefills in place of 0.75: what is longer at first, tokens make up for."""
    row = "H100 SXM,1,Llama-3.1-8B,BF16,SGLang 0.5,,prefill,16,1024,128,1088,{},99,ms,"
    header = f"{_HEADER},lengths"
    path = tmp_path / "speeds.csv"
    rows = [
        f"{row.format(metric)},{said}"
        for said in ("drawn", "equal")
        for metric in ("ttft_mean_ms", "tpot_mean_ms")
    ]
    path.write_text("\n".join((header, *rows)) + "\n")
    first, token, later, quicker = map(float, validate([path]).frame()["predicted"])

    assert later > first
    np.testing.assert_allclose(later - first, 128 * (token - quicker), rtol=1e-9)


def test_prefill_workers_that_are_not_told_keep_pace_with_decoding() -> None:
    """The fewest whose prefills of all in flight take no longer than a request: one less would be late."""
    scenario = make_scenario("llama-3.1-8b", "h100-sxm", software="vllm", prompt=4096, output=128)
    load = Load(
        concurrency=np.array([8.0, 64.0]), prompt=np.full(2, 4096.0), output=np.full(2, 128.0),
        context=np.full(2, 4160.0), alike=np.zeros(2, dtype=bool),
    )  # fmt: skip
    server = loaded(scenario, load, Pools(prefill=np.nan, decode=1.0)).value
    assert server.pools is not None
    workers = np.asarray(server.pools.prefill)
    late_s = load.concurrency * server.each_s / np.maximum(workers - 1.0, 1e-9) - server.cycle_s

    assert np.max(workers) > 1.0
    assert np.all(load.concurrency * server.each_s / workers <= server.cycle_s)
    assert np.all(late_s > 0.0)
    np.testing.assert_allclose(server.queue_s, server.wave_s, rtol=1e-12)


def test_an_untold_number_of_workers_has_the_devices_of_one() -> None:
    pools = pools_of("prefill ?x TP4, decode ?x TP8", 12.0)

    assert pools is not None
    assert all(np.isnan(pool.workers) for pool in pools)


def test_pools_must_make_the_devices_of_the_row() -> None:
    with pytest.raises(InvalidSpecError, match="does not make 12 devices"):
        pools_of("prefill 2x TP4, decode TP8", 12.0)


def test_the_best_concurrency_is_found_where_a_row_says_max(tmp_path: Path) -> None:
    """No told concurrency may give more, beyond what the end of a benchmark takes of it."""
    name = "H100 SXM,1,Llama-3.1-8B,BF16,TensorRT-LLM 1.0,TP1,serve"
    (best,) = _predicted(tmp_path, f"{name},max,512,512,,output_tok_s_offline_max,9000,tok/s,")
    told = [16, 64, 256, 400]
    rates = _predicted(tmp_path, *(f"{name},{batch},512,512,,output_tok_s,900,tok/s," for batch in told))
    steady = [rate * (1 + batch / CLOSED_LOOP_REQUESTS) for rate, batch in zip(rates, told, strict=True)]

    assert best >= max(steady)


def test_stages_of_a_pipeline_prefill_different_prompts(tmp_path: Path) -> None:
    row = (
        "H100 SXM,{0},Llama-3.3-70B,FP8,TensorRT-LLM 1.0,{1},serve,max,2048,128,,"
        "output_tok_s_offline_max,900,tok/s,"
    )
    two, four = _predicted(tmp_path, row.format(2, "PP2"), row.format(4, "PP4"))

    assert 1.5 < four / two < 2.5


def test_tensorrt_llm_keeps_the_cache_of_its_own_checkpoints_in_eight_bits(tmp_path: Path) -> None:
    """Eight bits less of every cached key and value leave room for about twice the requests."""
    row = "H100 SXM,4,{},FP8,TensorRT-LLM 1.0,TP4,serve,max,4096,1024,,output_tok_s_offline_max,900,tok/s,"
    nvidia, publisher = _predicted(
        tmp_path, row.format("nvidia/Llama-3.3-70B-Instruct-FP8"), row.format("meta/Llama-3.3-70B-FP8")
    )

    assert nvidia > 1.1 * publisher


def test_a_scenario_is_served_as_a_row_of_the_same_names_is(tmp_path: Path) -> None:
    name = "H100 SXM,1,Llama-3.1-8B,BF16,vLLM 0.24,"
    first, token, rate = _predicted(
        tmp_path,
        f"{name},prefill,16,2048,256,,ttft_mean_ms,150,ms,",
        f"{name},decode,16,2048,256,,tpot_mean_ms,11,ms,",
        f"{name},serve,16,2048,256,,output_tok_s,1400,tok/s,",
    )
    scenario = make_scenario("llama-3.1-8b", "h100-sxm", software="vllm", prompt=2048, output=256)
    served = serve(scenario, np.array([16.0]))

    np.testing.assert_allclose(served.interval("ttft_s").value, first / 1e3, rtol=1e-9)
    np.testing.assert_allclose(served.interval("tpot_s").value, token / 1e3, rtol=1e-9)
    np.testing.assert_allclose(served.interval("output_tokens_per_s").value, rate, rtol=1e-9)


def test_pages_hold_more_requests_than_reserved_lengths() -> None:
    """Of 1024 prompt and 3072 output tokens a running sequence holds 2560 in the mean, 4096 at its end."""

    def running(software: str) -> float:
        scenario = make_scenario("llama-3.1-8b", "h100-sxm", software=software, prompt=1024, output=3072)
        return float(serve(scenario, np.array([1000.0])).running[0])

    np.testing.assert_allclose(running("vllm") / running("trtllm"), 4096 / 2560, rtol=0.02)  # activations


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"context": 4096}, "give --prompt and --output"),
        ({"samples": 4}, "got 4 answers"),
        ({"speculate": "chain:4", "accept": 0.8}, "speculative decoding"),
    ],
)
def test_a_server_of_another_kind_is_refused(settings: dict[str, Any], fault: str) -> None:
    scenario = make_scenario("llama-3.1-8b", "h100-sxm", software="vllm", **settings)

    with pytest.raises(InvalidSpecError, match=fault):
        serve(scenario, np.array([8.0]))


def test_less_than_one_request_in_flight_is_refused() -> None:
    scenario = make_scenario("llama-3.1-8b", "h100-sxm", software="vllm")

    with pytest.raises(InvalidSpecError, match="want at least 1"):
        serve(scenario, np.array([4.0, 0.5]))
