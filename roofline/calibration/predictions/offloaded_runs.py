"""Scenarios of runs whose model exceeds the device's memory, placed as their runtime would."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from roofline.analysis import analyze, analyze_decode
from roofline.calibration.predictions.named_scenarios import NamedScenarios
from roofline.calibration.predictions.offloaded_machines import on_machine
from roofline.calibration.predictions.offloaded_placements import BATCH_AT_ONCE, experts_of, placed
from roofline.calibration.predictions.predictions import Predictions
from roofline.calibration.predictions.ringed_runs import members_of, ring_times, tensor_scenario, with_context
from roofline.calibration.predictions.run_times import RUN_METRICS, Times
from roofline.catalog.host_names import Machine, host_memory_in, machine_called, memory_limit_in
from roofline.catalog.offload_policies import CLUSTERED, OffloadPolicy, policy_called
from roofline.catalog.usual_hosts import is_card
from roofline.errors import InvalidSpecError, RooflineError
from roofline.graph.blocks.mixture_of_experts import MixtureOfExperts
from roofline.graph.formats import format_named
from roofline.quantity import Quantity
from roofline.scenario import Scenario
from roofline.timing.offloading import (
    FAULT_BYTES,
    layers_with_experts,
    sizes_of,
)
from roofline.workload_settings import allocated

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["OffloadedRun", "OffloadedRuns"]

_SAYS: Final = re.compile(
    r"mmap|exceeds (?:usable )?(?:ram|memory)|offload|\(limit|limit \d|memory .*\bcap\b", re.I
)
_CLUSTER: Final = re.compile(r"\bcluster\b", re.IGNORECASE)
_RPC: Final = re.compile(r"\brpc\b", re.IGNORECASE)
_EXPERTS: Final = re.compile(r"^(\d+) experts\b")
#: Host time of a layer without graphs: what vLLM took in 2023 on an A100 (calibrate/fits,
#: nvidia_a100_sxm4_80gb/vllm_2023).
_EAGER_LAYER_S: Final = 0.5673e-3
#: Kernels that launches: two norms, four products, rotation, cache, attention and activation.
_LAYER_LAUNCHES: Final = 10.0
#: Kernels of one expert called from Python (transformers, modeling_mixtral.py: where, gather, three
#: products, activation, two multiplications, scatter).
_EXPERT_LAUNCHES: Final = 9.0
#: The same where weights, or experts, come by page faults: the 80 % quantile of the logarithmic errors of
#: eight dense models beyond memory (Raspberry Pi 5, and capped), and of five mixtures.
_PAGED: Final = {"weight": 1.0, "expert_weight": 1.4}
#: What not knowing the host's processor adds to the interval, as a logarithm.
_UNKNOWN_HOST: Final = 0.4
#: How far what a system keeps of its memory is from what we take, as a share of that memory (estimate):
#: within it a model that is read in turn may fit or not.
_EDGE: Final = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class OffloadedRun:
    """A placed scenario of one row, and what the placement adds to its interval.

    Parameters
    ----------
    spread : float
        Half width of the 80 % interval that placement and unknown parts of the machine add, as a
        logarithm.
    flag : str
        Which policy placed it, for the report.
    others : tuple of Scenario
        What the row leaves open beside it: a little more or less memory, the device's other drives.
    """

    scenario: Scenario
    spread: float
    flag: str
    others: tuple[Scenario, ...] = ()


def _says_offloaded(table: "pd.DataFrame") -> "pd.Series[bool]":
    """Return which rows say that the model exceeds the memory."""
    said = table["note"] + " " + table["model"]
    across = table.apply(lambda row: _policy(row).across is not None, axis="columns").astype(bool)
    found: pd.Series[bool] = (
        (table["phase"] == "offload") | across | said.map(lambda text: bool(_SAYS.search(text)))
    )
    return found


def _policy(row: "pd.Series[Any]") -> OffloadPolicy:
    """The policy of a row's runtime; of a cluster where its cell or parallelism says there is one."""
    policy = policy_called(f"{row['runtime']} {row['model']}")
    if policy.across is None and _CLUSTER.search(row["device"]):
        return CLUSTERED
    if policy.across is None and _RPC.search(row["parallelism"]):
        return policy_called("rpc")
    return policy


class OffloadedRuns:
    """Reads rows of one table."""

    def __init__(self, named: NamedScenarios) -> None:
        self._named = named

    def away(self, table: "pd.DataFrame") -> NDArray[np.bool_]:
        """Return which rows leave weights to something else than the device.

        They say so, or their weights exceed its memory and their runtime is one that runs them all the
        same.
        """
        said = _says_offloaded(table).to_numpy(bool).copy()
        keys = ["device", "device_count", "model", "quant", "runtime", "parallelism"]
        for _, rows in table[~said].fillna({"device_count": 1.0}).groupby(keys, sort=False):
            if self._exceeds(rows.iloc[0]):
                said[table.index.get_indexer(rows.index)] = True
        return said

    def _exceeds(self, row: "pd.Series[Any]") -> bool:
        """Whether a row's weights exceed the device's memory, under a runtime that goes on from there."""
        if _policy(row).way not in ("layers", "mmap"):
            return False
        try:
            deployment = self._named.scenario(row).deployment
        except RooflineError:
            return False
        device = deployment.system.device
        own = float(next(iter(device.memory.values())).capacity_bytes)
        stated = machine_called(row["device"]).device_bytes or own
        # A card's cell may state the memory of the machine it is in.
        capacity = max(own, stated) if is_card(device) else stated
        return float(sum(float(size) for *_, size in deployment.weight_bytes())) > capacity

    def predict(self, result: Predictions, table: "pd.DataFrame", unit: NDArray[np.float64]) -> None:
        """Enter the predictions of the usable rows of a table, or why there is none.

        Parameters
        ----------
        unit : ndarray of float64
            Size of each row's unit.
        """
        for index, row in table.iterrows():
            place = np.array([index])
            if row["metric"] not in RUN_METRICS:
                result.skipped[place] = f"metric {row['metric']!r} is not predicted for an offloaded run"
                continue
            try:
                found, spread, flag = self._timed(row)
            except RooflineError as error:
                result.skipped[place] = str(error)
                continue
            make, rate = RUN_METRICS[row["metric"]]
            values = {kind: make(times) for kind, times in found.items()}
            far = (values["high"], values["low"]) if rate else (values["low"], values["high"])
            result.fill(
                place,
                predicted=np.array([values["value"]]),
                ideal=np.array([values["ideal"]]),
                low=np.array([far[0]]),
                high=np.array([far[1]]),
                unit=float(unit[place][0]),
            )
            result.widen(place, spread=spread, others=())
            result.basis[place] = "transferred"
            result.profile[place] = flag

    def _timed(self, row: "pd.Series[Any]") -> tuple[dict[str, Times], float, str]:
        """Times of a row's run, what widens its interval, and what places it."""
        policy = _policy(row)
        cluster = members_of(row, policy)
        if cluster is None:
            run = self.run(row)
            found = _reaching(_passes(run.scenario, row), [_passes(other, row) for other in run.others])
            return found, run.spread, run.flag

        def member(name: str) -> Scenario:
            named = row.copy()
            named["device"], named["device_count"], named["parallelism"] = name, 1.0, ""
            named["runtime"] = policy.runs_as or row["runtime"]
            scenario = _with_experts(self._named.scenario(named), row["note"])
            return _launched(_with_workload(scenario, row, policy), policy)

        if policy.across == "tensor":
            scenario = placed(tensor_scenario(cluster, policy, row, member), row, policy)
            times = _passes(scenario, row)
        else:
            times = ring_times(cluster, policy, row, member)
        software = member(cluster.members[0].device).deployment.runtime.software
        spread = policy.spread + (_UNKNOWN_HOST if cluster.unknown else 0.0)
        if policy is CLUSTERED:
            # Machines that work one after another, or all at once.
            spread = max(spread, log(len(cluster.members)))
        return times, spread, f"{software}, placed as {policy.name}"

    def run(self, row: "pd.Series[Any]") -> OffloadedRun:
        """Return the run of one row on one machine.

        Parameters
        ----------
        row : Series
            A row; `stated_metric` is the metric as the table has it.

        Raises
        ------
        RooflineError
            If a name is unknown, or other machines hold a part of the model.
        """
        policy = _policy(row)
        if policy.way == "refused":
            raise InvalidSpecError(f"{policy.name}: {policy.note}")
        machine = machine_called(row["device"])
        if machine.host_bytes is None:
            machine = replace(machine, host_bytes=host_memory_in(row["note"]))
        named = row.copy()
        named["device"], named["runtime"] = machine.device, policy.runs_as or row["runtime"]
        named["device_count"] = max(float(row["device_count"]), machine.device_count)
        scenario = _with_experts(self._named.scenario(named), row["note"])
        scenario = _launched(_with_workload(scenario, row, policy), policy)
        limit = memory_limit_in(row["model"], row["note"])

        def placed_on(machine: Machine, share: float) -> tuple[Scenario, bool]:
            whole, unknown = on_machine(scenario, machine, policy, limit=limit, share=share)
            return _unpacking(placed(whole, row, policy), policy), unknown

        here, unknown = placed_on(machine, 1.0)
        others = []
        if here.deployment.system.host is None:
            others = [placed_on(machine, share)[0] for share in (1.0 - _EDGE, 1.0 + _EDGE)]
            drives = () if machine.storage else scenario.deployment.system.device.storage[1:]
            others += [placed_on(replace(machine, storage=drive), 1.0)[0] for drive in drives]
        return OffloadedRun(
            scenario=here,
            spread=max(policy.spread, _paged_spread(here)) + (_UNKNOWN_HOST if unknown else 0.0),
            flag=f"{here.deployment.runtime.software}, placed as {policy.name}",
            others=tuple(others),
        )


def _passes(scenario: Scenario, row: "pd.Series[Any]") -> dict[str, Times]:
    """Times of a run: predicted, at both ends of the interval, and at datasheet figures."""
    workload = scenario.workload
    batch, prompt = float(workload.batch_size), float(workload.prompt_tokens)
    output = float(workload.output_tokens)
    phase, _ = analyze_decode(with_context(scenario, row), axes=0)
    report = analyze(
        scenario.replace(workload=replace(workload, output_tokens=1.0, context_tokens=None)),
        keep_rows=False,
        tables=(),
    )

    def times(prefill_s: Quantity, iteration_s: Quantity) -> Times:
        return Times(
            batch=batch,
            prompt=prompt,
            output=output,
            prefill_s=float(prefill_s),
            iteration_s=float(iteration_s),
        )

    decode, first = phase.time_s, report.ttft_s
    return {
        "value": times(first.value, decode.value),
        "low": times(first.low, decode.low),
        "high": times(first.high, decode.high),
        "ideal": times(report.prefill.ideal_s, phase.ideal_s),
    }


def _reaching(found: dict[str, Times], others: list[dict[str, Times]]) -> dict[str, Times]:
    """Times whose interval reaches over those of `others`."""

    def farthest(end: str, pick: Callable[..., float]) -> Times:
        ends = [times[end] for times in (found, *others)]
        return replace(
            found[end],
            prefill_s=pick(times.prefill_s for times in ends),
            iteration_s=pick(times.iteration_s for times in ends),
        )

    return {**found, "low": farthest("low", min), "high": farthest("high", max)}


def _launched(scenario: Scenario, policy: OffloadPolicy) -> Scenario:
    """The scenario with the host time of software that launches kernel by kernel between copies.

    Experts are called one by one, those that a decode pass picks or all.
    """
    if not policy.eager:
        return scenario
    deployment = scenario.deployment
    called = 0.0
    if (mixtures := layers_with_experts(deployment)) > 0.0:
        experts, distinct = experts_of(deployment, float(scenario.workload.batch_size))
        share = mixtures / float(sum(deployment.model.layer_counts().values()))
        called = share * (experts if policy.all_experts else distinct)
    per_layer_s = _EAGER_LAYER_S * (1.0 + called * _EXPERT_LAUNCHES / _LAYER_LAUNCHES)
    runtime = deployment.runtime
    host = replace(runtime.host, per_layer_s=per_layer_s, composition={"decode": "sum", "prefill": "sum"})
    return scenario.replace(deployment=replace(deployment, runtime=replace(runtime, host=host)))


def _paged_spread(scenario: Scenario) -> float:
    """What page faults add to the interval, as a logarithm."""
    faulted = {
        tensor
        for rule in scenario.deployment.placement.rules
        for piece in rule.pieces
        if piece.access_bytes == FAULT_BYTES
        for tensor, tiers in piece.tiers.items()
        if tiers.get("storage", 0.0) > 0.0
    }
    return max((_PAGED[tensor] for tensor in faulted), default=0.0)


def _unpacking(scenario: Scenario, policy: OffloadPolicy) -> Scenario:
    """The scenario with the time that the card takes to unpack weights and caches, beside its kernels.

    Weights are unpacked for every batch that works on them at once, caches unpacked and turned once a pass.
    """
    if not policy.unpacked_bytes:
        return scenario
    deployment, workload = scenario.deployment, scenario.workload
    sizes = sizes_of(deployment, workload.decode(workload.last_generated))
    batches = max(float(workload.batch_size) / BATCH_AT_ONCE, 1.0)
    weights = format_named(deployment.precision.weights)
    caches = format_named(policy.cache_format or deployment.precision.kv_cache)
    moved = (
        policy.unpacked_bytes * batches * 8.0 / weights.bits * float(sizes.dense_bytes + sizes.expert_bytes)
    )
    moved += (policy.unpacked_bytes + policy.turned_bytes) * 8.0 / caches.bits * float(sizes.cache_bytes)
    memory = next(iter(deployment.system.device.memory.values()))
    seconds = moved / float(memory.bandwidth_bytes_per_s)
    runtime = deployment.runtime
    host = replace(runtime.host, per_layer_s=runtime.host.per_layer_s + seconds / float(sizes.layers))
    return scenario.replace(deployment=replace(deployment, runtime=replace(runtime, host=host)))


def _with_experts(scenario: Scenario, note: str) -> Scenario:
    """The scenario with as many experts for each token as a note says."""
    said = _EXPERTS.search(note)
    if said is None:
        return scenario
    model = scenario.deployment.model
    layers = {
        name: {
            key: replace(block, top_k=float(said[1])) if isinstance(block, MixtureOfExperts) else block
            for key, block in layer.items()
        }
        for name, layer in model.layers.items()
    }
    return scenario.replace(deployment=replace(scenario.deployment, model=replace(model, layers=layers)))


def _with_workload(scenario: Scenario, row: "pd.Series[Any]", policy: OffloadPolicy) -> Scenario:
    prompt, output = (float(np.nan_to_num(row[name])) for name in ("prompt_len", "gen_len"))
    workload = replace(
        scenario.workload,
        batch_size=float(row["batch"]),
        prompt_tokens=max(prompt, 1.0),
        output_tokens=max(output, 1.0),
    )
    if policy.reserved_tokens is not None and memory_limit_in(row["model"], row["note"]) is not None:
        workload = allocated(workload, f"max:{policy.reserved_tokens:g}", scenario.deployment.model)
    return scenario.replace(workload=workload)
