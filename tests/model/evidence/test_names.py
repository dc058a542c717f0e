"""Everyday names: the file that ships, folding, parents, articles, and what a malformed file is answered with."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dynrefer.model.errors import ConfigError, ModelNotFoundError
from dynrefer.model.evidence.names import IMAGENET_CLASSES, NAMES_FILE, EvidenceNames
from tests.repository import ROOT

PATH = ROOT / "model/embedded/evidence" / NAMES_FILE


@pytest.fixture(scope="module")
def names() -> EvidenceNames:
    return EvidenceNames.load(PATH)


def probabilities(names: EvidenceNames, **of_names: float) -> np.ndarray:
    """(K,) with these names, underscores for spaces."""
    found = np.zeros(len(names.names))
    for name, probability in of_names.items():
        found[names.index(name.replace("_", " "))] = probability
    return found


@pytest.mark.parametrize(
    ("index", "name"),
    [
        (0, "fish"),
        (24, "owl"),
        (100, "swan"),
        (133, "bittern"),
        (134, "crane"),
        (151, "dog"),
        (251, "dog"),
        (268, "dog"),
        (285, "cat"),
        (309, "bee"),
        (339, "horse"),
        (345, "cow"),
        (387, "red panda"),
        (388, "panda"),
        (494, "wind chime"),
        (517, "construction crane"),
        (568, "fur coat"),
        (656, "minivan"),
        (673, "mouse"),
        (784, "screwdriver"),
        (821, "bridge"),
        (850, "teddy bear"),
        (851, "tv"),
        (923, "plate"),
        (937, "broccoli"),
        (968, "cup"),
        (999, "toilet paper"),
    ],
)
def test_class_folds_to(names: EvidenceNames, index: int, name: str) -> None:
    assert index in names.names[names.index(name)].classes
    assert names.fold(np.eye(IMAGENET_CLASSES)[[index]])[0].argmax() == names.index(name)


@pytest.mark.parametrize(
    ("name", "parents"),
    [
        ("bee", ("insect", "animal", "object")),
        ("screwdriver", ("tool", "object")),
        ("wallaby", ("animal", "object")),
        ("owl", ("bird of prey", "bird", "animal", "object")),
        ("goldfish", ("fish", "animal", "object")),
        ("fish", ("animal", "object")),
        ("minivan", ("car", "vehicle", "object")),
        ("dam", ("structure", "object")),
        ("church", ("building", "structure", "object")),
        ("bell pepper", ("vegetable", "food", "object")),
        ("orange", ("fruit", "food", "object")),
        ("coral reef", ("object",)),
        ("coral", ("object",)),
        ("groom", ("person", "object")),
        ("mouse", ("electronic device", "object")),
        ("kite", ("toy", "object")),
        ("sunglasses", ("glasses", "object")),
        ("plate", ("object",)),
        ("solar panel", ("object",)),
    ],
)
def test_parents(names: EvidenceNames, name: str, parents: tuple[str, ...]) -> None:
    assert names.names[names.index(name)].parents == parents


def test_no_false_parents(names: EvidenceNames) -> None:
    animals, food = set(names.leaves_under("animal")), set(names.leaves_under("food"))
    assert not animals & {"teddy bear", "person", "kite", "mouse", "trilobite", "conch", "drumstick", "crab apple"}
    assert not food & {"plate", "menu", "hay", "coffee", "cup", "acorn"}
    assert not set(names.leaves_under("container")) & {"bathtub", "car", "wheelbarrow", "piggy bank"}
    assert not set(names.leaves_under("car")) & {"bus", "truck", "tandem bicycle", "car mirror"}


def test_every_chain_leads_through_the_parents_own(names: EvidenceNames) -> None:
    above = {parent.name: set(parent.parents) for parent in names.parents}
    for entry in names.names:
        for parent in entry.parents:
            assert above[parent] <= {*entry.parents, entry.name}, entry.name
    assert set(names.leaves_under("object")) == {entry.name for entry in names.names}
    assert all(len(names.leaves_under(parent.name)) > 1 for parent in names.parents)


def test_a_name_spelled_as_a_parent_is_below_it(names: EvidenceNames) -> None:
    assert "bird" in names.leaves_under("bird")
    assert "bird" not in names.names[names.index("bird")].parents


def test_categories(names: EvidenceNames) -> None:
    def of(name: str) -> tuple[str | None, str | None]:
        entry = names.names[names.index(name)]
        return entry.coco, entry.drawn

    assert of("minivan") == ("car", "car")
    assert of("remote control") == ("remote", None)
    assert of("hair dryer") == ("hair drier", None)
    assert of("person") == ("person", "person")
    assert of("rooster") == ("bird", "chicken")
    assert of("screwdriver") == (None, None)


def test_words(names: EvidenceNames) -> None:
    assert len({entry.name for entry in names.names}) == len(names.names)
    for entry in names.names:
        assert entry.name == entry.name.lower().strip()
        assert all(character.isalpha() or character in " -" for character in entry.name), entry.name
        assert not any(synonym in names for synonym in entry.synonyms), entry.name
        assert names.noun(entry.name).article == entry.article
    assert [entry.name for entry in names.names if entry.holds_colour] == [
        "indigo bunting",
        "red panda",
        "orange",
        "red wine",
    ]
    assert [names.names[names.index(n)].plural for n in ("wolf", "mouse", "butterfly", "giraffe", "scissors")] == [
        "wolves",
        "mice",
        "butterflies",
        "giraffes",
        "scissors",
    ]
    for parent in names.parents:
        if parent.name in names:
            assert names.noun(parent.name).article == parent.article


def test_fold_keeps_the_sum_and_the_rows_apart(names: EvidenceNames) -> None:
    classes = np.random.default_rng(0).dirichlet(np.full(IMAGENET_CLASSES, 0.01), 7).astype(np.float32)
    folded = names.fold(classes)
    assert folded.shape == (7, len(names.names))
    assert folded.sum(axis=1) == pytest.approx(1, abs=1e-6)
    assert folded[:, names.index("dog")] == pytest.approx(classes[:, 151:269].sum(axis=1))
    assert not folded[:, names.index("person")].any()
    for place in range(7):
        assert np.array_equal(names.fold(classes[place : place + 1])[0], folded[place])
    assert np.array_equal(names.fold(np.asfortranarray(classes)), folded)
    assert names.fold(classes[:0]).shape == (0, len(names.names))


def test_parent_probability(names: EvidenceNames) -> None:
    found = names.parent_probability(probabilities(names, owl=0.2, bird=0.1, bee=0.3, hammer=0.4))
    of = {parent.name: probability for parent, probability in zip(names.parents, found, strict=True)}
    assert of["bird"] == pytest.approx(0.3)
    assert of["animal"] == pytest.approx(0.6)
    assert of["tool"] == pytest.approx(0.4)
    assert of["object"] == pytest.approx(1.0)
    assert found.max() <= 1


@pytest.mark.parametrize(
    ("of_names", "parent", "probability"),
    [
        ({"bee": 0.3, "ant": 0.3, "owl": 0.4}, "insect", 0.6),
        ({"owl": 0.3, "swan": 0.3, "cat": 0.4}, "bird", 0.6),
        ({"owl": 0.3, "cat": 0.3, "hammer": 0.4}, "animal", 0.6),
        ({"owl": 0.4, "hammer": 0.4, "cat": 0.05, "church": 0.15}, "object", 1.0),
        ({"minivan": 0.3, "taxi": 0.3, "bus": 0.4}, "car", 0.6),
        ({}, "object", 0.0),
    ],
)
def test_best_parent(names: EvidenceNames, of_names: dict[str, float], parent: str, probability: float) -> None:
    found, sure = names.best_parent(probabilities(names, **of_names))
    assert (found.name, sure) == (parent, pytest.approx(probability))


def test_best_parent_at_least(names: EvidenceNames) -> None:
    given = probabilities(names, owl=0.3, swan=0.3, cat=0.4)
    assert names.best_parent(given, at_least=0.9)[0].name == "animal"


@pytest.mark.parametrize(
    ("name", "adjectives", "phrase"),
    [
        ("owl", (), "an owl"),
        ("owl", ("brown",), "a brown owl"),
        ("horse", ("orange",), "an orange horse"),
        ("scissors", (), "a pair of scissors"),
        ("scissors", ("red",), "a pair of red scissors"),
        ("broccoli", (), "broccoli"),
        ("broccoli", ("large", "green"), "large green broccoli"),
        ("red panda", ("large", "brown"), "a large red panda"),
        ("red wine", ("large",), "a large glass of red wine"),
        ("unicycle", (), "a unicycle"),
        ("umbrella", (), "an umbrella"),
        ("hourglass", (), "an hourglass"),
        ("animal", (), "an animal"),
        ("furniture", ("red",), "a red piece of furniture"),
        ("clothing", (), "a piece of clothing"),
        ("food", (), "food"),
        ("gadget of mine", (), "a gadget of mine"),
    ],
)
def test_with_article(names: EvidenceNames, name: str, adjectives: tuple[str, ...], phrase: str) -> None:
    assert names.with_article(name, adjectives) == phrase


@pytest.mark.parametrize(
    ("text", "name", "mended"),
    [
        ("a ~", "owl", "an owl"),
        ("an ~", "dog", "a dog"),
        ("~", "owl", "owl"),
        ("an upside-down ~", "dog", "an upside-down dog"),
        ("a large ~ on grass", "broccoli", "large broccoli on grass"),
        ("A large ~ on grass.", "broccoli", "Large broccoli on grass."),
        ("a ~", "scissors", "a pair of scissors"),
        ("a pair of red ~", "owl", "a red owl"),
        ("on a plain background a large red ~", "scissors", "on a plain background a pair of large red scissors"),
        ("in a city a brown ~ behind another object", "red panda", "in a city a red panda behind another object"),
        ("an orange ~", "orange", "an orange"),
        ("the ~ on snow", "jeans", "the jeans on snow"),
        ("a small ~", "red wine", "a small glass of red wine"),
        ("a ~", "furniture", "a piece of furniture"),
        ("a small ~", "food", "small food"),
        ("a dog on grass", "owl", "a dog on grass"),
        ("a ~ next to a ~ and a red ~", "owl", "an owl next to another one and a red one"),
    ],
)
def test_put_noun(names: EvidenceNames, text: str, name: str, mended: str) -> None:
    assert names.put_noun(text, name) == mended


def test_put_noun_takes_any_placeholder(names: EvidenceNames) -> None:
    assert names.put_noun("a <noun> (small)", "owl", "<noun>") == "an owl (small)"


def changed(tmp_path: Path, change: Any) -> Path:
    data = json.loads(PATH.read_text(encoding="utf-8"))
    change(data)
    path = tmp_path / NAMES_FILE
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("parents"), "names and parents"),
        (lambda d: d["names"][3].pop("article"), r"names\[3\]"),
        (lambda d: d["names"][3].update(colour=True), r"names\[3\]"),
        (lambda d: d["names"][3].update(article="an"), r"article of names\[3\]"),
        (lambda d: d["names"][3].update(classes=[True]), r"classes of names\[3\]"),
        (lambda d: d["names"][3].update(name=""), r"name of names\[3\]"),
        (lambda d: d["names"][3].update(parents=["object", "animal"]), "must end in 'object'"),
        (lambda d: d["names"][3].update(parents=["gadget", "object"]), "unknown parent 'gadget'"),
        (lambda d: d["parents"][1].update(parents=["gadget", "object"]), "unknown parent 'gadget'"),
        (lambda d: d["parents"][1].update(article=1), r"article of parents\[1\]"),
        (lambda d: d["parents"].append({"name": "void", "article": "a", "parents": ["object"]}), "'void'"),
        (lambda d: d["parents"].pop(0), "lacks the parent 'object'"),
        (lambda d: d["names"].append(d["names"][0]), "stands in .* twice"),
        (lambda d: d["names"][0].update(classes=[0]), "class 389 "),
        (lambda d: d["names"][0]["classes"].append(1), "class 1 "),
        (lambda d: d["names"][0]["classes"].append(1000), "class 1000 "),
        (lambda d: d.update(names={}), "names in .* must be a list"),
    ],
)
def test_malformed_file_is_refused_by_name(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EvidenceNames.load(changed(tmp_path, change))


def test_missing_or_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=NAMES_FILE):
        EvidenceNames.load(tmp_path / NAMES_FILE)
    (tmp_path / NAMES_FILE).write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        EvidenceNames.load(tmp_path / NAMES_FILE)


def test_unknown_words(names: EvidenceNames) -> None:
    assert "owl" in names
    assert "bird of prey" not in names
    with pytest.raises(KeyError):
        names.index("gadget")
    with pytest.raises(KeyError):
        names.leaves_under("owl")


def test_loads_no_torch() -> None:
    code = f"import sys; from dynrefer.model.evidence.names import EvidenceNames as E; E.load({str(PATH)!r})"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True, cwd=ROOT)
