"""`python -m benchmarks.scale_soak.traffic PLAN.json OUT.jsonl`: mixed requests that arrive as a Poisson process.

In a process of its own. Most clients wait for their answer; some leave, some ask for a short deadline, some send
slowly. Each request has an id of its own. Writes one JSON line per request, a `Record`, when it is over.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from benchmarks.scale_out.exchanges import Answer, Left, Manner, Pool
from benchmarks.scale_soak.catalogue import Asked, catalogue, chosen
from benchmarks.scale_soak.verdicts import FORBIDDEN, Expected, verdict

DEADLINE_S = 60.0  # request_timeout_s of the service, the default
PATIENCE_S = DEADLINE_S + 30.0  # an answer that takes longer counts as lost
BEHAVIOURS = {"waits": 84.0, "leaves": 6.0, "is in a hurry": 5.0, "sends slowly": 5.0}
KEPT_WRONG = 20


@dataclass(frozen=True)
class Plan:
    """rate: requests per second, over `seconds`. expected: the file of `write_expected`."""

    host: str
    port: int
    rate: float
    seconds: float
    expected: str
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Record:
    """due: `time.time()`. seconds: from then to the end of the answer. text: of an error."""

    id: str
    behaviour: str
    kind: str
    name: str
    regions: int
    due: float
    seconds: float
    status: int
    verdict: str
    text: str = ""


class Traffic:
    """Carries out a plan."""

    def __init__(self, plan: Plan, out: IO[str]) -> None:
        self._plan, self._out = plan, out
        self._rng = random.Random(plan.seed)
        self._expected = read_expected(Path(plan.expected))
        self._pool = Pool(plan.host, plan.port)
        self._kept = 0

    async def run(self) -> None:
        """Until the last answer."""
        began, due, number = time.perf_counter(), 0.0, 0
        async with asyncio.TaskGroup() as group:
            while due < self._plan.seconds:
                await asyncio.sleep(max(0.0, began + due - time.perf_counter()))
                group.create_task(self._one(f"soak-{number}", began + due))
                number += 1
                due += self._rng.expovariate(self._plan.rate)
        self._pool.close()

    async def _one(self, request_id: str, due: float) -> None:
        asked = chosen(self._rng)
        behaviour = self._rng.choices(list(BEHAVIOURS), list(BEHAVIOURS.values()))[0]
        deadline_s = self._rng.uniform(0.05, 1.0) if behaviour == "is in a hurry" else DEADLINE_S
        headers = {"X-Request-Id": request_id, "Content-Type": asked.content_type}
        if behaviour == "is in a hurry":
            headers["X-Request-Timeout"] = f"{deadline_s:.3f}"
        manner = Manner(
            slow_s=2.0 if behaviour == "sends slowly" else 0.0,
            leave_after_s=self._rng.uniform(0, 0.5) if behaviour == "leaves" else None,
            patience_s=PATIENCE_S,
        )
        at = time.time()
        try:
            answer = await self._pool.ask(asked.path, headers, asked.body, manner, due)
            found = verdict(answer, self._expected[asked.name], deadline_s)
        except Left:
            answer, found = Answer(0, time.perf_counter() - due), "left"
        text = answer.error or (answer.body.decode(errors="replace")[:300] if answer.status not in (0, 200) else "")
        seconds = round(answer.seconds, 4)
        record = Record(
            request_id, behaviour, asked.kind, asked.name, asked.regions, at, seconds, answer.status, found, text
        )
        self._out.write(json.dumps(asdict(record)) + "\n")
        self._out.flush()
        if found in FORBIDDEN and self._kept < KEPT_WRONG:
            self._kept += 1
            Path(f"{self._out.name}.{request_id}.{found}").write_bytes(answer.body)


async def ask_all(host: str, port: int, requests: Sequence[Asked]) -> dict[str, Answer]:
    """Each request once, one after another."""
    pool, found = Pool(host, port), {}
    for each in requests:
        found[each.name] = await pool.ask(each.path, {"Content-Type": each.content_type}, each.body)
    pool.close()
    return found


def write_expected(host: str, port: int, path: Path) -> None:
    """Ask a plain service everything and keep what it says. Raises SystemExit for what may not be its answer."""
    answers = asyncio.run(ask_all(host, port, catalogue()))
    for asked in catalogue():
        status = answers[asked.name].status
        if (status == 200) == (asked.kind == "bad") or not 200 <= status < 500:
            raise SystemExit(f"scale_soak: a plain service answers {asked.name!r} with {status}.")
    kept = {name: {"status": each.status, "body": each.body.decode()} for name, each in answers.items()}
    path.write_text(json.dumps(kept), encoding="utf-8")


def read_expected(path: Path) -> dict[str, Expected]:
    """What `write_expected` wrote."""
    from benchmarks.scale_soak.catalogue import essence

    kept = json.loads(path.read_text(encoding="utf-8"))
    return {name: Expected(each["status"], essence(each["body"].encode())) for name, each in kept.items()}


def read_records(path: Path) -> list[Record]:
    """What a run wrote."""
    return [Record(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """The command."""
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    with Path(sys.argv[2]).open("w", encoding="utf-8") as out:
        asyncio.run(Traffic(plan, out).run())


if __name__ == "__main__":
    main()
