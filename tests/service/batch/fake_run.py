"""`python -m tests.service.batch.fake_run IN OUT [ALSO...]`: a batch run around the fake predictor, in a process.

FAKE_RUN_SECONDS: how long each batch takes. FAKE_FIND: find the regions. FAKE_PROCESSES: so many prepare images, not
threads. RETRY_FAILED: as the option. FAKE_RAY: so many workers of a Ray cluster answer. FAKE_POISON: the first
coordinate of a box whose worker dies of it.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dynrefer.model import Corners, FindQuery
from dynrefer.service.batch.asking import Question
from dynrefer.service.batch.errors import BatchError
from dynrefer.service.batch.job import interrupt_on_sigterm, run_job
from dynrefer.service.batch.planning import Job
from dynrefer.service.settings import Settings
from tests.fake_finder import FakeFinderSpec
from tests.fakes import FakePredictor, slowly


def hook() -> Callable[[Sequence[Corners]], None]:
    """What happens to each batch."""
    wait, poison = slowly(float(os.environ.get("FAKE_RUN_SECONDS", "0"))), float(os.environ.get("FAKE_POISON", "-1"))

    def run(boxes: Sequence[Corners]) -> None:
        if any(box[0] == poison for box in boxes):
            os.kill(os.getpid(), signal.SIGKILL)
        wait(boxes)

    return run


def main() -> None:
    given, out, *also = map(Path, sys.argv[1:])
    processes = int(os.environ.get("FAKE_PROCESSES", "0"))
    find = FindQuery() if "FAKE_FIND" in os.environ else None
    ray: dict[str, Any] = {"engine": "ray", "replicas": os.environ["FAKE_RAY"]} if "FAKE_RAY" in os.environ else {}
    job = Job(
        given,
        out,
        Question({"task": ["caption"]}, find),
        Settings(worker_processes=processes, max_queue_regions=1_000_000, **ray),
        also=tuple(also),
        retry_failed="RETRY_FAILED" in os.environ,
    )
    interrupt_on_sigterm()
    try:
        code = run_job(job, FakePredictor(run_hook=hook(), finding=FakeFinderSpec(), in_processes=processes > 0))
    except BatchError as error:
        print(error, file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = 130
    os._exit(code)  # without the interpreter's own end, which takes its time


if __name__ == "__main__":
    main()
