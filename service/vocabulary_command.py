"""`dynrefer vocabulary list | show | check`: the vocabularies that requests may name. No model is loaded."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from dynrefer.model.errors import ConfigError

Files = Annotated[
    list[Path] | None,
    typer.Option("--vocabularies", metavar="PATH", help="A file of a vocabulary, or a folder of such; repeatable."),
]


def vocabulary_commands() -> typer.Typer:
    """The group; `fit` is added where the workbench is installed."""
    group = typer.Typer(name="vocabulary", no_args_is_help=True, rich_markup_mode=None)
    group.callback()(_vocabulary)
    for name, command in (("list", list_command), ("show", show_command), ("check", check_command)):
        group.command(name)(command)
    return group


def _vocabulary() -> None:
    """List, show, check and fit vocabularies: lists of words that requests may name."""


def list_command(vocabularies: Files = None) -> None:
    """Names, numbers of words, languages and descriptions."""
    from dynrefer.model import NamedVocabularies

    known = NamedVocabularies.load(vocabularies or ())
    for name in known.names:
        found = known.get(name)
        assert found is not None
        print(f"{name:<16} {_sizes(found.sizes):<36} {_languages(found.languages):<22} {found.description}")


def show_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a vocabulary.")], vocabularies: Files = None
) -> None:
    """All of a vocabulary, as JSON: a file to begin with."""
    from dynrefer.model import NamedVocabularies, written_words

    known = NamedVocabularies.load(vocabularies or ())
    found = known.get(name)
    if found is None:
        near = known.nearest(name)
        hint = f"; did you mean {near!r}?" if near else f"; there are {', '.join(known.names)}."
        raise ConfigError(f"there is no vocabulary {name!r}{hint}")
    if found.words.is_own:
        raise ConfigError("the words of the model itself are those of its vocabulary.json; GET /v1/models lists them.")
    document: dict[str, Any] = {"name": found.name, "description": found.description, "licence": found.licence}
    for task in found.sizes:
        document[task] = written_words(found.words.words(task) or ())
    document["calibration"] = {task: {"scale": scale, "bias": bias} for task, scale, bias in found.words.calibration}
    kept = {key: value for key, value in document.items() if value not in ("", {})}
    print(json.dumps(kept, ensure_ascii=False, indent=1))


def check_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File of a vocabulary, or a folder of such.")],
) -> None:
    """Read a file as the service does at start-up; what is wrong with it is one line, and exit code 2."""
    from dynrefer.model import NamedVocabularies

    known, shipped = NamedVocabularies.load([file]), NamedVocabularies().names
    for name in known.names:
        found = known.get(name)
        if name not in shipped and found is not None:
            print(f"{name}: {_sizes(found.sizes)}; {_languages(found.languages)}")


def _sizes(sizes: dict[str, int]) -> str:
    return ", ".join(f"{count} {task}" for task, count in sizes.items()) or "the model's"


def _languages(languages: tuple[str, ...]) -> str:
    return ", ".join(languages) or "no translations"
