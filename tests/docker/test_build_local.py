"""docker/build_local.sh and docker/pip_settings.py, with stand-ins for the tools that need root: what a build sees of
the pip settings of this machine.
"""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.docker.scripts import docker_script
from tests.repository import ROOT

# Answers every question with yes, and writes its arguments down, one a line.
STAND_IN = """#!/bin/sh
printf '%s\\n' "$@" >>"$CALLS"
for argument in "$@"; do case $argument in --volume=*:/etc/pip.conf:ro)
    source=${argument#--volume=} && cat "${source%%:*}" >"$CALLS.pip.conf" ;; esac; done
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return docker_script("pip_settings")


def mounts_and_file(script: ModuleType, **settings: str) -> tuple[list[Path], list[str]]:
    """The mounts and the lines after [global] for settings in a file of pip's."""
    listed = "".join(f"global.{name.replace('_', '-')}={value!r}\n" for name, value in settings.items())
    mounts, text = script.mounts_and_file(script.passed_on(listed))
    head, *lines = text.splitlines()
    assert head == "[global]"
    return mounts, lines


def test_a_constraints_file_comes_along(script: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "constraints.txt"
    file.touch()
    assert mounts_and_file(script, constraint=str(file)) == ([file], [f"constraint = {file}"])


@pytest.mark.parametrize("setting", ["cert", "client_cert", "constraint", "find_links"])
def test_a_path_that_is_missing_or_relative_stays_out(script: ModuleType, setting: str, tmp_path: Path) -> None:
    for path in (tmp_path / "missing", "tests"):
        assert mounts_and_file(script, **{setting: str(path)}) == ([], [])


def test_an_index_in_a_folder_comes_along_with_the_packages_beside_it(script: ModuleType, tmp_path: Path) -> None:
    first, second = (tmp_path / name / "simple" for name in ("one", "with space"))
    for folder in (first, second):
        folder.mkdir(parents=True)
    value = f"{first.as_uri()} {second.as_uri()} https://host/simple {tmp_path.as_uri()}/missing/simple"
    mounts, (line,) = mounts_and_file(script, extra_index_url=value)
    assert mounts == [first.parent, second.parent]
    assert line == f"extra-index-url = {first.as_uri()} {second.as_uri()} https://host/simple"


def test_a_folder_named_twice_is_mounted_once(script: ModuleType, tmp_path: Path) -> None:
    value = f"{tmp_path}\n{tmp_path.as_uri()}\nhttps://host/wheels"
    mounts, (line,) = mounts_and_file(script, find_links=value)
    assert mounts == [tmp_path]
    assert line == f"find-links = {tmp_path} {tmp_path.as_uri()} https://host/wheels"


def test_only_what_reaches_an_index_is_passed_on(script: ModuleType) -> None:
    mounts, lines = mounts_and_file(script, index_url="https://host/simple", timeout="60", target="/opt", user="true")
    assert (mounts, lines) == ([], ["index-url = https://host/simple", "timeout = 60"])


def test_a_variable_wins_over_a_file(script: ModuleType) -> None:
    listed = ":env:.index-url='https://env'\nglobal.index-url='https://global'\ninstall.index-url='https://install'\n"
    assert script.passed_on(listed) == {"index-url": ["https://env"]}


def test_without_settings_the_file_is_empty(script: ModuleType) -> None:
    assert script.mounts_and_file(script.passed_on("")) == ([], "[global]\n")


def test_build_sees_the_settings_and_what_they_name(tmp_path: Path) -> None:
    tools, wheels, constraints = tmp_path / "tools", tmp_path / "wheels", tmp_path / "constraints.txt"
    for folder in (tools, wheels):
        folder.mkdir()
    constraints.touch()
    for name in ("buildah", "podman", "runc", "debootstrap"):
        (tools / name).write_text(STAND_IN, encoding="utf-8")
        (tools / name).chmod(0o755)
    environment = {
        **{
            "PATH": f"{tools}:/usr/sbin:/usr/bin:/sbin:/bin",
            "CALLS": str(tmp_path / "calls"),
            "PYTHON": sys.executable,
        },
        **{
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_CONSTRAINT": str(constraints),
            "PIP_FIND_LINKS": f"{wheels} {tmp_path}/no",
        },
    }
    command = [str(ROOT / "docker/build_local.sh"), "localhost/name", "--build-arg", "VARIANT=cuda"]
    subprocess.run(command, env=environment, capture_output=True, check=True)
    calls = (tmp_path / "calls").read_text(encoding="utf-8").splitlines()
    volumes = [call.removeprefix("--volume=") for call in calls if call.startswith("--volume=")]
    assert volumes[0].endswith(":/etc/pip.conf:ro")
    assert volumes[1:] == [f"{path}:{path}:ro" for path in (constraints, wheels)]
    settings = (tmp_path / "calls.pip.conf").read_text(encoding="utf-8")
    assert settings == f"[global]\nconstraint = {constraints}\nfind-links = {wheels}\n"
    assert calls[-5:] == ["--tag", "localhost/name", "--build-arg", "VARIANT=cuda", "."]
    assert not Path(volumes[0].split(":")[0]).exists()  # the temporary file is gone
