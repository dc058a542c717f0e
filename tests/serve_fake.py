"""`python -m tests.serve_fake`: a real server process around the fake predictor with faults; settings from DYNREFER_*.

FAKE_RUN_SECONDS: how long each batch takes. FAKE_HANG_SECONDS, FAKE_SLOW_SECONDS: how long those faults take.
FAKE_BROKEN_LOAD: loading fails. FAKE_CONTINUOUS: regions join a batch at any time. FAKE_PIECE_SECONDS: it answers
questions, each two words of which take so long.
"""

import os
import sys
import time
from dataclasses import replace
from typing import Any

from dynrefer.model.errors import ModelNotFoundError
from dynrefer.service.server.server import exit_process, listen, serve
from dynrefer.service.server.unix_socket import unix_socket
from dynrefer.service.settings import load_settings
from tests.fake_converser import FakeConverserSpec
from tests.fakes import FakePredictor, slowly
from tests.faults import FaultyPredictor


class UnloadablePredictor(FakePredictor):
    """Fails in the warm-up, as a missing model does when it is loaded."""

    @property
    def preparation(self) -> Any:
        """Always fails."""
        raise ModelNotFoundError("the model directory 'nowhere' does not exist")


def load_another(location: str) -> FakePredictor:
    """Of what an administrator may let serve, the model of this name is the only one that there is."""
    if location != "embedded":
        raise ModelNotFoundError(f"there is no model directory {location!r}")
    return FaultyPredictor(in_processes=True)


def main() -> None:
    """Serve until a signal comes."""
    settings = load_settings()
    run_s = float(os.environ.get("FAKE_RUN_SECONDS", "0"))
    faulty = FaultyPredictor(run_hook=slowly(run_s), in_processes=True)
    if "FAKE_CONTINUOUS" in os.environ:
        faulty.batch = faulty.faulty_batch(run_s)
    if (piece_s := os.environ.get("FAKE_PIECE_SECONDS")) is not None:
        faulty.conversing, faulty.converse_hook = FakeConverserSpec(), lambda turn: time.sleep(float(piece_s))
        faulty.card = replace(faulty.card, conversation=True)
    predictor: FakePredictor = faulty
    for name in ("hang", "slow"):
        if seconds := os.environ.get(f"FAKE_{name.upper()}_SECONDS"):
            setattr(predictor, f"{name}_s", float(seconds))
    if "FAKE_BROKEN_LOAD" in os.environ:
        predictor = UnloadablePredictor()
    path = settings.unix_socket
    with unix_socket(path) if path else listen(settings.host, settings.port) as listener:
        code, sentence = serve(settings, listener, predictor, load_another)
    if sentence:
        print(f"dynrefer: {sentence}", file=sys.stderr)
    exit_process(code)


if __name__ == "__main__":
    main()
