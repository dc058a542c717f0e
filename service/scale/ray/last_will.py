"""What happens to the rest of a local cluster when this process ends, even if it is killed.

The kernel kills what this process has started itself, and Ray's workers end with those. The two agents of a node first
try to tell the control process of the death, which is dead too, for a minute; and nobody is left to remove the folder.
So a shell waits for the end of a pipe from this process.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

EXECUTION_S = 10.0
# $0: the folder; the other arguments: ids of processes. A number may have become another process's: its name tells.
SCRIPT = """
read -r _
for pid; do
    name=; read -r name < "/proc/$pid/comm" && case $name in ray::*) kill -9 "$pid"; late=1;; esac
done
[ -n "$late" ] && sleep 3
rm -rf -- "$0"
"""


@contextmanager
def last_will(folder: Path, raylet: int) -> Iterator[None]:
    """At the end of the block or of this process, the raylet's children of now are killed and the folder is removed."""
    agents = [pid for each in Path(f"/proc/{raylet}/task").glob("*/children") for pid in each.read_text().split()]
    try:
        shell = subprocess.Popen(
            ["/bin/sh", "-c", SCRIPT, str(folder), *agents],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # the end of a terminal does not end it
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath)},  # and none of the service's secrets
        )
    except OSError:  # a system without a shell: a minute's wait, and the next start removes the folder
        yield
        return
    try:
        yield
    finally:
        assert shell.stdin is not None
        shell.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            shell.wait(EXECUTION_S)
