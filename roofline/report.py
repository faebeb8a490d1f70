"""What an analysis found."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from roofline.provenance import Basis
from roofline.quantity import Quantity, total
from roofline.scenario import Scenario
from roofline.timing.pass_time import MemoryUse, Row

__all__ = ["Interval", "PhaseReport", "Report"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Interval:
    """A value with the band that holds the truth in 80 % of cases."""

    value: Quantity
    low: Quantity
    high: Quantity


@dataclass(frozen=True, kw_only=True, eq=False)
class PhaseReport:
    """One phase: the whole prefill, or one mean iteration of decoding.

    Parameters
    ----------
    time_s : Interval
        Calibrated [s].
    ideal_s, no_overlap_s, host_s : Quantity
        Bounds at datasheet figures, and the host's own time [s].
    flops : Quantity
        On all devices [FLOP].
    bytes_by_tensor, bytes_by_tier : mapping of str to Quantity
        On all devices [B].
    bound_s, busy_s, basis_s : mapping of str to Quantity
        Seconds by what bound the kernels, by stream, by what the times rest on.
    tokens : Quantity
        Tokens per sequence it gives.
    rows : tuple of Row
        Operators, for a single point.
    """

    time_s: Interval
    ideal_s: Quantity
    no_overlap_s: Quantity
    host_s: Quantity
    flops: Quantity
    bytes_by_tensor: Mapping[str, Quantity]
    bytes_by_tier: Mapping[str, Quantity]
    bound_s: Mapping[str, Quantity]
    busy_s: Mapping[str, Quantity]
    basis_s: Mapping[Basis, Quantity]
    tokens: Quantity
    runs_as: Mapping[str, str]
    rows: tuple[Row, ...] = ()

    @property
    def bound(self) -> str:
        """What binds most of the time, for a single point."""
        return max(self.bound_s, key=lambda name: float(self.bound_s[name]))

    @property
    def basis(self) -> Basis:
        """What most of the time rests on, for a single point."""
        return max(self.basis_s, key=lambda name: float(self.basis_s[name]))


@dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """The answer to a scenario.

    Parameters
    ----------
    ttft_s : Interval
        Time to first token: the prefill of the whole batch [s].
    tpot_s : Interval
        Mean time per output token of a sequence after its first [s].
    end_to_end_s : Interval
        From arrival to last token [s].
    output_tokens_per_s, total_tokens_per_s, decode_tokens_per_s : Quantity
        Throughput of the system: generated over the whole run, generated and prompt tokens over the
        whole run, generated while decoding [token/s].
    memory : MemoryUse
        Of one device at the end of the run.
    """

    scenario: Scenario
    prefill: PhaseReport
    decode: PhaseReport
    ttft_s: Interval
    tpot_s: Interval
    end_to_end_s: Interval
    output_tokens_per_s: Quantity
    total_tokens_per_s: Quantity
    decode_tokens_per_s: Quantity
    memory: MemoryUse
    assumptions: tuple[str, ...]

    @property
    def fits(self) -> Quantity:
        """1 where everything fits in memory, else 0."""
        return self.memory.fits

    @property
    def basis(self) -> str:
        """What most of the time of both phases rests on, for a single point."""
        shares: dict[str, float] = {}
        for phase in (self.prefill, self.decode):
            for name, seconds in phase.basis_s.items():
                shares[name] = shares.get(name, 0.0) + float(seconds)
        return max(shares, key=lambda name: shares[name])

    def _repr_html_(self) -> str:
        """Return the answer as an HTML table, for notebooks."""
        from roofline.notebook import table_html

        deployment = self.scenario.deployment
        title = f"{deployment.model.name} on {deployment.system.device.name}, {deployment.runtime.software}"
        return table_html(title, self._shown_rows(), self.assumptions)

    def _shown_rows(self) -> Iterator[tuple[str, str, str]]:
        """Yield name, value and remark of each figure; of a grid its smallest and largest value."""
        from roofline.notebook import shown

        single = np.ndim(self.end_to_end_s.value) == 0
        for name, interval, remark in (
            ("TTFT", self.ttft_s, f"{self.prefill.bound}-bound" if single else ""),
            ("TPOT", self.tpot_s, f"{self.decode.bound}-bound" if single else ""),
            ("End to end", self.end_to_end_s, f"rests on: {self.basis}" if single else ""),
        ):
            band = ""
            if np.any(np.asarray(interval.low) != interval.high):
                band = f"80 % in {shown(np.min(interval.low), 's')} to {shown(np.max(interval.high), 's')}"
            yield name, shown(interval.value, "s"), "; ".join(filter(None, (band, remark)))
        yield "Output throughput", shown(self.output_tokens_per_s, "token/s"), ""
        for tier, tensors in self.memory.used_bytes.items():
            capacity = shown(self.memory.capacity_bytes[tier], "B")
            yield f"Memory: {tier}", shown(total(tensors.values()), "B"), f"of {capacity}"
        fits = np.asarray(self.fits)
        some = "no" if not fits.any() else f"{fits.mean():.0%} of the points"
        yield "Fits", "yes" if fits.all() else some, ""
