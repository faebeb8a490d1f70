"""What a table's device cell says of the whole machine: card, host processor, memory, link, storage."""

import re
from dataclasses import dataclass
from typing import Final

from roofline.catalog.files import find
from roofline.errors import UnknownNameError

__all__ = ["Machine", "host_memory_in", "machine_called", "memory_limit_in", "processor_called"]

#: A part after the first that begins so says something of the host, not of another card.
_SOCKETS: Final = re.compile(r"^\s*(\d+)\s*x\s+", re.IGNORECASE)
_MEMORY: Final = re.compile(r"\b(\d+(?:\.\d+)?)\s*([GT])i?B\b", re.IGNORECASE)
_HOST_MEMORY: Final = re.compile(
    r"\b(\d+(?:\.\d+)?)\s*([GT])i?B\s+(?:of\s+)?(?:free\s+|available\s+)?(?:system\s+|host\s+|cpu\s+)?(?:D?RAM|DDR\d)\b",
    re.IGNORECASE,
)
_CHANNELS: Final = re.compile(
    r"(\d+)\s*(?:x|-?\s*ch(?:annels?)?\b\.?)\s*(?:of\s+)?(?:LP)?DDR(\d)X?-?\s?(\d{4,5})", re.IGNORECASE
)
_RATE: Final = re.compile(r"(?:LP)?DDR\dX?\D{0,3}(\d+(?:\.\d+)?)\s*GB/s", re.IGNORECASE)
_PCIE: Final = re.compile(r"pcie\s*(?:gen)?\s*([3-6])", re.IGNORECASE)
_CPU: Final = re.compile(
    r"xeon|epyc|threadripper|ryzen|\bi[3579]-|core ultra|skylake|cascade lake|ice lake|\bcpu\b|genoa|turin",
    re.IGNORECASE,
)
_DISK: Final = (
    (r"ssd.*\b(?:gcp|google)\b|\b(?:gcp|google)\b.*ssd", "gcp_ssd"),
    (r"ufs\s*4", "ufs_4_0"),
    (r"ufs\s*3", "ufs_3_1"),
    (r"pcie\s*5\S*\s+(?:nvme|ssd)|gen\s*5\s+(?:nvme|ssd)", "nvme_gen5"),
    (r"pcie\s*3\S*\s+(?:nvme|ssd)|gen\s*3\s+(?:nvme|ssd)", "nvme_gen3"),
    (r"nvme", "nvme_gen4"),
    (r"emmc", "emmc_5_1"),
    (r"sd\s*card|microsd", "sd_uhs_1"),
    (r"\bssd\b", "nvme_gen3"),
)
_TRIMMINGS: Final = re.compile(
    r"\([^()]*\)|pcie\s*(?:gen)?\s*[3-6]\S*|\bamx\b|\bavx\S*|\b\d+-core\b|\b(?:dual|single)[\s-]socket\b",
    re.IGNORECASE,
)
#: Processors known by their generation only: the catalogue's nearest.
_GENERATIONS: Final = (
    (r"skylake|cascade lake|ice lake", "intel_xeon_w_3245"),
    (r"sapphire rapids|emerald rapids|xeon", "intel_xeon_gold_6454s"),
    (r"genoa|turin|epyc", "amd_epyc_9654"),
    (r"ryzen|threadripper", "amd_ryzen_9_7950x"),
    (r"\bi[3579]-|core ultra", "intel_core_i9_14900k"),
)
_BINARY: Final = {"G": 2.0**30, "T": 2.0**40}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a device cell says; None is what it does not say.

    Parameters
    ----------
    device : str
        The part that computes first, as it is written.
    device_count : float
        How many of it the cell says there are.
    device_bytes : float or None
        Memory stated beside it [B].
    host : str or None
        Catalogue name of the host's processor.
    nearest_host : bool
        Whether that is only the nearest of its generation.
    sockets : float or None
        How many of them; of the device where that is a processor.
    host_bytes, host_bytes_per_s : float or None
        Host memory stated [B], and the bandwidth of a socket's [B/s].
    link, storage : str or None
        Catalogue names of the link to the host and of the storage.
    """

    device: str
    device_count: float = 1.0
    device_bytes: float | None = None
    host: str | None = None
    nearest_host: bool = False
    sockets: float | None = None
    host_bytes: float | None = None
    host_bytes_per_s: float | None = None
    link: str | None = None
    storage: str | None = None


def machine_called(text: str) -> Machine:
    """Return what a device cell says of the machine.

    Examples
    --------
    >>> found = machine_called("1x RTX 4090 48GB + 2x Xeon 8488C PCIe4")
    >>> found.device, found.host, found.sockets, found.link
    ('RTX 4090 48GB', 'intel_xeon_platinum_8488c', 2.0, 'pcie_4_x16')
    >>> machine_called("T4 16GB + 208GB DRAM + SSD (GCP)").storage
    'gcp_ssd'
    """
    parts = [part.strip() for part in re.split(r"\s\+\s|\s*\+\s+(?=\S)", text)]
    several = _SOCKETS.match(parts[0])
    first = _SOCKETS.sub("", parts[0])
    device = re.sub(r"\(\d+(?:-\d+)?x\)", "", first).strip()
    rest = " + ".join(parts[1:])
    processors = [part for part in parts[1:] if _CPU.search(part)]
    host, nearest = _host(processors[0]) if processors else (None, False)
    counted = processors[0] if processors else parts[0] if _CPU.search(parts[0]) else ""
    sockets = _SOCKETS.match(counted)
    link, memory = _PCIE.search(text), _MEMORY.search(device)
    return Machine(
        device=device,
        device_count=float(several[1]) if several and not _CPU.search(parts[0]) else 1.0,
        device_bytes=_size(memory),
        host=host,
        nearest_host=nearest,
        sockets=float(sockets[1]) if sockets else None,
        host_bytes=_host_bytes(parts[1:]),
        host_bytes_per_s=_host_rate(rest),
        link=None if link is None else f"pcie_{link[1]}_x16",
        storage=next((name for pattern, name in _DISK if re.search(pattern, text, re.IGNORECASE)), None),
    )


def memory_limit_in(*texts: str) -> float | None:
    """Return a cap on memory that a model's name or a note states [B]; None where they state none.

    Examples
    --------
    >>> memory_limit_in("Qwen3-1.7B (limit 1G)", "") == 2.0**30
    True
    """
    for text in texts:
        for pattern in (
            r"limit\w*\D{0,12}(\d+(?:\.\d+)?)\s*([GT])",
            r"(\d+(?:\.\d+)?)\s*([GT])i?B\s+(?:memory\s+)?(?:cap|limit|budget)\b",
            r"(?:cap|budget)\w*\D{0,8}(\d+(?:\.\d+)?)\s*([GT])",
        ):
            if (found := re.search(pattern, text, re.IGNORECASE)) is not None:
                return _size(found)
    return None


def host_memory_in(text: str) -> float | None:
    """Return the host's memory that a note states [B]; None where it states none.

    Examples
    --------
    >>> host_memory_in("9.7 GiB RAM available") == 9.7 * 2.0**30
    True
    """
    return _size(_HOST_MEMORY.search(text))


def _size(found: re.Match[str] | None) -> float | None:
    return None if found is None else float(found[1]) * _BINARY[found[2].upper()]


def processor_called(text: str) -> str | None:
    """Return the catalogue name of a processor, or of the nearest of its generation; None for neither."""
    return _host(text)[0]


def _host(text: str) -> tuple[str | None, bool]:
    """Catalogue name of a processor, and whether it is only the nearest of its generation."""
    plain = re.sub(r"\s+", " ", _TRIMMINGS.sub(" ", _SOCKETS.sub("", text))).strip(" ,-")
    for name in (plain, _MEMORY.sub("", plain).strip(), f"Xeon {plain}"):
        try:
            return find(name, "devices").stem, False
        except UnknownNameError:
            continue
    named = (name for pattern, name in _GENERATIONS if re.search(pattern, text, re.IGNORECASE))
    found = next(named, None)
    return found, found is not None


def _host_bytes(parts: list[str]) -> float | None:
    for part in parts:
        if re.search(r"\b(?:DRAM|RAM|DDR|memory)", part, re.IGNORECASE) and (found := _MEMORY.search(part)):
            return _size(found)
    return None


def _host_rate(text: str) -> float | None:
    if (found := _CHANNELS.search(text)) is not None:
        return float(found[1]) * float(found[3]) * 1e6 * 8.0
    if (found := _RATE.search(text)) is not None:
        return float(found[1]) * 1e9
    return None
