"""What software does on a device: fitted kernel times, host time, and which kernels it has.

A `Runtime` is one (device, software, version). Its fits carry their own basis, so a result can say
which share of its time was measured, carried over from other devices, or is a datasheet bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Literal

from pydantic import ConfigDict

from roofline.graph.kernel_policy import KernelPolicy
from roofline.provenance import Basis

__all__ = [
    "BY_OPERAND",
    "POWER_EXPONENT",
    "HostTime",
    "KernelFit",
    "Runtime",
    "at_clock",
    "at_power",
    "datasheet_runtime",
]

_FILE = ConfigDict(extra="forbid")
#: A card multiplies at the clock its power allows. Power grows with the clock (1) to its cube where the
#: voltage follows, so the reached share of a peak grows with power over peak to a third up to 1.
POWER_EXPONENT: Final = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class KernelFit:
    """One latency form with its fitted parameters, for one kind of operator and one format.

    Parameters
    ----------
    kind : str
        Operator kind it times, or ``*``.
    format : str
        Weight format of a matrix product, cache format of an attention (``fp8_by_fp8``: on operands of
        8 bits too), or ``*``.
    form : str
        A name in `roofline.timing.forms.FORMS`.
    parameters : mapping of str to Quantity
        What the form reads; units are stated by the form.
    choices : mapping
        The form's discrete choices (tile rows, wave rounding).
    standard_errors : mapping of str to float
        Of the logarithm of each parameter (of an exponent itself); where the fit is carried over,
        the standard deviation between donors.
    low, high : float
        10 % and 90 % quantiles of the logarithm of measured over predicted time, cross-validated
        over shape families, or over devices where the fit is carried over.
    points : int
        Measurements fitted.
    source : str
        Where the measurements are from and which kernel they timed, or the donors.
    clock_hertz : float
        Clock that the times among the parameters are stated at where they are carried over and count
        cycles [Hz]; 0 where they hold as they are.
    joules_per_flop : float
        Power over peak that ``compute_fraction`` is stated at where it is carried over and grows with
        the square root of that [J/FLOP]; 0 where it holds as it is.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FILE

    kind: str
    format: str
    form: str
    parameters: Mapping[str, float]
    low: float
    high: float
    basis: Basis
    points: int
    source: str
    choices: Mapping[str, float] = field(default_factory=dict)
    standard_errors: Mapping[str, float] = field(default_factory=dict)
    clock_hertz: float = 0.0
    joules_per_flop: float = 0.0

    def on_engine(self, *, clock_hertz: float, joules_per_flop: float) -> "KernelFit":
        """Return this fit as it is on an engine; figures of 0 are not known and change nothing."""
        made = self
        if self.clock_hertz > 0.0 and clock_hertz > 0.0:
            cycles = at_clock(self.parameters, stated=self.clock_hertz, wanted=clock_hertz)
            made = replace(made, parameters=cycles, clock_hertz=clock_hertz)
        if self.joules_per_flop > 0.0 and joules_per_flop > 0.0:
            share = at_power(made.parameters, stated=self.joules_per_flop, wanted=joules_per_flop)
            made = replace(made, parameters=share, joules_per_flop=joules_per_flop)
        return made


def at_clock(parameters: Mapping[str, float], *, stated: float, wanted: float) -> dict[str, float]:
    """Return parameters with the times among them (``_s``) taking as many cycles at another clock.

    Parameters
    ----------
    stated, wanted : float
        Clocks [Hz]; where either is 0, nothing changes.
    """
    factor = stated / wanted if stated > 0 and wanted > 0 else 1.0
    return {name: value * factor if name.endswith("_s") else value for name, value in parameters.items()}


def at_power(parameters: Mapping[str, float], *, stated: float, wanted: float) -> dict[str, float]:
    """Return parameters with the share of the peak that another power over peak allows, up to all of it.

    Parameters
    ----------
    stated, wanted : float
        Power over peak [J/FLOP]; where either is 0, nothing changes.
    """
    share = parameters["compute_fraction"]
    gain = (wanted / stated) ** POWER_EXPONENT if stated > 0.0 and wanted > 0.0 else 1.0
    return {**parameters, "compute_fraction": min(share * gain, max(share, 1.0))}


@dataclass(frozen=True, kw_only=True, eq=False)
class HostTime:
    """Time of the processor that launches the kernels.

    Parameters
    ----------
    per_pass_s, per_layer_s, per_kernel_s : float
        Host time of one forward pass, of each layer in it and of each kernel launched [s].
    per_operation_s : float
        Host time of one small tensor operation around the model: sampling, masks, cache moves [s].
    per_sequence_s : float
        Time of each sequence in a pass, on its data-parallel rank: scheduler, sampler, and in servers
        what prefills of other requests hold a decode pass up [s].
    per_prompt_s : float
        Time of a prefill pass beside its kernels and layers, such as loading kernels at the first pass
        of a process [s].
    per_handover_s : float
        Where this is the host's processor as an engine: time of waking it for one layer's operators
        and waiting for it, both ways together, beyond moving the hidden states [s].
    composition : mapping of phase to ``max`` or ``sum``
        Whether host and device streams overlap (``max``) or add (``sum``); drafting and verification
        are as decode, encoding as prefill, where not said.
    low, high : float
        10 % and 90 % quantiles of the logarithm of measured over predicted whole-pass time, beyond
        what the intervals of the kernels explain.
    low_of, high_of : mapping of phase to float
        The same of ``decode`` or ``prefill`` passes; where absent, `low` and `high`.
    clock_hertz : float
        Clock of the engine that `per_layer_s` is stated at where it is carried over and counts cycles
        [Hz]; 0 where it holds as it is.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FILE

    per_pass_s: float = 0.0
    per_layer_s: float = 0.0
    per_kernel_s: float = 0.0
    per_operation_s: float = 0.0
    per_sequence_s: float = 0.0
    per_prompt_s: float = 0.0
    per_handover_s: float = 0.0
    composition: Mapping[str, Literal["max", "sum"]] = field(default_factory=dict)
    low: float = 0.0
    high: float = 0.0
    low_of: Mapping[str, float] = field(default_factory=dict)
    high_of: Mapping[str, float] = field(default_factory=dict)
    basis: Basis = "datasheet"
    points: int = 0
    source: str = ""
    clock_hertz: float = 0.0

    def on_clock(self, clock_hertz: float) -> "HostTime":
        """Return the times at an engine's clock [Hz]."""
        if self.clock_hertz <= 0.0 or clock_hertz <= 0.0:
            return self
        factor = self.clock_hertz / clock_hertz
        return replace(self, per_layer_s=self.per_layer_s * factor, clock_hertz=clock_hertz)

    def spread(self, phase: str) -> tuple[float, float]:
        """Return the log-quantiles of a pass of a phase."""
        return self.low_of.get(phase, self.low), self.high_of.get(phase, self.high)


#: Format -> the format whose kernel is closest: same operand width, another scale layout.
_CLOSEST: Final = {
    "fp16": "bf16", "fp8_channel": "fp8", "mxfp8": "fp8_block", "mxfp6": "fp8", "fp8_block": "fp8",
    "fp8_static": "fp8", "w4afp8": "int4", "w4a8_mxfp4_mxfp8": "mxfp4",
    "nvfp4": "fp8_block", "mxfp4": "int4", "int4_g32": "int4", "int4_g64": "int4", "nf4": "int4",
}  # fmt: skip
#: Joins the format of a cache and that of the operands where these are narrow, as in ``fp8_by_fp8``.
BY_OPERAND: Final = "_by_"
_SAME_KERNEL: Final = ("fp16",)
_UNPACKED_BITS: Final = 6.0


def _closest(format: str) -> str | None:
    """Return the format whose kernel is closest.

    A mean width of up to 6 bits is unpacked as int4 is; attention on narrow operands is nearest to that
    over the same cache on 16-bit ones.
    """
    cache, narrow, _ = format.partition(BY_OPERAND)
    if narrow:
        return cache
    if format.endswith("_bits") and float(format.removesuffix("_bits")) <= _UNPACKED_BITS:
        return "int4"
    return _CLOSEST.get(format)


@dataclass(frozen=True, kw_only=True, eq=False)
class Runtime:
    """A software version on a device: its fits, its host time, its kernels.

    Parameters
    ----------
    device, software : str
        Catalogue name of the device the fits belong to (of its class where they are carried over),
        and software with version.
    date : str
        When the fits were made.
    extends : str
        Profile of the same device that this one adds to, where it says nothing itself; empty for none.
    kernels : tuple of KernelFit
        Looked up by kind and format; the datasheet bound where none fits.
    policy : KernelPolicy
        Which kernels the software has.
    engine : str
        Engine of the device that the software runs on; empty for the first.
    runs_as : mapping of format to str
        Operand format -> format and accumulator it is multiplied in, as in ``fp16.fp16``, on engines
        that have them; others run as the hardware prefers.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FILE

    device: str
    software: str
    date: str = ""
    extends: str = ""
    kernels: tuple[KernelFit, ...] = ()
    host: HostTime = field(default_factory=HostTime)
    policy: KernelPolicy = field(default_factory=KernelPolicy)
    engine: str = ""
    runs_as: Mapping[str, str] = field(default_factory=dict)

    def on_engine(self, *, clock_hertz: float, joules_per_flop: float = 0.0) -> "Runtime":
        """Return this runtime with what is carried over as it is on an engine.

        Parameters
        ----------
        clock_hertz, joules_per_flop : float
            Clock [Hz], power over peak [J/FLOP]; 0 where not known: what depends on it stays as stated.
        """
        kernels = tuple(
            fit.on_engine(clock_hertz=clock_hertz, joules_per_flop=joules_per_flop) for fit in self.kernels
        )
        return replace(self, kernels=kernels, host=self.host.on_clock(clock_hertz))

    def fit_for(self, kind: str, format: str) -> tuple[KernelFit | None, int]:
        """Return the closest fit and how many steps back from an exact match it is.

        The steps: kind and format (fp16 runs the bf16 kernel); kind at the closest format; kind at
        bf16; kind at any format; any kind. A fit for any format or any kind that is the only one
        made is no step back. None, 0 means the datasheet bound.
        """
        name = _CLOSEST[format] if format in _SAME_KERNEL else format
        ladder = [(kind, name), (kind, "*")]
        closest = _closest(name)
        while closest is not None:
            ladder.append((kind, closest))
            closest = _closest(closest)
        ladder += [(kind, "bf16"), ("*", "*")]
        kept = {(fit.kind, fit.format): fit for fit in self.kernels}
        for steps, key in enumerate(ladder):
            if key in kept:
                return kept[key], 0 if "*" in key else steps
        return None, 0


def datasheet_runtime(device: str) -> Runtime:
    """Return the runtime with no fits: every time is the datasheet bound."""
    return Runtime(device=device, software="datasheet")
