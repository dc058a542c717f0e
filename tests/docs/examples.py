"""The examples of the documentation: what a page tells its reader to run, and what it says comes back.

An example is a fenced block whose first line is a command or an import, and the block of JSON or text that stands right
behind it, if there is one. Answers may be shortened: a member "...": "..." stands for members that are left out, "..."
as the last item of a list for further items, and "..." at the end of a text for the rest of it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.repository import ROOT

ADDRESS = "http://127.0.0.1:8000"  # where `make serve` listens
FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
# With its further lines, which are indented, or up to the end of the text that it is given.
COMMAND = re.compile(
    r"^(curl|\.venv/bin/dynrefer (?:describe|detect|views|ask)) (?:[^\n]*<<END\n.*?^END\n|.*?\n(?=\S|\Z))",
    re.DOTALL | re.MULTILINE,
)
LEFT_OUT = "..."


@dataclass(frozen=True)
class Example:
    """page: from the checkout's root. kind: "curl", "dynrefer" or "python". answer: the block behind it, or empty."""

    page: str
    line: int
    kind: str
    text: str
    answer: str = ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def examples_of(page: Path) -> Iterator[Example]:
    """The examples of a Markdown file, in its order."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    blocks = list(FENCE.finditer(text))
    for place, block in enumerate(blocks):
        language, content = block.groups()
        line = text.count("\n", 0, block.start()) + 1
        behind = blocks[place + 1] if place + 1 < len(blocks) else None
        follows = behind is not None and not text[block.end() : behind.start()].strip()
        answer = behind[2] if behind is not None and follows and behind[1] in ("json", "text") else ""
        if language == "python":
            yield Example(name, line, "python", content, answer)
            continue
        commands = list(COMMAND.finditer(content)) if language in ("", "sh") else []
        answered = _answered(commands, in_json=answer.lstrip().startswith("{"))
        for command in commands:
            shown = answer if command is answered else ""
            yield Example(name, line, "curl" if command[1] == "curl" else "dynrefer", command[0], shown)


def _answered(commands: list[re.Match[str]], *, in_json: bool) -> re.Match[str] | None:
    """The command of a block whose answer stands behind it: the last one, of requests where it is JSON."""
    requests = [each for each in commands if each[1] == "curl"]
    chosen = requests if in_json and requests else commands
    return chosen[-1] if chosen else None


def differences(shown: Any, found: Any, place: str = "") -> Iterator[str]:
    """Where an answer is not what the page shows; numbers may differ by a hundredth, or by two in a hundred, and what
    is new with every request is not compared: its id and its times."""
    if place.endswith("/timings_ms") or (place == "/id" and str(shown).startswith("req_")):
        return
    if isinstance(shown, dict) and isinstance(found, dict):
        rest = set(shown) - {LEFT_OUT}
        if LEFT_OUT not in shown and (more := set(found) - rest):
            yield f"{place} has {sorted(more)} besides"
        for name in sorted(rest):
            if name not in found:
                yield f"{place} lacks {name!r}"
            else:
                yield from differences(shown[name], found[name], f"{place}/{name}")
    elif isinstance(shown, list) and isinstance(found, list):
        items = shown[:-1] if shown[-1:] == [LEFT_OUT] else shown
        if len(items) > len(found) or (items is shown and len(items) != len(found)):
            yield f"{place} has {len(found)} items"
        for index, (one, other) in enumerate(zip(items, found, strict=False)):
            yield from differences(one, other, f"{place}/{index}")
    elif isinstance(shown, str) and isinstance(found, str):
        if shown != found and not (shown.endswith(LEFT_OUT) and found.startswith(shown.removesuffix(LEFT_OUT))):
            yield f"{place} is {found!r}"
    elif isinstance(shown, int | float) and isinstance(found, int | float):
        if abs(shown - found) > max(0.01, 0.02 * abs(shown)):
            yield f"{place} is {found}"
    elif shown != found:
        yield f"{place} is {found!r}"
