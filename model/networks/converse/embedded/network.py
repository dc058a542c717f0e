"""The network: objects of an image, then the words of a conversation, in one causal transformer.

Objects see each other; words see all objects and the words before them. What two places have to do with each other
is told to every layer, as numbers of each pair: for two boxes how they lie, how large they are and how alike what is
there looks, for a word and an object how well the word names it. Attention is biased by these numbers, and they are
summed by its weights beside the values, so that "left of" need not be computed from coordinates. Of each layer's heads
some do not share out a whole among the objects but weigh each by itself (a sigmoid in the softmax's place): their sums
count. A word is read as itself, by its letters, and by the vector that it has of plain text.

The next token is a word, or a pointer: to an object, whose name is then written, or to one of the allowed answers.

Shapes: B = conversations, S = objects of an image (the last is the image itself), T = tokens, H = heads, D = width,
K = categories, A = attributes, C = channels of representations, E = numbers of a pair, M = nouns that are matched.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from dynrefer.model.networks.converse.embedded.lexicon import GRAM_ROWS
from dynrefer.model.networks.converse.embedded.pairs import GEOMETRY, PAIR, SENSES, pair_numbers, place_numbers
from dynrefer.model.networks.converse.embedded.reading import Keys, NetworkConfig, Sides, Slots, Tokens

_PLACE = 52  # numbers that say where a box lies
_DISTANCES = 24  # tokens apart, in steps that widen
_LOUD = 8.0  # logits of a property that is surely seen
_ASKED = 64  # numbers of what is asked, when two places are looked back at
_NEAR = 32  # numbers of how an object lies to the first of them
_ROLES = 4  # region, user, assistant, allowed answer


class Block(nn.Module):
    """One layer: attention with numbers of pairs, then a perceptron."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        width, self.heads, self.counting = config.width, config.heads, config.counting
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.projected = nn.Linear(width, 3 * width)
        self.bias = nn.Linear(config.pair, config.heads, bias=False)
        self.asks = nn.Linear(width, config.heads * config.pair)
        self.distance = nn.Parameter(torch.zeros(config.heads, _DISTANCES))
        self.least = nn.Parameter(torch.full((config.counting,), -2.0))
        self.out = nn.Linear(width, width)
        self.out_pairs = nn.Linear(config.heads * config.pair, width, bias=False)
        self.widen, self.narrow = nn.Linear(width, config.inner), nn.Linear(config.inner, width)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (B, H, N, D / H) each."""
        batch, length, width = x.shape
        made = self.projected(self.before(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = made.permute(2, 0, 3, 1, 4)
        return query, key, value

    def attend(self, x: Tensor, query: Tensor, keys: Tensor, values: Tensor, pairs: Tensor, bias: Tensor) -> Tensor:
        """x: (B, T, D). keys, values: (B, H, N, D / H). pairs: (B, T, N, E). bias: (B or 1, H, T, N), with the mask.

        Which numbers of a pair matter depends on the head and on what asks: on "left of" or "above".
        """
        scores = query @ keys.transpose(2, 3) / math.sqrt(query.shape[-1]) + bias
        asked = self.asks(self.before(x)).unflatten(-1, (self.heads, pairs.shape[-1])) + self.bias.weight
        scores = scores + torch.einsum("bthe,btne->bhtn", asked, pairs)
        shared = self.heads - self.counting
        alone = torch.sigmoid(scores[:, shared:] + self.least[None, :, None, None])
        weights = torch.cat((scores[:, :shared].softmax(-1), alone), dim=1)
        batch, length, _ = x.shape
        read = (weights @ values).transpose(1, 2).reshape(batch, length, -1)
        told = torch.einsum("bhtn,btne->bthe", weights, pairs).reshape(batch, length, -1)
        x = x + self.out(read) + self.out_pairs(told)
        changed: Tensor = x + self.narrow(functional.gelu(self.widen(self.between(x))))
        return changed


class ConverseNetwork(nn.Module):
    """See the head of this file."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.word = nn.Embedding(config.words, width)
        self.gram = nn.Embedding(GRAM_ROWS, width, padding_idx=0)
        self.vector = nn.Linear(config.vectors, width, bias=False)
        self.category = nn.Linear(config.categories, width, bias=False)  # the table of names, of words and objects
        self.attribute = nn.Linear(config.attributes, width, bias=False)
        self.tag = nn.Linear(config.tags, width)
        self.role = nn.Embedding(_ROLES, width)
        self.seen_as = nn.Embedding(3, width)  # an object, the image, an asked region
        self.normalise = nn.LayerNorm(config.channels)
        self.feature = nn.Linear(config.channels, width)
        self.amount = nn.Linear(12, width)
        self.sure = nn.Parameter(torch.tensor([12.0, 0.35]))
        self.feature_share = nn.Parameter(torch.tensor(0.2))
        self.place = nn.Sequential(nn.Linear(_PLACE + 1, width), nn.GELU(), nn.Linear(width, width))
        self.sense = nn.Parameter(torch.rand(SENSES, config.attributes))  # how much each attribute counts in each
        self.pair = nn.Sequential(nn.Linear(PAIR, 2 * config.pair), nn.GELU(), nn.Linear(2 * config.pair, config.pair))
        blocks = [Block(config) for _ in range(config.layers)]
        self.blocks = nn.ModuleList(blocks)
        self.last = nn.LayerNorm(width)
        self.to_word = nn.Linear(width, width)
        self.word_bias = nn.Parameter(torch.zeros(config.words))
        self.to_pointer, self.pointed = nn.Linear(width, width), nn.Linear(width, width)
        self.told = nn.Linear(width, 1)
        self.to_read, self.readable = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width)
        told = 2 * _PLACE + GEOMETRY + 3 * config.attributes + SENSES + 1 + 10
        self.asked = nn.Linear(width, _ASKED)
        self.glance = nn.Sequential(
            nn.Linear(told + _ASKED, 2 * width), nn.GELU(), nn.Linear(2 * width, 2 * width), nn.GELU()
        )
        self.glanced = nn.Linear(2 * width, width)
        self.near = nn.Sequential(nn.Linear(GEOMETRY, _NEAR), nn.GELU(), nn.Linear(_NEAR, _NEAR))
        self.to_near = nn.Linear(width, _NEAR)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.1)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.category.weight, std=0.5)
        nn.init.normal_(self.vector.weight, std=0.15)
        nn.init.normal_(self.attribute.weight, std=0.5)
        nn.init.zeros_(self.told.weight)
        for block in blocks:
            nn.init.normal_(block.bias.weight, std=0.3)
            nn.init.normal_(block.asks.weight, std=0.02)

    def see(self, slots: Slots) -> Keys:
        """The objects of images, which see each other."""
        x = self._embed_slots(slots) + self.seen_as(slots.whole.long())
        placed = (slots.mask & ~slots.whole).float()
        empty = x.new_zeros(*x.shape[:2], slots.match.shape[-1])
        own = Keys(
            keys=(),
            values=(),
            hidden=x,
            looks=x,
            seen_attributes=slots.attributes,
            seen_categories=slots.categories,
            objectness=slots.objectness * placed,
            match=slots.match * placed[..., None],
            attributes=slots.attributes * placed[..., None],
            boxes=slots.boxes,
            placed=placed,
            mask=slots.mask,
            spoken=torch.zeros_like(placed),
            frames=slots.frames,
        )
        pairs = self._pairs(empty, torch.zeros_like(slots.attributes), slots.boxes, placed, slots.attributes, own)
        bias = _masked(slots.mask)[:, None, None, :]
        return self._run(x, own, None, pairs, bias)

    def read(self, tokens: Tokens, before: Keys, seen: int) -> Keys:
        """Tokens that follow `before`: the objects of an image (the first `seen`), and perhaps earlier tokens."""
        regions, is_slot = tokens.regions, tokens.targets
        x = self.word(tokens.words) + self.gram(tokens.grams).sum(2) / math.sqrt(3) + self.vector(tokens.vectors)
        x = x + self.category(tokens.meanings) + self.attribute(tokens.properties) + self.role(tokens.roles)
        referred = regions.mask[..., None]
        shown = torch.where(referred, self._embed_slots(regions) + self.seen_as.weight[2], torch.zeros_like(x))
        x = x + shown
        boxes, placed, content, seen_like = self._places_of(tokens, before, shown, seen)
        x = x + content
        own = Keys(
            keys=(),
            values=(),
            hidden=x,
            looks=shown,
            seen_attributes=seen_like,
            seen_categories=regions.categories + tokens.meanings * (~regions.mask)[..., None],
            objectness=torch.zeros_like(placed),
            match=regions.match * is_slot[..., None],
            attributes=regions.attributes * is_slot[..., None],
            boxes=boxes,
            placed=placed,
            mask=tokens.mask,
            spoken=torch.ones_like(placed),
            frames=regions.frames,
        )
        joined = Sides.of(before, own)
        pairs = self._pairs(tokens.match, tokens.properties, boxes, placed, seen_like, joined)
        earlier, length = before.mask.shape[1], tokens.words.shape[1]
        position = torch.arange(earlier - seen, earlier - seen + length)
        key_position = torch.arange(earlier - seen + length)
        apart = position[:, None] - key_position[None, :]
        bias = _masked(joined.mask)[:, None, None, :].expand(-1, 1, length, -1).clone()
        bias[..., seen:] += _masked(apart >= 0)
        return self._run(x, own, before, pairs, bias, _steps(apart))

    def logits(self, hidden: Tensor, keys: Keys, targets: Tensor, properties: Tensor, until: Tensor) -> Tensor:
        """Of the next token: (B, T, words + N). hidden: (B, T, D). keys: N places; targets: (B, N) bool, at which may
        be pointed. properties: (words, A), of each word, which what is seen of one place speaks for.
        until: (B, T), how many of the keys are there by then."""
        last, places = self.last(hidden), self.last(keys.hidden)
        glance, seen, near = self._glance(last, places, keys, until)
        last = last + glance
        words = self.to_word(last) @ self.word.weight.T + self.word_bias
        words = words + _LOUD * torch.sigmoid(self.told(last)) * (seen @ properties.T)
        points = self.to_pointer(last) @ self.pointed(places).transpose(1, 2)
        points = points / math.sqrt(last.shape[-1]) + torch.einsum("bte,btne->btn", self.to_near(last), near)
        points = points + _masked(targets)[:, None, :]
        return torch.cat((words, points), dim=-1)

    def _glance(self, last: Tensor, places: Tensor, keys: Keys, until: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A look back at two places, by themselves and beside each other, in the light of what is asked, (B, T, D); the
        first's attributes; and how all others lie to it, (B, T, N, numbers)."""
        batch, length, width = last.shape
        wanted = self.to_read(last).view(batch, length, 2, width).transpose(1, 2)
        offered = self.readable(places).view(batch, -1, 2, width).transpose(1, 2)
        reading = wanted @ offered.transpose(2, 3) / math.sqrt(width)
        there = (keys.placed > 0)[:, None] & (torch.arange(keys.placed.shape[1]) < until[..., None])
        reading = (reading + _masked(there)[:, None]).softmax(-1)
        boxes, attributes = reading @ keys.boxes[:, None], reading @ keys.seen_attributes[:, None]
        names = reading @ keys.seen_categories[:, None]
        frames = keys.boxes[:, :1, 2:] * 0 + keys.frames[:, None]
        one, other = boxes.unbind(1)
        beside = pair_numbers(one.reshape(-1, 1, 4), other.reshape(-1, 1, 4)).reshape(batch, length, -1)
        where = [place_numbers(each, frames.expand(-1, length, -1)) for each in (one, other)]
        same = (names[:, 0] * names[:, 1]).sum(-1, keepdim=True)
        alike = (self._senses(attributes[:, 0]) * self._senses(attributes[:, 1])).sum(-1)
        like = attributes[:, 0], attributes[:, 1], attributes[:, 0] * attributes[:, 1], alike
        sure = torch.sigmoid(self.sure[0] * (keys.objectness - self.sure[1])) * (keys.objectness > 0)
        every = _bumps(sure.sum(1))[:, None].expand(-1, length, -1)
        told = torch.cat((*where, beside, *like, same, every, self.asked(last)), dim=-1)
        return self.glanced(self.glance(told)), attributes[:, 0], self.near(pair_numbers(one, keys.boxes))

    def _embed_slots(self, slots: Slots) -> Tensor:
        where = place_numbers(slots.boxes, slots.frames[:, None].expand(*slots.boxes.shape[:2], 2))
        x = self.feature_share * self.feature(self.normalise(slots.features)) + self.category(slots.categories)
        x = x + self.attribute(slots.attributes) + self.place(torch.cat((where, slots.objectness[..., None]), dim=-1))
        found: Tensor = x + torch.where(slots.whole[..., None], self.tag(slots.tags)[:, None], torch.zeros_like(x))
        return found

    def _places_of(
        self, tokens: Tokens, before: Keys, shown: Tensor, seen: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Boxes (B, T, 4) of tokens, how sure they are, what is seen there, (B, T, D), and its attributes (B, T, A): of
        what refers to a region; of a word that names an object, or says what it is like, the object that fits it best.

        shown: (B, T, D), how regions look.
        """
        match = torch.cat((before.match, tokens.regions.match * tokens.targets[..., None]), dim=1)
        like = torch.cat((before.attributes, tokens.regions.attributes * tokens.targets[..., None]), dim=1)
        boxes = torch.cat((before.boxes, tokens.regions.boxes), dim=1)
        looks = torch.cat((before.looks, shown), dim=1)
        fits = _fits(tokens, match, like)
        best, place = fits.max(dim=2)
        chosen = boxes.gather(1, place[..., None].expand(-1, -1, 4))
        content = looks.gather(1, place[..., None].expand(-1, -1, looks.shape[-1])) * best[..., None]
        attributes = torch.cat((before.seen_attributes, tokens.regions.attributes), dim=1)
        resolved = attributes.gather(1, place[..., None].expand(-1, -1, attributes.shape[-1])) * best[..., None]
        direct = tokens.regions.mask
        seen_like = torch.where(direct[..., None], tokens.regions.attributes, resolved)
        sure = torch.where(direct, torch.ones_like(best), best)
        amounts = self.amount(self._amounts(fits[:, :, :seen], before.objectness[:, :seen]))
        content = content + torch.where((best > 0)[..., None] | _speaks(tokens)[..., None], amounts, 0.0)
        return torch.where(direct[..., None], tokens.regions.boxes, chosen), sure, content, seen_like

    def _amounts(self, fits: Tensor, objectness: Tensor) -> Tensor:
        """How many objects a word fits, and how well: (B, T, 12). fits: (B, T, S). objectness: (B, S)."""
        sure = torch.sigmoid(self.sure[0] * (objectness - self.sure[1])) * (objectness > 0)
        each = fits * sure[:, None]
        best = functional.pad(each, (0, 1)).topk(2, dim=-1).values
        return torch.cat((_bumps(each.sum(-1)), best), dim=-1)

    def _senses(self, attributes: Tensor) -> Tensor:
        """(..., A) -> (..., senses, A): of length 1 in each sense, or 0 without attributes. A product says how alike
        two places look: in colour, for example, whatever their sizes."""
        return functional.normalize(attributes[..., None, :] * self.sense, dim=-1, eps=1e-3)

    def _pairs(
        self, match: Tensor, properties: Tensor, boxes: Tensor, placed: Tensor, seen: Tensor, keys: Keys | Sides
    ) -> Tensor:
        """(B, T, N, E). seen: (B, T, A), the attributes of what is seen there."""
        named = (match @ keys.match.transpose(1, 2)).clamp(max=1.0)
        like = (properties @ keys.attributes.transpose(1, 2)).clamp(max=1.0)
        both = placed[:, :, None] * keys.placed[:, None, :]
        names = (match.amax(dim=2) > 0).float()[:, :, None].expand_as(named)
        says = (properties.amax(dim=2) > 0).float()[:, :, None].expand_as(named)
        there = keys.placed[:, None, :].expand_as(named)
        spoken = keys.spoken[:, None, :].expand_as(named)
        own = placed[:, :, None].expand_as(named)
        numbers = pair_numbers(boxes, keys.boxes) * both[..., None]
        alike = (
            torch.einsum("btfa,bnfa->btnf", self._senses(seen), self._senses(keys.seen_attributes)) * both[..., None]
        )
        found: Tensor = self.pair(
            torch.cat(
                (numbers, alike, torch.stack((both, named, like, names, says, there, spoken, own), dim=-1)), dim=-1
            )
        )
        return found

    def _run(
        self, x: Tensor, own: Keys, before: Keys | None, pairs: Tensor, bias: Tensor, steps: Tensor | None = None
    ) -> Keys:
        """All layers. steps: (T, T') of the tokens' distances, the last T' keys."""
        keys, values = [], []
        for layer, module in enumerate(self.blocks):
            block = cast(Block, module)
            query, key, value = block.project(x)
            keys.append(key)
            values.append(value)
            every, read = key, value
            if before is not None:
                every = torch.cat((before.keys[layer], key), dim=2)
                read = torch.cat((before.values[layer], value), dim=2)
            full = bias
            if steps is not None:
                near = functional.pad(block.distance[:, steps], (every.shape[2] - steps.shape[1], 0))
                full = bias + near[None]
            x = block.attend(x, query, every, read, pairs, full)
        return replace(own, keys=tuple(keys), values=tuple(values), hidden=x)


def _fits(tokens: Tokens, match: Tensor, like: Tensor) -> Tensor:
    """(B, T, N): how well each word fits each place: a noun by what it names and, behind a property, by that too."""
    named = (tokens.match @ match.transpose(1, 2)).clamp(max=1.0)
    alike = (tokens.properties @ like.transpose(1, 2)).clamp(max=1.0)
    says = tokens.properties.amax(dim=2, keepdim=True) > 0
    before = functional.pad(alike, (0, 0, 1, 0))[:, :-1]
    said_before = functional.pad(says, (0, 0, 1, 0))[:, :-1]
    return torch.where(says, alike, named * torch.where(said_before, before, torch.ones_like(before)))


def _speaks(tokens: Tokens) -> Tensor:
    """(B, T) bool: words that fit objects, or would."""
    return (tokens.match.amax(dim=2) > 0) | (tokens.properties.amax(dim=2) > 0)


def _bumps(amount: Tensor) -> Tensor:
    """(..., 10): the amount, and how near it is to each of 0 to 8."""
    near = torch.exp(-2.0 * (amount[..., None] - torch.arange(9.0)) ** 2)
    return torch.cat((amount[..., None] / 4, near), dim=-1)


def _masked(allowed: Tensor) -> Tensor:
    """0 where allowed, else so little that a weight is 0."""
    return torch.zeros(allowed.shape).masked_fill(~allowed, -1e4)


def _steps(apart: Tensor) -> Tensor:
    """Distances -> rows of the table: each up to 8 its own, then ever wider ones."""
    far = apart.clamp(min=1).float()
    wide = 8 + (torch.log2(far / 8).clamp(min=0) * 4).long()
    return torch.where(apart < 8, apart.clamp(min=0), wide).clamp(max=_DISTANCES - 1)
