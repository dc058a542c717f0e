"""An image cut into its views."""

import pickle

import numpy as np
import pytest

from dynrefer.model.conversation import Conversation, Message, NamedRegion, Role
from dynrefer.model.errors import ConversationError
from dynrefer.model.networks.converse.ferret.config import preset
from dynrefer.model.networks.converse.ferret.grids import GRIDS
from dynrefer.model.networks.converse.ferret.preparation import FerretSpec
from dynrefer.model.types import RegionQuery

SIDE, PATCH = 56, 14
SPEC = FerretSpec(SIDE, PATCH, GRIDS)
HELLO = Conversation((Message(Role.USER, "What?"),))


def shaded(width: int, height: int) -> np.ndarray:
    """Red grows to the right and green downwards."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([across, down, np.zeros_like(across)], axis=2).astype(np.uint8)


def asked(*boxes: tuple[float, float, float, float]) -> Conversation:
    regions = (NamedRegion(f"r{place}", RegionQuery(box=box)) for place, box in enumerate(boxes))
    return Conversation(HELLO.messages, tuple(regions))


def test_views_are_the_whole_and_the_tiles_that_make_it_up() -> None:
    (turn,) = SPEC.prepare_each(shaded(200, 130), [HELLO])
    grid = SPEC.grid((200, 130))
    assert grid is not None
    views = turn.pixels.reshape(-1, SIDE, SIDE, 3)
    assert len(views) == 1 + grid.tiles
    canvas = views[1:].reshape(grid.rows, grid.columns, SIDE, SIDE, 3).swapaxes(1, 2).reshape(grid.rows * SIDE, -1, 3)
    rows, columns = SPEC.cells((200, 130))
    height, width = rows * PATCH, columns * PATCH
    expected = shaded(width, height).astype(int)
    assert np.abs(canvas[:height, :width].astype(int) - expected).max() <= 6
    assert (canvas[height:] == 128).all() and (canvas[:, width:] == 128).all()
    assert np.abs(views[0].astype(int) - shaded(SIDE, SIDE)).max() <= 6


def test_without_grids_there_is_the_whole_alone() -> None:
    (turn,) = FerretSpec(SIDE, PATCH, ()).prepare_each(shaded(200, 130), [HELLO])
    assert turn.pixels.shape == (SIDE, SIDE, 3)


def test_turns_of_an_image_share_its_digest_and_other_images_have_others() -> None:
    first, second = SPEC.prepare_each(shaded(90, 60), [HELLO, asked((1, 2, 30, 40))])
    (other,) = SPEC.prepare_each(255 - shaded(90, 60), [HELLO])
    (larger,) = SPEC.prepare_each(shaded(180, 120), [HELLO])
    assert first.digest == second.digest
    assert len({first.digest, other.digest, larger.digest}) == 3


def test_boxes_are_clipped_and_those_outside_are_named() -> None:
    (turn,) = SPEC.prepare_each(shaded(90, 60), [asked((-5, 10, 200, 20))])
    assert turn.conversation.regions[0].query.box == (0, 10, 90, 20)
    assert SPEC.invalid([asked((1, 2, 3, 4))], (90, 60)) == []
    (error,) = SPEC.invalid([HELLO, asked((1, 2, 3, 4), (100, 2, 103, 4))], (90, 60))
    assert isinstance(error, ConversationError)
    assert (error.index, error.field) == (1, "regions/1")


@pytest.mark.parametrize("name", ["tiny", "ferret-v2-7b"])
def test_the_specification_travels_to_worker_processes(name: str) -> None:
    spec = preset(name).spec
    assert pickle.loads(pickle.dumps(spec)) == spec
