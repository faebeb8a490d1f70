"""Devices, links, storage and systems by name."""

from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict

from roofline.catalog.files import find, names_in, read_toml
from roofline.catalog.sourced import Sourced, read_into, unwrap, validated
from roofline.hardware.device import FILE_CONFIG, Device
from roofline.hardware.link import Link
from roofline.hardware.storage import Storage
from roofline.hardware.system import System
from roofline.units import Count, DollarsPerHour, Watts

__all__ = ["load_device", "load_link", "load_storage", "load_system"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _SystemFile:
    """A system as its file states it: parts by catalogue name."""

    __pydantic_config__: ClassVar[ConfigDict] = FILE_CONFIG

    name: str
    device: str
    device_count: Count
    aliases: tuple[str, ...] = ()
    peer_link: str | None = None
    host: str | None = None
    host_link: str | None = None
    storage: str | None = None
    power_watts: Watts | None = None
    price_dollars_per_hour: DollarsPerHour | None = None


def load_device(name: str) -> Sourced[Device]:
    """Return the device of that name, alias or ``.toml`` path."""
    return read_into(Device, find(name, "devices"))


def load_link(name: str) -> Sourced[Link]:
    """Return the link of that name, alias or ``.toml`` path."""
    return read_into(Link, find(name, "links"))


def load_storage(name: str) -> Sourced[Storage]:
    """Return the storage of that name, alias or ``.toml`` path."""
    return read_into(Storage, find(name, "storage"))


def load_system(name: str, *, devices: float | None = None) -> Sourced[System]:
    """Return a system by name, or `devices` of one device joined by the link its file names.

    What calibration measured of a device's links and storage (files ``<device>_host_link``,
    ``<device>_storage`` of a user's folder) comes before what its file names.

    A system's device count is replaced by `devices` where that is given.
    """
    path = find(name, "systems", "devices")
    if path.parent.name != "systems":
        return _of_one_device(read_into(Device, path), 1.0 if devices is None else devices)
    plain, citations = unwrap(read_toml(path), path.name)
    stated = validated(_SystemFile, plain, path.name)
    parts: list[Sourced[Any]] = []

    def part(load: Any, key: str | None) -> Any:
        if key is None:
            return None
        loaded = load(key)
        parts.append(loaded)
        return loaded.value

    system = System(
        name=stated.name,
        device=part(load_device, stated.device),
        device_count=stated.device_count if devices is None else devices,
        peer_link=part(load_link, stated.peer_link),
        host=part(load_device, stated.host),
        host_link=part(load_link, stated.host_link),
        storage=part(load_storage, stated.storage),
        power_watts=stated.power_watts,
        price_dollars_per_hour=stated.price_dollars_per_hour,
    )
    for loaded in parts:
        citations += loaded.citations
    return Sourced(name=path.stem, value=system, citations=citations)


def _measured_part(device: Sourced[Device], section: str, part: str) -> str | None:
    """Return the name of a link or storage file that calibration wrote for a device; None for none."""
    name = f"{device.name}_{part}"
    return name if name in names_in(section) else None


def _of_one_device(device: Sourced[Device], count: float) -> Sourced[System]:
    citations = device.citations
    links: dict[str, Link] = {}
    for use in ("peer", "host"):
        link = _measured_part(device, "links", f"{use}_link") or device.value.link.get(use)
        if link is not None:
            loaded = load_link(link)
            links[use] = loaded.value
            citations += loaded.citations
    storage = None
    stored = _measured_part(device, "storage", "storage") or next(iter(device.value.storage), None)
    if stored is not None:
        kept = load_storage(stored)
        storage = kept.value
        citations += kept.citations
    system = System(
        name=device.value.name,
        device=device.value,
        device_count=count,
        peer_link=links.get("peer", links.get("host")),
        host_link=links.get("host"),
        storage=storage,
    )
    return Sourced(name=device.name, value=system, citations=citations)
