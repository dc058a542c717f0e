"""`python -m tests.service.batch.fake_run IN OUT [ALSO...]`: a batch run around the fake predictor, in a process.

FAKE_RUN_SECONDS: how long each batch takes. FAKE_FIND: find the regions. FAKE_PROCESSES: so many prepare images, not
threads. RETRY_FAILED: as the option.
"""

import os
import sys
from pathlib import Path

from dynrefer.model import FindQuery
from dynrefer.service.batch.asking import Question
from dynrefer.service.batch.errors import BatchError
from dynrefer.service.batch.job import interrupt_on_sigterm, run_job
from dynrefer.service.batch.planning import Job
from dynrefer.service.settings import Settings
from tests.fake_finder import FakeFinderSpec
from tests.fakes import FakePredictor, slowly


def main() -> None:
    given, out, *also = map(Path, sys.argv[1:])
    processes = int(os.environ.get("FAKE_PROCESSES", "0"))
    find = FindQuery() if "FAKE_FIND" in os.environ else None
    job = Job(
        given,
        out,
        Question({"task": ["caption"]}, find),
        Settings(worker_processes=processes, max_queue_regions=1_000_000),
        also=tuple(also),
        retry_failed="RETRY_FAILED" in os.environ,
    )
    run_s = float(os.environ.get("FAKE_RUN_SECONDS", "0"))
    interrupt_on_sigterm()
    try:
        code = run_job(job, FakePredictor(run_hook=slowly(run_s), finding=FakeFinderSpec(), in_processes=processes > 0))
    except BatchError as error:
        print(error, file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = 130
    os._exit(code)  # without the interpreter's own end, which takes its time


if __name__ == "__main__":
    main()
