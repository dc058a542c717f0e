"""Hand this machine's pip settings to a container build: docker/build_local.sh.

    python3 docker/pip_settings.py PIP_CONF

writes to PIP_CONF the settings that say how a package index is reached, and prints one `source:target:ro` a line: that
file as /etc/pip.conf, and every file and folder on this machine that a setting names, under its own name. Mounted while
the image is built, none of it stays in a layer.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Later sections win, as in pip; ":env:" holds the PIP_ variables.
SECTIONS = ("global", "install", ":env:")
INDEXES = ("index-url", "extra-index-url")
FILES_AND_FOLDERS = ("cert", "client-cert", "constraint", "find-links")
PASSED_ON = {*INDEXES, *FILES_AND_FOLDERS, "default-timeout", "no-index", "proxy", "retries", "timeout", "trusted-host"}


def passed_on(config_list: str) -> dict[str, list[str]]:
    """The settings in the output of `pip config list` that a build needs, each with its values."""
    found: dict[str, list[str]] = {}
    for section in SECTIONS:
        for name, value in re.findall(rf"^{section}\.([a-z-]+)=(.*)$", config_list, re.MULTILINE):
            if name in PASSED_ON:
                found[name] = str(ast.literal_eval(value)).split()
    return found


def local_path(name: str, value: str) -> Path | None:
    """The file or folder on this machine that a setting's value needs, or None where it names no local one."""
    if value.startswith("file:"):
        path = Path(unquote(urlsplit(value).path))
    elif name in FILES_AND_FOLDERS and "://" not in value:
        path = Path(value).expanduser()
    else:
        return None
    # The pages of an index refer to the packages beside it, ../../files/NAME: its parent folder comes along.
    return path.parent if name in INDEXES and path.parent != Path("/") else path


def mounts_and_file(settings: dict[str, list[str]]) -> tuple[list[Path], str]:
    """The paths to mount, and the text of pip.conf. A value that names a missing or a relative path is left out."""
    mounts: list[Path] = []
    lines = ["[global]"]
    for name, values in sorted(settings.items()):
        kept = []
        for value in values:
            path = local_path(name, value)
            if path is not None:
                if not (path.is_absolute() and path.exists()):
                    continue
                if path not in mounts:
                    mounts.append(path)
            kept.append(value)
        if kept:
            lines.append(f"{name} = {' '.join(kept)}")
    return mounts, "\n".join(lines) + "\n"


def main() -> None:
    """Write the file named by the first argument and print the mounts."""
    target = Path(sys.argv[1]).resolve()
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    mounts, text = mounts_and_file(passed_on(done.stdout))
    target.write_text(text, encoding="utf-8")
    print(f"{target}:/etc/pip.conf:ro", *(f"{path}:{path}:ro" for path in mounts), sep="\n")


if __name__ == "__main__":
    main()
