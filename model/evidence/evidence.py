"""The evidence, assembled: crops of the original image -> what the object is, drawing or photograph.

Its crops are cut where images are prepared (`cutting.py`); all else runs on the device's thread, on the CPU.
Shapes: R = regions, K = names, D = features of the tower, C = categories of the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.errors import ConfigError, WeightsError
from dynrefer.model.evidence.colour import COLOURS, ColourParameters, activation_map, read_colour
from dynrefer.model.evidence.cutting import EvidenceCrops
from dynrefer.model.evidence.detector import EvidenceDetector, combine
from dynrefer.model.evidence.fusion import Fusion, check_classes, softmax
from dynrefer.model.evidence.gate import DrawnFeatures, Gate
from dynrefer.model.evidence.identity import Identity
from dynrefer.model.evidence.names import NAMES_FILE, EvidenceNames
from dynrefer.model.evidence.noun_graph import GRAPH_FILE, check_header
from dynrefer.model.evidence.settings import read_object
from dynrefer.model.evidence.tower import MAP, EvidenceTower
from dynrefer.model.model_files import read_arrays

FOLDER = "evidence"  # in a model directory: tower.onnx, detector.onnx, names.json, nouns.safetensors, gate.safetensors
GATE_FILE = "gate.safetensors"
FEATURES = MAP[0]  # D
DRAWN = ("region", "image")  # whose features the gate compares with those of drawings
SURE = 0.5  # least probability of a name that is said; below it a broader word is


@dataclass(slots=True)
class Sighting:
    """What tower and detector see of a region, whatever the network sees.

    logits: (1000,) the tower's. tower_names: (K,) its probabilities alone. names: (K,) with the detector's word,
    calibrated; None until a region is taken for a photograph, because the detector looks at photographs only.
    features, image_features: (D,) the tower's, of the region and of its image. activation: (7, 7) where in the crop the
    tower sees its best name.
    """

    logits: NDArray[np.float32]
    tower_names: NDArray[np.float32]
    features: NDArray[np.float32]
    image_features: NDArray[np.float32]
    activation: NDArray[np.float32]
    names: NDArray[np.float32] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, `names` included, which may come later."""
        always = (self.logits, self.tower_names, self.features, self.image_features, self.activation)
        return sum(each.nbytes for each in (*always, self.tower_names))


@dataclass(frozen=True)
class Evidence:
    """Tower, detector, names, gate and colour measure of one model. nouns: the file of its graph of nouns."""

    tower: EvidenceTower
    detector: EvidenceDetector
    names: EvidenceNames
    fusion: Fusion
    gate: Gate
    colour: ColourParameters
    nouns: Path

    @classmethod
    def load(cls, directory: Path, config: Mapping[str, Any], threads: int) -> Evidence:
        """directory: the model's. config: its key "evidence". threads: of tower and detector.

        Raises `ConfigError`, `ModelNotFoundError`, `WeightsError`.
        """
        folder = directory / FOLDER
        arrays = _arrays(folder / GATE_FILE)
        drawn, images = (
            DrawnFeatures(*(arrays[f"{what}_{part}"] for part in ("mean", "deviation", "directions"))) for what in DRAWN
        )
        names = EvidenceNames.load(folder / NAMES_FILE)
        check_classes(names, folder / NAMES_FILE)
        check_header(folder / GRAPH_FILE)  # read at the first word that is asked
        try:
            fusion, gate, colour = _fitted(config, names, drawn, images)
        except ConfigError as error:
            raise ConfigError(f"{directory / 'config.json'}: {error}") from error
        return cls(
            tower=EvidenceTower.load(folder / "tower.onnx", threads),
            detector=EvidenceDetector.load(folder / "detector.onnx", threads),
            names=names,
            fusion=fusion,
            gate=gate,
            colour=colour,
            nouns=folder / GRAPH_FILE,
        )

    @cached_property
    def category_names(self) -> tuple[str, ...]:
        """Everything that the categories of a photograph can hold: names and parents."""
        names = (entry.name for entry in self.names.names)
        return tuple(dict.fromkeys((*names, *(parent.name for parent in self.names.parents))))

    @cached_property
    def tag_names(self) -> tuple[str, ...]:
        """Everything that the tags of a photograph can hold: names, parents and colours."""
        return tuple(dict.fromkeys((*self.category_names, *COLOURS)))

    def look(self, crops: Sequence[EvidenceCrops]) -> list[Sighting]:
        """The tower on R regions. A region's numbers do not depend on the others."""
        if not crops:
            return []
        # An image is looked at once for all of its regions, and not again where it is one.
        distinct = {id(array): array for each in crops for array in (each.crop, each.image)}
        place = {key: index for index, key in enumerate(distinct)}
        seen = self.tower.run(np.stack(list(distinct.values())))
        features = seen.map.mean(axis=(2, 3))
        sightings = []
        for each in crops:
            own, whole = place[id(each.crop)], place[id(each.image)]
            names = self.fusion.tower_alone(seen.logits[own])
            where = activation_map(seen.map[own], self._own_weights(int(names.argmax())))
            sightings.append(Sighting(seen.logits[own], names, features[own], features[whole], where))
        return sightings

    def identify(
        self,
        crops: Sequence[EvidenceCrops],
        sightings: Sequence[Sighting],
        categories: NDArray[np.float32],
        category_names: Sequence[str],
    ) -> list[Identity]:
        """What the object of each region is. categories: (R, C) the network's probabilities of `category_names`."""
        if not crops:
            return []
        photograph = self.gate.probability(
            categories,
            np.stack([each.tower_names for each in sightings]),
            np.stack([each.features for each in sightings]),
            np.stack([each.image_features for each in sightings]),
        )
        identities = []
        for crop, seen, drawn, probability in zip(crops, sightings, categories, photograph.tolist(), strict=True):
            if probability > 0.5:
                identities.append(self._of_photograph(crop, seen, drawn, probability))
            else:
                identities.append(of_drawing(drawn, category_names, probability))
        return identities

    def _own_weights(self, name: int) -> NDArray[np.float32]:
        """Which features (D,) speak for a name more than for names in general."""
        own = self.tower.class_weights[list(self.names.names[name].classes)].mean(axis=0)
        return np.asarray(own - self._mean_weights, dtype=np.float32)

    @cached_property
    def _mean_weights(self) -> NDArray[np.float32]:
        return np.asarray(self.tower.class_weights.mean(axis=0))

    def _of_photograph(
        self, crop: EvidenceCrops, seen: Sighting, drawn: NDArray[np.float32], probability: float
    ) -> Identity:
        if seen.names is None:
            support = combine(self.detector.run(crop.windows, crop.boxes))
            seen.names = self.fusion.names_of(seen.logits, support, crop.coverage)
        best = int(seen.names.argmax())
        name, sure = self.names.names[best].name, float(seen.names[best])
        is_parent = sure < SURE
        if is_parent:
            parent, sure = self.names.best_parent(seen.names, at_least=SURE)
            name = parent.name
        colour = read_colour(*without_padding(crop, seen.activation), self.colour)
        said = None if self.names.noun(name).holds_colour else colour.said
        shares = self.names.shares(softmax(seen.logits))
        return Identity(name, sure, drawn, is_parent, True, probability, seen.names, colour.probabilities, said, shares)


def without_padding(
    crops: EvidenceCrops, activation: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Crop (3, 224, 224) and activation (7, 7) of the region alone, squeezed to squares."""
    height, width = crops.crop.shape[1:]
    x1, y1, x2, y2 = crops.place
    if (x1, y1, x2, y2) == (0, 0, width, height):
        return crops.crop, activation
    region = Image.fromarray(crops.crop[:, y1:y2, x1:x2].transpose(1, 2, 0)).resize((width, height))
    side = activation.shape[0]
    across, down = side / width, side / height
    seen = Image.fromarray(activation).resize(
        (side, side), Image.Resampling.BILINEAR, box=(x1 * across, y1 * down, x2 * across, y2 * down)
    )
    return np.asarray(region).transpose(2, 0, 1), np.asarray(seen, dtype=np.float32)


def of_drawing(
    categories: NDArray[np.float32], category_names: Sequence[str], photograph_probability: float = 0.0
) -> Identity:
    """The network's best category; categories: (C,) its probabilities of `category_names`."""
    best = int(categories.argmax())
    return Identity(
        category_names[best], float(categories[best]), categories, photograph_probability=photograph_probability
    )


def _fitted(
    config: Mapping[str, Any], names: EvidenceNames, drawn: DrawnFeatures, images: DrawnFeatures
) -> tuple[Fusion, Gate, ColourParameters]:
    """The parts that are numbers in the configuration."""
    known = {"fusion", "gate", "colour"}
    if set(read_object(config, "evidence")) != known:
        odd = sorted(set(config) ^ known)[0]
        raise ConfigError(f"evidence has an unknown key, or lacks one: {odd!r}; it holds {', '.join(sorted(known))}.")
    return (
        Fusion.from_config(config["fusion"], names),
        Gate.from_config(config["gate"], drawn, images),
        ColourParameters.from_mapping(config["colour"]),
    )


def _arrays(path: Path) -> dict[str, NDArray[np.float32]]:
    """What the gate knows of drawings: mean, deviation and directions of regions and of images."""
    names = [f"{what}_{part}" for what in DRAWN for part in ("mean", "deviation", "directions")]
    arrays = read_arrays(path, names, "gate's file")
    for name, array in arrays.items():
        if array.ndim != (2 if name.endswith("directions") else 1) or array.shape[-1] != FEATURES:
            raise WeightsError(f"{name!r} in {str(path)!r} has the shape {list(array.shape)}, not {FEATURES} features.")
        if name.endswith("deviation") and not (array > 0).all():
            raise WeightsError(f"{name!r} in {str(path)!r} holds a deviation that is not above 0.")
    return arrays
