"""The flags of `dynrefer train` for --from-corrections; those of training on data stand in `training/command.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

FromCorrections = Annotated[
    Path | None,
    typer.Option(
        "--from-corrections",
        metavar="FOLDER",
        help="Tune the running model by what people corrected, compare the two, and only then offer the switch.",
    ),
]
RunningModel = Annotated[
    str | None,
    typer.Option("--model", help="Corrections: the running model, embedded or a directory. [default: embedded]"),
]
What = Annotated[
    list[str] | None,
    typer.Option(
        "--what",
        help="Corrections: heads (tags, attributes, categories) or lora (captions); repeatable. [default: heads]",
    ),
]
Steps = Annotated[int | None, typer.Option("--steps", help="Corrections: steps of each of --what. [default: 400]")]
Rehearsal = Annotated[
    float | None,
    typer.Option(
        "--rehearsal",
        help="Corrections: proportion of a batch that is drawn scenes, against forgetting. [default: 0.5]",
    ),
]
Blend = Annotated[
    float | None,
    typer.Option(
        "--blend",
        help="Corrections: how far the heads go from the old weights, 0, to the tuned ones, 1. [default: 0.5]",
    ),
]
HeldOut = Annotated[
    float | None,
    typer.Option("--held-out", help="Corrections: proportion of the images to compare on. [default: 0.25]"),
]
AddWords = Annotated[
    bool | None,
    typer.Option("--add-words", help="Corrections: words that the model lacks become words of its vocabulary."),
]
ExpectChange = Annotated[
    list[str] | None,
    typer.Option(
        "--expect-change",
        help="Corrections: caption, tags, attributes or categories, if they change its convention on purpose: the "
        "drawn benchmark, which keeps the old one, then does not speak against the model; repeatable.",
    ),
]
WithoutComparison = Annotated[
    bool | None,
    typer.Option("--without-comparison", help="Corrections: train although there are too few to compare; no offer."),
]
ServerUrl = Annotated[
    str | None,
    typer.Option(
        "--server", metavar="URL", help="Corrections: the service that runs --model; its revision is checked."
    ),
]
ServerKey = Annotated[
    str | None, typer.Option("--key", envvar="DYNREFER_KEY", show_default=False, help="Corrections: key of --server.")
]
