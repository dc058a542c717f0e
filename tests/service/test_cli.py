"""The command line: help without torch, and one clear sentence for every usage error."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from dynrefer.service.command_files import read_image
from tests.service.conftest import image_bytes


def dynrefer(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dynrefer.service.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60)


def without(*modules: str) -> str:
    """Code that runs the command as if these modules were not installed; its arguments follow."""
    return (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({modules!r}))\n"
        "from dynrefer.service.cli import main\n"
        "sys.argv[0] = 'dynrefer'\n"
        "main()"
    )


def refused(*arguments: str, **environment: str) -> str:
    done = dynrefer(*arguments, **environment)
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    return done.stderr


def test_help_loads_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['dynrefer', '--help']\n"
        "from dynrefer.service.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'numpy', 'PIL', 'fastapi'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "serve" in done.stdout and "describe" in done.stdout and "views" in done.stdout


def test_serve_lists_every_setting() -> None:
    text = dynrefer("serve", "--help").stdout
    assert "--max-body-bytes" in text and "DYNREFER_PORT" in text and "--api-keys " not in text


@pytest.mark.parametrize("command", [["--help"], ["serve", "--help"], ["key", "bob"]])
def test_output_that_cannot_be_written_is_one_line(command: list[str]) -> None:
    called = [sys.executable, "-m", "dynrefer.service.cli", *command]
    with open("/dev/full", "w") as full:
        done = subprocess.run(called, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "dynrefer: cannot write to standard output: no space left on device."
    assert done.stderr.count("\n") == 1  # the key itself
    closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *called], stderr=subprocess.PIPE, text=True, timeout=60)
    assert closed.returncode == 2 and closed.stderr.splitlines()[-1].startswith("dynrefer: cannot write to standard")


def test_without_standard_error_only_the_exit_code_tells_a_failure() -> None:
    called = [sys.executable, "-m", "dynrefer.service.cli", "serve", "--portt", "1"]
    for how in ('"$@" 2>&-', '"$@" 2>/dev/full'):
        done = subprocess.run(["sh", "-c", how, "sh", *called], capture_output=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")


@pytest.mark.slow
def test_invalid_settings() -> None:
    assert "--portt" in refused("serve", "--portt", "1")
    assert "--port 'x'" in refused("serve", "--port", "x")
    assert "DYNREFER_MAX_BODY_BYTES" in refused("serve", DYNREFER_MAX_BODY="1")


@pytest.mark.server
def test_port_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1 port {port}" in refused("serve", "--port", str(port))


def test_serving_on_windows() -> None:
    """Where Python has no module `resource`."""
    done = subprocess.run([sys.executable, "-c", without("resource"), "serve"], capture_output=True, text=True)
    sentence = "`dynrefer serve` needs Linux or macOS; on Windows run it in a container or in WSL."
    assert (done.returncode, done.stderr) == (2, f"dynrefer: {sentence}\n")


@pytest.mark.parametrize(
    ("command", "extra"),
    [(["train"], "train"), (["evaluate", "--data", "x"], "evaluate"), (["bench", "model", "--help"], "train")],
)
def test_commands_of_the_workbench_where_it_is_not_installed(command: list[str], extra: str) -> None:
    code = without("dynrefer.workbench")
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    sentence = f"`dynrefer {command[0]}` is not part of this installation; pip install 'dynrefer[{extra}]' adds it."
    assert done.stderr == f"dynrefer: {sentence}\n"


def test_fitting_a_vocabulary_where_the_workbench_is_not_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", without("dynrefer.workbench"), "vocabulary", "fit", "coco", "--from", "x"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    sentence = "`dynrefer vocabulary fit` is not part of this installation; pip install 'dynrefer[train]' adds it."
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"dynrefer: {sentence}\n")


def test_without_the_workbench_help_lists_what_there_is() -> None:
    done = subprocess.run(
        [sys.executable, "-c", without("dynrefer.workbench"), "--help"], capture_output=True, text=True, check=True
    )
    listed = [line.split()[0] for line in done.stdout.split("Commands:")[1].splitlines() if line.strip()]
    shipped = ["serve", "key", "describe", "views", "convert", "detect", "ask", "batch", "reload", "corrections"]
    shipped.append("vocabulary")
    assert listed == shipped


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        (["evaluate", "--scenes-seed", "1"], "sklearn", "evaluate"),
        (["train", "--out", "{folder}/out"], "sklearn", "evaluate"),  # chooses thresholds in the end
        (
            ["train", "--out", "{folder}/out", "--train", "{folder}/a.json", "--images", "{folder}"],
            "tensorboard",
            "train",
        ),
        (["bench", "model"], "tqdm", "train"),
    ],
)
def test_a_package_that_is_not_installed(command: list[str], module: str, extra: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"images": [], "annotations": [], "categories": []}')
    arguments = [each.format(folder=tmp_path) for each in command]
    done = subprocess.run(
        [sys.executable, "-c", without(module), *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    assert module in done.stderr and f"pip install 'dynrefer[{extra}]'" in done.stderr


@pytest.mark.slow
def test_a_trusted_file_may_have_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)  # Pillow would refuse twice as many
    for name in ("large.png", "large.tif"):
        Image.new("1", (9_000, 7_000), 1).save(tmp_path / name)  # and the service more than 50 megapixels
        assert read_image(tmp_path / name).shape == (7_000, 9_000, 3)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["describe", "views"])
def test_invalid_images_boxes_and_files(command: str, tmp_path: Path) -> None:
    good, text = tmp_path / "a.png", tmp_path / "a.txt"
    good.write_bytes(image_bytes())
    text.write_text("hello")
    draw, box = ["--draw", str(tmp_path / "out.png")], ["--box", "1,2,3,4"]
    assert "no such file" in refused(command, str(tmp_path / "none.png"), *box, *draw)
    assert "accepted formats" in refused(command, str(text), *box, *draw)
    assert "1,2,3 is not four numbers" in refused(command, str(good), "--box", "1,2,3", *draw)
    assert "--box" in refused(command, str(good), *draw)
    if command == "describe":
        assert "1,2,x is not numbers" in refused(command, str(good), "--polygon", "1,2,x")
        assert "cannot read" in refused(command, str(good), "--mask", str(tmp_path / "none.png"))
        assert "The mask is not a PNG" in refused(command, str(good), "--mask", str(text))
        assert "neither one of coco, everyday, lvis, model nor a file" in refused(
            command, str(good), *box, "--vocabulary", "cocoa"
        )
        (tmp_path / "words.json").write_text('{"name": "mine", "categories": ["dog", ""]}')
        assert "at /categories/1: A word must not be empty." in refused(
            command, str(good), *box, "--vocabulary", str(tmp_path / "words.json")
        )
        assert "no language's tag" in refused(command, str(good), *box, "--language", "x y")
    assert "--task poem is unknown" in refused(command, str(good), *box, *draw, "--task", "poem")
    assert "no such folder" in refused(command, str(good), *box, "--draw", str(tmp_path / "no" / "out.png"))
    assert "ending" in refused(command, str(good), *box, "--draw", str(tmp_path / "out"))
    (tmp_path / "link.png").symlink_to("a.png")
    (tmp_path / "drawn.png").write_bytes(b"")
    for spelled in ("a.png", "link.png", f"../{tmp_path.name}/a.png"):
        onto_itself = refused(command, str(good), *box, "--draw", str(tmp_path / spelled), "--overwrite")
        assert "which this command reads" in onto_itself and good.read_bytes() == image_bytes()
    assert "pass --overwrite" in refused(command, str(good), *box, "--draw", str(tmp_path / "drawn.png"))
