"""The machine behind a row: its host, memories, links and storage, or the devices of a ring."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from roofline.catalog.fits import load_runtime
from roofline.catalog.hardware import load_device, load_link, load_storage
from roofline.catalog.host_names import Machine
from roofline.catalog.offload_policies import OffloadPolicy
from roofline.catalog.wild_names import device_called
from roofline.errors import InvalidSpecError, UnknownNameError
from roofline.hardware import Device
from roofline.quantity import replace_at
from roofline.scenario import Scenario
from roofline.timing.runtime import Runtime

__all__ = ["on_machine", "on_ring", "ring_of"]

#: What the operating system takes of a memory it shares: a Raspberry Pi 5 of 8 GiB keeps 8.0 GB of
#: weights that are read in turn, and loses 8.05 GB (rows of its leaderboard).
_SYSTEM_BYTES: Final = 0.55 * 2.0**30
#: Beyond this a model's host is a server, whatever card is in it.
_DESKTOP_BYTES: Final = 128 * 2.0**30
_DESKTOP_HOST: Final = "intel_core_i9_14900k"
#: Up to the year of a card -> the server processor it is usually found beside.
_SERVER_HOSTS: Final = ((2020, "intel_xeon_w_3245"), (2021, "amd_epyc_7763"), (9999, "intel_xeon_gold_6454s"))
#: Cards in machines that one person uses.
_DESKTOP_KINDS: Final = ("consumer_gpu",)
#: Where a card's table says nothing of the storage behind the host.
_HOST_STORAGE: Final = "nvme_gen3"
#: The same of a device that the catalogue names no storage of.
_OWN_STORAGE: Final = "nvme_gen3"
#: Software whose time to wake the host's processor stands for others'.
_WAKING: Final = "kt-kernel"
#: Products per clock of vector instructions for narrow formats over fp32 (AVX-512 FP16, BF16, VNNI).
_VECTOR_GAIN: Final = {"bf16": 2.0, "fp16": 2.0, "int8": 4.0, "int4": 4.0}
#: Memory of a computer at home beside its card, and its bandwidth: two channels of DDR4-3200.
_HOME_BYTES: Final = 16.0 * 2.0**30
_HOME_BYTES_PER_S: Final = 51.2e9
#: Share of memories at home that a model gets: their users' programs run on.
_USED: Final = 0.7
_MEMORY: Final = re.compile(r"\b(\d+(?:\.\d+)?)\s*Gi?B\b", re.IGNORECASE)


def on_machine(
    scenario: Scenario, machine: Machine, policy: OffloadPolicy, *, limit: float | None
) -> tuple[Scenario, bool]:
    """Return a scenario on the whole machine, and whether a part of it had to be guessed.

    Parameters
    ----------
    limit : float or None
        Cap on the device's memory that the row states [B].

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
    device = replace_at(device, f"memory.{near}.capacity_bytes", capacity * policy.memory_share)
    storage = system.storage if machine.storage is None else load_storage(machine.storage).value
    if next(iter(device.engine.values())).kind != "gpu" or device.kind == "soc":
        if limit is None:
            reserve = max(scenario.deployment.reserve_fraction, _SYSTEM_BYTES / capacity)
            scenario = scenario.replace(deployment=replace(scenario.deployment, reserve_fraction=reserve))
        if device.kind == "cpu":
            device = _sockets(device, machine.sockets or 1.0, policy)
        guessed = storage is None
        own = load_storage(_OWN_STORAGE).value if storage is None else storage
        system = replace(system, device=device, storage=own)
        return scenario.replace(deployment=replace(scenario.deployment, system=system)), guessed
    name, unknown = machine.host, machine.nearest_host
    if name is None:
        held = float(sum(float(size) for *_, size in scenario.deployment.weight_bytes()))
        large = held * float(system.device_count) > _DESKTOP_BYTES or device.kind not in _DESKTOP_KINDS
        server = next(host for year, host in _SERVER_HOSTS if device.year <= year)
        name, unknown = server if large else _DESKTOP_HOST, True
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
        storage=load_storage(_HOST_STORAGE).value if storage is None else storage,
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


def ring_of(texts: Iterable[str]) -> tuple[Device, ...]:
    """Return the devices that a ring's description names, those the catalogue knows."""
    found = []
    for text in texts:
        try:
            device = load_device(device_called(text)).value
        except UnknownNameError:
            continue
        stated = _MEMORY.search(text)
        if stated is not None:
            near = next(iter(device.memory))
            device = replace_at(device, f"memory.{near}.capacity_bytes", float(stated[1]) * 2.0**30)
        found.append(device)
    return tuple(found)


def on_ring(scenario: Scenario, ring: Sequence[Device]) -> Scenario:
    """Return a scenario on the devices of a ring as one, with the storage of the first behind it."""
    system = scenario.deployment.system
    weights = sum(float(size) for *_, size in scenario.deployment.weight_bytes())
    storage = load_storage(_OWN_STORAGE).value if system.storage is None else system.storage
    whole = replace(
        system, device=_as_one(ring, weights), host=None, host_link=None, peer_link=None, storage=storage
    )
    return scenario.replace(deployment=replace(scenario.deployment, system=whole))


def _as_one(ring: Sequence[Device], weights: float) -> Device:
    """The fastest device of a ring with the memory of all and the bandwidth they come to.

    Layers follow each other around a ring, so shares w_i take ``sum w_i / B_i``; the fastest memories
    are filled first, as Halda's assignment does (prima.cpp, Li et al. 2025, arXiv:2504.08791). A card
    brings its machine's memory along.
    """
    tiers = []
    for device in ring:
        memory = next(iter(device.memory.values()))
        tiers.append((float(memory.bandwidth_bytes_per_s), float(memory.capacity_bytes) * _USED))
        if device.kind.endswith("gpu"):
            tiers.append((_HOME_BYTES_PER_S, _HOME_BYTES * _USED))
    left, seconds = weights, 0.0
    for rate, room in sorted(tiers, reverse=True):
        held = min(left, room)
        left, seconds = left - held, seconds + held / rate
    first = max(ring, key=lambda device: float(next(iter(device.memory.values())).bandwidth_bytes_per_s))
    near = next(iter(first.memory))
    whole = replace_at(first, f"memory.{near}.capacity_bytes", sum(room for _, room in tiers) / _USED)
    return replace_at(whole, f"memory.{near}.bandwidth_bytes_per_s", (weights - left) / seconds)
