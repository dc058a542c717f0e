"""POST /v1/describe about polygons, scribbles and masks: their boxes, in every frame, and every refusal."""

import io
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dynrefer.model.masks import bitmap_from_mask, mask_from_bitmap
from dynrefer.model.run_lengths import runs_of_bitmap
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

TRIANGLE = [[10, 8], [30, 8], [10, 40]]
FLAT = [10, 8, 30, 8, 10, 40]
BOX = [10, 8, 30, 40]


@pytest.fixture
def api(make_api: ApiFactory) -> ApiClient:
    """Of the fake predictor."""
    return make_api()


def blob(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.bool_]:
    """A mask whose first and last rows and columns are 8, 39 and 10, 29."""
    bitmap = np.zeros((height, width), dtype=bool)
    bitmap[8:40, 10:20] = True
    bitmap[8:12, 10:30] = True
    return bitmap


def png(values: Any, mode: str | None = None) -> str:
    buffer = io.BytesIO()
    image = values if isinstance(values, Image.Image) else Image.fromarray(np.asarray(values))
    (image if mode is None else image.convert(mode)).save(buffer, "PNG")
    return in_base64(buffer.getvalue())


def rle(bitmap: NDArray[np.bool_]) -> dict[str, Any]:
    mask = mask_from_bitmap(bitmap)
    return {"size": list(mask.size), "counts": mask.counts}


def box_of(api: ApiClient, region: dict[str, Any], **fields: Any) -> list[float]:
    answer = api.json(regions=[region], **fields).json()
    assert "mask" not in answer["regions"][0]
    return answer["regions"][0]["box"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "polygon", [FLAT, TRIANGLE, [FLAT], [TRIANGLE], [TRIANGLE, [[12, 30], [25, 30], [14, 36]]], [FLAT, TRIANGLE]]
)
def test_every_notation_of_a_polygon(api: ApiClient, polygon: Any) -> None:
    assert box_of(api, {"polygon": polygon}) == BOX


def test_a_scribble_is_bounded_and_widened_as_a_polygon(api: ApiClient) -> None:
    assert box_of(api, {"scribble": [[10, 8], [30, 40]]}) == BOX
    assert box_of(api, {"scribble": [[[10, 8], [12, 20]], [[30, 10], [30, 40]]]}) == BOX
    assert box_of(api, {"scribble": [20, 5, 20, 30]}) == [19, 5, 20, 30]


def test_a_polygon_reaching_beyond_the_image_is_clipped(api: ApiClient) -> None:
    (region,) = api.json(regions=[{"polygon": [[40, 30], [90, 30], [40, 70]]}]).json()["regions"]
    assert region["box"] == [40, 30, WIDTH, HEIGHT] and region["clipped"] is True


@pytest.mark.parametrize(
    "mask",
    [
        rle(blob()),
        {"size": [HEIGHT, WIDTH], "counts": runs_of_bitmap(blob()).tolist()},
        {"png": png(blob())},
        {"png": png(blob() * np.uint8(200))},
        {"png": png(blob() * np.uint16(40_000))},
        {"png": png(Image.fromarray(blob() * np.uint8(255)).quantize(2))},
        {"png": png(Image.merge("RGBA", [Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8))] * 3
                                + [Image.fromarray(blob() * np.uint8(255))]))},
        {"png": "data:image/png;base64," + png(blob() * np.uint8(255), "RGB")},
    ],
)  # fmt: skip
def test_the_box_of_a_mask_ends_with_its_last_pixel(api: ApiClient, mask: Any) -> None:
    assert box_of(api, {"mask": mask}) == [10, 8, 29, 39]


def with_alpha(alpha: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    image = Image.new("RGB", (WIDTH, HEIGHT), (10, 20, 30))
    image.putalpha(Image.fromarray(alpha))
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_the_images_own_alpha_channel(api: ApiClient, kind: str) -> None:
    image = with_alpha(blob() * np.uint8(200), kind)
    assert box_of(api, {"mask": "alpha"}, image=image) == [10, 8, 29, 39]


@pytest.mark.parametrize(
    ("coordinates", "width", "height"), [("unit", 1, 1), ("percent", 100, 100), ("per_mille", 1000, 1000)]
)
def test_polygons_and_scribbles_are_in_the_requests_coordinates(
    api: ApiClient, coordinates: str, width: float, height: float
) -> None:
    scaled = [[x * width / WIDTH, y * height / HEIGHT] for x, y in TRIANGLE]
    for name in ("polygon", "scribble"):
        assert box_of(api, {name: scaled}, coordinates=coordinates, box_format="xywh") == pytest.approx(BOX)
    assert box_of(api, {"mask": rle(blob())}, coordinates=coordinates) == [10, 8, 29, 39]


@pytest.mark.parametrize("coordinates", ["pixels", "unit"])
def test_both_frames_of_a_turned_image(api: ApiClient, coordinates: str) -> None:
    """Stored x runs down the upright image, stored y from right to left."""
    for frame, (width, height) in {"upright": (48, 64), "stored": (64, 48)}.items():
        factors = (1 / width, 1 / height) if coordinates == "unit" else (1, 1)
        polygon = [[x * factors[0], y * factors[1]] for x, y in TRIANGLE]
        asked: dict[str, Any] = {"image": turned_image_bytes(), "orientation": frame, "coordinates": coordinates}
        assert box_of(api, {"polygon": polygon}, **asked) == pytest.approx(BOX)
        (query,) = api.predictor.queries[-1:]
        assert query.box == pytest.approx(BOX if frame == "upright" else (48 - 40, 10, 48 - 8, 30))
        for mask in (rle(blob(height, width)), {"png": png(blob(height, width))}):
            assert box_of(api, {"mask": mask}, **asked) == [10, 8, 29, 39]


@pytest.mark.parametrize(("frame", "size"), [("upright", (64, 48)), ("stored", (48, 64))])
def test_a_highlighted_mask_is_turned_upright(api: ApiClient, frame: str, size: tuple[int, int]) -> None:
    given = blob(*size)
    api.json(image=turned_image_bytes(), orientation=frame, regions=[{"mask": rle(given), "highlight": True}])
    query = api.predictor.queries[-1]
    assert query.highlight and query.mask is not None
    expected = given if frame == "upright" else np.rot90(given, -1)
    assert np.array_equal(bitmap_from_mask(query.mask), expected)


def test_a_highlighted_polygon_holds_the_pixels_whose_centres_it_holds(api: ApiClient) -> None:
    api.json(regions=[{"polygon": [[2, 3], [6, 3], [6, 5], [2, 5]], "highlight": True}])
    query = api.predictor.queries[-1]
    assert query.mask is not None
    rows, columns = np.nonzero(bitmap_from_mask(query.mask))
    assert (rows.min(), rows.max(), columns.min(), columns.max(), len(rows)) == (3, 4, 2, 5, 8)


def test_without_highlight_no_mask_is_kept(api: ApiClient) -> None:
    api.json(regions=[{"mask": rle(blob())}, {"polygon": TRIANGLE}])
    assert [query.mask for query in api.predictor.queries[-2:]] == [None, None]


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"box": [1, 2, 9, 9], "polygon": TRIANGLE}, "", "exactly one of box, polygon, mask, points and scribble"),
    ({"mask": "alpha", "scribble": [1, 2, 3, 4]}, "", "and not mask and scribble"),
    ({"polygon": None}, "", "exactly one"),
    ({"polygon": []}, "/polygon", "empty"),
    ({"polygon": "x"}, "/polygon", "a list of rings"),
    ({"polygon": [[]]}, "/polygon/0", "at least 3 points"),
    ({"polygon": [[1, 2], [3, 4]]}, "/polygon", "at least 3 points, and this one has 2"),
    ({"polygon": [FLAT, [1, 2, 3, 4, 5]]}, "/polygon/1", "a y is missing"),
    ({"polygon": [FLAT, ["a"] * 6]}, "/polygon/1", "numbers x, y"),
    ({"polygon": [[1, 2], [3, True], [5, 6]]}, "/polygon/0", "at least 3 points"),
    ({"polygon": [[1, 2], [3, float("nan")], [5, 6]]}, "/polygon", "finite"),
    ({"polygon": [[1, 2], [3, 10**400], [5, 6]]}, "/polygon", "finite and below 1e15"),
    ({"polygon": [[5, 5], [15, 15], [25, 25]]}, "/polygon", "no area"),
    ({"polygon": [[5, 5], [25, 25], [25, 5], [5, 25]]}, "/polygon", "crosses itself near (15, 15)"),
    ({"polygon": [[100, 5], [125, 25], [125, 5]]}, "/polygon", "covers nothing of the image of 64 x 48 pixels"),
    ({"polygon": [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]]}, "/polygon", '"coordinates": "unit"'),
    ({"polygon": TRIANGLE * 20}, "/polygon", "60 points; at most 50"),
    ({"scribble": [3, 4]}, "/scribble", "at least 2 points"),
    ({"scribble": [[90, 5], [95, 9]]}, "/scribble", "covers nothing"),
    ({"scribble": [[1, 5], [9, 9]], "highlight": True}, "/highlight", "polygon, a mask or points"),
    ({"box": [1, 5, 9, 9], "highlight": True}, "/highlight", "polygon, a mask or points"),
    ({"box": [1, 5, 9, 9], "highlight": "yes"}, "/highlight", "true or false"),
    ({"polygon": [10.6, 8, 10.9, 8, 10.9, 40], "highlight": True}, "/polygon", "no pixel's centre"),
    ({"mask": "beta"}, "/mask", "alpha"),
    ({"mask": 7}, "/mask", "size"),
    ({"mask": {}}, "/mask/size", "required"),
    ({"mask": {"size": [HEIGHT, WIDTH]}}, "/mask/counts", "required"),
    ({"mask": {"png": png(blob()), "size": [1, 1]}}, "/mask", "not both"),
    ({"mask": {"png": png(blob()), "colour": 1}}, "/mask/colour", "Unknown field 'colour'"),
    ({"mask": {"size": [HEIGHT, 0], "counts": "0"}}, "/mask/size", "whole numbers above 0"),
    ({"mask": {"size": [HEIGHT, WIDTH], "counts": [1, -1]}}, "/mask/counts", "whole numbers"),
    ({"mask": {"size": [HEIGHT, WIDTH], "counts": [5, 5]}}, "/mask/counts", "add up to 10 pixels; 64 x 48 are 3072"),
    ({"mask": {"size": [HEIGHT, WIDTH], "counts": ""}}, "/mask/counts", "empty"),
    ({"mask": {"size": [HEIGHT, WIDTH], "counts": "55"}}, "/mask", "do not fill"),
    ({"mask": {"size": [HEIGHT, WIDTH], "counts": "\u20ac"}}, "/mask", "malformed"),
    ({"mask": {"size": [HEIGHT, WIDTH], "counts": "o" * 500}}, "/mask", "truncated"),
    ({"mask": {"size": [1 << 39, 1 << 39], "counts": [1 << 78]}}, "/mask/counts", "whole numbers"),
    ({"mask": rle(blob(WIDTH, HEIGHT))}, "/mask/size", "COCO's size is [height, width]"),
    ({"mask": rle(blob(50, 50))}, "/mask/size", "50 x 50 pixels, and the image 64 x 48"),
    ({"mask": rle(np.zeros((HEIGHT, WIDTH), dtype=bool))}, "/mask", "empty"),
    ({"mask": {"png": 7}}, "/mask/png", "text"),
    ({"mask": {"png": ""}}, "/mask/png", "empty"),
    ({"mask": {"png": "%%%"}}, "/mask/png", "not standard Base64"),
    ({"mask": {"png": in_base64(image_bytes("JPEG"))}}, "/mask/png", "not a PNG"),
    ({"mask": {"png": png(blob())[:80]}}, "/mask/png", "The mask"),
    ({"mask": {"png": png(blob(9, 9 * 40))}}, "/mask/png", "360 x 9 pixels, and the image 64 x 48"),
    ({"mask": {"png": png(blob() * np.uint8(0))}}, "/mask/png", "black"),
    ({"mask": {"png": png(blob() * np.uint8(1))}}, "/mask/png", "multiply by 255"),
    ({"mask": "alpha"}, "/mask", "no alpha channel"),
]


@pytest.mark.parametrize(("region", "pointer", "words"), REFUSED)
def test_what_is_refused(make_api: ApiFactory, region: dict[str, Any], pointer: str, words: str) -> None:
    api = make_api(max_prompt_points=50)
    response = api.json(regions=[region])
    assert response.status_code == 422
    ((found, detail),) = field_errors(response).items()
    assert found == f"/regions/0{pointer}" and words in detail
    regions = [{"polygon": TRIANGLE}, region, {"box": [-9, 0, -1, 9]}]
    first, second, third = api.json(regions=regions, on_region_error="report").json()["regions"]
    assert first["box"] == BOX and third["error"]["errors"][0]["pointer"] == "/regions/2/box"
    assert second["error"]["errors"] == [{"pointer": f"/regions/1{pointer}", "detail": detail}]


@pytest.mark.parametrize(("alpha", "words"), [(255, "opaque everywhere"), (0, "empty")])
def test_an_alpha_channel_that_shows_no_region(api: ApiClient, alpha: int, words: str) -> None:
    image = with_alpha(np.full((HEIGHT, WIDTH), alpha, dtype=np.uint8))
    ((pointer, detail),) = field_errors(api.json(image=image, regions=[{"mask": "alpha"}])).items()
    assert pointer == "/regions/0/mask" and words in detail


def test_a_bomb_costs_no_more_than_its_header(api: ApiClient) -> None:
    bomb = png(Image.new("1", (30_000, 30_000), 1))
    ((pointer, detail),) = field_errors(api.json(regions=[{"mask": {"png": bomb}}])).items()
    assert pointer == "/regions/0/mask/png" and "30000 x 30000 pixels" in detail


def test_a_long_mask_is_cut_out_of_the_document(api: ApiClient) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), np.uint8)
    noise[0, 0] = noise[-1, -1] = 255
    text = png(noise, "RGBA")
    assert len(text) > 4_096
    regions = [{"mask": {"png": text}}, {"mask": {"png": text[:-9] + "*" + text[-8:]}}]
    found = field_errors(api.json(regions=regions))
    assert list(found) == ["/regions/1/mask/png"]
    document = {"regions": regions[:1]}
    files = {"image": ("image", image_bytes())}
    response = api.client.post("/v1/describe", files=files, data={"request": json.dumps(document)})
    assert response.json()["regions"][0]["box"] == [0, 0, WIDTH - 1, HEIGHT - 1]


def test_an_image_alone_with_prompts_in_the_url(api: ApiClient) -> None:
    def post(query: str, image: bytes | None = None) -> Any:
        headers = {"content-type": "image/png"}
        return api.client.post(f"/v1/describe?{query}", content=image or image_bytes(), headers=headers)

    flat = ",".join(map(str, FLAT))
    found = post(f"box=1,2,30,40&polygon={flat}&scribble=3,4,20,30&id=a&id=b&id=c").json()["regions"]
    assert [(each["id"], each["box"]) for each in found] == [
        ("a", [1, 2, 30, 40]),
        ("b", BOX),
        ("c", [3, 4, 20, 30]),
    ]
    image = with_alpha(blob() * np.uint8(255))
    (region,) = post("mask=alpha&highlight=true", image).json()["regions"]
    assert region["box"] == [10, 8, 29, 39] and api.predictor.queries[-1].highlight
    assert "1 regions" not in str(post("polygon=1,2&id=a").json())
    assert list(field_errors(post("polygon=1,2"))) == ["/regions/0/polygon"]
    assert list(field_errors(post("highlight=true"))) == ["/highlight"]
    assert list(field_errors(post(f"polygon={flat}&id=a&id=b"))) == ["/id"]
