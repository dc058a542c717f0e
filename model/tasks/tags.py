"""Tags: which words of a large vocabulary describe the region. Source: paper, section 3.3 (D_tag).

Shapes: N = tags of the vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynrefer.model.tasks.scoring import (
    CONTEXT_PRIOR,
    Floats,
    Label,
    LabelTask,
    best_labels,
    logit,
    sigmoid,
)

if TYPE_CHECKING:
    from torch import Tensor

    from dynrefer.model.evidence.evidence import Evidence
    from dynrefer.model.evidence.identity import Identity
    from dynrefer.model.loading import LoadedModel
    from dynrefer.model.vocabulary import Vocabulary


class TagsTask(LabelTask[Label]):
    """score = sigmoid of the logit."""

    name = "tags"
    prior = CONTEXT_PRIOR
    default_threshold = 0.7
    record = Label

    def names(self, vocabulary: Vocabulary) -> tuple[str, ...]:
        return vocabulary.tags

    def names_of_photographs(self, evidence: Evidence) -> tuple[str, ...]:
        return evidence.tag_names

    def logits(self, loaded: LoadedModel, representation: Tensor) -> Tensor:
        return loaded.inference.score_tags(representation)

    def uncalibrated(self, loaded: LoadedModel, logits: Floats) -> Floats:
        """The logits as they are: this head is trained without temperature and bias."""
        return logits

    def finish(
        self, loaded: LoadedModel, output: Floats, identity: Identity | None, threshold: float | None, top_k: int
    ) -> tuple[Label, ...]:
        if identity is not None and identity.photograph:
            return self._of_photograph(loaded, identity, threshold, top_k)
        probabilities = sigmoid(self.calibrated(loaded, output))
        return best_labels(loaded.vocabulary.tags, sigmoid(output), probabilities, threshold, top_k)

    def naming(self, loaded: LoadedModel, logits: Floats, identity: Identity | None) -> Floats:
        """Logits (N,) whose names of objects agree with the identity of a drawn object; as they are without one.

        The tags that are categories get the categories' probabilities; the identity's name, and no other, is above the
        model's threshold.
        """
        import numpy as np

        if identity is None:
            return logits
        vocabulary, agreeing = loaded.vocabulary, logits.copy()
        threshold = logit(np.array([loaded.network.config.thresholds[self.name]], dtype=np.float32))[0]
        named = self.logits_of(loaded, identity.categories)
        for category, value in zip(vocabulary.categories, named.tolist(), strict=True):
            place = vocabulary.tag_index.get(category)
            if place is not None:
                said = category == identity.name
                agreeing[place] = max(value, threshold + _ABOVE) if said else min(value, threshold)
        return agreeing

    def _of_photograph(
        self, loaded: LoadedModel, identity: Identity, threshold: float | None, top_k: int
    ) -> tuple[Label, ...]:
        """The evidence's names, parents and colours; a probability of a half has the score of the threshold."""
        import numpy as np

        from dynrefer.model.evidence.labels import photograph_tags

        assert loaded.evidence is not None
        found = photograph_tags(identity, loaded.evidence.names)
        own = np.array([loaded.network.config.thresholds[self.name]], dtype=np.float32)
        scores = sigmoid(logit(found.probabilities) + logit(own))
        return best_labels(found.names, scores, found.probabilities, threshold, top_k)


_ABOVE = 0.01  # of a logit: strictly above the threshold, also after rounding
