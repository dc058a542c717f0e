"""`python -m dynrefer.workbench.random_ferret --preset tiny --out DIR`: a Ferret-v2 with random weights, for
`--converser DIR`. It says nothing that means anything; it shows that everything runs, at any size, and how fast.

The tokenizer has one token per byte, so that any text can be written; other ids of a larger vocabulary have no text.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dynrefer.model.networks.converse.ferret.config import PRESETS, FerretConfig, preset
from dynrefer.model.networks.converse.ferret.directory import save_ferret
from dynrefer.model.networks.converse.ferret.network import FerretModel

SPECIAL = ("<pad>", "<s>", "</s>")  # the ids 0, 1 and 2, as LLaMA has them


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A token per byte, behind the special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: place for place, token in enumerate((*SPECIAL, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    pad, begin, end = SPECIAL
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, bos_token=begin, eos_token=end)


def random_ferret(config: FerretConfig, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """The network with random weights, made on its device, for inference; the same for the same sizes and device."""
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = FerretModel._from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]
    return model.eval().requires_grad_(False)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m dynrefer.workbench.random_ferret", description=__doc__)
    parser.add_argument("--preset", choices=tuple(PRESETS), default="tiny", help="its size [%(default)s]")
    parser.add_argument("--out", type=Path, required=True, help="a directory that is not there yet")
    given = parser.parse_args(arguments)
    if given.out.exists():
        print(f"{str(given.out)!r} exists; name a directory that does not.", file=sys.stderr)
        return 2
    save_ferret(random_ferret(preset(given.preset)), byte_tokenizer(), given.out)
    print(f"written to {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
