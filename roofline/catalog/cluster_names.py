"""What a table's device cell says of several machines that share a model, and what joins them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from roofline.catalog.hardware import load_device, load_link
from roofline.catalog.host_names import processor_called
from roofline.catalog.wild_names import device_called
from roofline.errors import UnknownNameError
from roofline.hardware.link import Link
from roofline.quantity import revised

__all__ = ["Cluster", "Member", "cluster_called", "link_called"]

#: ``4x Mac mini``, ``Mac mini (4x)``, ``Mac mini x4``.
_COUNTED: Final = re.compile(
    r"^\s*(\d+)\s*[x×]\s*(?=\D)|\(\s*(\d+)\s*[x×]\s*\)|\s[x×]\s*(\d+)\s*$", re.IGNORECASE
)
_LABEL: Final = re.compile(r"^\s*(?:and\s+|[A-Z]\d?\s*:\s*|(?:device|node|rank)\s*\d+\s*:\s*)", re.IGNORECASE)
#: ``home cluster (Mac M1, RTX 3070)``: the brackets list its machines.
_LISTED: Final = re.compile(r"^[^()]*\b(?:cluster|devices|nodes|ring)\b[^()]*\((.+)\)\s*$", re.IGNORECASE)
_CLUSTER: Final = re.compile(
    r"(?P<count>\d+)?[-\s]*(?:node|board)?s?\s*(?P<name>.+?)\s+cluster\b\s*(?:\((?P<inside>[^()]*)\))?\s*$",
    re.IGNORECASE,
)
_OF: Final = re.compile(r"cluster of (?P<count>\d+)\s*[x×]?\s*(?P<name>.+)$", re.IGNORECASE)
_NODES: Final = re.compile(r"(\d+)\s*(?:[x×]|-?\s*(?:nodes?|boards?|devices?))", re.IGNORECASE)
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(G|T)i?B\b(?!/s)", re.IGNORECASE)
_ONLY_SIZE: Final = re.compile(
    r"\s*\d+(?:\.\d+)?\s*[GT]i?B\s*(?:[LP]*DDR\S*|D?RAM|memory)?\s*", re.IGNORECASE
)
#: A card's number alone.
_BARE: Final = re.compile(r"\d{4}\s*(?:ti|super)?", re.IGNORECASE)
_RAM: Final = re.compile(r"\b(?:D?RAM|L?P?DDR\d?|memory)\b", re.IGNORECASE)
_FREE: Final = re.compile(r"\b(?:available|free|usable)\b", re.IGNORECASE)
_DISK: Final = re.compile(r"\b(?:ssd|nvme|disk|ufs|emmc)\b", re.IGNORECASE)
_LAPTOP: Final = re.compile(r"\b(?:laptop|notebook)\b", re.IGNORECASE)
_PLACE: Final = re.compile(r"\b(?:laptop|notebook|desktop|pc|workstation|tower)\b", re.IGNORECASE)
_BINARY: Final = {"G": 2.0**30, "T": 2.0**40}
#: First separator that is found outside of brackets.
_BETWEEN: Final = (r"[;|]", r",", r"\band\b|&", r"(?<=\s)\+(?=\s)|(?<=\))\+", r"\s/\s")
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(G|M)(?:bps|bit/s|b/s|bE\b|b Ethernet|bit)", re.IGNORECASE)
#: What joins machines -> the catalogue's link.
_LINKS: Final = (
    (r"thunderbolt|\bTB[345]\b|usb\s?4", "thunderbolt_4"),
    (r"wi-?fi\s*5|802\.11ac", "wifi_5"),
    (r"wi-?fi|wlan|wireless|802\.11", "wifi_6"),
    (r"infiniband", "infiniband_hdr"),
    (r"\b10\s*g", "ethernet_10g"),
    (r"\b25\s*g", "ethernet_25g"),
    (r"ethernet|gigabit|\blan\b|\bswitch\b|\bgbe\b", "ethernet_1g"),
)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One machine.

    Parameters
    ----------
    device : str
        Catalogue name of what computes first.
    device_bytes : float or None
        Its memory, where the cell says [B].
    free : bool
        Whether that, or the host's, is what is free rather than what is installed.
    host : str or None
        Catalogue name of the processor beside it.
    host_bytes : float or None
        Memory of that processor [B].
    """

    device: str
    device_bytes: float | None = None
    free: bool = False
    host: str | None = None
    host_bytes: float | None = None


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Machines in the order of a cell, and what of it names none that the catalogue knows."""

    members: tuple[Member, ...]
    unknown: tuple[str, ...] = ()


def cluster_called(text: str, *, device_count: float = 1.0) -> Cluster:
    """Return the machines of a device cell.

    Parameters
    ----------
    device_count : float
        How many there are of one that the cell does not count.

    Raises
    ------
    UnknownNameError
        If the catalogue knows none of them.

    Examples
    --------
    >>> found = cluster_called("Mac M1 8GB + Laptop (i9, RTX 3070 8GB) + Mate XYZ")
    >>> [member.device for member in found.members], found.unknown
    (['apple_m1', 'nvidia_rtx_3070_laptop'], ('Mate XYZ',))
    >>> len(cluster_called("Raspberry Pi 5 Cluster (10x 16GB)").members)
    10
    """
    alike = _alike(text)
    if alike is not None:
        return Cluster(members=alike)
    listed = _LISTED.match(text)
    members: list[Member] = []
    unknown: list[str] = []
    for part in _machines(text if listed is None else listed[1]):
        plain = _LABEL.sub("", part)
        found, counted = _member(_COUNTED.sub(" ", plain)), _COUNTED.search(plain)
        if members and _beside(members[-1], found, plain):
            members[-1] = _with_host(members[-1], plain)
        elif found is not None:
            number = 1 if counted is None else int(next(filter(None, counted.groups())))
            members.extend([found] * number)
        else:
            unknown.append(part.strip())
    if not members:
        raise UnknownNameError(f"no machine is named in {text!r} that the catalogue knows")
    if len(members) == 1 and not unknown:
        members = members * max(int(device_count), 1)
    return Cluster(members=tuple(members), unknown=tuple(unknown))


def link_called(*texts: str, otherwise: str) -> Link:
    """Return what joins machines, as the first text that speaks of it says.

    Parameters
    ----------
    otherwise : str
        Catalogue name of the link where none does.

    Examples
    --------
    >>> float(link_called("layer split over 5 Gbps Ethernet", otherwise="wifi_6").bandwidth_bytes_per_s)
    625000000.0
    """
    for text in texts:
        name = next((name for pattern, name in _LINKS if re.search(pattern, text, re.IGNORECASE)), None)
        rate = _RATE.search(text)
        if name is None and rate is None:
            continue
        link = load_link(name or otherwise).value
        if rate is None:
            return link
        bits_per_s = float(rate[1]) * (1e9 if rate[2].upper() == "G" else 1e6)
        return revised(link, bandwidth_bytes_per_s=bits_per_s / 8.0)
    return load_link(otherwise).value


def _alike(text: str) -> tuple[Member, ...] | None:
    """Machines of one kind that a cell calls a cluster; None where it does not."""
    found = _OF.search(text) or _CLUSTER.match(text)
    if found is None:
        return None
    inside = found.groupdict().get("inside") or ""
    name, size = found["name"], _SIZE.search(inside)
    counted = _NODES.search(inside)
    number = float(counted[1]) if counted else float(found["count"] or 0.0)
    member = _member(f"{name} {size[0]}" if size and counted else name)
    if member is None:
        return None
    if not number and size is not None:
        # What all of them hold together.
        device = load_device(member.device).value
        number = round(_bytes(size) / float(next(iter(device.memory.values())).capacity_bytes))
    return (member,) * max(int(number), 2)


def _machines(text: str) -> list[str]:
    """Parts of a cell between the first separator that stands outside of brackets."""
    for pattern in _BETWEEN:
        parts = _split(text, pattern)
        if len(parts) > 1:
            return parts
    return [text]


def _split(text: str, pattern: str) -> list[str]:
    depth, start, parts = 0, 0, []
    ends = {match.start(): match.end() for match in re.finditer(pattern, text, re.IGNORECASE)}
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and place in ends and place >= start:
            parts.append(text[start:place])
            start = ends[place]
    return [part for part in (*parts, text[start:]) if part.strip()]


def _named(text: str) -> str | None:
    """Catalogue name of a device in a part of a cell."""
    plain = " ".join(_PLACE.sub(" ", _FREE.sub(" ", _RAM.sub(" ", text))).split()).strip(" -")
    if _BARE.fullmatch(_SIZE.sub("", plain).strip()):
        plain = f"RTX {plain}"
    for name in dict.fromkeys((f"{plain} laptop" if _LAPTOP.search(text) else text, text, plain)):
        try:
            return device_called(name)
        except UnknownNameError:
            continue
    return None


def _pieces(text: str) -> Iterator[str]:
    """A machine's parts, a laptop's marked as such."""
    mark = " laptop" if _LAPTOP.search(text) else ""
    for piece in re.split(r"[(),/:]|\s\+\s|\+(?=\S)|\bwith\b|\bw/", text):
        if piece.strip():
            yield piece if _LAPTOP.search(piece) else piece + mark


def _member(text: str) -> Member | None:
    """The machine that a part of a cell describes; None where it names nothing known."""
    named = [(name, piece) for piece in _pieces(text) if (name := _named(piece)) is not None]
    if not named and (whole := _named(text)) is not None:
        named = [(whole, text)]
    if not named:
        return None
    kinds = {name: load_device(name).value.kind for name, _ in named}
    first, piece = next((each for each in named if kinds[each[0]].endswith("gpu")), named[0])
    card = kinds[first].endswith("gpu")
    host = next((name for name, _ in named if card and kinds[name] == "cpu"), None)
    rest = [other for other in _pieces(text) if other != piece]
    own = _size_in(piece) if not card or not _RAM.search(piece) else None
    elsewhere = next((size for other in rest if (size := _size_in(other)) is not None), None)
    return Member(
        device=first,
        device_bytes=own if card else own or elsewhere,
        free=_FREE.search(text) is not None,
        host=host,
        host_bytes=elsewhere if card else None,
    )


def _beside(member: Member, found: Member | None, text: str) -> bool:
    """Whether a part of a cell speaks of the processor or the memory beside the card before it."""
    card = load_device(member.device).value.kind.endswith("gpu")
    if not card or member.host is not None:
        return False
    if found is not None:
        return load_device(found.device).value.kind == "cpu"
    return processor_called(text) is not None or _ONLY_SIZE.fullmatch(text) is not None


def _with_host(member: Member, text: str) -> Member:
    return Member(
        device=member.device,
        device_bytes=member.device_bytes,
        free=member.free or _FREE.search(text) is not None,
        host=processor_called(text),
        host_bytes=_size_in(text) or member.host_bytes,
    )


def _size_in(text: str) -> float | None:
    """Memory that a text states, storage apart [B]."""
    if _DISK.search(text) or (found := _SIZE.search(text)) is None:
        return None
    return _bytes(found)


def _bytes(found: re.Match[str]) -> float:
    return float(found[1]) * _BINARY[found[2].upper()]
