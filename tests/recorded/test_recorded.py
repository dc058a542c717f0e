"""The service and the command line answer as recorded.

Texts, names and structure must be the same, numbers within `TOLERANCE`: another processor rounds otherwise. Rounding
may also decide what is nearly a tie: the caption of a region whose margin over the next one is below `TOLERANCE` is
left out, and so are the order of two labels with such scores, and a label so near to where its list ends.
`python -m tests.recorded.record` compares to the last digit, for the machine that recorded.
"""

import copy
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tests.recorded.exchanges import BOXES, COMMANDS, RECORD, commands, exchanges, log_keys, metric_names
from tests.recorded.record import served

TOLERANCE = 1e-3  # absolute or relative, whichever is larger
# Of photographs: the tower's numbers are rounded to 8 bits, and where another processor rounds a sum the other way the
# step is large.
PHOTOGRAPH_TOLERANCE = 0.1
PROGRAM = [sys.executable, "-m", "dynrefer.service.cli"]
IMAGES_ASKED_QUICKLY = ("photo_coffee.jpg", "scene_4.gif")
QUICK = ("help", "unknown command", "unknown flag", "serve: unknown level", "key", "key: no name")

Json = dict[str, Any]


def tolerance(where: str) -> float:
    """Of the answers of a place: those about a photograph have its name."""
    return PHOTOGRAPH_TOLERANCE if where.startswith("photo") else TOLERANCE


def close(one: float, other: float, where: str) -> bool:
    return abs(one - other) <= tolerance(where) * max(1.0, abs(one))


class Comparer:
    """Lists where two documents differ by more than rounding. ends: scores at which lists of labels are cut off."""

    def __init__(self, margins: dict[str, list[float]], ends: Sequence[float] = ()) -> None:
        self.margins, self.ends = margins, ends

    def answers(self, recorded: Json, found: Json) -> list[str]:
        """Differences of named answers, as "name/place: what"."""
        lines = [f"{name}: {what}" for name, what in _keys(recorded, found)]
        for name in recorded.keys() & found.keys():
            lines += self._values(recorded[name], found[name], name, self.margins.get(name, []))
        return sorted(lines)

    def _values(self, one: Any, other: Any, where: str, margins: Sequence[float]) -> Iterator[str]:
        if isinstance(one, dict) and isinstance(other, dict):
            yield from (f"{where}/{key}: {what}" for key, what in _keys(one, other))
            for key in one.keys() & other.keys():
                if key == "caption" and _is_a_tie(where, margins):
                    continue
                yield from self._values(one[key], other[key], f"{where}/{key}", margins)
        elif isinstance(one, list) and isinstance(other, list):
            if _are_labels(one) and _are_labels(other):
                yield from self._labels(one, other, where)
            elif len(one) != len(other):
                yield f"{where}: {len(one)} became {len(other)}"
            else:
                for place, pair in enumerate(zip(one, other, strict=True)):
                    yield from self._values(*pair, f"{where}/{place}", margins)
        elif _is_number(one) and _is_number(other):
            if not close(one, other, where):
                yield f"{where}: {one} became {other}"
        elif one != other:
            yield f"{where}: {str(one)[:80]!r} became {str(other)[:80]!r}"

    def _labels(self, one: list[Json], other: list[Json], where: str) -> Iterator[str]:
        """Labels by their names; their order matters only where their scores differ."""
        theirs, ours = ({label["name"]: label for label in labels} for labels in (one, other))
        ends = [*self.ends, *(labels[-1]["score"] for labels in (one, other) if labels)]
        for name in theirs.keys() ^ ours.keys():
            score = (theirs.get(name) or ours[name])["score"]
            if not any(close(score, end, where) for end in ends):
                yield f"{where}: {name} ({score}) is {'gone' if name in theirs else 'new'}"
        for name in theirs.keys() & ours.keys():
            yield from self._values(theirs[name], ours[name], f"{where}/{name}", [])
        common = [label["name"] for label in other if label["name"] in theirs]
        for first, second in zip(common, common[1:], strict=False):
            if theirs[first]["score"] < theirs[second]["score"] - tolerance(where):
                yield f"{where}: {first} stands before {second}"


def _keys(one: Json, other: Json) -> Iterator[tuple[str, str]]:
    yield from ((key, "gone") for key in one if key not in other)
    yield from ((key, "new") for key in other if key not in one)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _are_labels(values: list[Any]) -> bool:
    return all(isinstance(value, dict) and {"name", "score"} <= value.keys() for value in values)


def _is_a_tie(where: str, margins: Sequence[float]) -> bool:
    """Whether the place is a region, whose caption hardly beat another one."""
    region = where.rpartition("/")[2]
    return bool(margins) and region.isdigit() and margins[int(region)] < TOLERANCE


@pytest.fixture(scope="module")
def recorded() -> Json:
    """answers.json."""
    document: Json = json.loads(RECORD.read_text(encoding="utf-8"))
    return document


@pytest.fixture(scope="module")
def comparer(recorded: Json) -> Comparer:
    """Lists end at the model's thresholds, at those of one request, or at `top_k`."""
    (card,) = recorded["http"]["models"]["body"]["models"]
    return Comparer(recorded["margins"], [*card["thresholds"].values(), 0.99, 0.5])


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[str, list[str]]]:
    """Address and log of a service with the embedded model, for all tests of this file."""
    with served(PROGRAM) as (address, lines):
        yield address, lines


def test_the_service_answers_as_recorded(recorded: Json, service: tuple[str, list[str]], comparer: Comparer) -> None:
    """About two of the images; about all of them below."""
    found = exchanges(service[0], IMAGES_ASKED_QUICKLY)
    others = {name for name in recorded["http"] if name.partition(" ")[0] in BOXES.keys() - set(IMAGES_ASKED_QUICKLY)}
    expected = {name: answer for name, answer in recorded["http"].items() if name not in others}
    assert len(found) > 50
    assert comparer.answers(expected, found) == []


@pytest.mark.slow
def test_every_answer_metric_and_log_key_is_as_recorded(
    recorded: Json, service: tuple[str, list[str]], comparer: Comparer
) -> None:
    address, lines = service
    assert comparer.answers(recorded["http"], exchanges(address)) == []
    assert metric_names(address) == recorded["metrics"]
    assert log_keys(lines) == recorded["log keys"]


def test_quick_commands_exit_as_recorded(recorded: Json, comparer: Comparer) -> None:
    expected = {name: recorded["commands"][name] for name in QUICK}
    assert comparer.answers(expected, commands(PROGRAM, QUICK)) == []


@pytest.mark.slow
def test_commands_exit_as_recorded(recorded: Json, comparer: Comparer) -> None:
    names = [name for name in COMMANDS if name not in QUICK]
    assert {*names, *QUICK} == set(recorded["commands"])
    expected = {name: recorded["commands"][name] for name in names}
    assert comparer.answers(expected, commands(PROGRAM, names)) == []


def a_region(http: Json, request: str = "photo_coffee.jpg all") -> Json:
    region: Json = http[request]["body"]["regions"][0]
    return region


def a_drawn_region(http: Json) -> Json:
    return a_region(http, "scene_4.gif all")


def _add(record: Json, difference: float) -> None:
    record["score"] += difference


def _swap(labels: list[Json], first: int, second: int) -> None:
    labels[first], labels[second] = labels[second], labels[first]


CHANGES: dict[str, Callable[[Json], object]] = {
    "a status": lambda http: http["models"].update(status=500),
    "an answer": lambda http: http.pop("/livez"),
    "a text": lambda http: a_region(http)["caption"].update(text="a cup"),
    "a caption without other tasks": lambda http: a_region(http, "scene_4.gif caption")["caption"].update(text="a cup"),
    "a number": lambda http: _add(a_drawn_region(http)["caption"], 2e-3),
    "a score": lambda http: _add(a_drawn_region(http)["tags"][0], 2e-3),
    "a number of a photograph": lambda http: _add(a_region(http)["caption"], -0.2),
    "a name": lambda http: a_region(http)["categories"][0].update(name="cup and saucer"),
    "an order": lambda http: _swap(a_region(http)["categories"], 0, 1),
    "a label": lambda http: a_region(http)["categories"].pop(0),
    "a field": lambda http: a_region(http).update(colour="brown"),
    "a region": lambda http: http["photo_coffee.jpg all"]["body"]["regions"].pop(),
    "a pointer": lambda http: http["refused: box inverted"]["body"]["errors"][0].update(pointer="/regions"),
    "a flag": lambda http: a_region(http).update(clipped=1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_answer_is_noticed(change: str, recorded: Json, comparer: Comparer) -> None:
    changed = copy.deepcopy(recorded["http"])
    CHANGES[change](changed)
    assert comparer.answers(recorded["http"], changed) != []


def test_rounding_is_not_a_change(recorded: Json) -> None:
    http = copy.deepcopy(recorded["http"])
    region = a_region(http)
    region["caption"] = {"text": "a cup", "score": 0.5}
    region["tags"][0]["score"] += 5e-4
    labels = region["categories"]
    near = {"name": "a near duplicate", "score": labels[0]["score"] - 5e-4, "probability": labels[0]["probability"]}
    before = copy.deepcopy(recorded["http"])
    a_region(before)["categories"].insert(1, near)
    labels.insert(0, near)
    comparer = Comparer({"photo_coffee.jpg all": [5e-4, 1.0, 1.0, 1.0]})
    assert comparer.answers(before, http) == []
    labels.append({**near, "name": "one more", "score": labels[-1]["score"]})
    assert comparer.answers(before, http) == []
    labels[-1]["score"] -= 0.1
    assert Comparer({}).answers(before, http) != []
