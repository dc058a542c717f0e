"""Categories: what the region's object is, one of a closed set. Source: paper, section 3.3 (D_rtc).

Shapes: K = categories.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynrefer.model.tasks.scoring import NEAR_PRIOR, Floats, Label, LabelTask, best_labels, shortest

if TYPE_CHECKING:
    from torch import Tensor

    from dynrefer.model.evidence.evidence import Evidence
    from dynrefer.model.evidence.identity import Identity
    from dynrefer.model.loading import LoadedModel
    from dynrefer.model.vocabulary import Vocabulary


class CategoriesTask(LabelTask[Label]):
    """score = the raw logit; probability = softmax of the calibrated logits over the vocabulary."""

    name = "categories"
    prior = NEAR_PRIOR
    record = Label

    def names(self, vocabulary: Vocabulary) -> tuple[str, ...]:
        return vocabulary.categories

    def logits(self, loaded: LoadedModel, representation: Tensor) -> Tensor:
        return loaded.inference.score_categories(representation)

    def names_of_photographs(self, evidence: Evidence) -> tuple[str, ...]:
        return evidence.category_names

    def probabilities(self, loaded: LoadedModel, logits: Floats) -> Floats:
        """Softmax of the calibrated logits (K,) over the vocabulary."""
        import numpy as np

        calibrated = self.calibrated(loaded, logits)
        exponentials = np.exp(calibrated - calibrated.max())
        probabilities: Floats = (exponentials / exponentials.sum()).astype("float32")
        return probabilities

    def finish(
        self, loaded: LoadedModel, output: Floats, identity: Identity | None, threshold: float | None, top_k: int
    ) -> tuple[Label, ...]:
        if identity is not None and identity.photograph:
            return self._of_photograph(loaded, identity, threshold, top_k)
        probabilities = self.probabilities(loaded, output)
        return best_labels(loaded.vocabulary.categories, output, probabilities, threshold, top_k)

    def _of_photograph(
        self, loaded: LoadedModel, identity: Identity, threshold: float | None, top_k: int
    ) -> tuple[Label, ...]:
        """The evidence's names; the parent that is said instead of an unsure name stands in front and counts."""
        assert loaded.evidence is not None
        names = tuple(entry.name for entry in loaded.evidence.names.names)
        scores = self.scores_of(loaded, identity.names)
        leaves = best_labels(names, scores, identity.names, threshold, top_k)
        if not identity.is_parent:
            return leaves
        probability = shortest(identity.probability)
        score = self.scores_of(loaded, identity.names[:1] * 0 + identity.probability)[0]
        if threshold is not None and score <= threshold:
            return leaves
        return (Label(identity.name, shortest(score), probability, "parent"), *leaves)[:top_k]

    def scores_of(self, loaded: LoadedModel, probabilities: Floats) -> Floats:
        """Logits whose calibrated softmax these probabilities are."""
        import numpy as np

        low, high = self.calibrated(loaded, np.array([0.0, 1.0], dtype=np.float32)).tolist()
        scores: Floats = (np.log(np.maximum(probabilities, _LEAST)) / (high - low)).astype("float32")
        return scores


_LEAST = 1e-9  # probability, of which a logarithm is taken
