"""The words that sentences about pictures are made of: what describes, compares, joins and places.

Nothing here is a list of nouns: whatever is none of these words says what an object is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_COLOURS = ("orange", "yellow", "green", "blue", "pink", "brown", "black", "white", "purple")

# What is said of an object -> what attributes call it.
MODIFIERS: Mapping[str, str] = {
    **dict.fromkeys(("red", "crimson", "scarlet"), "red"),
    **{each: each for each in _COLOURS},
    **dict.fromkeys(("violet",), "purple"),
    **dict.fromkeys(("gray", "grey"), "gray"),
    **dict.fromkeys(("small", "little", "tiny"), "small"),
    **dict.fromkeys(("large", "big", "huge"), "large"),
    "upright": "upright",
    **dict.fromkeys(("tilted", "slanted"), "tilted"),
    **dict.fromkeys(("upside-down", "inverted"), "upside-down"),
    "dark": "dark",
    **dict.fromkeys(("bright", "light"), "bright"),
    **dict.fromkeys(("plain", "unpatterned"), "plain"),
    **dict.fromkeys(("striped", "stripy"), "striped"),
    **dict.fromkeys(("dotted", "spotted"), "dotted"),
    **dict.fromkeys(("transparent", "see-through"), "transparent"),
    "opaque": "opaque",
}
COLOURS = frozenset(("red", "gray", *_COLOURS))  # as attributes call them
SHADES = frozenset(("light", "dark", "bright", "pale", "deep"))  # of the colour behind them
NOUNS_TOO = frozenset(("orange", "light", "dark", "plain"))  # modifiers that are nouns where nothing follows
PATTERNS: Mapping[str, str] = {  # "with stripes"
    **dict.fromkeys(("stripe", "stripes"), "striped"),
    **dict.fromkeys(("dot", "dots", "spot", "spots"), "dotted"),
}
PATTERN = "pattern"  # "with a striped pattern"

# What compares an object with the others of its kind.
RANKS: Mapping[str, str] = {
    **dict.fromkeys(("largest", "biggest", "larger", "bigger"), "largest"),
    **dict.fromkeys(("smallest", "smaller", "tiniest", "littlest"), "smallest"),
    "leftmost": "leftmost",
    "rightmost": "rightmost",
    **dict.fromkeys(("topmost", "highest", "uppermost", "upper", "higher"), "topmost"),
    **dict.fromkeys(("lowest", "lowermost", "bottommost", "lower"), "lowest"),
    **dict.fromkeys(("middle", "central", "middlemost"), "middle"),
}
# Where in the image: "on the left", "third from the right".
SIDES: Mapping[str, str] = {
    "left": "leftmost",
    "right": "rightmost",
    "top": "topmost",
    "bottom": "lowest",
    **dict.fromkeys(("middle", "center", "centre"), "middle"),
}
SIDE_LEADS = frozenset(("on", "in", "at", "to", "from", "towards", "toward"))
ORDINALS: Mapping[str, int] = {
    **{word: place + 1 for place, word in enumerate(("first", "second", "third", "fourth", "fifth", "sixth"))},
    **{word: place + 1 for place, word in enumerate(("1st", "2nd", "3rd", "4th", "5th", "6th"))},
}
_NUMBERS = """
    two three four five six seven eight nine ten dozen several many few
"""
NUMBERS = frozenset(_NUMBERS.split())

# Heads that say nothing about what it is.
ANYTHING = frozenset(["object", "objects", "thing", "things", "item", "items", "something", "anything", "one", "ones"])
# "a group of dogs": dogs are meant. "a bowl of soup": the bowl is, and what is in it may name it too.
_COLLECTIVES = """
    pair pairs couple group groups bunch lot lots number plenty herd flock pack row rows pile stack set kind
    type sort piece pieces slice slices roll bit crowd collection variety
"""
COLLECTIVES = frozenset(_COLLECTIVES.split())
_CONTAINERS = """
    bowl cup glass bottle can mug plate jar box basket bag bucket vase tray carton bowls cups glasses bottles
"""
CONTAINERS = frozenset(_CONTAINERS.split())
# "in the picture": no object of it.
WHOLE = frozenset(("image", "picture", "photo", "photograph", "drawing", "scene", "background", "foreground", "view"))
TIMES = frozenset(("night", "day", "noon", "dawn", "dusk", "sunset", "sunrise"))  # "at night"

# How the object before is placed to the one behind; where several fit, the longest wording does.
RELATIONS: Mapping[str, str] = {
    **{f"{lead} left {end}".strip(): "left of" for lead in ("to the", "on the", "at the", "") for end in ("of",)},
    **{f"{lead} right {end}".strip(): "right of" for lead in ("to the", "on the", "at the", "") for end in ("of",)},
    **{f"{lead} the left side of": "left of" for lead in ("to", "on", "at")},
    **{f"{lead} the right side of": "right of" for lead in ("to", "on", "at")},
    **dict.fromkeys(("on top of", "atop", "upon", "on", "onto", "riding", "rides"), "on"),
    **dict.fromkeys(("in front of", "before"), "in front of"),
    **dict.fromkeys(("in back of", "behind"), "behind"),
    **dict.fromkeys(("next to", "close to", "closest to", "nearest to", "near to", "nearest", "near"), "next to"),
    **dict.fromkeys(("beside", "by", "adjacent to", "alongside", "against", "around"), "next to"),
    **dict.fromkeys(("far from", "farthest from", "furthest from", "away from"), "far from"),
    **dict.fromkeys(("above", "over"), "above"),
    **dict.fromkeys(("below", "under", "underneath", "beneath"), "below"),
    **dict.fromkeys(("inside of", "inside", "within", "in", "into"), "inside"),
    **dict.fromkeys(("with", "wearing", "wears", "holding", "holds", "carrying", "carries"), "with"),
    **dict.fromkeys(("in between", "between"), "between"),
    **dict.fromkeys(("larger than", "bigger than"), "larger than"),
    "smaller than": "smaller than",
}
LONGEST_RELATION = max(wording.count(" ") + 1 for wording in RELATIONS)
PLACES = frozenset(("on", "inside", "with", "next to"))  # of an object, of which a direction behind them speaks too
DIRECTIONS = frozenset(("left of", "right of", "above", "below", "in front of", "behind", "between"))

_DETERMINERS = """
    a an the this that these those some any each every all both another other its his her their my your our no
"""
DETERMINERS = frozenset(_DETERMINERS.split())
EVERY = frozenset(("all", "both", "each", "every", "these", "those"))  # speak of several objects
INTENSIFIERS = frozenset(["very", "really", "quite", "rather", "extremely", "pretty", "fairly", "most"])
BEING = frozenset(["is", "are", "was", "were", "looks", "look", "appears", "seems"])
_JOINERS = """
    and or but nor of at to from for as than then while when where which who whose be been being am has have
    having had do does did can could will would may might must there here it he she they them him we i you not
    too also just only there's it's that's what if because so about along across through toward towards off
    out up down during without like sits sit sat stands stand stood lies lie lay hangs hang walks walk runs
    flies fly eats eat shows show contains contain sees see find locate detect chases jumps jump sleeps rests
    leans looks watches plays rides drives swims floats please me
"""
JOINERS = BEING | frozenset(_JOINERS.split())

PARTICIPLE = re.compile(r"\w{3,}(?:ing|ed)")
_NO_PARTICIPLE = """
    string building ceiling painting clothing dressing pudding hundred earring railing icing lightning morning
    evening stocking wedding bedding seasoning filling crossing flooring awning
"""
NO_PARTICIPLE = frozenset(_NO_PARTICIPLE.split())
IRREGULAR_PLURALS = frozenset(["people", "men", "women", "children", "mice", "geese", "feet", "teeth", "sheep"])
NO_PLURAL = re.compile(r"(?:ss|us|is|'s|glasses|scissors|trousers|jeans|shorts|pants|pliers|binoculars|skis|tongs)$")


def is_participle(word: str) -> bool:
    """Whether it says what an object does: "sitting", "covered"."""
    return word not in NO_PARTICIPLE and PARTICIPLE.fullmatch(word) is not None


def is_plural(word: str) -> bool:
    """Whether a noun speaks of several objects; "scissors" are one."""
    return word in IRREGULAR_PLURALS or (word.endswith("s") and len(word) > 3 and not NO_PLURAL.search(word))
