"""The network: what is read in parts is as what is read at once, and nothing sees what comes after it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TypeVar

import pytest
import torch
from torch import Tensor

from dynrefer.model.networks.converse.embedded.network import ConverseNetwork
from dynrefer.model.networks.converse.embedded.reading import NetworkConfig, Slots, Tokens

CONFIG = NetworkConfig(30, 5, 3, 4, 6, 7, width=16, layers=2, heads=4, counting=1, pair=6, inner=24)
Record = TypeVar("Record", Slots, Tokens)


def _boxes(*shape: int) -> Tensor:
    low = torch.rand(*shape, 2) * 0.5
    return torch.cat((low, low + 0.1 + 0.4 * torch.rand(*shape, 2)), dim=-1)


def _slots(count: int, *, whole: bool) -> Slots:
    ends = torch.zeros(1, count, dtype=torch.bool)
    ends[0, -1] = whole
    categories = torch.rand(1, count, 5).softmax(-1)
    return Slots(
        torch.randn(1, count, 6),
        categories,
        torch.rand(1, count, 3),
        _boxes(1, count),
        torch.tensor([[1.0, 0.8]]),
        torch.rand(1, count),
        torch.ones(1, count, dtype=torch.bool),
        ends,
        torch.rand(1, 4),
        categories,
    )


def _tokens(count: int) -> Tokens:
    regions = _slots(count, whole=False)
    shown = torch.zeros(1, count, dtype=torch.bool)
    shown[0, :2] = True
    meanings = torch.zeros(1, count, 5)
    meanings[0, 4, 2] = meanings[0, 6, 1] = 1.0
    properties = torch.zeros(1, count, 3)
    properties[0, 3, 1] = 1.0
    hidden = ~shown[..., None]
    regions = replace(
        regions,
        features=regions.features.masked_fill(hidden, 0),
        categories=regions.categories.masked_fill(hidden, 0),
        attributes=regions.attributes.masked_fill(hidden, 0),
        match=regions.match.masked_fill(hidden, 0),
        mask=shown,
    )
    words, grams = torch.randint(0, 30, (1, count)), torch.randint(0, 9, (1, count, 10))
    roles, mask = torch.ones(1, count, dtype=torch.int64), torch.ones(1, count, dtype=torch.bool)
    return Tokens(words, grams, torch.randn(1, count, 7), meanings, meanings, properties, roles, regions, shown, mask)


def _part(tokens: Record, start: int, end: int) -> Record:
    found = {}
    for field in fields(tokens):
        value = getattr(tokens, field.name)
        if isinstance(value, Slots):
            found[field.name] = _part(value, start, end)
        else:
            found[field.name] = value if field.name in ("frames", "tags") else value[:, start:end]
    return type(tokens)(**found)


@pytest.fixture
def network() -> ConverseNetwork:
    torch.manual_seed(3)
    return ConverseNetwork(CONFIG).eval()


def _logits(network: ConverseNetwork, tokens: Tokens, slots: Slots, cuts: list[int]) -> Tensor:
    """Behind every token, read in parts that end at `cuts`."""
    keys, found, start = network.see(slots), [], 0
    seen = slots.boxes.shape[1]
    for end in cuts:
        own = network.read(_part(tokens, start, end), keys, seen)
        keys = keys.followed_by(own)
        until = seen + torch.arange(start, end)[None] + 1
        pointable = torch.zeros(1, seen + end, dtype=torch.bool)
        pointable[:, : seen - 1] = True
        logits = network.logits(own.hidden, keys, pointable, torch.eye(30)[:, :3], until)
        found.append(logits[:, :, : 30 + seen - 1])
        start = end
    return torch.cat(found, dim=1)


@torch.inference_mode()
def test_parts_give_what_the_whole_gives(network: ConverseNetwork) -> None:
    slots, tokens = _slots(5, whole=True), _tokens(9)
    whole = _logits(network, tokens, slots, [9])
    assert torch.allclose(whole, _logits(network, tokens, slots, [2, 5, 6, 9]), atol=1e-5)


@torch.inference_mode()
def test_nothing_sees_what_comes_after(network: ConverseNetwork) -> None:
    slots, tokens = _slots(5, whole=True), _tokens(9)
    other = replace(tokens, words=tokens.words.clone(), meanings=tokens.meanings.clone(), match=tokens.match.clone())
    other.words[0, 7:] = (other.words[0, 7:] + 3) % 30
    other.match[0, 8, 4] = 1.0
    before, after = (_logits(network, each, slots, [9]) for each in (tokens, other))
    assert torch.allclose(before[:, :7], after[:, :7], atol=1e-6)
    assert not torch.allclose(before[:, 7:], after[:, 7:], atol=1e-3)


@torch.inference_mode()
def test_the_order_of_objects_is_nothing_to_it(network: ConverseNetwork) -> None:
    slots, tokens = _slots(5, whole=True), _tokens(9)
    order = torch.tensor([2, 0, 3, 1, 4])
    turned = Slots(
        **{
            f.name: getattr(slots, f.name) if f.name in ("frames", "tags") else getattr(slots, f.name)[:, order]
            for f in fields(slots)
        }
    )
    first, second = _logits(network, tokens, slots, [9]), _logits(network, tokens, turned, [9])
    assert torch.allclose(first[..., :30], second[..., :30], atol=1e-5)
    assert torch.allclose(first[..., 30:][..., order[:4]], second[..., 30:], atol=1e-5)


def test_what_looks_alike_in_one_sense_may_differ_in_another(network: ConverseNetwork) -> None:
    red_small, red_large, blue_small, nothing = torch.tensor(
        [[0.9, 0.0, 0.7], [0.8, 0.0, 0.0], [0.0, 0.9, 0.7], [0.0, 0.0, 0.0]]
    )
    with torch.no_grad():
        network.sense.copy_(torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]))

    def alike(one: Tensor, other: Tensor) -> list[float]:
        return (network._senses(one) * network._senses(other)).sum(-1).tolist()

    assert alike(red_small, red_large)[:2] == pytest.approx([1.0, 0.0])  # in colour, not in size
    assert alike(red_small, blue_small)[:2] == pytest.approx([0.0, 1.0])
    assert 0 < alike(red_small, blue_small)[2] < 1 and alike(red_small, nothing) == [0.0] * 4


def test_a_word_s_vector_changes_what_is_read(network: ConverseNetwork) -> None:
    torch.manual_seed(0)
    slots, tokens = _slots(4, whole=True), _tokens(7)
    seen = network.see(slots)
    plain = network.read(tokens, seen, 4)
    vectors = tokens.vectors.clone()
    vectors[0, 3] += 1.0
    other = network.read(replace(tokens, vectors=vectors), seen, 4)
    same = (plain.hidden == other.hidden).all(-1)[0]
    assert same.tolist() == [True] * 3 + [False] * 4
