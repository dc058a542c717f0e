"""The command line of `dynrefer vocabulary fit`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dynrefer.model.errors import ConfigError
from dynrefer.model.named_vocabularies import NamedVocabularies, NamedVocabulary, read_named, written_words
from dynrefer.model.outputs import check_outputs

if TYPE_CHECKING:
    from dynrefer.workbench.vocabularies.examples import LabelledList
    from dynrefer.workbench.vocabularies.fitting import FittedList


def fit_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A vocabulary that ships, or a file of one.")],
    labelled: Annotated[
        Path,
        typer.Option("--from", metavar="FILE", help="COCO-style annotations, with categories or attributes."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The vocabulary's file to write.")],
    images: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the images of --from.")] = None,
    model: Annotated[str, typer.Option(help="Name or directory of the model.")] = "embedded",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    called: Annotated[
        str | None,
        typer.Option("--name", help="Its new name. [default: the old one, or NAME-fitted if that ships]"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if there is one.")] = False,
) -> None:
    """Fit thresholds per word, and the calibration, of a vocabulary to a handful of examples per word.

    What the model has already is the prior: few examples move it a little, many a lot. The printed figures are measured
    on images that each fit left out.
    """
    found = _named(name)
    check_outputs([("--out", out)], [labelled, images, Path(model), Path(name)], overwrite=overwrite)
    from dynrefer.workbench.data.labelled_files import read_labelled
    from dynrefer.workbench.vocabularies.examples import examples_of, labelled_lists
    from dynrefer.workbench.vocabularies.fitting import fit

    data = read_labelled(labelled, images).located()
    lists = labelled_lists(found.words, data)
    from dynrefer.model.predictor import DynRefer

    predictor = DynRefer.load(model, device=device)
    fitted = [fit(each) for each in examples_of(predictor.describe, found.words, data, lists)]
    shipped = found.name in NamedVocabularies().names
    document = fitted_document(found, called or (f"{found.name}-fitted" if shipped else found.name), lists, fitted)
    from dynrefer.workbench.data.atomic import replace_text

    replace_text(out, json.dumps(document, ensure_ascii=False, indent=1) + "\n")
    read_named(out)
    print("\n\n".join(table(listed, each) for listed, each in zip(lists, fitted, strict=True)))


def fitted_document(
    found: NamedVocabulary, name: str, lists: list[LabelledList], fitted: list[FittedList]
) -> dict[str, Any]:
    """The new file's content; words without a fitted threshold keep the one that they have."""
    words, calibration = found.words, {task: (scale, bias) for task, scale, bias in found.words.calibration}
    for listed, result in zip(lists, fitted, strict=True):
        least = [None if each.threshold is None else _as_score(listed, each.threshold) for each in result.words]
        given: Any = words.words(listed.task) or ()
        new = tuple(
            each if threshold is None else replace(each, threshold=threshold)
            for each, threshold in zip(given, least, strict=True)
        )
        words = replace(words, **{listed.task: new})
        calibration[listed.task] = (result.scale, result.bias)
    document: dict[str, Any] = {"name": name, "description": found.description, "licence": found.licence}
    for task in ("categories", "attributes", "tags"):
        there = words.words(task)
        if there is not None:
            document[task] = written_words(there)
    document["calibration"] = {task: {"scale": _short(a), "bias": _short(b)} for task, (a, b) in calibration.items()}
    return {key: value for key, value in document.items() if value not in ("", {})}


def table(listed: LabelledList, fitted: FittedList) -> str:
    """A row per word that has an example, then the calibration."""
    width = max(len(name) for name in listed.names)
    lines = [f"{listed.task:<{width}}  examples  others  threshold  F1 before  F1 fitted"]
    for name, word in zip(listed.names, fitted.words, strict=True):
        if not word.positives:
            continue
        line = f"{name:<{width}}  {word.positives:8}  {word.negatives:6}"
        if word.threshold is None or word.before is None or word.after is None:
            lines.append(f"{line}  not fitted: it needs examples of other words too")
        else:
            least = _as_score(listed, word.threshold)
            lines.append(f"{line}  {least:9.4g}  {word.before:9.2f}  {word.after:9.2f}")
    without = [name for name, word in zip(listed.names, fitted.words, strict=True) if not word.positives]
    if without:
        lines.append(f"{len(without)} without an example, whose thresholds stay: {', '.join(without[:10])}")
    lines.append(
        f"calibration: scale {_short(fitted.scale)}, bias {_short(fitted.bias)}; log loss on images that were left out "
        f"{fitted.before:.4f} before, {fitted.after:.4f} fitted"
    )
    return "\n".join(lines)


def _named(name: str) -> NamedVocabulary:
    """A vocabulary that ships, or a file. Raises `ConfigError`."""
    known = NamedVocabularies()
    found = known.get(name)
    if found is None and (name.endswith(".json") or Path(name).is_file()):
        return read_named(Path(name))
    if found is None:
        raise ConfigError(f"there is no vocabulary {name!r}; name a file, or one of {', '.join(known.names)}.")
    if found.words.is_own:
        raise ConfigError("the model's own vocabulary is fitted with `dynrefer evaluate --tune`; name another.")
    return found


def _as_score(listed: LabelledList, threshold: float) -> float:
    """A threshold on the logit as one on the score that answers have."""
    from dynrefer.workbench.vocabularies.fitting import sigmoid

    return _short(threshold if listed.task == "categories" else sigmoid(threshold))


def _short(value: float) -> float:
    return float(f"{value:.4g}")
