"""`roofline ring`: one model over unlike devices that pass a token around."""

from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from roofline.cli.flags import Given, takes_settings
from roofline.cli.output import FileOption, Format, FormatOption, as_json, write
from roofline.cli.sections import Section, render
from roofline.cli.tables import count, quantity, render_table
from roofline.errors import InvalidSpecError

if TYPE_CHECKING:
    from roofline.device_ring import Ring, RingDevice
    from roofline.hardware.link import Link
    from roofline.hardware.storage import Storage
    from roofline.settings import Settings

__all__ = ["EXAMPLES", "run"]

EXAMPLES: Final = """
roofline ring llama-3.1-8b apple-m1 --with snapdragon-8-gen-3 --link wifi-6 --weights q4_0
roofline ring llama-3.1-70b desktop-rtx-4090 --with 'apple-m1-max,24 GiB' --link wifi-6 --weights q4_0
roofline ring qwen3-8b apple-m1 --memory-limit '3 GiB' --storage nvme-gen3 --weights q4_0 --rounds 1
roofline ring llama-3.1-8b apple-m1 --with apple-m2 --link thunderbolt-4 --layers 12,20 --sequences 4
"""

#: Settings that place a model over several devices, or beyond one's memory, themselves.
_REFUSED: Final = (
    "devices", "tensor", "pipeline", "data", "expert", "speculate", "offload", "offload_mode", "n_gpu_layers",
    "experts_on_cpu", "cache_experts", "kv_offload", "host",
)  # fmt: skip


class _Paging(StrEnum):
    MAPPED = "mapped"
    PINNED = "pinned"


@takes_settings
def run(
    given: Given,
    others: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="HARDWARE[,SIZE[,STORAGE]]",
            help="Another device, or one and its processor as rtx-3070+intel-core-i9-13900k; how much memory "
            "it, or that processor, may use; what it reads from. May be repeated.",
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(metavar="N,N,...", help="Layers of each device. [default: the fastest split found]"),
    ] = None,
    rounds: Annotated[
        str, typer.Option(metavar="N,N,...", help="Times a token passes each device; the fastest is taken.")
    ] = "1,2,4,8",
    paging: Annotated[
        _Paging,
        typer.Option(help="Whether a device that cannot hold its layers reads all of them, or the excess."),
    ] = _Paging.MAPPED,
    ahead: Annotated[
        bool, typer.Option("--ahead/--no-ahead", help="Whether a device reads while the others work.")
    ] = True,
    sequences: Annotated[
        float, typer.Option(metavar="N", help="Sequences on their way at once, as in a pipeline.")
    ] = 1.0,
    form: FormatOption = Format.TABLE,
    out: FileOption = None,
) -> None:
    """Split a model's layers over unlike devices in a ring, and say how long a token takes.

    Each device computes a window of layers and passes the hidden states on over --link; one whose
    memory does not hold its layers reads them from storage, ahead while the others work. The first
    device has embedding and head. HARDWARE may be a device and its processor, e.g. rtx-3070+intel-n150;
    --memory-limit is then of the processor.
    """
    if not sequences >= 1.0:
        raise InvalidSpecError(f"--sequences: want 1 or more, got {sequences:g}")
    devices, total = _devices(given.settings(), others or [])
    found = _found(devices, total, layers, _counts(rounds, "--rounds", 1), paging.value, ahead)
    if form is Format.JSON:
        write(as_json(_document(found, sequences)), out)
    elif form is Format.CSV:
        header = list(_document(found, sequences)["devices"][0])
        rows = [[str(cell) for cell in row.values()] for row in _document(found, sequences)["devices"]]
        write(render_table(header, rows, form), out)
    else:
        write(render(_title(given.settings(), found), _sections(found, sequences), form), out)


def _devices(settings: "Settings", others: list[str]) -> "tuple[list[RingDevice], int]":
    from roofline.catalog.hardware import load_link
    from roofline.quantity import total

    for name in _REFUSED:
        if getattr(settings, name) is not None:
            raise InvalidSpecError(f"ring: places the model itself; leave out --{name.replace('_', '-')}")
    if settings.link is None and others:
        raise InvalidSpecError("ring: want --link, what joins the devices, e.g. --link wifi-6")
    link = None if settings.link is None else load_link(settings.link).value
    whole = replace(settings, link=None, storage=None)
    first, beside = _placed(whole, settings.hardware, settings.memory_limit)
    devices = [_ring_device(first, beside, link, _storage(settings.storage))]
    for text in others:
        hardware, limit, reads = ([part.strip() for part in text.split(",")] + ["", ""])[:3]
        if text.count(",") > 2 or not hardware:
            raise InvalidSpecError(f"--with: want HARDWARE[,SIZE[,STORAGE]], got {text!r}")
        own, beside = _placed(whole, hardware, limit or None)
        devices.append(_ring_device(own, beside, link, _storage(reads or None), first=False))
    model = first.scenario().deployment.model
    return devices, int(total(model.layer_counts().values()))


def _placed(settings: "Settings", hardware: str, limit: str | None) -> "tuple[Settings, Settings | None]":
    """Settings on a device and on the processor beside it, whose memory the limit is then of."""
    device, plus, processor = (part.strip() for part in hardware.partition("+"))
    if not plus:
        return replace(settings, hardware=device, memory_limit=limit), None
    return (
        replace(settings, hardware=device, memory_limit=None),
        replace(settings, hardware=processor, memory_limit=limit),
    )


def _ring_device(
    own: "Settings",
    beside: "Settings | None",
    link: "Link | None",
    storage: "Storage | None",
    *,
    first: bool = True,
) -> "RingDevice":
    from roofline.device_ring import analyzed_device

    whole = analyzed_device(own.scenario(), beside=None if beside is None else beside.scenario())
    return whole.ring_device(link, storage=storage, first=first)


def _storage(name: str | None) -> "Storage | None":
    from roofline.catalog.hardware import load_storage

    return None if name is None else load_storage(name).value


def _found(
    devices: "list[RingDevice]",
    total: int,
    layers: str | None,
    rounds: tuple[int, ...],
    paging: Any,
    ahead: bool,
) -> "Ring":
    from roofline.device_ring import best_ring, ring_time

    if layers is None:
        return best_ring(devices, total, rounds=rounds, prefetch=ahead, paging=paging)
    counts = _counts(layers, "--layers", 0)
    if sum(counts) != total:
        raise InvalidSpecError(f"--layers: {layers} make {sum(counts)}, the model has {total}")
    rings = [
        ring_time(devices, [float(n) for n in counts], rounds=float(times), prefetch=ahead, paging=paging)
        for times in rounds
    ]
    return min(rings, key=lambda ring: float(ring.token_s))


def _counts(text: str, option: str, least: int) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InvalidSpecError(f"{option}: want whole numbers with commas between, got {text!r}") from None
    if min(found) < least or max(found) > 100_000:
        raise InvalidSpecError(f"{option}: want numbers from {least} to 100,000, got {text!r}")
    return found


def _document(found: "Ring", sequences: float) -> dict[str, Any]:
    return {
        "rounds": float(found.rounds),
        "token_s": float(found.token_s),
        "compute_s": float(found.compute_s),
        "send_s": float(found.send_s),
        "read_s": float(found.read_s),
        "tokens_per_s": float(found.tokens_per_s(sequences)),
        "binding": found.binding,
        "fits": bool(found.fits),
        "devices": [
            {
                "device": device.name,
                "layers": float(held),
                "own_layers": float(device.near_layers(held)),
                "busy_s": float(busy),
                "bubble": 1.0 - float(busy / found.token_s),
                "lacking_bytes": float(lacking),
            }
            for device, held, busy, lacking in zip(
                found.devices, found.layers, found.busy_s, found.lacking_bytes, strict=True
            )
        ],
    }


def _title(settings: "Settings", found: "Ring") -> str:
    names = ", ".join(device.name for device in found.devices)
    return f"{settings.model} over {names}: {found.rounds:g} round{'s' * (float(found.rounds) > 1.0)} a token"


def _sections(found: "Ring", sequences: float) -> Iterator[Section]:
    shown = _document(found, sequences)
    yield Section(
        title="A token",
        header=("time", "computing", "sending", "waiting for storage", "binds", "token/s"),
        rows=[
            (
                *(quantity(shown[key], "s") for key in ("token_s", "compute_s", "send_s", "read_s")),
                found.binding,
                count(shown["tokens_per_s"]),
            )
        ],
        left=0,
        remarks=("one sequence at a time" if sequences == 1.0 else f"{sequences:g} sequences on their way",),
    )
    lacking = [(row["device"], row["lacking_bytes"]) for row in shown["devices"] if row["lacking_bytes"]]
    yield Section(
        title="Devices",
        header=("device", "layers", "on the device", "busy", "idle"),
        rows=[
            (
                row["device"],
                count(row["layers"]),
                count(row["own_layers"]),
                quantity(row["busy_s"], "s"),
                f"{100.0 * row['bubble']:.0f} %",
            )
            for row in shown["devices"]
        ],
        remarks=tuple(f"does not fit: {name} lacks {quantity(size, 'B')}" for name, size in lacking),
    )
