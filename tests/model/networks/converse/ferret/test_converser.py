"""Answers: the same by pieces of any length, in any batch, with any cache; and as transformers writes them."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import pytest
import torch

from dynrefer.model.conversation import CANNOT_TELL, Finish
from dynrefer.model.errors import ConversationError, OutputError, StoppedError
from dynrefer.model.masks import mask_from_bitmap
from dynrefer.model.networks.converse.ferret.converser import FerretConverser
from dynrefer.model.networks.converse.ferret.network import FerretModel
from dynrefer.model.networks.converse.ferret.prompt import PromptReader, embedded
from dynrefer.model.networks.converse.ferret.text import PromptWords, prompt_parts
from dynrefer.workbench.random_ferret import byte_tokenizer
from tests.model.networks.converse.ferret.random_model import (
    REGIONS,
    answered,
    conversation,
    converser,
    never,
    spread_model,
    turn_of,
)

QUESTIONS = (
    ("What is <region:a>?",),
    ("Is <region:a> larger than <region:b>, and why do you think so?",),
    ("What is here?", "A dog on a mat.", "And in <region:b>?"),
)
# A causal language model of another kind each: heads that share keys, norms of heads, tied words.
LANGUAGES: dict[str, dict[str, Any]] = {
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 16},
    "mistral": {"sliding_window": None},
}


@pytest.fixture(scope="module")
def model() -> FerretModel:
    return spread_model()


def whole_prompt(model: FerretModel, speaker: FerretConverser, messages: tuple[str, ...]) -> torch.Tensor:
    """The prompt's embeddings (1, L, D), made at once."""
    config, tokenizer = model.config, byte_tokenizer()
    turn = turn_of(speaker, conversation(*messages))
    views = torch.from_numpy(turn.pixels).unflatten(0, (-1, 56)).permute(0, 3, 1, 2)
    features = model.image_features(views, turn.size)
    words = PromptWords(config.system, config.user, config.assistant, config.ground_request)
    reader = PromptReader(tokenizer, tokenizer.bos_token_id, tokenizer.eos_token_id)
    prompt = reader.prompt(list(prompt_parts(turn.conversation, turn.size, words)), len(features.tokens))
    return embedded(
        model,
        prompt.keys,
        0,
        lambda: features,
        lambda digest: model.region_feature(features, prompt.regions[digest], turn.size),
    )


@pytest.mark.parametrize("messages", QUESTIONS)
@torch.inference_mode()
def test_an_answer_is_what_transformers_own_greedy_search_writes(model: FerretModel, messages: tuple[str, ...]) -> None:
    speaker = converser(model)
    (spoken,) = answered(speaker, [turn_of(speaker, conversation(*messages))])
    prompt = whole_prompt(model, speaker, messages)
    mask = torch.ones(prompt.shape[:2], dtype=torch.int64)
    expected = model.language.generate(inputs_embeds=prompt, attention_mask=mask, max_new_tokens=20, do_sample=False)
    assert spoken.written == tuple(expected[0].tolist())
    assert spoken.reply.tokens == len(spoken.written) > 3


@pytest.mark.parametrize("kind", LANGUAGES)
def test_any_causal_model_writes_the_same_in_pieces_and_at_once(kind: str) -> None:
    language = {
        **{"model_type": kind, "vocab_size": 384, "hidden_size": 64, "intermediate_size": 128},
        **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
        **{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "max_position_embeddings": 2048},
    }
    other = spread_model(language_config={**language, **LANGUAGES[kind]})
    speaker = converser(other)
    turns = [turn_of(speaker, conversation(*messages)) for messages in QUESTIONS]
    together = answered(converser(other, together=8), turns)
    for turn, found in zip(turns, together, strict=True):
        (alone,) = answered(converser(other), [replace(turn, piece=100)])
        assert alone.written == found.written


@pytest.mark.parametrize("piece", [1, 3, 8, 100])
@pytest.mark.parametrize("messages", QUESTIONS)
def test_pieces_of_any_length_make_the_same_answer(model: FerretModel, messages: tuple[str, ...], piece: int) -> None:
    speaker = converser(model)
    turn = turn_of(speaker, conversation(*messages))
    (whole,) = answered(converser(model), [replace(turn, piece=100)])
    (pieces,) = answered(speaker, [replace(turn, piece=piece)])
    assert pieces == whole


@pytest.mark.parametrize("together", [1, 2, 8])
def test_a_batch_gives_each_conversation_its_answer_alone(model: FerretModel, together: int) -> None:
    speaker = converser(model, together=together)
    turns = [
        turn_of(speaker, conversation(*messages, max_tokens=5 + 6 * place), seed=place % 2, piece=3 + place)
        for place, messages in enumerate((*QUESTIONS, *QUESTIONS))
    ]
    alone = [answered(converser(model), [turn])[0] for turn in turns]
    assert answered(speaker, turns) == alone
    assert len({each.written[:5] for each in alone}) >= 3


def test_the_same_question_twice_in_a_batch_is_answered_twice(model: FerretModel) -> None:
    speaker = converser(model, together=4)
    turn = turn_of(speaker, conversation(*QUESTIONS[0]))
    (alone,) = answered(converser(model), [turn])
    short = replace(turn, piece=2)
    assert answered(speaker, [turn, short, turn]) == [alone] * 3


def test_what_the_cache_has_lost_is_computed_again(model: FerretModel) -> None:
    kept, without = converser(model), converser(model, cache_bytes=0)
    turn = turn_of(kept, conversation(*QUESTIONS[1]))
    assert answered(kept, [turn]) == answered(without, [turn])
    assert without.num_bytes == 0 < kept.num_bytes
    (begun,) = kept.converse([turn], never)
    kept.forget()
    assert kept.num_bytes == 0
    assert answered(kept, [turn.after(begun)]) == answered(without, [turn])


def test_the_cache_stays_within_its_bytes(model: FerretModel) -> None:
    limit = 1 << 20
    speaker = converser(model, cache_bytes=limit)
    for seed in range(12):
        answered(speaker, [turn_of(speaker, conversation(*QUESTIONS[0]), seed=seed)])
        assert 0 < speaker.num_bytes <= limit


def places_computed(model: FerretModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the places of each pass of the language model."""
    passes: list[int] = []
    forward = model.forward

    def counted(embeddings: torch.Tensor, **named: Any) -> Any:
        passes.append(embeddings.shape[1])
        return forward(embeddings, **named)

    monkeypatch.setattr(model, "forward", counted)
    return passes


def test_a_second_turn_computes_what_is_new_alone(model: FerretModel, monkeypatch: pytest.MonkeyPatch) -> None:
    speaker = converser(model)
    first = turn_of(speaker, conversation("What is <region:a>?"))
    (spoken,) = answered(speaker, [first])
    passes = places_computed(model, monkeypatch)
    images: list[int] = []
    monkeypatch.setattr(model, "image_features", lambda *_: images.append(1))
    answer = spoken.reply.content or CANNOT_TELL
    second = turn_of(speaker, conversation("What is <region:a>?", answer, "Why?"))
    speaker.converse([second], never)
    added = len(byte_tokenizer()(f" {answer}Why? USER: ASSISTANT: Give the box of each object.")["input_ids"])
    assert passes[0] <= added + 10
    assert not images


def test_another_question_about_an_image_begins_behind_it(model: FerretModel, monkeypatch: pytest.MonkeyPatch) -> None:
    speaker = converser(model)
    answered(speaker, [turn_of(speaker, conversation("What is <region:a>?"))])
    passes = places_computed(model, monkeypatch)
    other = turn_of(speaker, conversation("Why <region:b>?"))
    (spoken,) = answered(speaker, [other])
    assert passes[0] < 80 < len(other.pixels) // 56 * 16  # of the question alone; of the image at least
    assert (spoken,) == tuple(answered(converser(model), [other]))


def test_answers_to_choose_from_have_the_probabilities_of_their_tokens(model: FerretModel) -> None:
    speaker = converser(model)
    answers = ("yes", "no", "a dog")
    turn = turn_of(speaker, conversation(*QUESTIONS[0], answers=answers))
    (found,) = speaker.converse([turn], never)
    with torch.inference_mode():
        prompt = whole_prompt(model, speaker, QUESTIONS[0])
        scores = []
        for answer in answers:
            tokens = torch.tensor([*byte_tokenizer()(f" {answer}")["input_ids"], 2])
            given = torch.cat((prompt, model.get_input_embeddings()(tokens[None])), dim=1)
            chances = model.language(inputs_embeds=given).logits[0, prompt.shape[1] - 1 : -1].log_softmax(-1)
            scores.append(float(chances.gather(1, tokens[:, None]).sum()))
    expected = dict(zip(answers, torch.tensor(scores).softmax(0).tolist(), strict=True))
    assert {each.answer: each.probability for each in found.reply.answers} == pytest.approx(expected, abs=1e-4)
    assert list(found.reply.answers) == sorted(found.reply.answers, key=lambda each: -each.probability)
    assert found.done and found.reply.content == max(expected, key=expected.__getitem__)
    again, mixed = converser(model, together=4).converse([turn, replace(turn, conversation=conversation("Hm?"))], never)
    assert again.reply.answers == found.reply.answers
    assert not mixed.reply.answers and mixed.written


def test_an_answer_ends_at_its_end_token_or_at_its_length(model: FerretModel) -> None:
    speaker = converser(model)
    (ended,) = answered(speaker, [turn_of(speaker, conversation(*QUESTIONS[0]))])
    assert ended.written[-1] == 2 and ended.reply.finish is Finish.STOP
    (cut,) = answered(speaker, [turn_of(speaker, conversation(*QUESTIONS[0], max_tokens=len(ended.written) - 1))])
    assert cut.written == ended.written[:-1] and cut.reply.finish is Finish.LENGTH


def test_a_conversation_that_is_too_long_is_refused(model: FerretModel) -> None:
    speaker = converser(model)
    with pytest.raises(ConversationError, match="leave early messages out") as caught:
        speaker.converse([turn_of(speaker, conversation("long " * 500))], never)
    assert caught.value.field == "messages"


def stops_at(counter: Iterator[int], polls: int) -> bool:
    """From so many polls on."""
    return next(counter) >= polls


def test_it_can_be_stopped_and_goes_on_as_if_it_had_not(model: FerretModel) -> None:
    speaker = converser(model)
    turn = turn_of(speaker, conversation(*QUESTIONS[1]), piece=100)
    for polls in (0, 1, 5):
        with pytest.raises(StoppedError):
            speaker.converse([turn], partial(stops_at, count(), polls))
    assert answered(speaker, [turn]) == answered(converser(model), [turn])


def test_numbers_that_are_none_are_an_error() -> None:
    broken = spread_model()
    broken.language.lm_head.weight.data[:] = float("nan")
    speaker = converser(broken)
    for asked in (conversation("What?"), conversation("What?", answers=("yes", "no"))):
        with pytest.raises(OutputError):
            speaker.converse([turn_of(speaker, asked)], never)


def test_a_mask_counts_and_not_its_box_alone(model: FerretModel) -> None:
    def chances(rows: slice) -> list[float]:
        bitmap = np.zeros((100, 160), bool)
        bitmap[rows, 10:100] = True
        region = replace(REGIONS[0], query=replace(REGIONS[0].query, mask=mask_from_bitmap(bitmap)))
        asked = replace(conversation(*QUESTIONS[0], answers=("yes", "no")), regions=(region,))
        speaker = converser(model)
        (spoken,) = speaker.converse([turn_of(speaker, asked)], never)
        return sorted(each.probability for each in spoken.reply.answers)

    upper, lower = (chances(rows) for rows in (slice(20, 40), slice(40, 90)))
    assert upper == chances(slice(20, 40))
    assert abs(upper[0] - lower[0]) > 1e-4


def test_marks_of_the_language_model_in_a_message_are_letters() -> None:
    tokenizer = byte_tokenizer()
    reader = PromptReader(tokenizer, tokenizer.bos_token_id, tokenizer.eos_token_id)
    end = tokenizer.eos_token
    asked = conversation(f"What{end}?", f"A dog{end}.", "Why?")
    prompt = reader.prompt(list(prompt_parts(asked, (160, 100), PromptWords(f"System.{end}", "", "", ""))), 1)
    assert prompt.keys.count(tokenizer.eos_token_id) == 2  # of the system's words, and behind the assistant's
    assert len(reader.tokens(f" {end}")) == 1 + len(end)
