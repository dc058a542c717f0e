"""Words of requests among what the embedded model knows: the shipped lists and graph."""

import numpy as np
import pytest

from dynrefer.model.evidence.evidence import of_drawing
from dynrefer.model.evidence.identity import Identity
from dynrefer.model.evidence.names import EvidenceNames
from dynrefer.model.evidence.word_placement import WordPlacement
from dynrefer.model.loading import EMBEDDED
from dynrefer.model.vocabulary import Vocabulary

CATEGORIES = Vocabulary.load(EMBEDDED).categories
NAMES = EvidenceNames.load(EMBEDDED / "evidence/names.json")


@pytest.fixture(scope="module")
def placement() -> WordPlacement:
    return WordPlacement.load(EMBEDDED / "evidence/nouns.safetensors", CATEGORIES, NAMES)


def drawing(**probabilities: float) -> Identity:
    row = np.zeros(len(CATEGORIES), np.float32)
    for name, value in probabilities.items():
        row[CATEGORIES.index(name.replace("_", " "))] = value
    return of_drawing(row, CATEGORIES)


def photograph(**probabilities: float) -> Identity:
    row = np.zeros(len(NAMES.names), np.float32)
    for name, value in probabilities.items():
        row[NAMES.index(name.replace("_", " "))] = value
    return Identity("", 0.0, np.zeros(len(CATEGORIES), np.float32), False, True, 1.0, row)


def probability(placement: WordPlacement, word: str, identity: Identity) -> float:
    return float(placement.probabilities(placement.place([word]), identity)[0])


@pytest.mark.parametrize(
    ("word", "via", "nearest"),
    [
        ("dog", "own", "dog"),
        ("The Dogs", "own", "dog"),
        ("hot-dog", "own", "hot dog"),
        ("pair of scissors", "own", "scissors"),
        ("people", "own", "person"),
        ("furniture", "own", "furniture"),
        ("spectacles", "synonym", "glasses"),
        ("chopper", "synonym", "helicopter"),
        ("koala bear", "synonym", "koala"),  # "a" is an article in front alone
        ("diadem", "synonym", "crown"),
        ("canid", "broader", None),
        ("poodle", "narrower", "dog"),
        ("red apple", "narrower", "apple"),
        ("lime", "relative", None),
    ],
)
def test_a_word_has_a_place(placement: WordPlacement, word: str, via: str, nearest: str | None) -> None:
    (placed,) = placement.place([word])
    assert placed.name == word
    assert placed.via == via
    if nearest is not None:
        assert placed.nearest[0] == nearest


def test_the_sense_that_fits_is_taken(placement: WordPlacement) -> None:
    spectacles, lime, club = placement.place(["spectacles", "lime", "club"])
    assert (spectacles.synset, spectacles.sense) == ("n04272054", "glasses.1")
    assert lime.sense == "lime.6"  # the fruit, not the stone, the glue or the tree
    assert club.sense == "club.3"  # a bat is a club


@pytest.mark.parametrize("word", ["blorf", "", "   ", "!!", "狗", "\x00", "\ud800", "a" * 10_000, "the", "of the"])
def test_a_word_without_a_place_is_not_guessed(placement: WordPlacement, word: str) -> None:
    (placed,) = placement.place([word])
    assert (placed.via, placed.synset) == ("none", None)
    assert np.isnan(probability(placement, word, drawing(dog=1.0)))


def test_what_an_unknown_word_was_meant_to_be(placement: WordPlacement) -> None:
    assert placement.place(["zebrra"])[0].nearest[0] == "zebra"
    assert placement.place(["qqqqqq"])[0].nearest == ()


def test_probabilities_of_drawings(placement: WordPlacement) -> None:
    seen = drawing(chair=0.5, bed=0.3, dog=0.1)
    assert probability(placement, "furniture", seen) == pytest.approx(0.8)
    assert probability(placement, "chair", seen) == pytest.approx(0.5)
    assert probability(placement, "canid", seen) == pytest.approx(0.1, abs=0.01)
    assert 0.0 < probability(placement, "poodle", seen) < 0.05
    assert probability(placement, "submarine", drawing(dog=1.0)) == 0.0
    assert probability(placement, "diadem", drawing(crown=1.0)) == 1.0


def test_probabilities_of_photographs(placement: WordPlacement) -> None:
    assert probability(placement, "viverrine", photograph(mongoose=0.6, meerkat=0.3)) == pytest.approx(0.9, abs=0.01)
    assert probability(placement, "animal", photograph(mongoose=0.6, meerkat=0.3)) == pytest.approx(0.9)
    assert probability(placement, "lime", photograph(lemon=1.0)) < 0.5


def test_classes_that_are_one_name_share_as_the_tower_does(placement: WordPlacement) -> None:
    cat = NAMES.names[NAMES.index("cat")]
    even = photograph(cat=1.0)
    assert probability(placement, "siamese cat", even) == pytest.approx(1 / len(cat.classes), abs=0.01)
    classes = np.full(1000, 1e-6, np.float32)
    classes[284] = 0.9  # ImageNet's Siamese cat
    told = Identity("", 0.0, even.categories, False, True, 1.0, even.names, classes=NAMES.shares(classes))
    assert probability(placement, "siamese cat", told) > 0.95


def test_a_relative_is_never_as_likely_as_not(placement: WordPlacement) -> None:
    words = ["osprey", "nectarine", "fossa", "plumber", "poodle", "velociraptor", "kumquat"]
    for placed in placement.place(words):
        own = placed.photographed.values.max(initial=0.0), placed.drawn.values.max(initial=0.0)
        assert placed.via in ("relative", "narrower")
        assert placed.via == "narrower" or max(own) < 0.5
        assert max(own[1:]) < 0.5


@pytest.mark.parametrize(
    "chain",
    [
        ("clip poodle", "poodle", "dog", "canine", "carnivore", "mammal", "animal"),
        ("osprey", "bird of prey", "bird", "vertebrate"),
        ("nectarine", "fruit"),
        ("claw hammer", "hammer", "tool"),
        ("fossa", "viverrine", "carnivore"),
    ],
)
def test_a_broader_word_is_never_less_likely(placement: WordPlacement, chain: tuple[str, ...]) -> None:
    placed = placement.place(chain)
    random = np.random.default_rng(0)
    for _ in range(20):
        names = random.dirichlet(np.full(len(NAMES.names), 0.02)).astype(np.float32)
        categories = random.dirichlet(np.full(len(CATEGORIES), 0.02)).astype(np.float32)
        for identity in (
            of_drawing(categories, CATEGORIES),
            Identity("", 0.0, categories, False, True, 1.0, names),
        ):
            found = placement.probabilities(placed, identity)
            assert (np.diff(found) > -1e-5).all(), found


def test_nothing_is_asked(placement: WordPlacement) -> None:
    assert placement.place([]) == ()
    assert placement.probabilities((), drawing(dog=1.0)).shape == (0,)


def test_the_word_above_all_is_true_of_everything(placement: WordPlacement) -> None:
    for word in ("entity", "an entity", "small entity"):
        assert probability(placement, word, drawing(dog=0.9, cat=0.1)) > 0.2
    assert probability(placement, "entity", drawing(dog=0.9, cat=0.1)) == pytest.approx(1.0)
    assert probability(placement, "entity", photograph(cat=0.8, dog=0.2)) == pytest.approx(1.0)
