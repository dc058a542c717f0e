"""The words of a request: the boxes in them, and whether the rest asks for nothing but a description.

The model reads no words. So a text may say what happens anyway, in one of a closed list of forms, and whatever else it
says is refused: to answer "What colour is the car?" with a description would pass for an answer.

    Describe the regions [64, 256, 384, 384] and [0, 0, 32, 32] in detail.
    What is in this image?
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.inputs.json_text import printable
from dynrefer.service.integrations.openai.messages import Text

MOST_CHARS = 65_536  # of all texts of a request
_NUMBER = r"[+-]?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})"
BOX = re.compile(r"\[\s{0,8}" + r"\s{0,8},\s{0,8}".join([f"({_NUMBER})"] * 4) + r"\s{0,8}\]")
NUMBERS_IN_BRACKETS = re.compile(r"\[[^\[\]]{0,200}[0-9][^\[\]]{0,200}\]")
PLACEHOLDER = re.compile(r"<[a-z_]{1,20}>", re.IGNORECASE)  # of other models: "<image>"
SENTENCE_ENDS = re.compile(r"[.!?;\n\r]+")
WORD = re.compile(r"[^\s,:()\[\]\"“”`]+")
# How a sentence may begin, each followed by words that say what is described.
OPENING = re.compile(
    r"(?:please )?(?:(?:can|could|would) you )?(?:please )?"
    r"(?:describe|caption|(?:give|write|generate|provide) (?:me )?(?:an? |the )?(?:detailed )?"
    r"(?:caption|description) (?:of|for))"
    r"(?: what is| what you see)?(?= |$)"
    r"|what is(?: shown)?(?= |$)|what's(?: shown)?(?= |$)|what do you see(?= |$)"
)
OBJECT_WORDS = (
    "the this that these those a an each every both of in at on inside within by bounded bounding and following given "
    "marked masked highlighted selected shown visible whole entire region regions area areas box boxes object objects "
    "thing things image images picture photo photograph mask part detail please here"
)
OBJECTS = frozenset(OBJECT_WORDS.split())
A_BOX = "@"  # in the place of each box


@dataclass(frozen=True, slots=True)
class Box:
    """values: four numbers as they are written. at: the JSON pointer of the text that it stands in."""

    values: tuple[float, ...]
    at: str


def read_boxes(texts: Iterable[Text]) -> list[Box]:
    """The boxes of all texts, in order.

    Raises InvalidRequestError for too long texts, and for what looks like a box but is none.
    """
    found, left = [], MOST_CHARS
    for each in texts:
        left -= len(each.text)
        if left < 0:
            raise InvalidRequestError.at(each.at, f"The texts are longer than {MOST_CHARS} characters.")
        found += [Box(tuple(map(float, box.groups())), each.at) for box in BOX.finditer(each.text)]
        if other := NUMBERS_IN_BRACKETS.search(BOX.sub("", each.text)):
            detail = f"'{printable(other[0])}' is no box: a box is written [x1, y1, x2, y2], four numbers in brackets."
            raise InvalidRequestError.at(each.at, detail)
    return found


def check_words(texts: Sequence[Text]) -> None:
    """Raises InvalidRequestError for a sentence that asks for anything else than a description."""
    for each in texts:
        if (sentence := foreign_sentence(each.text)) is not None:
            raise InvalidRequestError.at(
                each.at,
                f"'{printable(sentence)}' cannot be honoured: this model describes regions, and neither answers "
                'questions nor follows instructions. Ask as in "Describe [x1, y1, x2, y2]" or without words, or send '
                '"ignore_words": true to have nothing read but boxes.',
            )


def foreign_sentence(text: str) -> str | None:
    """The first sentence that is of none of the forms, None where there is none."""
    plain = PLACEHOLDER.sub(" ", BOX.sub(f" {A_BOX} ", text))
    foreign = next((each for each in SENTENCE_ENDS.split(plain) if not _asks_for_a_description(each)), None)
    return None if foreign is None else " ".join(foreign.split()).replace(A_BOX, "[...]")


def _asks_for_a_description(sentence: str) -> bool:
    words: list[str] = WORD.findall(sentence.lower().replace("’", "'"))
    opening = OPENING.match(" ".join(words[:16]))
    rest = words[len(opening[0].split()) if opening else 0 :]
    return all(word == A_BOX or word in OBJECTS for word in rest)
