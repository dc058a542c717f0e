"""Conversing about an image: what passes between the steps, and what a converser is. No torch or NumPy at import.

    ConverserSpec.prepare_each  (CPU, any process)     image, a `Conversation` -> a `ConverseTurn`
    Converser.converse          (the device's thread)  turns -> `Spoken`: the answer so far
    ConverseTurn.after          (anywhere)             the turn, and what was spoken -> the turn that goes on from there
    verification.py             (CPU, any thread)      boxes of the answer -> queries about regions -> verdicts

An answer is written in pieces of a few tokens, each one item of the device's work: in between, regions and turns of
other requests have theirs, and whoever asked can read what there is, leave, or run out of time. A turn and what was
spoken are plain values that pickle; a converser keeps what is dear to compute again (features of an image, keys and
values of a conversation) in a bounded cache of its own, under `ConverseTurn.digest`, and computes it again where the
cache has lost it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dynrefer.model.conversation import Conversation, Reply
    from dynrefer.model.errors import QueryError
    from dynrefer.model.geometry import ImageSize
    from dynrefer.model.images import Pixels

NO_CONVERSER = (
    "Questions need a converser, and this model is used without one: start with --converser DIR, a local directory "
    "with a Qwen3-VL of transformers, or with --converser-url, or use the embedded model."
)
# What a turn counts as in a batch: like a search, so much that on a CPU it is a batch of its own.
CONVERSE_VIEWS = 48
PIECE_TOKENS = 8  # of an answer, in one item of the device's work


@dataclass(frozen=True, slots=True, eq=False)
class ConverseTurn:
    """A question ready to be answered, or an answer ready to go on.

    pixels: (h, w, 3) uint8 RGB, the whole upright image, scaled by the converser's rule. size: (W, H) of the upright
    image. conversation: its regions' boxes are clipped to the image, and those with points have their masks.
    digest: of the pixels; equal for equal images, whatever is asked of them.
    written: the answer's tokens so far. piece: how many may be added to them now.
    """

    pixels: NDArray[np.uint8]
    size: ImageSize
    conversation: Conversation
    digest: bytes
    written: tuple[int, ...] = ()
    piece: int = PIECE_TOKENS

    @property
    def num_views(self) -> int:
        """What it counts as in a batch."""
        return CONVERSE_VIEWS

    def after(self, spoken: Spoken) -> ConverseTurn:
        """The turn that goes on where `spoken` ended."""
        return replace(self, written=spoken.written)

    def continues(self, turn: ConverseTurn) -> bool:
        """Whether it is `turn`, or a later one of the same answer."""
        return self.pixels is turn.pixels and self.conversation is turn.conversation and self.piece == turn.piece


@dataclass(frozen=True, slots=True)
class Spoken:
    """An answer so far. reply: all of it, not only what is new. written: its tokens. done: whether it is complete.

    stable: so many characters of the content stay as they are, whatever follows.
    """

    reply: Reply
    written: tuple[int, ...]
    done: bool
    stable: int


class ConverserSpec(Protocol):
    """How images are prepared for a converser: a plain value that pickles, for worker processes. Fulfils `Preparation`,
    with `Conversation` in the place of queries about regions."""

    def invalid(self, queries: Sequence[Conversation], size: ImageSize) -> list[QueryError]:
        """What cannot be asked of an image of (width, height)."""

    def prepare_each(self, image: Pixels, queries: Sequence[Conversation]) -> Iterator[ConverseTurn]:
        """One turn per conversation. image: (H, W, 3) uint8 RGB, upright."""


class Converser(Protocol):
    """Answers questions about images. It belongs to the device's thread, but for `spec`.

    An answer depends neither on what else is in the batch (to 1e-4), nor on the pieces that it is written in, nor on
    what the converser's cache holds.
    """

    @property
    def spec(self) -> ConverserSpec:
        """How images are prepared for it."""

    @property
    def max_tokens(self) -> int:
        """Of an answer, at most."""

    @property
    def num_bytes(self) -> int:
        """Of its cache."""

    def converse(self, turns: Sequence[ConverseTurn], should_stop: Callable[[], bool]) -> list[Spoken]:
        """One `Spoken` per turn, in order. should_stop: polled between pieces of work; StoppedError once true."""
