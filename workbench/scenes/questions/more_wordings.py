"""More forms of questions, for training alone: none is held out, and none is near to a form that is.

They were written by language models that had seen no held-out form. What says a held-out wording of its kind, or shares
half of its words with a held-out skeleton of its kind, was taken out again; a test holds both.
`more_forms.json`: {"skeletons" and "follow_ups": {kind: [line, ...]}}, in the notation of `forms.py`.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Literal

from dynrefer.workbench.scenes.questions.records import Kind

_FILE = Path(__file__).with_name("more_forms.json")


@cache
def more_forms(part: Literal["skeletons", "follow_ups"]) -> dict[Kind, tuple[str, ...]]:
    """The lines of every kind: of questions, or of questions that go on from an answer about an object."""
    given = json.loads(_FILE.read_text(encoding="utf-8"))[part]
    return {Kind(kind): tuple(lines) for kind, lines in given.items()}
