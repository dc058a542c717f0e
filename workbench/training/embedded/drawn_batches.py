"""Batches of drawn scenes for the two kinds of training of the embedded model, and the pool of scenes behind them.

A batch is a pure function of (pool, seed, index), so that a resumed run sees the batches of an uninterrupted one.
Views that several regions share (t = 1 of one scene) are cut once.

Shapes: N = distinct views, R = regions, V = views of a region, T = tags, A = attributes, L = tokens, W = control
tokens, S = side of a view in pixels.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from dynrefer.model.geometry import boxes_in_views, boxes_towards, integer_crops
from dynrefer.model.networks.dynrefer.language import IGNORED
from dynrefer.workbench.scenes.artwork import SpritePack
from dynrefer.workbench.scenes.photographs import PhotographPack
from dynrefer.workbench.scenes.scene import Scene, SceneObject, draw_scene
from dynrefer.workbench.scenes.world import World
from dynrefer.workbench.training.embedded.caption_forms import control_words, draw_form
from dynrefer.workbench.training.embedded.stored_pictures import draw_storage, excerpt, store

STEPS = tuple(i / 10 for i in range(1, 11))
_JITTER = 0.06  # of the box's side: a client's box is never as tight as a drawn object's
_WELL_INSIDE = 0.8  # minimum proportion of an object's box that a context view must contain
_CHUNK = 100  # scenes per task of a drawing process

_parts: tuple[World, SpritePack] | None = None  # of a drawing process, loaded once in it
_photographs: PhotographPack | None = None  # likewise, where backgrounds are photographs


@dataclass
class Targets:
    """The labels of R regions.

    category, relation, scene: (R,) int64; scene is `IGNORED` where the background is none of the world's. attributes:
    (R, A) int8: 1, 0, or -1 where unknown. tags: (R, T) float32, 0 or 1. captions: (R, L) int64 ids of the text tower,
    padded with its end token.
    """

    category: Tensor
    relation: Tensor
    scene: Tensor
    attributes: Tensor
    tags: Tensor
    captions: Tensor


@dataclass
class PretrainBatch:
    """Single views with the objects in them.

    images: (N, 3, S, S) uint8. boxes: (R, 4) float32 in pixels of the view; owner: (R,) view of each region.
    near: (R,) bool, True for a region that fills its view (t = 0), so that its relation is not visible.
    """

    images: Tensor
    boxes: Tensor
    owner: Tensor
    near: Tensor
    targets: Targets


@dataclass
class RegionBatch:
    """Regions with their nested views.

    images: (N, 3, S, S) uint8 distinct views. index: (R, V) into them. boxes: (R, V, 4) float32, pixels of the view.
    labels: (R, L) int64 caption ids of the language model, `IGNORED` at padding. control_ids, control_mask: (R, W)
    int64.
    """

    images: Tensor
    index: Tensor
    boxes: Tensor
    labels: Tensor
    control_ids: Tensor
    control_mask: Tensor
    targets: Targets


def moved(batch: Any, device: torch.device) -> Any:
    """A batch with all its tensors on `device`."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    return replace(batch, **{field.name: moved(getattr(batch, field.name), device) for field in fields(batch)})


class _Views:
    """Collects the distinct views of one batch."""

    def __init__(self, view_size: int) -> None:
        self.view_size = view_size
        self.images: list[NDArray[np.uint8]] = []
        self._seen: dict[tuple[int, ...], int] = {}
        self._sources: dict[int, NDArray[np.uint8]] = {}  # kept, so that an id stays one picture's

    def add(self, scene: Scene, crop: NDArray[np.int64]) -> int:
        """The index of the view; crop: (4,) integer corners."""
        x1, y1, x2, y2 = (int(value) for value in crop)
        source = id(scene.image)  # not the seed: a scene may be there twice, stored in two ways
        self._sources[source] = scene.image
        key = (source, x1, y1, x2, y2)
        if key not in self._seen:
            self._seen[key] = len(self.images)
            cut = Image.fromarray(scene.image[y1:y2, x1:x2])
            resized = cut.resize((self.view_size, self.view_size), Image.Resampling.BICUBIC)
            self.images.append(np.asarray(resized).transpose(2, 0, 1))
        return self._seen[key]

    def tensor(self) -> Tensor:
        return torch.from_numpy(np.stack(self.images))


@dataclass(frozen=True)
class DataOptions:
    """The data of one stage. crops: close-ups per pretraining batch. scenes: per batch. batches: of the stage.

    jpeg: proportion of the pictures that are stored as JPEG before views are cut. placeholder: in most captions it
    stands for the noun.
    """

    seed: int
    crops: int
    scenes: int
    batches: int
    view_size: int
    jpeg: float = 0.0
    placeholder: bool = False


class SceneBatches(Dataset[Any]):
    """The common part of both data sets: choice from the pool, labels, texts."""

    def __init__(self, world: World, pool: Sequence[Scene], tokenizers: tuple[Any, Any], options: DataOptions) -> None:
        self.world, self.pool, self.options = world, pool, options
        self.text_tokenizer, self.language_tokenizer = tokenizers
        self.view_size = options.view_size
        self.objects = [(scene, obj) for scene in pool for obj in scene.objects]
        self._category = {category.name: i for i, category in enumerate(world.categories)}
        self._tag = {tag: i for i, tag in enumerate(world.tags)}
        self._scene = {scene: i for i, scene in enumerate(world.scenes)}

    def __len__(self) -> int:
        return self.options.batches

    def _scenes(self, rng: np.random.Generator) -> list[Scene]:
        scenes = [self.pool[i] for i in rng.integers(len(self.pool), size=self.options.scenes)]
        return [self._received(scene, rng) for scene in scenes] if self.options.jpeg else scenes

    def _received(self, scene: Scene, rng: np.random.Generator) -> Scene:
        storage = draw_storage(rng, self.options.jpeg)
        return scene if storage is None else store(scene, storage)

    def _targets(self, objects: Sequence[SceneObject], captions: Sequence[str]) -> Targets:
        tags = torch.zeros(len(objects), len(self._tag))
        for row, obj in enumerate(objects):
            tags[row, [self._tag[tag] for tag in obj.tags]] = 1.0
        attributes = np.stack([self.world.attribute_targets(obj) for obj in objects])
        ids = self.text_tokenizer(list(captions), padding=True, truncation=True, max_length=32, return_tensors="pt")
        return Targets(
            category=torch.tensor([self._category[obj.category] for obj in objects]),
            relation=torch.tensor([self.world.relations.index(obj.relation) for obj in objects]),
            scene=torch.tensor([IGNORED if obj.scene is None else self._scene[obj.scene] for obj in objects]),
            attributes=torch.from_numpy(attributes),
            tags=tags,
            captions=ids.input_ids,
        )

    def _regions(
        self,
        images: Tensor,
        index: Tensor,
        boxes: Sequence[NDArray[np.float32]],
        objects: Sequence[SceneObject],
        rng: np.random.Generator,
    ) -> RegionBatch:
        """The batch of objects whose views are cut; draws a caption and control words for each.

        The region-text head compares with the object's own caption, whatever the language model is to write.
        """
        captions = [str(rng.choice(obj.captions)) for obj in objects]
        pairs = list(zip(objects, captions, strict=True))
        if self.options.placeholder:
            forms = [draw_form(obj, caption, self.world, rng) for obj, caption in pairs]
        else:
            forms = [(control_words(caption, obj.tags, rng), caption) for obj, caption in pairs]
        controls, written = ([form[part] for form in forms] for part in (0, 1))
        labels = self.language_tokenizer(written, padding=True, truncation=True, max_length=32, return_tensors="pt")
        words = self.language_tokenizer(controls, padding=True, truncation=True, max_length=32, return_tensors="pt")
        return RegionBatch(
            images=images,
            index=index,
            boxes=torch.from_numpy(np.stack(boxes)),
            labels=labels.input_ids.masked_fill(labels.attention_mask == 0, IGNORED),
            control_ids=words.input_ids,
            control_mask=words.attention_mask,
            targets=self._targets(objects, captions),
        )


def _size(scene: Scene) -> tuple[int, int]:
    return scene.image.shape[1], scene.image.shape[0]


def _jittered(scene: Scene, obj: SceneObject, rng: np.random.Generator) -> NDArray[np.float32]:
    """The object's box (4,), with every side moved a little."""
    x1, y1, x2, y2 = obj.box
    shift = rng.uniform(-_JITTER, _JITTER, 4) * (x2 - x1, y2 - y1, x2 - x1, y2 - y1)
    return np.clip(np.array(obj.box) + shift, 0, (*_size(scene), *_size(scene))).astype(np.float32)


def _jittered_crop(scene: Scene, obj: SceneObject, rng: np.random.Generator) -> NDArray[np.int64]:
    """The jittered box as a crop (1, 4)."""
    return integer_crops(_jittered(scene, obj, rng)[None], _size(scene))


class PretrainData(SceneBatches):
    """Close-ups (t = 0) of objects from the whole pool, and context views with every object that is well inside.

    The context views of a scene are the whole (t = 1), and a view around one of its objects.
    """

    def __getitem__(self, index: int) -> PretrainBatch:
        rng = np.random.default_rng((self.options.seed, index))
        views = _Views(self.view_size)
        rows: list[tuple[int, NDArray[np.float32], bool, SceneObject]] = []
        for pick in rng.integers(len(self.objects), size=self.options.crops):
            scene, obj = self.objects[pick]
            if self.options.jpeg:
                scene = self._received(excerpt(scene, obj), rng)
                obj = scene.objects[0]
            crop = _jittered_crop(scene, obj, rng)
            rows.append((views.add(scene, crop[0]), boxes_in_views(crop, self.view_size)[0], True, obj))
        for scene in self._scenes(rng):
            centre = scene.objects[int(rng.integers(len(scene.objects)))]
            for t in (1.0, float(rng.choice(STEPS[:-1]))):
                context = integer_crops(boxes_towards(centre.box, _size(scene), (t,)), _size(scene))
                view = views.add(scene, context[0])
                for obj in scene.objects:
                    crop = _jittered_crop(scene, obj, rng)
                    if _proportion_inside(crop[0], context[0]) >= _WELL_INSIDE:
                        rows.append(
                            (view, boxes_in_views(np.concatenate([crop, context]), self.view_size)[1], False, obj)
                        )
        owner, boxes, near, objects = zip(*rows, strict=True)
        return PretrainBatch(
            images=views.tensor(),
            boxes=torch.from_numpy(np.stack(boxes)),
            owner=torch.tensor(owner),
            near=torch.tensor(near),
            targets=self._targets(objects, [str(rng.choice(obj.captions)) for obj in objects]),
        )


def _proportion_inside(box: NDArray[np.int64], view: NDArray[np.int64]) -> float:
    inner = np.concatenate([np.maximum(box[:2], view[:2]), np.minimum(box[2:], view[2:])])
    area = float(np.prod(np.maximum(inner[2:] - inner[:2], 0)))
    return area / float(np.prod(box[2:] - box[:2]))


class RegionData(SceneBatches):
    """Every object of a scene as a region: t = 0 first, then V - 1 others, drawn without replacement, in random order.

    Source: paper, section 3.1, stochastic multi-view training.
    """

    num_views = 3

    def __getitem__(self, index: int) -> RegionBatch:
        rng = np.random.default_rng((self.options.seed, index))
        views = _Views(self.view_size)
        rows: list[list[int]] = []
        boxes: list[NDArray[np.float32]] = []
        objects: list[SceneObject] = []
        for scene in self._scenes(rng):
            for obj in scene.objects:
                ts = (0.0, *rng.choice(STEPS, self.num_views - 1, replace=False).tolist())
                x1, y1, x2, y2 = _jittered(scene, obj, rng).tolist()
                crops = integer_crops(boxes_towards((x1, y1, x2, y2), _size(scene), ts), _size(scene))
                rows.append([views.add(scene, crop) for crop in crops])
                boxes.append(boxes_in_views(crops, self.view_size))
                objects.append(obj)
        return self._regions(views.tensor(), torch.tensor(rows), boxes, objects, rng)


def draw_pool(
    first_seed: int,
    count: int,
    workers: int,
    photograph_backgrounds: float = 0.0,
    without: frozenset[str] = frozenset(),
) -> list[Scene]:
    """`count` training scenes from consecutive seeds, drawn by `workers` processes; about 0.15 MB each.

    photograph_backgrounds: proportion of the scenes whose background is a photograph. without: categories that no scene
    shows.
    A stage draws its scenes once and keeps them in memory: drawing costs five times as much as cropping.
    """
    starts = range(first_seed, first_seed + count, _CHUNK)
    sizes = [min(_CHUNK, first_seed + count - start) for start in starts]
    context = multiprocessing.get_context("fork")
    draw = partial(_draw_chunk, photograph_backgrounds, without)
    with ProcessPoolExecutor(workers, mp_context=context) as executor:
        return [scene for chunk in executor.map(draw, starts, sizes) for scene in chunk]


def _draw_chunk(photograph_backgrounds: float, without: frozenset[str], first_seed: int, count: int) -> list[Scene]:
    global _parts, _photographs
    if _parts is None:
        _parts = (World.load(), SpritePack.load())
    if photograph_backgrounds and _photographs is None:
        _photographs = PhotographPack.load()
    world, sprites = _parts
    if without:
        world = world.without(without)
    pack = _photographs if photograph_backgrounds else None
    seeds = range(first_seed, first_seed + count)
    return [draw_scene(world, sprites, seed, "train", pack, photograph_backgrounds) for seed in seeds]
