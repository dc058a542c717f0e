"""Contrast across the images of a batch, by hand."""

from __future__ import annotations

import math

import torch

from dynrefer.workbench.training.finder.cross_image import caption_words, cross_image_contrast, propagated_targets

# Image 0 shows a cup twice and something unnamed, image 1 a cup and a dog.
LABELS, IMAGE = torch.tensor([7, 7, -1, 7, 2]), torch.tensor([0, 0, 0, 1, 1])


def test_a_caption_says_each_name_of_its_image_once() -> None:
    assert caption_words(LABELS, IMAGE).tolist() == [7, 2, 7]


def test_a_region_is_a_positive_of_its_name_in_every_caption() -> None:
    targets = propagated_targets(LABELS, torch.tensor([7, 2, 7]))
    cup, dog, nothing = [True, False, True], [False, True, False], [False] * 3
    assert targets.tolist() == [cup, cup, nothing, cup, dog]


def test_the_unnamed_are_no_positives_of_each_other() -> None:
    assert not propagated_targets(torch.tensor([-1]), torch.tensor([-1])).any()


def test_the_loss_is_the_mean_of_both_directions() -> None:
    logits = torch.log(torch.tensor([[3.0, 1.0], [1.0, 1.0]]))
    targets = torch.tensor([[True, False], [True, True]])
    rows = (-math.log(3 / 4) - math.log(1 / 2)) / 2
    # Of the first word both regions are positives, with 3/4 and 1/4; of the second the second, with 1/2.
    columns = (-(math.log(3 / 4) + math.log(1 / 4)) / 2 - math.log(1 / 2)) / 2
    torch.testing.assert_close(float(cross_image_contrast(logits, targets)), (rows + columns) / 2, atol=1e-6, rtol=0)


def test_without_a_positive_there_is_no_loss() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    loss = cross_image_contrast(logits, torch.zeros(2, 3, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0 and logits.grad is not None and not logits.grad.any()
    assert float(cross_image_contrast(torch.zeros(0, 0), torch.zeros(0, 0, dtype=torch.bool))) == 0
