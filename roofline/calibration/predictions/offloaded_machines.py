"""The machine behind a row: its host, memories, links and storage."""

from dataclasses import replace
from typing import Final

from roofline.catalog.fits import load_runtime
from roofline.catalog.hardware import load_device, load_link, load_storage
from roofline.catalog.host_names import Machine
from roofline.catalog.offload_policies import OffloadPolicy
from roofline.catalog.usual_hosts import USUAL_STORAGE, is_card, usual_host
from roofline.dotted_path import replace_at
from roofline.errors import InvalidSpecError
from roofline.hardware import Device
from roofline.scenario import Scenario
from roofline.timing.runtime import Runtime

__all__ = ["SYSTEM_BYTES", "on_machine"]

#: What the operating system takes of a memory it shares: a Raspberry Pi 5 of 8 GiB keeps 8.0 GB of
#: weights that are read in turn, and loses 8.05 GB (rows of its leaderboard).
SYSTEM_BYTES: Final = 0.55 * 2.0**30
#: Software whose time to wake the host's processor stands for others'.
_WAKING: Final = "kt-kernel"
#: Products per clock of vector instructions for narrow formats over fp32 (AVX-512 FP16, BF16, VNNI).
_VECTOR_GAIN: Final = {"bf16": 2.0, "fp16": 2.0, "int8": 4.0, "int4": 4.0}


def on_machine(
    scenario: Scenario, machine: Machine, policy: OffloadPolicy, *, limit: float | None, share: float = 1.0
) -> tuple[Scenario, bool]:
    """Return a scenario on the whole machine, and whether a part of it had to be guessed.

    Parameters
    ----------
    limit : float or None
        Cap on the device's memory that the row states [B].
    share : float
        Share of the device's memory that there is.

    Raises
    ------
    InvalidSpecError
        If the catalogue names no link from a card to its host.
    """
    if policy.cache_format is not None:
        scenario = scenario.replace_at("deployment.precision.kv_cache", policy.cache_format)
    system = scenario.deployment.system
    device = system.device
    near = next(iter(device.memory))
    capacity = limit or machine.device_bytes or float(device.memory[near].capacity_bytes)
    device = replace_at(device, f"memory.{near}.capacity_bytes", capacity * policy.memory_share * share)
    storage = system.storage if machine.storage is None else load_storage(machine.storage).value
    if not is_card(device):
        if limit is None:
            reserve = max(scenario.deployment.reserve_fraction, SYSTEM_BYTES / capacity)
            scenario = scenario.replace(deployment=replace(scenario.deployment, reserve_fraction=reserve))
        if device.kind == "cpu":
            device = _sockets(device, machine.sockets or 1.0, policy)
        guessed = storage is None
        own = load_storage(USUAL_STORAGE).value if storage is None else storage
        system = replace(system, device=device, storage=own)
        return scenario.replace(deployment=replace(scenario.deployment, system=system)), guessed
    name, unknown = machine.host, machine.nearest_host
    if name is None:
        held = float(sum(float(size) for *_, size in scenario.deployment.weight_bytes()))
        name, unknown = usual_host(device, held_bytes=held * float(system.device_count)), True
    sockets = machine.sockets or (2.0 if policy.numa_aware else 1.0)
    host = _sockets(load_device(name).value, sockets, policy)
    memory = next(iter(host.memory))
    if machine.host_bytes is not None:
        host = replace_at(host, f"memory.{memory}.capacity_bytes", machine.host_bytes)
    if machine.host_bytes_per_s is not None:
        each = machine.host_bytes_per_s * (sockets if policy.numa_aware else 1.0)
        host = replace_at(host, f"memory.{memory}.bandwidth_bytes_per_s", each)
    link = system.host_link if machine.link is None else load_link(machine.link).value
    if link is None:
        raise InvalidSpecError(f"{device.name}: the catalogue names no link to a host")
    rate = _copied(host, float(link.bandwidth_bytes_per_s), float(system.device_count), policy)
    system = replace(
        system,
        device=device,
        host=host,
        host_link=replace(link, bandwidth_bytes_per_s=rate),
        storage=load_storage(USUAL_STORAGE).value if storage is None else storage,
    )
    deployment = replace(scenario.deployment, system=system, engine_runtimes=_runtimes(name, policy))
    return scenario.replace(deployment=deployment), unknown


def _copied(host: Device, link_bytes_per_s: float, cards: float, policy: OffloadPolicy) -> float:
    """The rate of one card's copies: put together by the host, then over its link [B/s]."""
    each = 1.0 / (policy.link_share * link_bytes_per_s)
    if policy.gather_share is not None:
        memory = next(iter(host.memory.values()))
        each += cards / (policy.gather_share * float(memory.bandwidth_bytes_per_s))
    return 1.0 / each


def _sockets(device: Device, sockets: float, policy: OffloadPolicy) -> Device:
    """A processor of several sockets, as its software uses it.

    Only NUMA-aware software reads faster from several sockets, and only that with kernels of its own
    (`host_software`) keeps matrix units busy.
    """
    if policy.host_software is None:
        device = _without_matrix_units(device)
    if sockets == 1.0:
        return device
    reached = sockets if policy.numa_aware else 1.0
    engines = {
        name: replace(
            engine,
            units=engine.units * sockets,
            cache_bytes=engine.cache_bytes * sockets,
            vector_flops_per_s=engine.vector_flops_per_s * sockets,
            peak_flops_per_s={
                format: {held: rate * sockets for held, rate in rates.items()}
                for format, rates in engine.peak_flops_per_s.items()
            },
        )
        for name, engine in device.engine.items()
    }
    memories = {
        name: replace(
            memory,
            capacity_bytes=memory.capacity_bytes * sockets,
            bandwidth_bytes_per_s=memory.bandwidth_bytes_per_s * reached,
        )
        for name, memory in device.memory.items()
    }
    return replace(device, engine=engines, memory=memories)


def _runtimes(host: str, policy: OffloadPolicy) -> dict[str, Runtime]:
    """The runtime of the host's processor; waking it is kt-kernel's where it has none."""
    own = load_runtime(host, policy.host_software)
    if own.host.per_handover_s == 0.0:
        woken_s = load_runtime(host, _WAKING).host.per_handover_s
        own = replace(own, host=replace(own.host, per_handover_s=woken_s))
    return {"host.cpu": own}


def _without_matrix_units(device: Device) -> Device:
    """A processor whose products run on vector units: narrow formats at most so much faster than fp32."""
    engines = {
        name: replace(
            engine,
            peak_flops_per_s={
                format: {
                    held: min(float(rate), _VECTOR_GAIN.get(format, 1.0) * float(engine.vector_flops_per_s))
                    for held, rate in rates.items()
                }
                for format, rates in engine.peak_flops_per_s.items()
            },
        )
        if engine.kind == "cpu"
        else engine
        for name, engine in device.engine.items()
    }
    return replace(device, engine=engines)
