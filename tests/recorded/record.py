"""Compare what the service and the command line answer now with what is recorded, or record them again.

    python -m tests.recorded.record             every difference, to the last digit: for the machine that recorded
    python -m tests.recorded.record --write     record again: only for an intended change of answers

`--program` names another `dynrefer` to run, such as one of another checkout.
"""

import argparse
import base64
import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

from PIL import Image

from tests.recorded.exchanges import RECORD, TASKS, commands, described, exchanges, log_keys, metric_names

_WORDS = re.compile(r"Listening on (http://\S+)")


@contextlib.contextmanager
def served(program: list[str]) -> Iterator[tuple[str, list[str]]]:
    """A server with the embedded model that is ready: its address, and the lines of its log as they come."""
    environment = {**os.environ, "DYNREFER_PORT": "0", "DYNREFER_LOG_FORMAT": "json", "DYNREFER_DEVICE": "cpu"}
    process = subprocess.Popen([*program, "serve"], stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    lines: list[str] = []
    address = ""
    for line in process.stderr:
        lines.append(line)
        if found := _WORDS.search(line):
            address = found.group(1)
        if '"ready:' in line:
            break
    assert address, "".join(lines)
    reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True)
    reader.start()
    try:
        yield address, lines
    finally:
        process.terminate()
        code = process.wait(60)
        reader.join(60)
    assert code == 0, "".join(lines)


def run_exchanges(program: list[str]) -> dict[str, Any]:
    """Everything that is recorded, of the program as it is now; `margins` apart."""
    with served(program) as (address, lines):
        found: dict[str, Any] = {"http": exchanges(address), "metrics": metric_names(address)}
    found["log keys"] = log_keys(lines)
    found["commands"] = commands(program)
    return found


def margins() -> dict[str, list[float]]:
    """Name of a request -> by how much each region's caption beat the next one in the search."""
    from dynrefer.model import DynRefer
    from dynrefer.model.networks.dynrefer import language

    second_best: list[float] = []
    search = language.search

    def both(stepper: Any, rows: Any, settings: Any, *rest: Any) -> Any:
        import dataclasses

        tokens, score = search(stepper, rows, dataclasses.replace(settings, num_return_sequences=2), *rest)
        second_best.extend((score[0::2] - score[1::2]).tolist())
        return tokens[0::2], score[0::2]

    language.search = both
    predictor = DynRefer.load("embedded", device="cpu")
    found = {}
    for name, document in described():
        tasks = document.get("task", TASKS)
        if "caption" in tasks:
            second_best.clear()
            image = Image.open(io.BytesIO(base64.b64decode(document["image"]["base64"])))
            boxes = [tuple(region["box"]) for region in document["regions"]]
            more = {key: document[key] for key in ("task", "views", "controls") if key in document}
            predictor.describe(image, boxes, **more)
            found[name] = list(second_best)
    language.search = search
    return found


def differences(recorded: Any, found: Any, where: str = "") -> Iterator[str]:
    """One line per place where two documents differ."""
    if isinstance(recorded, dict) and isinstance(found, dict):
        for key in [*recorded, *(key for key in found if key not in recorded)]:
            if key not in found:
                yield f"{where}/{key}: gone"
            elif key not in recorded:
                yield f"{where}/{key}: new"
            else:
                yield from differences(recorded[key], found[key], f"{where}/{key}")
    elif isinstance(recorded, list) and isinstance(found, list) and len(recorded) == len(found):
        for place, (one, other) in enumerate(zip(recorded, found, strict=True)):
            yield from differences(one, other, f"{where}/{place}")
    elif recorded != found:
        yield f"{where}: {json.dumps(recorded)[:160]} became {json.dumps(found)[:160]}"


def main() -> None:
    """See the head of this file."""
    parser = argparse.ArgumentParser(description="Compare today's answers with the recorded ones.")
    parser.add_argument("--write", action="store_true", help="record again")
    parser.add_argument("--program", default=f"{shlex.quote(sys.executable)} -m dynrefer.service.cli")
    options = parser.parse_args()
    found = run_exchanges(shlex.split(options.program))
    if options.write:
        document = json.dumps({**found, "margins": margins()}, indent=1, sort_keys=True)
        # A box, a list of names, a label on one line each.
        document = re.sub(r"[\[{]\s[^\[\]{}]*[\]}]", lambda found: " ".join(found[0].split()), document)
        RECORD.write_text(document + "\n", encoding="utf-8")
        return
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    del recorded["margins"]
    lines = list(differences(recorded, found))
    print("\n".join(lines) or "no difference")
    raise SystemExit(bool(lines))


if __name__ == "__main__":
    main()
