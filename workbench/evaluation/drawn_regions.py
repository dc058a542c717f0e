"""Regions of drawn scenes with their ground truth.

Training, validation (for tuning) and test never share a scene: training draws from the split "train", which has a
random stream of its own, and validation and test use disjoint seeds for every `scenes_seed`.
Shapes: R = regions, K = categories, T = tags, A = attributes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from dynrefer.model.errors import ConfigError
from dynrefer.model.types import Task
from dynrefer.workbench.data.regions import ImageRegions
from dynrefer.workbench.evaluation.inference import RegionPredictor, check_names
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.scene import Scene, SceneObject, Split, draw_scene
from dynrefer.workbench.scenes.world import World

_SCENES_PER_SEED = 10_000  # at most; the scenes of the next `scenes_seed` follow
_FIRST_SEED = 10**12  # far above any seed that training uses


@dataclass(frozen=True)
class RegionSet:
    """The objects of some scenes, each a region with known ground truth; regions in the order of the scenes."""

    world: World
    scenes: tuple[Scene, ...]

    @classmethod
    def draw(
        cls,
        world: World,
        sprites: SpritePack,
        split: Split,
        *,
        scenes_seed: int,
        regions: int,
        validation: bool = False,
        jpeg_quality: int | None = None,
    ) -> RegionSet:
        """Draw scenes of `split` until they hold `regions` regions or more; validation: draw the validation scenes.

        jpeg_quality: store each image as JPEG of this quality, 1 to 100, with half the resolution of colours, and read
        it again, as for `stored_as_jpeg`; None leaves the pixels as drawn.
        Raises `ConfigError` for more regions than one seed's scenes hold.
        """
        first = _FIRST_SEED + (2 * scenes_seed + validation) * _SCENES_PER_SEED
        scenes: list[Scene] = []
        drawn = 0
        with tqdm(total=regions, desc=f"draw {split}", unit="region", disable=None) as bar:
            while drawn < regions:
                if len(scenes) == _SCENES_PER_SEED:
                    raise ConfigError(f"{regions} regions are more than the {_SCENES_PER_SEED} scenes of a seed hold.")
                scene = draw_scene(world, sprites, first + len(scenes), split)
                if jpeg_quality is not None:
                    scene = replace(scene, image=stored_as_jpeg(scene.image, jpeg_quality))
                scenes.append(scene)
                drawn += len(scenes[-1].objects)
                bar.update(len(scenes[-1].objects))
        return cls(world, tuple(scenes))

    def __len__(self) -> int:
        """R."""
        return len(self.objects)

    @cached_property
    def names(self) -> dict[Task, tuple[str, ...]]:
        """The world's tags, attributes and categories."""
        return world_names(self.world)

    def image_regions(self) -> Iterator[ImageRegions]:
        """The scenes, each with the boxes of its objects."""
        for scene in self.scenes:
            yield ImageRegions(partial(_image, scene), tuple(obj.box for obj in scene.objects), f"scene {scene.seed}")

    @cached_property
    def objects(self) -> tuple[SceneObject, ...]:
        """The ground truth of the R regions."""
        return tuple(obj for scene in self.scenes for obj in scene.objects)

    @cached_property
    def categories(self) -> NDArray[np.int64]:
        """(R,) indices into the world's categories."""
        index = {category.name: i for i, category in enumerate(self.world.categories)}
        return np.array([index[obj.category] for obj in self.objects], dtype=np.int64)

    @cached_property
    def tags(self) -> NDArray[np.bool_]:
        """(R, T) bool, in the order of the world's tags."""
        index = {tag: i for i, tag in enumerate(self.world.tags)}
        truth = np.zeros((len(self.objects), len(index)), dtype=np.bool_)
        for row, obj in enumerate(self.objects):
            truth[row, [index[tag] for tag in obj.tags]] = True
        return truth

    @cached_property
    def attributes(self) -> NDArray[np.int8]:
        """(R, A) int8: 1, 0, or -1 where unknown, in the order of the world's attributes."""
        return np.stack([self.world.attribute_targets(obj) for obj in self.objects])


def _image(scene: Scene) -> NDArray[np.uint8]:
    return scene.image


def stored_as_jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """The image, (H, W, 3) uint8 RGB, after JPEG compression of quality 1 to 100 with 4:2:0 chroma subsampling."""
    stored = io.BytesIO()
    Image.fromarray(image).save(stored, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(stored) as read:
        return np.array(read)


def world_names(world: World) -> dict[Task, tuple[str, ...]]:
    """Recognition task -> its labels in the drawn world."""
    return {
        Task.TAGS: world.tags,
        Task.ATTRIBUTES: tuple(attribute.name for attribute in world.attributes),
        Task.CATEGORIES: tuple(category.name for category in world.categories),
    }


def check_vocabulary(predictor: RegionPredictor, world: World) -> None:
    """Raise `DataError` if the model's vocabulary lacks a label of the drawn world."""
    check_names(predictor, world_names(world), "the drawn world")
