"""Fits for devices that were never measured, from the nearest ones that were."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from roofline.calibration.fits.fitted_forms import Parameter, form_of
from roofline.calibration.fits.fitting import Solution, log_errors, quantiles, stored_fit
from roofline.calibration.measurements.operator_tables import Measurements
from roofline.errors import InvalidSpecError
from roofline.timing.runtime import BY_OPERAND, KernelFit, at_clock, at_power

__all__ = [
    "Donor",
    "Kin",
    "carried_fit",
    "carried_to",
    "carry_over",
    "carry_over_errors",
    "lend",
    "lent_by_others",
    "shared_clock",
    "shared_power",
]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Kin:
    """What decides which donors are near a device.

    Parameters
    ----------
    family : str
        Maker, engine and memory class.
    architecture : str
    segment : str
        ``consumer`` or ``professional``: consumer parts have half the matrix rate at 32-bit
        accumulation and reach all of it.
    year : int
    clock_hertz, joules_per_flop : float
        Boost clock [Hz], and power over peak [J/FLOP] as `roofline.catalog.fits` says; 0 where not known.
    """

    family: str
    architecture: str
    segment: str
    year: int
    clock_hertz: float = 0.0
    joules_per_flop: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Donor:
    """A fit of one device, with the rows it was made from."""

    kin: Kin
    data: Measurements
    solution: Solution
    errors: Array


def lend(
    donors: Iterable[Donor], *, kin: Kin, kind: str, format: str, framework: str, without: str = ""
) -> tuple[Donor, ...]:
    """Return the donors of a kind and format that are nearest to a device.

    Parameters
    ----------
    kin : Kin
        Of the device that needs fits.
    framework : str
        Software without version.
    without : str
        Device left out, to score the result.

    Notes
    -----
    Matrix products: of consumer parts, the nearest consumer generation; of professional ones, the
    same architecture in the family, failing that all of the maker's, since what is left differs by
    power limit more than by generation; below 16 bits the framework comes before kin, since the pass
    that quantises and the tiles are its own; with scales per block, devices with kernels for warp groups
    borrow nothing from others and fall back on the format without. Everything else: the
    same framework in the family, then any framework, of the nearest architecture in years; between
    the two, attention over a narrow cache takes the framework's own kernel for a 16-bit one. Latent
    attention crosses memory classes, but not between devices that have kernels for warp groups and
    those that have not. Held-out devices chose between these rules
    (docs/decisions/0005-attention-forms-and-their-transfer.md).
    """
    alike = [donor for donor in donors if donor.data.kind == kind and donor.data.device != without]
    pool = [donor for donor in alike if donor.data.format == format]
    if kind == "gemm" and format in _BLOCK_SCALED and _warp_groups(kin):
        pool = [donor for donor in pool if _warp_groups(donor.kin)]
    plain = [donor for donor in alike if donor.data.format == "bf16" and donor.kin.family == kin.family]
    maker = kin.family.partition("_")[0] + "_"
    family = [donor for donor in pool if donor.kin.family == kin.family]
    if kind == "gemm":
        alike = [donor for donor in family if donor.kin.segment == kin.segment]
        if kin.segment == "professional":
            alike = [donor for donor in alike if donor.kin.architecture == kin.architecture]
        alike = _nearest(alike, kin)
        everyone = [donor for donor in pool if donor.kin.family.startswith(maker)]
        tiers = [_with(alike, framework), alike, _with(everyone, framework), everyone]
        if format not in _UNQUANTISED:
            tiers[1:3] = tiers[2:0:-1]
    elif kind.startswith("latent_attention"):
        same = [donor for donor in pool if _warp_groups(donor.kin) == _warp_groups(kin)]
        near = [donor for donor in same if donor.kin.family == kin.family]
        tiers = [_nearest(part, kin) for part in (_with(near, framework), _with(same, framework), same)]
    elif "attention" in kind:
        # A kernel on narrow operands does other arithmetic than the framework's for 16 bits.
        wide = [] if BY_OPERAND in format else plain
        tiers = [_nearest(part, kin) for part in (_with(family, framework), _with(wide, framework), family)]
    else:
        tiers = [_nearest(_with(family, framework), kin), _nearest(family, kin)]
    return tuple(next((tier for tier in tiers if tier), []))


#: Formats whose products need kernels that know their scales.
_BLOCK_SCALED: Final = ("fp8_block", "mxfp8", "nvfp4", "w4a8_mxfp4_mxfp8")
#: Without the instructions that FlashMLA and its like are written for (Hopper's, or Blackwell's with HBM).
_BEFORE_WARP_GROUPS: Final = ("pascal", "volta", "turing", "ampere")


def _warp_groups(kin: Kin) -> bool:
    return kin.family == "nvidia_hbm" and not kin.architecture.startswith(_BEFORE_WARP_GROUPS)


def _with(donors: list[Donor], framework: str) -> list[Donor]:
    return [donor for donor in donors if donor.data.framework == framework]


def _nearest(donors: list[Donor], kin: Kin) -> list[Donor]:
    years = {donor.kin.architecture: donor.kin.year for donor in donors}
    if not years:
        return []
    nearest = min(
        years, key=lambda name: (name != kin.architecture, abs(years[name] - kin.year), -years[name])
    )
    return [donor for donor in donors if donor.kin.architecture == nearest]


def carry_over(donors: tuple[Donor, ...], family: str = "") -> Solution:
    """Return the parameters that a device without measurements gets from its donors.

    Parameters
    ----------
    family : str
        Of the device; empty where it is any of the donors'.

    Raises
    ------
    InvalidSpecError
        If there are no donors.

    Notes
    -----
    The choices are the commonest, and only donors with that tile and that kind of launch count, since
    the time of a step, an item or a launch means something else under another. Per parameter, on the
    axis it is fitted on: the mean over the fits of a device, then the median over devices. How bandwidth
    falls with the number of ranks is a matter of how a machine is wired, not of the device: its prior
    counts as one device more. What a byte in the cache costs over one in memory is a matter of the memory:
    donors of the family lend it where there are any. Standard errors are standard deviations between fits;
    with one donor, its own. Times that count clock cycles are those at `shared_clock`.
    """
    if not donors:
        raise InvalidSpecError("nothing to carry over: no donors")
    first = donors[0].data
    form = form_of(first.kind, first.format, first.engine)
    counted = Counter(tuple(sorted(donor.solution.choices.items())) for donor in donors)
    choices = dict(counted.most_common(1)[0][0])
    donors = tuple(donor for donor in donors if _shape(donor.solution.choices) == _shape(choices))
    kin = tuple(donor for donor in donors if donor.kin.family == family) or donors
    parameters: dict[str, float] = {}
    spreads: dict[str, float] = {}
    clock = shared_clock(donors)
    timed = {donor: _at_clock(donor.solution, donor.kin.clock_hertz, clock) for donor in donors}
    for parameter in form.parameters:
        lenders = kin if parameter.name == _OF_MEMORY else donors
        places = {donor: _place(parameter, timed[donor]) for donor in lenders}
        by_device = [
            np.mean([places[donor] for donor in lenders if donor.data.device == name])
            for name in sorted({donor.data.device for donor in lenders})
        ]
        if parameter.name in _WIRED:
            by_device.append(np.float64(parameter.coordinate(parameter.prior)))
        middle = np.median(by_device)
        parameters[parameter.name] = float(parameter.value(np.asarray(middle)))
        spreads[parameter.name] = (
            float(np.std(list(places.values()), ddof=1))
            if len(lenders) > 1
            else lenders[0].solution.standard_errors[parameter.name]
        )
    return Solution(
        parameters=parameters,
        choices=choices,
        standard_errors=spreads,
        loss=float(np.mean([donor.solution.loss for donor in donors])),
    )


#: Kinds whose fixed times are a kernel's own work, done at the clock, rather than waiting for launches.
_CLOCKED: Final = (
    "attention_decode", "latent_attention_decode", "grouped_gemm", "gemm",
    "all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_receive",
    "expert_dispatch", "expert_combine",
)  # fmt: skip
_UNQUANTISED: Final = ("bf16", "fp32")
_WIRED: Final = ("bandwidth_exponent", "crossing_factor")
_OF_MEMORY: Final = "cache_gain"
#: A card that reaches this share of its peak is not held back by its power.
_UNLIMITED: Final = 0.9
#: Choices under which parameters mean something else.
_SHAPING: Final = ("rows", "dispatch", "launch_bound", "untuned")


def _shape(choices: Mapping[str, float]) -> tuple[float | None, ...]:
    return tuple(choices.get(name) for name in _SHAPING)


def shared_clock(donors: tuple[Donor, ...]) -> float:
    """Return the clock that what donors lend is stated at [Hz]: their median, 0 where none counts."""
    clocks = [donor.kin.clock_hertz for donor in donors if donor.data.kind in _CLOCKED]
    return float(np.median(clocks)) if clocks and min(clocks) > 0 else 0.0


def shared_power(donors: tuple[Donor, ...], architecture: str) -> float:
    """Return the power over peak that what donors lend is stated at [J/FLOP]; 0 where it says nothing.

    It says something of matrix products between cards of one architecture, which differ by little else:
    between generations the energy of a product does. Donors at their peak tell nothing of it.
    """
    if any(donor.data.kind != "gemm" or donor.kin.architecture != architecture for donor in donors):
        return 0.0
    limited = [donor for donor in donors if donor.solution.parameters["compute_fraction"] < _UNLIMITED]
    powers = [donor.kin.joules_per_flop for donor in limited]
    return float(np.median(powers)) if powers and min(powers) > 0.0 else 0.0


def carried_to(kin: Kin, lent: tuple[Donor, ...]) -> Solution:
    """Return what donors lend to a device, at its clock and power."""
    stated = _at_clock(carry_over(lent, kin.family), shared_clock(lent), kin.clock_hertz)
    power = shared_power(lent, kin.architecture)
    if power <= 0.0:
        return stated
    return replace(stated, parameters=at_power(stated.parameters, stated=power, wanted=kin.joules_per_flop))


def _at_clock(solution: Solution, stated: float, wanted: float) -> Solution:
    return replace(solution, parameters=at_clock(solution.parameters, stated=stated, wanted=wanted))


def _place(parameter: Parameter, solution: Solution) -> float:
    """Return a fitted value on its axis, where ratios below one lie at ``-log``."""
    place = parameter.coordinate(solution.parameters[parameter.name])
    return abs(place) if parameter.scale == "below_one" else place


def lent_by_others(donor: Donor, donors: Iterable[Donor]) -> tuple[Donor, ...]:
    """Return what a measured device would be lent if none of its own rows were known."""
    return lend(
        donors,
        kin=donor.kin,
        kind=donor.data.kind,
        format=donor.data.format,
        framework=donor.data.framework,
        without=donor.data.device,
    )


def carry_over_errors(donors: tuple[Donor, ...]) -> dict[str, list[tuple[Donor, Array]]]:
    """Return the log errors of each donor's rows under what the *other* devices would lend it.

    By kind; a donor whose device has no kin is left out.
    """
    found: dict[str, list[tuple[Donor, Array]]] = {}
    for donor in donors:
        lent = lent_by_others(donor, donors)
        if lent:
            errors = log_errors(donor.data, carried_to(donor.kin, lent))
            found.setdefault(donor.data.kind, []).append((donor, errors))
    return found


def carried_fit(lent: tuple[Donor, ...], errors: Array, *, kin: Kin, format: str = "") -> KernelFit:
    """Return the fit of a device without measurements, with the errors that kin of it showed.

    Parameters
    ----------
    kin : Kin
        Of the device.
    format : str
        Served by it; the donors' own where it is empty.
    """
    names = sorted({f"{donor.data.device} with {donor.data.software}" for donor in lent})
    made = stored_fit(
        lent[0].data,
        carry_over(lent, kin.family),
        quantiles(errors),
        basis="transferred",
        points=sum(len(donor.data.times_s) for donor in lent),
        source="carried over from " + "; ".join(names),
    )
    return replace(
        made,
        format=format or made.format,
        clock_hertz=shared_clock(lent),
        joules_per_flop=shared_power(lent, kin.architecture),
    )
