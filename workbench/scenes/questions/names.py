"""Words for the objects of drawn scenes: names, broader words, what may be taken for what, and all words of answers."""

from __future__ import annotations

from dataclasses import dataclass

from dynrefer.workbench.scenes.world import Category, World

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")
POSITIONS = ("top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom", "bottom right")
# Where both may be in one scene, a word for one could mean the other: neither is called absent beside the other.
ALIKE = (
    {"bird", "chicken", "penguin", "owl"},
    {"bear", "panda", "koala", "teddy bear"},
    {"tree", "palm tree", "cactus", "potted plant", "sunflower", "broccoli"},
    {"cup", "wine glass", "bowl", "bottle", "vase"},
    {"telephone", "cell phone"},
    {"hat", "crown"},
    {"clock", "watch"},
    {"sports ball", "balloon"},
    {"house", "castle"},
    {"car", "truck", "bus", "tractor", "train"},
    {"bicycle", "motorcycle"},
    {"backpack", "handbag", "suitcase"},
    {"chair", "couch", "bed", "toilet"},
    {"fish", "whale"},
    {"tv", "laptop", "keyboard", "camera"},
    {"sandwich", "burger", "hot dog", "pizza"},
    {"person", "snowman", "monkey"},
    {"cherries", "grapes", "apple", "strawberry"},
    {"fox", "dog", "cat", "lion", "tiger"},
    {"pig", "cow", "sheep", "horse", "zebra", "camel"},
    {"shirt", "dress", "tie"},
    {"airplane", "helicopter", "rocket"},
    {"knife", "fork", "spoon"},
    {"trumpet", "saxophone"},
    {"gift", "book"},
    {"lemon", "banana", "pineapple"},
)
# Synonyms that could as well mean another category of the world.
_UNCLEAR = {"glass", "plant", "phone", "ball", "dish", "blade", "seat", "horn", "crayon", "plane", "figure", "luggage"}
_UNCLEAR |= {"cap", "home", "palm", "landline", "fortress", "coach", "cattle", "ewe", "ship", "jeans", "pony", "kitten"}
_QUANTITY = {"grapes": "bunch of grapes", "cherries": "bunch of cherries"}


@dataclass(frozen=True)
class Group:
    """A broader word. doubtful: categories that some would count among it; beside one of these nobody asks for it."""

    word: str
    plural: str
    members: frozenset[str]
    doubtful: frozenset[str]


_ANIMALS = """bird cat dog horse sheep cow elephant bear zebra giraffe pig rabbit fox lion tiger monkey chicken penguin
owl frog turtle snake fish whale octopus crab butterfly bee snail camel panda koala"""
_VEHICLES = "bicycle car motorcycle airplane bus train truck boat helicopter rocket tractor"


def _group(word: str, plural: str, members: str, more: tuple[str, ...] = (), doubtful: tuple[str, ...] = ()) -> Group:
    return Group(word, plural, frozenset((*members.split(), *more)), frozenset(doubtful))


GROUPS = (
    _group("animal", "animals", _ANIMALS, doubtful=("person", "teddy bear")),
    _group("vehicle", "vehicles", _VEHICLES, doubtful=("skateboard", "balloon", "skis")),
    _group("building", "buildings", "house castle"),
    _group("musical instrument", "musical instruments", "guitar trumpet saxophone", doubtful=("bell", "microphone")),
    _group("plant", "plants", "tree cactus sunflower", ("palm tree", "potted plant"), ("broccoli", "mushroom")),
    _group(
        "piece of furniture",
        "pieces of furniture",
        "chair couch bed",
        doubtful=("toilet", "potted plant", "tv", "clock"),
    ),
    _group("fruit", "fruits", "banana apple strawberry grapes watermelon pineapple cherries lemon"),
)


def spoken_name(category: Category) -> str:
    """What an answer calls one object of a category, always in the singular: "dog", "pair of scissors"."""
    pair = category.article.removeprefix("a ").strip() if category.article not in ("a", "") else ""
    return _QUANTITY.get(category.name, f"{pair} {category.name}".strip())


def spoken_synonyms(category: Category) -> tuple[str, ...]:
    """Its synonyms that can mean nothing else, likewise in the singular."""
    pair = "pair of " if category.article == "a pair of" else ""
    return tuple(pair + word for word in category.synonyms if word not in _UNCLEAR)


def indefinite(phrase: str) -> str:
    """The phrase with its article: "a red dog", "an owl"."""
    return f"an {phrase}" if phrase[0] in "aeiou" else f"a {phrase}"


def alike(name: str, other: str) -> bool:
    """Whether one could be taken for the other."""
    return name == other or any(name in group and other in group for group in ALIKE)


_FIXED = """yes no there is the a an and are both of in at image object objects neither not i cannot tell nothing
small medium large larger same colour left right above below front behind top middle bottom on next here one it
nothing like that"""


def answer_words(world: World) -> tuple[str, ...]:
    """Every word of every answer but the names of objects, lower case, in alphabetical order."""
    words = {*_FIXED.split(), *" ".join(NUMBERS).split(), *world.colours}
    words |= {word for kind in world.scene_kinds for word in kind.phrase.split()}
    words |= {word for group in GROUPS for word in f"{group.word} {group.plural}".split()}
    words |= {"striped", "dotted"}
    return tuple(sorted(words))
