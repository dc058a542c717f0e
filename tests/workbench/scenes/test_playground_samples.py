"""The samples of the playground are what their script makes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dynrefer.workbench.scenes import playground_samples


def test_the_committed_samples_are_what_the_script_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    committed = playground_samples.SAMPLES
    monkeypatch.setattr(playground_samples, "SAMPLES", tmp_path)
    playground_samples.main()
    made = json.loads((tmp_path / "samples.json").read_text(encoding="utf-8"))
    assert made == json.loads((committed / "samples.json").read_text(encoding="utf-8"))
    for sample in made:
        with Image.open(tmp_path / sample["file"]) as new, Image.open(committed / sample["file"]) as old:
            # Encoders of other versions may round otherwise.
            difference = np.abs(np.asarray(new.convert("RGB"), float) - np.asarray(old.convert("RGB"), float)).mean()
        assert difference < 1, sample["file"]
