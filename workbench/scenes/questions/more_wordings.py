"""More forms of questions, for training alone: none is held out, and none is near to a form that is.

They were written by people and language models that had seen no held-out form. What says a held-out wording of its
kind, or shares half of its words with a held-out skeleton of its kind, was taken out again; a test holds both.
`more_forms.json`: {"skeletons" and "follow_ups": {kind: [line, ...]}}, in the notation of `forms.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from dynrefer.workbench.scenes.questions.records import Kind

_GIVEN: Mapping[str, Mapping[str, list[str]]] = json.loads(
    Path(__file__).with_name("more_forms.json").read_text(encoding="utf-8")
)


def _by_kind(part: str) -> dict[Kind, tuple[str, ...]]:
    return {Kind(kind): tuple(lines) for kind, lines in _GIVEN[part].items()}


MORE_SKELETONS: dict[Kind, tuple[str, ...]] = _by_kind("skeletons")
MORE_FOLLOW_UPS: dict[Kind, tuple[str, ...]] = _by_kind("follow_ups")
