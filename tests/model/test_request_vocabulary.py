"""A request's vocabulary travels between processes, and is one object where it arrives."""

import gc
import pickle

from dynrefer.model import request_vocabulary
from dynrefer.model.vocabulary_entries import read_vocabulary

GIVEN = {
    "categories": ["dog", {"name": "mug", "synonyms": ["cup"], "translations": {"de": "Becher"}, "threshold": 0.5}],
    "attributes": ["color:brown/tan"],
}
LIMITED = {"name": "a", "threshold": 1}


def test_it_arrives_as_it_was_sent() -> None:
    sent = read_vocabulary(GIVEN)
    data = pickle.dumps(sent)
    assert pickle.loads(data) is sent
    request_vocabulary._here.clear()
    first, second = pickle.loads(data), pickle.loads(data)
    assert first == sent and first is second and first is not sent
    assert (hash(first), first.digest) == (hash(sent), sent.digest)


def test_nothing_is_kept_of_it() -> None:
    data = pickle.dumps(read_vocabulary({"tags": ["a word of its own"]}))
    gc.collect()
    assert not any(b"a word of its own" in packed for packed in request_vocabulary._here)
    assert pickle.loads(data).tags[0].name == "a word of its own"


def test_other_words_have_another_digest() -> None:
    vocabularies = [
        {"tags": ["a"]},
        {"categories": ["a"]},
        {"tags": ["a", "b"]},
        {"tags": [{"name": "a", "threshold": 1}]},
    ]
    assert len({read_vocabulary(each).digest for each in vocabularies}) == len(vocabularies)
