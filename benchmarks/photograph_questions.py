"""`python -m benchmarks.photograph_questions`: sixty questions about photographs, asked as users ask.

benchmarks/photographs/questions.json was written by looking at the pictures before any model had answered; nothing is
trained or chosen on it. Names: an accepted one, and no second object beside it. Colours: only accepted ones. Where: the
first box of the answer meets the object's at IoU >= .5. Standard errors are over photographs.

    python -m benchmarks.photograph_questions [--converser DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.conversing import loaded
from dynrefer.model import DynRefer
from dynrefer.model.conversation import Reply
from dynrefer.model.types import Corners
from dynrefer.workbench.evaluation.conversing import answer_words as said
from dynrefer.workbench.evaluation.conversing.judge import LEAST_OVERLAP, overlap
from dynrefer.workbench.evaluation.metrics.caption_claims import colours_in, named_in
from dynrefer.workbench.evaluation.metrics.standard_errors import bootstrap_error, bootstrap_weights
from dynrefer.workbench.profiling.machine import provenance

PHOTOGRAPHS = Path(__file__).parent / "photographs"
KINDS = ("name", "colour", "count", "yes_no", "relation", "where")
_SEVERAL = re.compile(r",|\band\b|\bor\b|\bnot\b")


@dataclass(frozen=True)
class PhotographQuestion:
    """regions: id -> box; they and `box` in pixels of the file. accepted: the answers that are right."""

    file: str
    kind: str
    question: str
    regions: dict[str, Corners]
    accepted: tuple[str, ...]
    box: Corners | None


@dataclass(frozen=True)
class Answered:
    """A question, what was answered, and whether it is right. cannot_tell: whether the answer says that it does not
    know, which is wrong too, but misleads nobody."""

    file: str
    kind: str
    question: str
    accepted: tuple[str, ...]
    answer: str
    right: bool
    cannot_tell: bool


def read_questions(path: Path = PHOTOGRAPHS / "questions.json") -> list[PhotographQuestion]:
    """All questions, in the order of the file."""
    return [
        PhotographQuestion(
            each["file"],
            each["kind"],
            each["question"],
            {name: _corners(box) for name, box in each["regions"].items()},
            tuple(each["accepted"]),
            None if each["box"] is None else _corners(each["box"]),
        )
        for each in json.loads(path.read_text("utf-8"))
    ]


def _corners(box: list[float]) -> Corners:
    x1, y1, x2, y2 = map(float, box)
    return x1, y1, x2, y2


def is_right(question: PhotographQuestion, reply: Reply) -> bool:
    """Whether a reply is right; never where it says that it cannot tell."""
    text, accepted = reply.content, question.accepted
    if said.does_not_know(text):
        return False
    if question.kind == "where":
        first = reply.grounding[:1]
        return bool(first) and question.box is not None and overlap(first[0].box, question.box) >= LEAST_OVERLAP
    if question.kind == "yes_no":
        return said.yes_or_no(text) == accepted[0]
    if question.kind == "count":
        return said.numbers(text) == {int(accepted[0])}
    if question.kind == "colour":
        found = set(colours_in(text))
        return bool(found) and found <= set(accepted) and "not" not in said.plain(text).split()
    if question.kind == "relation":
        found = said.relations(text)
        return (bool(found) and found <= set(accepted)) or (not found and said.says_one_of(text, accepted))
    return named_in(text, accepted) and not _SEVERAL.search(text.lower())


def answers(model: DynRefer, questions: list[PhotographQuestion]) -> list[Answered]:
    """Every question put to the model."""
    found = []
    for each in questions:
        reply = model.ask(PHOTOGRAPHS / each.file, each.question, dict(each.regions))
        unknown = said.does_not_know(reply.content)
        right = is_right(each, reply)
        found.append(Answered(each.file, each.kind, each.question, each.accepted, reply.content, right, unknown))
    return found


def summary(found: list[Answered]) -> dict[str, dict[str, float]]:
    """Kind, and "all" -> how many questions, the part that is right with its error, and that the model cannot tell."""
    rows = {}
    for kind in ("all", *KINDS):
        of = [each for each in found if kind in ("all", each.kind)]
        files = sorted({each.file for each in of})
        sums = np.array([[sum(e.right for e in of if e.file == f), sum(e.file == f for e in of)] for f in files])
        drawn = bootstrap_weights(len(files)) @ sums
        rows[kind] = {
            "questions": len(of),
            "right": round(float(sums[:, 0].sum() / len(of)), 4),
            "error": round(bootstrap_error(drawn[:, 0] / drawn[:, 1]), 4),
            "cannot_tell": round(sum(each.cannot_tell for each in of) / len(of), 4),
        }
    return rows


def main() -> None:
    """Ask, print, and write the file where one is asked for."""
    parser = argparse.ArgumentParser(description="Ask questions about photographs.")
    parser.add_argument("--converser", default="embedded", help="embedded, or a directory [default: %(default)s]")
    parser.add_argument("--weights", default="embedded", help="the model that describes [default: %(default)s]")
    parser.add_argument("--json", type=Path, help="write the figures and all answers to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, _ = loaded(options.converser, options.weights)
    found = answers(model, read_questions())
    for each in found:
        print("right" if each.right else "wrong", f"{each.file}: {each.question} -> {each.answer}")
    rows = summary(found)
    for kind, row in rows.items():
        print(f"{kind:10}", row)
    if options.json is not None:
        report = {
            **provenance(),
            "converser": options.converser,
            "by_kind": rows,
            "answers": [asdict(each) for each in found],
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
