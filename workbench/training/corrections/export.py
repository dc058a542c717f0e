"""A tuned network -> a model directory: all of the model that it came from, but for what was tuned."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dynrefer.model.convert.weight_files import open_weights, write_shards
from dynrefer.model.model_files import read_json_object
from dynrefer.model.vocabulary import PromptTemplates, TextEmbeddings, Vocabulary, embed_texts
from dynrefer.workbench.errors import TrainingError
from dynrefer.workbench.training.initial_model import InitialModel

_WEIGHTS = "model*.safetensors*"  # with the index of shards


@dataclass(frozen=True)
class TunedFacts:
    """What a tuned model's card states. corrections: regions that were learned from. added: words that are new."""

    corrections: int
    steps: int
    what: tuple[str, ...]
    added: tuple[str, ...]


def enlarged_embeddings(initial: InitialModel, vocabulary: Vocabulary) -> TextEmbeddings:
    """The embeddings of the model's own words as they are, followed by those of the words that were added."""
    network, before = initial.network, initial.vocabulary
    prompts = PromptTemplates.from_mapping(network.config.prompts)
    new = {
        "tags": [prompts.tag_text(word) for word in vocabulary.tags[len(before.tags) :]],
        "attributes": [
            text for each in vocabulary.attributes[len(before.attributes) :] for text in prompts.attribute(each)
        ],
        "categories": [prompts.category_text(word) for word in vocabulary.categories[len(before.categories) :]],
    }
    parts: dict[str, Tensor] = {}
    for name, texts in new.items():
        own: Tensor = getattr(initial.texts, name)
        added = embed_texts(network.text, initial.text_tokenizer, texts)
        parts[name] = torch.cat((own, added.to(own))) if texts else own
    return TextEmbeddings(**parts)


def export_tuned(
    initial: InitialModel, vocabulary: Vocabulary, texts: TextEmbeddings, changed: Collection[str],
    facts: TunedFacts, out: Path,
) -> str:  # fmt: skip
    """Write the model directory `out`, which does not exist, and return its revision.

    initial: whose network was tuned. changed: names of the weights that are new; they keep the type that they are
    stored in, and all others every bit. Calibration and thresholds are those of before, for `calibration.py` to fit.
    Raises `TrainingError` if it cannot be written.
    """
    try:
        shutil.copytree(initial.directory, out, ignore=shutil.ignore_patterns(_WEIGHTS), copy_function=shutil.copyfile)
        revision = _write_weights(initial, set(changed), out)
        if vocabulary != initial.vocabulary:
            vocabulary.save(out)
            texts.save(out)
        _write_config(initial, facts, revision, out)
        _write_card(initial, facts, revision, out)
    except OSError as error:
        raise TrainingError(f"cannot write {out}: {error.strerror or error}.") from error
    return revision


def _write_weights(initial: InitialModel, changed: set[str], out: Path) -> str:
    files = [open_weights(path) for path in sorted(initial.directory.glob("model*.safetensors"))]
    stored = {name: file for file in files for name in file.shapes}
    if missing := changed - set(stored):
        raise TrainingError(f"{sorted(missing)[0]} was tuned, but the model's files hold no such weight.")
    weights = initial.network.state_dict()

    def assemble(name: str) -> Tensor:
        before = stored[name].read(name)
        return weights[name].detach().cpu().to(before.dtype) if name in changed else before

    return write_shards(out, stored, assemble)


def _write_config(initial: InitialModel, facts: TunedFacts, revision: str, out: Path) -> None:
    config = read_json_object(initial.directory / "config.json", "configuration")
    before = initial.network.config
    config["trained_on"] = (
        f"{before.trained_on}; then {facts.corrections:,} corrected regions from revision {before.revision}"
    )
    config["revision"] = revision
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _write_card(initial: InitialModel, facts: TunedFacts, revision: str, out: Path) -> None:
    config = initial.network.config
    parts = {"heads": "the decoders of tags, attributes and categories", "lora": "the language model, by LoRA"}
    tuned = " and ".join(parts[part] for part in facts.what)
    words = f"\n**Words that were added** {', '.join(facts.added)}.\n" if facts.added else ""
    card = initial.directory / "README.md"
    earlier = card.read_text(encoding="utf-8") if card.is_file() else "It had no model card.\n"
    text = f"""# {config.name}, revision {revision}

Tuned on corrections by `dynrefer train --from-corrections` from revision {config.revision}, whose card follows.

**Trained on** {facts.corrections:,} corrected regions, {facts.steps:,} steps: {tuned}.
{words}
**Probabilities** were calibrated again on corrected regions that were neither learned from nor compared on.

{"#" + earlier if earlier.startswith("# ") else earlier}"""
    (out / "README.md").write_text(text, encoding="utf-8")
