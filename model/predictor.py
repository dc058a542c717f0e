"""The predictor: regions of an image -> descriptions, in three steps, so that CPU work overlaps the device's.

prepare  (CPU, any thread)     boxes -> view plans -> crops (`preparation.py`)
run      (the device thread)   crops -> raw outputs, one batch for regions of any requests (`batch.py`)
finish   (CPU, any thread)     raw outputs -> records
"""

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from dynrefer.model.arguments import box_corners, listed_boxes, prompts_among, region_queries, with_prompts
from dynrefer.model.asked_results import asked_identity, asked_result
from dynrefer.model.asking import Pointing, asked_conversation
from dynrefer.model.batch import BatchResult, RawOutputs, RegionOutput, run_batch
from dynrefer.model.batch_limits import MOST_REGIONS, measured_limits
from dynrefer.model.cache import TEXT_BYTES, CacheStats, FeatureCache
from dynrefer.model.continuous import GROUP_VIEWS, GROUPS, ContinuousDescription
from dynrefer.model.conversation import Conversation, Message, Reply
from dynrefer.model.conversing import NO_CONVERSER, Converser, ConverseTurn, Spoken
from dynrefer.model.described import Descriptions
from dynrefer.model.device_errors import translate_device_errors
from dynrefer.model.device_memory import CudaMemory
from dynrefer.model.errors import (
    ConversationError,
    DeviceError,
    DeviceMemoryError,
    FinderError,
    InvalidQueriesError,
    OutputError,
    PointsError,
)
from dynrefer.model.explaining import Explainer
from dynrefer.model.explanation import Explain
from dynrefer.model.find_names import find_query
from dynrefer.model.finding import (
    NO_FINDER,
    AskedName,
    Candidates,
    Finder,
    FinderInput,
    Findings,
    FindQuery,
    lack_masks,
)
from dynrefer.model.findings import findings, queries_to_look, with_masks
from dynrefer.model.gc_pause import gc_paused
from dynrefer.model.geometry import Box, ImageSize
from dynrefer.model.images import ImageSource, Pixels, upright_pixels
from dynrefer.model.loading import LoadedModel, load_model, model_directory
from dynrefer.model.network_building import TURNS
from dynrefer.model.network_fingerprint import fingerprint
from dynrefer.model.networks.converse.loading import load_converser
from dynrefer.model.networks.finder.loading import load_finder
from dynrefer.model.networks.kernels.graphs import NoGraphs
from dynrefer.model.networks.kernels.streams import current_device
from dynrefer.model.networks.segmenter.loading import load_segmenter
from dynrefer.model.preparation import NO_SEGMENTER, PreparationSpec, PreparedRegion, RegionInput, prepare
from dynrefer.model.preview import Preview
from dynrefer.model.prompts import Prompt
from dynrefer.model.protocol import BatchLimits
from dynrefer.model.request_vocabulary import RequestVocabulary, UnknownWord
from dynrefer.model.segmentation import PointedRegion, Segmenter, WindowMask, region_of
from dynrefer.model.shared_cache import SharedRepresentations, SharedStore
from dynrefer.model.tasks import TASKS, TASKS_BY_NAME
from dynrefer.model.tasks.definition import TaskDefinition
from dynrefer.model.translations import Translator
from dynrefer.model.types import (
    CaptionWriting,
    ModelCard,
    PointPrompt,
    RegionDescription,
    RegionQuery,
    Task,
    ViewPlan,
    ViewPolicy,
)
from dynrefer.model.verification import queries_to_verify, with_verdicts, within_image
from dynrefer.model.views import plan_views

PROMPTS = ("box", "polygon", "mask", "scribble")  # what a region may be given as, for any model

_log = logging.getLogger(__name__)


_SLOTS_ON_CPU = 16
_NOT_FINITE = "the network returned NaN or infinity for this region."
_SAMPLE_REGIONS = 16  # in the batch whose memory is measured: more than are recorded, as that memory is kept


class Batching(Enum):
    """How regions of many requests share the device."""

    AUTO = "auto"
    CONTINUOUS = "continuous"
    WHOLE = "whole"


# The process in which torch runs; None until it does.
_process: int | None = None


def _check_process() -> None:
    """Raises `DeviceError` in a fork of the process in which torch already ran: its threads do not exist here, and
    waiting for them (GNU OpenMP) or a GPU's context would hang without a word."""
    global _process
    _process = _process or os.getpid()
    if _process != os.getpid():
        raise DeviceError(
            "a model was loaded before this process was forked, and cannot run here: load the model after the fork "
            "alone, or start processes with spawn."
        )


class DynRefer:
    """A loaded model. `prepare` and `finish` may be called from any thread, `run` from one at a time.

    card: what a client may know about the model. preparation: how regions are prepared for it.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        cache_bytes: int = 0,
        batching: str = "auto",
        text_cache_bytes: int = TEXT_BYTES,
        segmenter: Segmenter | None = None,
        finder: Finder | None = None,
        converser: Converser | None = None,
        shared_cache: SharedStore | None = None,
    ) -> None:
        """cache_bytes: device memory for view features and representations of earlier batches; 0: none.

        batching: as in `load`. text_cache_bytes: memory for texts of requests, half of it the device's; 0: none.
        segmenter: finds the masks of objects that points lie on. finder: finds regions that nobody has drawn.
        converser: answers questions.
        shared_cache: where representations are shared with other processes. Then a CPU describes a region here.
        """
        self._loaded = loaded
        self._batching = Batching(batching)
        self._shared = None if shared_cache is None else _shared(loaded, shared_cache)
        self._cache = FeatureCache(cache_bytes, text_cache_bytes, self._shared)
        self._segmenter = segmenter
        self.segmentation = None if segmenter is None else segmenter.spec
        self._finder = finder
        self.finding = None if finder is None else finder.spec
        self._converser = converser
        self.conversing = None if converser is None else converser.spec
        self.card = _card(
            loaded, points=segmenter is not None, detection=finder is not None, conversation=converser is not None
        )
        evidence = loaded.evidence is not None
        self.preparation = PreparationSpec(self.card.num_views, self.card.view_size, self.card.task_priors, evidence)

    @classmethod
    def load(
        cls,
        model: str | Path = "embedded",
        *,
        device: str = "auto",
        dtype: str = "auto",
        cache_bytes: int = 0,
        cpu_kernels: str = "auto",
        cuda_graphs: bool = True,
        batching: str = "auto",
        text_cache_bytes: int = TEXT_BYTES,
        segmenter: str | Path = "embedded",
        finder: str | Path = "embedded",
        converser: str | Path = "embedded",
        shared_cache: SharedStore | None = None,
    ) -> Self:
        """Load "embedded" or a model directory.

        device: auto, cpu, cuda, cuda:N. dtype: auto, float32, bfloat16. cache_bytes, text_cache_bytes: as in the
        constructor.
        cpu_kernels: library for linear layers on a CPU: auto (by processor and size), onednn, torch.
        cuda_graphs: whether a GPU replays recorded work.
        batching: what `continuous` returns: auto (a batch on a GPU), continuous (a batch), whole (None).
        segmenter: what finds objects that points lie on: embedded (the model's own, where it has one), none, or a
        local directory with a SAM 2 of transformers.
        finder: what finds regions that nobody has drawn: embedded (the model's own, where it has one), none, or a local
        directory with a released finder of transformers.
        converser: what answers questions: embedded (the model's own, where it has one), none, or a local directory with
        a Qwen3-VL of transformers.
        shared_cache: a store outside of this process in which region representations are looked up, and put. What is
        found is to the last bit what would be computed, where the model is batch invariant; see `shared_cache.py`.
        Raises as `loading.load_model` does, ValueError for another word for batching, `DeviceMemoryError`, and
        `DeviceError` too in a process that was forked from one that had loaded a model.
        """
        _check_process()
        Batching(batching)  # a wrong word is said before the model is read
        with gc_paused():
            loaded = translate_device_errors(
                lambda: load_model(model, device=device, dtype=dtype, cpu_kernels=cpu_kernels, cuda_graphs=cuda_graphs)
            )
            found = load_segmenter(str(segmenter), model_directory(model), loaded.device)
            finds = load_finder(str(finder), model_directory(model), loaded)
            answers = load_converser(str(converser), model_directory(model), loaded)
            return cls(
                loaded,
                cache_bytes=cache_bytes,
                batching=batching,
                text_cache_bytes=text_cache_bytes,
                segmenter=found,
                finder=finds,
                converser=answers,
                shared_cache=shared_cache,
            )

    @property
    def cache_stats(self) -> dict[str, CacheStats]:
        """Statistics of the caches: "views" (features), "regions" (representations), "texts" (embeddings of requests'
        texts), "vocabularies" (whole lists of them, as a decoder takes them) and "shared" (what other processes
        computed of regions that are not cached here)."""
        own = {name: getattr(self._cache, name).stats for name in ("views", "regions", "texts", "vocabularies")}
        return own | {"shared": CacheStats() if self._shared is None else self._shared.stats}

    def describe(
        self,
        image: ImageSource,
        boxes: Iterable[Sequence[float] | Prompt] = (),
        task: Task | str | Iterable[Task | str] | None = None,
        *,
        controls: Sequence[str] = (),
        views: Sequence[float] | None = None,
        top_k: int = 10,
        thresholds: Mapping[Task, float] | None = None,
        vocabulary: RequestVocabulary | Mapping[str, Any] | str | None = None,
        writing: CaptionWriting | None = None,
        points: Iterable[Iterable[PointPrompt | Sequence[float]]] = (),
        view_policy: ViewPolicy | str | None = None,
        explain: Explain | bool = False,
        highlight: bool = False,
        language: str | None = None,
    ) -> Descriptions:
        """Describe each box of an image, then each object that a group of points lies on.

        image: a file, its bytes, a Pillow image (all turned upright), or (H, W, 3) uint8 RGB. boxes: xyxy pixels of the
        upright image; a `Polygon`, `Scribble`, `RegionMask` or `MaskFile` may stand in the place of a box. task: one,
        several, or None for all with views chosen by the image. points: per region one or more of (x, y),
        (x, y, positive) or `PointPrompt`; its box and `mask` are in the description. highlight: whether all but the
        region's polygon or mask, or what lies at its points, is blanked in every view. vocabulary: your own words, also
        as a mapping: {"categories": ["dog", "fox"], "attributes": ["color:brown/tan"]}, or the name of one that
        ships: "coco". language: in which names of tags, attributes and categories are written, where the vocabulary
        has them, such as "de". The rest as in `RegionQuery`.
        Raises `QueryError` (with `index`) for an invalid box or invalid views, and for an argument of another type,
        `ImageError` for a file that is not an image or is damaged, OSError for one that cannot be opened, ValueError
        for an unknown task or view policy, `DeviceError` in a process that was forked from the one that loaded the
        model.
        """
        listed = listed_boxes(boxes)
        queries = region_queries(
            listed,
            task,
            controls,
            views,
            top_k,
            thresholds,
            vocabulary,
            writing,
            points,
            view_policy,
            explain,
            highlight=highlight,
        )
        pixels = upright_pixels(image)
        prompts = prompts_among(listed)
        queries = with_prompts(queries, prompts, (pixels.shape[1], pixels.shape[0]))
        regions = self.prepare(pixels, self.with_masks(pixels, queries))
        outputs = self.run(regions) if regions else []
        found = [self.finish(region, output) for region, output in zip(regions, outputs, strict=True)]
        if language is not None and queries:
            translator = Translator((language,), queries[0].vocabulary, self.card.translations, queries[0].tasks)
            found = [translator.described(each) for each in found]
        return Descriptions(found, Preview.of(image, (pixels.shape[1], pixels.shape[0])), prompts)

    def with_masks(self, image: Pixels, queries: Sequence[RegionQuery]) -> list[RegionQuery]:
        """The queries, those with points with the boxes and masks of the objects that these lie on.

        image: (H, W, 3) uint8 upright RGB. Raises `PointsError`, with its `index`, for points outside the image, and
        without a segmenter.
        """
        found = list(queries)
        places = [place for place, query in enumerate(found) if query.points]
        if not places or self.segmentation is None:
            return found  # `prepare` says what is wrong with points
        size = (image.shape[1], image.shape[0])
        pointed = [found[place] for place in places]
        if errors := self.segmentation.invalid(pointed, size):
            for error in errors:
                error.index = None if error.index is None else places[error.index]
            raise InvalidQueriesError.one_or_all(errors)
        masks = self.segment(list(self.segmentation.prepare_each(image, pointed)))
        for place, mask in zip(places, masks, strict=True):
            box, region = region_of(mask, found[place].points, size)
            found[place] = replace(found[place], box=box, mask=region)
        return found

    def detect(
        self,
        image: ImageSource,
        names: Iterable[AskedName | Mapping[str, Any] | str] = (),
        phrase: str | None = None,
        *,
        threshold: float | None = None,
        nms: float = 0.5,
        max_regions: int = 50,
        masks: bool = False,
        describe: Task | str | Iterable[Task | str] | None = None,
    ) -> Findings:
        """Find regions of an image: of these names, or of the noun phrases of a sentence, or with neither all objects.

        image: as in `describe`. names: words, `AskedName` or {"name", "synonyms", "not"}. The rest as in `FindQuery`.
        describe: tasks by which what is found is described too.
        Raises `ValueError` for names and phrase together or numbers out of range, `FinderError` without a finder, and
        as `describe` does.
        """
        query = find_query(names, phrase, threshold, nms, max_regions, masks=masks)
        tasks = (
            None if describe is None else region_queries([(0.0, 0.0, 1.0, 1.0)], describe, (), None, 10, None)[0].tasks
        )
        if self.finding is None:
            raise FinderError(NO_FINDER)
        pixels = upright_pixels(image)
        size = (pixels.shape[1], pixels.shape[0])
        if errors := self.finding.invalid([query], size):
            raise errors[0]
        found = self.find(list(self.finding.prepare_each(pixels, [query])))[0]
        looked = self._described(pixels, self.look_again(query, found))
        findings = self.findings(query, found, looked, size)
        if lack_masks(findings, query) and self.segmentation is not None:
            boxes = [RegionQuery(box=each.box) for each in findings.regions]
            found_masks = self.segment(list(self.segmentation.prepare_each(pixels, boxes)))
            findings = with_masks(findings, found_masks, size)
        findings = replace(findings, preview=Preview.of(image, size))
        if describe is None:
            return findings
        described = self._described(pixels, [RegionQuery(box=each.box, tasks=tasks) for each in findings.regions])
        regions = (replace(each, description=of) for each, of in zip(findings.regions, described, strict=True))
        return replace(findings, regions=tuple(regions))

    def ask(
        self,
        image: ImageSource,
        question: str | Sequence[Message | Mapping[str, str]],
        regions: Mapping[str, Pointing] | None = None,
        *,
        ground: bool = True,
        answers: Sequence[str] = (),
        max_tokens: int = 64,
        verify: bool = True,
    ) -> Reply:
        """Answer a question about an image and its regions.

        image: as in `describe`. question: a text, or the messages of a conversation so far, the last one the user's;
        in it `<region:NAME>` stands for a region. regions: by name, a box, a prompt as in `describe`, or points.
        ground: whether objects that the answer names are to have boxes. answers: the only ones allowed. max_tokens:
        of the answer. verify: whether the region model looks at the answer's boxes.
        Raises `ConversationError` without a converser and for what is wrong with the messages, and as `describe` does.
        """
        if self.conversing is None:
            raise ConversationError(NO_CONVERSER)
        pixels = upright_pixels(image)
        size = (pixels.shape[1], pixels.shape[0])
        given = asked_conversation(question, regions or {}, size, ground=ground, answers=answers, max_tokens=max_tokens)
        asked = self._pointed_at(pixels, given)
        if errors := self.conversing.invalid([asked], size):
            raise errors[0]
        (turn,) = self.conversing.prepare_each(pixels, [asked])
        (spoken,) = self.converse([turn])
        while not spoken.done:
            turn = turn.after(spoken)
            (spoken,) = self.converse([turn])
        reply = within_image(spoken.reply, size)
        looks = queries_to_verify(reply) if verify else []
        return with_verdicts(reply, self._described(pixels, looks)) if looks else reply

    def _pointed_at(self, pixels: Pixels, asked: Conversation) -> Conversation:
        """The conversation, each of its regions with the box and mask of what it was pointed at with."""
        queries = self.with_masks(pixels, [each.query for each in asked.regions])
        regions = (replace(each, query=query) for each, query in zip(asked.regions, queries, strict=True))
        return replace(asked, regions=tuple(regions))

    def _described(self, pixels: Pixels, queries: Sequence[RegionQuery]) -> list[RegionDescription]:
        regions = self.prepare(pixels, queries) if queries else []
        outputs = self.run(regions) if regions else []
        return [self.finish(region, output) for region, output in zip(regions, outputs, strict=True)]

    def find(
        self, images: Sequence[FinderInput], should_stop: Callable[[], bool] | None = None
    ) -> Sequence[Candidates]:
        """See `Predictor`."""
        _check_process()
        if self._finder is None:
            raise FinderError(NO_FINDER)
        finder = self._finder
        with TURNS.computing():
            return translate_device_errors(lambda: finder.find(images, should_stop or (lambda: False)))

    def converse(
        self, turns: Sequence[ConverseTurn], should_stop: Callable[[], bool] | None = None
    ) -> Sequence[Spoken]:
        """See `Predictor`. Raises `ConversationError` without a converser."""
        _check_process()
        if self._converser is None:
            raise ConversationError(NO_CONVERSER)
        converser = self._converser
        with current_device(self._loaded.device), TURNS.computing():
            return translate_device_errors(lambda: converser.converse(turns, should_stop or (lambda: False)))

    def look_again(self, query: FindQuery, found: Candidates) -> list[RegionQuery]:
        """See `Predictor`."""
        return queries_to_look(query, found)

    def findings(
        self, query: FindQuery, found: Candidates, looked: Sequence[RegionDescription], size: ImageSize
    ) -> Findings:
        """See `Predictor`."""
        return findings(query, found, looked, size, self._parents_of)

    def _parents_of(self, category: str) -> tuple[str, ...]:
        """Broader words, nearest first, where the model has evidence."""
        evidence = self._loaded.evidence
        return () if evidence is None else evidence.names.parents_of(category)

    def plan_views(
        self, image: Pixels, box: Sequence[float], task: Task | str | None = None, views: Sequence[float] | None = None
    ) -> ViewPlan:
        """The views that `describe` would look at; image: (H, W, 3) uint8 upright RGB."""
        spec = self.preparation
        prior = None if task is None else spec.task_priors[Task(task)]
        return plan_views(image, Box(*box_corners(box)), num_views=spec.num_views, task_prior=prior, views=views)

    def prepare(self, image: Pixels, queries: Sequence[RegionQuery]) -> list[PreparedRegion]:
        """`preparation.prepare` for this model."""
        return prepare(image, queries, self.preparation)

    @property
    def cuda_graphs(self) -> Mapping[str, int]:
        """See `Predictor`."""
        return self._loaded.graphs.counts

    def understand(self, vocabulary: RequestVocabulary) -> None:
        """See `Predictor`."""
        self._loaded.asked_words.of(vocabulary)

    def batch_limits(self) -> BatchLimits | None:
        """See `Predictor`. Runs a batch on a GPU."""
        if self._loaded.device.type != "cuda":
            return None
        side = self.card.view_size
        image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
        boxes = [(0.0, 0.0, side / (i + 2), side / (i + 2)) for i in range(_SAMPLE_REGIONS)]
        regions = self.prepare(image, [RegionQuery(box=box) for box in boxes])
        views = max(region.num_views for region in regions)
        # What is found elsewhere takes no memory here.
        with nullcontext() if self._shared is None else self._shared.unasked():
            found = measured_limits(CudaMemory(self._loaded.device), lambda: self.run(regions), len(regions), views)
        slots = self._loaded.slots
        if self._batching is Batching.WHOLE or slots is None or found.regions < MOST_REGIONS:
            return found
        # Those whose captions are written, and those whose views are computed meanwhile.
        return BatchLimits(found.regions + GROUPS * GROUP_VIEWS // views, found.views)

    def continuous(self) -> ContinuousDescription | None:
        """See `Predictor`. What it runs and what `run` runs do not overlap."""
        device = self._loaded.device.type
        if self._batching is Batching.WHOLE or (self._batching is Batching.AUTO and device == "cpu"):
            return None
        slots = self._loaded.slots
        if slots is None:
            if device != "cpu":
                return None  # no memory was left for them
            slots = self._loaded.network.language.open_slots(_SLOTS_ON_CPU, NoGraphs())
        if slots is None:
            return None  # its language model decodes whole batches alone
        with current_device(self._loaded.device):
            return ContinuousDescription(self._loaded, self._cache, slots)

    def run(
        self, regions: Sequence[PreparedRegion], should_stop: Callable[[], bool] | None = None
    ) -> list[RegionOutput]:
        """One batch through the network; regions of different requests and tasks may share it.

        should_stop: polled between the parts of the work and between caption tokens; `StoppedError` if it returns true.
        Raises `DeviceMemoryError` if the batch does not fit the device even with empty caches, `DeviceLostError` if
        the device can no longer be used, `DeviceError` in a process that was forked after the model was loaded.
        """
        _check_process()
        inputs = [each for region in regions for each in region.inputs]
        try:
            result = self._run_once(inputs, should_stop)
        except DeviceMemoryError:
            if self._shared is not None:
                # What is found elsewhere says nothing of the memory that is left here.
                self._shared.memory_was_short = True
            if not self._cache.clear():
                raise
            result = self._run_once(inputs, should_stop)
        if self._shared is not None:
            self._shared.memory_was_short = False
        rest = iter(result.outputs)
        return [RegionOutput(tuple(itertools.islice(rest, len(r.inputs))), result.timings_ms) for r in regions]

    def segment(
        self, regions: Sequence[PointedRegion], should_stop: Callable[[], bool] = lambda: False
    ) -> list[WindowMask]:
        """See `Predictor`. Raises `PointsError` without a segmenter."""
        _check_process()
        segmenter = self._segmenter
        if segmenter is None:
            raise PointsError(NO_SEGMENTER)
        with current_device(self._loaded.device), TURNS.computing():
            return translate_device_errors(lambda: segmenter.segment(regions, should_stop))

    def _run_once(self, inputs: Sequence[RegionInput], should_stop: Callable[[], bool] | None) -> BatchResult:
        with current_device(self._loaded.device), TURNS.computing():
            return translate_device_errors(lambda: run_batch(self._loaded, inputs, self._cache, should_stop))

    def finish(self, region: PreparedRegion, output: RegionOutput) -> RegionDescription:
        """The records of one region. Raises `OutputError` if the network returned NaN or infinity."""
        for outputs in output.outputs:
            _check_finite(outputs)
        if not all(np.isfinite(values).all() for outputs in output.outputs for values in outputs.asked.values()):
            raise OutputError(_NOT_FINITE)
        identity = output.outputs[0].identity
        if identity is not None:
            _log.debug(
                "region %s taken for a %s (a photograph with probability %.3f) of %r with probability %.3f",
                region.box,
                identity.domain,
                identity.photograph_probability,
                identity.name,
                identity.probability,
            )
        pairs = zip(region.inputs, output.outputs, strict=True)
        answered = [pair for pair in pairs if pair[0].left_out is None]
        found = {task: raw for each, raw in answered for task in each.tasks}
        results: dict[str, Any] = {
            task: self._result(task, found[task], region.query) for task in Task if task in found
        }
        explained = region.query.explain is not None
        return RegionDescription(
            box=region.box,
            clipped=region.clipped,
            plan=answered[0][0].plan if len(answered) == 1 else None,
            plans={task: each.plan for each, _ in answered for task in each.tasks},
            results=results,
            timings_ms={**region.timings_ms, **output.timings_ms},
            domain=None if identity is None else identity.domain,
            unknown_words=self._unknown_words(region.query),
            mask=region.query.mask if region.query.points else None,
            explanation=self._explainer.explain(region, output, results) if explained else None,
        )

    @cached_property
    def _explainer(self) -> Explainer:
        return Explainer(self._loaded, self._result)

    def _unknown_words(self, query: RegionQuery) -> tuple[UnknownWord, ...]:
        return () if query.vocabulary is None else self._loaded.asked_words.unknown(query.vocabulary)

    def _result(self, task: Task, outputs: RawOutputs, query: RegionQuery) -> Any:
        definition, thresholds = TASKS_BY_NAME[task], self._loaded.network.config.thresholds
        # The model's own threshold applies unasked only to tasks that have one by default; for others it is advice.
        default = None if definition.default_threshold is None else thresholds[task]
        threshold, vocabulary, identity = query.thresholds.get(task), query.vocabulary, outputs.identity
        if vocabulary is not None and vocabulary.words(task) is not None:
            asked, found = self._loaded.asked_words.of(vocabulary)[task], (outputs.asked, identity)
            return asked_result(self._loaded, task, asked, found, threshold, default, query.top_k)
        if task is Task.CAPTION:
            identity = asked_identity(self._loaded, vocabulary, identity)
        least = default if threshold is None else threshold
        return definition.finish(self._loaded, outputs[task], identity, least, query.top_k)


def _check_finite(outputs: RawOutputs) -> None:
    """Raises `OutputError` for NaN or infinity: among scores such a number would be dropped silently."""
    for name, output in outputs.items():
        if not TASKS_BY_NAME[name].is_finite(output):
            raise OutputError(_NOT_FINITE)


def _shared(loaded: LoadedModel, store: SharedStore) -> SharedRepresentations:
    config = loaded.network.config
    with current_device(loaded.device), TURNS.computing():
        name = translate_device_errors(lambda: fingerprint(loaded))
    return SharedRepresentations(store, name, (config.num_queries, config.qformer_config.hidden_size))


def _names(task: TaskDefinition[Any, Any], loaded: LoadedModel) -> tuple[str, ...]:
    """Everything that the task can return: what the network scores, then what evidence of photographs adds."""
    more = () if loaded.evidence is None else task.names_of_photographs(loaded.evidence)
    return tuple(dict.fromkeys((*task.names(loaded.vocabulary), *more)))


def _card(loaded: LoadedModel, *, points: bool, detection: bool, conversation: bool) -> ModelCard:
    config = loaded.network.config
    return ModelCard(
        name=config.name,
        revision=config.revision,
        parameters=sum(p.numel() for p in loaded.network.parameters()),
        dtype=str(loaded.dtype).removeprefix("torch."),
        device=str(loaded.device),
        num_views=config.num_views,
        view_size=config.view_size,
        vocabulary={task.name: _names(task, loaded) for task in TASKS if task.scored},
        task_priors={task: tuple(ts) for task, ts in config.task_priors.items()},
        thresholds=dict(config.thresholds),
        trained_on=config.trained_on,
        intended_use=config.intended_use,
        batch_invariant=loaded.batch_invariant,
        prompts=(*PROMPTS, "points") if points else PROMPTS,
        detection=detection,
        conversation=conversation,
        translations=loaded.translations,
        max_caption_tokens=int(config.generation["max_new_tokens"]),
    )
