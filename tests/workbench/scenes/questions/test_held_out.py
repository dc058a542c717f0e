"""What training asks and what it must never see."""

from __future__ import annotations

import re
from itertools import product

import pytest

from dynrefer.workbench.scenes.questions.forms import FRAMES, form, number_of_forms, skeleton
from dynrefer.workbench.scenes.questions.more_wordings import more_forms
from dynrefer.workbench.scenes.questions.names import spoken_name
from dynrefer.workbench.scenes.questions.records import YES_NO_KINDS, Forms, Kind
from dynrefer.workbench.scenes.questions.wordings import follow_ups, skeletons
from dynrefer.workbench.scenes.world import World
from tests.workbench.scenes.questions.conftest import Asked

of_added_forms = pytest.mark.parametrize(
    "more, every", [(more_forms("skeletons"), skeletons()), (more_forms("follow_ups"), follow_ups())]
)
_WORD = re.compile(r"\{?[\w'’]+\}?")
LINES = tuple(line for lines in (*skeletons().values(), *follow_ups().values()) for line in lines)


def _sentences(line: str, *, held_out: bool) -> set[str]:
    """All sentences of a skeleton: without a held-out wording, or with one or more."""
    parts = skeleton(line).parts
    return {
        "".join(text for text, _ in chosen) for chosen in product(*parts) if any(held for _, held in chosen) == held_out
    }


def _unframed(form: str) -> str:
    for frame in FRAMES:
        before, after = frame.split("{question}")
        if form.startswith(before) and form.endswith(after):
            return form[len(before) : len(form) - len(after)]
    return form


@pytest.fixture(scope="module")
def of_training() -> set[str]:
    read = [line for line in LINES if not skeleton(line).held_out]
    return set().union(*(_sentences(line, held_out=False) for line in read))


def test_there_are_thousands_of_forms_and_every_kind_holds_some_out() -> None:
    assert sum(map(number_of_forms, (*skeletons().values(), *follow_ups().values()))) > 5000
    for lines in (*skeletons().values(), *follow_ups().values()):
        read = [skeleton(line) for line in lines]
        assert any(each.held_out for each in read)
        assert any(each.has_wordings and not each.held_out for each in read)


def test_no_held_out_sentence_is_one_of_training(of_training: set[str]) -> None:
    for line in LINES:
        held_out = skeleton(line).held_out
        unseen = _sentences(line, held_out=True) | (_sentences(line, held_out=False) if held_out else set())
        assert not unseen & of_training, line


def test_training_asks_with_its_own_sentences_and_the_others_never_do(
    asked: dict[str, list[Asked]], of_training: set[str]
) -> None:
    for name, questions in asked.items():
        for each in questions:
            ours = name in ("training", "pairs")
            assert (_unframed(each.question.form) in of_training) == ours
            assert each.question.held_out == (None if name == "training" else name)


def test_training_mentions_no_pair_that_is_held_out(asked: dict[str, list[Asked]], world: World) -> None:
    pairs = [f"{colour} {spoken_name(world.category(name))}" for colour, name in world.heldout_pairs]
    texts = [
        " ".join((*(message.content for message in each.question.conversation.messages), each.question.answer)).lower()
        for each in asked["training"]
    ]
    assert not [pair for pair in pairs for text in texts if f" {pair}" in text]
    assert any(f" {pair}" in each.question.answer for pair in pairs for each in asked["pairs"])


def test_every_kind_is_asked_and_yes_is_as_frequent_as_no(asked: dict[str, list[Asked]]) -> None:
    for name, questions in asked.items():
        assert {each.question.kind for each in questions} == set(Kind), name
        for kind in YES_NO_KINDS:
            answers = [each.question.truth[0] for each in questions if each.question.kind is kind]
            assert answers.count("yes") == answers.count("no") > 0, (name, kind)


def test_a_form_needs_skeletons_of_its_sort() -> None:
    import numpy as np

    assert form(("Is it?",), Forms.SKELETONS, np.random.default_rng(0)) is None
    assert form(("^Is it?",), Forms.TRAINING, np.random.default_rng(0)) is None
    assert form(("Is it?",), Forms.WORDINGS, np.random.default_rng(0)) is None


def _words(sentence: str) -> set[str]:
    return set(_WORD.findall(sentence.lower()))


def _phrase(sentence: str) -> str:
    return f" {' '.join(_WORD.findall(sentence.lower()))} "


def _held_out_wordings(every: tuple[str, ...], more: tuple[str, ...]) -> set[str]:
    """What alternatives that are held out say and no sentence of the kind's own lines of training does."""
    own = [line for line in every if line not in more and not skeleton(line).held_out]
    heard = [_phrase(each) for line in own for each in _sentences(line, held_out=False)]
    unheard = {_phrase(text) for line in own for part in skeleton(line).parts for text, held_out in part if held_out}
    return {each for each in unheard if each.strip() and not any(each in sentence for sentence in heard)}


@of_added_forms
def test_forms_added_for_training_say_no_held_out_wording(
    more: dict[Kind, tuple[str, ...]], every: dict[Kind, tuple[str, ...]]
) -> None:
    for kind, lines in more.items():
        unheard = _held_out_wordings(every[kind], lines)
        assert unheard, kind
        for line in lines:
            said = [_phrase(each) for each in _sentences(line, held_out=False)]
            assert not [each for each in unheard if any(each in sentence for sentence in said)], line


@of_added_forms
def test_forms_added_for_training_are_not_near_to_a_held_out_skeleton(
    more: dict[Kind, tuple[str, ...]], every: dict[Kind, tuple[str, ...]]
) -> None:
    """Of the words of two sentences, fewer than half are common to both."""
    for kind, lines in more.items():
        unseen = [line for line in every[kind] if skeleton(line).held_out]
        held_out = [_words(each) for line in unseen for each in _sentences(line, held_out=False)]
        for line in lines:
            assert "^" not in line
            for own in map(_words, _sentences(line, held_out=False)):
                assert all(len(own & each) < 0.5 * len(own | each) for each in held_out), line
