"""A model directory of a preset's sizes with random weights, made on the machine that serves it."""

from pathlib import Path

import torch

from dynrefer.model.loading import pick_dtype
from dynrefer.model.tokenizers import LANGUAGE_TOKENIZER, TEXT_TOKENIZER
from dynrefer.workbench.profiling.workload import (
    Workload,
    random_config,
    random_network,
    random_texts,
    random_tokenizer,
    random_vocabulary,
)


def write_model(folder: Path, preset: str, work: Workload, device: torch.device) -> None:
    """Write it, in the dtype of its use.

    Captions have exactly the workload's tokens; control words are those that clients send.
    """
    folder.mkdir(parents=True)
    config = random_config(preset, work)
    config.name, config.revision = f"random {preset}", "0"
    network = random_network(config, device, pick_dtype("auto", device))
    network.save_pretrained(folder)
    config.save_pretrained(folder)
    random_texts(config, work).save(folder)
    random_vocabulary(work).save(folder)
    for name, part in ((LANGUAGE_TOKENIZER, config.language_config), (TEXT_TOKENIZER, config.text_config)):
        random_tokenizer(part.vocab_size).save_pretrained(folder / name)
