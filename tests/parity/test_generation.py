"""generation.json and chunking.json: captions, token ids and scores of the beam search.

The two versions of transformers rank a hypothesis that was cut off at the last step differently: 4.33 divides by the
length with the start token, 5 by the length without it. `Hypothesis` knows both; it matters for length penalties
other than 0.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from dynrefer.model.networks.dynrefer.language import Generated
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.model.networks.kernels.choice import choose_kernels
from tests.model.networks.generation.slots_of import slots_of
from tests.parity import stages
from tests.parity.conftest import Comparison, Goldens

SCORE = 1e-4
RUNS = ("A_brief", "B_brief", "C_official_yaml", "D_code_defaults", "E_controls_yaml")
WITH_ALL_BEAMS = RUNS[:4]
HONOURED = {"num_beams", "max_new_tokens", "min_length", "length_penalty", "repetition_penalty"}
WAYS = ("grows", "slots")  # `T5Steps` and `DecodingSlots`
SLOTS = 3  # fewer than regions: rows are filled again as captions end
WITHOUT_EFFECT = {"top_p", "temperature"}  # of sampling; the search is deterministic


def settings(run: dict[str, Any]) -> dict[str, Any]:
    """What the search is called with; settings that were left open had the library's defaults."""
    given = run["settings"]
    assert set(given) <= HONOURED | WITHOUT_EFFECT
    defaults = {"min_length": 1, "repetition_penalty": 1.0}
    return defaults | {key: value for key, value in given.items() if key in HONOURED}


def generate(network: DynReferModel, recorded: Goldens, run: dict[str, Any], found: Tensor, **more: Any) -> Generated:
    """The search with a run's control words and settings; `way`: "grows" or "slots", how the decoder steps."""
    ids, mask = recorded.controls(run["control_words"])
    options = settings(run) | more
    slots = None
    if options.pop("way", "grows") == "slots":
        length = found.shape[1] + ids.shape[1]
        slots = slots_of(network.language, options, capacity=SLOTS, encoder_length=length + 3)
    return network.language.generate(found, ids, mask, slots=slots, **options)


@dataclass(frozen=True)
class Hypothesis:
    """A sequence without padding, and what the search of our version of transformers ranks it by."""

    tokens: tuple[int, ...]
    score: float

    def as_recorded(self, end: int, length_penalty: float) -> float:
        """The score as transformers 4.33 gives it."""
        return self.score * self.ratio(end, length_penalty)

    @classmethod
    def recorded(cls, tokens: tuple[int, ...], score: float, end: int, length_penalty: float) -> "Hypothesis":
        """From a score of transformers 4.33."""
        return cls(tokens, score / cls(tokens, score).ratio(end, length_penalty))

    def ratio(self, end: int, length_penalty: float) -> float:
        """4.33's score over ours."""
        generated = len(self.tokens) - 1
        cut_off = self.tokens[-1] != end
        return float((generated / (generated + 1)) ** length_penalty) if cut_off else 1.0


def stripped(sequence: list[int], padding: int) -> tuple[int, ...]:
    """Without the padding after the end."""
    while len(sequence) > 1 and sequence[-1] == padding:
        sequence = sequence[:-1]
    return tuple(sequence)


def beams(
    network: DynReferModel, recorded: Goldens, run: dict[str, Any], found: Tensor, way: str
) -> list[list[Hypothesis]]:
    """All beams per region, best first by our version's rule."""
    count, padding = run["settings"]["num_beams"], network.language.model.config.pad_token_id
    ours = generate(network, recorded, run, found, num_return_sequences=count, way=way)
    flat = [
        Hypothesis(stripped(tokens, padding), score)
        for tokens, score in zip(ours.tokens.tolist(), ours.score.tolist(), strict=True)
    ]
    return [flat[start : start + count] for start in range(0, len(flat), count)]


def recorded_beams(run: dict[str, Any], padding: int, end: int) -> list[list[Hypothesis]]:
    """All recorded beams per region, with their scores by our version's rule."""
    count, penalty = run["settings"]["num_beams"], run["settings"]["length_penalty"]
    flat = [
        Hypothesis.recorded(stripped(tokens, padding), score, end, penalty)
        for tokens, score in zip(run["all_beams_sequences"], run["all_beams_scores"], strict=True)
    ]
    return [flat[start : start + count] for start in range(0, len(flat), count)]


@pytest.fixture(scope="module")
def found(network: DynReferModel, recorded: Goldens) -> Tensor:
    """The representation of all regions."""
    return stages.representation(network, recorded)


def test_every_run_is_compared(recorded: Goldens) -> None:
    assert set(recorded.generation["runs"]) == set(RUNS)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", RUNS)
def test_captions(
    name: str, way: str, network: DynReferModel, recorded: Goldens, found: Tensor, compare: Comparison
) -> None:
    run, language = recorded.generation["runs"][name], network.language.model.config
    end, padding, penalty = language.eos_token_id, language.pad_token_id, run["settings"]["length_penalty"]
    if penalty == 0:  # both versions rank alike
        ours = generate(network, recorded, run, found, way=way)
        tokens = [stripped(sequence, padding) for sequence in ours.tokens.tolist()]
        best = [Hypothesis(*pair) for pair in zip(tokens, ours.score.tolist(), strict=True)]
    else:
        every = beams(network, recorded, run, found, way)
        best = [max(some, key=lambda one: one.as_recorded(end, penalty)) for some in every]
    assert [one.tokens for one in best] == [stripped(sequence, padding) for sequence in run["sequences"]]
    texts = recorded.tokenizer.batch_decode([list(one.tokens) for one in best], skip_special_tokens=True)
    assert texts == run["captions"]
    scores = [one.as_recorded(end, penalty) for one in best]
    for region, (mine, theirs) in enumerate(zip(scores, run["sequences_scores"], strict=True)):
        compare.number(f"score of region {region}", abs(mine - theirs) / max(1.0, abs(theirs)), SCORE)
    for region, (mine, theirs) in enumerate(zip(scores, run["exp_scores"], strict=True)):
        compare.number(f"exp(score) of region {region}", abs(math.exp(mine) - theirs), SCORE)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", WITH_ALL_BEAMS)
def test_all_beams(
    name: str, way: str, network: DynReferModel, recorded: Goldens, found: Tensor, compare: Comparison
) -> None:
    """What was kept: the same but for ties; where the versions rank differently, what both kept has the same score."""
    run, language = recorded.generation["runs"][name], network.language.model.config
    end, padding, penalty = language.eos_token_id, language.pad_token_id, run["settings"]["length_penalty"]
    ours, theirs = beams(network, recorded, run, found, way), recorded_beams(run, padding, end)
    for region, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        scores = {one.tokens: one.score for one in mine}
        for one in other:
            scale = max(1.0, abs(one.score))
            if one.tokens in scores:
                error = abs(scores[one.tokens] - one.score) / scale
                compare.number(f"score of a beam of region {region}", error, SCORE)
            elif penalty == 0:
                missed = one.score - min(scores.values())
                compare.number(f"score of a beam of region {region} that we dropped", missed / scale, SCORE)


def test_regions_in_chunks(network: DynReferModel, recorded: Goldens, compare: Comparison) -> None:
    """chunking.json: many regions, represented and captioned chunk by chunk."""
    chunking, run = recorded.json("chunking.json"), recorded.generation["runs"]["C_official_yaml"]
    sources, size = chunking["source_region"], chunking["split_size"]
    captions, scores = list[str](), list[float]()
    for start in range(0, len(sources), size):
        some = torch.tensor(sources[start : start + size])
        boxes = recorded.intermediates["boxes"]
        views = (some[:, None] * boxes.shape[1] + torch.arange(boxes.shape[1])).flatten()
        region = network.represent(recorded.features.take(views), boxes[some])
        ids, mask = recorded.controls([run["control_words"][source] for source in some.tolist()])
        ours = network.language.generate(region, ids, mask, **settings(run))
        captions += recorded.tokenizer.batch_decode(ours.tokens, skip_special_tokens=True)
        scores += ours.score.exp().tolist()
    assert captions == chunking["captions"]
    unchunked = [run["captions"][source] for source in sources]
    assert [ours == whole for ours, whole in zip(captions, unchunked, strict=True)] == chunking["equal_to_unchunked"]
    for index, (mine, theirs) in enumerate(zip(scores, chunking["scores"], strict=True)):
        compare.number(f"score of region {index}", abs(mine - theirs) / theirs, SCORE)


@pytest.mark.parametrize("name", RUNS)
def test_both_ways_of_stepping(name: str, network: DynReferModel, recorded: Goldens, found: Tensor) -> None:
    """Closer to each other than the goldens' tolerance asks of either."""
    run = recorded.generation["runs"][name]
    more = {"num_return_sequences": run["settings"]["num_beams"]}
    grown, slots = (generate(network, recorded, run, found, way=way, **more) for way in WAYS)
    assert slots.tokens.tolist() == grown.tokens.tolist()
    assert torch.allclose(slots.score, grown.score, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", RUNS)
def test_with_what_a_gpu_computes_with(name: str, network: DynReferModel, recorded: Goldens, found: Tensor) -> None:
    """Norms in one kernel, merged products, slots."""
    chosen = copy.deepcopy(network)
    choose_kernels(chosen, torch.device("cuda"))
    run = recorded.generation["runs"][name]
    expected, ours = generate(network, recorded, run, found), generate(chosen, recorded, run, found, way="slots")
    assert ours.tokens.tolist() == expected.tokens.tolist()
    assert torch.allclose(ours.score, expected.score, rtol=1e-5, atol=1e-5)


def test_one_beam_adds_up_the_steps(network: DynReferModel, recorded: Goldens, found: Tensor) -> None:
    """Greedy search ranks nothing; its score is worked out from the teacher-forced log-probabilities' equals."""
    run = recorded.generation["runs"]["C_official_yaml"]
    ids, mask = recorded.controls(run["control_words"])
    options = {"num_beams": 1, "repetition_penalty": 1.0, "length_penalty": 0.0}
    ours = network.language.generate(found, ids, mask, **options)
    logits = network.language.logits(found, ids, mask, ours.tokens[:, :-1]).log_softmax(-1)
    steps = logits.gather(2, ours.tokens[:, 1:, None]).squeeze(2)
    within = torch.arange(steps.shape[1]) < ours.length[:, None]
    expected = (steps * within).sum(1)
    assert torch.allclose(ours.logprob_sum, expected, rtol=1e-5, atol=1e-4)
    assert torch.allclose(ours.score, expected, rtol=1e-5, atol=1e-4)
