"""`python -m benchmarks.newcomer`: the path of somebody who has just heard of it, in a fresh clone and a fresh browser.

Clones what is committed into a temporary folder, runs `make serve`, sends the README's first request as soon as the
service takes it, and opens the page at / in chromium with an empty profile. Prints the seconds since the start at which
each step was done, and writes results/newcomer.json. Installing downloads some hundred MB where pip has no copies:
`installed` is mostly that.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from dynrefer.workbench.profiling.machine import provenance
from tests.browser.conftest import FLAGS
from tests.browser.playground_page import Playground
from tests.repository import ROOT

RESULT = Path(__file__).parent / "results" / "newcomer.json"
PATIENCE_S = 1_200
REQUEST = (
    "curl -sf {address}/v1/describe -F image=@benchmarks/photographs/tourist.jpg "
    """-F 'request={{"regions": [{{"box": [308, 190, 401, 258]}}], "task": "caption"}}'"""
)


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def first_answer(folder: Path, address: str, serving: subprocess.Popen[bytes], installed: Path) -> tuple[float, str]:
    """When the packages were installed (on the clock of `time.time`), and the first answer to the README's request."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if serving.poll() is not None:
            raise SystemExit("make serve ended; run it by hand to see why.")
        command = ["bash", "-c", REQUEST.format(address=address)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode == 0:
            return installed.stat().st_mtime, done.stdout
        time.sleep(0.2)
    raise SystemExit(f"there was no answer within {PATIENCE_S} seconds.")


def described_page(address: str) -> str:
    """Open the page, until it shows a description: its first caption."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        page = browser.new_page()
        page.goto(address)
        Playground(page).described()
        caption = page.locator(".word").first.text_content() or ""
        browser.close()
        return caption


def walk(folder: Path) -> dict[str, float | str]:
    """Walk it in a folder that is not there yet: step -> seconds since the start."""
    began = time.time()
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    steps: dict[str, float | str] = {"cloned": time.time() - began}
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    serving = subprocess.Popen(
        ["make", "serve", f"ARGS=--port {port}"], cwd=folder, env=environment, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}"
    try:
        installed, answer = first_answer(folder, address, serving, folder / ".venv" / ".serve")
        steps |= {"installed": installed - began, "first description": time.time() - began}
        steps["caption"] = json.loads(answer)["regions"][0]["caption"]["text"]
        described_page(address)
        steps["the page shows one"] = time.time() - began
    finally:
        os.killpg(serving.pid, signal.SIGTERM)
        serving.wait()
    return {name: round(each, 1) if isinstance(each, float) else each for name, each in steps.items()}


def main() -> None:
    """The command; the head of this file says what it does."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        steps = walk(Path(scratch) / "dynrefer")
    beyond = float(steps["first description"]) - float(steps["installed"])
    result = {**provenance(), "seconds": steps, "from installed to described": round(beyond, 1)}
    print(json.dumps(result, indent=1))
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
