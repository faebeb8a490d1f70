"""What a user says of a workload beyond plain counts: allocation of the cache, images, the context's end."""

import dataclasses
from typing import Final

import numpy as np

from roofline.decoding.workload import Workload
from roofline.errors import InvalidSpecError, nearest
from roofline.graph.model import ModelSpec
from roofline.units import LARGEST_AMOUNT

__all__ = ["allocated", "pixels", "refuse_beyond_context", "with_images"]
#: Tokens of a cache block where nothing is said: vLLM's default (Kwon et al. 2023, arXiv:2309.06180,
#: section 7.2).
_BLOCK_TOKENS: Final = 16.0


def allocated(workload: Workload, text: str, model: ModelSpec) -> Workload:
    """Return a workload whose cache memory is allocated by a policy, as `Settings` names them.

    Raises
    ------
    InvalidSpecError
        If there is no such policy, its number is impossible, or the model states no longest context.
    """
    kind, colon, number = text.partition(":")
    if kind not in ("growth", "paged", "max") or (kind == "growth" and colon):
        raise InvalidSpecError(
            f"kv_alloc: want growth, paged:BLOCK or max:TOKENS, got {text!r}"
            f"{nearest(kind, ('growth', 'paged', 'max'))}"
        )
    if kind == "growth":
        return workload
    usual = _BLOCK_TOKENS if kind == "paged" else float(model.context_tokens)
    try:
        tokens = float(number) if colon else usual
    except ValueError:
        raise InvalidSpecError(f"kv_alloc: want a number of tokens, got {text!r}") from None
    if not 1.0 <= tokens <= LARGEST_AMOUNT:
        raise InvalidSpecError(f"kv_alloc: want at least 1 token, got {text!r} ({tokens:g})")
    if kind == "paged":
        return dataclasses.replace(workload, cache_block_tokens=tokens)
    return dataclasses.replace(workload, cache_reserved_tokens=tokens)


def pixels(text: str) -> tuple[float, float]:
    """Return width and height that ``WIDTHxHEIGHT`` says.

    Raises
    ------
    InvalidSpecError
        If the text is not two numbers.
    """
    try:
        width, height = (float(side) for side in text.split("x"))
    except ValueError:
        raise InvalidSpecError(f"image_size: want WIDTHxHEIGHT, got {text!r}") from None
    return width, height


def with_images(
    model: ModelSpec, workload: Workload, *, images: float, width: float, height: float
) -> Workload:
    """Return a workload with that many images in each prompt, and the tokens they become.

    Raises
    ------
    InvalidSpecError
        If the model has no encoder, or an image no pixel.
    """
    if min(width, height) < 1.0:
        raise InvalidSpecError(f"image_size: want at least one pixel, got {width:g}x{height:g}")
    sized = dataclasses.replace(workload, images=images, image_width=width, image_height=height)
    if not images:
        return dataclasses.replace(sized, image_tokens=0.0)
    if model.vision is None:
        raise InvalidSpecError(f"images: {model.name} has no image encoder")
    each = float(model.vision.tokens(width=width, height=height))
    return dataclasses.replace(sized, image_tokens=images * each)


def refuse_beyond_context(model: ModelSpec, workload: Workload) -> None:
    """Raise `InvalidSpecError` where a workload's sequences outgrow the model's context."""
    longest, last = float(model.context_tokens), float(np.max(workload.final_tokens))
    if longest and last > longest:
        raise InvalidSpecError(
            f"{model.name} was made for {longest:.0f} tokens of context, this run ends at {last:.0f}"
        )
