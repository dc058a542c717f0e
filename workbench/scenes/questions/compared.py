"""Questions about two objects: how they lie to each other, which is larger, whether they are alike."""

from __future__ import annotations

from itertools import permutations

from dynrefer.workbench.scenes.questions.asker import Asker, Part
from dynrefer.workbench.scenes.questions.facts import DIRECTIONS, OPPOSITE
from dynrefer.workbench.scenes.questions.names import GROUPS
from dynrefer.workbench.scenes.questions.records import Question, Says

LARGER_WORDS = ("larger", "bigger")
SPOKEN_RELATIONS = {"left of": ("left of", "to the left of"), "right of": ("right of", "to the right of")}
_ALL_RELATIONS = tuple(OPPOSITE)


def relation(asker: Asker) -> tuple[Question, ...]:
    """Where is one, seen from the other?"""
    form = asker.form()
    for one, other in pairs(asker):
        true = asker.facts.relation(one, other)
        if form is not None and true is not None:
            slots = {"x": asker.refer(one), "y": asker.refer(other)}
            parts = related(asker, one, other, true)
            return (asker.ask(form, slots, parts, Says.RELATION, (true,), subject=one),)
    return ()


def related(asker: Asker, one: int, other: int, relation: str) -> list[Part]:
    """The answer that says how an object lies to another."""
    return [asker.the(one), f" is {relation} ", asker.the(other), "."]


def relation_yes_no(asker: Asker) -> tuple[Question, ...]:
    """Is one left of the other? The same two objects with a relation that is true, and with one that is not."""
    form = asker.form()
    for one, other in pairs(asker):
        said = {each: asker.facts.related(one, other, each) for each in _ALL_RELATIONS}
        true = [each for each, fits in said.items() if fits]
        false = [each for each, fits in said.items() if fits is False]
        if form is None or not true or not false:
            continue
        return tuple(
            _yes_no(asker, form, one, other, "relation", spoken_relation(asker, asker.one_of(words)), answer)
            for words, answer in ((true, "yes"), (false, "no"))
        )
    return ()


def spoken_relation(asker: Asker, relation: str) -> str:
    """The relation as a question may say it."""
    return asker.one_of(SPOKEN_RELATIONS.get(relation, (relation,)))


def beside(asker: Asker) -> tuple[Question, ...]:
    """What is left of it? Asked where there is exactly one."""
    form = asker.form()
    for other in asker.shuffled():
        found = {each: asker.facts.beside(other, each) for each in DIRECTIONS}
        own = asker.facts.scene.objects[other]
        if own.relation in ("in front of", "behind"):
            found[OPPOSITE[own.relation]] = own.neighbour
        clear = [(each, one) for each, one in found.items() if one is not None]
        if form is None or not clear:
            continue
        relation, one = asker.one_of(clear)
        slots = {"y": asker.refer(other), "relation": spoken_relation(asker, relation)}
        truth = (asker.facts.names[one],)
        return (asker.ask(form, slots, [asker.a(one), "."], Says.NAME, truth, subject=one),)
    return ()


def larger(asker: Asker) -> tuple[Question, ...]:
    """Which is larger, or smaller?"""
    form = asker.form()
    for one, other in pairs(asker):
        if form is not None and asker.facts.larger(one, other):
            small = asker.random.random() < 0.5
            slots = dict(zip("xy", map(asker.refer, asker.shuffled((one, other))), strict=True))
            slots["more"] = "smaller" if small else asker.one_of(LARGER_WORDS)
            right = other if small else one
            parts: list[Part] = [asker.the(right), f" is {'smaller' if small else 'larger'}."]
            return (asker.ask(form, slots, parts, Says.NAME, (asker.facts.names[right],), subject=right),)
    return ()


def larger_yes_no(asker: Asker) -> tuple[Question, ...]:
    """Is one larger than the other, and is it smaller?"""
    form = asker.form()
    for one, other in pairs(asker):
        larger = asker.facts.larger(one, other)
        if form is not None and larger is not None:
            words = (asker.one_of(LARGER_WORDS), "smaller")
            answers = ("yes", "no") if larger else ("no", "yes")
            return tuple(
                _yes_no(asker, form, one, other, "more", word, answer)
                for word, answer in sorted(zip(words, answers, strict=True), key=lambda each: each[1], reverse=True)
            )
    return ()


def same_colour(asker: Asker) -> tuple[Question, ...]:
    """Two objects of one colour, and two of different colours."""
    form, facts = asker.form(), asker.facts
    known = [(one, other) for one, other in pairs(asker) if facts.colour(one) and facts.colour(other)]
    same = [(one, other) for one, other in known if facts.colour(one) == facts.colour(other)]
    different = [(one, other) for one, other in known if facts.has_colour(one, str(facts.colour(other))) is False]
    if form is None or not same or not different:
        return ()
    found = []
    for (one, other), answer in ((same[0], "yes"), (different[0], "no")):
        asking = asker.again()
        slots = {"x": asking.refer(one, secret="colour"), "y": asking.refer(other, secret="colour")}
        both = f"Yes, both are {facts.colour(one)}."
        text = both if answer == "yes" else f"No, one is {facts.colour(one)} and the other is {facts.colour(other)}."
        found.append(asking.ask(form, slots, [text], Says.YES_NO, (answer,)))
    return tuple(found)


def same_group(asker: Asker) -> tuple[Question, ...]:
    """Are both animals? Two that are, and two of which one or none is."""
    form, facts = asker.form(), asker.facts
    for place in asker.random.permutation(len(GROUPS)):
        group = GROUPS[int(place)]
        said = {pair: tuple(facts.belongs(each, group) for each in pair) for pair in pairs(asker)}
        both = [pair for pair, fits in said.items() if all(fits)]
        one = [pair for pair, fits in said.items() if None not in fits and sum(map(bool, fits)) == 1]
        if form is None or not both or not one:
            continue
        found = []
        for pair, answer in ((both[0], "yes"), (one[0], "no")):
            asking = asker.again()
            slots = dict(zip("xy", (asking.region_words(each) for each in pair), strict=True))
            slots["things"] = group.plural
            text = f"Yes, both are {group.plural}." if answer == "yes" else "No, not both."
            found.append(asking.ask(form, slots, [text], Says.YES_NO, (answer,)))
        return tuple(found)
    return ()


def same_object(asker: Asker) -> tuple[Question, ...]:
    """Do two regions show one object? Two that do, and two that do not."""
    form = asker.form()
    if form is None:
        return ()
    found = []
    one, other, third = asker.shuffled()[:3]
    for pair, answer in (((one, one), "yes"), ((other, third), "no")):
        asking = asker.again()
        slots = dict(zip("xy", (f"<region:{asking.region(each)}>" for each in pair), strict=True))
        parts: list[Part] = ["Yes, both are ", asking.the(one), "."]
        if answer == "no":
            parts = ["No, one is ", asking.the(other), " and the other is ", asking.the(third), "."]
        found.append(asking.ask(form, slots, parts, Says.YES_NO, (answer,)))
    return tuple(found)


def pairs(asker: Asker) -> list[tuple[int, int]]:
    """Of different objects, in random order, each both ways round."""
    both = list(permutations(range(len(asker.facts)), 2))
    return [(int(one), int(other)) for one, other in asker.random.permutation(both)]


def _yes_no(asker: Asker, form: str, one: int, other: int, slot: str, word: str, answer: str) -> Question:
    asking = asker.again()
    slots = {"x": asking.refer(one), "y": asking.refer(other), slot: word}
    text = "Yes, it is." if answer == "yes" else "No, it is not."
    return asking.ask(form, slots, [text], Says.YES_NO, (answer,), subject=one)
