"""Published ways to draft, with their trees and what their own code does around the model."""

from typing import Final

from roofline.decoding.acceptance import Acceptance
from roofline.decoding.draft_heads import autoregressive_head, first_layers, parallel_heads, sequential_heads
from roofline.decoding.drafters import AnyDrafter, Lookup
from roofline.decoding.growth import best_first, confidence_ranked
from roofline.decoding.macro_step import MacroStep
from roofline.decoding.speculative import Speculative
from roofline.decoding.superposed import Superposed
from roofline.decoding.tree import SpecTree
from roofline.scenario import Scenario
from roofline.techniques.technique import Cited, Technique

__all__ = ["PRESETS"]

_ANY: Final = Acceptance(given="tokens", rates=((1.0,),))


def _grown(nodes: float, depth: float) -> SpecTree:
    """A tree of that size in the shape of typical rates; its nodes and levels make its cost."""
    return best_first(_ANY, nodes=int(nodes), depth=int(depth))[0]


def _drafting(
    scenario: Scenario, tokens: float, tree: SpecTree, drafter: AnyDrafter, around: float
) -> Scenario:
    acceptance = Acceptance(given="tokens", rates=((tokens,),))
    acceptance.check(tree)
    return scenario.replace(
        decoding=Speculative(tree=tree, acceptance=acceptance, drafter=drafter, accept_operations=around)
    )


def _medusa(
    scenario: Scenario, *, tokens: float, nodes: float, depth: float, call: float, around: float
) -> Scenario:
    heads = parallel_heads(scenario.deployment, int(depth), operations=call)
    return _drafting(scenario, tokens, _grown(nodes, depth), heads, around)


def _hydra(
    scenario: Scenario, *, tokens: float, nodes: float, depth: float, call: float, around: float
) -> Scenario:
    heads = sequential_heads(scenario.deployment, int(depth), operations=call)
    return _drafting(scenario, tokens, _grown(nodes, depth), heads, around)


def _eagle(
    scenario: Scenario, *, tokens: float, nodes: float, depth: float, call: float, around: float
) -> Scenario:
    layer = autoregressive_head(scenario.deployment, operations=call)
    return _drafting(scenario, tokens, _grown(nodes, depth), layer, around)


def _eagle_dynamic(
    scenario: Scenario,
    *,
    tokens: float,
    nodes: float,
    depth: float,
    width: float,
    call: float,
    around: float,
) -> Scenario:
    layer = autoregressive_head(scenario.deployment, operations=call)
    tree = confidence_ranked(_ANY, depth=int(depth), width=int(width), nodes=int(nodes))
    return _drafting(scenario, tokens, tree, layer, around)


def _copied(scenario: Scenario, *, tokens: float, nodes: float, call: float, around: float) -> Scenario:
    return _drafting(scenario, tokens, SpecTree.chain(int(nodes)), Lookup(operations=call), around)


def _looked_up(
    scenario: Scenario, *, tokens: float, nodes: float, depth: float, call: float, around: float
) -> Scenario:
    return _drafting(scenario, tokens, _grown(nodes, depth), Lookup(operations=call), around)


def _lookahead(
    scenario: Scenario, *, tokens: float, level: float, window: float, guesses: float, around: float
) -> Scenario:
    grams = SpecTree.branching([int(guesses), *(1 for _ in range(int(level) - 2))])
    drafter = Lookup(extra_tokens=window * (level - 1.0))
    return _drafting(scenario, tokens, grams, drafter, around)


def _hamburger(scenario: Scenario, *, tokens: float, layers: float) -> Scenario:
    micro = first_layers(scenario.deployment, int(layers)).deployment
    return scenario.replace(decoding=MacroStep(micro=micro, tokens_per_step=tokens))


def _superposed(scenario: Scenario, *, operations: float) -> Scenario:
    return scenario.replace(decoding=Superposed(operations=operations))


# Operations are small tensor operations in the authors' code, counted in the functions named: argmax,
# top-k, indexing, comparisons, concatenations, copies; views are not counted. The runtime prices them.
_AROUND: Final = Cited(
    value=43.0,
    source="Spec-Bench 02afedb, model/hydra/utils.py: candidates 8, tree 4, acceptance 8, update 9; mask 14",
    kind="code",
)
_AROUND_DYNAMIC: Final = Cited(
    value=103.0,
    source="as the static tree, 43; EAGLE 2174a79, cnets1.py, topK_generate: sorting 24, 60 mask rows of 3 "
    "operations without a launch, each a fifth of one with",
    kind="code",
)
_EAGLE_CALL: Final = Cited(
    value=37.0,
    source="EAGLE 2174a79, cnets1.py: embedding and positions 3, masks 15, norm 6, ranking 13",
    kind="code",
)
_TREE: Final = Cited(value=63.0, source="Spec-Bench 60884d2: mc_sim_7b_63", kind="code")
_LEVELS: Final = Cited(value=4.0, source="Spec-Bench 60884d2, inference_medusa.py: num_heads", kind="code")
_BENCH: Final = "Spec-Bench leaderboard fd2c1cd, A100, Vicuna-7B, overall"

PRESETS: Final = (
    Technique(
        name="medusa",
        title="heads on the target draft a tree in one call",
        paper="2401.10774",
        slots=("decoding",),
        preset=_medusa,
        published="abstract: over 2.2 x; Spec-Bench, A100, 7B: 1.71 x",
        settings={
            "tokens": Cited(value=2.31, source=_BENCH, kind="code"),
            "nodes": _TREE,
            "depth": _LEVELS,
            "call": Cited(value=16.0, source="2401.10774, section 2.1.1: 4 a head", kind="code"),
            "around": _AROUND,
        },
    ),
    Technique(
        name="hydra",
        title="sequentially dependent heads",
        paper="2402.05109",
        slots=("decoding",),
        preset=_hydra,
        published="Spec-Bench, A100, 7B: 2.07 x",
        settings={
            "tokens": Cited(value=3.26, source=_BENCH, kind="code"),
            "nodes": _TREE,
            "depth": _LEVELS,
            "call": Cited(
                value=60.0,
                source="Spec-Bench 02afedb, prefix_mlp_head.py, a quarter of: prefix layer 66, heads 60, 28 "
                "parents of 2, 12 expansions of 4, other 8",
                kind="code",
            ),
            "around": _AROUND,
        },
    ),
    Technique(
        name="eagle",
        title="one decoder layer drafts features, a static tree",
        paper="2401.15077",
        slots=("decoding",),
        preset=_eagle,
        published="Spec-Bench, A100, 7B: 2.10 x",
        settings={
            "tokens": Cited(value=3.58, source=_BENCH, kind="code"),
            "nodes": Cited(value=25.0, source="EAGLE 08dc06c, choices.py: mc_sim_7b_63", kind="code"),
            "depth": Cited(value=5.0, source="EAGLE 08dc06c, choices.py: mc_sim_7b_63", kind="code"),
            "call": Cited(
                value=26.0, source="as dynamic trees, without re-ranking and parents", kind="estimate"
            ),
            "around": _AROUND,
        },
    ),
    Technique(
        name="eagle2",
        title="the tree follows the drafter's confidence",
        paper="2406.16858",
        slots=("decoding",),
        preset=_eagle_dynamic,
        published="Spec-Bench, A100, 7B: 2.36 x",
        settings={
            "tokens": Cited(value=4.34, source=_BENCH, kind="code"),
            "nodes": Cited(
                value=59.0, source="EAGLE, ea_model.py: total_token = 60 with the root", kind="code"
            ),
            "depth": Cited(value=6.0, source="one call and 5 more, as its users set it", kind="estimate"),
            "width": Cited(value=10.0, source="EAGLE, ea_model.py: top_k", kind="code"),
            "call": _EAGLE_CALL,
            "around": _AROUND_DYNAMIC,
        },
    ),
    Technique(
        name="eagle3",
        title="drafts from low, middle and high features",
        paper="2503.01840",
        slots=("decoding",),
        preset=_eagle_dynamic,
        published="abstract: up to 6.5 x; Spec-Bench, A100, 13B: 3.02 x",
        settings={
            "tokens": Cited(
                value=5.71, source="Spec-Bench leaderboard fd2c1cd, A100, Vicuna-13B, overall", kind="code"
            ),
            "nodes": Cited(
                value=59.0, source="EAGLE, ea_model.py: total_token = 60 with the root", kind="code"
            ),
            "depth": Cited(value=8.0, source="EAGLE, ea_model.py: one call and depth = 7 more", kind="code"),
            "width": Cited(value=10.0, source="EAGLE, ea_model.py: top_k", kind="code"),
            "call": _EAGLE_CALL,
            "around": _AROUND_DYNAMIC,
        },
    ),
    Technique(
        name="prompt-lookup",
        title="drafts copied from where the last n-gram stood before",
        paper="2304.04487",
        slots=("decoding",),
        preset=_copied,
        published="Spec-Bench, A100, 7B: 1.66 x",
        settings={
            "tokens": Cited(value=1.75, source=_BENCH, kind="code"),
            "nodes": Cited(value=10.0, source="Spec-Bench bc8a422, pld.py: num_pred_tokens", kind="code"),
            "call": Cited(value=16.0, source="Spec-Bench bc8a422, pld.py: two n-gram sizes", kind="code"),
            "around": Cited(value=17.0, source="Spec-Bench bc8a422, pld.py", kind="code"),
        },
    ),
    Technique(
        name="token-recycling",
        title="a table of the last candidates after each token",
        paper="2408.08696",
        slots=("decoding",),
        preset=_looked_up,
        published="Spec-Bench, A100, 7B: 2.22 x",
        settings={
            "tokens": Cited(value=2.73, source=_BENCH, kind="code"),
            "nodes": Cited(value=80.0, source="Spec-Bench 6d56ad2, tree template 2.2.2", kind="code"),
            "depth": Cited(value=6.0, source="Spec-Bench 6d56ad2, tree template 2.2.2", kind="code"),
            "call": Cited(
                value=34.0, source="Spec-Bench 6d56ad2, inference_recycling.py: 5 a level", kind="code"
            ),
            "around": Cited(value=26.0, source="Spec-Bench 6d56ad2, inference_recycling.py", kind="code"),
        },
    ),
    Technique(
        name="rest",
        title="drafts retrieved from a datastore",
        paper="2311.08252",
        slots=("decoding",),
        preset=_looked_up,
        published="Spec-Bench, A100, 7B: 1.48 x",
        settings={
            "tokens": Cited(value=1.82, source=_BENCH, kind="code"),
            "nodes": Cited(
                value=64.0,
                source="2311.08252, section 4: at most 64 draft tokens, from memory",
                kind="estimate",
            ),
            "depth": Cited(value=5.0, source="not stated", kind="estimate"),
            "call": Cited(value=0.0, source="time of the retrieval is not stated", kind="estimate"),
            "around": _AROUND,
        },
    ),
    Technique(
        name="lookahead",
        title="n-grams from Jacobi trajectories, verified beside them",
        paper="2402.02057",
        slots=("decoding",),
        preset=_lookahead,
        published="Spec-Bench, A100, 7B: 1.34 x",
        settings={
            "tokens": Cited(value=1.64, source=_BENCH, kind="code"),
            "level": Cited(value=5.0, source="Spec-Bench 02afedb, eval.sh", kind="code"),
            "window": Cited(value=7.0, source="Spec-Bench 02afedb, eval.sh", kind="code"),
            "guesses": Cited(value=7.0, source="Spec-Bench 02afedb, eval.sh", kind="code"),
            "around": _AROUND,
        },
    ),
    Technique(
        name="hamburger",
        title="a micro decoder writes a chunk of tokens after each pass",
        paper="2505.20438",
        slots=("decoding",),
        preset=_hamburger,
        published="figure: 1.52 to 2.20 x tokens per second on a 1B model",
        settings={
            "tokens": Cited(value=2.0, source="abstract: up to 2 x; the mean is not stated", kind="estimate"),
            "layers": Cited(value=2.0, source="size of the micro decoder is not stated", kind="estimate"),
        },
    ),
    Technique(
        name="superposed",
        title="the samples of a request run as one sequence",
        paper="2405.18400",
        slots=("decoding",),
        preset=_superposed,
        published="abstract: at least 2.44 x for 3 drafts",
        settings={
            "operations": Cited(value=0.0, source="cost of n-grams and beam is not stated", kind="estimate")
        },
    ),
)
