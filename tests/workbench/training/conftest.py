"""A model of a few thousand weights in a directory, and drawn scenes as a COCO-style data set."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from transformers import AutoTokenizer

from dynrefer.model.geometry import BoxFormat
from dynrefer.model.loading import EMBEDDED
from dynrefer.model.networks.dynrefer.config import preset
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.vocabulary import Vocabulary, embed_vocabulary
from dynrefer.workbench.data.annotations import AnnotationSource
from dynrefer.workbench.data.captions import VocabularyWords
from dynrefer.workbench.data.region_table import RegionTable, read_regions
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import draw_scene
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.scenes.world_vocabulary import world_vocabulary
from dynrefer.workbench.training.initial_model import load_initial_model
from dynrefer.workbench.training.run_settings import TrainingSettings, new_settings
from dynrefer.workbench.training.samples import RegionSamples, SampleOptions, TrainingBatch, UnreadableBatch
from tests.repository import ROOT

SCENES = 6
_DROPOUT = 0.1  # so that a resumed run must find the random state again


@pytest.fixture(autouse=True)
def fresh_process_state() -> None:
    """One thread; and accelerate keeps what the process began with, so each test starts afresh."""
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)


def tiny_config(**changes: Any) -> Any:
    """The embedded preset, scaled down, with dropout wherever a part has it."""
    text = AutoTokenizer.from_pretrained(EMBEDDED / "text_tokenizer")
    language = AutoTokenizer.from_pretrained(EMBEDDED / "language_tokenizer")
    parts: dict[str, Any] = {
        "vision_config": {
            **{"model_type": "resnet", "embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1]},
            "layer_type": "basic",
        },
        "qformer_config": {
            **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
            **{"encoder_hidden_size": 32, "hidden_dropout_prob": _DROPOUT, "attention_probs_dropout_prob": _DROPOUT},
        },
        "text_config": {
            **{"vocab_size": len(text), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
            **{"num_attention_heads": 4, "max_position_embeddings": 32, "projection_dim": 24},
            **{"bos_token_id": text.bos_token_id, "eos_token_id": text.eos_token_id, "pad_token_id": text.pad_token_id},
        },
        "language_config": {
            **{"model_type": "t5", "vocab_size": len(language), "d_model": 32, "d_kv": 8, "d_ff": 64, "num_heads": 4},
            **{"num_layers": 2, "num_decoder_layers": 2, "feed_forward_proj": "gated-gelu", "dropout_rate": _DROPOUT},
            "scale_decoder_outputs": False,
        },
    }
    small = {"view_size": 32, "roi_size": 4, "num_queries": 4, "decoder_width": 32, "decoder_intermediate": 64}
    return preset(
        "embedded", **{**parts, **small, "decoder_dropout": _DROPOUT, "tie_language_head": False, **changes}
    )  # fmt: skip


def write_tiny_model(folder: Path, **changes: Any) -> Path:
    """A model directory with random weights and the embedded model's words."""
    torch.manual_seed(0)
    network = DynReferModel(tiny_config(**changes)).eval()
    network.save_pretrained(folder)
    for name in ("text_tokenizer", "language_tokenizer"):
        shutil.copytree(EMBEDDED / name, folder / name)
    vocabulary = world_vocabulary(World.load())
    vocabulary.save(folder)
    embed_vocabulary(network, AutoTokenizer.from_pretrained(folder / "text_tokenizer"), vocabulary).save(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("start") / "tiny")


@pytest.fixture(scope="session")
def still_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without any dropout: two processes draw other numbers than one."""
    folder = write_tiny_model(tmp_path_factory.mktemp("still") / "tiny", decoder_dropout=0.0)
    config = json.loads((folder / "config.json").read_text())
    config["qformer_config"] |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config["language_config"]["dropout_rate"] = 0.0
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    return world_vocabulary(World.load())


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of drawn scenes with train.json, as the official project writes its annotations."""
    folder = tmp_path_factory.mktemp("drawn")
    world, sprites = World.load(), SpritePack.load()
    images, annotations = [], []
    for seed in range(700_000, 700_000 + SCENES):
        scene = draw_scene(world, sprites, seed, "train")
        Image.fromarray(scene.image).save(folder / f"{seed}.png")
        height, width = scene.image.shape[:2]
        images.append({"id": seed, "file_name": f"{seed}.png", "width": width, "height": height})
        for drawn_object in scene.objects:
            x1, y1, x2, y2 = drawn_object.box
            tags = [world.tags.index(tag) for tag in drawn_object.tags]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": seed,
                    "caption": drawn_object.captions[0],
                    "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
                    "extra_info": {"parser_result": {"tag_set1": tags[:2], "tag_set2": tags}},
                }
            )
    document = {"dataset": {"image_root": "."}, "images": images, "annotations": annotations}
    (folder / "train.json").write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="session")
def samples(drawn: Path, tiny_model: Path, vocabulary: Vocabulary) -> RegionSamples:
    table, _ = read_regions(AnnotationSource(drawn / "train.json", drawn, None, BoxFormat.XYWH), vocabulary)
    return make_samples(table, tiny_model, vocabulary)


def make_samples(table: RegionTable, tiny_model: Path, vocabulary: Vocabulary) -> RegionSamples:
    initial = load_initial_model(str(tiny_model))
    options = SampleOptions(
        0, view_size=32, num_views=3, num_tags=len(vocabulary.tags), max_language_tokens=32, max_text_tokens=32
    )
    tokenizers = (initial.text_tokenizer, initial.language_tokenizer)
    return RegionSamples(table, tokenizers, VocabularyWords(vocabulary), vocabulary.tags, options)


def whole(batch: TrainingBatch | UnreadableBatch) -> TrainingBatch:
    assert isinstance(batch, TrainingBatch)
    return batch


def tiny_settings(drawn: Path, tiny_model: Path, **changes: Any) -> TrainingSettings:
    """Settings of a run of some seconds."""
    given = {
        **{"train": drawn / "train.json", "init": str(tiny_model), "batch_size": 4, "epochs": 2, "workers": 0},
        **{"learning_rate": 1e-3, "device": "cpu", "threads": 1},
        **changes,
    }
    return new_settings(given)


def command(*arguments: str) -> list[str]:
    """The command line in a process of its own."""
    return [sys.executable, "-m", "dynrefer.service.cli", "train", *arguments]


def environment() -> dict[str, str]:
    """Of such a process: one thread, this checkout."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, env=environment(), check=False)
