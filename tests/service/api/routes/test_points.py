"""POST /v1/describe about points: what comes back, in which frame, and every refusal."""

from typing import Any

import pytest

from dynrefer.model.masks import RegionMask, bitmap_from_mask
from dynrefer.model.segmentation import SegmentationSpec
from tests.fakes import FakePredictor
from tests.service.conftest import HEIGHT, WIDTH, ApiClient, ApiFactory, field_errors, image_bytes, turned_image_bytes

SPEC = SegmentationSpec(side=16, windows=1)
POINTS = [{"x": 20, "y": 30}]


@pytest.fixture
def api(make_api: ApiFactory) -> ApiClient:
    """The fake predictor with its fake segmenter: a square of 8 pixels around the first point."""
    return make_api(FakePredictor(segmentation=SPEC))


def pointed(api: ApiClient, points: Any = POINTS, **fields: Any) -> Any:
    return api.json(regions=[{"points": points}], **fields)


def pixels(region: Any) -> Any:
    return bitmap_from_mask(RegionMask(tuple(region["mask"]["size"]), region["mask"]["counts"]))


def test_the_mask_and_its_box_come_back(api: ApiClient) -> None:
    answer = pointed(api).json()
    (region,) = answer["regions"]
    assert region["box"] == [16, 26, 23, 33] and region["clipped"] is False
    assert region["mask"]["size"] == [HEIGHT, WIDTH]
    assert pixels(region).sum() == 64 and pixels(region)[26:34, 16:24].all()
    assert list(answer["timings_ms"])[:3] == ["decode", "points", "views"]


def test_regions_of_boxes_have_no_mask(api: ApiClient) -> None:
    answer = api.json(regions=[{"box": [8, 8, 40, 40]}, {"id": "object", "points": POINTS}]).json()
    assert "mask" not in answer["regions"][0] and "mask" in answer["regions"][1]
    assert answer["regions"][1]["id"] == "object"


@pytest.mark.parametrize(
    ("coordinates", "point"),
    [("pixels", (20, 30)), ("unit", (20 / 64, 30 / 48)), ("percent", (31.25, 62.5)), ("per_mille", (312.5, 625))],
)
def test_points_are_in_the_requests_coordinates(api: ApiClient, coordinates: str, point: tuple[float, float]) -> None:
    answer = pointed(api, [{"x": point[0], "y": point[1]}], coordinates=coordinates, box_format="cxcywh").json()
    assert answer["regions"][0]["box"] == [16, 26, 23, 33]


def test_points_and_mask_of_a_turned_image(api: ApiClient) -> None:
    """The stored frame's x runs down the upright image, its y from right to left."""
    upright = pointed(api, image=turned_image_bytes(), orientation="upright").json()["regions"][0]
    assert upright["mask"]["size"] == [64, 48] and upright["box"] == [16, 26, 23, 33]
    answer = pointed(api, image=turned_image_bytes(), orientation="stored").json()
    (region,) = answer["regions"]
    assert answer["image"] == {"width": 64, "height": 48} and region["mask"]["size"] == [48, 64]
    assert pixels(region)[26:34, 16:24].all() and pixels(region).sum() == 64


def test_a_point_beside_the_object_reaches_the_model(api: ApiClient) -> None:
    pointed(api, [*POINTS, {"x": 1, "y": 2.5, "positive": False}])
    (query,) = api.predictor.queries
    assert [(point.x, point.y, point.positive) for point in query.points] == [(20, 30, True), (1, 2.5, False)]


def test_what_a_point_found_can_be_highlighted(api: ApiClient) -> None:
    assert api.json(regions=[{"points": POINTS, "highlight": True}]).status_code == 200
    (query,) = api.predictor.queries
    assert query.highlight and query.mask is not None


@pytest.mark.parametrize(
    ("region", "pointer", "words"),
    [
        ({"points": POINTS, "box": [1, 2, 3, 4]}, "/regions/0", "and not box and points"),
        ({}, "/regions/0", "exactly one of box, polygon, mask, points and scribble"),
        ({"points": []}, "/regions/0/points", "list of objects"),
        ({"points": None}, "/regions/0", "exactly one"),
        ({"points": [[1, 2]]}, "/regions/0/points/0", "object"),
        ({"points": [{"x": 1}]}, "/regions/0/points/0/y", "required"),
        ({"points": [{"x": "1", "y": 2}]}, "/regions/0/points/0/x", "number"),
        ({"points": [{"x": 1e300, "y": 2}]}, "/regions/0/points/0/x", "too large"),
        ({"points": [{"x": float("nan"), "y": 2}]}, "/regions/0/points/0/x", "number"),
        ({"points": [{"x": 1, "y": 2, "positive": 1}]}, "/regions/0/points/0/positive", "true or false"),
        ({"points": [{"x": 1, "y": 2, "label": 1}]}, "/regions/0/points/0/label", "Unknown field 'label'"),
        ({"points": POINTS * 65}, "/regions/0/points", "At most 64 points"),
        ({"points": [{"x": 20, "y": 49}]}, "/regions/0/points", "outside the image of 64 x 48 pixels"),
        ({"points": [{"x": 20, "y": 3, "positive": False}]}, "/regions/0/points", "At least one point"),
    ],
)
def test_what_is_refused(api: ApiClient, region: Any, pointer: str, words: str) -> None:
    response = api.json(regions=[region])
    assert response.status_code == 422
    ((found, detail),) = field_errors(response).items()
    assert found == pointer and words in detail
    assert api.predictor.segmented == [1]  # at the start


def test_bad_points_are_reported_in_their_regions_place(api: ApiClient) -> None:
    regions = [{"points": [{"x": 99, "y": 1}]}, {"points": POINTS}, {"points": [{"x": 1}]}]
    first, second, third = api.json(regions=regions, on_region_error="report").json()["regions"]
    assert first["error"]["errors"][0]["pointer"] == "/regions/0/points"
    assert second["box"] == [16, 26, 23, 33]
    assert third["error"]["errors"][0]["pointer"] == "/regions/2/points/0/y"


def test_what_lies_at_the_points_can_be_highlighted(api: ApiClient) -> None:
    regions: list[Any] = [{"points": POINTS, "highlight": True}]
    assert api.json(regions=regions).json()["regions"][0]["box"] == [16, 26, 23, 33]
    query = api.predictor.queries[-1]
    assert query.highlight and query.mask is not None
    assert list(field_errors(api.json(regions=[*regions, {"box": [-9, 0, -1, 9]}]))) == ["/regions/1/box"]


def test_without_a_segmenter_the_answer_says_how_to_have_one(make_api: ApiFactory) -> None:
    ((pointer, detail),) = field_errors(pointed(make_api(FakePredictor()))).items()
    assert pointer == "/regions/0/points" and "--segmenter DIR" in detail


def test_an_image_alone_with_points_in_the_url(api: ApiClient) -> None:
    def post(query: str) -> Any:
        headers = {"content-type": "image/png"}
        return api.client.post(f"/v1/describe?{query}", content=image_bytes(), headers=headers)

    (region,) = post("point=20,30&point=1,2,0").json()["regions"]
    assert region["box"] == [16, 26, 23, 33]
    assert [point.positive for point in api.predictor.queries[-1].points] == [True, False]
    names = [each["id"] for each in post("box=1,2,30,40&point=20,30&id=a&id=b").json()["regions"]]
    assert names == ["a", "b"]
    for query, words in (("point=20", "A point is x,y"), ("point=1,2,3", "A point is"), ("point=a,2", "number")):
        assert words in "".join(field_errors(post(query)).values())


def test_the_models_page_says_what_a_region_may_be_given_as(api: ApiClient) -> None:
    (card,) = api.client.get("/v1/models").json()["models"]
    assert card["capabilities"] == {"prompts": ["box"], "detection": False, "conversation": False, "masks": False}
