"""Simulated clicks."""

import torch

from dynrefer.workbench.training.segmenter.clicks import depth, middle, next_click

DEEPEST = torch.zeros(1)


def square(low: int, high: int, side: int = 32) -> torch.Tensor:
    mask = torch.zeros(1, side, side, dtype=torch.bool)
    mask[:, low:high, low:high] = True
    return mask


def test_depth_grows_from_the_edge() -> None:
    found = depth(square(8, 24))[0]
    assert found[0, 0] == 0 and found[8, 8] == 1 and found[16, 16] == 4


def test_the_first_click_is_in_the_middle() -> None:
    (at,) = middle(square(8, 24), torch.Generator().manual_seed(0), DEEPEST)
    assert 13 <= int(at[0]) <= 18 and 13 <= int(at[1]) <= 18


def test_a_spread_click_is_still_in_the_object() -> None:
    mask = square(8, 24)
    generator = torch.Generator().manual_seed(0)
    places = {tuple(middle(mask, generator, torch.ones(1))[0].tolist()) for _ in range(20)}
    assert len(places) > 10 and all(mask[0, y, x] for y, x in places)


def test_the_next_click_answers_the_larger_mistake() -> None:
    truth = square(8, 24)
    missed = truth.clone()
    missed[:, 8:24, 8:16] = False
    (at,), (positive,) = next_click(missed, truth, torch.Generator().manual_seed(0), DEEPEST)
    assert positive and 8 <= int(at[1]) < 16
    beyond = truth.clone()
    beyond[:, 8:24, 24:32] = True
    (at,), (positive,) = next_click(beyond, truth, torch.Generator().manual_seed(0), DEEPEST)
    assert not positive and int(at[1]) >= 24


def test_without_a_mistake_the_click_is_on_the_object() -> None:
    truth = square(8, 24)
    (at,), (positive,) = next_click(truth, truth, torch.Generator().manual_seed(0), DEEPEST)
    assert positive and truth[0, int(at[0]), int(at[1])]
