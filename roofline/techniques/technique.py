"""What a technique is: a function from a scenario to a scenario, with cited settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from roofline.errors import InvalidSpecError, nearest
from roofline.graph.layer_rule import LayerRule
from roofline.graph.schedule import Schedule
from roofline.scenario import Scenario

__all__ = ["Cited", "Setting", "Technique", "add_rules", "every_layer", "layer_count", "number", "per_layer"]

#: A number, a word, or one number per layer.
Setting: TypeAlias = float | str | tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Cited:
    """The value a setting has unless the user gives another, and where it is from."""

    value: Setting
    source: str
    kind: Literal["paper", "code", "estimate"] = "paper"


@dataclass(frozen=True, kw_only=True)
class Technique:
    """A published technique as a change of a scenario.

    Parameters
    ----------
    name : str
        As it is asked for.
    title : str
        What it does, in a few words.
    paper : str
        arXiv identifier, or the address of a paper that is not there.
    slots : tuple of str
        Dotted paths of a scenario that it sets, and no others. Two techniques on one slot go together
        if it is ``deployment.schedules``; any other slot has room for one.
    preset : callable
        Takes a scenario and the settings by keyword, gives the scenario under the technique.
    settings : mapping of str to Cited
        What the user may change.
    published : str
        Cost figures the authors state, with where.
    """

    name: str
    title: str
    paper: str
    slots: tuple[str, ...]
    preset: Callable[..., Scenario]
    settings: Mapping[str, Cited] = field(default_factory=dict)
    published: str = ""

    @property
    def cited(self) -> str:
        """How its paper is referred to."""
        return self.paper if "://" in self.paper else f"arXiv:{self.paper}"

    def apply(self, scenario: Scenario, given: Mapping[str, Setting] | None = None) -> Scenario:
        """Return the scenario under the technique, with settings replaced by those given.

        Raises
        ------
        InvalidSpecError
            If there is no such setting, or a value is of another sort.
        """
        values = {name: cited.value for name, cited in self.settings.items()}
        for name, value in (given or {}).items():
            if name not in values:
                raise InvalidSpecError(f"{self.name}: no setting {name!r}{nearest(name, values)}")
            if isinstance(value, str) != isinstance(values[name], str):
                wanted = "a name" if isinstance(values[name], str) else "a number"
                raise InvalidSpecError(f"{self.name}: {name}: want {wanted}, got {value!r}")
            values[name] = value
        return self.preset(scenario, **values)

    def told(self, given: Mapping[str, Setting]) -> str:
        """Return one line: its paper, its settings, and which of them are nobody's published figure."""
        told = []
        for name, cited in self.settings.items():
            value = given.get(name, cited.value)
            shown = (
                value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else "by layer"
            )
            estimate = " (our estimate)" if name not in given and cited.kind == "estimate" else ""
            told.append(f"{name} = {shown}{estimate}")
        return f"{self.name} ({self.cited})" + (": " + ", ".join(told) if told else "")


def layer_count(scenario: Scenario) -> int:
    """Return how many layers the model has."""
    return sum(scenario.deployment.model.layer_counts().values())


def number(name: str, value: Setting) -> float:
    """Return a setting that must be one number."""
    if not isinstance(value, int | float):
        raise InvalidSpecError(f"{name}: want one number, got {value!r}")
    return float(value)


def per_layer(name: str, value: Setting, layers: int) -> tuple[float, ...]:
    """Return a setting as one number per layer; a single number holds for all.

    Raises
    ------
    InvalidSpecError
        If it is a list of another length.
    """
    if isinstance(value, tuple):
        if len(value) != layers:
            raise InvalidSpecError(f"{name}: want {layers} values, one for each layer, got {len(value)}")
        return value
    return (number(name, value),) * layers


def every_layer(scenario: Scenario, name: str, rule: LayerRule) -> Scenario:
    """Return the scenario with one more schedule: the same rule in every layer."""
    return add_rules(scenario, name, (rule,) * layer_count(scenario))


def add_rules(scenario: Scenario, name: str, rules: Sequence[LayerRule]) -> Scenario:
    """Return the scenario with one more schedule, in the prefill pool too where there is one."""
    schedule = Schedule.of(rules, name)
    deployment = scenario.deployment
    changed = scenario.replace(deployment=replace(deployment, schedules=(*deployment.schedules, schedule)))
    pool = scenario.prefill_deployment
    if pool is None:
        return changed
    return changed.replace(prefill_deployment=replace(pool, schedules=(*pool.schedules, schedule)))
