"""`dynrefer corrections`: an export of Label Studio -> a folder of corrections to train from."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from dynrefer.service.command_files import fail, reason

TOKEN_VARIABLE = "DYNREFER_LABEL_STUDIO_TOKEN"


def corrections_command(
    export: Annotated[Path, typer.Argument(metavar="EXPORT.json", help="An export of the format JSON.")],
    out: Annotated[Path, typer.Option("--out", help="The folder; lines are added to what it holds already.")],
    images: Annotated[Path | None, typer.Option("--images", help="Folder with the images, by their names.")] = None,
    label_studio: Annotated[
        str | None,
        typer.Option(
            "--label-studio", metavar="URL", help=f"Fetch the images from there, with the token in {TOKEN_VARIABLE}."
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="File with the project's labelling configuration. [default: controls are told by their results]",
        ),
    ] = None,
) -> None:
    """Collect what annotators of Label Studio drew and wrote in a folder of corrections.

    Each region with a box becomes a line of FOLDER/corrections.jsonl, beside its image. Running it again with a later
    export adds what has changed.
    """
    if (images is None) == (label_studio is None):
        fail("say where the images are: --images DIR or --label-studio URL.")
    import os

    from dynrefer.service.errors import ServiceError
    from dynrefer.service.integrations.label_studio import exports
    from dynrefer.service.integrations.label_studio.client import LabelStudio
    from dynrefer.service.integrations.label_studio.corrections_folder import CorrectionsFolder
    from dynrefer.service.integrations.label_studio.labeling import read_labeling

    try:
        tasks = exports.read_export(export.read_bytes())
        labeling = None if config is None else read_labeling(config.read_text(encoding="utf-8"))
    except OSError as error:
        fail(f"cannot read {error.filename}: {reason(error)}.")
    except exports.ExportError as error:
        fail(f"{export} {error}.")
    except (ServiceError, UnicodeDecodeError) as error:
        fail(f"{config}: {error}")
    if images is not None:
        read = exports.files_in(images)
    else:
        token = os.environ.get(TOKEN_VARIABLE) or None
        read = exports.files_of(LabelStudio(label_studio or "", token, exports.MAX_IMAGE_BYTES, exports.TIMEOUT_S))
    try:
        found = exports.collect(tasks, labeling, read, CorrectionsFolder(out))
    except OSError as error:
        fail(f"cannot write {error.filename or out}: {reason(error)}.", code=1)
    for sentence in found.skipped:
        print(f"skipped {sentence}", file=sys.stderr)
    print(f"{found.regions} regions of {found.tasks} tasks; {found.written} lines added to {out}/corrections.jsonl")
    if found.skipped:
        raise SystemExit(1)
