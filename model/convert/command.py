"""`dynrefer convert`."""

from collections import Counter
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from dynrefer.model.errors import ConversionError

Weights = Annotated[
    list[Path] | None,
    typer.Option("--weights", help="Official .pth or .safetensors; repeatable, later files win."),
]
Base = Annotated[
    str | None,
    typer.Option("--base", metavar="DIR_OR_ID", help="BLIP-2 of transformers: Salesforce/blip2-flan-t5-xl."),
]
TextTower = Annotated[Path | None, typer.Option("--text-tower", help="EVA-CLIP: eva_clip_psz14.pt.")]
Language = Annotated[
    str | None,
    typer.Option(
        "--language",
        metavar="DIR_OR_ID",
        help="Language model and its tokenizer: google/flan-t5-xl; for Vicuna a directory.",
    ),
]
Official = Annotated[
    Path | None,
    typer.Option("--official", help="Your copy of the official repository: vocabularies, byte-pair table."),
]
Preset = Annotated[str, typer.Option("--preset", help="The kind of model: flan-t5-xl or vicuna-7b.")]
Config = Annotated[Path | None, typer.Option("--config", help="JSON with other sizes than the preset's.")]
Lora = Annotated[
    Path | None,
    typer.Option(
        "--lora", metavar="DIR", help="LoRA adapter of the language model, as peft writes it: merged into the weights."
    ),
]
ForTraining = Annotated[
    bool, typer.Option("--for-training", help="Initialise randomly what no file holds: alignment, fusion, decoders.")
]
Out = Annotated[Path, typer.Option("--out", help="Directory to write; new or empty.")]


def convert_command(
    out: Out,
    weights: Weights = None,
    base: Base = None,
    text_tower: TextTower = None,
    language: Language = None,
    official: Official = None,
    preset: Preset = "flan-t5-xl",
    config: Config = None,
    lora: Lora = None,
    for_training: ForTraining = False,
) -> None:
    """Convert official weights to a model directory; every tensor is used or named as dropped."""
    from tqdm import tqdm

    from dynrefer.model.convert.directory import REPORT_FILE, convert

    if not weights and not for_training:
        raise ConversionError("no released checkpoint is named; give it with --weights, or --for-training.")
    bars: list[tqdm[NoReturn]] = []

    def advance(done: int, total: int) -> None:
        if not bars:  # only once there is progress to show, so that an error stays one line
            bars.append(tqdm(total=total, unit="tensor", desc="converting", leave=False))
        bars[0].update(done - bars[0].n)

    try:
        conversion = convert(
            out,
            weights or [],
            base=base,
            text_tower=text_tower,
            language=language,
            official=official,
            config=config,
            for_training=for_training,
            preset=preset,
            lora=lora,
            progress=advance,
        )
    finally:
        for bar in bars:
            bar.close()
    plan = conversion.plan
    print(f"{conversion.out}: revision {conversion.revision}, {plan.parameters:,} parameters.")
    if plan.random:
        print(
            f"randomly initialised: {len(plan.random)} tensors; train them with dynrefer train --init {conversion.out}"
        )
    if plan.merged:
        print(f"merged the adapter {lora} into {len(plan.merged)} tensors of the language model.")
    for reason, count in sorted(Counter(plan.dropped.values()).items()):
        print(f"dropped {count} tensors: {reason}")
    print(f"{REPORT_FILE} there names every one.")
