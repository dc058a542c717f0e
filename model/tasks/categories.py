"""Categories: what the region's object is, one of a closed set. Source: paper, section 3.3 (D_rtc)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynrefer.model.tasks.definition import TaskBatch
from dynrefer.model.tasks.scoring import NEAR_PRIOR, Floats, Label, LabelTask, best_labels, rows_on_cpu

if TYPE_CHECKING:
    from dynrefer.model.loading import LoadedModel
    from dynrefer.model.vocabulary import Vocabulary


class CategoriesTask(LabelTask[Label]):
    """score = the raw logit; probability = softmax of the calibrated logits over the vocabulary."""

    name = "categories"
    prior = NEAR_PRIOR
    record = Label

    def names(self, vocabulary: Vocabulary) -> tuple[str, ...]:
        return vocabulary.categories

    def run(self, loaded: LoadedModel, batch: TaskBatch) -> list[Floats]:
        return rows_on_cpu(loaded.network.region_text_decoder.score(batch.representation, loaded.prepared.categories))

    def finish(self, loaded: LoadedModel, output: Floats, threshold: float | None, top_k: int) -> tuple[Label, ...]:
        import numpy as np

        logits = self.calibrated(loaded, output)
        exponentials = np.exp(logits - logits.max())
        probabilities = exponentials / exponentials.sum()
        return best_labels(loaded.vocabulary.categories, output, probabilities, threshold, top_k)
