"""What annotators correct: lines in a folder, by webhooks and from exports."""

import asyncio
import json
import multiprocessing
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import typer
from fastapi.testclient import TestClient
from httpx2 import Response
from typer.testing import CliRunner

from dynrefer.service.app import create_app
from dynrefer.service.corrections_command import corrections_command
from dynrefer.service.integrations.label_studio import webhooks
from dynrefer.service.integrations.label_studio.corrections_folder import (
    CorrectionsFolder,
    FolderFullError,
    Index,
    NoImageError,
)
from dynrefer.service.integrations.label_studio.images import Images
from dynrefer.service.settings import Settings, SettingsError
from dynrefer.workbench.data.corrections import read_corrections
from tests.fakes import FakePredictor
from tests.service.conftest import HEIGHT, WIDTH, ApiClient, ApiFactory, await_ready, image_bytes, in_base64
from tests.service.integrations.label_studio.test_predicting import BOXES, CONTROLS, IMAGE, drawn, view

POLYGON_OF_NONE = {**drawn(), "type": "polygonlabels", "value": {"points": [], "polygonlabels": ["Dog"]}}
CONFIG = view(BOXES, CONTROLS, '<TextArea name="tags" toName="image" perRegion="true"/>')
SAID = {
    "caption": ("textarea", {"text": ["a brown dog"]}),
    "kind": ("choices", {"choices": ["f"]}),
    "color": ("choices", {"choices": ["brown"]}),
    "seen": ("choices", {"choices": ["dog", "street"]}),
}
ALL = {
    "box": [8.0, 12.0, 40.0, 36.0],
    "caption": "a brown dog",
    "category": "Fox",  # and not "f", as the result stores it
    "tags": ["dog", "street"],
    "attributes": ["color:brown"],
    "by": "label-studio:7",
    "at": "2026-11-27T08:00:00Z",
}


def annotation(*regions: str, said: Any = SAID, **more: Any) -> dict[str, Any]:
    found = []
    for region in regions:
        found.append(drawn(region))
        found += [{**drawn(region), "from_name": name, "type": kind, "value": v} for name, (kind, v) in said.items()]
    about = {"completed_by": 7, "updated_at": "2026-11-27T09:00:00.123456+01:00", "task": 5}
    return {"id": 3, "result": found, **about, **more}


def event(action: str, **members: Any) -> dict[str, Any]:
    return {"action": action, "project": {"id": 1, "label_config": CONFIG}, **members}


def of_task(action: str, given: Any) -> dict[str, Any]:
    return event(action, annotation=given, task={"id": 5, "data": {"image": IMAGE}})


def lines_in(folder: Path) -> list[dict[str, Any]]:
    file = folder / "corrections.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def api(make_api: ApiFactory, tmp_path: Path) -> ApiClient:
    return make_api(integrations="label-studio", label_studio_corrections=tmp_path / "folder")


def post(api: ApiClient, document: Any) -> Response:
    return api.client.post("/label-studio/webhook", json=document)


def after(api: ApiClient, folder: Path, count: int, *documents: Any) -> list[dict[str, Any]]:
    """The lines once there are so many."""
    for document in documents:
        answer = post(api, document)
        assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})
    until = time.monotonic() + 20
    while len(lines_in(folder)) < count and time.monotonic() < until:
        time.sleep(0.01)
    return lines_in(folder)


def test_an_annotation_becomes_a_line_per_region(api: ApiClient, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    lines = after(api, folder, 2, of_task("ANNOTATION_CREATED", annotation("a", "b")))
    image = lines[0]["image"]
    assert lines == [{"id": f"label-studio:5:3:{region}", "image": image, **ALL} for region in ("a", "b")]
    assert (folder / image).read_bytes() == image_bytes() and image.startswith("images/") and image.endswith(".png")


def test_an_image_in_the_data_may_be_long(api: ApiClient, tmp_path: Path) -> None:
    image = image_bytes() + bytes(20_000)  # which decoders pass over
    given = of_task("ANNOTATION_CREATED", annotation("a"))
    given["task"]["data"]["image"] = f"data:image/png;base64,{in_base64(image)}"
    (line,) = after(api, tmp_path / "folder", 1, given)
    assert (tmp_path / "folder" / line["image"]).read_bytes() == image


def test_what_is_collected_is_what_training_reads(api: ApiClient, tmp_path: Path) -> None:
    thin = {**drawn("thin"), "value": {"x": 10, "y": 10, "width": 0.1, "height": 50, "rotation": 0}}
    over = {**drawn("over"), "value": {"x": -5, "y": 50, "width": 50, "height": 60, "rotation": 0}}
    outside = {**drawn("outside"), "value": {"x": 110, "y": 50, "width": 50, "height": 60, "rotation": 0}}
    given = annotation("a")
    given["result"] += [
        thin,
        over,
        outside,
        {**over, "from_name": "kind", "type": "choices", "value": {"choices": ["f"]}},
    ]
    after(api, tmp_path / "folder", 2, of_task("ANNOTATION_CREATED", given))
    read = read_corrections(tmp_path / "folder")
    assert [(each.id, each.box) for each in read.regions] == [
        ("label-studio:5:3:a", (8, 12, 40, 36)),
        ("label-studio:5:3:over", (0, 24, 28.8, 48)),
    ]
    assert read.regions[0].caption == "a brown dog" and read.regions[0].attributes == ("color:brown",)


def test_a_control_that_was_left_alone_judges_nothing_and_a_label_says_what_it_is(
    api: ApiClient, tmp_path: Path
) -> None:
    (line,) = after(api, tmp_path / "folder", 1, of_task("ANNOTATION_CREATED", annotation("a", said={})))
    assert line["category"] == "Dog" and not {"caption", "tags", "attributes"} & set(line)


def test_changes_are_appended_and_what_is_gone_is_deleted(api: ApiClient, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    after(api, folder, 2, of_task("ANNOTATION_CREATED", annotation("a", "b")))
    after(api, folder, 2, of_task("ANNOTATION_UPDATED", annotation("a", "b")))  # nothing has changed
    other = {**SAID, "caption": ("textarea", {"text": ["a fox"]})}
    lines = after(api, folder, 4, of_task("ANNOTATION_UPDATED", annotation("a", said=other)))
    assert lines[2]["caption"] == "a fox" and lines[3] == {"id": "label-studio:5:3:b", "deleted": True}
    lines = after(api, folder, 5, of_task("ANNOTATION_UPDATED", annotation("a", was_cancelled=True)))
    assert lines[4:] == [{"id": "label-studio:5:3:a", "deleted": True}]


def test_annotations_and_tasks_that_are_deleted(api: ApiClient, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    made = [of_task("ANNOTATION_CREATED", annotation("a", id=number)) for number in (3, 4, 33)]
    after(api, folder, 3, *made)
    lines = after(api, folder, 4, event("ANNOTATIONS_DELETED", annotations=[{"id": 3}]))
    assert lines[3] == {"id": "label-studio:5:3:a", "deleted": True}
    lines = after(api, folder, 6, event("TASKS_DELETED", tasks=[{"id": 5}]))
    assert {line["id"] for line in lines[4:]} == {"label-studio:5:4:a", "label-studio:5:33:a"}


def test_several_annotations_in_one_event(api: ApiClient, tmp_path: Path) -> None:
    tasks = [{"id": number, "data": {"image": IMAGE}} for number in (5, 6)]
    given = [annotation("a"), annotation("a", id=4, task=6)]
    lines = after(api, tmp_path / "folder", 2, event("ANNOTATIONS_CREATED", annotation=given, task=tasks))
    assert [line["id"] for line in lines] == ["label-studio:5:3:a", "label-studio:6:4:a"]


def test_other_events_are_ignored_and_training_is_not_pretended(api: ApiClient) -> None:
    assert post(api, event("PROJECT_UPDATED")).json()["status"] == "ignored"
    refused = post(api, {"action": "START_TRAINING", "project": {}})
    assert refused.status_code == 422 and "dynrefer train --from-corrections" in refused.json()["error"]


@pytest.mark.parametrize(
    ("document", "at"),
    [
        ({}, "/action"),
        (event("ANNOTATION_CREATED"), "/annotation"),
        (event("ANNOTATION_CREATED", annotation=annotation("a")), "/task"),
        (of_task("ANNOTATION_CREATED", annotation("a")) | {"project": {}}, "/label_config"),
        (event("ANNOTATION_CREATED", annotation=annotation("a"), task={"id": 5, "data": {}}), "/task/data"),
        (of_task("ANNOTATION_CREATED", {"id": 1, "result": [{**drawn(), "value": {}}]}), "/0/value/x"),
        (event("ANNOTATIONS_DELETED", annotations=[]), "/annotations"),
        (event("ANNOTATIONS_DELETED", annotations=[{}]), "/annotations/id"),
        (of_task("ANNOTATION_CREATED", annotation("a")) | {"task": {"id": [], "data": {"image": IMAGE}}}, "/task/id"),
        (of_task("ANNOTATION_CREATED", annotation("a", id="1:2")), "/annotation/id"),
        (of_task("ANNOTATION_CREATED", annotation("a", id=10**64)), "/annotation/id"),
        (of_task("ANNOTATION_CREATED", {"id": 1, "result": [POLYGON_OF_NONE]}), "/0/value/points"),
    ],
)
def test_an_event_that_makes_no_sense_is_refused(api: ApiClient, document: Any, at: str) -> None:
    refused = post(api, document)
    assert refused.status_code == 422 and refused.json()["errors"][0]["pointer"] == at


def test_an_annotation_whose_task_or_time_makes_no_sense_is_collected_without_them(
    api: ApiClient, tmp_path: Path
) -> None:
    odd = annotation("a", task={}, updated_at="0001-01-01T00:00:00+23:00")
    (line,) = after(api, tmp_path / "folder", 1, of_task("ANNOTATION_CREATED", odd))
    assert line["id"] == "label-studio:5:3:a" and "at" not in line


def test_nothing_is_written_without_a_folder(make_api: ApiFactory) -> None:
    answer = post(make_api(integrations="label-studio"), of_task("ANNOTATION_CREATED", annotation("a")))
    assert answer.json()["status"] == "ignored" and "label_studio_corrections" in answer.json()["detail"]


def test_an_image_that_is_none_is_reported_and_the_next_event_is_collected(
    api: ApiClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = of_task("ANNOTATION_CREATED", annotation("a"))
    bad["task"]["data"]["image"] = f"data:text/plain;base64,{in_base64(b'not an image')}"
    lines = after(api, tmp_path / "folder", 1, bad, of_task("ANNOTATION_CREATED", annotation("b")))
    assert [line["id"] for line in lines] == ["label-studio:5:3:b"]
    assert "a correction was not collected" in caplog.text


def test_what_waits_at_the_end_is_still_written(tmp_path: Path) -> None:
    settings = Settings(integrations=("label-studio",), label_studio_corrections=tmp_path, worker_processes=0)
    with TestClient(create_app(settings, FakePredictor())) as client:
        await_ready(client)
        for number in range(20):
            given = of_task("ANNOTATION_CREATED", annotation("a", id=number))
            assert client.post("/label-studio/webhook", json=given).status_code == 202
    assert len(lines_in(tmp_path)) == 20


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Nothing is written until it is set."""
    go_on, replace = threading.Event(), CorrectionsFolder.replace

    def wait(*arguments: Any) -> int:
        assert go_on.wait(60)
        return replace(*arguments)

    monkeypatch.setattr(CorrectionsFolder, "replace", wait)
    return go_on


def test_one_key_does_not_take_all_places_and_events_count_in_its_part_of_the_buffer(
    make_api: ApiFactory, tmp_path: Path, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "MAX_WAITING", 6)
    api = make_api(integrations="label-studio", label_studio_corrections=tmp_path, api_keys="one,two")

    def answers(key: str, count: int) -> list[int]:
        headers = {"Authorization": f"Bearer {key}"}
        given = of_task("ANNOTATION_CREATED", annotation("a"))
        return [api.client.post("/label-studio/webhook", json=given, headers=headers).status_code for _ in range(count)]

    try:
        assert answers("one", 5) == [202, 202, 202, 429, 429]
        assert answers("two", 2) == [202, 202]
        size = len(json.dumps(of_task("ANNOTATION_CREATED", annotation("a"))))
        buffer = api.client.app.state.buffer  # type: ignore[attr-defined]
        assert buffer.held_bytes > 4 * size
    finally:
        held.set()
    until = time.monotonic() + 20
    while buffer.held_bytes and time.monotonic() < until:
        time.sleep(0.01)
    assert buffer.held_bytes == 0 and answers("one", 1) == [202]


@pytest.mark.parametrize(
    ("image", "tries"), [("data:image/png;base64,a!", 1), ("http://elsewhere/a.png", 1), ("/data/upload/a.png", 3)]
)
def test_only_what_may_pass_is_tried_again(
    make_api: ApiFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str, tries: int
) -> None:
    asked, fetch = [], Images.fetch

    async def count(self: Images, given: str, *more: Any) -> bytes:
        asked.append(given)
        return await fetch(self, given, *more)

    monkeypatch.setattr(Images, "fetch", count)
    monkeypatch.setattr(webhooks, "PAUSE_S", 0.0)
    with socket.socket() as closed:  # nobody listens there
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        api = make_api(integrations="label-studio", label_studio_corrections=tmp_path, label_studio_url=url)
        given = of_task("ANNOTATION_CREATED", annotation("a"))
        given["task"]["data"]["image"] = image
        after(api, tmp_path, 1, given, of_task("ANNOTATION_CREATED", annotation("b")))
    assert asked == [image] * tries + [IMAGE]


def test_the_end_waits_for_what_is_left_of_the_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def never(*given: Any) -> bytes:
        await asyncio.Event().wait()
        return b""

    monkeypatch.setattr(Images, "fetch", never)
    settings = Settings(
        integrations=("label-studio",),
        label_studio_corrections=tmp_path,
        worker_processes=0,
        shutdown_grace_s=3_600,
    )
    app = create_app(settings, FakePredictor())
    with TestClient(app) as client:
        await_ready(client)
        for _ in range(2):
            given = of_task("ANNOTATION_CREATED", annotation("a"))
            assert client.post("/label-studio/webhook", json=given).status_code == 202
        app.state.engine._drain_began = time.monotonic() - 3_600
    assert "2 corrections were not written before the end" in caplog.text


def test_a_folder_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings = Settings(integrations=("label-studio",), label_studio_corrections=tmp_path / "file" / "folder")
    with pytest.raises(SettingsError, match="label_studio_corrections .* cannot be written: not a directory"):
        create_app(settings, FakePredictor())


# The folder


def line(number: int, annotation: int = 1) -> dict[str, Any]:
    return {"id": f"label-studio:1:{annotation}:{number}", "box": [0, 0, 1, 1], "caption": "x" * 5_000}


def write_many(path: Path, annotation: int) -> None:
    folder = CorrectionsFolder(path)
    for number in range(40):
        folder.replace(lambda origin: False, [line(number, annotation)], image_bytes())


@pytest.mark.slow
def test_two_processes_tear_no_line(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(tmp_path, number)) for number in (1, 2)]
    for each in writers:
        each.start()
    for each in writers:
        each.join(60)
        assert each.exitcode == 0
    assert len({each["id"] for each in lines_in(tmp_path)}) == 80


def test_a_line_that_a_crash_cut_off_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "corrections.jsonl"
    for before, kept in ((b'{"id": "unfinish', []), (b'{"id": "other"}\n{"id": ' + b"x" * 100_000, [{"id": "other"}])):
        file.write_bytes(before)
        CorrectionsFolder(tmp_path).replace(lambda origin: True, [line(1)], image_bytes())
        assert [each["id"] for each in lines_in(tmp_path)] == [each["id"] for each in kept] + [line(1)["id"]]


@pytest.mark.parametrize("last", ['{"id": "other"}', f'{{"id": "{"x" * 100_000}"}}'])
def test_a_whole_last_line_without_a_line_feed_stays(tmp_path: Path, last: str) -> None:
    (tmp_path / "corrections.jsonl").write_text('{"id": "first"}\n' + last)
    CorrectionsFolder(tmp_path).replace(lambda origin: True, [line(1)], image_bytes())
    assert [each["id"] for each in lines_in(tmp_path)] == ["first", json.loads(last)["id"], line(1)["id"]]


def test_what_another_process_wrote_is_known_and_what_was_read_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = CorrectionsFolder(tmp_path), CorrectionsFolder(tmp_path)
    given = [line(1), line(2)]
    assert one.replace(lambda origin: True, given, image_bytes()) == 2
    assert one.replace(lambda origin: True, given, image_bytes()) == 0
    assert other.replace(lambda origin: True, given, image_bytes()) == 0
    assert other.replace(lambda origin: True, given[:1], image_bytes()) == 1
    read: list[bytes] = []
    add = Index._add
    monkeypatch.setattr(Index, "_add", lambda self, text: [read.append(text), add(self, text)])
    assert one.replace(lambda origin: True, given[:1], image_bytes()) == 0
    assert [json.loads(each) for each in read] == [{"id": line(2)["id"], "deleted": True}]
    (tmp_path / "corrections.jsonl").unlink()
    assert one.replace(lambda origin: True, given, image_bytes()) == 2


def test_a_folder_grows_no_further_than_it_may(tmp_path: Path) -> None:
    small, large = image_bytes(), image_bytes() + bytes(50_000)
    folder = CorrectionsFolder(tmp_path, len(small) + 20_000)
    with pytest.raises(FolderFullError):
        folder.replace(lambda origin: True, [line(1)], large)
    assert list((tmp_path).glob("images/*")) == [] and lines_in(tmp_path) == []
    for number in (1, 2, 3):
        assert folder.replace(lambda origin: False, [line(number)], small) == 1
    CorrectionsFolder(tmp_path).keep_image(image_bytes("JPEG") + bytes(5_000))  # another process
    with pytest.raises(FolderFullError, match="label_studio_corrections_bytes"):
        folder.replace(lambda origin: False, [line(4)], small)
    assert folder.replace(lambda origin: True, []) == 3  # what takes regions away


def test_a_full_folder_is_told_in_the_log(
    make_api: ApiFactory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full = {"label_studio_corrections": tmp_path, "label_studio_corrections_bytes": 10}
    api = make_api(integrations="label-studio", **full)
    post(api, of_task("ANNOTATION_CREATED", annotation("a")))
    until = time.monotonic() + 20
    while "label_studio_corrections_bytes" not in caplog.text and time.monotonic() < until:
        time.sleep(0.01)
    assert "label_studio_corrections_bytes" in caplog.text and lines_in(tmp_path) == []


def test_lines_of_other_sources_stay(tmp_path: Path) -> None:
    other = '{"id": "cvat:1:2:3"}\nnot JSON\n{"id": 7}\n[]\n'
    (tmp_path / "corrections.jsonl").write_text(other)
    CorrectionsFolder(tmp_path).replace(lambda origin: True, [])
    assert (tmp_path / "corrections.jsonl").read_text() == other


def test_what_is_no_image_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(NoImageError):
        CorrectionsFolder(tmp_path).keep_image(b"<html>")
    for kind in ("JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        assert CorrectionsFolder(tmp_path).keep_image(image_bytes(kind)).split(".")[1] in kind.lower() + " jpg"


# The command


def export(*annotations: dict[str, Any], image: str = "/data/upload/1/0123abcd-dog.png") -> list[dict[str, Any]]:
    return [{"id": 5, "data": {"image": image}, "annotations": list(annotations), "predictions": []}]


def run(tmp_path: Path, tasks: Any, *more: str) -> Any:
    (tmp_path / "export.json").write_text(tasks if isinstance(tasks, str) else json.dumps(tasks))
    (tmp_path / "config.xml").write_text(CONFIG)
    (tmp_path / "images").mkdir(exist_ok=True)
    (tmp_path / "images" / "dog.png").write_bytes(image_bytes())
    where = [] if "--label-studio" in more else ["--images", str(tmp_path / "images")]
    given = [str(tmp_path / "export.json"), "--out", str(tmp_path / "out"), *where, *more]
    app = typer.Typer()
    app.command()(corrections_command)
    return CliRunner().invoke(app, given)


def test_an_export_makes_the_lines_of_its_webhooks(tmp_path: Path) -> None:
    done = run(tmp_path, export(annotation("a"), annotation("b", id=4)), "--config", str(tmp_path / "config.xml"))
    assert done.exit_code == 0 and "2 regions of 1 tasks; 2 lines added" in done.output
    lines = lines_in(tmp_path / "out")
    assert lines[0] == {"id": "label-studio:5:3:a", "image": lines[0]["image"], **ALL}
    done = run(tmp_path, export(annotation("a")), "--config", str(tmp_path / "config.xml"))
    assert "1 regions of 1 tasks; 1 lines added" in done.output
    assert lines_in(tmp_path / "out")[2:] == [{"id": "label-studio:5:4:b", "deleted": True}]


def test_without_the_configuration_controls_are_told_by_their_results(tmp_path: Path) -> None:
    run(tmp_path, export(annotation("a")))
    (found,) = lines_in(tmp_path / "out")
    assert found == {"id": "label-studio:5:3:a", "image": found["image"], **ALL, "category": "f"}


def test_a_task_whose_image_is_missing_is_left_out_and_named(tmp_path: Path) -> None:
    done = run(tmp_path, [*export(annotation("a"), image="/data/upload/1/cat.png"), *export(annotation("b"))])
    assert done.exit_code == 1 and "skipped task 5: There is no cat.png" in done.output
    assert len(lines_in(tmp_path / "out")) == 1


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ("{", "is not JSON"),
        ("{}", "not JSON-MIN"),
        ('[{"id": 1, "image": "a.png"}]', "not JSON-MIN"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, tasks: str, said: str) -> None:
    done = run(tmp_path, tasks)
    assert done.exit_code == 2 and said in done.output


def test_an_image_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(image_bytes())
    done = run(tmp_path, export(annotation("a"), image="/data/local-files/?d=../secret.png"))
    assert done.exit_code == 1 and lines_in(tmp_path / "out") == []


def test_where_the_images_are_has_to_be_said_once(tmp_path: Path) -> None:
    done = run(tmp_path, export(), "--images", str(tmp_path), "--label-studio", "http://localhost")
    assert done.exit_code == 2 and "--images DIR or --label-studio URL" in done.output


def test_the_size_of_the_image_is_that_of_the_tests() -> None:
    assert (WIDTH, HEIGHT) == (64, 48)  # which `ALL` counts on
