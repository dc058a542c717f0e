"""`python -m benchmarks.open_word_list --wordnet DIR --photos DIR`: chooses the words that `open_words.py` asks.

By rule and seed, before anything is measured: 100 words for drawn scenes and 100 for photographs that are in none of
the model's lists, each true of regions whose object is known. What is true comes from WordNet's whole graph and from
the labels of the photographs, never from where the model places a word.

- synonym: another lemma of the true name's synset. hypernym: a lemma of a synset above it, up to five steps, of at most
  1,200 synsets, or a broader word of the photograph's labels. Only lemmas whose most frequent noun sense is meant, and
  those that occur in WordNet's tagged texts before others, which are often scientific.
- sibling, hyponym: a word of the photograph's labels (of the artwork's file name) that the lists lack: beside the names
  that they have under the true one, or below a name that has none.

A word is a distractor for a region unless some noun sense of it is, lies above, or lies below something that the labels
accept. Writes open_words_list.json.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dynrefer.model.evidence.evidence import FOLDER
from dynrefer.model.evidence.names import NAMES_FILE, EvidenceNames
from dynrefer.model.loading import EMBEDDED
from dynrefer.model.vocabulary import Vocabulary
from dynrefer.workbench.data.photographs import Split, read_photographs
from dynrefer.workbench.evidence.wordnet import WordNet
from dynrefer.workbench.scenes.world import World

LIST = Path(__file__).parent / "open_words_list.json"
PHOTOGRAPHS = Path(__file__).parent / "photographs"
SEED = 16
WORDS = 100  # per world
QUOTA = {"synonym": 40, "hypernym": 40}  # at most; the rest are labels
RELATED = 8_000  # synsets below what a label and the true name have in common
STEPS = 5  # above the true name
BROADEST = 1_200  # synsets below a hypernym; "vehicle" has some 600


@dataclass(frozen=True)
class Thing:
    """What is known of a region. key: names it. name: the true one, in the model's lists. labels, broader: true words.
    accepted: words that may be true."""

    key: str
    name: str
    labels: tuple[str, ...]
    broader: tuple[str, ...]
    accepted: tuple[str, ...]


class OwnWords:
    """Every word of the model's lists, however it is spelled."""

    def __init__(self, vocabulary: Vocabulary, names: EvidenceNames) -> None:
        words = {*vocabulary.categories, *vocabulary.tags, *(p.name for p in names.parents)}
        words |= {value for attribute in vocabulary.attributes for value in attribute.synonyms}
        for entry in names.names:
            words |= {entry.name, entry.plural, *entry.synonyms}
        self._words = {_squeezed(word) for word in words}

    def __contains__(self, word: object) -> bool:
        squeezed = _squeezed(str(word))
        return not {squeezed, squeezed.removesuffix("s"), squeezed.removesuffix("es")}.isdisjoint(self._words)


def drawn_things(world: World, names: EvidenceNames) -> list[Thing]:
    """One per category, and one per file name of its artwork."""
    found = []
    for category in world.categories:
        found.append(Thing(f"category:{category.name}", category.name, (), (), (category.name,)))
        for stem in sorted({sprite.split("/")[1] for sprite in category.sprites}):
            word = stem.rstrip("-0123456789").replace("-", " ")
            found.append(Thing(f"sprite:{category.name}/{stem}", category.name, (word,), (), (category.name, word)))
    return found


def photographed_things(folders: Sequence[Path], names: EvidenceNames, wordnet: WordNet) -> list[Thing]:
    """One per box whose labels hold a name of the model's. Only boxes that were labelled by us have true labels."""
    found = []
    for folder in folders:
        for photograph in read_photographs(folder):
            if photograph.split is Split.CALIBRATION:
                continue
            for place, box in enumerate(photograph.boxes):
                own = [word for word in box.accepted if word in names]
                if not own:
                    continue
                above = [wordnet.above(names.names[names.index(word)].synset) for word in own]
                holds = [sum(names.names[names.index(word)].synset in some for some in above) for word in own]
                ours = photograph.split is not None
                labels, broader = ((box.accepted[0],), box.parents) if ours else ((), ())
                accepted = (*box.accepted, *box.parents)
                key = f"photograph:{photograph.path.name}#{place}"
                found.append(Thing(key, own[holds.index(max(holds))], labels, broader, accepted))
    return found


def candidates(
    things: Iterable[Thing], names: EvidenceNames, wordnet: WordNet, own: OwnWords
) -> dict[str, tuple[str, set[str]]]:
    """Word -> its kind and the keys of what it is true of."""
    lemmas = defaultdict(list)
    for lemma, senses in wordnet.lemmas.items():
        lemmas[senses[0]].append(lemma.replace("_", " "))
    below: dict[str, int] = defaultdict(int)
    for synset in wordnet.hypernyms:
        for each in wordnet.above(synset):
            below[each] += 1
    parents = {parent.name for parent in names.parents}
    found: dict[str, tuple[str, set[str]]] = {}
    for thing in things:
        synset = names.names[names.index(thing.name)].synset
        kinds = [("synonym", word) for word in lemmas[synset]]
        level = {synset}
        for _ in range(STEPS):
            level = {each for one in level for each in wordnet.hypernyms[one]}
            kinds += [("hypernym", w) for each in sorted(level) if below[each] <= BROADEST for w in lemmas[each]]
        kinds += [("hypernym", word) for word in thing.broader if word.replace(" ", "_") in wordnet.lemmas]
        broader = {word for _, word in kinds}
        finer = "sibling" if thing.name in parents else "hyponym"
        kinds += [(finer, w) for w in thing.labels if w not in broader and _is_related(w, synset, below, wordnet)]
        for kind, word in kinds:
            if word not in own and len(word.split()) <= 2 and word.replace(" ", "").replace("-", "").isalpha():
                found.setdefault(word, (kind, set()))[1].add(thing.key)
    return found


def _is_related(word: str, synset: str, below: dict[str, int], wordnet: WordNet) -> bool:
    """Whether a word of a file name means the thing, and not what it does ("running")."""
    senses = wordnet.lemmas.get(word.replace(" ", "_"), ())
    shared = (each for sense in senses for each in wordnet.above(sense) & wordnet.above(synset))
    return any(below[each] <= RELATED for each in shared)


def may_be(word: str, thing: Thing, names: EvidenceNames, wordnet: WordNet) -> bool:
    """Whether a word may be true of it."""
    senses = wordnet.lemmas.get(word.replace(" ", "_"), ())
    truths = {names.names[names.index(thing.name)].synset}
    truths |= {s for each in thing.accepted for s in wordnet.lemmas.get(each.replace(" ", "_"), ())[:2]}
    return word in thing.accepted or any(
        sense in wordnet.above(truth) or truth in wordnet.above(sense) for sense in senses for truth in truths
    )


def chosen(
    found: dict[str, tuple[str, set[str]]], taken: set[str], tagged: Collection[str], random_: random.Random
) -> list[tuple[str, str]]:
    """(word, kind), by quota; kinds with fewer words than theirs leave their places to the others.

    taken: words that are not free. tagged: those that come first.
    """
    by_kind = defaultdict(list)
    for word in sorted(found):
        if word not in taken:
            by_kind[found[word][0]].append(word)
    for words in by_kind.values():
        random_.shuffle(words)
        words.sort(key=lambda word: word.replace(" ", "_") not in tagged)
    picked = [(w, kind) for kind in ("sibling", "hyponym") for w in by_kind[kind]][: WORDS - sum(QUOTA.values())]
    picked += [(word, kind) for kind, most in QUOTA.items() for word in by_kind[kind][:most]]
    rest = [(word, kind) for kind in sorted(by_kind) for word in by_kind[kind] if (word, kind) not in picked]
    rest.sort(key=lambda each: each[0].replace(" ", "_") not in tagged)
    return sorted([*picked, *rest[: WORDS - len(picked)]])


def build(wordnet: WordNet, tagged: Collection[str], photos: Sequence[Path]) -> list[dict[str, Any]]:
    """The list's records. tagged: lemmas that occur in WordNet's tagged texts. photos: folders."""
    names = EvidenceNames.load(EMBEDDED / FOLDER / NAMES_FILE)
    own = OwnWords(Vocabulary.load(EMBEDDED), names)
    worlds = {
        "drawn": drawn_things(World.load(), names),
        "photographs": photographed_things(photos, names, wordnet),
    }
    random_ = random.Random(SEED)
    taken: set[str] = set()
    records = []
    for world, things in worlds.items():
        found = candidates(things, names, wordnet, own)
        for word, kind in chosen(found, taken, tagged, random_):
            taken.add(word)
            maybe = sorted(thing.key for thing in things if may_be(word, thing, names, wordnet))
            records.append(
                {
                    "word": word,
                    "world": world,
                    "kind": kind,
                    "true_of": sorted(found[word][1]),
                    "may_be": sorted({*maybe, *found[word][1]}),
                }
            )
    return records


def tagged_lemmas(wordnet: Path) -> frozenset[str]:
    """`cntlist.rev`: a sense key ("dog%1:05:00::", nouns have a 1), its number and its count."""
    lines = (wordnet / "cntlist.rev").read_text(encoding="ascii").splitlines()
    keys = (line.split()[0].partition("%") for line in lines)
    return frozenset(lemma for lemma, _, rest in keys if rest.startswith("1:"))


def _squeezed(word: str) -> str:
    return word.lower().replace(" ", "").replace("-", "").replace("_", "")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.open_word_list", description=(__doc__ or "")[:80])
    parser.add_argument("--wordnet", type=Path, required=True, help="directory of WordNet's database files")
    parser.add_argument("--photos", type=Path, required=True, help="a folder of labelled photographs, beside ours")
    given = parser.parse_args(arguments)
    records = build(WordNet.read(given.wordnet), tagged_lemmas(given.wordnet), [PHOTOGRAPHS, given.photos])
    LIST.write_text("[\n" + ",\n".join(json.dumps(each) for each in records) + "\n]\n", encoding="utf-8")
    for world in ("drawn", "photographs"):
        kinds = defaultdict(list)
        for each in records:
            if each["world"] == world:
                kinds[each["kind"]].append(each["word"])
        print(world, {kind: len(words) for kind, words in kinds.items()})
        print(dict(kinds))


if __name__ == "__main__":
    main()
