"""`python -m tests.service.api.contract --examples N` has schemathesis ask a running service whatever its OpenAPI
document allows, and whatever it forbids; all checks are on.

The service is a real process around the fake predictor, with a key, so that the check of keys has something to check.
Ends with schemathesis' own exit code; prints how many requests were made.
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


def ask(examples: int, seed: int) -> subprocess.CompletedProcess[str]:
    """Start a service, have it asked, stop it."""
    with running("tests.serve_fake", DYNREFER_API_KEYS="sesame", DYNREFER_LOG_LEVEL="error") as server:
        server.await_ready()
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml")),
            *("run", server.address + "/openapi.json", "--no-color", "--checks", "all"),
            *("--header", "Authorization: Bearer sesame", "--seed", str(seed), "--max-examples", str(examples)),
        ]
        hooks = str(HERE / "schemathesis_hooks.py")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": hooks}
        with tempfile.TemporaryDirectory() as folder:  # it leaves what it has found where it runs
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert server.end() == 0
        return done


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=2_000, help="most examples per operation and phase")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    done = ask(options.examples, options.seed)
    print(done.stdout, done.stderr)
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
