"""What a roofline chart shows: ceilings of a device, and operators and phases under them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from roofline.errors import InvalidSpecError
from roofline.report import PhaseReport, Report
from roofline.report_document import operators_of
from roofline.timing.cost import arithmetic, engine_named

__all__ = ["Ceiling", "Point", "Roofs", "roofs_of"]


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """A limit: a peak rate [FLOP/s], or a bandwidth [B/s]."""

    name: str
    flops_per_s: float | None = None
    bytes_per_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Point:
    """An operator or a whole phase under the roof, on one device.

    Parameters
    ----------
    intensity : float
        Operational intensity [FLOP/B].
    flops_per_s, ideal_flops_per_s : float
        Predicted, and at datasheet figures [FLOP/s].
    measured_flops_per_s : float or None
        From a measured time [FLOP/s].
    share : float
        Of its phase's kernel time, 0..1; 1 for a phase.
    bound : str
        What binds it.
    """

    phase: str
    name: str
    intensity: float
    flops_per_s: float
    ideal_flops_per_s: float
    share: float
    bound: str
    whole: bool = False
    measured_flops_per_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Roofs:
    """All a roofline chart shows."""

    ceilings: tuple[Ceiling, ...]
    points: tuple[Point, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Ceilings and points as one table."""
        return [*({"row": "ceiling", **asdict(part)} for part in self.ceilings),
                *({"row": "point", **asdict(part)} for part in self.points)]  # fmt: skip


def roofs_of(
    report: Report,
    *,
    phases: Sequence[str] = ("prefill", "decode"),
    formats: Sequence[str] = (),
    measured: Mapping[str, float] | None = None,
) -> Roofs:
    """Return ceilings and points of a single point's report.

    Parameters
    ----------
    phases : sequence of str
        ``prefill`` and ``decode``.
    formats : sequence of str
        Formats whose ceiling is shown besides those that operators run in.
    measured : mapping of str to float
        Measured time [s] of all launches of an operator on one device, by ``phase.block.name``.

    Raises
    ------
    InvalidSpecError
        If a measured name is no operator's.
    """
    given = dict(measured or {})
    points: list[Point] = []
    used: dict[tuple[str, str], float] = {}
    for phase in phases:
        part: PhaseReport = getattr(report, phase)
        for row in part.rows:
            engine, _ = engine_named(report.scenario.deployment.system, row.engine)
            chosen = report.scenario.deployment.runtime_of(row.engine).runs_as
            if row.cost.runs_as != "vector" and float(row.operator.flops) and float(row.launches):
                used[row.engine, row.cost.runs_as] = float(arithmetic(engine, row.cost.runs_as, chosen)[1])
        points += _points(phase, part, report, given)
    if given:
        raise InvalidSpecError(f"measured: no operator is called {', '.join(sorted(given))}")
    system = report.scenario.deployment.system
    first = next(iter(system.device.engine))
    for format in formats:
        runs_as, rate = arithmetic(system.device.engine[first], format)
        used[first, runs_as] = float(rate)
    several = len({engine for engine, _ in used}) > 1
    together: dict[float, list[str]] = {}
    for (name, format), rate in sorted(used.items(), key=lambda item: -item[1]):
        together.setdefault(rate, []).append(f"{name} {format}" if several else format)
    peaks = [Ceiling(name=", ".join(names), flops_per_s=rate) for rate, names in together.items()]
    return Roofs(ceilings=(*peaks, *_slopes(report, phases)), points=tuple(points))


def _slopes(report: Report, phases: Sequence[str]) -> list[Ceiling]:
    system = report.scenario.deployment.system
    touched = {
        tier for phase in phases for tier, size in getattr(report, phase).bytes_by_tier.items() if float(size)
    }
    found = [
        Ceiling(name=name, bytes_per_s=float(memory.bandwidth_bytes_per_s))
        for name, memory in system.device.memory.items()
        if name in touched
    ]
    if "host" in touched and system.host_link is not None:
        rate = float(system.host_link.bandwidth_bytes_per_s)
        found.append(Ceiling(name=f"host over {system.host_link.name}", bytes_per_s=rate))
    if "storage" in touched and system.storage is not None:
        rate = float(system.storage.read_bandwidth_bytes_per_s)
        found.append(Ceiling(name=system.storage.name, bytes_per_s=rate))
    return found


def _points(phase: str, part: PhaseReport, report: Report, measured: dict[str, float]) -> list[Point]:
    rows = list(part.rows)
    copies = float(rows[0].copies) if rows else 1.0
    found = []
    for row in operators_of(rows):
        moved, flops = row["bytes"], row["flops"]
        if not (float(flops) and float(moved) and float(row["time_s"])):
            continue
        name = ".".join(dict.fromkeys((row["block"], row["name"])))
        took = measured.pop(f"{phase}.{name}", None)
        each = float(flops) / copies
        found.append(
            Point(
                phase=phase,
                name=name,
                intensity=float(flops) / float(moved),
                flops_per_s=each / float(row["time_s"]),
                ideal_flops_per_s=each / float(row["ideal_s"]),
                share=row["share"],
                bound=row["bound"],
                measured_flops_per_s=None if took is None else each / took,
            )
        )
    moved = sum(float(size) for size in part.bytes_by_tensor.values())
    each = float(part.flops) / float(report.scenario.deployment.system.device_count)
    whole = Point(
        phase=phase,
        name=phase,
        intensity=float(part.flops) / moved,
        flops_per_s=each / float(part.time_s.value),
        ideal_flops_per_s=each / float(part.ideal_s),
        share=1.0,
        bound=part.bound,
        whole=True,
    )
    return [*found, whole]
