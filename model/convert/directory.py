"""The conversion itself: files in, a model directory out, which is written completely or not at all."""

from __future__ import annotations

import json
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dynrefer.model.convert.assets import (
    PRESET,
    hugging_face_directory,
    language_tokenizer,
    read_config,
    read_translations,
    read_vocabulary,
    text_tokenizer,
)
from dynrefer.model.convert.lora import merge_adapter
from dynrefer.model.convert.plan import ConversionPlan, plan_conversion
from dynrefer.model.convert.random_init import random_weights
from dynrefer.model.convert.weight_files import WeightFile, open_directory, open_weights, write_shards
from dynrefer.model.errors import ConversionError
from dynrefer.model.vocabulary import TextEmbeddings, Vocabulary, embed_texts

if TYPE_CHECKING:
    from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerBase

    from dynrefer.model.networks.dynrefer.config import DynReferConfig

Progress = Callable[[int, int], None]
REPORT_FILE = "conversion.json"


@dataclass(frozen=True)
class Conversion:
    """A finished conversion. out: the directory. revision: digest of the weights."""

    out: Path
    revision: str
    plan: ConversionPlan


def convert(
    out: Path,
    weights: Sequence[Path],
    *,
    base: str | None = None,
    text_tower: Path | None = None,
    language: str | None = None,
    official: Path | None = None,
    config: Path | None = None,
    for_training: bool = False,
    preset: str = PRESET,
    lora: Path | None = None,
    progress: Progress | None = None,
) -> Conversion:
    """Convert official weights to a model directory.

    weights: official files; base: BLIP-2, language: Flan-T5 or Vicuna, as a directory or a Hugging Face name;
    text_tower: the EVA-CLIP file. Where two hold the same tensor, the later of base, language, text_tower, weights
    wins. official: the user's copy of the official repository. preset, config: see `read_config`. for_training: what
    BLIP-2 lacks is initialised randomly where no file holds it. lora: an adapter of the language model, which is merged
    into it (see `merge_adapter`). progress: called with (done, all) tensors. Tensors keep their stored
    dtype.

    Raises `ConversionError` or `ConfigError`, and then leaves `out` as it was.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConversionError(f"{out} exists and is not an empty directory; choose another --out.")
    if official is None:
        raise ConversionError(
            "vocabulary files and byte-pair table are missing: give the official repository with --official."
        )
    settings = read_config(config, preset)
    folders = [hugging_face_directory(name) for name in (base, language) if name is not None]
    vocabulary, texts = read_vocabulary(official), text_tokenizer(official, settings)
    translations = read_translations(official, vocabulary)
    captions = language_tokenizer(folders[::-1], settings)
    paths = [*([text_tower] if text_tower else []), *weights]
    files = [file for folder in folders for file in open_directory(folder)] + [open_weights(path) for path in paths]
    plan = plan_conversion(files, settings, random_weights(settings) if for_training else None)
    if lora is not None:
        plan = replace(plan, merged=merge_adapter(lora, plan, settings))
    with _written_completely(out) as folder:
        revision = _write_weights(folder, plan, progress)
        embeddings = _embed(plan, settings, texts, vocabulary)
        _describe(settings, files, revision, plan, lora)
        settings.save_pretrained(folder)
        texts.save_pretrained(folder / "text_tokenizer")
        captions.save_pretrained(folder / "language_tokenizer")
        vocabulary.save(folder)
        translations.save(folder)
        embeddings.save(folder)
        (folder / REPORT_FILE).write_text(_report(plan), encoding="utf-8")
        (folder / "README.md").write_text(_card(settings, plan, vocabulary, files), encoding="utf-8")
    return Conversion(out, revision, plan)


@contextmanager
def _written_completely(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place at the end, or is removed if something goes wrong."""
    folder = out.parent / f".{out.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        folder.mkdir(parents=True)
        yield folder
        folder.replace(out)
    except OSError as error:
        raise ConversionError(f"cannot write {out}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_weights(folder: Path, plan: ConversionPlan, progress: Progress | None) -> str:
    def names() -> Iterator[str]:
        for done, name in enumerate(plan.shapes, start=1):
            yield name
            if progress is not None:
                progress(done, len(plan.shapes))

    return write_shards(folder, names(), plan.assemble)


def _embed(
    plan: ConversionPlan, config: DynReferConfig, tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary
) -> TextEmbeddings:
    """The vocabulary's embeddings, by the text tower alone: the whole network need not fit into memory."""
    tower = _text_tower(plan, config)
    return TextEmbeddings(
        tags=embed_texts(tower, tokenizer, vocabulary.tags),
        attributes=embed_texts(tower, tokenizer, vocabulary.attribute_prompts),
        categories=embed_texts(tower, tokenizer, vocabulary.category_prompts),
    )


def _text_tower(plan: ConversionPlan, config: DynReferConfig) -> CLIPTextModelWithProjection:
    from transformers import CLIPTextModelWithProjection

    tower: CLIPTextModelWithProjection = CLIPTextModelWithProjection(config.text_config)
    state = {name: plan.assemble(f"text.{name}").float() for name in tower.state_dict()}
    tower.load_state_dict(state)
    tower.train(False)
    return tower


def _describe(
    config: DynReferConfig, files: Sequence[WeightFile], revision: str, plan: ConversionPlan, lora: Path | None
) -> None:
    """Fill in the model card, as far as it is known: which data a file was trained on, only its authors know."""
    names = ", ".join(dict.fromkeys(file.path.name for file in files))
    config.revision = revision
    config.trained_on = f"converted from {names}; official DynRefer: Visual Genome v1.2, then RefCOCOg where so named"
    if plan.random:
        config.trained_on = f"converted from {names}; its decoders are untrained: a start for dynrefer train, no model"
    if lora is not None:
        config.trained_on += f"; the LoRA adapter {lora.resolve().name} is merged into the language model"
    config.dtype = "float32"  # what `from_pretrained` takes by default
    config.intended_use = "describing regions of photographs, in English"


def _report(plan: ConversionPlan) -> str:
    used = {
        name: [f"{source.file.path.name}: {source.key}" for source in sources] for name, sources in plan.sources.items()
    }
    dropped = [{"file": Path(file).name, "key": key, "reason": why} for (file, key), why in plan.dropped.items()]
    new = {"fresh": sorted(plan.random), "merged": sorted(plan.merged)}
    return json.dumps({"used": used, "dropped": dropped, **new}, indent=1) + "\n"


def _card(config: DynReferConfig, plan: ConversionPlan, vocabulary: Vocabulary, files: Sequence[WeightFile]) -> str:
    sources = "\n".join(f"- `{name}`" for name in dict.fromkeys(file.path.name for file in files))
    reasons = "\n".join(
        f"- {count} tensors: {reason}" for reason, count in sorted(Counter(plan.dropped.values()).items())
    )
    sizes = (
        f"{len(vocabulary.tags):,} tags, {len(vocabulary.attributes)} attributes, "
        f"{len(vocabulary.categories)} categories"
    )
    return f"""# {config.name}, revision {config.revision}

DynRefer ({plan.parameters:,} parameters), converted from official weights by `dynrefer convert`.

**Trained on** {config.trained_on}.

**Intended use** {config.intended_use}.

**Vocabulary** {sizes}.

**Sources**, later ones replacing earlier ones:

{sources}

**Left out** (every name is in `{REPORT_FILE}`):

{reasons or "- nothing"}

**Licence** that of the sources; this project ships none of them.
"""
