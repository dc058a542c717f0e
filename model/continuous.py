"""Continuous batching: regions join the device's work at any time and leave it once they are complete.

Newcomers go through the network in small groups, up to their scores, on a GPU on a stream of their own. Their captions
are then written in rows of one decoder beside those of regions that came earlier, each row at a word of its own
(`generation/slots.py`). So no region waits for a batch to fill, or for one to end; and on a GPU the views of some,
bound by arithmetic, are computed beside the words of others, bound by memory.

Shapes: R = inputs (a region with one view plan), Q = region tokens, C = channels, N = labels of a task.
"""

import itertools
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from dynrefer.model.batch import RawOutputs, RegionOutput, rows_index, stage_times
from dynrefer.model.cache import FeatureCache
from dynrefer.model.device_errors import translate_device_errors
from dynrefer.model.errors import DeviceMemoryError
from dynrefer.model.identification import CATEGORIES, identify_by
from dynrefer.model.loading import LoadedModel
from dynrefer.model.network_building import TURNS
from dynrefer.model.networks.generation.slots import DecodingSlots
from dynrefer.model.networks.kernels.streams import Marks, SideStream, current_device
from dynrefer.model.networks.kernels.transfers import to_host
from dynrefer.model.preparation import PreparedRegion, RegionInput
from dynrefer.model.protocol import BatchLimits
from dynrefer.model.representation import NewFeatures, represent
from dynrefer.model.tasks import RUN_ORDER, TASKS
from dynrefer.model.tasks.attributes import AttributesTask
from dynrefer.model.tasks.caption import CaptionTask
from dynrefer.model.tasks.definition import TaskBatch
from dynrefer.model.tasks.scoring import LabelTask
from dynrefer.model.text_embeddings import WordScores, control_tags, own_tasks

GROUP_VIEWS = 24  # from so many views on, the full-size tower reaches its rate on an H100
GROUPS = 2  # one is computed, one waits behind it, so that the device does not wait for Python

CAPTION = CaptionTask()


@dataclass(eq=False, slots=True)
class _Joined:
    """A region that is here. writing: how many of its captions are being written, since `began`."""

    ticket: int
    region: PreparedRegion
    outputs: tuple[RawOutputs, ...]
    times_ms: dict[str, float] = field(default_factory=dict)
    began: float = 0.0
    writing: int = 0


@dataclass(eq=False, slots=True)
class _Input:
    """One input of a region and its outputs so far. own: as `text_embeddings.own_tasks`."""

    of: _Joined
    given: RegionInput
    outputs: RawOutputs
    own: frozenset[str]

    def wants(self, task: str) -> bool:
        """Whether the task is to run for it: with the model's own words, or without any."""
        return task in self.own


@dataclass(eq=False, slots=True)
class _Group:
    """Inputs that joined together. logits: task -> which inputs it scored, and (R, N) on its way to the CPU.

    words: those of the requests' own words, likewise.
    prompts: the same of the attributes' prompts, where they are asked for.
    """

    inputs: list[_Input]
    representation: Tensor
    new: NewFeatures
    marks: Marks
    words: WordScores
    logits: dict[str, tuple[list[int], Tensor]] = field(default_factory=dict)
    prompts: tuple[list[int], Tensor] | None = None

    def of(self, rows: Sequence[int]) -> Tensor:
        """The representations of these inputs."""
        every = len(rows) == len(self.inputs)
        return self.representation if every else self.representation[rows_index(rows, self.representation.device)]

    def batch(self, loaded: LoadedModel, rows: Sequence[int], needs: Sequence[str]) -> TaskBatch:
        """These inputs, for a task."""
        some = [self.inputs[row] for row in rows]
        needed = {name: [each.outputs.get(name) for each in some] for name in needs}
        return TaskBatch(
            self.of(rows),
            [each.given.controls for each in some],
            [each.given.writing for each in some],
            needed,
            [each.outputs.identity for each in some],
            None,
            [control_tags(loaded, each.given, each.outputs.asked) for each in some],
        )


class ContinuousDescription:
    """A `ContinuousBatch` of DynRefer. slots: for the captions of this batch alone."""

    def __init__(self, loaded: LoadedModel, cache: FeatureCache, slots: DecodingSlots) -> None:
        self._loaded, self._cache, self._slots = loaded, cache, slots
        self._side = SideStream(loaded.device)
        self._tickets = itertools.count()
        self._here: dict[int, _Joined] = {}
        self._groups: deque[_Group] = deque()
        self._writing: dict[int, _Input] = {}  # by handle in the slots
        # Never less than what a region can cost, with a plan of views for each task.
        self._group_views = max(GROUP_VIEWS, loaded.network.config.num_views * len(TASKS))
        self._steps = self._last_step = 0  # taken so far; when the newest caption has reached its last token

    @property
    def room(self) -> BatchLimits:
        """See `ContinuousBatch`."""
        awaited = sum(each.wants(CAPTION.name) for group in self._groups for each in group.inputs)
        free = self._slots.capacity - len(self._slots) - awaited
        if free <= 0 or len(self._groups) >= GROUPS:
            return BatchLimits(0, 0)
        return BatchLimits(free, self._group_views)

    def admit(self, regions: Sequence[PreparedRegion]) -> list[int]:
        """See `ContinuousBatch`."""
        with current_device(self._loaded.device), TURNS.computing():
            try:
                return translate_device_errors(lambda: self._admit(regions))
            except DeviceMemoryError:
                if not self._cache.clear():
                    raise
                return translate_device_errors(lambda: self._admit(regions))

    def advance(self) -> list[tuple[int, RegionOutput]]:
        """See `ContinuousBatch`."""
        with current_device(self._loaded.device), TURNS.computing():
            try:
                return translate_device_errors(self._advance)
            except Exception:
                translate_device_errors(self._clear)
                raise

    def drop(self, tickets: Sequence[int]) -> None:
        """See `ContinuousBatch`."""
        for ticket in tickets:
            self._here.pop(ticket, None)
        handles = [handle for handle, each in self._writing.items() if each.of.ticket not in self._here]
        for handle in handles:
            del self._writing[handle]
        with current_device(self._loaded.device):
            self._slots.remove(handles)
        for group in [each for each in self._groups if not any(one.of.ticket in self._here for one in each.inputs)]:
            group.marks.wait()  # what it replays may not run beside a whole batch
            self._groups.remove(group)

    @torch.inference_mode()
    def _admit(self, regions: Sequence[PreparedRegion]) -> list[int]:
        joined = [_Joined(next(self._tickets), each, tuple(RawOutputs() for _ in each.inputs)) for each in regions]
        inputs = [
            _Input(each, given, outputs, own_tasks(self._loaded, given))
            for each in joined
            for given, outputs in zip(each.region.inputs, each.outputs, strict=True)
        ]
        with self._side.entered():
            marks = Marks(self._loaded.device)
            every = [each.given for each in inputs]
            representation, new = represent(self._loaded, every, self._cache, marks.lap)
            words = WordScores(self._loaded, representation, every, self._cache)
            marks.lap("words")
            group = _Group(inputs, representation, new, marks, words)
            for task in RUN_ORDER:
                if isinstance(task, LabelTask) and (rows := self._scored(task.name, inputs)):
                    logits = task.logits(self._loaded, group.of(rows))
                    group.logits[task.name] = rows, to_host(logits.float())
                    marks.lap(task.name)
            if rows := [row for row, each in enumerate(inputs) if each.given.prompts]:
                prompts = self._loaded.inference.score_attribute_prompts(group.of(rows))
                group.prompts = rows, to_host(prompts.float())
                marks.lap(AttributesTask.name)
        self._groups.append(group)
        self._here |= {each.ticket: each for each in joined}
        return [each.ticket for each in joined]

    def _scored(self, task: str, inputs: Sequence[_Input]) -> list[int]:
        """Which inputs a task scores: all for the categories of a model that decides first what an object is."""
        every = task == CATEGORIES.name and self._loaded.network.config.noun_placeholder is not None
        return [row for row, each in enumerate(inputs) if every or each.wants(task)]

    @torch.inference_mode()
    def _advance(self) -> list[tuple[int, RegionOutput]]:
        complete: list[tuple[int, RegionOutput]] = []
        if self._groups and (self._groups[0].marks.reached or not len(self._slots)):
            complete += self._settle(self._groups.popleft())
        if len(self._slots):
            self._slots.step()
            self._steps += 1
            complete += self._collect()
        return complete

    def _settle(self, group: _Group) -> list[tuple[int, RegionOutput]]:
        """Make outputs of a group's scores, waiting for them, and begin its captions."""
        group.marks.wait()
        with self._side.entered():
            group.new.keep()
        self._side.hand_over(group.representation)
        began = time.perf_counter()
        self._fill(group)
        joined = [each for each in dict.fromkeys(one.of for one in group.inputs) if each.ticket in self._here]
        for each in joined:
            each.began = time.perf_counter()
            each.times_ms = stage_times(group.marks.parts_ms() | {"identify": (each.began - began) * 1e3})
        self._write(group)
        return [self._leave(each) for each in joined if not each.writing]

    def _fill(self, group: _Group) -> None:
        """All outputs but captions."""
        logits = {name: dict(zip(rows, values.numpy(), strict=True)) for name, (rows, values) in group.logits.items()}
        given = [each.given for each in group.inputs]
        identities = identify_by(
            self._loaded, lambda rows: [logits[CATEGORIES.name][row] for row in rows], given, self._cache
        )
        for each, identity, words in zip(group.inputs, identities, group.words.take(), strict=True):
            each.outputs.identity, each.outputs.asked = identity, words
        if group.prompts is not None:
            for row, prompts in zip(group.prompts[0], group.prompts[1].numpy(), strict=True):
                group.inputs[row].outputs.prompts = prompts
        for task in RUN_ORDER:
            rows = [row for row, each in enumerate(group.inputs) if each.wants(task.name)]
            if isinstance(task, CaptionTask) or not rows:
                continue
            if isinstance(task, LabelTask):
                scores = logits[task.name]
                found: Sequence[Any] = [task.naming(self._loaded, scores[row], identities[row]) for row in rows]
            else:
                found = task.run(self._loaded, group.batch(self._loaded, rows, task.needs))
            for row, output in zip(rows, found, strict=True):
                group.inputs[row].outputs[task.name] = output

    def _write(self, group: _Group) -> None:
        """Begin the captions that are wanted."""
        wanting = [row for row, each in enumerate(group.inputs) if each.wants(CAPTION.name)]
        rows = [row for row in wanting if group.inputs[row].of.ticket in self._here]
        own = [row for row in rows if group.inputs[row].given.writing.has_own_search]
        if own:
            self._write_apart(group, own)
            rows = [row for row in rows if row not in own]
        if not rows:
            return
        batch = group.batch(self._loaded, rows, CAPTION.needs)
        ids, mask = CAPTION.control_tokens(self._loaded, batch)
        prompt = self._loaded.network.language.encode_prompt(batch.representation, ids, mask, self._slots)
        for row, handle in zip(rows, self._slots.insert(prompt), strict=True):
            self._writing[handle] = group.inputs[row]
            group.inputs[row].of.writing += 1
        self._last_step = self._steps + self._slots.settings.max_new_tokens

    def _write_apart(self, group: _Group, rows: Sequence[int]) -> None:
        """Write captions whose search is not that of the slots, as a batch of their own. The others wait for it."""
        began = time.perf_counter()
        for row, caption in zip(
            rows, CAPTION.run(self._loaded, group.batch(self._loaded, rows, CAPTION.needs)), strict=True
        ):
            group.inputs[row].outputs[CAPTION.name] = caption
        for row in rows:
            group.inputs[row].of.times_ms[CAPTION.stage] = (time.perf_counter() - began) * 1e3

    def _collect(self) -> list[tuple[int, RegionOutput]]:
        """Take captions that have ended out of the slots."""
        # Once the newest caption has reached its last token there is nothing to do meanwhile.
        found = self._slots.finished(wait=self._steps >= self._last_step)
        if not found:
            return []
        self._slots.remove([each.handle for each in found])
        complete = []
        captions = CAPTION.outputs(self._loaded.network.language.generated(found))
        for ended, caption in zip(found, captions, strict=True):
            each = self._writing.pop(ended.handle)
            each.outputs[CAPTION.name] = caption
            each.of.times_ms[CAPTION.stage] = (time.perf_counter() - each.of.began) * 1e3
            each.of.writing -= 1
            if not each.of.writing:
                complete.append(self._leave(each.of))
        return complete

    def _leave(self, joined: _Joined) -> tuple[int, RegionOutput]:
        del self._here[joined.ticket]
        return joined.ticket, RegionOutput(joined.outputs, joined.times_ms)

    def _clear(self) -> None:
        for group in self._groups:
            group.marks.wait()  # what is being replayed may not run beside a whole batch
        self._here.clear()
        self._groups.clear()
        self._writing.clear()
        self._slots.clear()
