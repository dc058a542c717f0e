"""The data of one run: annotation files read, batches counted, digests taken."""

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
from dynrefer.workbench.data.region_table import read_regions
from dynrefer.workbench.errors import SettingError
from dynrefer.workbench.training.initial_model import InitialModel
from dynrefer.workbench.training.run_settings import TrainingSettings
from dynrefer.workbench.training.samples import EpochBatches, FixedBatches, Position, RegionSamples, SampleOptions

_BLOCK = 1 << 20
_FIXED = ("train", "captions", "vocabulary")  # files with which a run must go on as it began


@dataclass(frozen=True)
class TrainingData:
    """train: batches over all epochs. steps_per_epoch: optimiser steps. val, val_batches: the same every time.

    tallies: of training and, where there is one, of validation. digests: setting -> SHA-256 of what it names; what a
    resumed run may change is not among them.
    """

    train_samples: RegionSamples
    train: EpochBatches
    steps_per_epoch: int
    val: FixedBatches | None
    val_batches: int
    tallies: tuple[BadSampleReport, ...]
    digests: dict[str, str]


def read_data(
    settings: TrainingSettings, start: InitialModel, accelerator: Accelerator, tallies: list[BadSampleReport]
) -> TrainingData:  # fmt: skip
    """Read what the settings name; the bad samples of each file go to the end of `tallies` before they are judged.

    Raises `DataError`, `TooManyBadSamplesError`, and `SettingError` where there are fewer samples than one step
    needs.
    """
    world, finder = accelerator.num_processes, _finder(settings, start)
    samples = _samples(settings, start, finder, tallies, validation=False)
    position = Position(settings.seed, settings.batch_size, accelerator.process_index, world)
    joined = settings.batch_size * world
    steps = len(samples) // (joined * settings.accumulate)
    if not steps:
        raise SettingError(
            f"one step needs {joined * settings.accumulate} regions (--batch-size x --accumulate x processes) but "
            f"{settings.train} has {len(samples)}; lower --batch-size."
        )
    train = EpochBatches(samples, position, steps * settings.accumulate)
    digests = {name: _digest(path) for name in _FIXED if (path := getattr(settings, name)) is not None}
    digests["init"] = _start_digest(start)
    if settings.val is None:
        return TrainingData(samples, train, steps, None, 0, tuple(tallies), digests)
    val_samples = _samples(settings, start, finder, tallies, validation=True)
    each = min(settings.batch_size, len(val_samples) // world)
    if not each:
        raise SettingError(f"--val {settings.val} has {len(val_samples)} regions for {world} processes; give it more.")
    val = FixedBatches(val_samples, Position(settings.seed, each, accelerator.process_index, world))
    val_batches = max(1, min(settings.val_limit, len(val_samples)) // (each * world))
    return TrainingData(samples, train, steps, val, val_batches, tuple(tallies), digests)


def _samples(
    settings: TrainingSettings,
    start: InitialModel,
    finder: PhraseFinder,
    tallies: list[BadSampleReport],
    *,
    validation: bool,
) -> RegionSamples:
    config, vocabulary = start.network.config, start.vocabulary
    file, images, captions = settings.train, settings.images, settings.captions
    if validation:
        assert settings.val is not None
        file, images, captions = settings.val, settings.val_images or settings.images, settings.val_captions
    box_format = None if settings.box_format == "auto" else BoxFormat(settings.box_format)
    regions, tally = read_regions(AnnotationSource(file, images, captions, box_format), vocabulary)
    tallies.append(tally)
    tally.check()
    options = SampleOptions(
        seed=settings.seed,
        view_size=config.view_size,
        num_views=config.num_views,
        num_tags=len(vocabulary.tags),
        max_language_tokens=config.max_control_tokens,
        max_text_tokens=config.text_config.max_position_embeddings,
    )
    tokenizers = (start.text_tokenizer, start.language_tokenizer)
    return RegionSamples(regions, tokenizers, finder, vocabulary.tags, options)


def _finder(settings: TrainingSettings, start: InitialModel) -> PhraseFinder:
    return VocabularyWords(start.vocabulary) if settings.controls == "vocabulary" else PartOfSpeech()


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _start_digest(start: InitialModel) -> str:
    """Of the revision, which is a digest of all weights wherever `dynrefer` wrote them, and, for what others wrote, of
    the beginning of each file of weights; and of the words. Gigabytes are not read."""
    digest = hashlib.sha256(start.network.config.revision.encode())
    for path in (start.directory / VOCABULARY_FILE, *sorted(start.directory.glob("*.safetensors"))):
        with path.open("rb") as file:
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()
