"""Every technique by name, and several of them on one scenario."""

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Final

import numpy as np

from roofline.errors import InvalidSpecError, UnknownNameError, nearest
from roofline.scenario import Scenario
from roofline.techniques import (
    depth,
    formats,
    kv_cache,
    offload,
    prompts,
    sharing,
    speculation,
    vision_tokens,
)
from roofline.techniques.curves import over_layers
from roofline.techniques.technique import Setting, Technique, layer_count

__all__ = ["TECHNIQUES", "apply_techniques", "technique_named", "techniques_of"]

#: A new technique is one entry in its family's `PRESETS`; a new family is one name here.
_FAMILIES: Final = (vision_tokens, kv_cache, prompts, depth, formats, sharing, speculation, offload)

TECHNIQUES: Final[Mapping[str, Technique]] = {
    preset.name: preset for family in _FAMILIES for preset in family.PRESETS
}

#: What a scenario is made of, in the order techniques act on it: those that read a part act after
#: those that set it, so the order they are given in does not matter.
_STAGES: Final = ("deployment.model", "deployment.precision", "workload", "deployment.policy",
                  "deployment.schedules", "deployment.engine_runtimes", "deployment.placement",
                  "decoding")  # fmt: skip

#: Slots that hold any number of changes.
_OPEN: Final = ("deployment.schedules",)


def technique_named(name: str) -> Technique:
    """Return a technique; raise `UnknownNameError` with the nearest."""
    if name not in TECHNIQUES:
        raise UnknownNameError(f"no technique is called {name!r}{nearest(name, TECHNIQUES)}")
    return TECHNIQUES[name]


def apply_techniques(
    scenario: Scenario, asked: Iterable[str], *, taken: Mapping[str, str] | None = None
) -> Scenario:
    """Return the scenario under several techniques.

    Parameters
    ----------
    asked : iterable of str
        ``name`` or ``name:setting=value,setting=value``; a value is a number, a word, or one number
        per layer as `over_layers` reads it.
    taken : mapping of slot to str, optional
        What something else has set already, and what that was, for the refusal.

    Raises
    ------
    UnknownNameError, InvalidSpecError
        If a technique, setting or value is not possible, if two of them set the same thing, or if a
        budget or window is larger than every context of the run.
    """
    layers = layer_count(scenario)
    chosen = [_parsed(text, layers) for text in asked]
    _refuse_contradictions([technique for technique, _ in chosen], taken or {})
    if not chosen:
        return scenario
    for technique, given in sorted(chosen, key=lambda pair: (_stage(pair[0]), pair[0].name)):
        scenario = technique.apply(scenario, given)
    _refuse_beyond_context(scenario)
    notes = tuple(technique.told(given) for technique, given in chosen)
    return scenario.replace(assumptions=(*scenario.assumptions, *notes))


def techniques_of(scenario: Scenario) -> tuple[str, ...]:
    """Return the names of the techniques that were applied to a scenario, as its assumptions tell."""
    names = (note.partition(" (")[0] for note in scenario.assumptions)
    return tuple(name for name in names if name in TECHNIQUES)


def _stage(technique: Technique) -> int:
    return max(
        index for index, stage in enumerate(_STAGES) for slot in technique.slots if slot.startswith(stage)
    )


def _parsed(text: str, layers: int) -> tuple[Technique, dict[str, Setting]]:
    name, _, rest = text.partition(":")
    technique = technique_named(name.strip())
    given: dict[str, Setting] = {}
    for part in rest.split(",") if rest else ():
        key, equals, value = part.partition("=")
        if not equals:
            raise InvalidSpecError(f"{name}: want setting=value, got {part!r}")
        cited = technique.settings.get(key.strip())
        word = cited is not None and isinstance(cited.value, str)
        given[key.strip()] = value if word else _numbers(f"{name}: {key}", value, layers)
    return technique, given


def _numbers(place: str, text: str, layers: int) -> Setting:
    try:
        return float(text) if not set("/*(") & set(text) else over_layers(text, layers)
    except ValueError:
        raise InvalidSpecError(f"{place}: want a number, got {text!r}") from None
    except (InvalidSpecError, UnknownNameError) as error:
        raise InvalidSpecError(f"{place}: {error}") from None


def _refuse_contradictions(chosen: list[Technique], taken: Mapping[str, str]) -> None:
    """Refuse two techniques on one slot, unless it is open."""
    owner = dict(taken)
    for technique in chosen:
        for slot in technique.slots:
            others = [other for other in owner if _overlap(slot, other) and slot not in _OPEN]
            if others:
                raise InvalidSpecError(f"{owner[others[0]]} and {technique.name} both set {slot}")
        owner.update(dict.fromkeys(technique.slots, technique.name))


def _overlap(slot: str, other: str) -> bool:
    return slot == other or slot.startswith(f"{other}.") or other.startswith(f"{slot}.")


def _refuse_beyond_context(scenario: Scenario) -> None:
    """Refuse budgets, windows and reads that no sequence of the run ever fills."""
    longest = float(np.max(scenario.workload.final_tokens))
    fields = ("kv_budget_tokens", "window_tokens", "read_tokens")
    for schedule in scenario.deployment.schedules:
        for (layer, name), field in product(enumerate(schedule.order), fields):
            value = getattr(schedule.rules[name], field)
            if value is not None and float(np.min(value)) > longest:
                raise InvalidSpecError(
                    f"layer {layer}: rule {name!r}: {field}: want at most the {longest:g} tokens "
                    f"of context that the run reaches, got {float(np.min(value)):g}"
                )
