"""Decoding in slots against the search over `T5Steps`: the same sequences, whenever and beside whatever rows begin."""

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from dynrefer.model.errors import StoppedError
from dynrefer.model.networks.dynrefer.language import Generated, LanguageDecoder
from dynrefer.model.networks.generation import slots as slots_module
from dynrefer.model.networks.generation.slots import DecodingSlots, Finished, buckets
from dynrefer.model.networks.kernels.attention import Attention, AttentionInputs, torchs_choice
from dynrefer.model.networks.kernels.graphs import NoGraphs, Work
from dynrefer.model.networks.kernels.merged_products import merge_products
from dynrefer.model.networks.kernels.small_attention import SmallAttention
from tests.model.networks.generation.conftest import ROWS, Prompt
from tests.model.networks.generation.recorded_graph import RecordedGraphs
from tests.model.networks.generation.slots_of import slots_of
from tests.model.networks.generation.test_beam_search import SETTINGS

STEPS = 16
SOME: tuple[dict[str, Any], ...] = (
    {"num_beams": 2, "max_new_tokens": STEPS},
    {"num_beams": 3, "max_new_tokens": STEPS, "length_penalty": 1.0, "min_length": 4, "num_return_sequences": 2},
    {"num_beams": 1, "max_new_tokens": STEPS, "min_length": 3},
)
STEP_NAME, PROMPTS_NAME = "decoding step of {} rows", "prompts of {} regions"
some_settings = pytest.mark.parametrize("settings", SOME, ids=["two beams", "three beams", "greedy"])


@pytest.fixture(scope="module")
def exact(language: LanguageDecoder) -> LanguageDecoder:
    """In double precision: then what differs by rounding alone differs in the last digits of a score."""
    return copy.deepcopy(language).double()


def assert_same(ours: Generated, theirs: Generated, tolerance: float) -> None:
    """Same tokens; scores within the tolerance, absolute below 10 and relative above."""
    assert ours.tokens.tolist() == theirs.tokens.tolist()
    assert ours.length.tolist() == theirs.length.tolist()
    assert torch.allclose(ours.score, theirs.score, atol=10 * tolerance, rtol=tolerance)
    assert torch.allclose(ours.logprob_sum, theirs.logprob_sum, atol=10 * tolerance, rtol=tolerance)


def picked(prompt: Prompt, rows: Sequence[int]) -> Prompt:
    """Some regions of it."""
    ids, control, mask = (part[list(rows)] for part in prompt)
    return ids, control, mask


@pytest.mark.parametrize("merged", [False, True], ids=["apart", "merged"])
@pytest.mark.parametrize("capacity", [4, ROWS])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: " ".join(f"{k}={v}" for k, v in settings.items()))
def test_as_the_search_over_steps_that_grow(
    settings: dict[str, Any], capacity: int, merged: bool, language: LanguageDecoder, prompt: Prompt
) -> None:
    options = {"max_new_tokens": STEPS, **settings}
    expected = language.generate(*prompt, **options)
    own = copy.deepcopy(language)
    if merged:
        merge_products(own)
    slots = slots_of(own, options, capacity=capacity)
    assert_same(own.generate(*prompt, slots=slots, **options), expected, 1e-5)
    assert len(slots) == 0


@some_settings
@pytest.mark.parametrize("order", range(4))
def test_rows_that_begin_and_leave_at_any_time(
    settings: dict[str, Any], order: int, exact: LanguageDecoder, prompt: Prompt
) -> None:
    """Each as alone: whatever else is inside, wherever it moves, and whoever had its row before."""
    chance = random.Random(order)
    waiting = chance.sample(range(ROWS), ROWS) + chance.sample(range(ROWS), ROWS)
    slots = slots_of(exact, settings, capacity=5)
    region: dict[int, int] = {}  # by handle
    ended: list[Finished] = []
    while waiting or len(slots):
        fresh = [waiting.pop() for _ in range(min(chance.randint(0, 3), slots.room, len(waiting)))]
        if fresh:
            handles = slots.insert(exact.encode_prompt(*picked(prompt, fresh)))
            region |= dict(zip(handles, fresh, strict=True))
        slots.step()
        found = slots.finished()
        if waiting and chance.random() < 0.2 and len(slots) > len(found):  # one that nobody waits for any more
            left = {each.handle for each in found}
            dropped = next(handle for handle in list(region) if handle in slots.handles and handle not in left)
            slots.remove([dropped])
            waiting.append(region.pop(dropped))
        if chance.random() < 0.6:  # else they stay for another step, without effect
            slots.remove([each.handle for each in found])
            ended += found
    assert sorted(region[each.handle] for each in ended) == sorted([*range(ROWS)] * 2)
    for each in ended:
        alone = exact.generate(*picked(prompt, [region[each.handle]]), **settings)
        found_alone = exact.generated([each], slots.settings)
        assert_same(found_alone, alone, 1e-6)


@some_settings
def test_a_recorded_step_serves_every_step(settings: dict[str, Any], exact: LanguageDecoder, prompt: Prompt) -> None:
    """Recorded once per bucket; nothing that Python counts or reads takes part in a replay."""
    graphs = RecordedGraphs()
    slots = slots_of(exact, settings, capacity=5, graphs=graphs)
    slots.capture()
    sizes = (5, 4, 2, 1)
    steps, prompts = ([what.format(size) for size in sizes] for what in (STEP_NAME, PROMPTS_NAME))
    assert list(graphs.operations) == steps + prompts
    for rows in (range(1), range(1, 3), range(3, 6), range(ROWS)):
        regions = picked(prompt, rows)
        assert_same(exact.generate(*regions, slots=slots, **settings), exact.generate(*regions, **settings), 1e-6)
    assert set(graphs.replays) == set(graphs.operations)


@some_settings
def test_the_step_is_recorded_with_the_fastest_attention(
    settings: dict[str, Any], exact: LanguageDecoder, prompt: Prompt, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []

    def counted(*given: Tensor) -> Tensor:
        used.append("attention")
        return torchs_choice(*given)

    def choose(
        inputs: Sequence[AttentionInputs], seconds: Callable[[Work], float], more: Sequence[Attention]
    ) -> Attention:
        own, cross = inputs
        beams = settings["num_beams"]
        assert own.query.shape == cross.query.shape == (4, 4, beams, 8)
        assert own.keys.shape[2] == own.bias.shape[3] >= STEPS * beams and cross.bias.shape == (4, 1, 1, 16)
        assert torchs_choice(own.query, own.keys, own.values, own.bias).isfinite().all()
        assert seconds(lambda: None) == 1.0 and [type(each) for each in more] == [SmallAttention]
        return counted

    monkeypatch.setattr(slots_module, "fastest_attention", choose)
    slots = slots_of(exact, settings, capacity=4, seconds=lambda work: 1.0)
    slots.capture()
    assert_same(exact.generate(*prompt, slots=slots, **settings), exact.generate(*prompt, **settings), 1e-6)
    assert len(used) >= 2 * 2 * 5  # twice per layer and step


class Refusing(NoGraphs):
    """As graphs that fall back: the work is tried, its effects are undone, and it stays as it is."""

    def __init__(self) -> None:
        self.tried: list[str] = []

    @property
    def counts(self) -> Mapping[str, int]:  # type: ignore[override]
        return {"captured": 0, "fallen back": len(self.tried)}

    def capture(self, name: str, work: Work, state: Sequence[Tensor]) -> Work:
        before = [each.clone() for each in state]
        work()
        assert any(not torch.equal(each, old) for each, old in zip(state, before, strict=True))
        for each, old in zip(state, before, strict=True):
            each.copy_(old)
        self.tried.append(name)
        return work


@some_settings
def test_without_a_recording_the_same(settings: dict[str, Any], exact: LanguageDecoder, prompt: Prompt) -> None:
    graphs = Refusing()
    slots = slots_of(exact, settings, capacity=8, graphs=graphs)
    slots.capture()
    assert len(graphs.tried) == 2 * 4
    assert_same(exact.generate(*prompt, slots=slots, **settings), exact.generate(*prompt, **settings), 1e-6)


class Watching(NoGraphs):
    """Looks at what a step changes."""

    def __init__(self, slots: list[DecodingSlots]) -> None:
        self._slots = slots

    def capture(self, name: str, work: Work, state: Sequence[Tensor]) -> Work:
        if name.startswith("prompts"):
            return work
        everything = list(vars(self._slots[0]._state).values())
        before = [each.clone() for each in everything]
        work()
        ours = {each.untyped_storage().data_ptr() for each in state}
        for each, old in zip(everything, before, strict=True):
            assert each.untyped_storage().data_ptr() in ours or torch.equal(each, old)
            assert bool(each.isfinite().all())
        return work


@some_settings
def test_all_that_a_step_changes_is_named(settings: dict[str, Any], language: LanguageDecoder) -> None:
    """Else a comparison of a replay with the step would miss it."""
    inside: list[DecodingSlots] = []
    slots = slots_of(language, settings, capacity=4, graphs=Watching(inside))
    inside.append(slots)
    slots.capture()


def test_nothing_is_recorded_over_regions(language: LanguageDecoder, prompt: Prompt) -> None:
    slots = slots_of(language, SOME[0], capacity=ROWS)
    slots.insert(language.encode_prompt(*prompt))
    with pytest.raises(ValueError, match="9 regions are inside"):
        slots.capture()


class Ran(NoGraphs):
    """Notes which pieces of work ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def capture(self, name: str, work: Work, state: Sequence[Tensor]) -> Work:
        def noted() -> None:
            self.ran.append(name.split()[3])
            work()

        return noted


def test_the_smallest_bucket_that_holds_the_regions(language: LanguageDecoder, prompt: Prompt) -> None:
    graphs = Ran()
    slots = slots_of(language, SOME[0], capacity=6, graphs=graphs)
    slots.capture()
    handles = slots.insert(language.encode_prompt(*picked(prompt, range(5))))
    slots.step()
    slots.remove(handles[1:3])
    slots.step()
    slots.remove([handles[0], handles[4]])
    slots.step()
    slots.clear()
    slots.step()  # of nobody: nothing runs
    assert graphs.ran == ["6", "4", "1"]


@pytest.mark.parametrize(
    ("capacity", "expected"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (64, [1, 2, 4, 8, 16, 32, 64])]
)
def test_buckets(capacity: int, expected: list[int]) -> None:
    assert buckets(capacity) == expected


class Reached:
    """A point in a device's work that it reaches when the test lets it."""

    made: list["Reached"] = []

    def __init__(self, device: torch.device) -> None:
        self.reached = True  # as an event that was never recorded
        self.waited = 0
        self.made.append(self)

    def record(self) -> None:
        self.reached = False

    def query(self) -> bool:
        return self.reached

    def synchronize(self) -> None:
        self.waited += 1
        self.reached = True


@pytest.fixture
def marks() -> list[Reached]:
    """The marks that a test's slots make, the first step's last."""
    Reached.made = []
    return Reached.made


def test_what_has_ended_is_known_when_the_device_is_there(
    marks: list[Reached], language: LanguageDecoder, prompt: Prompt
) -> None:
    slots = slots_of(language, {"num_beams": 2, "max_new_tokens": 1}, capacity=ROWS, new_mark=Reached)
    first = slots.insert(language.encode_prompt(*picked(prompt, [0, 1])))
    slots.step()
    assert slots.finished() == []
    [mark] = [each for each in marks if not each.reached]
    second = slots.insert(language.encode_prompt(*picked(prompt, [2])))
    slots.step()
    mark.reached = True  # the first step, not yet the second
    assert [each.handle for each in slots.finished()] == first
    assert [each.handle for each in slots.finished(wait=True)] == first + second
    assert sum(each.waited for each in marks) == 1
    slots.remove(first)
    assert [each.handle for each in slots.finished()] == second
    slots.clear()
    assert slots.finished(wait=True) == []


def test_the_host_is_at_most_two_steps_ahead(marks: list[Reached], language: LanguageDecoder, prompt: Prompt) -> None:
    """Else steps would be launched that nobody needs any more, and none of them would tell who has ended."""
    slots = slots_of(language, {"num_beams": 2, "max_new_tokens": 3}, capacity=ROWS, new_mark=Reached)
    handles = slots.insert(language.encode_prompt(*prompt))
    waited = []
    for _ in range(5):
        slots.step()
        waited.append(sum(each.waited for each in marks))
        ended = slots.finished()
    assert waited == [0, 0, 1, 2, 3]
    assert [each.handle for each in ended] == handles  # with the third step


def test_a_report_is_of_the_rows_as_they_were(marks: list[Reached], language: LanguageDecoder, prompt: Prompt) -> None:
    """The last region moves before the host reads what the step before made of it."""
    settings = {"num_beams": 2, "max_new_tokens": 1}
    slots = slots_of(language, settings, capacity=ROWS, new_mark=Reached)
    handles = slots.insert(language.encode_prompt(*picked(prompt, [3, 4, 5])))
    slots.step()
    slots.remove(handles[:1])
    found = slots.finished(wait=True)
    assert [each.handle for each in found] == handles[1:]
    alone = language.generate(*picked(prompt, [4, 5]), **settings)
    assert_same(language.generated(found, slots.settings), alone, 1e-5)


def test_a_region_of_nan_spoils_no_other(exact: LanguageDecoder, prompt: Prompt) -> None:
    """Neither beside it nor after it, in its row or in one that it moved through."""
    slots = slots_of(exact, SOME[0], capacity=3)
    spoilt = (torch.full_like(prompt[0][:2], float("nan")), *(part[:2] for part in prompt[1:]))
    first, beside, second = (
        *slots.insert(exact.encode_prompt(*(part[:1] for part in spoilt))),
        *slots.insert(exact.encode_prompt(*picked(prompt, [0]))),
        *slots.insert(exact.encode_prompt(*(part[1:] for part in spoilt))),
    )
    slots.step()
    slots.remove([first])
    for _ in range(STEPS):
        slots.step()
    found = {each.handle: each for each in slots.finished()}
    assert not torch.isfinite(found[second].score).all()
    slots.clear()
    after = slots.insert(exact.encode_prompt(*picked(prompt, [1, 2, 3])))
    for _ in range(STEPS):
        slots.step()
    found |= {each.handle: each for each in slots.finished()}
    alone = exact.generate(*picked(prompt, range(4)), **SOME[0])
    assert_same(exact.generated([found[handle] for handle in (beside, *after)], slots.settings), alone, 1e-6)


@pytest.mark.parametrize("settings", SOME[:1] + SOME[2:], ids=["beams", "greedy"])
def test_a_search_in_slots_can_be_stopped(settings: dict[str, Any], language: LanguageDecoder, prompt: Prompt) -> None:
    answers = iter([False, False, True])
    slots = slots_of(language, settings, capacity=4)
    with pytest.raises(StoppedError):
        language.generate(*prompt, lambda: next(answers), slots, **settings)
    assert len(slots) == 0 and next(answers, None) is None


@pytest.mark.parametrize(
    ("settings", "length"), [({"num_beams": 3}, 16), ({}, 8)], ids=["other settings", "longer prompts"]
)
def test_what_does_not_fit_the_slots_is_searched_without(
    settings: dict[str, Any], length: int, language: LanguageDecoder, prompt: Prompt
) -> None:
    slots = slots_of(language, SOME[0], capacity=4, encoder_length=length)
    slots.step = lambda: pytest.fail("a step in slots")  # type: ignore[method-assign]
    options = SOME[0] | settings
    assert_same(language.generate(*prompt, slots=slots, **options), language.generate(*prompt, **options), 1e-6)


def test_more_than_the_room_is_refused(language: LanguageDecoder, prompt: Prompt) -> None:
    slots = slots_of(language, SOME[0], capacity=10)
    slots.insert(language.encode_prompt(*prompt))
    with pytest.raises(ValueError, match="9 prompts of 9 tokens do not fit 1 rows of 16"):
        slots.insert(language.encode_prompt(*prompt))
    assert len(slots) == ROWS and slots.room == 1


def test_slots_of_the_configuration_take_the_longest_prompt(language: LanguageDecoder, prompt: Prompt) -> None:
    slots = language.open_slots(3, NoGraphs())
    assert slots.encoder_length == 48  # 4 tokens of the region, and 32 control words, in sixteens
    with torch.inference_mode():
        found = language.generate(*prompt, slots=slots)
        assert_same(found, language.generate(*prompt), 1e-5)


def test_nobody_has_no_captions(language: LanguageDecoder, prompt: Prompt) -> None:
    slots = slots_of(language, SOME[0], capacity=3)
    found = language.generate(*picked(prompt, []), slots=slots, **SOME[0])
    assert found.tokens.shape == (0, STEPS + 1) and found.score.shape == (0,)
