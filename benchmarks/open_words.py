"""`python -m benchmarks.open_words --photos DIR`: words that are in none of the model's lists, asked of known objects.

The words stand in open_words_list.json (see `open_word_list.py`): 100 for drawn scenes of the test split, 100 for
photographs. Each is asked about up to five regions that it is true of, among 19 other words of its half that are not;
chance is .05. Compared:

- placed: as a request is answered, by the words' places in the graph of nouns;
- random: each of the 20 words has the place of a random lemma of the graph;
- spelling: a word has the probability of the own name that is spelled most alike.

A tie counts by its share. Standard errors are over words. Writes results/open_words.json.
"""

from __future__ import annotations

import argparse
import difflib
import json
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.open_word_list import LIST, PHOTOGRAPHS
from dynrefer.model import DynRefer
from dynrefer.model.evidence.evidence import FOLDER
from dynrefer.model.evidence.identity import Identity
from dynrefer.model.evidence.names import NAMES_FILE, EvidenceNames
from dynrefer.model.evidence.noun_graph import GRAPH_FILE, NounGraph
from dynrefer.model.evidence.word_placement import WordPlacement
from dynrefer.model.images import decode_image
from dynrefer.model.loading import EMBEDDED
from dynrefer.model.types import Corners, RegionQuery, Task
from dynrefer.model.vocabulary import Vocabulary
from dynrefer.workbench.data.photographs import read_photographs
from dynrefer.workbench.evaluation.drawn_regions import RegionSet
from dynrefer.workbench.profiling.machine import provenance
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.world import World

RESULT = Path(__file__).parent / "results" / "open_words.json"
SEED = 16
NAMES = 20
REGIONS_PER_WORD = 5
DRAWN_REGIONS = 1_000

Scores = Callable[[Sequence[str], "Seen"], NDArray[np.float64]]


@dataclass(frozen=True)
class Seen:
    """A region, as the model saw it. keys: of the list's `true_of` and `may_be` that name it."""

    keys: frozenset[str]
    identity: Identity


def see(
    model: DynRefer, image: NDArray[np.uint8], boxes: Sequence[Corners], keys: Sequence[frozenset[str]]
) -> list[Seen]:
    """Regions of one image."""
    prepared = model.prepare(image, [RegionQuery(box, tasks=(Task.CATEGORIES,)) for box in boxes])
    found = []
    for key, output in zip(keys, model.run(prepared), strict=True):
        identity = output.outputs[0].identity
        assert identity is not None
        found.append(Seen(key, identity))
    return found


def drawn(model: DynRefer) -> list[Seen]:
    """Regions of test scenes."""
    world = World.load()
    regions = RegionSet.draw(world, SpritePack.load(), "test", scenes_seed=0, regions=DRAWN_REGIONS)
    found = []
    for scene in regions.scenes:
        keys = [
            frozenset((f"category:{each.category}", f"sprite:{each.category}/{each.sprite.split('/')[1]}"))
            for each in scene.objects
        ]
        found += see(model, scene.image, [each.box for each in scene.objects], keys)
    return found


def photographed(model: DynRefer, folders: Sequence[Path]) -> list[Seen]:
    """Boxes of labelled photographs."""
    found = []
    for folder in folders:
        for photograph in read_photographs(folder):
            image = decode_image(photograph.path.read_bytes(), None).pixels
            keys = [frozenset((f"photograph:{photograph.path.name}#{i}",)) for i in range(len(photograph.boxes))]
            found += see(model, image, [each.box for each in photograph.boxes], keys)
    return found


class Ways:
    """The ways to score words."""

    def __init__(self, words: Sequence[str], random_: random.Random) -> None:
        names = EvidenceNames.load(EMBEDDED / FOLDER / NAMES_FILE)
        self._categories = Vocabulary.load(EMBEDDED).categories
        self._names = tuple(entry.name for entry in names.names)
        self.placement = WordPlacement.load(EMBEDDED / FOLDER / GRAPH_FILE, self._categories, names)
        lemmas = list(NounGraph.load(EMBEDDED / FOLDER / GRAPH_FILE).lemmas())
        self._random = {word: random_.choice(lemmas) for word in words}
        self._alike = {known: _alike(words, known) for known in (self._categories, self._names)}

    def placed(self, words: Sequence[str], seen: Seen) -> NDArray[np.float64]:
        found = self.placement.probabilities(self.placement.place(words), seen.identity)
        return np.nan_to_num(found.astype(np.float64))

    def random(self, words: Sequence[str], seen: Seen) -> NDArray[np.float64]:
        return self.placed([self._random[word] for word in words], seen)

    def spelling(self, words: Sequence[str], seen: Seen) -> NDArray[np.float64]:
        photograph = seen.identity.photograph
        known, values = (
            (self._names, seen.identity.names) if photograph else (self._categories, seen.identity.categories)
        )
        places = {name: place for place, name in enumerate(known)}
        return np.array([values[places[self._alike[known][word]]] for word in words], np.float64)


def _alike(words: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    return {word: difflib.get_close_matches(word, known, n=1, cutoff=0.0)[0] for word in words}


def top1(scores: NDArray[np.float64]) -> float:
    """Whether the first of these is the best; a share of it where others are as good."""
    best = scores == scores.max()
    return float(best[0] / best.sum())


def measure_half(
    records: Sequence[Mapping[str, Any]], regions: Sequence[Seen], ways: Mapping[str, Scores], random_: random.Random
) -> dict[str, Any]:
    """Way -> its figures; by kind too."""
    hits: dict[str, dict[str, list[float]]] = {name: {} for name in ways}
    for record in records:
        mine = [seen for seen in regions if not seen.keys.isdisjoint(record["true_of"])]
        for seen in random_.sample(mine, min(REGIONS_PER_WORD, len(mine))):
            others = [each["word"] for each in records if seen.keys.isdisjoint(each["may_be"])]
            words = [record["word"], *random_.sample(others, NAMES - 1)]
            for name, way in ways.items():
                hits[name].setdefault(record["word"], []).append(top1(way(words, seen)))
    kinds = {record["word"]: record["kind"] for record in records}
    found: dict[str, Any] = {"words": len(next(iter(hits.values()))), "regions": len(regions)}
    for name, by_word in hits.items():
        groups: dict[str, list[float]] = defaultdict(list)
        for word, some in by_word.items():
            for group in ("all", kinds[word]):
                groups[group].append(float(np.mean(some)))
        found[name] = {group: _estimate(values) for group, values in groups.items()}
        if name == "placed":
            found["worst"] = sorted(word for word, some in by_word.items() if np.mean(some) < 0.2)
    return found


def _estimate(values: Sequence[float]) -> dict[str, float]:
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return {"top1": round(float(np.mean(values)), 3), "standard_error": round(error, 3), "words": len(values)}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.open_words", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--photos", type=Path, required=True, help="a folder of labelled photographs, beside ours")
    given = parser.parse_args(arguments)
    records = json.loads(LIST.read_text(encoding="utf-8"))
    random_ = random.Random(SEED)
    ways = Ways([each["word"] for each in records], random_)
    asked: dict[str, Scores] = {"placed": ways.placed, "random": ways.random, "spelling": ways.spelling}
    model = DynRefer.load("embedded", device="cpu")
    halves = {"drawn": drawn(model), "photographs": photographed(model, [PHOTOGRAPHS, given.photos])}
    result: dict[str, Any] = {**provenance(), "names": NAMES}
    for half, regions in halves.items():
        some = [each for each in records if each["world"] == half]
        result[half] = measure_half(some, regions, asked, random_)
        result[half]["unknown"] = sum(each.via == "none" for each in ways.placement.place([r["word"] for r in some]))
    text = json.dumps(result, indent=1)
    RESULT.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
