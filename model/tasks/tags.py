"""Tags: which words of a large vocabulary describe the region. Source: paper, section 3.3 (D_tag)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynrefer.model.tasks.definition import TaskBatch
from dynrefer.model.tasks.scoring import CONTEXT_PRIOR, Floats, Label, LabelTask, best_labels, rows_on_cpu, sigmoid

if TYPE_CHECKING:
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

    def run(self, loaded: LoadedModel, batch: TaskBatch) -> list[Floats]:
        return rows_on_cpu(loaded.network.tag_decoder.score(batch.representation, loaded.prepared.tags))

    def uncalibrated(self, loaded: LoadedModel, logits: Floats) -> Floats:
        """The logits as they are: this head is trained without temperature and bias."""
        return logits

    def finish(self, loaded: LoadedModel, output: Floats, threshold: float | None, top_k: int) -> tuple[Label, ...]:
        probabilities = sigmoid(self.calibrated(loaded, output))
        return best_labels(loaded.vocabulary.tags, sigmoid(output), probabilities, threshold, top_k)
