"""Runtime profiles by device and software: measured, carried over from kin, or the datasheet."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from roofline.catalog.files import find, fold, folders, read_toml
from roofline.catalog.hardware import load_device
from roofline.catalog.sourced import validated
from roofline.errors import UnknownNameError, nearest
from roofline.hardware.device import Device
from roofline.timing.runtime import Runtime, datasheet_runtime

__all__ = [
    "device_family",
    "device_generation",
    "device_segment",
    "load_runtime",
    "power_over_peak",
    "softwares",
]

_ALONE: Final = "llama.cpp"
#: How shelves begin of what all devices have in common.
_COMMON: Final = "any"
#: Kinds of devices that one person uses at a time: there llama.cpp comes before what serves many.
_PERSONAL: Final = ("consumer_gpu", "soc", "npu")
#: Whose profile is taken where none is asked for, first match wins; others by name.
_PREFERRED: Final = (
    "vllm",
    "sglang",
    "trtllm",
    "llama.cpp",
    "gpt-fast",
    "mlx",
    "mlc",
    "rkllm",
    "executorch",
    "generic",
)

#: Memories of cards, the formats their peaks are compared at, and the range of power over peak [J/FLOP].
_CARDS: Final = ("hbm", "gddr")
_WIDE: Final = ("bf16", "fp16", "fp32")
_POWERS: Final = (0.4e-12, 3e-12)


def device_family(device: Device, engine: str = "") -> str:
    """Return whom a device resembles enough to lend it fits: maker, engine and memory class.

    Parameters
    ----------
    engine : str, optional
        One of its engines; its first where it is empty or there is none of that name.
    """
    kind = device.engine.get(engine, next(iter(device.engine.values()))).kind
    memory = next(iter(device.memory.values())).technology.casefold()
    maker = device.vendor.casefold().partition(" ")[0]
    if kind == "cpu":
        return "cpu"
    if kind != "gpu":
        return f"{maker}_{kind}"
    kinds = {"hbm": "hbm", "gddr": "gddr"}
    return f"{maker}_" + next((name for start, name in kinds.items() if memory.startswith(start)), "shared")


def device_generation(device: Device) -> str:
    """Return the folded name of an architecture without what brackets or commas add to it."""
    return fold(re.split(r"[(,]", device.architecture)[0])


def power_over_peak(device: Device, engine: str = "") -> float:
    """Return the power of a card over its fastest multiplication of 16 or 32 bits [J/FLOP].

    0 where the power is not stated, and where the engine shares it with others, as in a chip with
    memory that is not its own. Kept between 0.4 and 3 pJ, what the cards have that profiles are
    carried over from.
    """
    kind = device_family(device, engine).rpartition("_")[2]
    rates = device.engine.get(engine, next(iter(device.engine.values()))).peak_flops_per_s
    fastest = max((float(rate) for name in _WIDE for rate in rates.get(name, {}).values()), default=0.0)
    if kind not in _CARDS or device.tdp_watts is None or fastest <= 0.0:
        return 0.0
    return float(np.clip(float(device.tdp_watts) / fastest, *_POWERS))


def device_segment(device: Device) -> str:
    """Return ``consumer`` or ``professional``: they differ in how much of a peak is reached."""
    return "consumer" if device.kind == "consumer_gpu" else "professional"


def softwares(device: str) -> tuple[str, ...]:
    """Return the softwares there are profiles of for a device, the default first.

    Raises
    ------
    UnknownNameError
        If there is no such device.
    """
    path = find(device, "devices")
    return tuple(file.stem for file in _profiles(path.stem, load_device(str(path)).value))


def load_runtime(device: str, software: str | None = None) -> Runtime:
    """Return the runtime of a software on a device.

    Parameters
    ----------
    device : str
        Catalogue name, alias, or path of a device file.
    software : str, optional
        Framework, with or without version; the device's default where None, the datasheet bound
        for ``datasheet``.

    Notes
    -----
    Of one software, a profile of the device itself comes before one carried over from the nearest
    generation of its family. A device without measured relatives gets the median of all devices,
    good for one sequence at a time. What is carried over is put on the engine's clock and power.
    Exactly one profile is read.

    Raises
    ------
    UnknownNameError
        If there is no such device, or no profile of that software for it.
    """
    path = find(device, "devices")
    if software == "datasheet":
        return datasheet_runtime(path.stem)
    known = load_device(str(path)).value
    files = _profiles(path.stem, known)
    if software is not None:
        wanted = fold(software)
        named = [file for file in files if wanted in (fold(file.stem), fold(file.stem.partition("_")[0]))]
        files = named or [file for file in files if fold(read_toml(file)["software"]) == wanted]
        if not files:
            names = softwares(device)
            raise UnknownNameError(
                f"no runtime profile of {software!r} for {path.stem}{nearest(software, names)}"
                + (f"; there are {', '.join(names)}" if names else "")
            )
    if not files:
        return datasheet_runtime(path.stem)
    runtime = _read(files[0])
    engine = known.engine.get(runtime.engine, next(iter(known.engine.values())))
    return runtime.on_engine(
        clock_hertz=float(engine.clock_hertz), joules_per_flop=power_over_peak(known, runtime.engine)
    )


def _read(file: Path) -> Runtime:
    """Read a profile, completed by the one it extends."""
    own = validated(Runtime, read_toml(file), f"{file.parent.name}/{file.name}")
    if not own.extends:
        return own
    base = _read(file.with_name(f"{own.extends}.toml"))
    made = {(fit.kind, fit.format) for fit in own.kernels}
    rest = tuple(fit for fit in base.kernels if (fit.kind, fit.format) not in made)
    return replace(base, software=own.software, date=own.date, kernels=(*own.kernels, *rest))


def _profiles(name: str, device: Device) -> list[Path]:
    """Return the profile files for a device of that catalogue name, the default first."""
    found: dict[str, Path] = {}
    for root in folders("fits"):
        for file in (root / name).glob("*.toml"):
            found.setdefault(file.stem, file)
    for file in _lent(device):
        found.setdefault(file.stem, file)
    return sorted(found.values(), key=lambda file: _rank(file, device))


def _lent(device: Device) -> list[Path]:
    """Return the profile file of each software from the nearest generation of a device's families.

    The family of its first engine comes before those of its others, of which processors lend nothing;
    where none lends anything, or nothing of what runs everywhere, what all devices have in common. A
    shelf of any generation is nearer than one of another.
    """
    first = device_family(device)
    others = [device_family(device, name) for name in device.engine]
    families = [*dict.fromkeys((first, *(family for family in others if family != "cpu")))]
    own, common = _nearest(device, families), _nearest(device, [_COMMON])
    names = {file.stem for file in own}
    return own + [file for file in common if not own or (file.stem == _ALONE and file.stem not in names)]


def _nearest(device: Device, families: list[str]) -> list[Path]:
    """Return the file of each software whose shelf is nearest, of the first family that has one."""
    own_segment = device_segment(device)
    known = {"any": 2, device_generation(device): 1, fold(device.architecture): 0}
    found: dict[str, tuple[tuple[int, bool, int, int], Path]] = {}
    shelves = [folder for root in folders("fits") for folder in sorted((root / "transferred").glob("*/"))]
    for folder in shelves:
        family = next((family for family in families if folder.name.startswith(family + "_")), None)
        if family is None:
            continue
        segment, generation, year = folder.name.removeprefix(family + "_").split("_")
        distance = (
            families.index(family),
            segment not in ("any", own_segment),
            known.get(generation, len(known)),
            abs(int(year) - device.year),
        )
        for file in folder.glob("*.toml"):
            if file.stem not in found or distance < found[file.stem][0]:
                found[file.stem] = distance, file
    return [file for _, file in found.values()]


def _rank(file: Path, device: Device) -> tuple[bool, bool, int, str]:
    framework = file.stem.partition("_")[0]
    order = _PREFERRED.index(framework) if framework in _PREFERRED else len(_PREFERRED)
    first = device.kind in _PERSONAL and framework == _ALONE
    return file.parent.name.startswith(f"{_COMMON}_"), not first, order, file.stem
