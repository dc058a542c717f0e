"""Qwen3-VL through its class, tiny and with random weights: what holds whatever the weights are."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from dynrefer.model.conversation import Conversation, Finish, Message, NamedRegion, Reply, Role
from dynrefer.model.conversing import ConverseTurn, Spoken
from dynrefer.model.errors import (
    ConfigError,
    ConversationError,
    ModelNotFoundError,
    OutputError,
    StoppedError,
    WeightsError,
)
from dynrefer.model.networks.converse.loading import load_converser
from dynrefer.model.networks.converse.qwen3_vl import MOST_READ, Qwen3VLConverser
from dynrefer.model.networks.converse.qwen3_vl_preparation import Qwen3VLSpec
from dynrefer.model.types import RegionQuery
from tests.model.networks.converse.tiny_qwen3_vl import save_qwen3_vl

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
OTHER = np.random.default_rng(1).integers(0, 256, (40, 90, 3), np.uint8)
REGIONS = (NamedRegion("a", RegionQuery((10.0, 20.0, 45.0, 50.0))),)
TOKENS = 24


def load(folder: Path) -> Qwen3VLConverser:
    loaded = SimpleNamespace(device=torch.device("cpu"), dtype=torch.float32)
    found = load_converser(str(folder), folder, loaded)  # type: ignore[arg-type]  # all that it needs of a model
    assert isinstance(found, Qwen3VLConverser)
    return found


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen3_vl")
    save_qwen3_vl(folder)
    return folder


@pytest.fixture
def converser(directory: Path) -> Qwen3VLConverser:
    return load(directory)


def asked(*contents: str, **changes: Any) -> Conversation:
    roles = (Role.USER, Role.ASSISTANT)
    messages = tuple(Message(roles[place % 2], each) for place, each in enumerate(contents))
    return Conversation(messages, REGIONS, **{"max_tokens": TOKENS, **changes})


def turn_of(converser: Qwen3VLConverser, conversation: Conversation, image: Any = IMAGE) -> ConverseTurn:
    (turn,) = converser.spec.prepare_each(image, [conversation])
    return turn


def whole(converser: Qwen3VLConverser, turn: ConverseTurn, piece: int = 8) -> Spoken:
    """The answer, in pieces of so many tokens."""
    turn = replace(turn, piece=piece)
    (spoken,) = converser.converse([turn], lambda: False)
    while not spoken.done:
        assert len(spoken.written) == len(turn.written) + piece
        turn = pickle.loads(pickle.dumps(turn.after(spoken)))
        (spoken,) = converser.converse([turn], lambda: False)
    return spoken


def test_pieces_of_any_length_give_the_same_answer(converser: Qwen3VLConverser, directory: Path) -> None:
    turn = turn_of(converser, asked("What is <region:a>?"))
    at_once = whole(converser, turn, TOKENS)
    assert at_once.reply.finish is Finish.LENGTH and at_once.reply.tokens == TOKENS
    assert len(set(at_once.written)) > 4  # it does not say the same token again and again
    for piece in (1, 3, 8):
        assert whole(load(directory), turn, piece) == at_once


def test_an_answer_does_not_depend_on_what_is_remembered(directory: Path) -> None:
    forgetful, other = load(directory), load(directory)
    forgetful._read.capacity = 0
    turns = [turn_of(other, asked(text), image) for text, image in (("Who?", IMAGE), ("Why?", IMAGE), ("Who?", OTHER))]
    expected = [whole(load(directory), turn) for turn in turns]
    assert len({each.written for each in expected}) == len(turns)
    spoken = [whole(forgetful, turn, 3) for turn in turns]
    assert spoken == expected
    first = [other.converse([replace(turn, piece=3)], lambda: False)[0] for turn in turns]
    mixed = [whole(other, turn.after(so_far), 5) for turn, so_far in zip(turns, first, strict=True)]
    assert mixed == expected
    assert [whole(other, turn) for turn in reversed(turns)] == expected[::-1]


def test_an_answer_is_the_same_beside_another(converser: Qwen3VLConverser, directory: Path) -> None:
    turns = [turn_of(converser, asked("What is <region:a>?")), turn_of(converser, asked("Where is it?"), OTHER)]
    together = converser.converse(turns, lambda: False)
    assert together == [load(directory).converse([turn], lambda: False)[0] for turn in turns]


def test_it_is_what_transformers_generate_gives(converser: Qwen3VLConverser, directory: Path) -> None:
    turn = turn_of(converser, asked("What is this?", "A cup.", "Is it red?"))
    prompt = converser._prompt(turn)
    processor = Qwen2VLImageProcessorPil.from_pretrained(directory)
    pixels = processor(images=[turn.pixels], return_tensors="pt")
    assert pixels["image_grid_thw"].tolist() == prompt.grid.tolist()
    ids = torch.tensor([prompt.ids])
    network = converser._network
    found = network.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        mm_token_type_ids=(ids == network.config.image_token_id).int(),
        **pixels,
        max_new_tokens=TOKENS,
        do_sample=False,
    )
    assert found[0, len(prompt.ids) :].tolist() == list(whole(converser, turn).written)


def test_the_prompt_is_the_models_chat_format(converser: Qwen3VLConverser) -> None:
    turn = turn_of(converser, asked("Is <region:a> red?<|im_end|>", "Yes.", "Why <|image_pad|>?"))
    prompt = converser._prompt(turn)
    text = converser._tokenizer.decode(prompt.ids)
    pads = turn.pixels.shape[0] * turn.pixels.shape[1] // 8**2
    start = (
        "<|im_start|>user\n<|vision_start|>"
        + "<|image_pad|>" * pads
        + "<|vision_end|>Is region a [111, 333, 500, 833] red?"
    )
    assert text.startswith(start)
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\n")
    # What a message says in marks are letters, and end no turn.
    assert prompt.ids.count(converser._end) == 3
    assert prompt.ids.count(converser._network.config.image_token_id) == pads
    assert prompt.ids[prompt.after_image - 1] == converser._network.config.vision_end_token_id


def test_a_second_turn_reads_the_image_once(converser: Qwen3VLConverser, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    visual = converser._network.model.visual
    monkeypatch.setattr(visual, "forward", lambda *a, _of=visual.forward, **k: (seen.append(1), _of(*a, **k))[1])
    first = whole(converser, turn_of(converser, asked("Who?")))
    whole(converser, turn_of(converser, asked("Who?", "A dog.", "Why?")))
    whole(converser, turn_of(converser, asked("Where?", answers=("here", "there"))))
    assert first.done and len(seen) == 1
    whole(converser, turn_of(converser, asked("Who?"), OTHER))
    assert len(seen) == 2


def test_of_a_text_that_is_read_the_last_logits_alone_are_computed(
    converser: Qwen3VLConverser, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    head = converser._network.lm_head
    monkeypatch.setattr(head, "forward", lambda x, _of=head.forward: (rows.append(x.shape[1]), _of(x))[1])
    whole(converser, turn_of(converser, asked("Who?")))
    whole(converser, turn_of(converser, asked("Where is it? " * 20)))  # of the same image, which is read already
    assert len(rows) >= 2 * TOKENS and set(rows) == {1}


def test_a_conversation_is_bounded_however_long_a_text_the_network_takes(directory: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(directory, tmp_path / "long")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 1 << 18
    (folder / "config.json").write_text(json.dumps(config))
    converser = load(folder)
    with pytest.raises(ConversationError, match=f"more than {MOST_READ} tokens: leave early messages out"):
        converser.converse([turn_of(converser, asked("Who? " * MOST_READ))], lambda: False)


def test_what_is_remembered_is_bounded(converser: Qwen3VLConverser) -> None:
    whole(converser, turn_of(converser, asked("Who?")))
    one = converser.num_bytes
    assert one > 0
    converser._read.capacity = 3 * one
    for place in range(8):
        image = np.roll(IMAGE, place, axis=0)
        whole(converser, turn_of(converser, asked(f"Who? {'Why? ' * place}"), image))
        assert converser.num_bytes <= 3 * one
    held = [text for _, text in converser._read._held.values()]
    assert converser.num_bytes == sum(text.num_bytes for text in held)


def test_allowed_answers_are_scored_by_their_likelihood(converser: Qwen3VLConverser) -> None:
    answers = ("yes", "no", "a red dog")
    turn = turn_of(converser, asked("Is it?", answers=answers))
    spoken = whole(converser, turn)
    reply = spoken.reply
    assert spoken.done and reply.grounding == () and reply.finish is Finish.STOP
    assert {each.answer for each in reply.answers} == set(answers)
    assert sum(each.probability for each in reply.answers) == pytest.approx(1.0)
    assert reply.content == reply.answers[0].answer and reply.probability == reply.answers[0].probability
    assert [each.probability for each in reply.answers] == sorted((e.probability for e in reply.answers), reverse=True)
    # Written another way: all of the conversation with the answer behind it, read at once.
    scores = [_likelihood(converser, turn, answer) for answer in answers]
    expected = torch.tensor(scores).softmax(dim=0).tolist()
    found = {each.answer: each.probability for each in reply.answers}
    assert [found[answer] for answer in answers] == pytest.approx(expected, abs=1e-4)
    turned = whole(converser, turn_of(converser, asked("Is it?", answers=answers))).reply
    assert {e.answer: pytest.approx(e.probability, abs=1e-4) for e in turned.answers} == found


def _likelihood(converser: Qwen3VLConverser, turn: ConverseTurn, answer: str) -> float:
    prompt = converser._prompt(turn)
    behind = [*converser._ids(answer), converser._end]
    ids = torch.tensor([[*prompt.ids, *behind]])
    pixels = converser._processor(images=[turn.pixels], do_resize=False, return_tensors="pt")
    kinds = (ids == converser._network.config.image_token_id).int()
    with torch.inference_mode():
        logits = converser._network(input_ids=ids, mm_token_type_ids=kinds, **pixels).logits[0]
    rows = logits[len(prompt.ids) - 1 : -1].log_softmax(dim=-1)
    return float(rows.gather(1, torch.tensor(behind)[:, None]).mean())


def test_boxes_are_read_from_what_it_writes(converser: Qwen3VLConverser, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = turn_of(converser, asked("Where is the dog?"))
    text = "It is <ref>the dog</ref><box>[100, 200, 500, 800]</box> é"
    written = [*converser._ids(text), converser._end]
    forced = iter(written)

    def forward(read: Any, tokens: Any) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.tensor([next(forced)]), 300).float()

    monkeypatch.setattr(converser, "_forward", forward)
    monkeypatch.setattr(converser, "_go_on", lambda *a: (forward(None, None), SimpleNamespace(tokens=[], num_bytes=0)))
    turn = replace(turn, conversation=replace(turn.conversation, max_tokens=200))
    seen = ""
    spoken: Spoken | None = None
    while spoken is None or not spoken.done:
        turn = turn if spoken is None else turn.after(spoken)
        (spoken,) = converser.converse([turn], lambda: False)
        assert spoken.reply.content.startswith(seen) and "<" not in spoken.reply.content
        seen = spoken.reply.content[: spoken.stable]
    assert spoken.reply == Reply("It is the dog é", spoken.reply.grounding, tokens=len(written) - 1)
    assert [(each.span, each.box) for each in spoken.reply.grounding] == [((6, 13), (9.0, 12.0, 45.0, 48.0))]


def test_it_stops_between_tokens_and_goes_on(converser: Qwen3VLConverser, directory: Path) -> None:
    turn = turn_of(converser, asked("Who?"))
    calls = iter([False, False, False, True])
    with pytest.raises(StoppedError):
        converser.converse([turn], lambda: next(calls))
    assert whole(converser, turn) == whole(load(directory), turn)


def test_what_cannot_be_asked_is_said(converser: Qwen3VLConverser) -> None:
    assert converser.spec.invalid([asked("Who?")], (90, 60)) == []
    (error,) = converser.spec.invalid([asked("Who?")], (9000, 10))
    assert "times as long" in str(error)
    long = turn_of(converser, asked("Who? " * 500))
    with pytest.raises(ConversationError, match="leave early messages out"):
        converser.converse([long], lambda: False)


def test_numbers_that_are_none_are_an_error(converser: Qwen3VLConverser) -> None:
    with torch.no_grad():
        converser._network.lm_head.weight[3] = torch.nan
    with pytest.raises(OutputError):
        converser.converse([turn_of(converser, asked("Who?"))], lambda: False)


@pytest.mark.parametrize("size", [(90, 60), (61, 61), (20, 300), (4000, 3000), (16, 16), (5, 900), (33, 34)])
def test_images_are_scaled_as_transformers_does(size: tuple[int, int]) -> None:
    spec = Qwen3VLSpec(32, 65536, 1 << 20)
    height, width = smart_resize(size[1], size[0], 32, 65536, 1 << 20)
    assert spec.scaled(size) == (width, height)


def test_a_directory_that_is_none_is_named(directory: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no converser directory"):
        load(tmp_path / "nothing")
    with pytest.raises(ModelNotFoundError):
        load(tmp_path)
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in directory.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "owlv2"}))
    with pytest.raises(ConfigError, match="'owlv2', which is no converser"):
        load(folder)
    (folder / "config.json").write_text(json.dumps(config))
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(WeightsError, match="converser"):
        load(folder)
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "preprocessor_config.json").write_text('{"patch_size": 7}')
    with pytest.raises(ConfigError, match="patches"):
        load(folder)
    (folder / "preprocessor_config.json").write_text("[")
    with pytest.raises(ConfigError, match="preprocessor_config"):
        load(folder)
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ModelNotFoundError):
        load(folder)
