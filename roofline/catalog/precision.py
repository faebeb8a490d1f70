"""Number formats of a model as a user names them, where they may stand."""

import dataclasses
from typing import Final

from roofline.errors import InvalidSpecError
from roofline.graph.formats import format_named
from roofline.graph.operator import FormatRule, Precision

__all__ = ["with_formats"]

#: What `--weights` leaves in 16 bits: small, sensitive, and kept so by every published checkpoint.
_KEPT_WIDE: Final = ("*.router", "*.shared_output_gate", "head.*", "embedding.*")


def with_formats(
    own: Precision, *, weights: str | None = None, activations: str | None = None, kv: str | None = None
) -> Precision:
    """Return a precision with the named formats set; None leaves one as it is.

    New weights leave out router, head and embedding, and take the activations that go with them.

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
    return dataclasses.replace(
        own,
        weights=own.weights if weights is None else format_named(weights).name,
        activations=own_activations if activations is None else format_named(activations).name,
        kv_cache=own.kv_cache if kv is None else format_named(kv).name,
        rules=rules,
    )


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
