"""Where drafted tokens come from, and what drafting them costs."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from roofline.decoding.autoregressive import prompt_passes
from roofline.decoding.decoding import Loaded, Pass
from roofline.decoding.tree import SpecTree
from roofline.decoding.workload import Workload
from roofline.errors import InvalidSpecError
from roofline.graph.step import Segment, Step
from roofline.quantity import Quantity
from roofline.timing.deployment import Deployment
from roofline.units import Count, Seconds

__all__ = [
    "AnyDrafter",
    "Lookup",
    "ModelDrafter",
]

_FILE = ConfigDict(extra="forbid")

#: Vocabularies of one tokeniser differ by padding: 151,936 and 152,064 rows in Qwen2.5 (config.json
#: of the 0.5B and 7B models), 0.08 %. Different tokenisers differ by far more than this.
_PADDING: Final = 0.01


@dataclass(frozen=True, kw_only=True, eq=False)
class Lookup:
    """Drafts that cost no forward pass: n-grams of the prompt, a trie, a datastore, past candidates.

    Prompt lookup, REST (He et al. 2023, arXiv:2311.08252), the trie of Zhao et al. 2023
    (arXiv:2312.12728), token recycling (Luo et al. 2024, arXiv:2408.08696).

    Parameters
    ----------
    host_s : Quantity
        Host time of one look-up for the batch [s].
    operations : Quantity
        Small tensor operations of one look-up; the runtime says what one costs the host.
    extra_tokens : Quantity
        Tokens per sequence that the verification pass computes besides root and nodes: the lookahead
        branch of Fu et al. 2024 (arXiv:2402.02057, section 3.2).
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FILE

    kind: Literal["lookup"] = "lookup"
    host_s: Seconds = 0.0
    operations: Count = 0.0
    extra_tokens: Count = 0.0

    def check(self, target: Deployment) -> None:
        """Accept any target."""

    def prefill(self, workload: Workload) -> tuple[Pass, ...]:
        """Return nothing."""
        return ()

    def draft(
        self, target: Deployment, workload: Workload, generated: Quantity, tree: SpecTree, tokens: Quantity
    ) -> tuple[Pass, ...]:
        """Return nothing: what it costs is added to the verification pass by `verify_host_s`."""
        return ()

    def verify_host_s(self, target: Deployment) -> Quantity:
        """Return the host time of a look-up [s]."""
        return self.host_s + target.operations_s(self.operations)

    def loaded(self, workload: Workload) -> tuple[Loaded, ...]:
        """Return nothing: tables in host memory are not counted."""
        return ()

    def with_deployments(self, change: Callable[[Deployment], Deployment]) -> "Lookup":
        """Return itself."""
        return self


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelDrafter:
    """Drafts from forward passes of a model: another one, a layer or heads on the target, part of it.

    Parameters
    ----------
    deployment : Deployment
        What drafts; heads and single layers are small models of their own.
    positions_per_call : int
        Depths one call drafts: 1 for anything autoregressive, all heads at once for Medusa, K for
        drafters of blocks. A tree of depth d takes ``ceil(d / positions_per_call)`` calls.
    prefills : bool
        Whether it runs over the prompt to fill a cache of its own.
    recomputes : bool
        Whether its first call runs over all tokens just accepted, to replace features it guessed by
        the target's (EAGLE, arXiv:2401.15077, section 3.1), or only over the newest one.
    shares : str
        What it has in common with the target and is not stored twice: ``nothing``, ``weights`` or
        ``weights_and_cache``.
    vocabulary : str
        ``same`` as the target's, or a ``subset`` of it (EAGLE-3, FR-Spec).
    context_tokens : Quantity or None
        Prompt tokens its cache is kept at, where it drafts from a shorter context than the target has
        (RAPID, Chen et al. 2025, arXiv:2502.20330, section 3).
    host_s : Quantity
        Host time of a call beyond the runtime's own, such as the scheduler's [s].
    operations : Quantity
        Small tensor operations around a call: sampling, ranking, masks; the runtime says what one costs.
    copies : Quantity
        Models of this size that take turns, such as heads of their own for each depth; all are stored.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _FILE

    kind: Literal["model"] = "model"
    deployment: Deployment
    positions_per_call: int = 1
    prefills: bool = True
    recomputes: bool = False
    shares: Literal["nothing", "weights", "weights_and_cache"] = "nothing"
    vocabulary: Literal["same", "subset"] = "same"
    context_tokens: Count | None = None
    host_s: Seconds = 0.0
    operations: Count = 0.0
    copies: Count = 1.0

    def check(self, target: Deployment) -> None:
        """Raise `InvalidSpecError` where it cannot draft for a target."""
        if self.positions_per_call < 1:
            raise InvalidSpecError(
                f"drafter: want at least 1 position per call, got {self.positions_per_call}"
            )
        shared = not np.any(self.deployment.model.embedding.vocabulary_size)
        if shared and np.any(self.deployment.model.hidden_size != target.model.hidden_size):
            raise InvalidSpecError(
                f"drafter {self.deployment.model.name} was made for another model than {target.model.name}"
            )
        own = np.asarray(self.deployment.model.embedding.vocabulary_size)
        wanted = np.asarray(target.model.embedding.vocabulary_size)
        if self.vocabulary == "same" and own.any() and np.any(np.abs(own - wanted) > _PADDING * wanted):
            raise InvalidSpecError(
                f"drafter {self.deployment.model.name} has a vocabulary of {float(own.max()):,.0f}, "
                f"{target.model.name} one of {float(wanted.max()):,.0f}; its tokens cannot be verified"
            )

    def _own(self, workload: Workload) -> Workload:
        """The workload as the drafter's cache sees it."""
        if self.context_tokens is None:
            return workload
        if workload.context_tokens is not None:
            return replace(workload, context_tokens=self.context_tokens)
        return replace(workload, prompt_tokens=self.context_tokens)

    def prefill(self, workload: Workload) -> tuple[Pass, ...]:
        """Return the passes over the prompts, where it has a cache of its own."""
        return prompt_passes(self.deployment, self._own(workload)) if self.prefills else ()

    def draft(
        self, target: Deployment, workload: Workload, generated: Quantity, tree: SpecTree, tokens: Quantity
    ) -> tuple[Pass, ...]:
        """Return the draft calls of one iteration; calls of equal width are one pass with a count.

        Parameters
        ----------
        tokens : Quantity
            Tokens per sequence that the last iteration gave.

        Notes
        -----
        A call computes the nodes of the level before it and proposes their children; the last level
        is never computed. It sees the prompt, what is accepted and the earlier levels, of which tree
        masks hide some: counting them all makes wide trees' draft attention up to ``width`` times too
        dear, below 1 % of a call at 60 nodes over 1000 cached tokens.
        """
        widths, before = self.calls(tree)
        first = tokens if self.recomputes else 1.0
        passes = [self.call(workload, generated, new=first, logits=1.0, accepted=True)]
        for width in np.unique(widths[1:]):
            alike = np.flatnonzero(widths[1:] == width) + 1
            one = self.call(
                workload,
                generated,
                new=float(width),
                logits=float(width),
                cached=float(np.mean(before[alike])),
            )
            passes.append(replace(one, count=float(alike.size)))
        return tuple(passes)

    def calls(self, tree: SpecTree) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the tokens each call computes per sequence, and the drafted ones it has cached."""
        levels = np.asarray(tree.drafted) if tree.drafted else np.r_[1, tree.widths[:-1]]
        levels = levels[: tree.depth : self.positions_per_call]
        return levels, np.cumsum(levels) - levels

    def call(
        self,
        workload: Workload,
        generated: Quantity,
        *,
        new: Quantity,
        logits: Quantity,
        cached: Quantity = 0.0,
        accepted: bool = False,
    ) -> Pass:
        """Return one draft call.

        Parameters
        ----------
        new, logits : Quantity
            Tokens per sequence it computes, and for how many of them it proposes candidates.
        cached : Quantity
            Drafted tokens its cache holds beyond the accepted ones [tokens].
        accepted : bool
            Whether the new tokens follow each other; candidates of one level do not see each other.
        """
        sequences = self._own(workload).decode(generated, new_tokens=new).sequences[0]
        step = Step(
            sequences=(
                replace(
                    sequences,
                    past=(*sequences.past, Segment(tokens=cached, origin="draft")),
                    logit_tokens=logits,
                    new_pairs=None if accepted else new,
                ),
            )
        )
        host_s = self.host_s + self.deployment.operations_s(self.operations)
        return Pass(deployment=self.deployment, step=step, phase="draft", host_s=host_s)

    def verify_host_s(self, target: Deployment) -> Quantity:
        """Return 0: its host time is in its calls."""
        return 0.0

    def loaded(self, workload: Workload) -> tuple[Loaded, ...]:
        """Return its deployment at the end of the run, without what it shares."""
        own = self._own(workload)
        return (
            Loaded(
                deployment=self.deployment,
                step=own.decode(own.last_generated),
                weights=self.shares == "nothing",
                cache=self.shares != "weights_and_cache",
                copies=self.copies,
            ),
        )

    def with_deployments(self, change: Callable[[Deployment], Deployment]) -> "ModelDrafter":
        """Return it with its deployment changed."""
        return replace(self, deployment=change(self.deployment))


AnyDrafter: TypeAlias = Annotated[Lookup | ModelDrafter, Field(discriminator="kind")]
