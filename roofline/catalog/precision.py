"""Number formats of a model as a user names them, where they may stand."""

import dataclasses
import re
from typing import Final

from roofline.errors import InvalidSpecError
from roofline.graph.formats import format_named
from roofline.graph.operator import FormatRule, Precision

__all__ = ["quantised_whole", "with_formats"]

#: What `--weights` leaves in 16 bits: small, sensitive, and kept so by every published checkpoint.
_KEPT_WIDE: Final = ("*.router", "*.shared_output_gate", "head.*", "embedding.*")

#: What the head of a file is in, by the format of its other weights, where it is another one: llama.cpp's
#: quantiser (llama-quant.cpp) keeps 6 bits; so does ExLlamaV2 by default; mixes state their mean.
_HEAD_OF: Final = {
    "q4_0": "q6_k", "q4_1": "q6_k", "q5_0": "q6_k", "q5_1": "q6_k", "q4_k": "q6_k", "q5_k": "q6_k",
    "q3_k": "q6_k", "q2_k": "q6_k", "iq4_nl": "q6_k", "iq4_xs": "q6_k", "mxfp4": "q8_0",
}  # fmt: skip
_HEAD_BY_FRAMEWORK: Final = {
    ("llama.cpp", "int4"): "q6_k",
    ("exllamav2", "int4"): "q6_k",
    ("executorch", "int4"): "int8_wo",
    ("qnn", "int4"): "int8_wo",
    ("mlx", "q4_0"): "q4_0",
}
#: Formats that exist in GGUF files alone.
_GGUF: Final = re.compile(r"(i?q|tq)[1-8]_")
#: GGUF files of MXFP4 models hold all but experts in 8 bits.
_BESIDE_EXPERTS: Final = {"mxfp4": "q8_0"}


def quantised_whole(precision: Precision, framework: str) -> Precision:
    """Return a precision whose router alone is wide, as frameworks for one user write their files.

    Parameters
    ----------
    framework : str
        Software without its version.
    """
    weights = precision.weights
    head = _HEAD_BY_FRAMEWORK.get((framework, weights), _HEAD_OF.get(weights, weights))
    formats = {"*.router": precision.hidden, "head.*": head, "embedding.*": head}
    if weights in _BESIDE_EXPERTS:
        formats["*.attention.*"] = _BESIDE_EXPERTS[weights]
    rules = tuple(FormatRule(pattern=pattern, format=format) for pattern, format in formats.items())
    return dataclasses.replace(precision, rules=rules)


def with_formats(
    own: Precision, *, weights: str | None = None, activations: str | None = None, kv: str | None = None
) -> Precision:
    """Return a precision with the named formats set; None leaves one as it is.

    New weights leave out router, head and embedding, and take the activations that go with them; those of
    GGUF files leave out the router alone, as `quantised_whole` says.

    Raises
    ------
    RooflineError
        If a format is unknown, or cannot stand where it is named.
    """
    rules = own.rules
    own_activations = own.activations if weights is None else None
    if weights is not None:
        rules = tuple(FormatRule(pattern=pattern, format=own.hidden) for pattern in _KEPT_WIDE)
    _refuse_impossible(weights or own.weights, activations, kv)
    made = dataclasses.replace(
        own,
        weights=own.weights if weights is None else format_named(weights).name,
        activations=own_activations if activations is None else format_named(activations).name,
        kv_cache=own.kv_cache if kv is None else format_named(kv).name,
        rules=rules,
    )
    in_file = weights is not None and _GGUF.match(made.weights)
    return quantised_whole(made, "llama.cpp") if in_file else made


def _refuse_impossible(weights: str, activations: str | None, kv: str | None) -> None:
    """Refuse inputs that nothing multiplies, planes beside other numbers, and caches that leave out zeros."""
    if activations is not None:
        fed = format_named(activations)
        if not fed.operand or fed.outlier_share or fed.nonzero_share < 1.0:
            raise InvalidSpecError(
                f"activations: {fed.name} only stores weights, want one such as fp8 or int8"
            )
        if bool(format_named(weights).planes) != bool(fed.planes):
            raise InvalidSpecError(
                f"activations: planes multiply planes only, got {weights} weights and {fed.name} inputs"
            )
    if kv is not None:
        kept = format_named(kv)
        if kept.planes or kept.outlier_share or kept.nonzero_share < 1.0:
            raise InvalidSpecError(f"kv: {kept.name} is a format of weights, want a dense one such as fp8")
