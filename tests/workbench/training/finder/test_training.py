"""The training of the finder: samples show what was drawn, losses mean what they say, a run goes on where it was."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from dynrefer.model.networks.finder.network import STRIDE, FinderNetwork, places_of
from dynrefer.model.networks.finder.weights import load_files
from dynrefer.workbench.scenes.photographs import PhotographPack
from dynrefer.workbench.scenes.scene import Scene
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.finder.assignment import assign
from dynrefer.workbench.training.finder.cross_image import cross_image_contrast
from dynrefer.workbench.training.finder.export import export
from dynrefer.workbench.training.finder.losses import LossWeights, finder_losses, overlaps
from dynrefer.workbench.training.finder.masked_words import MaskedWords
from dynrefer.workbench.training.finder.samples import FinderBatch, FinderSamples, on_canvas
from dynrefer.workbench.training.finder.settings import HELD_OUT_NAMES, Stage
from dynrefer.workbench.training.finder.train import FinderTraining, draw_scenes, text_embeddings, trained_names

WORLD = World.load()
NAMES = trained_names(WORLD)
ALL_LOSSES = LossWeights(cross_image=0.5, masked_words=0.5)


@cache
def scenes() -> list[Scene]:
    return draw_scenes(12, 1)


def samples(batch: int = 2) -> FinderSamples:
    return FinderSamples(scenes(), PhotographPack.load(), NAMES, 0, batch, WORLD.colours)


def test_no_training_scene_shows_a_held_out_name() -> None:
    shown = {each.category for scene in scenes() for each in scene.objects}
    assert shown and not shown & set(HELD_OUT_NAMES)
    assert len(NAMES) == len(WORLD.categories) - len(HELD_OUT_NAMES)


def test_boxes_and_owners_are_where_the_objects_are() -> None:
    """The owner's pixels of an object lie in its box, and nearly fill it in both directions."""
    for index, close in ((0, False), (1, True)):
        batch = samples(6).batch(index, 128, close=close)
        assert len(batch.labels) == len(batch.boxes) == len(batch.image) == len(batch.colours)
        for place, box in enumerate(batch.boxes.tolist()):
            rows, columns = np.nonzero(batch.owner[int(batch.image[place])].numpy() == place)
            if len(rows) < 9:
                continue  # hardly any of it is seen
            x1, y1, x2, y2 = box
            assert x1 - 4 <= 4 * columns.min() and 4 * columns.max() <= x2 + 4
            assert y1 - 4 <= 4 * rows.min() and 4 * rows.max() <= y2 + 4


def test_a_batch_is_a_function_of_its_index() -> None:
    one, two, other = samples().batch(3, 96), samples().batch(3, 96), samples().batch(4, 96)
    assert torch.equal(one.pixels, two.pixels) and torch.equal(one.boxes, two.boxes)
    assert not torch.equal(one.pixels, other.pixels)


def test_what_is_mostly_cut_off_is_no_object() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        row = on_canvas(scenes()[0], 64, rng, focus=0)
        assert (row.boxes >= 0).all() and (row.boxes <= 64).all()
        assert ((row.boxes[:, 2:] - row.boxes[:, :2]) >= 4).all()
        assert row.owner.max() < len(row.names)


def test_places_answer_for_the_object_whose_middle_is_near() -> None:
    boxes = torch.tensor([[0.0, 0.0, 64.0, 64.0], [28.0, 28.0, 36.0, 36.0], [2.0, 50.0, 6.0, 54.0]])
    found = assign(boxes, torch.tensor([0, 0, 0]), 8, 8)
    by_place = {
        (row, column): each
        for row, column, each in zip(found.row.tolist(), found.column.tolist(), found.object.tolist(), strict=True)
    }
    assert set(found.object.tolist()) == {0, 1, 2}  # each has a place at least
    points = places_of(8, 8)
    for (row, column), each in by_place.items():
        x1, y1, x2, y2 = boxes[each].tolist()
        x, y = points[row, column].tolist()
        assert abs(x - (x1 + x2) / 2) <= max(STRIDE, 0.16 * (x2 - x1))
        assert abs(y - (y1 + y2) / 2) <= max(STRIDE, 0.16 * (y2 - y1))
    assert not len(assign(boxes[:0], torch.empty(0, dtype=torch.int64), 8, 8).row)


def test_overlaps_of_known_boxes() -> None:
    one = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]])
    other = torch.tensor([[1.0, 0.0, 3.0, 2.0], [2.0, 0.0, 3.0, 1.0]])
    shared, generalised = overlaps(one, other)
    torch.testing.assert_close(shared, torch.tensor([1 / 3, 0.0]))
    torch.testing.assert_close(generalised, torch.tensor([1 / 3, -1 / 3]))


def test_positives_are_propagated_across_images() -> None:
    """Two images with a dog each and one with a cat: the word dog has both dogs as positives."""
    vectors = functional.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), dim=1)
    labels = torch.tensor([0, 0, 1])
    embeddings = vectors[labels]
    scale = torch.tensor(1.0)
    a, b = np.exp(1.0), np.exp(0.0)
    to_words = -np.log(a / (a + b))
    to_regions = (-np.log(2 * a / (2 * a + b)) - np.log(a / (a + 2 * b))) / 2
    found = cross_image_contrast(embeddings, labels, vectors, scale)
    assert float(found) == pytest.approx((to_words + to_regions) / 2, abs=1e-6)
    assert float(cross_image_contrast(embeddings[:0], labels[:0], vectors, scale)) == 0.0


def test_hidden_words_are_learned_from_the_region() -> None:
    torch.manual_seed(0)
    words = MaskedWords(4, 3, 2)
    embeddings, names, colours = torch.eye(4)[:3], torch.tensor([0, 1, 2]), torch.tensor([0, 1, -1])
    optimiser = torch.optim.Adam(words.parameters(), lr=0.02)
    losses = []
    for step in range(60):
        loss = words.loss(embeddings, names, colours, torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]
    nothing = words.loss(embeddings[:1], torch.tensor([-1]), torch.tensor([0]), torch.Generator())
    assert float(nothing.detach()) == 0.0


@pytest.mark.parametrize("name", ["objectness", "l1", "giou", "contrast", "mask", "cross_image", "masked_words"])
def test_each_loss_can_be_switched_off(name: str) -> None:
    torch.manual_seed(0)
    network, words = FinderNetwork(), MaskedWords(96, len(NAMES), len(WORLD.colours))
    batch = samples(1).batch(0, 96)
    vectors = network.name_vectors(torch.randn(len(NAMES), 160))
    generator = torch.Generator().manual_seed(0)
    weights = LossWeights(**{**vars(ALL_LOSSES), name: 0.0})
    found = finder_losses(network, network(batch.pixels), batch, vectors, weights, words, generator)
    assert set(found) == set(vars(ALL_LOSSES)) - {name}
    assert all(torch.isfinite(value) and value >= 0 for value in found.values())


def test_steps_lower_the_loss() -> None:
    torch.manual_seed(0)
    network, batch, texts = FinderNetwork(), samples().batch(0, 64), text_embeddings(NAMES)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3)
    totals = []
    for _ in range(8):
        found = finder_losses(network, network(batch.pixels), batch, network.name_vectors(texts), LossWeights())
        total = torch.stack(list(found.values())).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.8 * totals[0]


def test_a_run_goes_on_exactly_where_it_stopped(tmp_path: Path) -> None:
    stage = Stage("all", 8, (64,), 1e-3, 2, ALL_LOSSES)
    texts = text_embeddings(NAMES)

    def begun() -> FinderTraining:
        return FinderTraining(texts, len(WORLD.colours), 0)

    whole, drawn = begun(), samples()
    for _ in range(8):
        whole.advance(stage, drawn)
    first, second = begun(), begun()
    for _ in range(3):
        first.advance(stage, drawn)
    torch.save(first.state(), tmp_path / "checkpoint.pt")
    second.restore(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
    for _ in range(5):
        second.advance(stage, drawn)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name
    for name, value in whole.mean.items():
        assert torch.equal(value, second.mean[name]), name


def test_only_the_mask_head_learns_where_the_detector_is_frozen() -> None:
    training, drawn = FinderTraining(text_embeddings(NAMES), 1, 0), samples()
    before = {name: value.clone() for name, value in training.network.state_dict().items()}
    training.advance(Stage("masks", 1, (64,), 1e-2, 2, LossWeights(0, 0, 0, 0, 1), frozen=True), drawn)
    changed = {
        name.split(".")[0]
        for name, value in training.network.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {"coefficients", "from4", "to4", "prototypes"}


def test_what_is_exported_is_what_is_loaded(tmp_path: Path) -> None:
    training = FinderTraining(text_embeddings(NAMES), 1, 0)
    torch.save(training.state(), tmp_path / "checkpoint.pt")
    export(tmp_path, tmp_path / "finder")
    files = load_files(tmp_path / "finder")
    assert files.names == NAMES
    pixels = samples(1).batch(0, 64).pixels
    own = training.network.eval()
    with torch.inference_mode():
        expected, found = own(pixels), files.network(pixels)
    torch.testing.assert_close(found.boxes, expected.boxes, atol=0.3, rtol=0.01)  # the file holds float16
    torch.testing.assert_close(found.embeddings, expected.embeddings, atol=0.02, rtol=0.02)


def test_a_batch_without_objects_has_losses() -> None:
    network = FinderNetwork()
    empty = torch.empty(0, dtype=torch.int64)
    batch = FinderBatch(
        torch.zeros(1, 3, 64, 64, dtype=torch.uint8),
        torch.empty(0, 4),
        empty,
        empty,
        empty,
        torch.full((1, 16, 16), -1, dtype=torch.int16),
    )
    found = finder_losses(network, network(batch.pixels), batch, torch.randn(3, 96), LossWeights())
    assert all(torch.isfinite(value) for value in found.values())
