"""`dynrefer train --from-corrections`, from the folder to the offer: split, tune, calibrate, compare."""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynrefer.model.loading import pick_device
from dynrefer.model.predictor import DynRefer
from dynrefer.model.types import Task
from dynrefer.model.vocabulary import TextEmbeddings, Vocabulary
from dynrefer.workbench.data.atomic import replace_text, write_atomically
from dynrefer.workbench.data.corrections import CorrectedRegions, Correction, Corrections, read_corrections
from dynrefer.workbench.errors import SettingError, TrainingError
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.evaluation.tune import apply_tuning
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.corrections.calibration import recalibrated
from dynrefer.workbench.training.corrections.captioning import CaptionTuning
from dynrefer.workbench.training.corrections.comparison import (
    CORRECTIONS,
    DRAWN,
    Asked,
    Measured,
    measure,
    photographs,
    widened,
)
from dynrefer.workbench.training.corrections.examples import (
    Batches,
    Pool,
    corrected_pool,
    draw_scenes,
    drawn_judged,
    knows_drawn_world,
    rehearsed_pool,
    renamed,
)
from dynrefer.workbench.training.corrections.export import TunedFacts, enlarged_embeddings, export_tuned
from dynrefer.workbench.training.corrections.heads import HeadTuning
from dynrefer.workbench.training.corrections.offer import LEAST_REGIONS, RULE, Verdict, decide
from dynrefer.workbench.training.corrections.representations import represent_regions
from dynrefer.workbench.training.corrections.settings import HEADS, LORA, CorrectionSettings
from dynrefer.workbench.training.corrections.split import Split, split_corrections
from dynrefer.workbench.training.corrections.tuning import Phase, run_phase
from dynrefer.workbench.training.corrections.words import (
    LISTS,
    KnownWords,
    enlarged,
    judge,
    unknown_sentence,
    unknown_words,
)
from dynrefer.workbench.training.initial_model import InitialModel, load_initial_model, merge_lora
from dynrefer.workbench.training.run_directory import MODEL, session_record

SETTINGS, SESSION, COMPARISON, REPRESENTATIONS = "corrections.json", "run.json", "comparison.json", "views.pt"
BENCHMARK_SEED = 5  # of the drawn benchmark's scenes: none of them is a scene of training, rehearsal or calibration
_SCENE_OBJECTS = 5.3  # on average
_REHEARSED, _CALIBRATING = (300, 2_000), 300  # drawn regions: least and most to rehearse, and to calibrate with


@dataclass(frozen=True)
class Outcome:
    """model: the finished directory. verdict, measured: None and empty where nothing was compared."""

    model: Path
    verdict: Verdict | None
    measured: tuple[Measured, ...]


class CorrectionRun:
    """One run: what it reads, and its steps. Sentences about what was left out are added to `told`."""

    def __init__(self, settings: CorrectionSettings, out: Path) -> None:
        """Raises `DataError`, `SettingError` and what loading a model raises, before anything is written."""
        self.settings, self.out, self.told = settings, out, list[str]()
        self.corrections: Corrections = read_corrections(settings.folder)
        self.told += self.corrections.warnings
        self.split: Split = split_corrections(self.corrections.regions, settings.held_out)
        self.initial: InitialModel = load_initial_model(settings.model)
        self.device = pick_device(settings.device)
        self.world = World.load()
        self._check_sizes()
        self.vocabulary = self._words()
        self.known = KnownWords(self.vocabulary)
        self.tasks = self._tasks()

    @property
    def base_revision(self) -> str:
        """Of the model that is tuned."""
        return str(self.initial.network.config.revision)

    @cached_property
    def drawn_world(self) -> bool:
        """Whether drawn scenes can be rehearsed and measured."""
        return knows_drawn_world(KnownWords(self.initial.vocabulary), self.world)

    def _check_sizes(self) -> None:
        told = self.split.sentence()
        if not self.split.training:
            raise SettingError(
                f"there is nothing to learn from in {self.settings.folder} ({told}); correct more images."
            )
        if len(self.split.held_out) < LEAST_REGIONS and not self.settings.without_comparison:
            raise SettingError(
                f"{len(self.split.held_out)} held-out regions are too few to compare models on ({told}); correct more "
                f"images until there are {LEAST_REGIONS}, or train with --without-comparison, after which no switch is "
                "offered."
            )

    def _words(self) -> Vocabulary:
        """The vocabulary of the tuned model, longer than the model's own with `add_words`."""
        known = KnownWords(self.initial.vocabulary)
        if (sentence := unknown_sentence(unknown_words(self.corrections.regions, known))) is None:
            return self.initial.vocabulary
        if not self.settings.add_words:
            self.told.append(
                f"Words that the model does not know were left out (regions): {sentence}. --add-words makes them words "
                "of its vocabulary."
            )
            return self.initial.vocabulary
        larger, left_out = enlarged(self.initial.vocabulary, unknown_words(self.split.training, known))
        if left_out:
            self.told.append(f"Words that were not added: {'; '.join(left_out)}.")
        return larger

    def _tasks(self) -> tuple[Task, ...]:
        """What is tuned: what the flags ask for and the training corrections judge."""
        judged = judge(self.split.training, self.known, self.split.training)
        listed = [task for task in LISTS if len(judged.rows(task))]
        captions = any(each.caption is not None for each in self.split.training)
        found = [*(listed if HEADS in self.settings.what else []), *([Task.CAPTION] * (LORA in self.settings.what))]
        if HEADS in self.settings.what and not listed:
            raise SettingError("no training correction judges a category, tag or attribute that the model knows.")
        if LORA in self.settings.what and not captions:
            raise SettingError("--what lora learns captions, and no training correction has one.")
        if captions and LORA not in self.settings.what:
            self.told.append("Captions of the corrections are not learned; --what lora does that.")
        return tuple(found)

    def train(self) -> Outcome:
        """All steps; what an earlier call in the same `out` has finished is not repeated."""
        self._begin()
        torch.nn.Module.to(self.initial.network, self.device)
        pools = self._pools()
        changed, steps = self._tune(*pools)
        torch.nn.Module.to(self.initial.network, "cpu")
        partial = self.out / f".{MODEL}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        texts = enlarged_embeddings(self.initial, self.vocabulary)
        added = _added(self.initial.vocabulary, self.vocabulary)
        facts = TunedFacts(len(self.split.training), steps, self.settings.what, added)
        export_tuned(self.initial, self.vocabulary, texts, changed, facts, partial)
        self._calibrate(partial)
        model = self.out / MODEL
        shutil.rmtree(model, ignore_errors=True)
        partial.replace(model)
        return self._compare(model)

    def _begin(self) -> None:
        """Write the settings and what was read; a resumed run must read the same."""
        read = {"the corrections": self.corrections.digest, "the model": self.base_revision}
        self.out.mkdir(parents=True, exist_ok=True)
        session = self.out / SESSION
        if session.exists():
            for name, value in json.loads(session.read_text(encoding="utf-8"))["data"].items():
                if read[name] != value:
                    raise TrainingError(
                        f"{name} of the run in {self.out} changed since it began; start a new run with another --out."
                    )
            return
        replace_text(self.out / SETTINGS, json.dumps(self.settings.as_json(), indent=1) + "\n")
        record = session_record(self.settings.seed, 1, str(self.device), read)
        record["split"] = self.split.sentence()
        replace_text(session, json.dumps(record, indent=1) + "\n")

    def _pools(self) -> tuple[Pool, Pool | None]:
        """The regions to learn from; their representations are computed once per run."""
        views, drawn = self._views()
        corrected, told = corrected_pool(self.initial, self.split.training, self.known, views["corrected"])
        if Task.CAPTION in self.tasks:
            self.told += told
            if not len(corrected.captioned):
                raise SettingError("no caption of the training corrections can be taught to this model; see above.")
        if drawn is None:
            return corrected, None
        without = renamed(self.initial, corrected.judged, views["corrected"][:, 0])
        if without:
            self.told.append(f"Not rehearsed, because new words take their place: {', '.join(sorted(without))}.")
        captions = Task.CAPTION.value not in self.settings.expect_change
        return corrected, rehearsed_pool(self.initial, drawn, self.known, without, views["drawn"], captions=captions)

    def _views(self) -> tuple[dict[str, Tensor], RegionSet | None]:
        drawn = self._rehearsal()
        path, network, settings = self.out / REPRESENTATIONS, self.initial.network, self.settings
        if path.exists():
            return torch.load(path, weights_only=True), drawn
        network.train(False)
        learned = CorrectedRegions({}, self.split.training)
        views = {"corrected": represent_regions(network, learned, settings.plans, settings.seed, "corrections")}
        if drawn is not None:
            views["drawn"] = represent_regions(network, drawn, settings.plans, settings.seed, "drawn scenes")
        with write_atomically(path) as temporary:
            torch.save(views, temporary)
        return views, drawn

    def _rehearsal(self) -> RegionSet | None:
        if not self.settings.rehearsal:
            return None
        if not self.drawn_world:
            self.told.append(
                "Nothing is rehearsed: the model's vocabulary is not that of the drawn scenes. What corrections do not "
                "judge is held to what the model said before."
            )
            return None
        least, most = _REHEARSED
        regions = min(max(len(self.split.training), least), most)
        return draw_scenes(math.ceil(regions / _SCENE_OBJECTS), self.settings.seed, 0, _processes(), self.world)

    def _tune(self, corrected: Pool, rehearsed: Pool | None) -> tuple[set[str], int]:
        """Names of the weights that changed, and the steps."""
        settings, network = self.settings, self.initial.network
        batches = Batches(corrected, rehearsed, settings.rehearsal, settings.batch_size, settings.seed, self.initial)
        changed, steps = set[str](), 0
        if HEADS in settings.what:
            texts = enlarged_embeddings(self.initial, self.vocabulary)
            moved = (each.to(self.device) for each in (texts.tags, texts.attributes, texts.categories))
            before = self.initial.vocabulary
            heads = HeadTuning(network, self.vocabulary, TextEmbeddings(*moved), before, self.tasks).to(self.device)
            run_phase(heads, self._phase(HEADS, batches.heads), self.out, self.device, settings.seed)
            heads.blend(settings.blend)
            changed |= {name for name, each in network.named_parameters() if each.requires_grad}
            steps += settings.steps
        if LORA in settings.what:
            torch.manual_seed(settings.seed)
            alpha = settings.lora_alpha or 2.0 * settings.lora_rank
            captions = CaptionTuning(network, settings.lora_rank, alpha).to(self.device)
            run_phase(captions, self._phase(LORA, batches.captions), self.out, self.device, settings.seed)
            changed |= merge_lora(network)
            steps += settings.steps
        network.requires_grad_(False)
        return changed, steps

    def _phase(self, name: str, batch: Any) -> Phase:
        settings = self.settings
        return Phase(name, batch, settings.steps, settings.learning_rate, settings.checkpoint_every)

    def _calibrate(self, directory: Path) -> None:
        """Fit calibration and thresholds on regions that were not learned from, nor are compared on."""
        tasks = [task for task in LISTS if task in self.tasks]
        if not tasks:
            return
        config = self.initial.network.config
        learned = (*self.split.training, *self.split.calibration)
        regions = CorrectedRegions(self.known.names, self.split.calibration)
        sets: list[Any] = [(regions, judge(self.split.calibration, self.known, learned))]
        if self.settings.rehearsal and self.drawn_world:
            scenes = math.ceil(_CALIBRATING / _SCENE_OBJECTS)
            drawn = draw_scenes(scenes, self.settings.seed, 500_000, _processes(), self.world)
            sets.append((_Named(drawn, self.known), drawn_judged(drawn, self.known)))
        fragment = recalibrated(self._load(directory), sets, tasks, config.calibration, config.thresholds)
        apply_tuning(directory, fragment)

    def _load(self, directory: Path) -> DynRefer:
        return DynRefer.load(directory, device=self.settings.device, dtype="float32", finder="none", segmenter="none")

    def _compare(self, model: Path) -> Outcome:
        if self.settings.without_comparison:
            return Outcome(model, None, ())
        before, after = self._load(self.initial.directory), self._load(model)
        names = {
            task: tuple(dict.fromkeys((*self.known.names[task], *before.card.vocabulary[task.value],
                                       *after.card.vocabulary[task.value])))
            for task in LISTS
        }  # fmt: skip
        asked = [self._held_out(names)]
        if self.drawn_world and self.settings.benchmark_regions:
            asked.append(self._benchmark(names))
        measured = [each for some in asked for each in measure(before, after, some)]
        if count := photographs(before, asked[0].regions):
            self.told.append(
                f"{count} of {len(self.split.held_out)} held-out regions are photographs to this model: their names "
                "and colours come from its evidence, which corrections do not tune."
            )
        expected = {Task(name) for name in self.settings.expect_change}
        verdict = decide(measured, self.tasks, expected)
        document = {
            "before": self.base_revision, "after": after.card.revision, "split": self.split.sentence(), "rule": RULE,
            "expected_to_change": sorted(self.settings.expect_change), "offered": verdict.offered,
            "reasons": list(verdict.reasons), "measured": [each.as_json() for each in measured], "told": self.told,
        }  # fmt: skip
        replace_text(self.out / COMPARISON, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        return Outcome(model, verdict, tuple(measured))

    def _held_out(self, names: dict[Task, tuple[str, ...]]) -> Asked:
        some = self.split.held_out
        judged = widened(judge(some, self.known, self.corrections.regions), self.known.names, names)
        captions = tuple(() if each.caption is None else (each.caption.removesuffix("."),) for each in some)
        return Asked(CORRECTIONS, CorrectedRegions(names, some), judged, captions, _images(some))

    def _benchmark(self, names: dict[Task, tuple[str, ...]]) -> Asked:
        drawn = RegionSet.draw(
            self.world, SpritePack.load(), "test", scenes_seed=BENCHMARK_SEED, regions=self.settings.benchmark_regions
        )
        judged = widened(drawn_judged(drawn, self.known), self.known.names, names)
        images = np.repeat(np.arange(len(drawn.scenes)), [len(scene.objects) for scene in drawn.scenes])
        captions = tuple(tuple(each.captions) for each in drawn.objects)
        return Asked(DRAWN, _Named(drawn, self.known, names), judged, captions, images)


class _Named:
    """Drawn regions whose labels are scored by other names, which hold the world's."""

    def __init__(self, drawn: RegionSet, known: KnownWords, names: dict[Task, tuple[str, ...]] | None = None) -> None:
        self.names, self._drawn = dict(known.names if names is None else names), drawn

    def __len__(self) -> int:
        return len(self._drawn)

    def image_regions(self) -> Any:
        """The scenes, each with the boxes of its objects."""
        return self._drawn.image_regions()


def _images(corrections: tuple[Correction, ...]) -> Any:
    places: dict[str, int] = {}
    return np.array([places.setdefault(each.digest, len(places)) for each in corrections], dtype=np.intp)


def _added(before: Vocabulary, after: Vocabulary) -> tuple[str, ...]:
    attributes = [each.name for each in after.attributes[len(before.attributes) :]]
    return (*after.categories[len(before.categories) :], *after.tags[len(before.tags) :], *attributes)


def _processes() -> int:
    return os.cpu_count() or 1
