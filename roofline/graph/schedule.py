"""Schedules: what each layer sees of a pass, as data.

Rules of all schedules that meet in one layer are combined before they act, so the order in which
techniques are given never matters; they act as pruning, then budgets, then heads.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from pydantic import ConfigDict

from roofline.errors import InvalidSpecError, nearest
from roofline.graph.blocks.block import Block
from roofline.graph.layer import Layer, Run, layer_counts, layer_names
from roofline.graph.layer_rule import LayerRule, combined, product_of, smallest
from roofline.graph.operator import Operator, Terms
from roofline.graph.step import Segment, Sequences, Step
from roofline.graph.weight import Weight
from roofline.quantity import Quantity, minimum, total, where

__all__ = ["CacheFill", "LayerRule", "Schedule", "scheduled"]

#: Rows that make keys and values, by name, where each projection is a kernel of its own.
_CACHE_ROWS: Final = ("key", "value", "key_value_down")

#: Fields of a block that hold the width a rule may narrow.
_WIDTHS: Final = ("intermediate_size", "shared_intermediate_size")


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule:
    """Named rules, and which rule each layer follows from first to last.

    Raises
    ------
    InvalidSpecError
        If a layer follows a rule that is not there, or a rule holds an impossible value.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    rules: Mapping[str, LayerRule]
    order: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in dict.fromkeys(self.order):
            place = f"schedule: layer {self.order.index(name)}: rule {name!r}"
            if name not in self.rules:
                raise InvalidSpecError(f"{place}: there is no such rule{nearest(name, self.rules)}")
            self.rules[name].check(place)

    @classmethod
    def of(cls, rules: Sequence[LayerRule], label: str) -> "Schedule":
        """Return the schedule of one rule per layer; layers with the same rule object share a row."""
        names: dict[int, str] = {}
        for depth, rule in enumerate(rules):
            names.setdefault(id(rule), f"{label} {depth}")
        return cls(
            rules={names[id(rule)]: rule for rule in rules}, order=tuple(names[id(rule)] for rule in rules)
        )

    def rule_at(self, depth: int, layers: int, model: str) -> str:
        """Return the rule of a layer.

        Raises
        ------
        InvalidSpecError
            If the schedule is not as long as the model.
        """
        if len(self.order) != layers:
            found = self.order[layers] if len(self.order) > layers else "none"
            raise InvalidSpecError(
                f"schedule of {len(self.order)} layers: {model} has {layers}; "
                f"layer {min(len(self.order), layers)} follows {found!r}"
            )
        return self.order[depth]


@dataclass(frozen=True, kw_only=True, eq=False)
class CacheFill:
    """The part of a block that makes keys and values, for tokens that pass the block by.

    Notes
    -----
    It keeps the block's own rows that project and write keys and values, without their attention
    (hidden-state propagation, Schuster et al. 2022, arXiv:2207.07061, section 3.1).
    """

    block: Block
    kind: str = "cache_fill"

    def weights(self, hidden_size: Quantity) -> tuple[Weight, ...]:
        """Return nothing: the block declares its weights."""
        return ()

    def operators(self, step: Step, terms: Terms) -> Iterable[Operator]:
        """Return projections to keys and values, and the write into the cache."""
        apart = replace(terms, policy=replace(terms.policy, fused_projections=False))
        for row in self.block.operators(step, apart):
            if row.name in _CACHE_ROWS:
                yield row
            elif "kv_cache" in row.written:
                yield replace(
                    row,
                    name="cache_fill",
                    kind="elementwise",
                    flops=0.0,
                    read={},
                    written={"kv_cache": row.written["kv_cache"]},
                    shape={"rows": row.shape["sequences"] * row.shape["new_tokens"], "columns": 1.0},
                    compute_format="",
                )

    def resident(self, step: Step, terms: Terms) -> Mapping[str, Quantity]:
        """Return what the filled tokens keep [B]."""
        alone = step.with_sequences(replace(part, past=()) for part in step.sequences)
        return self.block.resident(alone, terms)


def scheduled(
    layers: Mapping[str, Layer],
    order: tuple[Run, ...],
    step: Step,
    schedules: tuple[Schedule, ...],
    *,
    model: str,
) -> Iterator[tuple[str, Step, Layer, Quantity]]:
    """Yield ``(name, step, layer, repeat)`` for each distinct layer under the schedules.

    Parameters
    ----------
    layers, order
        As in `roofline.graph.model.ModelSpec`.
    model : str
        What refusals call it.

    Notes
    -----
    A layer that runs for a share e of n tokens runs at all with probability ``1 - (1 - e)^n`` and then
    for ``n e`` over that many; its expected operations are exact, and its weights are read once per
    time it runs. Derived in docs/formulas.md section 10.
    """
    if not schedules:
        for name, repeat in layer_counts(order).items():
            yield name, step, layers[name], float(repeat)
        return
    names = layer_names(order)
    counts: dict[tuple[str, ...], int] = {}
    for depth, name in enumerate(names):
        rules = (schedule.rule_at(depth, len(names), model) for schedule in schedules)
        key = (name, *rules)
        counts[key] = counts.get(key, 0) + 1
    for (name, *rule_names), repeat in counts.items():
        rule = combined(
            schedule.rules[rule_name] for schedule, rule_name in zip(schedules, rule_names, strict=True)
        )
        yield from _ruled(rule, name, step, layers[name], float(repeat))


def _ruled(
    rule: LayerRule, name: str, step: Step, layer: Layer, repeat: Quantity
) -> Iterator[tuple[str, Step, Layer, Quantity]]:
    """Apply one combined rule in the canonical order: pruning, skipping, budgets, reading, heads."""
    pruned = step.with_sequences(_pruned(rule, part) for part in step.sequences)
    runs: Quantity = 1.0
    running = pruned
    if rule.executed:
        runs = 1.0 - product_of(
            (1.0 - rule.executed.get(segment.origin, 1.0)) ** (part.count * segment.tokens)
            for part in pruned.sequences
            for segment in part.new
        )
        running = pruned.with_sequences(_executed(rule, part, runs) for part in pruned.sequences)
    seen = running.with_sequences(_headed(rule, _read(rule, _budgeted(rule, part)))
                                  for part in running.sequences)  # fmt: skip
    yield name, seen, _narrowed(rule, layer, seen.tokens), repeat * runs
    if rule.executed and rule.fill_skipped:
        passing = pruned.with_sequences(_passing(rule, part) for part in pruned.sequences)
        yield name, passing, {key: CacheFill(block=block) for key, block in layer.items()}, repeat


def _pruned(rule: LayerRule, part: Sequences) -> Sequences:
    def keep(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
        return tuple(
            replace(segment, tokens=segment.tokens * rule.tokens_kept.get(segment.origin, 1.0))
            for segment in segments
        )

    return replace(part, new=keep(part.new), past=keep(part.past), density=_density(rule, part.new))


def _density(rule: LayerRule, new: tuple[Segment, ...]) -> Quantity:
    """Mean share of pairs over the new tokens, with the cost of choosing them."""
    if not any(segment.origin in rule.density for segment in new):
        return 1.0
    tokens = total(segment.tokens for segment in new)
    kept = total(segment.tokens * rule.density.get(segment.origin, 1.0) for segment in new)
    return minimum(1.0, kept / where(tokens > 0, tokens, 1.0) + rule.index_share)


def _executed(rule: LayerRule, part: Sequences, runs: Quantity) -> Sequences:
    """The tokens a layer has when it runs; the cache lacks what passed by, unless it is filled."""
    often = where(runs > 0, runs, 1.0)
    new = tuple(
        replace(segment, tokens=segment.tokens * rule.executed.get(segment.origin, 1.0) / often)
        for segment in part.new
    )
    if rule.fill_skipped:
        return replace(part, new=new)
    past = tuple(
        replace(segment, tokens=segment.tokens * rule.executed.get(segment.origin, 1.0))
        for segment in part.past
    )
    return replace(part, new=new, past=past)


def _passing(rule: LayerRule, part: Sequences) -> Sequences:
    new = tuple(
        replace(segment, tokens=segment.tokens * (1.0 - rule.executed.get(segment.origin, 1.0)))
        for segment in part.new
    )
    return replace(part, new=new, past=(), logit_tokens=0.0)


def _newest(past: tuple[Segment, ...], limit: Quantity) -> tuple[Quantity, ...]:
    """Of each cached segment, the tokens among the newest `limit` [tokens]."""
    left: Quantity = limit
    near = []
    for segment in reversed(past):
        tokens = minimum(left, segment.tokens)
        left = left - tokens
        near.append(tokens)
    return tuple(reversed(near))


def _budgeted(rule: LayerRule, part: Sequences) -> Sequences:
    """Drop cached tokens beyond the budget and the window that binds all heads."""
    limits = [rule.kv_budget_tokens]
    if rule.window_tokens is not None and rule.full_heads is None:
        limits.append(rule.window_tokens + rule.sink_tokens)
    limit = smallest(limits)
    if limit is None:
        return part
    near = _newest(part.past, limit)
    past = tuple(replace(segment, tokens=tokens) for segment, tokens in zip(part.past, near, strict=True))
    return replace(part, past=past)


def _read(rule: LayerRule, part: Sequences) -> Sequences:
    """Let generated tokens read the chosen share of each cached segment, and what choosing costs."""
    generating = all(segment.origin in ("generated", "draft") for segment in part.new)
    if rule.read_tokens is None or not generating:
        return part
    cached = part.past_tokens
    share = minimum(1.0, rule.read_tokens / where(cached > 0, cached, 1.0) + rule.index_share)
    past = tuple(replace(segment, read_tokens=segment.tokens * share) for segment in part.past)
    return replace(part, past=past)


def _headed(rule: LayerRule, part: Sequences) -> Sequences:
    """Bind new tokens by the window, and let only the spared heads keep what lies before it."""
    if rule.window_tokens is None:
        return part
    reach = rule.window_tokens + rule.sink_tokens
    windowed = replace(part, window_tokens=reach, full_heads=rule.full_heads)
    if rule.full_heads is None:
        return windowed
    past = []
    for segment, near in zip(part.past, _newest(part.past, reach), strict=True):
        share = near / where(segment.tokens > 0, segment.tokens, 1.0)
        kept = share + rule.full_heads * (1.0 - share)
        past.append(replace(segment, head_fraction=segment.head_fraction * kept))
    return replace(windowed, past=tuple(past))


def _narrowed(rule: LayerRule, layer: Mapping[str, Any], tokens: Quantity) -> Mapping[str, Any]:
    """Return the layer with the width that a pass of that many tokens touches.

    Notes
    -----
    With a share w of neurons per token, s of it common: ``w s + (1 - w s) (1 - (1 - p)^n)`` for n
    tokens, ``p = w (1 - s) / (1 - w s)``: w at one token, 1 for many where none are common (the union
    of independent choices; neurons that tokens prefer together make it smaller, which s stands for).
    """
    common = rule.width_kept * rule.width_shared
    free = 1.0 - common
    own = (rule.width_kept - common) / where(free > 0, free, 1.0)
    share = common + free * (1.0 - (1.0 - own) ** tokens)
    return {
        key: replace(
            block, **{name: getattr(block, name) * share for name in _WIDTHS if hasattr(block, name)}
        )
        for key, block in layer.items()
    }
