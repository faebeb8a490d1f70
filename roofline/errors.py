"""Every error this package raises on purpose."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = [
    "FileFormatError",
    "InvalidSpecError",
    "MissingDependencyError",
    "RooflineError",
    "UnknownNameError",
    "nearest",
    "optional",
]


class RooflineError(Exception):
    """Base of every error a caller can cause; its text is one line fit to show a user."""


class UnknownNameError(RooflineError):
    """A name that is in no catalogue, registry or table."""


class FileFormatError(RooflineError):
    """A file that cannot be read as what it should be; the text names file and key."""


class InvalidSpecError(RooflineError):
    """Values that cannot describe anything real, or that contradict each other."""


class MissingDependencyError(RooflineError):
    """An optional package is needed for what was asked; the text says which to install."""


@contextmanager
def optional(wanting: str, *, extra: str) -> Iterator[None]:
    """Say what wants a package, and which extra of ours has it, where an import within finds none.

    Raises
    ------
    MissingDependencyError
        If the package is not installed.

    Examples
    --------
    >>> with optional("drawing", extra="plot"):
    ...     import no_such_package
    Traceback (most recent call last):
    roofline.errors.MissingDependencyError: drawing wants no_such_package: pip install 'roofline-tool[plot]'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or str(error)).partition(".")[0]
        raise MissingDependencyError(
            f"{wanting} wants {name}: pip install 'roofline-tool[{extra}]'"
        ) from error


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return `` (nearest: 'x', 'y')`` for the closest choices, or an empty string."""
    folded = {choice.casefold(): choice for choice in choices}
    close = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
    if not close:
        return ""
    return " (nearest: " + ", ".join(repr(folded[match]) for match in close) + ")"
