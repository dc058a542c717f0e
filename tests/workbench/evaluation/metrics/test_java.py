"""METEOR through its Java program on cases worked out by hand, and the message without Java."""

from __future__ import annotations

import pytest

from dynrefer.workbench.errors import MissingJavaError
from dynrefer.workbench.evaluation.metrics import caption_scores as captions
from dynrefer.workbench.evaluation.metrics import java
from dynrefer.workbench.evaluation.metrics.caption_scores import caption_metrics, cider_scores
from dynrefer.workbench.evaluation.metrics.java import meteor_scores
from tests.system_programs import needs_java

CAPTIONS = ["a red dog on grass", "zxq kqv", "", "no references", "beside an empty one"]
REFERENCES = [["the blue cup", "a red dog on grass"], ["zxq wqp vvk"], ["a dog"], [], [""]]


@needs_java
def test_meteor_by_hand() -> None:
    together, each = meteor_scores(CAPTIONS, REFERENCES)
    # The first is its best reference. In the second one of two words is right, of three: P = 1/2, R = 1/3; the
    # harmonic mean with alpha .85 is P R / (.85 P + .15 R) = .35088; one chunk of one match: penalty .6 * 1 ** .2.
    mean = (1 / 6) / (0.85 / 2 + 0.15 / 3)
    assert each == pytest.approx([1.0, mean * (1 - 0.6), 0.0, 0.0, 0.0], abs=1e-4)
    assert 0.0 < together < 1.0


def test_without_java_captions_have_cider_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java.shutil, "which", lambda name: None)
    assert not captions.has_java()
    found = caption_metrics(CAPTIONS[:2], REFERENCES[:2])
    assert found.meteor.value is None and found.tokenizer == "ours"
    assert found.cider.value == pytest.approx(cider_scores(CAPTIONS[:2], REFERENCES[:2]).mean())
    with pytest.raises(MissingJavaError, match="METEOR needs Java.*apt-get install default-jre-headless"):
        meteor_scores(CAPTIONS, REFERENCES)
