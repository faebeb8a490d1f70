"""Drafters made of a target's own parts: heads, prediction modules, and its first layers."""

from dataclasses import replace

from roofline.decoding.drafters import ModelDrafter
from roofline.errors import InvalidSpecError
from roofline.graph.blocks.embedding import Embedding, Head
from roofline.graph.blocks.normalization import Normalization
from roofline.graph.blocks.projection import Projection
from roofline.graph.layer import Layer, Run
from roofline.graph.model import ModelSpec
from roofline.quantity import Quantity
from roofline.timing.deployment import Deployment

__all__ = [
    "autoregressive_head",
    "first_layers",
    "parallel_heads",
    "prediction_module",
    "sequential_heads",
]

#: Stands for the target's own table: gathers cost the same, and nothing is stored twice.
_SHARED_EMBEDDING = Embedding(vocabulary_size=0.0)


def _on_target(
    target: Deployment,
    name: str,
    layers: dict[str, Layer],
    order: tuple[Run, ...],
    *,
    head: Head,
    final_norm: Layer | None = None,
) -> Deployment:
    """A drafter that reads the target's embedding table and runs where the target runs."""
    model = replace(
        target.model, name=f"{target.model.name} {name}", layers=layers, order=order, head=head,
        embedding=_SHARED_EMBEDDING, final_norm={} if final_norm is None else final_norm, prediction={},
        prediction_modules=0,
    )  # fmt: skip
    return replace(target, model=model, schedules=(), microbatches=1)


def _decoder_layer(model: ModelSpec) -> Layer:
    """The target's last layer with a dense network, which drafters copy; its last layer otherwise."""
    names = model.layer_names()
    dense = [
        name
        for name in names
        if all(block.kind != "mixture_of_experts" for block in model.layers[name].values())
    ]
    return model.layers[(dense or names)[-1]]


def parallel_heads(target: Deployment, heads: int, *, operations: Quantity = 0.0) -> ModelDrafter:
    """Return heads that each propose one further position from the target's last hidden state.

    Notes
    -----
    Each head is a residual ``h x h`` layer and a vocabulary matrix of its own (Medusa, Cai et al.
    2024, arXiv:2401.10774, section 2.1.1): ``heads (h^2 + h V)`` weights, 1.48 GB in 16 bits for 5
    heads on Vicuna 7B. All run in one call on one token per sequence, whatever the tree.
    """
    model = target.model
    if heads < 1:
        raise InvalidSpecError(f"heads: want at least 1, got {heads}")
    residual = Projection(output_size=model.hidden_size, bias=True)
    vocabulary = Projection(output_size=model.head.vocabulary_size, split="outputs")
    blocks: Layer = {
        f"head_{index}_{name}": block
        for index in range(heads)
        for name, block in (("residual", residual), ("vocabulary", vocabulary))[
            : 2 if index + 1 < heads else 1
        ]
    }
    # The last head's vocabulary matrix is the model's head; there is no layer, so no host time of one.
    deployment = _on_target(
        target, f"with {heads} heads", {}, (), final_norm=blocks,
        head=Head(vocabulary_size=model.head.vocabulary_size),
    )  # fmt: skip
    return ModelDrafter(
        deployment=deployment, positions_per_call=heads, prefills=False, operations=operations
    )


def sequential_heads(target: Deployment, heads: int, *, operations: Quantity = 0.0) -> ModelDrafter:
    """Return heads that also see the tokens drafted before them, one call per depth.

    Notes
    -----
    Head i maps the hidden state and i + 1 embeddings to ``h`` and a vocabulary matrix (Hydra, Ankner
    et al. 2024, arXiv:2402.05109, section 3); here every call costs the mean of the heads. Each head
    has a vocabulary matrix of its own, so all are stored and one is read per call.
    """
    model = target.model
    inputs = 1.0 + (1.0 + heads) / 2.0
    mix: Layer = {"mix": Projection(output_size=model.hidden_size, inputs_joined=inputs, bias=True)}
    deployment = _on_target(
        target, "with a sequential head", {}, (), final_norm=mix,
        head=Head(vocabulary_size=model.head.vocabulary_size),
    )  # fmt: skip
    return ModelDrafter(deployment=deployment, prefills=False, operations=operations, copies=float(heads))


def autoregressive_head(
    target: Deployment,
    *,
    draft_vocabulary: Quantity | None = None,
    features: Quantity = 1.0,
    positions_per_call: int = 1,
    operations: Quantity = 0.0,
) -> ModelDrafter:
    """Return one decoder layer on the target's features, run once per depth.

    Parameters
    ----------
    draft_vocabulary : Quantity, optional
        Rows of a vocabulary matrix of its own; the target's matrix otherwise, read but not stored
        again.
    features : Quantity
        Hidden states joined with the embedding at its input: 1, or 3 for EAGLE-3, which fuses low,
        middle and high features to one before.
    positions_per_call : int
        Depths one call drafts; SpecBlock's K.

    Notes
    -----
    EAGLE (Li et al. 2024, arXiv:2401.15077, section 3.1): a matrix from feature and embedding to
    ``h``, a decoder layer, the vocabulary matrix. EAGLE-3 (arXiv:2503.01840, section 3.1) widens the
    layer's attention input to ``2 h`` instead; counted the same way here, which is exact in bytes to
    1 % of the layer.
    """
    model = target.model
    own = draft_vocabulary is not None
    vocabulary = model.head.vocabulary_size if draft_vocabulary is None else draft_vocabulary
    layers: dict[str, Layer] = {
        "draft": {
            "fusion": Projection(output_size=model.hidden_size, inputs_joined=1.0 + features),
            **_decoder_layer(model),
        }
    }
    deployment = _on_target(
        target, "with a draft layer", layers, (Run(layers=("draft",)),),
        head=Head(vocabulary_size=vocabulary, tied=not own), final_norm={"norm": Normalization()},
    )  # fmt: skip
    return ModelDrafter(
        deployment=deployment, recomputes=True, vocabulary="subset" if own else "same",
        positions_per_call=positions_per_call, operations=operations,
    )  # fmt: skip


def prediction_module(target: Deployment) -> ModelDrafter:
    """Return the target's own multi-token-prediction module, run once per depth.

    Notes
    -----
    DeepSeek-V3 (arXiv:2412.19437, section 2.2): embedding and vocabulary matrix are the target's.

    Raises
    ------
    InvalidSpecError
        If the model has none.
    """
    model = target.model
    if not model.prediction:
        raise InvalidSpecError(f"{model.name} has no multi-token-prediction module")
    deployment = _on_target(
        target, "prediction module", {"prediction": model.prediction}, (Run(layers=("prediction",)),),
        head=replace(model.head, tied=True),
    )  # fmt: skip
    return ModelDrafter(deployment=deployment, recomputes=True)


def first_layers(target: Deployment, layers: int) -> ModelDrafter:
    """Return the target's own first layers and head as the drafter (self-speculation, early exit).

    Notes
    -----
    Weights and cached keys are the target's (LayerSkip, Elhoushi et al. 2024, arXiv:2404.16710,
    section 4.3). Verification still computes the first layers again, which LayerSkip avoids: an upper
    bound of its cost by the drafted share ``layers / L``.

    Raises
    ------
    InvalidSpecError
        If the model has fewer layers.
    """
    names = target.model.layer_names()
    if not 1 <= layers < len(names):
        raise InvalidSpecError(f"self-speculation: want 1 to {len(names) - 1} layers, got {layers}")
    model = replace(
        target.model,
        name=f"{target.model.name} first {layers} layers",
        order=tuple(Run(layers=(name,)) for name in names[:layers]),
    )
    schedules = tuple(replace(schedule, order=schedule.order[:layers]) for schedule in target.schedules)
    deployment = replace(target, model=model, schedules=schedules)
    return ModelDrafter(deployment=deployment, prefills=False, shares="weights_and_cache")
