"""The converser that ships: its answers, its pieces and its cache."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from dynrefer.model.asking import asked_conversation
from dynrefer.model.conversation import CANNOT_TELL, Message, Role
from dynrefer.model.conversing import ConverseTurn, Spoken
from dynrefer.model.errors import ConfigError, ConversationError, ModelError, StoppedError, WeightsError
from dynrefer.model.loading import model_directory
from dynrefer.model.networks.converse.embedded.embedded import MOST_READ, EmbeddedConverser
from dynrefer.model.networks.converse.embedded.files import CONFIG, VOCABULARY, WEIGHTS, WORD_VECTORS, load_files
from dynrefer.model.networks.converse.embedded.lexicon import END
from dynrefer.model.networks.converse.embedded.perception import sizes_of
from dynrefer.model.networks.converse.embedded.reader import ConversationReader, ReadSoFar
from dynrefer.model.networks.converse.embedded.seen import SeenObjects
from dynrefer.model.networks.converse.embedded.word_vectors import WordVectors
from dynrefer.model.networks.converse.loading import FOLDER
from dynrefer.model.predictor import DynRefer
from dynrefer.model.suppression import overlaps
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import Scene, draw_scene
from dynrefer.workbench.scenes.world import World

SEED = 7_000_000_003  # of a scene that nothing was trained on, measured on or calibrated by


@pytest.fixture(scope="module")
def model() -> DynRefer:
    return DynRefer.load("embedded", device="cpu")


@pytest.fixture(scope="module")
def scene() -> Scene:
    return draw_scene(World.load(), SpritePack.load(), SEED, "train")


@pytest.fixture
def converser(model: DynRefer) -> Iterator[EmbeddedConverser]:
    found = model._converser
    assert isinstance(found, EmbeddedConverser)
    found.forget()
    yield found
    found.forget()


def _turns(*texts: str) -> list[Message]:
    return [Message(Role.ASSISTANT if place % 2 else Role.USER, text) for place, text in enumerate(texts)]


def _turn(
    converser: EmbeddedConverser, scene: Scene, question: str | list[Message], answers: tuple[str, ...] = ()
) -> ConverseTurn:
    size = (scene.image.shape[1], scene.image.shape[0])
    pointed = {"a": scene.objects[0].box, "b": scene.objects[1].box}
    asked = asked_conversation(question, pointed, size, ground=True, answers=answers, max_tokens=64)
    (turn,) = converser.spec.prepare_each(scene.image, [asked])
    return turn


def _whole(converser: EmbeddedConverser, turn: ConverseTurn) -> Spoken:
    (spoken,) = converser.converse([turn], lambda: False)
    while not spoken.done:
        turn = turn.after(spoken)
        (spoken,) = converser.converse([turn], lambda: False)
    return spoken


def test_simple_questions_are_answered(model: DynRefer, scene: Scene) -> None:
    first = scene.objects[0]
    said = model.ask(scene.image, "What is <region:a>?", {"a": first.box})
    assert first.category in said.content
    (span,) = said.grounding
    assert (span.region, span.verified) == ("a", True) and said.content[slice(*span.span)] == first.category
    assert model.ask(scene.image, "How old is <region:a>?", {"a": first.box}).content == "I cannot tell."
    coloured = next(each for each in scene.objects if "color" in each.attributes)
    colour = model.ask(scene.image, "What colour is <region:a>?", {"a": coloured.box}).content
    assert coloured.attributes["color"] in colour


def test_allowed_answers_have_probabilities(model: DynRefer, scene: Scene) -> None:
    found = model.ask(scene.image, "What is <region:a>?", {"a": scene.objects[0].box}, answers=("zebra", "a thing"))
    assert {each.answer for each in found.answers} == {"zebra", "a thing"}
    assert sum(each.probability for each in found.answers) == pytest.approx(1, abs=1e-5)
    assert found.content == found.answers[0].answer


def test_a_region_that_nothing_refers_to_changes_nothing(model: DynRefer, scene: Scene) -> None:
    one, other = scene.objects[0].box, scene.objects[1].box
    for question in ("What is <region:a>?", "List all objects."):
        alone = model.ask(scene.image, question, {"a": one})
        assert model.ask(scene.image, question, {"x": other, "a": one, "y": other}) == alone


def test_an_answer_takes_up_the_plural_of_the_question(model: DynRefer) -> None:
    animals = draw_scene(World.load(), SpritePack.load(), SEED + 2, "train")
    cat, tiger, *_ = animals.objects
    reply = model.ask(animals.image, "Are both <region:a> and <region:b> animals?", {"a": cat.box, "b": tiger.box})
    assert reply.content == "Yes, both are animals."


def test_an_object_that_is_also_a_region_is_named_once(model: DynRefer, scene: Scene) -> None:
    turns = [
        {"role": "user", "content": "What colour is <region:a>?"},
        {"role": "assistant", "content": "It is red."},
        {"role": "user", "content": "List all objects."},
    ]
    reply = model.ask(scene.image, turns, {"a": scene.objects[0].box})
    boxes = np.array([each.box for each in reply.grounding], np.float32)
    assert len(boxes) > 2
    assert (overlaps(boxes, boxes) >= 0.6).sum() == len(boxes), "each box is itself alone"


@pytest.mark.parametrize("question", ["What is <region:a>? " * 12, "what " * 40, "glorp"])
def test_no_word_is_said_twice_in_a_row(model: DynRefer, scene: Scene, question: str) -> None:
    words = model.ask(scene.image, question, {"a": (0, 0, 1, 1)}).content.lower().split()
    assert words and all(first != second for first, second in zip(words, words[1:], strict=False))


@pytest.mark.parametrize("piece", [1, 2, 5])
def test_pieces_of_any_length_give_the_same_answer(converser: EmbeddedConverser, scene: Scene, piece: int) -> None:
    turn = _turn(converser, scene, "List all objects.")
    whole = _whole(converser, replace(turn, piece=64))
    converser.forget()
    assert _whole(converser, replace(turn, piece=piece)) == whole


def test_what_is_stable_of_a_piece_stays(converser: EmbeddedConverser, scene: Scene) -> None:
    turn = replace(_turn(converser, scene, "List all objects."), piece=1)
    whole = _whole(converser, turn).reply.content
    (spoken,) = converser.converse([turn], lambda: False)
    while not spoken.done:
        assert whole.startswith(spoken.reply.content[: spoken.stable])
        turn = turn.after(spoken)
        (spoken,) = converser.converse([turn], lambda: False)


def test_a_lost_cache_changes_nothing(converser: EmbeddedConverser, scene: Scene) -> None:
    turn = replace(_turn(converser, scene, "Where is <region:a> relative to <region:b>?"), piece=2)
    kept = _whole(converser, turn)
    assert converser.num_bytes > 0
    again = _whole(converser, turn)
    converser.forget()
    (spoken,) = converser.converse([turn], lambda: False)
    while not spoken.done:
        converser.forget()
        turn = turn.after(spoken)
        (spoken,) = converser.converse([turn], lambda: False)
    assert kept == again == spoken


def test_a_piece_goes_on_where_the_last_one_ended(
    converser: EmbeddedConverser, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    after = ConversationReader.after
    monkeypatch.setattr(
        ConversationReader, "after", lambda self, state, token: (read.append(token), after(self, state, token))[1]
    )
    turn = replace(_turn(converser, scene, "List all objects."), piece=2)
    spoken = _whole(converser, turn)
    assert len(spoken.written) > 4 and read == list(spoken.written)
    other = replace(turn, written=spoken.written[:1])  # not where it was left
    assert converser.converse([other], lambda: False)[0].written == spoken.written[:3]


def test_it_stops_between_regions(converser: EmbeddedConverser, scene: Scene) -> None:
    turn = _turn(converser, scene, "What is <region:a>?")
    polls = iter([False, False, False, True])
    with pytest.raises(StoppedError):
        converser.converse([turn], lambda: next(polls))
    regions = [value for value, _ in converser._cache._held.values() if isinstance(value, SeenObjects)]
    assert len(regions) == 1  # of two


def test_what_is_kept_of_a_beginning_does_not_depend_on_what_follows(
    converser: EmbeddedConverser, scene: Scene
) -> None:
    def kept(messages: tuple[str, ...], answers: tuple[str, ...] = ()) -> dict[bytes, Tensor]:
        converser.forget()
        converser.converse([_turn(converser, scene, _turns(*messages), answers)], lambda: False)
        held = converser._cache._held.items()
        return {key: value.logits for key, (value, _) in held if isinstance(value, ReadSoFar)}

    alone = kept(("What is <region:a>?",))
    followed = kept(("What is <region:a>?", "A pig.", "Is it an animal?"), ("yes", "no"))
    ((key, logits),) = alone.items()
    assert len(followed) == 2 and torch.equal(followed[key], logits)
    assert float(logits[converser._lexicon.size :].max()) > -1e3  # at objects may be pointed


def test_of_a_long_conversation_the_last_turns_are_read(converser: EmbeddedConverser, scene: Scene) -> None:
    question, long = ("What is <region:a>?", "A pig.", "Is it large?"), "? " * (MOST_READ // 2)
    turn = _turn(converser, scene, _turns("Why?", "I cannot tell.", long, "No.", *question))
    short = _turn(converser, scene, _turns(*question))
    assert len(converser._tokens(turn)) > len(converser._tokens(short))
    longer = _turn(converser, scene, _turns(long, "No.", long, "No.", *question))
    assert converser._tokens(longer) == converser._tokens(_turn(converser, scene, _turns(long, "No.", *question)))
    assert _whole(converser, longer).reply.content


@pytest.mark.parametrize("answers", [(), ("yes", "no")])
def test_a_question_that_is_too_long_is_refused(
    converser: EmbeddedConverser, scene: Scene, answers: tuple[str, ...]
) -> None:
    with pytest.raises(ConversationError, match=f"reads at most {MOST_READ}: shorten") as refused:
        converser.converse([_turn(converser, scene, "? " * MOST_READ, answers)], lambda: False)
    assert refused.value.field == "messages"
    with pytest.raises(ConversationError, match="the answers allowed"):
        converser.converse([_turn(converser, scene, "Which?", ("? " * MOST_READ, "no"))], lambda: False)


def test_an_answer_without_a_word_says_that_it_cannot_tell(
    converser: EmbeddedConverser, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    bias = converser.files.network.word_bias.detach().clone()
    bias[END] = 1e3
    monkeypatch.setattr(converser.files.network.word_bias, "data", bias)
    spoken = _whole(converser, _turn(converser, scene, "What is <region:a>?"))
    assert (spoken.reply.content, spoken.reply.tokens) == (CANNOT_TELL, 0)
    assert spoken.done and spoken.stable == len(CANNOT_TELL)


def test_a_turn_does_not_depend_on_its_batch(converser: EmbeddedConverser, scene: Scene) -> None:
    turns = [_turn(converser, scene, text) for text in ("What colour is <region:b>?", "How many objects are there?")]
    together = converser.converse(turns, lambda: False)
    converser.forget()
    assert [converser.converse([turn], lambda: False)[0] for turn in turns] == together


def test_an_image_without_objects_is_answered_too(converser: EmbeddedConverser, model: DynRefer) -> None:
    found = model.ask(np.full((40, 60, 3), 128, np.uint8), "What is in the image?")
    assert found.content and found.grounding == ()


def test_a_large_image_is_searched_in_tiles_and_its_boxes_are_its_own(model: DynRefer, scene: Scene) -> None:
    large = np.kron(scene.image, np.ones((6, 6, 1), np.uint8))
    found = model.ask(large, "List all objects.")
    assert found.grounding
    for span in found.grounding:
        assert 0 <= span.box[0] < span.box[2] <= large.shape[1] and 0 <= span.box[1] < span.box[3] <= large.shape[0]
    assert max(span.box[2] for span in found.grounding) > scene.image.shape[1]


def test_it_stops_when_asked_to(converser: EmbeddedConverser, scene: Scene) -> None:
    with pytest.raises(StoppedError):
        converser.converse([_turn(converser, scene, "List all objects.")], lambda: True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_directory("embedded") / FOLDER, tmp_path / FOLDER))


def _spoil_shape(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["word_bias"] = tensors["word_bias"][:-1]
    save_file(tensors, folder / WEIGHTS)


def _spoil_words(folder: Path) -> None:
    words = json.loads((folder / VOCABULARY).read_text())
    words["words"] = words["words"][:-1]
    words["properties"] = {}
    (folder / VOCABULARY).write_text(json.dumps(words))


def _spoil_sizes(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    config["network"]["categories"] += 1
    (folder / CONFIG).write_text(json.dumps(config))


def _spoil_calibration(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    config["calibration"] = {"temperature": 0}
    (folder / CONFIG).write_text(json.dumps(config))


def _spoil_vectors(folder: Path) -> None:
    (folder / WORD_VECTORS).write_bytes(WordVectors.made(["a", "b"], np.eye(2, 3, dtype=np.float32)).to_bytes())


@pytest.mark.parametrize(
    ("spoil", "kind", "said"),
    [
        (_spoil_shape, WeightsError, "word_bias"),
        (_spoil_words, ConfigError, "words"),
        (_spoil_sizes, ConfigError, "categories"),
        (_spoil_calibration, ConfigError, "temperature"),
        (lambda folder: (folder / VOCABULARY).unlink(), ModelError, "vocabulary"),
        (lambda folder: (folder / WEIGHTS).unlink(), ModelError, "weights"),
        (_spoil_vectors, ConfigError, "vectors of 3 numbers"),
        (lambda folder: (folder / WORD_VECTORS).unlink(), ModelError, "vectors"),
    ],
)
def test_files_that_do_not_fit_are_refused(model: DynRefer, folder: Path, spoil, kind, said: str) -> None:  # type: ignore[no-untyped-def]  # functions of the table
    spoil(folder)
    with pytest.raises(kind, match=said):
        load_files(folder, sizes_of(model._loaded))
