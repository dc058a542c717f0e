"""Batches of the finder's training: boxes, masks and names are those of the drawn objects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from dynrefer.workbench.scenes.photographs import PhotographPack
from dynrefer.workbench.scenes.scene import Scene
from dynrefer.workbench.training.finder.samples import MASK_STRIDE, FinderSamples, on_canvas
from dynrefer.workbench.training.finder.settings import HELD_OUT_NAMES


def _marked(scene: Scene) -> Scene:
    """One object of a plain colour in a box of its own, and nothing else."""
    image, owner = np.zeros((100, 140, 3), np.uint8), np.full((100, 140), -1, np.int8)
    image[30:70, 20:90], owner[30:70, 20:90] = 255, 0
    return replace(scene, image=image, owner=owner, objects=(replace(scene.objects[0], box=(20.0, 30.0, 90.0, 70.0)),))


def test_boxes_follow_scaling_cropping_and_flipping(scenes: list[Scene]) -> None:
    scene, kept = _marked(scenes[0]), 0
    for seed in range(20):
        row = on_canvas(scene, 96, np.random.default_rng(seed))
        if not row.names:
            continue
        kept += 1
        rows, columns = (np.flatnonzero((row.pixels[0] > 190).any(axis=axis)) for axis in (1, 0))
        drawn = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        np.testing.assert_allclose(row.boxes[0], drawn, atol=1.6)
        rows, columns = (np.flatnonzero((row.owner == 0).any(axis=axis)) * MASK_STRIDE for axis in (1, 0))
        masked = [columns[0], rows[0], columns[-1] + MASK_STRIDE, rows[-1] + MASK_STRIDE]
        np.testing.assert_allclose(row.boxes[0], masked, atol=MASK_STRIDE)
    assert kept >= 10


def test_a_canvas_about_one_object_shows_it(scenes: list[Scene]) -> None:
    for place, each in enumerate(scenes[0].objects):
        row = on_canvas(scenes[0], 64, np.random.default_rng(place), place)
        assert each.category in row.names


def test_a_batch_follows_from_its_index(samples: FinderSamples) -> None:
    one, again, other = samples.batch(5, 64), samples.batch(5, 64), samples.batch(6, 64)
    assert torch.equal(one.pixels, again.pixels) and torch.equal(one.boxes, again.boxes)
    assert one.captions == again.captions and not torch.equal(one.pixels, other.pixels)
    assert one.pixels.shape == (4, 3, 64, 64) and one.owner.shape == (4, 16, 16) and len(one.captions) == 4
    assert (one.image.diff() >= 0).all() and len(one.labels) == len(one.boxes)


def test_held_out_names_never_appear(scenes: list[Scene], samples: FinderSamples, names: tuple[str, ...]) -> None:
    assert not set(HELD_OUT_NAMES) & {each.category for scene in scenes for each in scene.objects}
    assert not set(HELD_OUT_NAMES) & set(names)
    batch = samples.batch(0, 64)
    assert (batch.labels >= 0).all()  # every object of a drawn scene has a trained name


def test_a_caption_says_colour_and_name_of_each_object(samples: FinderSamples, names: tuple[str, ...]) -> None:
    batch = samples.batch(0, 96)
    for index, caption in enumerate(batch.captions):
        for label in batch.labels[batch.image == index].tolist():
            assert f"{names[label]}." in caption


def test_owners_are_where_the_objects_are(
    scenes: list[Scene], photographs: PhotographPack, names: tuple[str, ...]
) -> None:
    """The owner's pixels of an object lie in its box."""
    for index, close in ((0, False), (1, True)):
        batch = FinderSamples(scenes, photographs, names, 0, 6).batch(index, 128, close=close)
        for place, (x1, y1, x2, y2) in enumerate(batch.boxes.tolist()):
            rows, columns = np.nonzero(batch.owner[int(batch.image[place])].numpy() == place)
            if len(rows) < 9:
                continue  # hardly any of it is seen
            assert x1 - 4 <= 4 * columns.min() and 4 * columns.max() <= x2 + 4
            assert y1 - 4 <= 4 * rows.min() and 4 * rows.max() <= y2 + 4


def test_what_is_mostly_cut_off_is_no_object(scenes: list[Scene]) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        row = on_canvas(scenes[0], 64, rng, focus=0)
        assert (row.boxes >= 0).all() and (row.boxes <= 64).all()
        assert ((row.boxes[:, 2:] - row.boxes[:, :2]) >= 4).all()
        assert row.owner.max() < len(row.names)
