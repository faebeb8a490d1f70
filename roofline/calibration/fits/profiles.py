"""Runtime profiles: every fit of a device and software, completed."""

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.fits.fitting import cross_validate, fit, kernel_fit, log_errors, quantiles, rounded
from roofline.calibration.fits.transfer import Donor, Kin, carried_fit, carry_over_errors, lend
from roofline.calibration.measurements.operator_tables import Age, Measurements, read_tables, version
from roofline.catalog.files import fold
from roofline.catalog.fits import device_family, device_segment, power_over_peak
from roofline.catalog.hardware import load_device
from roofline.timing.runtime import HostTime, KernelFit, Runtime

__all__ = [
    "build_harness_profiles",
    "build_profiles",
    "build_version_profiles",
    "fit_donors",
    "kin_of",
]

Array = NDArray[np.float64]

#: Software that serves models; a profile is complete for one of them.
_SERVING: Final = ("vllm", "sglang", "trtllm")
#: Measured kernels that any of them runs: communication libraries, plain matrix products, passes.
_LIBRARIES: Final = ("nccl", "oneccl", "vllm_kernels", "flashinfer", "torch", "torch_profiler")
_EAGER: Final = "torch_eager"
_CALLED_ONE_BY_ONE: Final = (_EAGER, "torch", "torch_profiler")
_HARNESSED: Final = (_EAGER, "vllm_kernels")
_THREE_ROUNDS: Final = "casys-kaist/LLMServingSim"  # eager, three iterations

#: Decode hides the host behind the device, prefill adds to it (docs/decisions/0003-latency-forms.md).
_COMPOSITION: Final = {"decode": "max", "prefill": "sum"}


def kin_of(device: str) -> Kin:
    """Return what decides which donors are near a device of the catalogue."""
    value = load_device(device).value
    return Kin(
        family=device_family(value),
        architecture=fold(value.architecture),
        segment=device_segment(value),
        year=value.year,
        clock_hertz=float(next(iter(value.engine.values())).clock_hertz),
        joules_per_flop=power_over_peak(value),
    )


def fit_donors(folder: Path, devices: tuple[str, ...] = (), *, age: Age = "newest") -> list[Donor]:
    """Return a fit with cross-validated errors of every group in a folder of measurement tables.

    Parameters
    ----------
    age : ``newest`` or ``older``
        Which versions of each software, as `read_tables` has them.
    """
    with ProcessPoolExecutor() as processes:
        return list(processes.map(_donor, read_tables(folder, devices, age=age)))


def _donor(data: Measurements) -> Donor:
    solution = fit(data)
    families = len(set((data.family % 4).tolist()))
    errors = cross_validate(data) if families > 1 else log_errors(data, solution)
    return Donor(kin=kin_of(data.device), data=data, solution=solution, errors=errors)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pools:
    """Errors of fits used away from home: on other devices, and with other software."""

    by_family: Mapping[tuple[str, str], Array]
    by_kind: Mapping[str, Array]
    other_software: Mapping[str, Array]

    def of(self, kind: str, family: str) -> Array:
        return self.by_family.get((kind, family), self.by_kind.get(kind, _UNKNOWN))


#: Where no kin could be held out: a factor of two either way, an estimate.
_UNKNOWN: Final = np.log(np.array([0.5, 2.0]))
_ENOUGH_HELD_OUT: Final = 2


def _pools(donors: list[Donor]) -> _Pools:
    lending = [donor for donor in donors if _lends(donor)]
    held = carry_over_errors(tuple(lending))
    by_family: dict[tuple[str, str], Array] = {}
    for kind, scored in held.items():
        for family in {donor.kin.family for donor, _ in scored}:
            own = [(donor, errors) for donor, errors in scored if donor.kin.family == family]
            if len({donor.data.device for donor, _ in own}) >= _ENOUGH_HELD_OUT:
                by_family[kind, family] = np.concatenate([errors for _, errors in own])
    other: dict[str, list[Array]] = {}
    for donor in lending:
        for lender in lending:
            same = (lender.data.device, lender.data.kind, lender.data.format) == (
                donor.data.device,
                donor.data.kind,
                donor.data.format,
            )
            if same and lender.data.framework != donor.data.framework:
                errors = log_errors(donor.data, lender.solution)
                other.setdefault(donor.data.kind, []).append(errors)
    return _Pools(
        by_family=by_family,
        by_kind={kind: np.concatenate([errors for _, errors in scored]) for kind, scored in held.items()},
        other_software={kind: np.concatenate(errors) for kind, errors in other.items()},
    )


def _lends(donor: Donor) -> bool:
    """Whether a fit may serve other devices: eager and profiler timings show their harness too."""
    three_rounds = donor.data.source.startswith(_THREE_ROUNDS) and "attention" in donor.data.kind
    return donor.data.framework not in _HARNESSED and not three_rounds


def _borrowed(donor: Donor, pools: _Pools) -> KernelFit:
    """Return a fit of the same device with other software, as wide as software differs."""
    made = kernel_fit(donor.data, donor.solution, donor.errors)
    low, high = quantiles(pools.other_software.get(donor.data.kind, _UNKNOWN))
    return replace(made, low=rounded(low), high=rounded(high), basis="transferred")


def _kernel(
    kind: str, format: str, *, framework: str, device: str, kin: Kin, donors: list[Donor], pools: _Pools
) -> KernelFit | None:
    """Return the best fit there is of one kind and format for a software on a device."""
    own = {
        donor.data.framework: donor
        for donor in donors
        if (donor.data.device, donor.data.kind, donor.data.format) == (device, kind, format)
    }
    for name in (framework, *_LIBRARIES):
        if name in own:
            return kernel_fit(own[name].data, own[name].solution, own[name].errors)
    others = [own[name] for name in _SERVING if name in own]
    if others and kind == "gemm":
        return _borrowed(others[0], pools)
    lent = lend(
        [donor for donor in donors if _lends(donor)],
        kin=kin,
        kind=kind,
        format=format,
        framework=framework,
        without=device,
    )
    if others and not any(donor.data.framework in (framework, *_LIBRARIES) for donor in lent):
        return _borrowed(others[0], pools)
    return carried_fit(lent, pools.of(kind, kin.family), kin=kin, format=format) if lent else None


def _complete(framework: str, device: str, kin: Kin, donors: list[Donor], pools: _Pools) -> Runtime | None:
    kinds = sorted(
        {(donor.data.kind, donor.data.format) for donor in donors if donor.data.framework != _EAGER}
    )
    found = [
        _kernel(kind, format, framework=framework, device=device, kin=kin, donors=donors, pools=pools)
        for kind, format in kinds
    ]
    kernels = [made for made in found if made is not None]
    if not kernels:
        return None
    kernels += [
        replace(made, kind="*", basis="transferred") for made in kernels if made.kind == "elementwise"
    ]
    versions = [
        donor.data.software
        for donor in donors
        if donor.data.framework == framework
        and (donor.data.device == device or donor.kin.architecture == kin.architecture)
    ] or [donor.data.software for donor in donors if donor.data.framework == framework]
    return Runtime(
        device=device,
        software=max(versions, key=version),
        kernels=tuple(kernels),
        host=HostTime(composition=dict(_COMPOSITION)),  # type: ignore[arg-type]
    )


def build_profiles(donors: list[Donor], date: str) -> dict[str, Runtime]:
    """Return every profile that operator measurements support, by its path below the fits folder.

    A measured device gets one per serving framework, completed from libraries, other software and
    kin; each generation of a family gets one per framework for its devices without measurements.
    """
    pools = _pools(donors)
    profiles: dict[str, Runtime] = {}
    by_device: dict[str, list[Donor]] = {}
    for donor in donors:
        by_device.setdefault(donor.data.device, []).append(donor)
    families = {donor.kin.family for donor in donors if donor.data.framework in _SERVING}
    for device, own in by_device.items():
        measured = {donor.data.framework for donor in own if donor.data.framework != _EAGER}
        serving = [name for name in _SERVING if name in measured]
        if not serving and measured and own[0].kin.family in families:
            serving = ["vllm"]
        for framework in serving:
            made = _complete(framework, device, own[0].kin, donors, pools)
            if made is not None:
                profiles[f"{device}/{framework}"] = replace(made, date=date)
        if not serving:
            profiles[f"{device}/{own[0].data.framework}"] = Runtime(
                device=device,
                software=own[0].data.software,
                date=date,
                kernels=tuple(kernel_fit(donor.data, donor.solution, donor.errors) for donor in own),
                host=HostTime(composition=dict(_COMPOSITION)),  # type: ignore[arg-type]
            )
    lending = [donor for donor in donors if _lends(donor)]
    for kin in _generations(lending, families):
        for framework in _SERVING:
            if any(donor.data.framework == framework and donor.kin.family == kin.family for donor in lending):
                made = _complete(framework, "", kin, lending, pools)
                if made is not None:
                    name = f"{kin.family}_{kin.segment}_{kin.architecture}_{kin.year}"
                    profiles[f"transferred/{name}/{framework}"] = replace(made, device=name, date=date)
    return profiles


def build_version_profiles(
    donors: list[Donor], older: list[Donor], profiles: Mapping[str, Runtime], date: str
) -> dict[str, Runtime]:
    """Return what single softwares and versions measured, each on top of a complete profile of the device.

    Parameters
    ----------
    donors, older : list of Donor
        Fits of the newest versions, and of those before them.
    profiles : mapping of str to Runtime
        What `build_profiles` returned; libraries stand on the device's first, versions on their framework's.
    """
    by_file: dict[tuple[str, str], list[Donor]] = {}
    for donor in donors:
        if donor.data.framework not in _SERVING:
            by_file.setdefault((donor.data.device, donor.data.framework), []).append(donor)
    for donor in older:
        by_file.setdefault((donor.data.device, donor.data.software.replace(" ", "_")), []).append(donor)
    made: dict[str, Runtime] = {}
    for (device, name), own in by_file.items():
        software = max((donor.data.software for donor in own), key=version)
        bases = [base for base in (own[0].data.framework, *_SERVING) if f"{device}/{base}" in profiles]
        if bases and profiles[f"{device}/{bases[0]}"].software != software:
            made[f"{device}/{name}"] = Runtime(
                device=device,
                software=software,
                date=date,
                extends=bases[0],
                kernels=tuple(kernel_fit(donor.data, donor.solution, donor.errors) for donor in own),
            )
    return made


def build_harness_profiles(donors: list[Donor], shelves: Mapping[str, str], date: str) -> dict[str, Runtime]:
    """Return what kernels that were called one by one lend to devices of a family.

    Parameters
    ----------
    shelves : mapping of str to str
        Folders of ``transferred`` that exist, and the profile of each that such kernels stand on;
        empty for none.
    """
    made: dict[str, Runtime] = {}
    for framework in _CALLED_ONE_BY_ONE:
        own = [donor for donor in donors if donor.data.framework == framework]
        held: dict[str, list[Array]] = {}
        for kind, scored in carry_over_errors(tuple(own)).items():
            held[kind] = [errors for _, errors in scored]
        for shelf, base in shelves.items():
            kin = _kin_of_shelf(shelf)
            kinds = {(donor.data.kind, donor.data.format) for donor in own}
            found = [
                (kind, lend(own, kin=kin, kind=kind, format=format, framework=framework, without=""))
                for kind, format in sorted(kinds)
            ]
            kernels = tuple(
                carried_fit(lent, np.concatenate(held.get(kind, [_UNKNOWN])), kin=kin)
                for kind, lent in found
                if lent
            )
            if kernels:
                made[f"transferred/{shelf}/{framework}"] = Runtime(
                    device=shelf, software=framework, date=date, extends=base, kernels=kernels
                )
    return made


def _kin_of_shelf(name: str) -> Kin:
    family, segment, architecture, year = name.rsplit("_", 3)
    return Kin(family=family, segment=segment, architecture=architecture, year=int(year))


def _generations(donors: list[Donor], families: set[str]) -> list[Kin]:
    """Return every architecture and segment that some donor of a served family belongs to."""
    found: dict[tuple[str, str, str], int] = {}
    for donor in donors:
        if donor.kin.family in families:
            for segment in {other.kin.segment for other in donors if other.kin.family == donor.kin.family}:
                key = (donor.kin.family, segment, donor.kin.architecture)
                found[key] = min(found.get(key, donor.kin.year), donor.kin.year)
    return [
        Kin(family=family, segment=segment, architecture=architecture, year=year)
        for (family, segment, architecture), year in sorted(found.items())
    ]
