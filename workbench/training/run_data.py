"""The data of one run: annotation files read, batches counted, digests computed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from dynrefer.model.geometry import BoxFormat
from dynrefer.model.vocabulary import VOCABULARY_FILE
from dynrefer.workbench.data.annotations import AnnotationSource
from dynrefer.workbench.data.bad_samples import BadSampleReport
from dynrefer.workbench.data.captions import PartOfSpeech, PhraseFinder, VocabularyWords
from dynrefer.workbench.data.frames import Frame
from dynrefer.workbench.data.region_table import read_regions
from dynrefer.workbench.errors import SettingError
from dynrefer.workbench.training.initial_model import InitialModel
from dynrefer.workbench.training.loader import BatchPlan, EpochBatches, FixedBatches
from dynrefer.workbench.training.run_settings import TrainingSettings
from dynrefer.workbench.training.samples import RegionSamples, SampleOptions

_BLOCK = 1 << 20
_FIXED = ("train", "captions", "vocabulary")  # a resumed run must find these files unchanged


@dataclass(frozen=True)
class TrainingData:
    """train: batches over all epochs. steps_per_epoch: optimiser steps. val: the same `val_batches` batches every time.

    reports: of the training data, then of the validation data, if any. digests: setting -> SHA-256 of what it names,
    for the settings that a resumed run may not change.
    """

    train_samples: RegionSamples
    train: EpochBatches
    steps_per_epoch: int
    val: FixedBatches | None
    val_batches: int
    reports: tuple[BadSampleReport, ...]
    digests: dict[str, str]


def read_training_data(
    settings: TrainingSettings, initial: InitialModel, accelerator: Accelerator, reports: list[BadSampleReport]
) -> TrainingData:  # fmt: skip
    """Read the annotation files of the settings. The report of each file is appended to `reports` before it is checked.

    Raises `DataError`, `TooManyBadSamplesError`, and `SettingError` if there are fewer samples than one step needs.
    """
    world, finder = accelerator.num_processes, _finder(settings, initial)
    samples = _samples(settings, initial, finder, reports, validation=False)
    plan = BatchPlan(settings.seed, settings.batch_size, accelerator.process_index, world)
    per_step = settings.batch_size * settings.accumulate * world
    steps = len(samples) // per_step
    if not steps:
        raise SettingError(
            f"one step needs {per_step} regions (--batch-size x --accumulate x processes) but "
            f"{settings.train} has {len(samples)}; lower --batch-size."
        )
    train = EpochBatches(samples, plan, steps * settings.accumulate)
    digests = {name: _digest(path) for name in _FIXED if (path := getattr(settings, name)) is not None}
    digests["init"] = _initial_digest(initial)
    if settings.val is None:
        return TrainingData(samples, train, steps, None, 0, tuple(reports), digests)
    val_samples = _samples(settings, initial, finder, reports, validation=True)
    each = min(settings.batch_size, len(val_samples) // world)
    if not each:
        raise SettingError(f"--val {settings.val} has {len(val_samples)} regions for {world} processes; give it more.")
    val = FixedBatches(val_samples, BatchPlan(settings.seed, each, accelerator.process_index, world))
    val_batches = max(1, min(settings.val_limit, len(val_samples)) // (each * world))
    return TrainingData(samples, train, steps, val, val_batches, tuple(reports), digests)


def _samples(
    settings: TrainingSettings,
    initial: InitialModel,
    finder: PhraseFinder,
    reports: list[BadSampleReport],
    *,
    validation: bool,
) -> RegionSamples:
    config, vocabulary = initial.network.config, initial.vocabulary
    file, images, captions = settings.train, settings.images, settings.captions
    if validation:
        assert settings.val is not None
        file, images, captions = settings.val, settings.val_images or settings.images, settings.val_captions
    box_format = None if settings.box_format == "auto" else BoxFormat(settings.box_format)
    regions, report = read_regions(AnnotationSource(file, images, captions, box_format), vocabulary)
    reports.append(report)
    report.check()
    options = SampleOptions(
        seed=settings.seed,
        view_size=config.view_size,
        num_views=config.num_views,
        num_tags=len(vocabulary.tags),
        max_language_tokens=config.max_control_tokens,
        max_text_tokens=config.text_config.max_position_embeddings,
        frame=Frame(settings.frame),
    )
    tokenizers = (initial.text_tokenizer, initial.language_tokenizer)
    return RegionSamples(regions, tokenizers, finder, vocabulary.tags, options)


def _finder(settings: TrainingSettings, initial: InitialModel) -> PhraseFinder:
    return VocabularyWords(initial.vocabulary) if settings.controls == "vocabulary" else PartOfSpeech()


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _initial_digest(initial: InitialModel) -> str:
    """Digest of the model's revision, its vocabulary and the first MiB of each weight file.

    The revision is a digest of all weights in directories that `dynrefer` wrote; the beginnings are for all others.
    Gigabytes are not read.
    """
    digest = hashlib.sha256(initial.network.config.revision.encode())
    for path in (initial.directory / VOCABULARY_FILE, *sorted(initial.directory.glob("*.safetensors"))):
        with path.open("rb") as file:
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()
