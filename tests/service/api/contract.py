"""`python -m tests.service.api.contract --examples N` has schemathesis send a running service requests that its OpenAPI
document allows, and requests that it forbids; all checks are on.

The service is a real process around the fake predictor, with an API key, so that the check of authentication applies.
Exits with schemathesis' own exit code; prints how many requests were made.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.repository import ROOT
from tests.service.server.test_process import running

HERE = Path(__file__).parent


def run_schemathesis(examples: int, seed: int) -> subprocess.CompletedProcess[str]:
    """Start a service, run schemathesis against it, stop it."""
    # The key of an administrator: its routes are in the document too.
    keys = {"DYNREFER_API_KEYS": "open", "DYNREFER_ADMIN_KEYS": "sesame"}
    with running("tests.serve_fake", DYNREFER_LOG_LEVEL="error", FAKE_PIECE_SECONDS="0", **keys) as server:
        server.await_ready()
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml")),
            *("run", server.address + "/openapi.json", "--no-color", "--checks", "all"),
            *("--header", "Authorization: Bearer sesame", "--seed", str(seed), "--max-examples", str(examples)),
        ]
        hooks = str(HERE / "schemathesis_hooks.py")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": hooks}
        with tempfile.TemporaryDirectory() as folder:  # schemathesis leaves its findings in the working directory
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert server.end() == 0
        return done


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=2_000, help="most examples per operation and phase")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    done = run_schemathesis(options.examples, options.seed)
    print(done.stdout, done.stderr)
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
