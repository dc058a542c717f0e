"""Views of regions -> region representations: every distinct view and region once, whether it comes again in the same
batch, is in a cache, or was computed by another process that shares its own.

Shapes: N = distinct views, R = inputs (a region with one view plan), V = views of an input, Q = region tokens,
C = channels.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynrefer.model.cache import Digest, FeatureCache, region_digest
from dynrefer.model.loading import LoadedModel
from dynrefer.model.networks.dynrefer.vision import VisionFeatures
from dynrefer.model.networks.kernels.transfers import to_device, to_host
from dynrefer.model.preparation import RegionInput

Lap = Callable[[str], None]  # called with the name of the part of the work that has been given to the device


class NewFeatures:
    """What a batch computed or was given that its caches did not hold; `keep` puts it there."""

    def __init__(self, cache: FeatureCache) -> None:
        self._cache = cache
        self._views: tuple[list[bytes], VisionFeatures, Tensor] | None = None
        self._regions: tuple[list[Digest], Tensor, Tensor] | None = None
        self._given: list[tuple[Digest, Tensor]] = []
        self._on_host: Tensor | None = None  # of the regions, for other processes

    def add_views(self, keys: list[bytes], features: VisionFeatures) -> None:
        """Features of N views and their keys."""
        if self._cache.views.capacity:
            self._views = keys, features, _are_finite(features.map, features.cls)

    def add_regions(self, keys: list[Digest], representation: Tensor) -> None:
        """(R, Q, C) and the inputs' keys."""
        if not keys or not (self._cache.regions.capacity or self._cache.shared):
            return
        self._regions = keys, representation, _are_finite(representation)
        if self._cache.shared is not None:
            self._on_host = to_host(representation.float())

    def add_given(self, given: Mapping[Digest, Tensor]) -> None:
        """Representations that another process computed, (Q, C) each. They are finite."""
        self._given = list(given.items())

    def keep(self) -> None:
        """Cache what is finite: a transient fault of the device must not be kept. The device must have computed it."""
        for key, given in self._given:
            alone = given.clone()
            self._cache.regions.put(key, alone, alone.nbytes)
        if self._views is not None:
            keys, features, finite = self._views
            for place in _places(finite):
                one = features.at(place)
                self._cache.views.put(keys[place], one, one.nbytes)
        if self._regions is not None:
            names, representation, finite = self._regions
            for place in _places(finite):
                own = representation[place].clone()  # a view would keep the whole batch in memory
                self._cache.regions.put(names[place], own, own.nbytes)
            if self._cache.shared is not None and self._on_host is not None:
                values = self._on_host.numpy()
                self._cache.shared.add({names[place]: values[place] for place in _places(finite)})


def represent(
    loaded: LoadedModel, inputs: Sequence[RegionInput], cache: FeatureCache, lap: Lap
) -> tuple[Tensor, NewFeatures]:
    """(R, Q, C) float32, without waiting for a GPU, and what is new to the cache.

    Laps: "shared" (where there is a shared cache), "encode", "represent".
    """
    revision = f"{loaded.network.config.revision} {loaded.dtype}"
    keys = [region_digest(revision, each.views.digests, each.views.boxes) for each in inputs]
    found = {key: cache.regions.get(key) for key in dict.fromkeys(keys)}
    missing = [key for key, value in found.items() if value is None]
    new = NewFeatures(cache)
    if cache.shared is not None and missing:
        given = _given(loaded, cache.shared.find(missing))
        new.add_given(given)
        found |= given
        missing = [key for key in missing if key not in given]
        lap("shared")
    computed = _compute(loaded, [inputs[keys.index(key)] for key in missing], revision, cache, new, lap)
    found |= dict(zip(missing, computed, strict=True))
    new.add_regions(missing, computed)
    if len(missing) < len(keys):
        computed = torch.stack([row for key in keys if (row := found[key]) is not None])
    lap("represent")
    return computed, new


def _given(loaded: LoadedModel, found: Mapping[Digest, NDArray[np.float32]]) -> dict[Digest, Tensor]:
    """What another process computed, on the device: (Q, C) each."""
    if not found:
        return {}
    rows = to_device(list(found.values()), loaded.device).to(loaded.network.query_tokens.dtype)
    return dict(zip(found, rows, strict=True))


def _compute(
    loaded: LoadedModel,
    inputs: Sequence[RegionInput],
    revision: str,
    cache: FeatureCache,
    new: NewFeatures,
    lap: Lap,
) -> Tensor:
    """Representations of distinct inputs, (R, Q, C)."""
    config = loaded.network.config
    if not inputs:
        return torch.empty(0, config.num_queries, config.qformer_config.hidden_size, device=loaded.device)
    features = _encode(loaded, inputs, revision, cache, new)
    lap("encode")
    boxes = to_device([each.views.boxes for each in inputs], loaded.device)
    return loaded.inference.represent(features, boxes)


def _encode(
    loaded: LoadedModel, inputs: Sequence[RegionInput], revision: str, cache: FeatureCache, new: NewFeatures
) -> VisionFeatures:
    """Features of all views of the inputs, in order; equal views are encoded once."""
    index, images = list[Digest](), dict[Digest, NDArray[np.uint8]]()
    for each in inputs:
        for digest, image in zip(each.views.digests, each.views.images, strict=True):
            index.append(digest)
            images.setdefault(digest, image)
    keys = {digest: revision.encode() + digest for digest in images}
    cached = {digest: cache.views.get(keys[digest]) for digest in images}
    missing = [digest for digest, features in cached.items() if features is None]
    parts = [features for features in cached.values() if features is not None]
    if missing:
        encoded = loaded.inference.encode(to_device([images[each] for each in missing], loaded.device))
        parts.append(encoded)
        new.add_views([keys[each] for each in missing], encoded)
    order = [digest for digest, features in cached.items() if features is not None] + missing
    if order == index:
        return VisionFeatures.join(parts)
    places = {digest: place for place, digest in enumerate(order)}
    rows = to_device([np.array(places[digest]) for digest in index], loaded.device)
    return VisionFeatures.join(parts).take(rows)


def _are_finite(values: Tensor, others: Tensor | None = None) -> Tensor:
    """Which rows are free of NaN and infinity, (N,) bool, on their way to the CPU."""
    finite = values.isfinite().flatten(1).all(dim=1)
    if others is not None:
        finite &= others.isfinite().all(dim=1)
    return to_host(finite)


def _places(flags: Tensor) -> list[int]:
    places: list[int] = flags.nonzero().flatten().tolist()
    return places
