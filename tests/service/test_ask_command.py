"""`dynrefer ask`: what it sends a service, what it prints and draws, and one sentence for every wrong argument."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from dynrefer.model import DynRefer, GroundedSpan, PointPrompt, Reply
from dynrefer.service.ask_command import ask_command
from dynrefer.service.region_options import read_named_regions
from tests.service.client.scripted import closed_url, problem, scripted
from tests.service.client.scripted_events import ANSWERED, DELTAS, DONE, event, events
from tests.service.test_cli import refused

GROUNDED = "dog  [1, 2, 3.5, 4]  0.75  verified  <region:a>\nmat  [4, 2, 8, 6]\n"
CHOSEN = {
    **ANSWERED,
    "message": {
        "role": "assistant",
        "content": "no",
        "grounding": [],
        "answers": [{"answer": "no", "probability": 0.875}, {"answer": "yes", "probability": 0.125}],
    },
}


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "picture.png"
    Image.new("RGB", (400, 300), "white").save(path)
    return str(path)


def ask(*arguments: str, says: str = "", code: int = 0) -> str:
    """What the command prints. says: to its standard input."""
    done = subprocess.run(
        [sys.executable, "-m", "dynrefer.service.cli", "ask", *arguments],
        capture_output=True, text=True, input=says, env={**os.environ, "PYTHONIOENCODING": "utf-8"}, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout


def test_an_answer_in_words(picture: str) -> None:
    with scripted(events(*DELTAS, DONE)) as server:
        said = ask(picture, "--box", "1,2,3,4", "--point", "dog=5,6", "What is <region:a>?", "--server", server.url)
    assert said == f"A dog 🐕 left of a mat.\n{GROUNDED}"
    (received,) = server.received
    assert received.document == {
        "messages": [{"role": "user", "content": "What is <region:a>?"}],
        "regions": [
            {"id": "a", "box": [1, 2, 3, 4]},
            {"id": "dog", "points": [{"x": 5, "y": 6, "positive": True}]},
        ],
        "ground": True,
        "verify": True,
        "stream": True,
    }
    assert received.part("image") == Path(picture).read_bytes()


def test_choices_and_options(picture: str) -> None:
    with scripted(events(event("done", CHOSEN))) as server:
        options = ["--answer", "yes", "--answer", "no", "--no-ground", "--no-verify", "--max-tokens", "4"]
        said = ask(picture, "Is it?", *options, "--server", server.url)
    assert said == "no\n0.88  no\n0.12  yes\n"
    sent = server.received[0].document
    assert (sent["answers"], sent["ground"], sent["verify"], sent["max_tokens"]) == (["yes", "no"], False, False, 4)


def test_an_answer_as_json(picture: str) -> None:
    with scripted(events(*DELTAS, DONE)) as server:
        said = json.loads(ask(picture, "What is it?", "--json", "--server", server.url))
    assert said == {name: ANSWERED[name] for name in ("message", "finish_reason", "usage")}


def test_a_conversation(picture: str, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.png"
    flaw = {"pointer": "/messages/2/content", "detail": "It is too long."}
    answers = (events(*DELTAS, DONE), problem(422, "It is too long.", flaw), events(event("done", CHOSEN)))
    with scripted(*answers) as server:
        arguments = [picture, "What is it?", "--chat", "--draw", str(drawn), "--server", server.url]
        said = ask(*arguments, says="So long?\n\n  Is it <region:b>?\nIs it a cat?\n", code=2)
    assert said == f"A dog 🐕 left of a mat.\n{GROUNDED}no\n0.88  no\n0.12  yes\n"
    assert [len(each.document["messages"]) for each in server.received] == [1, 3, 3]
    assert [each["content"] for each in server.received[2].document["messages"]] == [
        "What is it?",
        "A dog 🐕 left of a mat.",
        "Is it a cat?",
    ]
    with Image.open(drawn) as image:
        assert image.width > image.height > 100


def test_of_a_conversation_that_is_too_long_the_last_turns_are_sent(picture: str) -> None:
    long = problem(422, "At most 5 are accepted.", {"pointer": "/messages", "detail": "At most 5 are accepted."})
    done = events(DONE)
    with scripted(done, done, done, long, done, long, long) as server:
        said = ask(picture, "--chat", "--server", server.url, says="One?\nTwo?\nThree?\nFour?\nFive?", code=2)
    assert said.count(ANSWERED["message"]["content"]) == 4
    sent = [[each["content"] for each in one.document["messages"][::2]] for one in server.received]
    assert sent[3:] == [["One?", "Two?", "Three?", "Four?"], ["Three?", "Four?"]] + [
        ["Three?", "Four?", "Five?"],
        ["Five?"],
    ]


def test_a_conversation_as_lines_of_json(picture: str) -> None:
    with scripted(events(DONE)) as server:
        lines = ask(picture, "--chat", "--json", "--server", server.url, says="One?\nTwo?").splitlines()
    assert [json.loads(line)["message"]["content"] for line in lines] == [ANSWERED["message"]["content"]] * 2


def test_a_drawing_says_the_words_of_the_answer(picture: str, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.png"
    message = {
        **ANSWERED["message"],
        "grounding": [{"span": [2, 5], "box": [50, 60, 250, 200], "verified": False}],
    }
    with scripted(events(event("done", {**ANSWERED, "message": message}))) as server:
        said = ask(picture, "What is it?", "--draw", str(drawn), "--server", server.url)
        assert said.splitlines()[1] == "dog  [50, 60, 250, 200]  not verified"
        assert "exists" in refused("ask", picture, "What?", "--draw", str(drawn), "--server", server.url)
    with Image.open(drawn) as image:
        assert len(image.convert("RGB").getcolors(100_000) or ()) > 5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "ask needs a question"),
        (("",), "The text is empty"),
        (("What?", "--box", "1,2,3"), "--box 1,2,3 is not four numbers x1,y1,x2,y2."),
        (("What?", "--box", "a b=1,2,3,4"), "a region's name has 1 to 64"),
        (("What?", "--box", "a=1,2,3,4", "--box", "a=1,2,3,5"), "there is another region a"),
        (("What?", "--box", "a=1,2,3,4", "--point", "a=1,2"), "region a has a box"),
        (("What?", "--point", "1,2,0"), "region a has only points beside its object"),
        (("What?", "--point", "1,2,3"), "for a point beside the object"),
        (("What is <region:b>?", "--box", "1,2,3,4"), "'<region:b>' refers to a region that 'regions' does not have"),
        (("What?", "--answer", "yes"), "One answer leaves nothing to choose"),
        (("What?", "--max-tokens", "0"), "'--max-tokens': Input should be"),
        (("What?", "--timeout", "3"), "--timeout is for a service"),
        (
            ("What?", "--server", "http://a.example", "--converser", "none"),
            "--converser is for a model in this process",
        ),
        (("What?", "--server", "a.example"), "is not the address of a service"),
        (("What?", "--draw", "nowhere/a.png"), "no such folder"),
    ],
)
def test_one_sentence_for_a_wrong_argument(picture: str, arguments: tuple[str, ...], sentence: str) -> None:
    assert sentence in refused("ask", picture, *arguments)


def test_no_file_and_no_service(picture: str) -> None:
    assert "cannot read missing.png: no such file" in refused("ask", "missing.png", "What?", "--server", "http://a")
    assert "connection refused" in refused("ask", picture, "What?", "--server", closed_url())


def test_a_question_that_the_service_refuses(picture: str) -> None:
    with scripted(problem(422, "This service has no converser.")) as server:
        assert refused("ask", picture, "What?", "--server", server.url) == "dynrefer: This service has no converser.\n"


def test_names_of_regions() -> None:
    regions = read_named_regions(["a=1,2,3,4", "5,6,7,8"], ["1,2", "dog=3,4", "3,4", "dog=5,6,0"])
    assert regions == {
        "a": (1, 2, 3, 4),
        "b": (5, 6, 7, 8),
        "c": (PointPrompt(1, 2),),
        "dog": (PointPrompt(3, 4), PointPrompt(5, 6, positive=False)),
        "d": (PointPrompt(3, 4),),
    }
    many = list(read_named_regions(["1,2,3,4"] * 28, []))
    assert many[25:] == ["z", "aa", "ab"]


class Answering:
    """In the place of a loaded model."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def ask(self, image: Any, question: Any, regions: Any, **options: Any) -> Reply:
        """Always the same."""
        self.asked.append((image.shape, [each.content for each in question], regions, options))
        return Reply("a dog", (GroundedSpan((2, 5), (1.0, 2.0, 3.0, 4.0), 0.5),), tokens=2)


def test_a_model_in_this_process(picture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, loaded = Answering(), list[Any]()

    def load(*arguments: Any, **options: Any) -> Answering:
        loaded.append((arguments, options))
        return model

    monkeypatch.setattr(DynRefer, "load", load)
    app = typer.Typer()
    app.command()(ask_command)
    arguments = [picture, "What is <region:a>?", "--box", "1,2,3,4", "--converser", "somewhere"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.stdout == "a dog\ndog  [1, 2, 3, 4]  0.50\n"
    assert loaded == [(("embedded",), {"device": "auto", "segmenter": "embedded", "converser": "somewhere"})]
    options = {"ground": True, "answers": (), "verify": True}
    assert model.asked == [((300, 400, 3), ["What is <region:a>?"], {"a": (1, 2, 3, 4)}, options)]
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert json.loads(done.stdout) == {
        "message": {
            "role": "assistant",
            "content": "a dog",
            "grounding": [{"span": [2, 5], "box": [1, 2, 3, 4], "probability": 0.5}],
        },
        "finish_reason": "stop",
        "usage": {"completion_tokens": 2},
    }
