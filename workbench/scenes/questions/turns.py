"""Questions that need more than the image: turns before them, answers to choose from; and those without an answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dynrefer.model.conversation import CANNOT_TELL
from dynrefer.workbench.scenes.questions import all_objects, compared, one_object
from dynrefer.workbench.scenes.questions.asker import Asker, Part
from dynrefer.workbench.scenes.questions.facts import DIRECTIONS
from dynrefer.workbench.scenes.questions.forms import form as form_of
from dynrefer.workbench.scenes.questions.names import GROUPS, POSITIONS, alike, spoken_name
from dynrefer.workbench.scenes.questions.records import Forms, Kind, Question, Says
from dynrefer.workbench.scenes.questions.wordings import follow_ups, skeletons

_MOST_ANSWERS = 4  # to choose from
Group = tuple[Question, ...]


def choice(asker: Asker) -> Group:
    """A question of another kind, with the answers that are allowed."""
    kinds = (Kind.NAME, Kind.COLOUR, Kind.POSITION, Kind.RELATION, Kind.EXISTENCE)
    kind = asker.one_of(kinds)
    if kind is Kind.EXISTENCE:
        return all_objects.existence(asker, ("yes", "no"))
    under = Asker(asker.facts, asker.random, asker.forms, kind)
    builders = {
        Kind.NAME: one_object.name,
        Kind.COLOUR: one_object.colour,
        Kind.POSITION: one_object.position,
        Kind.RELATION: compared.relation,
    }
    return tuple(_with_answers(asker, question) for question in builders[kind](under))


def setting(asker: Asker) -> Group:
    """Where is all of this?"""
    form = asker.form()
    kind = next((each for each in asker.facts.world.scene_kinds if each.name == asker.facts.scene.scene), None)
    if form is None or kind is None:
        return ()
    index = asker.shuffled()[0]
    slots = {"x": asker.refer(index)} if "{x}" in form else {}
    return (asker.ask(form, slots, [f"The scene is {kind.phrase}."], Says.SETTING, (kind.name,)),)


def unanswerable(asker: Asker) -> Group:
    """What an image cannot show, or a question about one of several objects that does not say which."""
    facts = asker.facts
    several = [f"the {group.word}" for group in GROUPS if len(facts.all_of(group) or ()) > 1]
    several += [f"the {each} object" for each in facts.world.colours if len(facts.all_coloured(each) or ()) > 1]
    if several and asker.random.random() < 0.4:
        form = asker.form(skeletons()[asker.one_of((Kind.SIZE, Kind.POSITION))])
        slots = {"x": asker.one_of(several)}
    else:
        form = asker.form()
        slots = {"x": asker.refer(asker.shuffled()[0])} if form is not None and "{x}" in form else {}
    return () if form is None else (asker.ask(form, slots, [CANNOT_TELL], Says.CANNOT_TELL, ()),)


def follow_up(asker: Asker) -> Group:
    """A question about "it", after an answer that says what it is."""
    builders: dict[Kind, Callable[[Asker, int, str], Group]] = {
        Kind.COLOUR: _its_colour,
        Kind.NAME: _its_name,
        Kind.WHERE: _its_place,
        Kind.SIZE: _its_size,
        Kind.POSITION: _its_position,
        Kind.LARGER_YES_NO: _is_it_larger,
        Kind.RELATION: _its_relation,
        Kind.BESIDE: _beside_it,
    }
    kinds = list(builders)
    for place in asker.random.permutation(len(kinds)):
        kind = kinds[int(place)]
        form = asker.form(follow_ups()[kind])
        for index in asker.shuffled():
            found = () if form is None else builders[kind](asker, index, form)
            if found:
                return found
    return ()


def _with_answers(asker: Asker, question: Question) -> Question:
    """The question of another kind as a choice: the true answer among false ones, in random order."""
    (true,) = question.truth
    facts, world = asker.facts, asker.facts.world
    if question.says is Says.NAME:
        others = [each.name for each in world.categories if not alike(each.name, true)]
        shown = [name for name in facts.names if not alike(name, true)]
        wrong = [*shown[:1], *(others[int(i)] for i in asker.random.permutation(len(others)))]
        wrong = [spoken_name(world.category(name)) for name in dict.fromkeys(wrong)]
        true = spoken_name(world.category(true))
    elif question.says is Says.COLOUR:
        index = question.subject if question.subject is not None else 0
        fits = [each for each in world.colours if facts.has_colour(index, each) is False]
        wrong = [fits[int(i)] for i in asker.random.permutation(len(fits))]
    else:
        every: tuple[str, ...] = POSITIONS if question.says is Says.POSITION else DIRECTIONS
        if true not in every:  # in front of, behind
            every = ("in front of", "behind")
        wrong = [every[int(i)] for i in asker.random.permutation(len(every)) if every[int(i)] != true]
    given = [true, *wrong[: _MOST_ANSWERS - 1]]
    answers = tuple(given[int(i)] for i in asker.random.permutation(len(given)))
    return replace(
        question,
        kind=Kind.CHOICE,
        conversation=replace(question.conversation, answers=answers),
        answer=true,
        spans=(),
        objects=(),
        says=Says.CHOICE,
        truth=(true,),
        same_answers=(),
    )


def _begun(asker: Asker, index: int, secret: str = "") -> Asker | None:
    """An asker with a first turn, as training knows it, that says of which object the next turn is."""
    asking, words = asker.again(), asker.words(index, secret)

    def first(kind: Kind, **slots: str) -> str:
        return str(form_of(skeletons()[kind], Forms.TRAINING, asker.random)).format(**slots)

    if secret == "name":
        position = asker.facts.position(index)
        if position is None:
            return None
        asking.said(first(Kind.POSITION, x=asking.region_words(index)), [one_object.position_words(position)])
        return asking
    if words and asker.random.random() < 0.5:
        asking.said(first(Kind.WHERE, x=asker.one_of(words)), one_object.located(asking, index))
        return asking
    asking.said(first(Kind.NAME, region=asking.region_words(index)), [asking.a(index), "."])
    return asking


def _its_colour(asker: Asker, index: int, form: str) -> Group:
    colour, asking = asker.facts.colour(index), _begun(asker, index, "colour")
    if colour is None or asking is None:
        return ()
    return (asking.ask(form, {}, [f"It is {colour}."], Says.COLOUR, (colour,), subject=index),)


def _its_name(asker: Asker, index: int, form: str) -> Group:
    asking = _begun(asker, index, "name")
    return () if asking is None else (asking.ask(form, {}, *one_object.named(asking, index), subject=index),)


def _its_place(asker: Asker, index: int, form: str) -> Group:
    asking = asker.again()
    first = str(form_of(skeletons()[Kind.NAME], Forms.TRAINING, asker.random))
    asking.said(first.format(region=asking.region_words(index)), [asking.a(index), "."])
    truth = (asker.facts.names[index],)
    return (asking.ask(form, {}, one_object.located(asking, index), Says.NAME, truth, subject=index),)


def _its_size(asker: Asker, index: int, form: str) -> Group:
    size, asking = asker.facts.size(index), _begun(asker, index)
    if size is None or asking is None:
        return ()
    return (asking.ask(form, {}, [f"It is {size}."], Says.SIZE, (size,), subject=index),)


def _its_position(asker: Asker, index: int, form: str) -> Group:
    true, asking = asker.facts.position(index), _begun(asker, index)
    if true is None or asking is None:
        return ()
    return (asking.ask(form, {}, [one_object.position_words(true)], Says.POSITION, (true,), subject=index),)


def _is_it_larger(asker: Asker, index: int, form: str) -> Group:
    for other in asker.shuffled():
        larger = None if other == index else asker.facts.larger(index, other)
        if larger is None:
            continue
        found = []
        for answer in ("yes", "no"):
            asking = _begun(asker, index)
            if asking is None:
                return ()
            more = asker.one_of(compared.LARGER_WORDS) if larger == (answer == "yes") else "smaller"
            text = "Yes, it is." if answer == "yes" else "No, it is not."
            slots = {"y": asking.refer(other), "more": more}
            found.append(asking.ask(form, slots, [text], Says.YES_NO, (answer,), subject=index))
        return tuple(found)
    return ()


def _its_relation(asker: Asker, index: int, form: str) -> Group:
    for other in asker.shuffled():
        relation = None if other == index else asker.facts.relation(index, other)
        asking = _begun(asker, index)
        if relation is None or asking is None:
            continue
        parts = compared.related(asking, index, other, relation)
        return (asking.ask(form, {"y": asking.refer(other)}, parts, Says.RELATION, (relation,), subject=index),)
    return ()


def _beside_it(asker: Asker, index: int, form: str) -> Group:
    for place in asker.random.permutation(len(DIRECTIONS)):
        relation = DIRECTIONS[int(place)]
        one, asking = asker.facts.beside(index, relation), _begun(asker, index)
        if one is None or asking is None:
            continue
        parts: list[Part] = [asking.a(one), "."]
        slots = {"relation": compared.spoken_relation(asker, relation)}
        return (asking.ask(form, slots, parts, Says.NAME, (asker.facts.names[one],), subject=one),)
    return ()
