"""Makes the graph of nouns that ships: WordNet's nouns for things that can be seen, and what stands above them.

`python -m dynrefer.workbench.evidence.noun_graph --wordnet DIR --out model/embedded/evidence/nouns.safetensors`, where
DIR has data.noun, index.noun and noun.exc of WordNet 3.0 (Debian: wordnet-base).

Kept: what is below "physical entity", and the model's own names with what is above them. Left out: names of single
persons, places and things ("Paris"), and meanings that are not kept, such as "mouse" for a shy person among the
abstractions. The same sources give the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from safetensors.numpy import save_file

from dynrefer.model.evidence.names import EvidenceNames
from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evidence.names import CLASS_SYNSETS
from dynrefer.workbench.evidence.wordnet import WordNet

ROOT = "physical_entity.1"
# Plurals that neither WordNet's list nor a rule gives.
MENDED = {"people": "person"}


def build(
    wordnet: WordNet, exceptions: dict[str, str], names: Iterable[str], classes: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """The arrays of the file (`dynrefer.model.evidence.noun_graph.TYPES`).

    names: synsets of the model's names. classes: those of ImageNet's classes, in order.

    Raises `DataError` if a synset is unknown, or there are more than fit into the file's types.
    """
    root = wordnet.sense(ROOT)
    kept = {synset for synset in wordnet.hypernyms if root in wordnet.above(synset) and synset not in wordnet.instances}
    for synset in (*names, *classes):
        kept |= wordnet.above(synset)
    order = sorted(kept)
    if len(order) > np.iinfo(np.uint16).max:
        raise DataError(f"{len(order)} synsets are more than 16 bits can number.")
    place = {synset: index for index, synset in enumerate(order)}
    lemmas = {
        lemma.replace("_", " "): found
        for lemma, senses in wordnet.lemmas.items()
        if (found := [(number, place[synset]) for number, synset in enumerate(senses, start=1) if synset in place])
    }
    words = sorted(lemmas, key=lambda lemma: lemma.encode("ascii"))
    senses = [sense for word in words for sense in lemmas[word]]
    above = [[place[each] for each in wordnet.hypernyms[synset] if each in place] for synset in order]
    below = Counter(place[each] for synset in order for each in wordnet.above(synset) - {synset} if each in place)
    irregular = sorted(
        f"{plural} {singular}"
        for plural, singular in (exceptions | MENDED).items()
        if singular.replace("_", " ") in lemmas
    )
    return {
        "lemmas": _text(words),
        "sense_counts": np.array([len(lemmas[word]) for word in words], np.uint8),
        "senses": np.array([synset for _, synset in senses], np.uint16),
        "sense_numbers": np.array([number for number, _ in senses], np.uint8),
        "offsets": np.array([int(synset[1:]) for synset in order], np.uint32),
        "hypernym_counts": np.array([len(each) for each in above], np.uint8),
        "hypernyms": np.array([each for some in above for each in some], np.uint16),
        "below": np.array([below[index] for index in range(len(order))], np.uint16),
        "classes": np.array([place[synset] for synset in classes], np.uint16),
        "exceptions": _text(irregular),
    }


def read_exceptions(path: Path) -> dict[str, str]:
    """`noun.exc`: plural -> its first singular."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path.name} of WordNet is not there; Debian's package wordnet-base has it.") from None
    return {fields[0]: fields[1] for fields in map(str.split, lines)}


def _text(lines: list[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\n".join(lines).encode("ascii"), np.uint8)


def main(
    wordnet: Annotated[Path, typer.Option(help="Directory of data.noun, index.noun, noun.exc (Debian: wordnet-base).")],
    names: Annotated[Path, typer.Option(help="names.json of the model.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
) -> None:
    """Make the graph of nouns of the embedded model from WordNet."""
    own = [entry.synset for entry in EvidenceNames.load(names).names]
    classes = CLASS_SYNSETS.read_text(encoding="ascii").split()
    arrays = build(WordNet.read(wordnet), read_exceptions(wordnet / "noun.exc"), own, classes)
    save_file(arrays, out)
    print(f"{len(arrays['offsets'])} synsets, {len(arrays['sense_counts'])} lemmas: {out.name}")


if __name__ == "__main__":
    typer.run(main)
