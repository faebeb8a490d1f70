"""The machine around a card: the host and storage that somebody names, or the ones usually found there."""

from dataclasses import replace
from typing import Final

from roofline.catalog.hardware import load_device, load_storage
from roofline.errors import InvalidSpecError
from roofline.hardware import Device
from roofline.scenario import Scenario

__all__ = ["USUAL_STORAGE", "is_card", "on_usual_machine", "usual_host", "with_machine"]

#: Behind a host that nothing else is said of.
USUAL_STORAGE: Final = "nvme_gen3"

#: A model larger than this lives in a server, whatever card is in it.
_DESKTOP_BYTES: Final = 128 * 2.0**30
_DESKTOP_HOST: Final = "intel_core_i9_14900k"
#: Up to the year of a card -> the server processor it is usually found beside.
_SERVER_HOSTS: Final = ((2020, "intel_xeon_w_3245"), (2021, "amd_epyc_7763"), (9999, "intel_xeon_gold_6454s"))
#: Cards in machines that one person uses.
_DESKTOP_KINDS: Final = ("consumer_gpu",)


def is_card(device: Device) -> bool:
    """Return whether a device is plugged into a machine, rather than being one."""
    return next(iter(device.engine.values())).kind == "gpu" and device.kind != "soc"


def usual_host(device: Device, *, held_bytes: float) -> str:
    """Return the catalogue name of the processor usually found beside a card.

    Parameters
    ----------
    held_bytes : float
        Weights that the machine holds, all devices together [B].
    """
    if device.kind in _DESKTOP_KINDS and held_bytes <= _DESKTOP_BYTES:
        return _DESKTOP_HOST
    return next(host for year, host in _SERVER_HOSTS if device.year <= year)


def with_machine(scenario: Scenario, *, host: str | None, storage: str | None) -> Scenario:
    """Return a scenario on devices with the host and storage that are named.

    Parameters
    ----------
    host, storage : str or None
        Catalogue names of a processor and of a storage; None leaves what there is.

    Raises
    ------
    InvalidSpecError
        If a host is named that is no processor, or for a device that has no link to one.
    UnknownNameError
        If nothing has that name.
    """
    deployment = scenario.deployment
    system, citations = deployment.system, scenario.citations
    if host is not None:
        if system.host_link is None:
            raise InvalidSpecError(f"host: {system.name} has no link to one")
        found = load_device(host)
        if "cpu" not in found.value.engine:
            raise InvalidSpecError(f"host: want a processor, {found.value.name} is none")
        system, citations = replace(system, host=found.value), (*citations, *found.citations)
    if storage is not None:
        kept = load_storage(storage)
        system, citations = replace(system, storage=kept.value), (*citations, *kept.citations)
    return scenario.replace(deployment=replace(deployment, system=system), citations=citations)


def on_usual_machine(scenario: Scenario) -> Scenario:
    """Return a scenario whose card has the usual host where it has none, and any device a storage.

    What had to be taken is among its assumptions.
    """
    deployment = scenario.deployment
    system = deployment.system
    host = storage = None
    assumed = []
    if system.host is None and is_card(system.device) and system.host_link is not None:
        held = sum(float(size) for *_, size in deployment.weight_bytes())
        host = usual_host(system.device, held_bytes=held * float(system.device_count))
        assumed.append(f"host: {load_device(host).value.name}, as nobody named one (--host)")
    if system.storage is None:
        storage = USUAL_STORAGE
        assumed.append(f"storage: {load_storage(storage).value.name}, as nobody named one (--storage)")
    whole = with_machine(scenario, host=host, storage=storage)
    return whole.replace(assumptions=(*whole.assumptions, *assumed))
