"""What begins before the modules that need it are there."""

import threading
from pathlib import Path

import pytest

from dynrefer.model.device_start import begin_start, read_ahead
from dynrefer.model.loading import EMBEDDED

WAIT_S = 30


@pytest.mark.parametrize(("device", "expected"), [("cpu", []), ("auto", ["auto"]), ("cuda:1", ["cuda:1"])])
def test_a_gpu_is_initialised_beside_the_start(device: str, expected: list[str]) -> None:
    asked, may_end = list[str](), threading.Event()

    def initialise(name: str) -> None:
        may_end.wait(WAIT_S)
        asked.append(name)

    begun = begin_start("embedded", device, initialise)
    assert asked == []  # nobody waits for it
    may_end.set()
    begun.join(WAIT_S)
    assert asked == expected


def test_what_fails_is_left_to_loading(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def initialise(name: str) -> None:
        raise RuntimeError("no driver")

    begin_start(str(tmp_path / "nowhere"), "auto", initialise).join(WAIT_S)
    assert capsys.readouterr() == ("", "")


def test_all_weights_of_a_directory_are_read_ahead(tmp_path: Path) -> None:
    for name, size in (("model-00001-of-00002.safetensors", 3), ("model-00002-of-00002.safetensors", 5), ("x.json", 7)):
        (tmp_path / name).write_bytes(bytes(size))
    assert read_ahead(tmp_path) == 8
    assert read_ahead(tmp_path / "nowhere") == 0
    assert read_ahead(EMBEDDED) > 1 << 20
