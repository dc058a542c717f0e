"""/predict: which regions of a task are described, which are found, and how results look."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from httpx2 import Response

from dynrefer.model.segmentation import SegmentationSpec
from dynrefer.service.integrations.label_studio import tasks
from dynrefer.service.integrations.label_studio.brushes import read_brush, write_brush
from tests.fake_finder import FakeFinderSpec
from tests.fakes import CARD, FakePredictor
from tests.service.conftest import HEIGHT, WIDTH, ApiClient, ApiFactory, image_bytes, in_base64

IMAGE = f"data:image/png;base64,{in_base64(image_bytes())}"
CONTROLS = """
  <TextArea name="caption" toName="image" perRegion="true"/>
  <Choices name="kind" toName="image" perRegion="true"><Choice value="wolf"/><Choice value="Fox" alias="f"/></Choices>
  <Choices name="color" toName="image" perRegion="true"><Choice value="brown"/><Choice value="red"/></Choices>
  <Choices name="seen" toName="image" perRegion="true" choice="multiple">
    <Choice value="dog"/><Choice value="street"/>
  </Choices>
"""
LABELS = '<Label value="Dog" alias="d"/><Label value="fox"/>'
BOXES = f'<RectangleLabels name="box" toName="image">{LABELS}</RectangleLabels>'


def view(*tags: str) -> str:
    return f'<View><Image name="image" value="$image"/>{"".join(tags)}</View>'


def drawn(name: str = "r", x: float = 12.5, **more: Any) -> dict[str, Any]:
    value = {"x": x, "y": 25, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["d"]}
    item = {"id": name, "from_name": "box", "to_name": "image", "type": "rectanglelabels", "value": value}
    return {**item, "original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, **more}


def task(name: int = 1, **members: Any) -> dict[str, Any]:
    return {"id": name, "data": {"image": IMAGE}, **members}


def post(api: ApiClient, *tasks: Any, config: str, context: Any = None, **headers: str) -> Response:
    document = {"tasks": list(tasks), "project": "1.2", "label_config": config, "params": {"context": context}}
    return api.client.post("/label-studio/predict", json=document, headers=headers)


@pytest.fixture
def api(make_api: ApiFactory) -> ApiClient:
    return make_api(FakePredictor(finding=FakeFinderSpec()), integrations="label-studio")


def results(response: Response) -> list[Any]:
    assert response.status_code == 200, response.text
    found: list[Any] = response.json()["results"]
    return found


def test_regions_that_were_annotated_are_described(api: ApiClient) -> None:
    annotations = [
        {"id": 1, "result": [drawn("old")], "updated_at": "2026-11-01T00:00:00Z"},
        {"id": 2, "result": [drawn("new")], "updated_at": "2026-11-02T00:00:00Z"},
        {"id": 3, "result": [drawn("skipped")], "updated_at": "2026-11-03T00:00:00Z", "was_cancelled": True},
    ]
    (found,) = results(post(api, task(annotations=annotations), config=view(BOXES, CONTROLS)))
    assert {item["id"] for item in found["result"]} == {"new"}
    by_control = {item["from_name"]: item for item in found["result"]}
    assert by_control["box"] == drawn("new")
    geometry = {"x": 12.5, "y": 25, "width": 50, "height": 50, "rotation": 0}
    assert by_control["caption"]["value"] == {**geometry, "text": ["pixel 10 20 30"]}
    assert by_control["kind"]["value"] == {**geometry, "choices": ["f"]} and by_control["kind"]["score"] == 0.8
    assert by_control["color"]["value"]["choices"] == ["brown"]
    assert by_control["seen"]["value"]["choices"] == ["dog", "street"]
    for item in found["result"]:
        assert (item["to_name"], item["original_width"], item["original_height"]) == ("image", WIDTH, HEIGHT)
    assert found["model_version"] == "fake-0" and found["score"] == pytest.approx(0.8)
    (query,) = api.predictor.queries
    assert query.box == (8, 12, 40, 36)


def test_a_draft_counts_before_annotations_and_what_was_just_drawn_before_both(api: ApiClient) -> None:
    both = task(drafts=[{"result": [drawn("draft")]}], annotations=[{"id": 1, "result": [drawn("annotation")]}])
    config = view(BOXES, CONTROLS)
    (found,) = results(post(api, both, config=config))
    assert {item["id"] for item in found["result"]} == {"draft"}
    (found,) = results(post(api, both, config=config, context={"result": [drawn("now"), drawn("too", 0)]}))
    assert {item["id"] for item in found["result"]} == {"now", "too"}


def test_what_somebody_said_of_a_region_stays_when_it_is_described_again(api: ApiClient) -> None:
    """Label Studio sends all regions with the label of the one that was drawn, also those that are done."""
    mine = {**drawn("done"), "from_name": "caption", "type": "textarea", "value": {"text": ["my words"]}}
    (found,) = results(
        post(api, task(), config=view(BOXES, CONTROLS), context={"result": [drawn("done"), mine, drawn()]})
    )
    captions = {each["id"]: each for each in found["result"] if each["from_name"] == "caption"}
    assert captions["done"] == mine and captions["r"]["value"]["text"] == ["pixel 10 20 30"]
    assert sum(each["id"] == "done" for each in found["result"]) == 5


POINTS = f'<KeyPointLabels name="point" toName="image">{LABELS}</KeyPointLabels>'


@pytest.mark.parametrize(
    ("shapes", "kind", "member"),
    [
        (POINTS + BOXES, "rectanglelabels", "width"),
        (POINTS + BOXES.replace("Rectangle", "Brush"), "brushlabels", "rle"),
        (POINTS + '<Polygon name="p" toName="image"/>', "polygon", "points"),
        (POINTS, "keypointlabels", "x"),
        (POINTS + BOXES.replace('alias="d"', 'alias="other"'), "keypointlabels", "x"),
    ],
)
def test_in_the_place_of_a_point_stands_the_object_that_it_lies_on(
    make_api: ApiFactory, shapes: str, kind: str, member: str
) -> None:
    api = make_api(FakePredictor(segmentation=SegmentationSpec(side=16, windows=1)), integrations="label-studio")
    value = {"x": 50, "y": 50, "width": 0.4, "keypointlabels": ["d"]}
    point = {**drawn(), "from_name": "point", "type": "keypointlabels", "value": value}
    (found,) = results(post(api, task(), config=view(shapes, CONTROLS), context={"result": [point]}))
    shape, caption = found["result"][:2]
    assert shape["type"] == kind and member in shape["value"] and "score" not in shape
    assert caption["type"] == "textarea" and caption["id"] == shape["id"]
    assert shape["value"].get(kind, ["d"]) == ["d"]


def test_a_region_beside_the_image_stands_alone_and_the_others_are_described(api: ApiClient) -> None:
    given = task(annotations=[{"id": 1, "result": [drawn("outside", 200), drawn("inside")]}])
    (found,) = results(post(api, given, config=view(BOXES, CONTROLS)))
    assert [item["id"] for item in found["result"]].count("outside") == 1
    assert [item["id"] for item in found["result"]].count("inside") == 5


def test_without_regions_what_the_labels_name_is_found_and_described(api: ApiClient) -> None:
    (found,) = results(post(api, task(), config=view(BOXES, CONTROLS)))
    shapes = [item for item in found["result"] if item["from_name"] == "box"]
    assert [shape["value"]["rectanglelabels"] for shape in shapes] == [["d"], ["d"]]  # and no fox
    assert shapes[0]["value"]["width"] == pytest.approx(100 * 16 / WIDTH) and 0 < shapes[0]["score"] <= 1
    assert len({shape["id"] for shape in shapes}) == 2
    captions = [item for item in found["result"] if item["from_name"] == "caption"]
    assert [item["id"] for item in captions] == [shape["id"] for shape in shapes]
    assert found["score"] == pytest.approx(sum(shape["score"] for shape in shapes) / 2, abs=1e-4)


def test_regions_are_found_where_no_control_takes_a_description(api: ApiClient) -> None:
    given = task(annotations=[{"id": 1, "result": [drawn()]}])
    (found,) = results(post(api, given, config=view(BOXES)))
    assert {item["type"] for item in found["result"]} == {"rectanglelabels"} and len(found["result"]) == 2


def test_polygons_and_brushes_are_made_of_masks(api: ApiClient) -> None:
    config = view(BOXES.replace("Rectangle", "Polygon"))
    (found,) = results(post(api, task(), config=config))
    assert len(found["result"][0]["value"]["points"]) >= 4 and found["result"][0]["type"] == "polygonlabels"
    (found,) = results(post(api, task(), config=view(BOXES.replace("Rectangle", "Brush"))))
    value = found["result"][0]["value"]
    assert value["format"] == "rle" and value["brushlabels"] == ["d"]
    assert read_brush(value["rle"], WIDTH, HEIGHT, 10_000).bounds is not None


def test_labels_of_their_own_control_stand_beside_the_shape(api: ApiClient) -> None:
    config = view(f'<Labels name="l" toName="image">{LABELS}</Labels><Rectangle name="r" toName="image"/>')
    (found,) = results(post(api, task(), config=config))
    shape, label = found["result"][:2]
    assert (shape["type"], label["type"]) == ("rectangle", "labels") and shape["id"] == label["id"]
    assert label["value"]["labels"] == ["d"] and label["value"]["x"] == shape["value"]["x"]


def test_without_a_control_that_draws_the_whole_image_is_described(api: ApiClient) -> None:
    (found,) = results(post(api, task(), config=view('<TextArea name="words" toName="image"/>')))
    (item,) = found["result"]
    assert (item["type"], item["value"]) == ("textarea", {"text": ["pixel 10 20 30"]}) and "score" not in found
    assert api.predictor.queries[0].box == (0, 0, WIDTH, HEIGHT)


def test_a_taxonomy_gets_a_path(api: ApiClient) -> None:
    tree = '<Choice value="Animal"><Choice value="Wild"><Choice value="wolf"/></Choice></Choice><Choice value="Thing"/>'
    config = view(BOXES, f'<Taxonomy name="t" toName="image" perRegion="true">{tree}</Taxonomy>')
    (found,) = results(post(api, task(annotations=[{"id": 1, "result": [drawn()]}]), config=config))
    assert found["result"][1]["value"]["taxonomy"] == [["Animal", "Wild", "wolf"]]


def test_texts_take_tags_and_attributes_where_their_control_is_called_so(api: ApiClient) -> None:
    areas = "".join(f'<TextArea name="{each}" toName="image" perRegion="true"/>' for each in ("tags", "my_attributes"))
    (found,) = results(post(api, task(annotations=[{"id": 1, "result": [drawn()]}]), config=view(BOXES, areas)))
    texts = {item["from_name"]: item["value"]["text"] for item in found["result"][1:]}
    assert texts == {"tags": ["dog", "street", "leash"], "my_attributes": ["color:brown", "size:small"]}


def test_a_task_that_fails_says_so_in_its_place_and_leaves_the_others_alone(api: ApiClient) -> None:
    config = view(BOXES, CONTROLS)
    bad = [
        {"id": 2, "data": {"image": "data:image/png;base64,AAAA"}},
        {"id": 3, "data": {"image": "s3://bucket/a.png"}},
        {"id": 4, "data": {"image": "/data/upload/1/a.png"}},
        {"id": 5, "data": {"photo": IMAGE}},
        {"id": 6},
        "task",
        task(7, annotations=[{"id": 1, "result": [{**drawn(), "value": {"x": "1"}}]}]),
    ]
    found = results(post(api, task(), *bad, config=config))
    assert len(found) == 1 + len(bad) and found[0]["result"]
    for answer in found[1:]:
        # Without 'result' Label Studio keeps no prediction, and asks for the task again.
        assert set(answer) == {"error"} and answer["error"].endswith(".")
    assert "image_url_hosts" in found[2]["error"] and "DYNREFER_LABEL_STUDIO_URL" in found[3]["error"]
    assert "'image'" in found[4]["error"]


def test_what_was_just_drawn_is_of_one_task(api: ApiClient) -> None:
    refused = post(api, task(1), task(2), config=view(BOXES, CONTROLS), context={"result": [drawn()]})
    assert refused.status_code == 422 and "are of one task; the request has 2." in refused.json()["error"]


def test_tasks_beyond_the_most_say_so_in_their_place(api: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "MAX_TASKS", 2)
    found = results(post(api, *map(task, range(4)), config=view(BOXES)))
    assert ["result" in each for each in found] == [True, True, False, False]
    assert found[2] == {"error": "The first 2 tasks of a request are answered; ask again for the others."}


def test_the_brushes_of_all_tasks_have_a_limit_in_all(make_api: ApiFactory) -> None:
    api = make_api(integrations="label-studio", max_image_pixels=HEIGHT * WIDTH)
    value = {"format": "rle", "rle": write_brush(np.ones((HEIGHT, WIDTH), dtype=np.bool_))}
    brushes = [{**drawn(str(place)), "type": "brush", "value": value} for place in range(5)]
    given = [task(place, annotations=[{"id": 1, "result": brushes[: 5 - place]}]) for place in range(3)]
    found = results(post(api, *given, config=view('<Brush name="b" toName="image"/>', CONTROLS)))
    assert ["result" in each for each in found] == [True, False, True]  # 5, then 4 are too many, 3 are not
    assert "ask for fewer tasks" in found[1]["error"]


def test_a_tasks_text_adds_no_line_to_the_log(api: ApiClient, caplog: pytest.LogCaptureFixture) -> None:
    results(post(api, task(), {"id": 2, "data": {"image": "/a\n2026-01-01 INFO forged"}}, config=view(BOXES)))
    (message,) = [each.getMessage() for each in caplog.records if "no prediction" in each.getMessage()]
    assert "forged" in message and "\n" not in message


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"tasks": []}, "/tasks"),
        ({"tasks": 1}, "/tasks"),
        ({"label_config": None}, "/label_config"),
        ({"label_config": "<View/>"}, "/label_config"),
        ({"tasks": [{"id": 1, "data": {"image": "ftp://a/b.png"}}]}, "/tasks"),
        ({"tasks": [{"id": 1, "data": []}]}, "/tasks/0/data"),
    ],
)
def test_what_concerns_all_tasks_is_the_answer(api: ApiClient, change: dict[str, Any], at: str) -> None:
    document = {"tasks": [task()], "project": "1.2", "label_config": view(BOXES), **change}
    refused = api.client.post("/label-studio/predict", json=document)
    assert refused.status_code == 422
    answer = refused.json()
    assert answer["errors"][0]["pointer"] == at and answer["error"].endswith(".")
    assert answer["request_id"] == refused.headers["x-request-id"]


def test_what_is_ready_at_the_deadline_is_answered(make_api: ApiFactory) -> None:
    """Label Studio sends all tasks of a selection in one request, and asks again for those that have no prediction."""
    predictor = FakePredictor(run_hook=lambda boxes: time.sleep(0.3))
    api = make_api(predictor, integrations="label-studio")
    given = [task(place, annotations=[{"id": 1, "result": [drawn()]}]) for place in range(12)]
    found = results(post(api, *given, config=view(BOXES, CONTROLS), **{"x-request-timeout": "1.2"}))
    assert "result" in found[0] and "error" in found[-1]
    assert "did not come within 1.2 seconds" in found[-1]["error"]


def test_a_full_queue_is_waited_for_where_other_tasks_make_it_full(make_api: ApiFactory) -> None:
    settings = {"max_regions": 2, "max_queue_regions": 2}
    api = make_api(FakePredictor(run_hook=lambda boxes: time.sleep(0.05)), integrations="label-studio", **settings)
    given = [task(place, annotations=[{"id": 1, "result": [drawn("a"), drawn("b")]}]) for place in range(4)]
    assert all("result" in each for each in results(post(api, *given, config=view(BOXES, CONTROLS))))


def test_one_model_answers_all_tasks_and_is_named_whichever_serves_by_then(make_api: ApiFactory) -> None:
    other = make_api(FakePredictor(card=replace(CARD, name="other")), integrations="label-studio")
    predictor = FakePredictor()
    api = make_api(predictor, integrations="label-studio")
    models, others = (each.client.app.state.engine.models for each in (api, other))  # type: ignore[attr-defined]
    first = models.serving
    predictor.run_hook = lambda boxes: models.let_serve(others.serving)
    given = [task(place, annotations=[{"id": 1, "result": [drawn()]}]) for place in range(3)]
    response = post(api, *given, config=view(BOXES, CONTROLS))
    models.let_serve(first)
    assert {each["model_version"] for each in results(response)} == {response.json()["model_version"]} == {"fake-0"}
    assert len(predictor.queries) == 3 and not other.predictor.queries
    assert not first.held


def test_the_bytes_of_images_are_given_back(api: ApiClient) -> None:
    post(api, task(), task(2), config=view(BOXES))
    post(api, {"id": 1, "data": {"image": "/a"}}, config=view(BOXES))
    assert api.client.app.state.buffer.held_bytes == 0  # type: ignore[attr-defined]


def test_a_long_data_uri_is_read(make_api: ApiFactory) -> None:
    import io
    import os

    from PIL import Image

    file = io.BytesIO()
    Image.frombytes("RGB", (1000, 700), os.urandom(2_100_000)).save(file, "BMP")
    api = make_api(integrations="label-studio")
    long = {"id": 1, "data": {"image": f"data:image/bmp;base64,{in_base64(file.getvalue())}"}}
    assert results(post(api, long, config=view('<TextArea name="words" toName="image"/>')))[0]["result"]


def test_health_setup_and_versions(api: ApiClient) -> None:
    assert api.client.get("/label-studio/health").json() == {"status": "UP", "model_version": "fake-0"}
    assert api.client.get("/label-studio/versions").json() == {"versions": ["fake-0"]}
    document = {"project": "1.2", "schema": view(BOXES), "hostname": "http://localhost", "access_token": "x"}
    assert api.client.post("/label-studio/setup", json=document).json() == {"model_version": "fake-0"}
    refused = api.client.post("/label-studio/setup", json={**document, "schema": "<View/>"})
    assert refused.status_code == 422 and "no tag Image" in refused.json()["error"]


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"project": "1" * 65}, "/project"),
        ({"access_token": "x" * 4_097}, "/access_token"),
        ({"access_token": "a\r\nHost: evil"}, "/access_token"),
        ({"hostname": "http://[", "access_token": "x"}, None),
        ({"hostname": "http://a:999999", "access_token": "x"}, None),
        ({"project": 1, "hostname": None, "access_token": []}, None),
    ],
)
def test_setup_takes_odd_members_or_says_what_is_wrong(
    make_api: ApiFactory, change: dict[str, Any], at: str | None
) -> None:
    api = make_api(integrations="label-studio", label_studio_url="http://127.0.0.1:9/labels")
    document = {"project": "1.2", "schema": view(BOXES), **change}
    answer = api.client.post("/label-studio/setup", json=document)
    assert answer.status_code == (200 if at is None else 422)
    assert [each["pointer"] for each in answer.json().get("errors", [])] == ([] if at is None else [at])
