"""Attributes: properties of the region's object, such as "color:red". Source: paper, section 3.3 (D_rtc).

Shapes: R = regions, P = prompts, A = attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynrefer.model.records import JsonRecord
from dynrefer.model.tasks.scoring import NEAR_PRIOR, Floats, LabelTask, best_labels, sigmoid

if TYPE_CHECKING:
    from torch import Tensor

    from dynrefer.model.evidence.identity import Identity
    from dynrefer.model.loading import LoadedModel
    from dynrefer.model.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class AttributeLabel(JsonRecord):
    """An attribute "type:value"; `value` is the first of its synonyms. Scores as in `Label`."""

    name: str
    type: str
    value: str
    score: float
    probability: float


class AttributesTask(LabelTask[AttributeLabel]):
    """score = sigmoid of the logit of the attribute's best synonym."""

    name = "attributes"
    prior = NEAR_PRIOR
    record = AttributeLabel

    def names(self, vocabulary: Vocabulary) -> tuple[str, ...]:
        return tuple(attribute.name for attribute in vocabulary.attributes)

    def logits(self, loaded: LoadedModel, representation: Tensor) -> Tensor:
        return loaded.inference.score_attributes(representation)

    def finish(
        self, loaded: LoadedModel, output: Floats, identity: Identity | None, threshold: float | None, top_k: int
    ) -> tuple[AttributeLabel, ...]:
        attributes = {attribute.name: attribute for attribute in loaded.vocabulary.attributes}
        probabilities = sigmoid(self.calibrated(loaded, output))
        if identity is not None and identity.photograph:
            from dynrefer.model.evidence.labels import photograph_attributes

            probabilities = photograph_attributes(identity, loaded.vocabulary.attributes, probabilities)
            output = self.logits_of(loaded, probabilities)
        labels = best_labels(tuple(attributes), sigmoid(output), probabilities, threshold, top_k)
        return tuple(
            AttributeLabel(x.name, attributes[x.name].type, attributes[x.name].value, x.score, x.probability)
            for x in labels
        )
