"""A decoder whose rows are at any of their steps: regions are inserted and leave at any time.

For devices that record work: the step of each number of rows is one piece of work, replayed as a whole.

Shapes: N = sequences returned per region, L = the most tokens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dynrefer.model.errors import StoppedError
from dynrefer.model.networks.generation.beam_search import SearchSettings, SpecialTokens
from dynrefer.model.networks.generation.decoding_state import DecodingState
from dynrefer.model.networks.generation.encoded_prompt import EncodedPrompt
from dynrefer.model.networks.generation.prompt_encoder import PromptEncoder
from dynrefer.model.networks.generation.reports import Mark, Reports, mark_of
from dynrefer.model.networks.generation.static_step import StaticStep
from dynrefer.model.networks.kernels.attention import fastest_attention, seconds_on_gpu
from dynrefer.model.networks.kernels.graphs import Graphs, Work
from dynrefer.model.networks.kernels.rms_norm import fastest_add_norm
from dynrefer.model.networks.kernels.small_attention import SmallAttention

_RECORDED_PROMPTS = 16  # regions: the encoder's products of more take longer than its launches


@dataclass(frozen=True)
class Finished:
    """A region whose search has ended. tokens: (N, L + 1) int64, padded; score: (N,) float32; both on the host."""

    handle: int
    tokens: Tensor
    score: Tensor


class DecodingSlots:
    """Rows of a T5's decoder. Regions occupy the first of them; a step computes the smallest bucket that holds them.

    model: a `T5ForConditionalGeneration`. capacity: rows. encoder_length: encoder tokens of a row; a shorter prompt is
    padded and masked. graphs: where `capture` records the steps. seconds: measures work, to choose the attention by; on
    a CPU nothing is chosen unless it is given. For one thread, on its current stream.

    Memory of a row: 2 * layers * heads * d * (encoder_length + L * beams) numbers; 20 MB for the released model in
    bfloat16 (24 layers, 32 heads of 64, 64 encoder tokens, 20 tokens by 2 beams), so 1.3 GB for 64 rows.
    A step reads all of it, whatever a prompt's length: padding 48 encoder tokens to 64 makes caches of 17 MB into those
    20. The decoder's weights, which a step reads once, are 2.6 GB, so one encoder length suffices.
    """

    def __init__(
        self,
        model: Any,
        *,
        capacity: int,
        encoder_length: int,
        settings: SearchSettings,
        special: SpecialTokens,
        graphs: Graphs,
        new_mark: Callable[[torch.device], Mark] = mark_of,
        seconds: Callable[[Work], float] | None = None,
    ) -> None:
        self.capacity, self.encoder_length, self.settings = capacity, encoder_length, settings
        self._special, self._graphs = special, graphs
        self._state = DecodingState.empty(model, capacity, encoder_length, settings, special)
        length, device = settings.max_new_tokens + 1, self._state.step.device
        self._seconds = seconds_on_gpu if seconds is None and device.type == "cuda" else seconds
        self._step = StaticStep(model, self._state, settings, special)
        self._steps: dict[int, Work] = {rows: partial(self._step, rows) for rows in buckets(capacity)}
        prompts = buckets(min(capacity, _RECORDED_PROMPTS))
        self._encoder = PromptEncoder(model, buckets=prompts, length=encoder_length, graphs=graphs)
        self._reports = Reports(capacity, settings.num_return_sequences, length, device, new_mark)
        self._owners: list[int] = []  # the handle of each row that is occupied
        self._inserted = 0

    def __len__(self) -> int:
        return len(self._owners)

    @property
    def room(self) -> int:
        """How many rows are free."""
        return self.capacity - len(self)

    @property
    def handles(self) -> Sequence[int]:
        """The regions inside."""
        return tuple(self._owners)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return sum(each.nbytes for each in vars(self._state).values())

    def fits(self, settings: SearchSettings, length: int) -> bool:
        """Whether a search of these settings, over prompts of so many tokens, may take place here."""
        return settings == self.settings and length <= self.encoder_length

    def encode(self, embeddings: Tensor, mask: Tensor) -> EncodedPrompt:
        """What `insert` takes. embeddings: (M, S, D). mask: (M, S), 1 where the encoder may look.

        On a GPU, another stream may be the current one; recorded work of both streams must then share no memory.
        """
        return self._encoder(embeddings, mask)

    @torch.inference_mode()
    def insert(self, prompt: EncodedPrompt) -> list[int]:
        """Let regions begin, before the next step. A handle for each, which is never used again.

        Raises ValueError if there are more than `room`, or if their prompts are longer than `encoder_length`.
        """
        length = prompt.bias.shape[-1]
        if len(prompt) > self.room or length > self.encoder_length:
            raise ValueError(
                f"{len(prompt)} prompts of {length} tokens do not fit {self.room} rows of {self.encoder_length}."
            )
        self._state.begin(len(self), prompt, self._special)
        handles = list(range(self._inserted, self._inserted + len(prompt)))
        self._inserted += len(prompt)
        self._owners += handles
        return handles

    @torch.inference_mode()
    def step(self) -> None:
        """One more token for every region that has not ended.

        On a GPU this launches the step; it waits only while two others before it are not done.
        """
        if not self._owners:
            return
        self._steps[min(rows for rows in self._steps if rows >= len(self))]()
        state = self._state
        greedy = self.settings.num_beams == 1
        tokens, score = (state.tokens, state.score) if greedy else (state.done_tokens, state.done_score)
        self._reports.write(self._owners, state.going, tokens, score)

    def finished(self, *, wait: bool = False, behind: int = 0) -> list[Finished]:
        """The regions inside that have ended, as far as the device is known to be: at most two steps behind.

        wait: as of the newest step, or so many before it.
        """
        report = self._reports.newest(wait=wait, behind=behind)
        if report is None:
            return []
        inside = set(self._owners)
        going = report.going[: len(report.owners)].tolist()
        return [
            Finished(handle, report.tokens[row].clone(), report.score[row].clone())
            for row, handle in enumerate(report.owners)
            if not going[row] and handle in inside
        ]

    @torch.inference_mode()
    def remove(self, handles: Sequence[int]) -> None:
        """Let regions go, ended or not; the last ones move to their rows. Those that are not inside are passed over."""
        leaving = set(handles)
        stay = [handle for handle in self._owners if handle not in leaving]
        left = len(stay)
        holes = [row for row in range(left) if self._owners[row] in leaving]
        movers = [row for row in range(left, len(self)) if self._owners[row] not in leaving]
        self._move(movers, holes)
        self._state.stop(left, len(self))
        for source, target in zip(movers, holes, strict=True):
            self._owners[target] = self._owners[source]
        del self._owners[left:]

    def clear(self) -> None:
        """Let all regions go."""
        self.remove(self._owners)

    @torch.inference_mode()
    def capture(self) -> None:
        """Record the step of every bucket of rows, and the encoder. Nothing may be inside.

        What cannot be recorded stays as it is. Before, the fastest attention and norms are chosen, with all rows
        occupied. A replay is compared with the work itself, on invented prompts, each row at another step.
        """
        if self._owners:
            raise ValueError(f"{len(self)} regions are inside: record the steps before any is inserted.")
        self._state.invent()
        if self._seconds is not None:
            inputs = self._step.attention_inputs()
            self._step.attention = fastest_attention(inputs, self._seconds, more=[SmallAttention()])
            self._step.add_norm = fastest_add_norm(*self._step.add_norm_inputs(), self._seconds)
        for rows in sorted(self._steps, reverse=True):  # the largest first: the others fit the memory that it needed
            state = self._state.first(rows).changing()
            self._steps[rows] = self._graphs.capture(f"decoding step of {rows} rows", self._steps[rows], state)
        self._state.stop(0, self.capacity)
        self._reports.forget()
        self._encoder.capture()

    def _move(self, sources: list[int], targets: list[int]) -> None:
        if sources:
            device = self._state.step.device
            # From pinned memory, which torch keeps until the copy is done: the host does not wait.
            pairs = torch.tensor([sources, targets], pin_memory=device.type == "cuda").to(device, non_blocking=True)
            self._state.move(pairs[0], pairs[1])


def decode(
    embeddings: Tensor,
    mask: Tensor,
    slots: DecodingSlots,
    should_stop: Callable[[], bool] | None = None,
) -> list[Finished]:
    """The searches of all prompts, in their order; where there are more than rows, they follow as rows become free.

    embeddings: (R, S, D). mask: (R, S). slots: with nothing inside, and so they are left.
    should_stop: polled before every step; `StoppedError` if it returns true.
    """
    found: dict[int, Finished] = {}
    handles = list[int]()
    left = 0  # steps until the newest region has its last token
    # As many prompts at a time as there are rows: one at a time would launch the encoder for every row that ends.
    parts = (slice(start, start + slots.capacity) for start in range(0, len(mask), slots.capacity))
    waiting: EncodedPrompt | None = None
    try:
        while len(found) < len(mask):
            if should_stop and should_stop():
                raise StoppedError("the batch was cancelled: no client waits for its captions.")
            if slots.room and not waiting and (part := next(parts, None)):
                waiting = slots.encode(embeddings[part], mask[part])
            if waiting and (fresh := min(slots.room, len(waiting))):
                handles += slots.insert(waiting[:fresh])
                waiting = waiting[fresh:]
                left = slots.settings.max_new_tokens
            slots.step()
            left -= 1
            # One step is always under way, so that the device does not wait for Python; not beyond the last one.
            ended = slots.finished(wait=True, behind=int(left > 0))
            slots.remove([each.handle for each in ended])
            found |= {each.handle: each for each in ended}
    finally:
        slots.clear()
    return [found[handle] for handle in handles]


def buckets(capacity: int) -> list[int]:
    """Numbers of rows that a step is made for: 1, 2, 4, ... and the capacity itself."""
    powers = [1 << power for power in range(capacity.bit_length())]
    return sorted({*(rows for rows in powers if rows < capacity), capacity})
