"""Fewer layers per token, and fewer neurons per layer."""

import math
from dataclasses import replace
from typing import Any, Final

from roofline.decoding.acceptance import Acceptance
from roofline.decoding.drafters import ModelDrafter
from roofline.decoding.speculative import Speculative
from roofline.decoding.tree import SpecTree
from roofline.graph.layer_rule import LayerRule
from roofline.scenario import Scenario
from roofline.techniques.technique import (
    Cited,
    Setting,
    Technique,
    add_rules,
    every_layer,
    layer_count,
    per_layer,
)

__all__ = ["PRESETS"]

_ALL: Final = ("prompt", "image", "generated")


def _running(share: float) -> LayerRule:
    return LayerRule(executed=dict.fromkeys(_ALL, share))


def _routed(scenario: Scenario, *, sparsity: Setting, first: float) -> Scenario:
    shares = per_layer("sparsity", sparsity, layer_count(scenario))
    rules = {share: _running(1.0 - share) for share in (0.0, *shares)}
    order = [rules[share if depth >= first else 0.0] for depth, share in enumerate(shares)]
    return add_rules(scenario, "token routing", order)


def _unified(scenario: Scenario, *, speedup: float) -> Scenario:
    layers = layer_count(scenario)
    kept = math.ceil(layers / speedup)
    run, skip = LayerRule(), _running(0.0)
    stays = {round(place * (layers - 1) / max(1, kept - 1)) for place in range(kept)}
    return add_rules(scenario, "layer skipping", [run if d in stays else skip for d in range(layers)])


def _exit_at(scenario: Scenario, *, layer: float) -> Scenario:
    run, skip = LayerRule(), _running(0.0)
    rules = [run if depth < layer else skip for depth in range(layer_count(scenario))]
    return add_rules(scenario, "exit", rules)


def _early_exit(scenario: Scenario, *, skipped: float, last: float) -> Scenario:
    layers, tail = layer_count(scenario), int(last)
    run = LayerRule()
    rule = LayerRule(executed={"generated": 1.0 - skipped * layers / tail}, fill_skipped=True)
    rules = [rule if depth >= layers - tail else run for depth in range(layers)]
    return add_rules(scenario, "early exit", rules)


def _contextual(scenario: Scenario, *, kept: float, shared: float) -> Scenario:
    return every_layer(scenario, "width", LayerRule(width_kept=kept, width_shared=shared))


def _corrected(scenario: Scenario, *, kept: float, period: float, accepted: float) -> Scenario:
    sparse = every_layer(scenario, "sparse", LayerRule(width_kept=kept)).deployment
    drafter = ModelDrafter(deployment=sparse, prefills=False, shares="weights_and_cache")
    return scenario.replace(
        decoding=Speculative(
            tree=SpecTree.chain(int(period) - 1),
            acceptance=Acceptance(given="tokens", rates=((accepted,),)),
            drafter=drafter,
        )
    )


def _narrow(scenario: Scenario, *, kept: float) -> Scenario:
    def narrowed(block: Any) -> Any:
        size = getattr(block, "intermediate_size", None)
        return block if size is None else replace(block, intermediate_size=size * kept)

    layers = {
        name: {key: narrowed(block) for key, block in layer.items()}
        for name, layer in scenario.deployment.model.layers.items()
    }
    return scenario.replace_at("deployment.model.layers", layers)


PRESETS: Final = (
    Technique(
        name="ftp", title="each token skips layers its router calls unimportant", paper="2412.11494",
        slots=("deployment.schedules",), preset=_routed,
        settings={
            "sparsity": Cited(value=0.22, source="a token sparsity of its comparisons, not confirmed",
                              kind="estimate"),
            "first": Cited(value=2.0, source="layers every token passes", kind="estimate"),
        },
        published="about 10 points better accuracy retention (abstract); no cost figure",
    ),
    Technique(
        name="unified-skip", title="skip evenly spread layers to reach a speed-up", paper="2404.06954",
        slots=("deployment.schedules",), preset=_unified,
        settings={"speedup": Cited(value=2.0, source="the input of the method (abstract): target speed-up")},
        published="no figure in the abstract; the speed-up is chosen",
    ),
    Technique(
        name="sorted-llama", title="leave at a fixed layer through the shared head", paper="2309.08968",
        slots=("deployment.schedules",), preset=_exit_at,
        settings={"layer": Cited(value=20.0, source="13B model of 40 layers at the half that the abstract's "
                                 "'twice as fast' means")},
        published="sub-models of Llama 2 13B twice as fast (abstract)",
    ),
    Technique(
        name="early-exit", title="skip the last layers where the answer is clear", paper="2401.09964",
        slots=("deployment.schedules",), preset=_early_exit,
        settings={
            "skipped": Cited(value=1.7 / 16.0, source="abstract: 1.7 of 16 layers"),
            "last": Cited(value=4.0, source="layers that may be skipped", kind="estimate"),
        },
        published="11.2 % faster (abstract)",
    ),
    Technique(
        name="acm", title="each token chooses how wide a layer is", paper="2312.10193",
        slots=("deployment.schedules",), preset=_contextual,
        settings={
            "kept": Cited(value=0.5, source="mean width, a free parameter of the method", kind="estimate"),
            "shared": Cited(value=0.25, source="first of four learners, which every token runs",
                            kind="estimate"),
        },
        published="no cost figure for language models",
    ),
    Technique(
        name="cats", title="skip neurons below a threshold of the gate", paper="2404.08763",
        slots=("deployment.schedules",), preset=_contextual,
        settings={
            "kept": Cited(value=2.0 / 3.0, source="50 % sparsity (abstract) in up and down; the gate is "
                          "read whole: (1 + 0.5 + 0.5) / 3"),
            "shared": Cited(value=0.5, source="the gate is shared, the rest is not: (1/3) / (2/3)"),
        },
        published="about 15 % shorter generation latency (abstract)",
    ),
    Technique(
        name="cfsp", title="remove neurons for good", paper="2409.13199",
        slots=("deployment.model",), preset=_narrow,
        settings={"kept": Cited(value=0.5, source="50 % sparsity of its main table, not confirmed",
                                kind="estimate")},
        published="no cost figure in the abstract",
    ),
    Technique(
        name="sirius", title="sparse steps, corrected by a full pass", paper="2409.03856",
        slots=("decoding",), preset=_corrected,
        settings={
            "kept": Cited(value=0.5, source="Infini-AI-Lab/Sirius@5f3032a readme: half of the neurons",
                          kind="code"),
            "period": Cited(value=16.0, source="Infini-AI-Lab/Sirius@5f3032a readme: AAL of 16", kind="code"),
            "accepted": Cited(value=15.22, source="Infini-AI-Lab/Sirius@5f3032a readme, GSM8K", kind="code"),
        },
        published="24.1 of 30.9, 18.2 of 23.2, 11.1 of 13.3 ms per token on A40, L40, A100 (readme)",
    ),
)  # fmt: skip
