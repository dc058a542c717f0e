"""The finder's ablation: its rows, and what it measures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.finder_ablation import ROWS, measure, small_stages
from dynrefer.model.networks.finder.network import FinderMaps
from dynrefer.workbench.scenes.scene import Scene
from dynrefer.workbench.training.finder.settings import LOSSES, UNUSUAL, switched
from dynrefer.workbench.training.finder.train import draw_scenes


class _Oracle:
    """Finds one box at one place, whose mask fills it, and gives it the first name."""

    def name_vectors(self, texts: Tensor) -> Tensor:
        return texts

    def name_logits(self, embeddings: Tensor, vectors: Tensor) -> Tensor:
        return embeddings @ vectors.T

    def __call__(self, pixels: Tensor) -> FinderMaps:
        rows, columns = pixels.shape[2] // 8, pixels.shape[3] // 8
        objectness = torch.full((1, rows, columns), -9.0)
        boxes = torch.zeros(1, rows, columns, 4)
        objectness[0, 0, 0], boxes[0, 0, 0] = 9.0, torch.tensor([48.0, 48.0, 144.0, 144.0])
        embeddings = torch.tensor([1.0, 0.0]).expand(1, rows, columns, 2)
        ones = torch.ones(1, rows, columns, 1)
        return FinderMaps(objectness, boxes, embeddings, ones, torch.ones(1, 1, 2 * rows, 2 * columns))


@pytest.fixture(scope="module")
def scene() -> Scene:
    """An object in the middle of 96 x 96 pixels, of which the measure looks at twice as many."""
    drawn = draw_scenes(1, 1)[0]
    owner = np.full((96, 96), -1, np.int8)
    owner[24:72, 24:72] = 0
    shown = replace(drawn.objects[0], box=(24.0, 24.0, 72.0, 72.0), category="cup")
    return replace(drawn, image=np.zeros((96, 96, 3), np.uint8), owner=owner, objects=(shown,))


def test_the_right_box_name_and_mask_are_full_marks(scene: Scene) -> None:
    # The oracle stands for the network: it has what `measure` calls, and no more.
    found = measure(_Oracle(), [scene], torch.eye(2), ["cup", "dog"])  # type: ignore[arg-type]
    assert found["found_among_ten"]["value"] == found["name_right"]["value"] == 1
    assert found["box_overlap"] == found["mask_overlap"] == 1 and found["objects"] == 1


def test_a_wrong_name_and_a_far_object_are_not(scene: Scene) -> None:
    assert measure(_Oracle(), [scene], torch.eye(2), ["dog", "cup"])["name_right"]["value"] == 0  # type: ignore[arg-type]
    away = replace(scene, objects=(replace(scene.objects[0], box=(0.0, 0.0, 20.0, 20.0)),))
    found = measure(_Oracle(), [away], torch.eye(2), ["cup", "dog"])  # type: ignore[arg-type]
    assert found["found_among_ten"]["value"] == 0 and found["box_overlap"] is None


def test_rows_leave_out_what_they_say() -> None:
    for row in ROWS:
        assert set(row.without) <= set(LOSSES)
        plan = switched(small_stages(10), [name for name in UNUSUAL if name not in row.without], row.without)
        assert not any(getattr(stage.weights, name) for stage in plan for name in row.without)
