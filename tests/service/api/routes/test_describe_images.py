"""POST /v1/describe with `images`: several images in one call, over the fake predictor."""

import json
import threading
import time
from typing import Any

import pytest
from httpx2 import Response

from dynrefer.model.errors import ModelError
from dynrefer.model.segmentation import SegmentationSpec
from dynrefer.service.settings import Settings
from tests.fakes import FakePredictor, slowly
from tests.service.conftest import (
    HEIGHT,
    WIDTH,
    ApiClient,
    ApiFactory,
    field_errors,
    image_bytes,
    in_base64,
    turned_image_bytes,
)

GOOD = image_bytes()
SMALL, LARGE = [8, 8, 16, 16], [8, 8, 40, 40]


def item(*boxes: list[float], image: bytes = GOOD, **more: Any) -> dict[str, Any]:
    return {"image": {"base64": in_base64(image)}, "regions": [{"box": box} for box in boxes], **more}


def post(api: ApiClient, *items: Any, **fields: Any) -> Response:
    return api.raw(json.dumps({"images": list(items), **fields}).encode())


def post_form(api: ApiClient, files: list[bytes], **request: Any) -> Response:
    parts = [("image", ("image", each)) for each in files]
    return api.client.post("/v1/describe", files=parts, data={"request": json.dumps(request)})


def answered(response: Response) -> list[dict[str, Any]]:
    """The items of an answer, without what time it took."""
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["id"] == response.headers["x-request-id"] and list(answer["timings_ms"]) == ["total"]
    items: list[dict[str, Any]] = answer["images"]
    for each in items:
        each.pop("timings_ms", None)
        for region in each.get("regions", ()):
            region.pop("timings_ms", None)
    return items


def alone(api: ApiClient, **fields: Any) -> dict[str, Any]:
    """The answer to a request about one image, as an item of several."""
    answer: dict[str, Any] = api.json(**fields).json()
    for region in answer["regions"]:
        del region["timings_ms"]
    return {name: answer[name] for name in ("image", "regions")}


def test_each_image_is_answered_in_its_place_as_it_is_alone(api: ApiClient) -> None:
    turned = turned_image_bytes()
    found = answered(post(api, item(SMALL), item(LARGE, SMALL, image=turned), item(LARGE), task="tags"))
    assert [each["image"] for each in found] == [
        {"width": WIDTH, "height": HEIGHT},
        {"width": HEIGHT, "height": WIDTH},
        {"width": WIDTH, "height": HEIGHT},
    ]
    assert [[region["box"] for region in each["regions"]] for each in found] == [[SMALL], [LARGE, SMALL], [LARGE]]
    assert found[1] == alone(api, image=turned, regions=[{"box": LARGE}, {"box": SMALL}], task="tags")


def test_the_fields_beside_images_apply_to_all(api: ApiClient) -> None:
    boxes = [[0.25, 0.25, 0.5, 0.5]]
    found = answered(post(api, item(*boxes), item(*boxes), coordinates="unit", box_format="xywh", task="caption"))
    for each in found:
        (region,) = each["regions"]
        assert region["box"] == [16, 12, 48, 36] and "tags" not in region and "caption" in region


def test_a_form_has_a_part_for_each_image(api: ApiClient) -> None:
    items = [{"regions": [{"box": SMALL}]}, {"regions": [{"box": LARGE}]}]
    assert answered(post_form(api, [GOOD, turned_image_bytes()], images=items)) == answered(
        post(api, item(SMALL), item(LARGE, image=turned_image_bytes()))
    )


# What is wrong with the second of three images -> status, where and a part of the sentence.
BAD: dict[str, tuple[Any, int, str, str]] = {
    "no image": (item(SMALL, image=b"no image"), 415, "/images/1/image", "JPEG"),
    "cut short": (item(SMALL, image=GOOD[:60]), 422, "/images/1/image", "damaged"),
    "not Base64": ({**item(SMALL), "image": {"base64": "?"}}, 422, "/images/1/image/base64", "Base64"),
    "no image's member": ({"regions": [{"box": SMALL}]}, 422, "/images/1/image", "required"),
    "empty": (item(SMALL, image=b""), 422, "/images/1/image/base64", "empty"),
    "no regions": (item(), 422, "/images/1/regions", "At least one"),
    "no object": (7, 422, "/images/1", "object"),
    "outside": (item([900, 900, 950, 950]), 422, "/images/1/regions/0/box", "outside"),
    "three numbers": (item(SMALL, [1, 2, 3]), 422, "/images/1/regions/1/box", "four numbers"),
    "unknown member": (item(SMALL, colour=1), 422, "/images/1/colour", "Unknown field"),
    "a shared field": (item(SMALL, task="tags"), 422, "/images/1/task", "beside 'images'"),
    "an id twice": (
        {**item(), "regions": [{"box": SMALL, "id": "a"}, {"box": SMALL, "id": "a"}]},
        422,
        "/images/1/regions/1/id",
        "taken",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_fails_alone(api: ApiClient, name: str) -> None:
    bad, status, pointer, part = BAD[name]
    first, second, third = answered(post(api, item(SMALL), bad, item(LARGE)))
    assert first["regions"][0]["box"] == SMALL and third["regions"][0]["box"] == LARGE
    assert list(second) == ["error"]
    error = second["error"]
    assert error["status"] == status and error["type"].startswith("urn:problem-type:dynrefer:")
    assert error["errors"][0]["pointer"] == pointer and part in error["errors"][0]["detail"]
    assert error["detail"] == error["errors"][0]["detail"]


def test_all_bad_regions_of_an_image_are_listed(api: ApiClient) -> None:
    (found,) = answered(post(api, item([900, 900, 950, 950], SMALL, [-9, -9, -1, -1])))
    pointers = [each["pointer"] for each in found["error"]["errors"]]
    assert pointers == ["/images/0/regions/0/box", "/images/0/regions/2/box"]
    assert found["error"]["detail"] == "The image has 2 errors."


def test_bad_regions_are_reported_in_their_places(api: ApiClient) -> None:
    bad = [[1, 2, 3], [900, 900, 950, 950]]
    (first, second) = answered(post(api, item(SMALL), item(SMALL, *bad), on_region_error="report"))
    assert "error" not in first["regions"][0] and "error" not in second["regions"][0]
    pointers = [region["error"]["errors"][0]["pointer"] for region in second["regions"][1:]]
    assert pointers == ["/images/1/regions/1/box", "/images/1/regions/2/box"]


def test_when_every_image_is_bad_the_answer_says_so_of_each(api: ApiClient) -> None:
    found = answered(post(api, item(SMALL, image=b"a"), item(SMALL, image=b"b")))
    assert [each["error"]["status"] for each in found] == [415, 415]
    assert not api.predictor.batches


def test_too_large_an_image_fails_alone(make_api: ApiFactory) -> None:
    api = make_api(max_image_pixels=WIDTH * HEIGHT)
    large = image_bytes("BMP").replace((WIDTH).to_bytes(4, "little"), (WIDTH + 1).to_bytes(4, "little"), 1)
    first, second = answered(post(api, item(SMALL, image=large), item(SMALL)))
    assert first["error"]["status"] == 413 and "regions" in second


def test_a_failing_region_fails_its_image_alone(make_api: ApiFactory) -> None:
    def fail_on_large(boxes: Any) -> None:
        if any(box[2] == LARGE[2] for box in boxes):
            raise ModelError("broken")

    api = make_api(FakePredictor(run_hook=fail_on_large))
    first, second = answered(post(api, item(SMALL, LARGE), item(SMALL)))
    assert first["error"]["status"] == 500
    assert first["error"]["errors"][0]["pointer"] == "/images/0/regions/1"
    assert second["regions"][0]["box"] == SMALL


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "beside image": ({"image": {"base64": ""}, "images": [item(SMALL)]}, "/image", "each of the images has its own"),
    "beside regions": ({"regions": [], "images": [item(SMALL)]}, "/regions", "each of the images has its own"),
    "none": ({"images": []}, "/images", "at least one image"),
    "no list": ({"images": {"0": item(SMALL)}}, "/images", "at least one image"),
    "task": ({"images": [item(SMALL)], "task": "poem"}, "/task", "Unknown task"),
    "unknown": ({"images": [item(SMALL)], "tasks": "tags"}, "/tasks", "Did you mean 'task'"),
    "too many regions": (
        {"images": [item(*[SMALL] * 3), item(*[SMALL] * 2)]},
        "/images",
        "5 regions were given in",
    ),
    "too many images": ({"images": [item(SMALL)] * 4}, "/images", "4 images were given; at most 3"),
    "url": ({"images": [item(SMALL), {"image": {"url": "https://x/y"}}]}, "/images/1/image/url", "send 'base64'"),
    "vocabulary": ({"images": [item(SMALL)], "vocabulary": "none such"}, "/vocabulary", "none such"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_concerns_all_refuses_the_request(make_api: ApiFactory, name: str) -> None:
    document, pointer, part = REFUSED[name]
    response = make_api(max_regions=4, max_images=3).raw(json.dumps(document).encode())
    assert response.status_code == 422
    assert part in field_errors(response)[pointer]


def test_forms_that_do_not_fit(make_api: ApiFactory) -> None:
    api = make_api(max_images=2)
    regions = {"regions": [{"box": SMALL}]}
    fewer = post_form(api, [GOOD], images=[regions, regions])
    assert "1 part 'image' for 2 items" in field_errors(fewer)["/images"]
    assert "more than 2 times" in field_errors(post_form(api, [GOOD] * 3, images=[regions] * 3))["/image"]
    twice = answered(post_form(api, [GOOD, GOOD], images=[regions, {**regions, "image": {"base64": ""}}]))
    assert "parts named 'image'" in twice[1]["error"]["detail"]
    empty = answered(post_form(api, [GOOD, b""], images=[regions, regions]))
    assert empty[1]["error"]["errors"][0] == {"pointer": "/images/1/image", "detail": "The part 'image' is empty."}


def test_the_raw_form_has_one_image(api: ApiClient) -> None:
    response = api.client.post("/v1/describe?images=2", content=GOOD, headers={"content-type": "image/png"})
    assert response.status_code == 422 and "/images" in field_errors(response)


def test_detection_is_about_one_image(api: ApiClient) -> None:
    response = api.client.post("/v1/detect", json={"images": [item(SMALL)]})
    assert response.status_code == 422 and "/images" in field_errors(response)


def test_room_is_asked_for_as_a_whole(make_api: ApiFactory) -> None:
    api = make_api(max_queue_regions=4, max_regions=4, max_batch_regions=1)
    gate = threading.Event()
    api.predictor.run_hook = lambda boxes: gate.wait(10)  # type: ignore[assignment,return-value]
    blocker = threading.Thread(target=lambda: post(api, item(SMALL, SMALL, SMALL)))
    blocker.start()
    while not api.predictor.batches:
        time.sleep(0.005)
    refused = post(api, item(SMALL), item(SMALL, SMALL))
    gate.set()
    blocker.join()
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
    assert len(answered(post(api, item(SMALL), item(SMALL, SMALL)))) == 2


def test_one_deadline_for_all(make_api: ApiFactory) -> None:
    api = make_api(FakePredictor(run_hook=slowly(0.4)), max_batch_regions=1)
    body = json.dumps({"images": [item(SMALL), item(SMALL), item(SMALL)]}).encode()
    assert api.raw(body, x_request_timeout="0.3").status_code == 504
    assert api.client.get("/readyz").status_code == 200


def test_points_find_their_masks_on_each_image(make_api: ApiFactory) -> None:
    api = make_api(FakePredictor(segmentation=SegmentationSpec(side=16, windows=1)))
    pointed = {"image": {"base64": in_base64(GOOD)}, "regions": [{"points": [{"x": 20, "y": 20}]}]}
    first, second, third = answered(post(api, pointed, item(SMALL), pointed))
    assert first == third and first["regions"][0]["mask"] and "mask" not in second["regions"][0]


def test_the_limit_is_told(api: ApiClient) -> None:
    (model,) = api.client.get("/v1/models").json()["models"]
    assert model["limits"]["max_images"] == Settings().max_images
