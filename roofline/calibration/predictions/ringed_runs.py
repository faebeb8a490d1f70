"""Runs over several machines that a table's device cell lists: layers around a ring, or equal shares."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from roofline.calibration.predictions.offloaded_machines import SYSTEM_BYTES
from roofline.calibration.predictions.run_times import UNSAID_CONTEXT, Times
from roofline.catalog.cluster_names import Cluster, Member, cluster_called, link_called
from roofline.catalog.hardware import load_device, load_link, load_storage
from roofline.catalog.offload_policies import CLUSTERED, OffloadPolicy
from roofline.catalog.usual_hosts import USUAL_STORAGE
from roofline.device_ring import (
    AnalyzedDevice,
    Ring,
    analyzed_device,
    best_ring,
    proportional_ring,
    ring_time,
)
from roofline.dotted_path import replace_at
from roofline.errors import InvalidSpecError, UnknownNameError
from roofline.graph.parallelism import Parallelism
from roofline.hardware.link import Link
from roofline.quantity import total
from roofline.scenario import Scenario

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["members_of", "ring_times", "tensor_scenario", "with_context"]

#: The computer beside a card of which nothing is said: a desktop with two channels of DDR4-3200.
_HOST: Final = "intel_core_i9_14900k"
_HOST_BYTES: Final = 16.0 * 2.0**30
_HOST_BYTES_PER_S: Final = 51.2e9
_HOST_LINK: Final = "pcie_3_x16"
#: Times that a token passes each machine, of those that divide the layers.
_ROUNDS: Final = (1, 2, 4, 8)


def members_of(row: "pd.Series[Any]", policy: OffloadPolicy) -> Cluster | None:
    """Return the machines that a row's run is spread over; None for a single one.

    Raises
    ------
    UnknownNameError
        If its cell lists machines of which the catalogue knows none.
    """
    if policy.across is None:
        return None
    try:
        cluster = cluster_called(row["device"], device_count=float(row["device_count"]))
    except UnknownNameError:
        if float(row["device_count"]) > 1.0:
            raise
        return None
    return cluster if len(cluster.members) > 1 else None


def ring_times(
    cluster: Cluster, policy: OffloadPolicy, row: "pd.Series[Any]", member: Callable[[str], Scenario]
) -> dict[str, Times]:
    """Return times of a run whose layers lie on several machines: predicted, interval, at datasheet figures.

    Parameters
    ----------
    member : callable
        Makes the scenario of the whole model on one machine, from its catalogue name.

    Notes
    -----
    `roofline.device_ring.ring_time` with machines in the order of the cell. Those that the catalogue does
    not know are left out. The bound at datasheet figures lets a token pass the fastest split without links
    and storage; where it is not known how the machines divide the model, all of them work at once.
    """
    link = _link(row, policy)
    analyzed: dict[Member, AnalyzedDevice] = {}
    for one in cluster.members:
        if one not in analyzed:
            scenario = with_context(_on_member(member(one.device), one, policy), row)
            analyzed[one] = analyzed_device(scenario, intervals=True)
    first = analyzed[cluster.members[0]].report.scenario
    layers = int(float(total(first.deployment.model.layer_counts().values())))

    def devices(phase: Any, end: Any, joined: Link | None = link) -> list[Any]:
        return [
            analyzed[one].ring_device(joined, first=place == 0, phase=phase, end=end)
            for place, one in enumerate(cluster.members)
        ]

    def placed(phase: Any) -> Ring:
        here = devices(phase, "value")
        if policy.across == "best":
            return best_ring(here, layers, rounds=_ROUNDS, least=1)
        return proportional_ring(here, layers)

    chosen = placed("decode")
    if not float(chosen.fits):
        raise InvalidSpecError("the machines hold the model neither in memory nor in storage")

    def times(end: Any) -> Times:
        token, prompt = (
            ring_time(
                devices(phase, end),
                chosen.layers,
                rounds=chosen.rounds,
                prefetch=policy.prefetched > 0.0,
            ).token_s
            for phase in ("decode", "prefill")
        )
        return _times(first, float(prompt), float(token))

    at_once = float(len(cluster.members)) if policy is CLUSTERED else 1.0
    floors = [
        float(best_ring(devices(phase, "ideal", None), layers, rounds=(1,)).compute_s) / at_once
        for phase in ("prefill", "decode")
    ]
    found = {end: times(end) for end in ("value", "low", "high")}
    return {**found, "ideal": _times(first, *floors)}


def _times(scenario: Scenario, prefill_s: float, iteration_s: float) -> Times:
    workload = scenario.workload
    return Times(
        batch=float(workload.batch_size),
        prompt=float(workload.prompt_tokens),
        output=float(workload.output_tokens),
        prefill_s=prefill_s,
        iteration_s=iteration_s,
    )


def tensor_scenario(
    cluster: Cluster, policy: OffloadPolicy, row: "pd.Series[Any]", member: Callable[[str], Scenario]
) -> Scenario:
    """Return the scenario of machines that have equal shares of every matrix, all as slow as the slowest."""
    link = _link(row, policy)
    slowest = min(cluster.members, key=_bytes_per_s)
    scenario = _on_member(member(slowest.device), slowest, policy)
    count = float(len(cluster.members))
    system = replace(
        scenario.deployment.system, device_count=count, peer_link=link, host=None, host_link=None
    )
    deployment = replace(scenario.deployment, system=system, parallelism=Parallelism(tensor=count))
    return scenario.replace(deployment=deployment)


def _link(row: "pd.Series[Any]", policy: OffloadPolicy) -> Link:
    texts = (row[name] for name in ("parallelism", "note", "device", "runtime"))
    return link_called(*texts, otherwise=policy.joined_by)


def _bytes_per_s(member: Member) -> float:
    memory = next(iter(load_device(member.device).value.memory.values()))
    return float(memory.bandwidth_bytes_per_s)


def _on_member(scenario: Scenario, member: Member, policy: OffloadPolicy) -> Scenario:
    """The scenario on a machine with the memory, the host and the storage that it has."""
    deployment = scenario.deployment
    system, device = deployment.system, deployment.system.device
    near = next(iter(device.memory))
    card = device.kind.endswith("gpu")
    share = 1.0 if member.free or card else policy.memory_share
    capacity = (member.device_bytes or float(device.memory[near].capacity_bytes)) * share
    system = replace(
        system,
        device=replace_at(device, f"memory.{near}.capacity_bytes", capacity),
        storage=load_storage(USUAL_STORAGE).value if system.storage is None else system.storage,
    )
    if card:
        host = load_device(member.host or _HOST).value
        memory = next(iter(host.memory))
        free = 1.0 if member.free else policy.memory_share
        host = replace_at(host, f"memory.{memory}.capacity_bytes", (member.host_bytes or _HOST_BYTES) * free)
        if member.host is None:
            host = replace_at(host, f"memory.{memory}.bandwidth_bytes_per_s", _HOST_BYTES_PER_S)
        link = load_link(_HOST_LINK).value if system.host_link is None else system.host_link
        system = replace(system, host=host, host_link=link)
    elif not member.free and policy.memory_share == 1.0:
        reserve = max(float(deployment.reserve_fraction), SYSTEM_BYTES / capacity)
        deployment = replace(deployment, reserve_fraction=reserve)
    return scenario.replace(deployment=replace(deployment, system=system))


def with_context(scenario: Scenario, row: "pd.Series[Any]") -> Scenario:
    """Return the scenario whose decode iteration has as many cached tokens as the row says."""
    context = row["context"]
    if np.isnan(context):
        told = float(np.nan_to_num(row["prompt_len"]) + np.nan_to_num(row["gen_len"]) / 2.0)
        context = told if told > 0.0 else UNSAID_CONTEXT
    return scenario.replace(workload=replace(scenario.workload, context_tokens=max(float(context), 1.0)))
