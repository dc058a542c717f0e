"""The lists mended by hand, WordNet's graph, and that they make the file that ships."""

from pathlib import Path

import pytest

from dynrefer.workbench.errors import DataError
from dynrefer.workbench.evidence.names import (
    CLASS_SYNSETS,
    COCO_CATEGORIES,
    NAMES_LIST,
    PARENTS_LIST,
    build,
    main,
    read_names,
    read_parents,
)
from dynrefer.workbench.evidence.wordnet import WordNet
from dynrefer.workbench.scenes.world import World
from tests.repository import ROOT

WORDNET = Path("/usr/share/wordnet")
COMMITTED = ROOT / "model/embedded/evidence/names.json"
NAMES = NAMES_LIST.read_text(encoding="utf-8")

# In WordNet's form, behind a line of licence: an owl is a bird is an animal is an entity; a bat has two senses.
DATA = """  1 a line of the licence
00000001 03 n 01 entity 0 000 | what is
00000002 05 n 02 animal 0 beast 0 001 @ 00000001 n 0000 | what moves
00000003 05 n 01 bird 0 002 @ 00000002 n 0000 ~ 00000004 n 0000 | what flies
00000004 05 n 01 owl 0 001 @ 00000003 n 0000 | what flies by night
00000005 05 n 01 bat 0 001 @ 00000002 n 0000 | what hangs
00000006 06 n 01 bat 0 001 @ 00000001 n 0000 | what hits
"""
INDEX = """  1 a line of the licence
animal n 1 1 @ 1 1 00000002
beast n 1 1 @ 1 0 00000002
bird n 1 1 @ 1 1 00000003
owl n 1 1 @ 1 1 00000004
bat n 2 1 @ 2 1 00000005 00000006
"""


@pytest.fixture
def wordnet(tmp_path: Path) -> WordNet:
    (tmp_path / "data.noun").write_text(DATA)
    (tmp_path / "index.noun").write_text(INDEX)
    return WordNet.read(tmp_path)


def test_wordnet(wordnet: WordNet) -> None:
    assert wordnet.sense("bat.2") == "n00000006"
    assert wordnet.sense("beast.1") == wordnet.sense("animal.1") == "n00000002"
    assert wordnet.above("n00000004") == {"n00000004", "n00000003", "n00000002", "n00000001"}
    assert wordnet.common(["n00000004", "n00000005"]) == "n00000002"
    assert wordnet.common(["n00000004"]) == "n00000004"
    with pytest.raises(DataError, match=r"bat\.3"):
        wordnet.sense("bat.3")
    with pytest.raises(DataError, match="n00000009"):
        wordnet.above("n00000009")


def test_missing_wordnet_names_the_package(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="wordnet-base"):
        WordNet.read(tmp_path)


def test_lists_are_whole() -> None:
    names = {entry.name for entry in read_names(NAMES)}
    assert {category.name for category in World.load().categories} <= names
    assert len(COCO_CATEGORIES.read_text().splitlines()) == 80
    synsets = CLASS_SYNSETS.read_text().split()
    assert len(synsets) == len(set(synsets)) == 1000
    assert synsets == sorted(synsets)
    assert {parent.under for parent in read_parents(PARENTS_LIST.read_text(encoding="utf-8"))} >= {"", "animal"}


@pytest.mark.parametrize(
    ("found", "put", "message"),
    [
        ("owl | 24 |", "owl | |", "class 24 "),
        ("owl | 24 |", "owl | 24 25 |", "class '25'"),
        ("owl | 24 |", "owl | 24 | |", "3 fields"),
        ("owl | 24 |", "owl | 24 | night;", "unknown option 'night'"),
        ("owl | 24 |", "owl | 24 | colour=brown;", "unknown option 'colour=brown'"),
        ("vulture | 23 |", "owl | 23 |", "name 'owl'"),
    ],
)
def test_mistakes_in_the_names_are_named(found: str, put: str, message: str) -> None:
    assert found in NAMES
    with pytest.raises(DataError, match=message):
        read_names(NAMES.replace(found, put))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bird | a | animal | bird.1", "under 'animal'"),
        ("object | a | |\nbird | a | object | bird.1\nbird | a | object |", "parent 'bird' stands"),
        ("object | a | ", "4 fields"),
    ],
)
def test_mistakes_in_the_parents_are_named(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_parents(text)


def test_remarks_and_signs() -> None:
    text = NAMES.replace("owl | 24 |", "owl | 24 | also=night bird; +big cat -bird -bird of prey; colour;")
    owl = next(entry for entry in read_names(text) if entry.name == "owl")
    assert owl.options["also"] == "night bird"
    assert (owl.added, owl.removed, owl.colour) == ({"big cat"}, {"bird", "bird of prey"}, True)


def needs_wordnet(test: object) -> object:
    missing = not (WORDNET / "data.noun").is_file()
    skipped = pytest.mark.skipif(missing, reason="needs WordNet's nouns: apt-get install wordnet-base")(test)
    return pytest.mark.system(skipped)


@needs_wordnet
def test_committed_file_is_what_the_script_writes(tmp_path: Path) -> None:
    main(WORDNET, tmp_path / "names.json")
    assert (tmp_path / "names.json").read_bytes() == COMMITTED.read_bytes()


@needs_wordnet
@pytest.mark.parametrize(
    ("found", "put", "message"),
    [
        ("owl | 24 |", "owl | 24 | +gadget;", "unknown parent 'gadget'"),
        ("owl | 24 |", "owl | 24 | drawn=gadget;", "drawn=gadget"),
        ("owl | 24 |", "owl | 24 | article=an;", "article 'an'"),
        ("fire hydrant |", "red hydrant |", "WordNet does not know 'red hydrant'"),
        ("\nsurfboard |", "\nsail |", "'surfboard' of the drawn world or of COCO"),
    ],
)
def test_mistakes_that_only_the_whole_shows(found: str, put: str, message: str) -> None:
    assert found in NAMES
    parents = read_parents(PARENTS_LIST.read_text(encoding="utf-8"))
    with pytest.raises(DataError, match=message):
        build(WordNet.read(WORDNET), read_names(NAMES.replace(found, put)), parents, World.load())
