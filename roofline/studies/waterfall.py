"""Where the seconds of a phase are, by group of operators and by bound, and how two answers differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from roofline.report import PhaseReport, Report
from roofline.timing.cost import COLLECTIVES

__all__ = ["PHASES", "Move", "bound_seconds", "change", "group_of", "group_seconds", "moves", "shown_seconds"]

PHASES: Final = ("prefill", "decode")

#: Operator kind -> the group it is added up in; kinds not named keep their own name.
_GROUPS: Final = {
    "gemm": "matrix products", "grouped_gemm": "experts", "norm": "norms and elementwise",
    "elementwise": "norms and elementwise", "embedding": "norms and elementwise",
    "latent_attention": "attention", **dict.fromkeys(COLLECTIVES, "communication"),
}  # fmt: skip

#: What is left when the operators' own time is taken off: host, transfers, pipeline fill.
_REST: Final = "host, transfers and waiting"

#: Share of a time below which a difference is rounding of the sums it is made of.
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, kw_only=True)
class Move:
    """How one part of a phase changed between two answers, per token that the phase gives.

    Parameters
    ----------
    phase : str
        ``prefill`` or ``decode``.
    of : str
        ``operators`` where `part` is a group of operators, ``bound`` where it is what binds.
    before_s, after_s : float
        Seconds in that part [s].
    """

    phase: str
    of: Literal["operators", "bound"]
    part: str
    before_s: float
    after_s: float

    @property
    def change_s(self) -> float:
        """Seconds added; negative where time was saved; 0 where only rounding differs [s]."""
        return change(self.before_s, self.after_s)


def change(before_s: float, after_s: float) -> float:
    """Return the seconds between two times, 0 where only rounding of sums differs [s]."""
    found_s = after_s - before_s
    return 0.0 if abs(found_s) <= _ROUNDING * max(abs(before_s), abs(after_s)) else found_s


def group_of(kind: str) -> str:
    """Return the group of operators that a kind is added up in."""
    return _GROUPS.get(kind, kind.replace("_", " "))


def group_seconds(phase: PhaseReport) -> dict[str, float]:
    """Return a single point's seconds per token by group; they add up to the phase's time [s].

    Notes
    -----
    The rows say how long each kernel takes alone. What the phase takes beyond their sum stands under
    one name of its own, negative where kernels of different streams overlap.
    """
    tokens, found = float(phase.tokens), dict[str, float]()
    for row in phase.rows:
        group = group_of(row.operator.kind)
        found[group] = found.get(group, 0.0) + float(row.time_s) / tokens
    whole = float(phase.time_s.value) / tokens
    rest = whole - sum(found.values())
    return {**found, _REST: 0.0 if abs(rest) <= _ROUNDING * whole else rest}


def bound_seconds(phase: PhaseReport) -> dict[str, float]:
    """Return a single point's seconds per token by what binds the kernels [s]."""
    return {name: float(seconds) / float(phase.tokens) for name, seconds in phase.bound_s.items()}


def moves(before: Report, after: Report) -> tuple[Move, ...]:
    """Return every part of both phases in two answers, the largest change first."""
    found = []
    for phase in PHASES:
        one, two = getattr(before, phase), getattr(after, phase)
        found += _moves(phase, "operators", group_seconds(one), group_seconds(two))
        found += _moves(phase, "bound", bound_seconds(one), bound_seconds(two))
    return tuple(sorted(found, key=lambda move: -abs(move.change_s)))


def _moves(
    phase: str, of: Literal["operators", "bound"], one: Mapping[str, float], two: Mapping[str, float]
) -> list[Move]:
    return [
        Move(phase=phase, of=of, part=part, before_s=one.get(part, 0.0), after_s=two.get(part, 0.0))
        for part in dict.fromkeys((*one, *two))
        if one.get(part, 0.0) or two.get(part, 0.0)
    ]


def shown_seconds(seconds: float) -> str:
    """Return a time with three significant digits in s, ms or µs."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms")):
        if abs(seconds) >= 0.9995 * scale:
            return f"{_three_digits(seconds / scale)} {unit}"
    return f"{_three_digits(seconds / 1e-6)} µs"


def _three_digits(value: float) -> str:
    size = abs(float(f"{value:.3g}"))
    return f"{value:.{2 if size < 10 else 1 if size < 100 else 0}f}"
