"""The client against real services: its records are those of `DynRefer`, whatever a region is given as."""

import asyncio
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dynrefer import AsyncClient, Client, ConnectionFailed, DynRefer, ServerTooSlow
from dynrefer.model import (
    AlphaMask,
    BoxError,
    DamagedImageError,
    Explain,
    ImageError,
    MaskFile,
    Polygon,
    QueryError,
    RegionMask,
    Scribble,
    mask_from_bitmap,
)
from dynrefer.service.client import ImageRefused, InvalidRequest, NotFound, ServerFailed, Unauthorized
from tests.faults import Fault, box_of
from tests.repository import DOCS, ROOT
from tests.service.conftest import image_bytes
from tests.service.server.test_process import Server, running

pytestmark = pytest.mark.server

SCENE, CHELSEA = DOCS / "scene.png", DOCS / "chelsea.jpg"
TOP = (41, 2, 117, 82)
# What an answer does not say, or says of another run.
NOT_COMPARED = {"timings_ms", "candidates", "domain", "candidate"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running("dynrefer.service.cli", "serve", "--device", "cpu") as server:
        server.await_ready()
        yield server
        assert server.end() == 0


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


@pytest.fixture(scope="module")
def model() -> DynRefer:
    return DynRefer.load("embedded", device="cpu")


def differences(remote: Any, local: Any, where: str = "") -> Iterator[str]:
    """Where two records differ by more than the four digits that answers have."""
    if is_dataclass(local) and not isinstance(local, type):
        for each in fields(local):
            if each.name not in NOT_COMPARED:
                yield from differences(getattr(remote, each.name), getattr(local, each.name), f"{where}.{each.name}")
    elif isinstance(local, Mapping):
        if set(remote) != set(local):
            yield f"{where}: {list(remote)} and {list(local)}"
        else:
            for key in local:
                yield from differences(remote[key], local[key], f"{where}[{key}]")
    elif isinstance(local, tuple | list):
        if len(remote) != len(local):
            yield f"{where}: {len(remote)} and {len(local)} items"
        else:
            for place, (one, other) in enumerate(zip(remote, local, strict=True)):
                yield from differences(one, other, f"{where}[{place}]")
    elif isinstance(local, float):
        if not math.isclose(remote, local, rel_tol=1e-3, abs_tol=1e-3):
            yield f"{where}: {remote} and {local}"
    elif remote != local:
        yield f"{where}: {remote!r} and {local!r}"


def test_the_differences_bite() -> None:
    assert list(differences(RegionMask((3, 4), "a"), RegionMask((3, 5), "b"))) == [
        ".size[1]: 4 and 5", ".counts: 'a' and 'b'",
    ]  # fmt: skip
    assert list(differences([0.5, 1], [0.5004, 1])) == []
    assert len(list(differences({"a": 0.5}, {"a": 0.6}))) == 1


@pytest.mark.parametrize(
    ("image", "task", "options"),
    [
        (SCENE, None, {}),
        (CHELSEA, "caption", {}),
        (SCENE, ["tags", "caption"], {"controls": ["striped"], "top_k": 3, "thresholds": {"tags": 0.1}}),
        (CHELSEA, None, {"view_policy": "task_prior", "explain": Explain(thumbnails=True)}),
        (SCENE, "categories", {"views": (0.0, 0.2, 1.0), "vocabulary": {"categories": ["snowman", "blorf"]}}),
        (CHELSEA, None, {"vocabulary": "coco", "language": "de", "explain": True}),
    ],
)
def test_records_are_those_of_the_model(client: Client, model: DynRefer, image: Path, task: Any, options: Any) -> None:
    boxes = [TOP, (-5, 20.5, 90, 110)]
    remote, local = client.describe(image, boxes, task, **options), model.describe(image, boxes, task, **options)
    assert list(differences(remote, local)) == []
    assert remote.info.model == "dynrefer-embedded" and remote.info.image.width > 200
    if "explain" in options:
        assert [each.domain for each in remote] == [each.domain for each in local] != [None]


def bitmap() -> np.ndarray[Any, np.dtype[np.bool_]]:
    """A mask of the scene's size."""
    mask = np.zeros((231, 221), dtype=bool)
    mask[10:80, 45:110] = True
    return mask


def test_regions_of_every_kind(client: Client, model: DynRefer, tmp_path: Path) -> None:
    Image.fromarray(bitmap()).save(tmp_path / "mask.png")
    polygon = Polygon(((41, 40, 60, 4, 100, 2, 117, 40, 100, 82, 60, 82),))
    regions = [TOP, polygon, Scribble(((45, 70, 80, 4),)), mask_from_bitmap(bitmap())]
    regions.append(MaskFile((tmp_path / "mask.png").read_bytes()))
    points = [[(80, 40)], [(70, 100), (10, 10, False)]]
    remote = client.describe(SCENE, regions, "caption", points=points)
    local = model.describe(SCENE, regions, "caption", points=points)
    assert list(differences(remote, local)) == []
    assert remote[-1].mask is not None and remote[-1].mask.size == (231, 221)


def test_highlighted_regions_and_what_an_image_shows_itself(client: Client, model: DynRefer) -> None:
    mask = mask_from_bitmap(bitmap())
    remote = client.describe(SCENE, [mask], "tags", highlight=True)
    assert list(differences(remote, model.describe(SCENE, [mask], "tags", highlight=True))) == []
    for asked in (client, model):
        with pytest.raises(QueryError, match="can be highlighted"):
            asked.describe(SCENE, [TOP], highlight=True)
    shown = Image.open(SCENE).convert("RGB")
    shown.putalpha(Image.fromarray(bitmap()).convert("L"))
    assert client.describe(shown, [AlphaMask()], "tags")[0].box == (45, 10, 109, 79)


@pytest.mark.parametrize("kind", ["bytes", "array", "pillow"])
def test_images_of_every_kind(client: Client, model: DynRefer, kind: str) -> None:
    pillow = Image.open(CHELSEA)
    image = {"bytes": CHELSEA.read_bytes(), "array": np.asarray(pillow), "pillow": pillow}[kind]
    box = [(90, 40, 300, 250)]
    assert list(differences(client.describe(image, box, "tags"), model.describe(image, box, "tags"))) == []


def test_the_whole_image(client: Client, model: DynRefer) -> None:
    assert (
        list(differences(client.describe(SCENE, task="tags"), model.describe(SCENE, [(0, 0, 221, 231)], "tags"))) == []
    )
    assert client.describe(SCENE, []) == model.describe(SCENE, []) == []


@pytest.mark.parametrize(
    ("names", "phrase", "options"),
    [
        (["pig", "zebra", {"name": "snowman", "synonyms": ["snow man"]}], None, {"masks": True}),
        ((), "a red snowman above a pig", {"describe": ["caption", "tags"]}),
        ((), None, {"max_regions": 3, "threshold": 0.2}),
    ],
)
def test_what_is_found_is_what_the_model_finds(
    client: Client, model: DynRefer, names: Any, phrase: str | None, options: Any
) -> None:
    remote, local = client.detect(SCENE, names, phrase, **options), model.detect(SCENE, names, phrase, **options)
    if "describe" not in options:  # the model keeps what it looked at to name what it found
        local = replace(local, regions=tuple(replace(each, description=None) for each in local.regions))
    assert list(differences(remote, local)) == []
    assert remote.regions


def test_what_the_service_is(client: Client, model: DynRefer) -> None:
    served = client.model()
    untold = ("translations", "max_caption_tokens")  # for the service's own use
    for name in (each.name for each in fields(model.card) if each.name not in untold):
        assert getattr(served, name) == getattr(model.card, name), name
    assert served.limits["max_regions"] == 64
    assert client.is_ready()
    assert {"coco", "lvis", "everyday", "model"} <= {each.name for each in client.vocabularies()}
    assert client.vocabulary("coco").sizes == {"categories": 80}
    with pytest.raises(NotFound, match="Did you mean 'coco'"):
        client.vocabulary("cocoa")


def test_errors_are_those_of_the_model(client: Client, model: DynRefer) -> None:
    boxes = [TOP, (900, 900, 950, 950)]
    errors = []
    for asked in (client, model):
        with pytest.raises(QueryError) as caught:
            asked.describe(SCENE, boxes)
        errors.append(caught.value)
    assert (errors[0].index, errors[0].field) == (errors[1].index, errors[1].field) == (1, "box")
    assert (
        isinstance(errors[0], InvalidRequest) and isinstance(errors[1], BoxError) and str(errors[0]) == str(errors[1])
    )
    for asked in (client, model):
        with pytest.raises(ImageError, match="damaged"):
            asked.describe(CHELSEA.read_bytes()[:2_000], [TOP])
    with pytest.raises(ImageRefused, match="not one of the accepted formats"):
        client.describe(b"no image", [TOP])
    assert not issubclass(ImageRefused, DamagedImageError)


def test_a_region_that_fails_alone(client: Client) -> None:
    regions = client.describe(SCENE, [TOP, (900, 900, 950, 950)], "tags", on_region_error="report", ids=["a", "b"])
    assert isinstance(regions[1], InvalidRequest) and regions.info.ids == ("a", "b")
    assert "covers nothing" in str(regions[1]) and not isinstance(regions[0], Exception)


def test_an_async_client_says_the_same(server: Server, client: Client) -> None:
    async def run() -> Any:
        async with AsyncClient(server.address) as asked:
            return await asyncio.gather(asked.describe(SCENE, [TOP], "tags"), asked.detect(SCENE, ["pig"]))

    described, found = asyncio.run(run())
    assert list(differences(described, client.describe(SCENE, [TOP], "tags"))) == []
    assert list(differences(found, client.detect(SCENE, ["pig"]))) == []


def test_many_images(client: Client) -> None:
    images = [(SCENE, [TOP]), CHELSEA, "nothing.png", (CHELSEA.read_bytes(), [(90, 40, 300, 250)])]
    found = client.describe_many(images, "tags", concurrency=4)
    assert [len(each) if isinstance(each, list) else type(each) for each in found] == [1, 1, FileNotFoundError, 1]


# The command line


def command(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    called = [sys.executable, "-m", "dynrefer.service.cli", *map(str, arguments)]
    done = subprocess.run(called, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)
    assert done.returncode == code, done.stderr
    return done


def untimed(regions: Any) -> Any:
    """Without times, which differ from one request to the next."""
    return [{name: value for name, value in region.items() if name != "timings_ms"} for region in regions]


def test_describe_with_a_service(server: Server, client: Client) -> None:
    asked = ("describe", SCENE, "--server", server.address, "--point", "80,40", "--box", "41,2,117,82")
    options = ("--language", "de", "--explain", "--vocabulary", "coco")
    printed = json.loads(command(*asked, *options, "--json").stdout)
    given: Any = {"points": [[(80, 40)]], "language": "de", "explain": True, "vocabulary": "coco"}
    assert untimed(printed) == untimed(client.describe(SCENE, [TOP], **given).document["regions"])
    said = command(*asked, "--task", "caption").stdout
    assert said.startswith("region 0  box 41, 2, 117, 82\n  caption     a large red dotted snowman")


def test_detect_with_a_service(server: Server, client: Client) -> None:
    asked = ("detect", SCENE, "--server", server.address, "--name", "pig", "--name", "zebra", "--masks")
    printed = json.loads(command(*asked, "--describe", "tags", "--json").stdout)
    found = client.detect(SCENE, ["pig", "zebra"], describe="tags", masks=True)
    assert [each["label"] for each in printed["regions"]] == [each.label for each in found.regions] == ["pig"]
    assert printed["regions"][0]["tags"] and printed["regions"][0]["mask"]
    assert [each["name"] for each in printed["absent"]] == ["zebra"]
    assert "zebra                     is not there" in command(*asked).stdout


def test_a_drawing_of_what_a_service_says(server: Server, tmp_path: Path) -> None:
    drawn = tmp_path / "drawn.png"
    Image.fromarray(bitmap()).save(tmp_path / "mask.png")
    regions = ("--box", "41,2,117,82", "--mask", tmp_path / "mask.png")
    command("describe", SCENE, *regions, "--server", server.address, "--draw", drawn)
    assert Image.open(drawn).size >= (221, 231)


# A service with faults and a key


@pytest.fixture(scope="module")
def faulty() -> Iterator[Server]:
    with running("tests.serve_fake", DYNREFER_API_KEYS="sesame", FAKE_SLOW_SECONDS="30") as server:
        server.await_ready()
        yield server
        server.end()


def test_a_key(faulty: Server) -> None:
    with Client(faulty.address) as client:
        assert client.is_ready()
        with pytest.raises(Unauthorized, match="Send a valid key"):
            client.models()
    with Client(faulty.address, key="sesame") as client:
        assert client.model().name == "fake"


def test_a_service_that_takes_too_long_says_so_itself(faulty: Server) -> None:
    with Client(faulty.address, key="sesame") as client, pytest.raises(ServerTooSlow) as caught:
        client.describe(image_bytes(), [box_of(Fault.SLOW)], timeout=1.5)
    assert type(caught.value).__name__ == "DeadlinePassed" and getattr(caught.value, "status") == 504  # noqa: B009


def test_a_model_that_fails(faulty: Server) -> None:
    with Client(faulty.address, key="sesame") as client, pytest.raises(ServerFailed) as caught:
        client.describe(image_bytes(), [box_of(Fault.POISON)])
    assert caught.value.errors[0].pointer == "/regions/0" and "secret" not in str(caught.value)


def test_https_where_there_is_none(faulty: Server) -> None:
    url = faulty.address.replace("http:", "https:")
    with Client(url, key="sesame") as client, pytest.raises(ConnectionFailed, match="speaks no TLS; write http://"):
        client.models()


def test_a_command_takes_the_key_from_the_environment(faulty: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("describe", SCENE, "--box", "1,2,30,40", "--server", faulty.address, "--task", "tags")
    assert command(*asked, code=2).stderr == "dynrefer: Send a valid key as 'Authorization: Bearer KEY'.\n"
    monkeypatch.setenv("DYNREFER_KEY", "sesame")
    assert "tags" in command(*asked).stdout
    monkeypatch.delenv("DYNREFER_KEY")
    assert "tags" in command(*asked, "--key", "sesame").stdout
