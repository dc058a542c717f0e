"""Questions about all objects of a scene: how many there are, whether there is one, which there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dynrefer.workbench.scenes.questions.asker import Asker, Part
from dynrefer.workbench.scenes.questions.names import GROUPS, NUMBERS, alike, indefinite, spoken_name
from dynrefer.workbench.scenes.questions.records import Kind, Question, Says
from dynrefer.workbench.scenes.questions.wordings import skeletons

NO_SUCH_OBJECT = "There is no such object."
_EXTREMES = ("largest", "smallest", "leftmost", "rightmost", "topmost", "lowest")
_Pairs = tuple[str, tuple[int, ...]]  # words for a thing, and the objects that it fits


def count(asker: Asker) -> tuple[Question, ...]:
    """How many objects, animals, red objects are there?"""
    form = asker.form()
    if form is None:
        return ()
    choices = [
        *_groups(asker, plural=True),
        *((f"{word} objects", fits) for word, fits in _colours(asker)),
    ]
    some = [each for each in choices if each[1]]
    none = [each for each in choices if not each[1]]
    draw = asker.random.random()
    pool = none if draw < 0.15 and none else some if draw < 0.65 and some else []
    things, fits = asker.one_of(pool) if pool else ("objects", tuple(range(len(asker.facts))))
    word = NUMBERS[len(fits)]
    truth = (str(len(fits)),)
    return (asker.ask(form, {"things": things}, [f"{word.capitalize()}."], Says.COUNT, truth, same=truth),)


def existence(asker: Asker, answers: tuple[str, ...] = ()) -> tuple[Question, ...]:
    """Is there a dog, a red dog, an animal, a red object? One that is there, and one of the same build that is not."""
    form = asker.form(skeletons()[Kind.EXISTENCE])
    if form is None:
        return ()
    builds: list[Callable[[Asker], tuple[_Pairs, str] | None]] = [_name, _coloured_name, _coloured_name, _group]
    for place in asker.random.permutation(len(builds)):
        found = builds[int(place)](asker)
        if found is not None:
            (there, fits), missing = found
            yes: list[Part] = ["Yes, there is ", *asker.listed(fits), "."]
            pair = []
            for thing, parts, truth in ((there, yes, "yes"), (missing, ["No, there is none."], "no")):
                given = answers and tuple(asker.one_of((answers, answers[::-1])))
                says = Says.CHOICE if answers else Says.YES_NO
                slots = {"thing": indefinite(thing)}
                question = asker.again().ask(form, slots, parts, says, (truth,), answers=given)
                pair.append(replace(question, answer=truth, spans=(), objects=()) if answers else question)
            return tuple(pair)
    return ()


def listing(asker: Asker) -> tuple[Question, ...]:
    """All objects, in raster order."""
    form = asker.form()
    if form is None:
        return ()
    order = asker.facts.raster_order()
    truth = [asker.facts.names[index] for index in order]
    return (asker.ask(form, {}, [*asker.listed(order), "."], Says.NAME_SET, truth),)


def listing_some(asker: Asker) -> tuple[Question, ...]:
    """All animals, all red objects, in raster order."""
    form = asker.form()
    choices = [*_groups(asker, plural=True), *((f"{word} objects", fits) for word, fits in _colours(asker))]
    choices = [(things, fits) for things, fits in choices if fits]
    if form is None or not choices:
        return ()
    things, fits = asker.one_of(choices)
    order = asker.facts.raster_order(fits)
    truth = [asker.facts.names[index] for index in order]
    return (asker.ask(form, {"things": things}, [*asker.listed(order), "."], Says.NAME_SET, truth),)


def extreme(asker: Asker) -> tuple[Question, ...]:
    """The largest object, the leftmost, ..."""
    form = asker.form()
    for place in asker.random.permutation(len(_EXTREMES)):
        most = _EXTREMES[int(place)]
        index = asker.facts.extreme(most)
        if form is not None and index is not None:
            truth = (asker.facts.names[index],)
            return (asker.ask(form, {"most": most}, [asker.the(index), "."], Says.NAME, truth, subject=index),)
    return ()


def absent(asker: Asker) -> tuple[Question, ...]:
    """The colour, the size or the place of an object that is not there."""
    form = asker.form(skeletons()[asker.one_of((Kind.COLOUR, Kind.SIZE, Kind.WHERE, Kind.POSITION))])
    missing = missing_name(asker)
    if form is None or missing is None:
        return ()
    spoken = spoken_name(asker.facts.world.category(missing))
    return (asker.ask(form, {"x": f"the {spoken}"}, [NO_SUCH_OBJECT], Says.ABSENCE, (missing,)),)


def missing_name(asker: Asker) -> str | None:
    """A category that the scene does not show, nor anything that could be taken for it."""
    names = [each.name for each in asker.facts.world.categories]
    clear = [name for name in names if not any(alike(name, shown) for shown in asker.facts.names)]
    return asker.one_of(clear) if clear else None


def _groups(asker: Asker, *, plural: bool) -> list[_Pairs]:
    found = [(group.plural if plural else group.word, asker.facts.all_of(group)) for group in GROUPS]
    return [(word, fits) for word, fits in found if fits is not None]


def _colours(asker: Asker) -> list[_Pairs]:
    found = [(colour, asker.facts.all_coloured(colour)) for colour in asker.facts.world.colours]
    return [(colour, fits) for colour, fits in found if fits is not None]


def _name(asker: Asker) -> tuple[_Pairs, str] | None:
    facts, missing = asker.facts, missing_name(asker)
    for index in asker.shuffled():
        others = [other for other in range(len(facts)) if other != index]
        if missing and not any(alike(facts.names[index], facts.names[other]) for other in others):
            return (spoken_name(facts.categories[index]), (index,)), spoken_name(facts.world.category(missing))
    return None


def _coloured_name(asker: Asker) -> tuple[_Pairs, str] | None:
    """The red dog that is there; a dog or a thing of another colour, or in this colour a thing that is not there."""
    facts = asker.facts
    for index in asker.shuffled():
        colour = facts.colour(index)
        others = [other for other in range(len(facts)) if other != index]
        if colour is None or any(alike(facts.names[index], facts.names[other]) for other in others):
            continue
        false = _other_colour(asker) if asker.random.random() < 0.6 else None
        false = false or _absent_coloured(asker)
        if false is not None:
            return (f"{colour} {spoken_name(facts.categories[index])}", (index,)), false
    return None


def _other_colour(asker: Asker) -> str | None:
    """A present object in a colour that it has not; of another object where there is such a colour."""
    facts = asker.facts
    seen = [colour for colour in map(facts.colour, range(len(facts))) if colour]
    for index in asker.shuffled():
        others = [other for other in range(len(facts)) if other != index]
        if any(alike(facts.names[index], facts.names[other]) for other in others):
            continue
        for colours in (seen, facts.world.colours):
            wrong = [each for each in colours if facts.has_colour(index, each) is False]
            wrong = [each for each in wrong if (each, facts.names[index]) not in facts.world.heldout_pairs]
            if wrong:
                return f"{asker.one_of(wrong)} {spoken_name(facts.categories[index])}"
    return None


def _absent_coloured(asker: Asker) -> str | None:
    """An absent thing in a colour. In a scene of held-out pairs it is of such a pair, elsewhere of none."""
    facts = asker.facts
    held_out = all(each.heldout_pair for each in facts.scene.objects)
    for _ in range(20):
        missing = missing_name(asker)
        if missing is None:
            return None
        fits = [c for c in facts.world.colours if ((c, missing) in facts.world.heldout_pairs) == held_out]
        if fits:
            return f"{asker.one_of(fits)} {spoken_name(facts.world.category(missing))}"
    return None


def _group(asker: Asker) -> tuple[_Pairs, str] | None:
    """A broader word or a colour."""
    singular = [("group", *each) for each in _groups(asker, plural=False)]
    choices = [*singular, *(("colour", f"{word} object", fits) for word, fits in _colours(asker))]
    for build in ("group", "colour") if asker.random.random() < 0.5 else ("colour", "group"):
        there = [(words, asker.facts.raster_order(fits)) for of, words, fits in choices if of == build and fits]
        missing = [words for of, words, fits in choices if of == build and not fits]
        if there and missing:
            return asker.one_of(there), asker.one_of(missing)
    return None
