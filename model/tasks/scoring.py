"""What the tasks that score labels share: sigmoid, calibration, and the choice of the best labels.

NumPy is imported by the functions that compute with it: the command line reads the tasks' names before it decides how
NumPy's threads wait (`dynrefer.service.set_thread_environment`).

Shapes: N = labels of a vocabulary.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from dynrefer.model.records import JsonRecord
from dynrefer.model.tasks.definition import TaskBatch, TaskDefinition

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from dynrefer.model.evidence.identity import Identity
    from dynrefer.model.loading import LoadedModel
    from dynrefer.model.vocabulary import Vocabulary

Floats: TypeAlias = "NDArray[np.float32]"
Record = TypeVar("Record")

# Priors for untuned weights: the paper's curves (figure 4) put the best second view at t = 0.1 for attributes and at
# 0.4 to 0.5 for captions; beyond 0.5 every task gets worse.
CONTEXT_PRIOR = (0.0, 0.4, 0.5, 0.3)
NEAR_PRIOR = (0.0, 0.1, 0.2, 0.3)


@dataclass(frozen=True, slots=True)
class Label(JsonRecord):
    """A tag or a category: `score` is the raw value, `probability` the calibrated one in [0, 1].

    level: "parent" for a broader word that stands in front of the categories of an object that the model is unsure of.
    """

    name: str
    score: float
    probability: float
    level: str | None = None


class LabelTask(TaskDefinition[Floats, tuple[Record, ...]]):
    """A task that scores every label of a vocabulary. Its output: logits (N,) float32."""

    stage = "heads"
    scored = True
    many = True

    @abstractmethod
    def names(self, vocabulary: Vocabulary) -> tuple[str, ...]:
        """The N labels, in the order of the logits."""

    @abstractmethod
    def logits(self, loaded: LoadedModel, representation: Tensor) -> Tensor:
        """(R, N) for representations (R, Q, C): on the device, without waiting for it."""

    def naming(self, loaded: LoadedModel, logits: Floats, identity: Identity | None) -> Floats:
        """Logits (N,) that agree with what the region's object is; by default as they are."""
        return logits

    def run(self, loaded: LoadedModel, batch: TaskBatch) -> list[Floats]:
        logits = rows_on_cpu(self.logits(loaded, batch.representation))
        return [self.naming(loaded, row, known) for row, known in zip(logits, batch.identities, strict=True)]

    def is_finite(self, output: Floats) -> bool:
        import numpy as np

        return bool(np.isfinite(output).all())

    def calibrated(self, loaded: LoadedModel, logits: Floats) -> Floats:
        """scale * logit + bias: as fitted, where the configuration has such a pair, else `uncalibrated`."""
        fitted = loaded.network.config.calibration.get(self.name)
        if fitted is None:
            return self.uncalibrated(loaded, logits)
        return (logits * float(fitted["scale"]) + float(fitted["bias"])).astype("float32")

    def logits_of(self, loaded: LoadedModel, probabilities: Floats) -> Floats:
        """The logits whose calibrated sigmoid these probabilities are: the inverse of `calibrated`."""
        import numpy as np

        low, high = self.calibrated(loaded, np.array([0.0, 1.0], dtype=np.float32)).tolist()
        logits: Floats = ((logit(probabilities) - low) / (high - low)).astype("float32")
        return logits

    def uncalibrated(self, loaded: LoadedModel, logits: Floats) -> Floats:
        """The logits with the temperature and bias with which the region-text head was trained."""
        return (logits * loaded.region_text_scale + loaded.region_text_bias).astype("float32")


def rows_on_cpu(logits: Tensor) -> list[Floats]:
    """(R, N) on the device -> R arrays (N,) float32."""
    return list(logits.float().cpu().numpy())


def sigmoid(logits: Floats) -> Floats:
    """Without overflow for large negative logits."""
    import numpy as np

    return (0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64)))).astype(np.float32)


def logit(probabilities: Floats) -> Floats:
    """The inverse of `sigmoid`, finite for 0 and 1 too."""
    import numpy as np

    inside = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    return np.log(inside / (1 - inside)).astype(np.float32)


def best_labels(
    names: Sequence[str], scores: Floats, probabilities: Floats, threshold: float | Floats | None, top_k: int
) -> tuple[Label, ...]:
    """The `top_k` best labels whose score is strictly above the threshold, best first, equal scores by name.

    threshold: one for all, or (N,).
    """
    import numpy as np

    with np.errstate(over="ignore"):  # a threshold beyond float32 becomes infinite, which is what it means
        chosen = np.arange(len(names)) if threshold is None else np.flatnonzero(scores > threshold)
    if len(chosen) > top_k > 0:  # sorting happens in Python, so first drop what cannot be among the best
        chosen = chosen[scores[chosen] >= np.partition(scores[chosen], -top_k)[-top_k]]
    ordered = sorted(chosen.tolist(), key=lambda i: (-float(scores[i]), names[i]))[:top_k]
    return tuple(Label(names[i], shortest(scores[i]), shortest(probabilities[i])) for i in ordered)


def shortest(value: float | np.float32) -> float:
    """The shortest decimal that is the same float32: 0.97, where float() gives 0.9700000286102295."""
    import numpy as np

    return float(str(np.float32(value)))
