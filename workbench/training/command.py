"""`dynrefer train`: the embedded model's recipe, or its added stages; with --train, training on your own data; with
--from-corrections, tuning by what people corrected.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dynrefer.workbench.errors import SettingError
from dynrefer.workbench.training.corrections.flags import (
    AddWords,
    Blend,
    ExpectChange,
    FromCorrections,
    HeldOut,
    Rehearsal,
    RunningModel,
    ServerKey,
    ServerUrl,
    Steps,
    What,
    WithoutComparison,
)
from dynrefer.workbench.training.run_settings import flag

Preset = Annotated[
    str | None,
    typer.Option("--preset", help="embedded, or with --train the sizes that --init must have. [default: embedded]"),
]
Out = Annotated[Path, typer.Option("--out", help="Directory of the run: log, checkpoints, and finally the model.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint in --out.")]
Threads = Annotated[int | None, typer.Option("--threads", help="CPU threads for computation. [default: all cores]")]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="Embedded recipe: start from this model directory, or embedded, and run the added stages only. "
        "[default: random weights, all stages]",
    ),
]
Processes = Annotated[
    int | None,
    typer.Option(
        "--processes", help="Embedded recipe: processes that draw scenes; one fewer read batches. [default: all cores]"
    ),
]
Train = Annotated[
    Path | None,
    typer.Option("--train", help="COCO-style annotations to train on; without it the embedded model is trained."),
]
Images = Annotated[
    Path | None, typer.Option("--images", help="Folder of the images. [default: the file's dataset.image_root]")
]
Captions = Annotated[
    Path | None, typer.Option("--captions", help="JSONL with annotation_id and caption, for plain COCO annotations.")
]
Val = Annotated[Path | None, typer.Option("--val", help="Annotations to validate on.")]
ValImages = Annotated[Path | None, typer.Option("--val-images", help="Folder of their images. [default: --images]")]
ValCaptions = Annotated[Path | None, typer.Option("--val-captions", help="JSONL with their captions.")]
Init = Annotated[
    str | None,
    typer.Option(
        "--init", help="Model directory to start from, or embedded. [default with --preset embedded: embedded]"
    ),
]
Vocabulary = Annotated[Path | None, typer.Option("--vocabulary", help="A vocabulary.json in place of the model's.")]
BoxFormat = Annotated[
    str | None,
    typer.Option("--box-format", help="Format of bbox: xywh or xyxy. [default: xyxy beside extra_info, else xywh]"),
]
FrameOf = Annotated[
    str | None,
    typer.Option(
        "--frame",
        help="Frame of the boxes of images with an EXIF orientation: auto, upright or stored. [default: auto: by the "
        "boxes and the listed sizes]",
    ),
]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Passes through the data. [default: 5]")]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", help="Regions per process and forward pass. [default: 64]")
]
Accumulate = Annotated[int | None, typer.Option("--accumulate", help="Forward passes per optimiser step. [default: 1]")]
LearningRate = Annotated[float | None, typer.Option("--learning-rate", help="Peak learning rate. [default: 1e-4]")]
WeightDecay = Annotated[
    float | None, typer.Option("--weight-decay", help="For matrices, not for biases and norms. [default: 0.05]")
]
ScheduleName = Annotated[
    str | None, typer.Option("--schedule", help="cosine, or official: constant within an epoch. [default: cosine]")
]
WarmUp = Annotated[
    int | None,
    typer.Option("--warm-up", help="Optimiser steps of warm-up. [default: 5000, at most a tenth of the run]"),
]
ClipNorm = Annotated[
    float | None, typer.Option("--clip-norm", help="Maximum norm of the gradients; 0 turns it off. [default: 0]")
]
TagGamma = Annotated[
    float | None,
    typer.Option("--tag-gamma", help="Focusing exponent of the tag loss; 4 suits fewer than 200 tags. [default: 7]"),
]
Precision = Annotated[
    str | None, typer.Option("--precision", help="auto, float32 or bf16. [default: auto: bf16 on a GPU]")
]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda. [default: auto]")]
GradientCheckpointing = Annotated[
    bool | None, typer.Option("--gradient-checkpointing", help="Recompute activations to save memory.")
]
Fsdp = Annotated[
    bool | None, typer.Option("--fsdp", help="Shard the weights over the processes that torchrun started.")
]
LoraRank = Annotated[
    int | None,
    typer.Option(
        "--lora-rank", help="Rank of LoRA on the language model; 64 in the recipe, 0 turns it off. [default: 0]"
    ),
]
LoraAlpha = Annotated[float | None, typer.Option("--lora-alpha", help="Scale of LoRA. [default: twice the rank]")]
Unfreeze = Annotated[
    list[str] | None, typer.Option("--unfreeze", help="Train this part too: vision or language; repeatable.")
]
Controls = Annotated[
    str | None,
    typer.Option(
        "--controls", help="How control words are chosen: vocabulary or part-of-speech. [default: vocabulary]"
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        help="Seed of order, views, control words and dropout; of the embedded recipe's added stages. [default: 0]",
    ),
]
CheckpointEvery = Annotated[
    int | None, typer.Option("--checkpoint-every", help="Steps between checkpoints. [default: 500]")
]
Keep = Annotated[int | None, typer.Option("--keep", help="Number of checkpoints kept. [default: 2]")]
ValidateEvery = Annotated[
    int | None, typer.Option("--validate-every", help="Steps between validations. [default: one epoch]")
]
ValLimit = Annotated[
    int | None, typer.Option("--val-limit", help="Maximum number of regions per validation. [default: 2000]")
]
LogEvery = Annotated[int | None, typer.Option("--log-every", help="Steps between log lines. [default: 10]")]
Workers = Annotated[
    int | None, typer.Option("--workers", help="Processes that read images. [default: as the cores allow]")
]


def train_command(
    out: Out,
    preset: Preset = None,
    resume: Resume = False,
    start: From = None,
    processes: Processes = None,
    train: Train = None,
    images: Images = None,
    captions: Captions = None,
    val: Val = None,
    val_images: ValImages = None,
    val_captions: ValCaptions = None,
    init: Init = None,
    vocabulary: Vocabulary = None,
    box_format: BoxFormat = None,
    frame: FrameOf = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    accumulate: Accumulate = None,
    learning_rate: LearningRate = None,
    weight_decay: WeightDecay = None,
    schedule: ScheduleName = None,
    warm_up: WarmUp = None,
    clip_norm: ClipNorm = None,
    tag_gamma: TagGamma = None,
    precision: Precision = None,
    device: Device = None,
    gradient_checkpointing: GradientCheckpointing = None,
    fsdp: Fsdp = None,
    lora_rank: LoraRank = None,
    lora_alpha: LoraAlpha = None,
    unfreeze: Unfreeze = None,
    controls: Controls = None,
    seed: Seed = None,
    checkpoint_every: CheckpointEvery = None,
    keep: Keep = None,
    validate_every: ValidateEvery = None,
    val_limit: ValLimit = None,
    log_every: LogEvery = None,
    workers: Workers = None,
    threads: Threads = None,
    folder: FromCorrections = None,
    model: RunningModel = None,
    what: What = None,
    steps: Steps = None,
    rehearsal: Rehearsal = None,
    blend: Blend = None,
    held_out: HeldOut = None,
    add_words: AddWords = None,
    expect_change: ExpectChange = None,
    without_comparison: WithoutComparison = None,
    server: ServerUrl = None,
    key: ServerKey = None,
) -> None:
    """Train the embedded model; with --train fine-tune a model on your own regions; with --from-corrections tune the
    running one by what people corrected."""
    # Flags that are not given are None, so that a resumed run can tell them from the defaults.
    given = {name: value for name, value in locals().items() if value is not None and name not in _OF_BOTH}
    if folder is not None or (resume and _holds_corrections(out)):
        _train_from_corrections(out, preset, resume, given)
        return
    given.pop("key", None)  # it may stand in the environment of whoever trains in another way
    if corrections := [name for name in _OF_CORRECTIONS if name in given]:
        raise SettingError(f"{flag(corrections[0])} is for --from-corrections; name the folder of the corrections.")
    recipe = {name: given.pop(name) for name in _OF_THE_RECIPE if name in given}
    shared = {name: given.pop(name) for name in _SHARED if name in given}
    from dynrefer.workbench.training.run_directory import RunDirectory

    if train is not None or (resume and RunDirectory.stored_settings(out) is not None):
        _refuse_recipe_flags(recipe)
        _train_on_data(out, preset, resume, {**given, **shared})
        return
    if given:
        raise SettingError(f"{flag(next(iter(given)))} is for training on your own data; name it with --train.")
    _train_embedded(out, preset, resume, {**recipe, **shared})


# The validation scenes that the committed model was tuned on.
TUNING_SEED, TUNING_REGIONS = 77, 800

_OF_BOTH = ("out", "preset", "resume")
_SHARED = ("threads", "device", "seed")
_OF_THE_RECIPE = ("start", "processes")
_OF_CORRECTIONS = (
    *(
        "model",
        "what",
        "steps",
        "rehearsal",
        "blend",
        "held_out",
        "add_words",
        "expect_change",
        "without_comparison",
        "server",
    ),
)
# Settings of training on data that tuning by corrections has too.
_ALSO_OF_CORRECTIONS = ("batch_size", "learning_rate", "lora_rank", "lora_alpha", "checkpoint_every")


def _holds_corrections(out: Path) -> bool:
    """Whether `out` holds a run from corrections, without loading what trains."""
    return (out / "corrections.json").exists()


def _train_from_corrections(out: Path, preset: str | None, resume: bool, given: Mapping[str, Any]) -> None:
    known = {"folder", "key", *_OF_CORRECTIONS, *_ALSO_OF_CORRECTIONS, *_SHARED}
    if foreign := ["preset"] * (preset is not None) + [name for name in given if name not in known]:
        raise SettingError(f"{_named(foreign[0])} does not apply to --from-corrections.")
    _quiet_tokenizers()
    from dynrefer.workbench.training.corrections.command import train_from_corrections

    train_from_corrections(out, resume, given)


def _named(setting: str) -> str:
    return "--from" if setting == "start" else flag(setting)


def _refuse_recipe_flags(given: Mapping[str, Any]) -> None:
    if "start" in given:
        raise SettingError(
            "--from starts the embedded recipe's added stages; with --train, name the initial model with --init."
        )
    if "processes" in given:
        raise SettingError("--processes is for the embedded recipe; with --train, use --workers.")


def _train_on_data(out: Path, preset: str | None, resume: bool, given: Mapping[str, Any]) -> None:
    from dynrefer.model.outputs import refuse_inputs
    from dynrefer.workbench.training.run_directory import BAD_SAMPLES, RunDirectory, run_files
    from dynrefer.workbench.training.run_settings import new_settings, resumed_settings

    stored = RunDirectory.stored_settings(out)
    if stored is not None and not resume:
        raise SettingError(f"{out} already holds a run; pass --resume to continue it, or choose another --out.")
    # The report of an earlier attempt that ended because of bad annotations may be there.
    if stored is None and out.exists() and (not out.is_dir() or {p.name for p in out.iterdir()} - {BAD_SAMPLES}):
        raise SettingError(f"{out} exists and holds something else than a run of this kind; choose another --out.")
    named = {**given, **({"unfreeze": tuple(given["unfreeze"])} if "unfreeze" in given else {})}
    if preset is not None:
        named["preset"] = preset
    if stored is None:
        named.setdefault("init", _init_of(preset))
    settings = new_settings(named) if stored is None else resumed_settings(named, stored)
    read = (settings.train, settings.captions, settings.val, settings.val_captions, settings.vocabulary)
    refuse_inputs([("--out", path) for path in run_files(out)], read)
    _quiet_tokenizers()
    import torch

    from dynrefer.workbench.data.frames import as_stored_sentence
    from dynrefer.workbench.training.trainer import train_on

    torch.set_num_threads(settings.threads or os.cpu_count() or 1)
    result = train_on(settings, out)
    if result is None:  # not the first process
        return
    for report in result.reports:
        print(report.summary())
        if report.stored:
            print(as_stored_sentence(len(report.stored), report.source))
    print(f"{result.model}: the finished model; serve it with dynrefer serve --model {result.model}")


def _init_of(preset: str | None) -> str:
    """The initial model without --init. Raises `SettingError` for a preset whose weights do not ship."""
    from dynrefer.model.networks.dynrefer.config import PRESETS

    if preset in (None, "embedded") or preset not in PRESETS:  # an unknown one is refused by the check of sizes
        return "embedded"
    raise SettingError(
        f"--preset {preset} needs weights to start from: make a directory with dynrefer convert (with --for-training "
        "of BLIP-2) and name it with --init."
    )


def _train_embedded(out: Path, preset: str | None, resume: bool, given: Mapping[str, Any]) -> None:
    if preset not in (None, "embedded"):
        raise typer.BadParameter(f"--preset {preset} needs data to train on; name it with --train.")
    for name, least in (("threads", 1), ("processes", 1), ("seed", 0)):
        if given.get(name, least) < least:
            raise typer.BadParameter(f"--{name} must be at least {least}.")
    _quiet_tokenizers()
    import torch

    from dynrefer.workbench.training.embedded.recipe import train_embedded

    start: str | None = given.get("start")
    if start is None:
        _need_tuning()
    torch.set_num_threads(given.get("threads") or os.cpu_count() or 1)
    try:
        directory = train_embedded(
            out,
            resume=resume,
            processes=given.get("processes") or os.cpu_count() or 1,
            start=start,
            seed=given.get("seed", 0),
            device=given.get("device", "auto"),
        )
    except FileExistsError as error:
        raise typer.BadParameter(str(error)) from error
    if start is None:  # else views, thresholds and calibration are those of the model that it started from
        _tune(out, directory)
    print(f"{directory}: the finished model; measure it with dynrefer evaluate --model {directory}")


def _need_tuning() -> None:
    """Report a missing package before hours of training, not after them."""
    try:
        from dynrefer.workbench.evaluation import tune  # noqa: F401
    except ModuleNotFoundError as error:
        raise SettingError(
            f"the trained model's views and thresholds are chosen with {error.name}; pip install 'dynrefer[evaluate]'."
        ) from error


def _tune(out: Path, directory: Path) -> None:
    from dynrefer.model import DynRefer
    from dynrefer.workbench.evaluation.tune import apply_tuning, tune

    tuning = tune(directory, DynRefer.load, scenes_seed=TUNING_SEED, regions=TUNING_REGIONS)
    apply_tuning(directory, tuning.fragment)
    (out / "tuning.json").write_text(json.dumps({**tuning.fragment, "quality": tuning.quality}, indent=2) + "\n")


def _quiet_tokenizers() -> None:
    """Otherwise tokenizers warn when processes that read images are forked after their threads have started."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
