"""A vocabulary as JSON writes it -> records, or every flaw with its place."""

from typing import Any

import pytest

from dynrefer.model.request_vocabulary import RequestVocabulary, Word
from dynrefer.model.vocabulary_entries import (
    MAX_FLAWS,
    UnknownVocabularyError,
    VocabularyError,
    VocabularyLimits,
    read_vocabulary,
)

LIMITS = VocabularyLimits(words=20, chars=16)
PETS = RequestVocabulary(categories=(Word("dog"), Word("cat")), calibration=(("categories", 2.0, 0.0),))


def resolve(name: str) -> RequestVocabulary:
    if name != "pets":
        raise UnknownVocabularyError.of(name, ("pets",))
    return PETS


def flaws(document: Any) -> dict[str, str]:
    with pytest.raises(VocabularyError) as caught:
        read_vocabulary(document, resolve, LIMITS)
    return {flaw.pointer: flaw.sentence for flaw in caught.value.flaws}


def test_words_with_all_that_they_may_have() -> None:
    mug = {"name": "Mug", "synonyms": ["cup"], "translations": {"zh-Hans": "杯子", "de": "Becher"}, "threshold": 0.5}
    found = read_vocabulary({"categories": ["dog", mug], "tags": None}, limits=LIMITS)
    assert found.tags is None and found.attributes is None and found.words("caption") is None
    assert found.categories == (Word("dog"), Word("Mug", ("cup",), (("de", "Becher"), ("zh-hans", "杯子")), 0.5))


def test_attributes() -> None:
    entries = ["color:brown/tan", {"name": "coat:shaggy", "template": "has", "synonyms": ["woolly"]}, "age:young/baby"]
    found = read_vocabulary({"attributes": entries}).attributes
    assert found is not None
    brown, shaggy, young = (each.attribute for each in found)
    assert (brown.name, brown.type, brown.value) == ("color:brown", "color", "brown")
    assert brown.synonyms == ("brown", "tan") and brown.template == "is"
    assert shaggy.template == "has" and shaggy.synonyms == ("shaggy", "woolly")
    assert [each.own_template for each in found] == [False, True, False]
    assert young.name == "age:young" and "toddler" in young.synonyms  # as the released code adds them


def test_names_of_vocabularies() -> None:
    assert read_vocabulary("pets", resolve) is PETS
    found = read_vocabulary({"categories": "pets", "tags": ["leash"]}, resolve)
    assert found.categories == PETS.categories and found.calibration == PETS.calibration
    assert flaws("pet") == {"": "There is no vocabulary 'pet'; this server knows: pets. Did you mean 'pets'?"}
    assert flaws({"tags": "pets"}) == {"/tags": "The vocabulary 'pets' has no tags."}


REFUSED: list[tuple[Any, str, str]] = [
    (7, "", "object"),
    ({}, "", "at least one"),
    ({"tags": None}, "", "at least one"),
    ({"words": ["a"]}, "/words", "Unknown field"),
    ({"a/b~c": ["a"]}, "/a~1b~0c", "Unknown field"),
    ({"tags": {}}, "/tags", "list"),
    ({"tags": []}, "/tags", "no word"),
    ({"tags": [1]}, "/tags/0", "text, or an object"),
    ({"tags": [{}]}, "/tags/0/name", "required"),
    ({"tags": [{"name": "a", "template": "is"}]}, "/tags/0/template", "Unknown field"),
    ({"tags": ["a", "\t"]}, "/tags/1", "empty"),
    ({"tags": ["x" * 17]}, "/tags/0", "at most 16"),
    ({"tags": ["a\u0000"]}, "/tags/0", "control"),
    ({"tags": ["a\ud800"]}, "/tags/0", "control"),
    ({"tags": ["Straße", "STRASSE"]}, "/tags/1", "twice"),
    ({"tags": ["a  b", "a b"]}, "/tags/1", "twice"),
    ({"tags": ["cup", {"name": "mug", "synonyms": ["Cup"]}]}, "/tags/1", "twice"),
    ({"tags": [{"name": "mug", "synonyms": "cup"}]}, "/tags/0/synonyms", "list"),
    ({"tags": [{"name": "mug", "synonyms": [""]}]}, "/tags/0/synonyms/0", "empty"),
    ({"tags": [{"name": "a", "translations": ["b"]}]}, "/tags/0/translations", "object"),
    ({"tags": [{"name": "a", "translations": {"german!": "b"}}]}, "/tags/0/translations/german!", "language"),
    ({"tags": [{"name": "a", "translations": {"de": 1}}]}, "/tags/0/translations/de", "text"),
    ({"tags": [{"name": "a", "threshold": float("nan")}]}, "/tags/0/threshold", "finite"),
    ({"tags": [{"name": "a", "threshold": True}]}, "/tags/0/threshold", "finite"),
    ({"tags": [str(i) for i in range(21)]}, "/tags", "at most 20 words"),
    ({"tags": [{"name": "a", "synonyms": [str(i) for i in range(30)]}]}, "/tags/0/synonyms", "at most 20"),
    ({"tags": ["a"] + [str(i) for i in range(10)], "categories": [str(i) for i in range(10)]}, "/tags", "at most 20"),
    ({"attributes": ["red"]}, "/attributes/0", "type:value"),
    ({"attributes": [":red"]}, "/attributes/0", "type:value"),
    ({"attributes": ["color:"]}, "/attributes/0", "type:value"),
    ({"attributes": ["color:red//tan"]}, "/attributes/0", "type:value"),
    ({"attributes": ["color:" + "x" * 17]}, "/attributes/0", "at most 16"),
    ({"attributes": ["color:" + "/".join(map(str, range(30)))]}, "/attributes/0", "at most 20"),
    ({"attributes": ["color:red/tan", "Color:Tan"]}, "/attributes/1", "twice"),
    ({"attributes": [{"name": "color:red", "template": "of"}]}, "/attributes/0/template", '"is" or "has"'),
]


@pytest.mark.parametrize(("document", "pointer", "part"), REFUSED)
def test_flaws_stand_at_their_place(document: Any, pointer: str, part: str) -> None:
    found = flaws(document)
    assert part in found[pointer], found


def test_the_same_value_may_stand_under_two_types() -> None:
    assert len(read_vocabulary({"attributes": ["color:red", "hair color:red"]}).attributes or ()) == 2


def test_many_flaws_are_not_all_reported() -> None:
    assert len(flaws({"tags": [""] * 10_000})) == MAX_FLAWS
    assert len(flaws({str(i): 1 for i in range(10_000)})) == MAX_FLAWS
