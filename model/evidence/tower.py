"""The evidence tower: EfficientNet-Lite2, trained on ImageNet's photographs, as int8 in ONNX Runtime.

Crops in, the logits of ImageNet's 1,000 classes and the last feature map out. `names.py` makes names of the logits,
the gate reads the map's mean, and the colour of an object its class activation map. Made by
`workbench/evidence/tower.py`, whose metadata in the file say from what.

Shapes: N = crops.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dynrefer.model.errors import WeightsError
from dynrefer.model.evidence.crops import SIDE
from dynrefer.model.evidence.session import first_run, open_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

CLASSES = 1000
MAP = (1280, 7, 7)

# Crops per call. A crop needs about 8 MB inside the network; more at once is not faster.
_PART = 8
_INPUT, _OUTPUTS, _WEIGHTS = "crops", ("logits", "map"), "class_weights"


@dataclass(frozen=True, slots=True)
class TowerOutput:
    """logits: (N, 1000) float32, before the softmax, in ImageNet's order. map: (N, 1280, 7, 7) float32, >= 0.

    The features are the map's mean over its last two axes, and the logits are linear in them.
    """

    logits: NDArray[np.float32]
    map: NDArray[np.float32]


class EvidenceTower:
    """The network in memory. Calls from several threads are allowed; each takes up to `threads` cores."""

    def __init__(self, session: InferenceSession, class_weights: NDArray[np.float32]) -> None:
        """class_weights: (1000, 1280) float32; the logits are the features times these, plus a bias."""
        self._session, self.class_weights = session, class_weights

    @classmethod
    def load(cls, path: Path, threads: int) -> EvidenceTower:
        """path: the .onnx file. threads: of one call, the caller's included.

        Raises `ModelNotFoundError` if there is no such file, `WeightsError` if it is damaged or of another network.
        """
        session = open_session(path, threads, "evidence tower")
        inputs = [(each.name, each.type, each.shape[1:]) for each in session.get_inputs()]
        outputs = {each.name: each.shape[1:] for each in session.get_outputs()}
        expected = {"logits": [CLASSES], "map": list(MAP), _WEIGHTS: [MAP[0]]}
        if inputs != [(_INPUT, "tensor(uint8)", [3, SIDE, SIDE])] or outputs != expected:
            raise WeightsError(f"{str(path)!r} is not an evidence tower: its inputs or outputs have other shapes.")
        shapes = {"logits": (1, CLASSES), "map": (1, *MAP), _WEIGHTS: (CLASSES, MAP[0])}
        found = first_run(session, {_INPUT: np.zeros((1, 3, SIDE, SIDE), dtype=np.uint8)}, shapes, path)
        return cls(session, found[_WEIGHTS])

    def run(self, crops: NDArray[np.uint8]) -> TowerOutput:
        """crops: (N, 3, 224, 224) uint8 RGB, N >= 0.

        A crop's numbers do not depend on the others: products of int8 are summed exactly, in any order.
        """
        count = len(crops)
        logits = np.empty((count, CLASSES), dtype=np.float32)
        maps = np.empty((count, *MAP), dtype=np.float32)
        for start in range(0, count, _PART):
            part = slice(start, start + _PART)
            logits[part], maps[part] = self._session.run(_OUTPUTS, {_INPUT: np.ascontiguousarray(crops[part])})
        return TowerOutput(logits, maps)
