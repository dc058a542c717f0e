"""Questions about one object, or about each of several: its name, colour, size, place, and what it looks like."""

from __future__ import annotations

from dynrefer.workbench.scenes.questions.asker import Asker, Mention, Part
from dynrefer.workbench.scenes.questions.names import indefinite, spoken_name
from dynrefer.workbench.scenes.questions.records import Question, Says

_MOST_REGIONS = 5  # in one question


def name(asker: Asker) -> tuple[Question, ...]:
    """What is this region?"""
    form = asker.form()
    if form is None:
        return ()
    index = asker.shuffled()[0]
    slots = {"region": asker.refer(index, secret="name")}
    return (asker.ask(form, slots, *named(asker, index), subject=index),)


def named(asker: Asker, index: int) -> tuple[list[Part], Says, tuple[str, ...]]:
    """The answer that names an object: parts, what it says, and what is true."""
    return [asker.a(index), "."], Says.NAME, (asker.facts.names[index],)


def colour(asker: Asker) -> tuple[Question, ...]:
    """What colour is it?"""
    form = asker.form()
    for index in asker.shuffled():
        true = asker.facts.colour(index)
        if form is not None and true is not None:
            slots = {"x": asker.refer(index, secret="colour")}
            return (asker.ask(form, slots, [f"It is {true}."], Says.COLOUR, (true,), subject=index),)
    return ()


def size(asker: Asker) -> tuple[Question, ...]:
    """Is it small, medium or large?"""
    form = asker.form()
    for index in asker.shuffled():
        true = asker.facts.size(index)
        if form is not None and true is not None:
            slots = {"x": asker.refer(index)}
            return (asker.ask(form, slots, [f"It is {true}."], Says.SIZE, (true,), subject=index),)
    return ()


def position(asker: Asker) -> tuple[Question, ...]:
    """In which part of the image is it?"""
    form = asker.form()
    for index in asker.shuffled():
        true = asker.facts.position(index)
        if form is not None and true is not None:
            slots = {"x": asker.refer(index)}
            return (asker.ask(form, slots, [position_words(true)], Says.POSITION, (true,), subject=index),)
    return ()


def position_words(position: str) -> str:
    """The answer that says where in the image an object is."""
    return f"It is {'in' if position == 'middle' else 'at'} the {position}."


def description(asker: Asker) -> tuple[Question, ...]:
    """Describe it: size, colour and pattern before the name, the setting after it."""
    form = asker.form()
    if form is None:
        return ()
    index = asker.shuffled()[0]
    facts = asker.facts
    own = facts.scene.objects[index].attributes
    large = own.get("size", "").replace("medium", "")
    pattern = own.get("pattern", "").replace("plain", "")
    adjectives = [word for word in (large, own.get("color", ""), pattern) if word]
    noun = spoken_name(facts.categories[index])
    lead = indefinite(" ".join([*adjectives, noun])).removesuffix(noun)
    phrase = next((kind.phrase for kind in facts.world.scene_kinds if kind.name == facts.scene.scene), "")
    parts: list[Part] = [Mention(index, lead), f" {phrase}." if phrase else "."]
    truth = (facts.names[index], own.get("color", ""), own.get("size", ""))
    slots = {"region": asker.refer(index, secret="name")}
    return (asker.ask(form, slots, parts, Says.DESCRIPTION, truth, subject=index),)


def several(asker: Asker) -> tuple[Question, ...]:
    """What are these regions? A name for each, in the order in which they are asked for."""
    form = asker.form()
    if form is None:
        return ()
    most = min(_MOST_REGIONS, len(asker.facts))
    chosen = asker.shuffled()[: 2 + int(asker.random.integers(most - 1))]
    marks = [f"<region:{asker.region(index)}>" for index in chosen]
    slots = {"regions": f"{', '.join(marks[:-1])} and {marks[-1]}"}
    truth = [asker.facts.names[index] for index in chosen]
    return (asker.ask(form, slots, [*asker.listed(chosen), "."], Says.NAMES, truth),)


def where(asker: Asker) -> tuple[Question, ...]:
    """Where is it? The answer's box says it."""
    form = asker.form()
    if form is None:
        return ()
    for index in asker.shuffled():
        words = asker.words(index)
        if words:
            slots = {"x": asker.one_of(words)}
            truth = (asker.facts.names[index],)
            return (asker.ask(form, slots, located(asker, index), Says.NAME, truth, subject=index),)
    return ()


def located(asker: Asker, index: int) -> list[Part]:
    """The answer that shows an object."""
    return [asker.the(index), " is here."]
