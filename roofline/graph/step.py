"""One forward pass: which sequences bring which new tokens over which cached ones.

A step carries no phase: prefill, decode, verification, a chunk and a ragged batch are its values.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from pydantic import ConfigDict

from roofline.quantity import Quantity, floor, maximum, minimum, revised, total

__all__ = ["Mask", "Origin", "Segment", "Sequences", "Step", "Visible"]

Origin = Literal["prompt", "prefix", "image", "generated", "encoder", "draft"]
Mask = Literal["causal", "full"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """Tokens of one origin in a sequence, new or cached.

    Parameters
    ----------
    tokens : Quantity
        How many [tokens], >= 0.
    origin : str
        Where they come from; schedules treat origins apart.
    shared_by : Quantity
        Sequences that hold one copy of them, >= 1 (prefix trees, beams, best-of-n).
    read_tokens : Quantity or None
        Of the cached tokens, how many each query reads [tokens]; None is all (retrieval reads fewer).
    head_fraction : Quantity
        Share of the KV heads that keep these tokens, 0..1 (per-head budgets).
    """

    tokens: Quantity
    origin: Origin = "prompt"
    shared_by: Quantity = 1.0
    read_tokens: Quantity | None = None
    head_fraction: Quantity = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Visible:
    """What one sequence's new tokens see under a mask and window.

    Parameters
    ----------
    pairs : Quantity
        Query-key pairs of one sequence, weighted by the share of heads that compute them.
    keys : Quantity
        Distinct keys seen by at least one new token, new ones included [tokens].
    past_tokens : tuple of Quantity
        Of each cached segment, the tokens that are read.
    past_pairs : tuple of Quantity
        Of each cached segment, its part of `pairs`; empty where it is not known.
    unlimited : tuple of Quantity or None
        Keys and pairs as if the window or chunk were not there; None where there is none. A kernel
        that ignores windows visits these.
    """

    pairs: Quantity
    keys: Quantity
    past_tokens: tuple[Quantity, ...]
    past_pairs: tuple[Quantity, ...] = ()
    unlimited: tuple[Quantity, Quantity] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Sequences:
    """Sequences that do the same thing in a pass.

    Parameters
    ----------
    count : Quantity
        How many there are, >= 0.
    new : tuple of Segment
        Tokens whose activations this pass computes.
    past : tuple of Segment
        Cached tokens, oldest first.
    logit_tokens : Quantity
        New tokens per sequence that go through the language-model head.
    mask : str
        ``causal``, or ``full`` for encoders.
    new_pairs : Quantity or None
        Query-key pairs among the new tokens where a tree mask sets them; None follows `mask`.
    encoder : Segment or None
        Tokens of an encoder that cross-attention sees; no other block does.
    new_encoder_tokens : Quantity
        How many of them are projected to keys and values in this pass; the rest is cached [tokens].
    window_tokens : Quantity or None
        A sliding window on top of the layer's own [tokens]; tokens kept at the front (sinks) add to it.
    full_heads : Quantity or None
        Share of the heads that `window_tokens` does not bind, 0..1; None binds all.
    density : Quantity
        Share of the visible pairs that are computed, 0..1 (sparse prefill).
    """

    count: Quantity
    new: tuple[Segment, ...]
    past: tuple[Segment, ...] = ()
    logit_tokens: Quantity = 1.0
    mask: Mask = "causal"
    new_pairs: Quantity | None = None
    encoder: Segment | None = None
    new_encoder_tokens: Quantity = 0.0
    window_tokens: Quantity | None = None
    full_heads: Quantity | None = None
    density: Quantity = 1.0

    @property
    def new_tokens(self) -> Quantity:
        """New tokens per sequence."""
        return total(segment.tokens for segment in self.new)

    @property
    def past_tokens(self) -> Quantity:
        """Cached tokens per sequence."""
        return total(segment.tokens for segment in self.past)

    def visible(self, window: Quantity | None = None, chunk: Quantity | None = None) -> Visible:
        """Return pairs and keys under a sliding window, a chunk, or neither.

        Parameters
        ----------
        window : Quantity or None
            A token sees itself and the ``window - 1`` tokens before it [tokens].
        chunk : Quantity or None
            A token sees the tokens from the last multiple of `chunk` up to itself; under a full mask
            all tokens of its chunk [tokens].

        Notes
        -----
        Derived in docs/formulas.md section 3. For n new tokens over P cached ones:
        full attention sees ``n P + n (n + 1) / 2`` pairs; under a window w token i sees
        ``min(i + 1, w)`` new and ``clip(w - 1 - i, 0, P)`` cached keys; in chunks of c the token at
        position p sees ``p mod c + 1``. Sums are closed forms, so they hold for fractional counts.
        """
        seen = self._within(window, chunk)
        if window is None and chunk is None:
            return seen
        _, past_pairs, own_pairs = self._seen(None, None)
        return replace(seen, unlimited=(self.past_tokens + self.new_tokens, past_pairs + own_pairs))

    def _within(self, window: Quantity | None, chunk: Quantity | None) -> Visible:
        """Return pairs and keys within the narrower of a layer's window and the sequences' own."""
        if self.window_tokens is None:
            return self._over_segments(*self._seen(window, chunk))
        narrow = self.window_tokens if window is None else minimum(window, self.window_tokens)
        reach, past_pairs, own_pairs = self._seen(narrow, chunk)
        if self.full_heads is not None:
            near_pairs = own_pairs
            reach, past_pairs, own_pairs = self._seen(window, chunk)
            own_pairs = self.full_heads * own_pairs + (1.0 - self.full_heads) * near_pairs
        return self._over_segments(reach, past_pairs, own_pairs)

    def _seen(self, window: Quantity | None, chunk: Quantity | None) -> tuple[Quantity, Quantity, Quantity]:
        """Return the cached tokens seen, the pairs with them, and the pairs among the new tokens."""
        new, past = self.new_tokens, self.past_tokens
        if self.mask == "full":
            reach, past_pairs, own_pairs = _seen_by_all(new, past, chunk)
        elif chunk is not None:
            reach, past_pairs, own_pairs = _seen_in_chunks(new, past, chunk)
        elif window is not None:
            reach, past_pairs, own_pairs = _seen_through_window(new, past, window)
        else:
            reach, past_pairs, own_pairs = past, new * past, 0.5 * new * (new + 1.0)
        return reach, past_pairs, own_pairs if self.new_pairs is None else self.new_pairs

    def _over_segments(self, reach: Quantity, past_pairs: Quantity, own_pairs: Quantity) -> Visible:
        """Spread what is seen of the past over its segments, newest first."""
        left = reach
        shares: list[Quantity] = []
        pairs: list[Quantity] = []
        whole = maximum(reach, 1e-300)
        for segment in reversed(self.past):
            seen = minimum(left, segment.tokens)
            left = left - seen
            read = seen if segment.read_tokens is None else minimum(seen, segment.read_tokens)
            shares.append(read)
            pairs.append(past_pairs * read / whole * segment.head_fraction)
        shares.reverse()
        pairs.reverse()
        return Visible(
            pairs=total((own_pairs, *pairs)) * self.density,
            keys=total((self.new_tokens, *shares)),
            past_tokens=tuple(shares),
            past_pairs=tuple(part * self.density for part in pairs),
        )


def _seen_by_all(
    new: Quantity, past: Quantity, chunk: Quantity | None
) -> tuple[Quantity, Quantity, Quantity]:
    """What `Sequences._seen` returns where tokens see what comes after them too, up to the chunk's end."""
    if chunk is None:
        return past, new * past, new * new
    whole = floor(new / chunk)
    rest = new - whole * chunk
    return 0.0 * past, 0.0 * past, whole * chunk * chunk + rest * rest


def _seen_in_chunks(new: Quantity, past: Quantity, chunk: Quantity) -> tuple[Quantity, Quantity, Quantity]:
    """What `Sequences._seen` returns where tokens see nothing before the last multiple of a chunk."""
    reach = past - floor(past / chunk) * chunk
    past_pairs = minimum(new, chunk - reach) * reach
    return reach, past_pairs, _chunk_pairs(past + new, chunk) - _chunk_pairs(past, chunk) - past_pairs


def _seen_through_window(
    new: Quantity, past: Quantity, window: Quantity
) -> tuple[Quantity, Quantity, Quantity]:
    """What `Sequences._seen` returns where tokens see themselves and the ``window - 1`` before them."""
    whole = minimum(maximum(window - past, 0.0), new)
    partial = minimum(new, window)
    past_pairs = whole * past + (
        (partial - whole) * (window - 1.0) - 0.5 * (partial * (partial - 1.0) - whole * (whole - 1.0))
    )
    own_pairs = 0.5 * partial * (partial + 1.0) + (new - partial) * window
    return minimum(past, window - 1.0), past_pairs, own_pairs


def _chunk_pairs(position: Quantity, chunk: Quantity) -> Quantity:
    """Pairs of all tokens before a position when each sees its chunk so far."""
    chunks = floor(position / chunk)
    rest = position - chunks * chunk
    return chunks * (0.5 * chunk * (chunk + 1.0)) + 0.5 * rest * (rest + 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """What one forward pass is asked to do."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    sequences: tuple[Sequences, ...]

    @property
    def tokens(self) -> Quantity:
        """New tokens over all sequences."""
        return total(part.count * part.new_tokens for part in self.sequences)

    @property
    def logit_tokens(self) -> Quantity:
        """Tokens over all sequences that go through the language-model head."""
        return total(part.count * part.logit_tokens for part in self.sequences)

    @property
    def count(self) -> Quantity:
        """Sequences in the pass."""
        return total(part.count for part in self.sequences)

    def share(self, parts: Quantity) -> "Step":
        """Return the pass that one of `parts` equal groups of sequences makes."""
        return self.with_sequences(revised(part, count=part.count / parts) for part in self.sequences)

    def with_sequences(self, sequences: Iterable[Sequences]) -> "Step":
        """Return the pass with its sequences replaced."""
        return revised(self, sequences=tuple(sequences))

    def chunks(self, size: float) -> tuple["Step", ...]:
        """Return the passes of a prefill cut along its tokens into chunks of at most `size`.

        The number of chunks is structure, so every sequence must bring a scalar count of new tokens.
        Only the last chunk goes through the language-model head.
        """
        parts: list[Step] = []
        done = 0.0
        longest = max(float(sequences.new_tokens) for sequences in self.sequences)
        while done < longest:
            cut = []
            for sequences in self.sequences:
                here = float(sequences.new_tokens)
                if here <= done:
                    continue
                cut.append(
                    replace(
                        sequences,
                        new=_between(sequences.new, done, done + size),
                        past=(*sequences.past, *_between(sequences.new, 0.0, done)),
                        logit_tokens=sequences.logit_tokens if done + size >= here else 0.0,
                        new_encoder_tokens=0.0 if done else sequences.new_encoder_tokens,
                    )
                )
            parts.append(Step(sequences=tuple(cut)))
            done += size
        return tuple(parts)


def _between(segments: tuple[Segment, ...], start: float, stop: float) -> tuple[Segment, ...]:
    """Return the parts of segments that lie between two positions of the whole [tokens]."""
    cut: list[Segment] = []
    first = 0.0
    for segment in segments:
        last = first + float(segment.tokens)
        tokens = min(stop, last) - max(start, first)
        if tokens > 0.0:
            cut.append(replace(segment, tokens=tokens))
        first = last
    return tuple(cut)
