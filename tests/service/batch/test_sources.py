"""What IN and --boxes may be, and how each format is read."""

import json
from pathlib import Path
from typing import Any

import pytest

from dynrefer.service.batch.errors import BatchError
from dynrefer.service.batch.items import Item
from dynrefer.service.batch.sources import open_source
from tests.service.batch.inputs import make_images, write_requests

COCO = {
    "images": [
        {"id": 7, "file_name": "0001.png", "width": 64, "height": 48},
        {"id": 3, "file_name": "0000.png", "width": 64, "height": 48},
        {"id": 9, "file_name": "0002.png", "width": 64, "height": 48},
    ],
    "annotations": [
        {"id": 11, "image_id": 3, "bbox": [1, 2, 30, 20], "category_id": 2},
        {"id": 12, "image_id": 7, "bbox": [5, 6, 10, 12.5], "category_id": 1},
        {"id": 13, "image_id": 3, "bbox": [8, 9, 20, 20], "category_id": 1},
    ],
    "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images."""
    make_images(tmp_path / "in", 3)
    return tmp_path / "in"


def write(file: Path, content: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def read(given: Path, **options: Any) -> dict[str, Item]:
    source, _ = open_source(given, **options)
    items = list(source.items())
    assert [item.digest for item in items] == [item.digest for item in source.items()]
    return {item.file: item for item in items}


def boxes(item: Item) -> list[list[float]]:
    return [region["box"] for region in item.request["regions"]]


def test_coco_brings_boxes_names_and_ids_image_by_image(folder: Path) -> None:
    items = read(folder, boxes=write(folder.parent / "boxes.json", COCO))
    assert list(items) == ["0001.png", "0000.png"]  # in the file's order; an image without a box is left out
    cats = items["0000.png"]
    assert cats.id == 3 and cats.labels == ("cat", "dog") and cats.image == folder / "0000.png"
    assert cats.request == {
        "box_format": "xywh",
        "regions": [{"id": "11", "box": [1.0, 2.0, 30.0, 20.0]}, {"id": "13", "box": [8.0, 9.0, 20.0, 20.0]}],
    }


def test_a_file_names_images_beside_it_or_in_another_folder(folder: Path) -> None:
    file = write(folder / "boxes.json", COCO)
    assert read(file)["0001.png"].image == folder / "0001.png"
    elsewhere = write(folder.parent / "other" / "boxes.json", COCO)
    assert read(elsewhere, images=folder)["0001.png"].image == folder / "0001.png"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"annotations": 3}, "annotations must be a list of objects"),
        ({"images": [{"file_name": "a.png"}]}, r"images\[0\] needs an id and a file_name"),
        ({"annotations": [{"image_id": 99, "bbox": [1, 2, 3, 4]}]}, r"annotations\[0\] has the image_id 99"),
        ({"annotations": [{"image_id": 7, "caption": "a dog"}]}, "has no annotation with a bbox"),
    ],
)
def test_coco_that_is_none_is_refused_by_its_place(folder: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(BatchError, match=said):
        read(write(folder / "boxes.json", {**COCO, **change}), format="coco")


def test_a_broken_box_is_kept_to_fail_alone(folder: Path) -> None:
    broken = [{"id": 1, "image_id": 7, "bbox": [1, "x", 3, 4]}, {"id": 2, "image_id": 7, "bbox": [1, 2, 3]}]
    (item,) = read(write(folder / "b.json", {**COCO, "annotations": broken})).values()
    assert [str(each) for each in boxes(item)] == ["[1.0, nan, 3.0, 4.0]", "[nan, nan, nan, nan]"]


@pytest.mark.parametrize(
    ("header", "row", "notation"),
    [
        ("image,x1,y1,x2,y2,label,id", "0000.png,1,2,30,20,cat,a7", "xyxy"),
        ("filename,width,height,class,xmin,ymin,xmax,ymax", "0000.png,64,48,cat,1,2,30,20", "xyxy"),
        ("x;y;w;h;file_name", "1;2;30;20;0000.png", "xywh"),
        ("path\tx_center\ty_center\twidth\theight", "0000.png\t1\t2\t30\t20", "cxcywh"),
    ],
)
def test_a_table_says_by_its_header_what_it_holds(folder: Path, header: str, row: str, notation: str) -> None:
    items = read(folder, boxes=write(folder.parent / "boxes.csv", f"{header}\n{row}\n\n"))
    assert boxes(items["0000.png"]) == [[1.0, 2.0, 30.0, 20.0]]
    assert items["0000.png"].request["box_format"] == notation


def test_rows_of_one_image_are_one_item(folder: Path) -> None:
    text = "image,x1,y1,x2,y2\n0001.png,1,2,3,4\n0000.png,5,6,7,8\n0001.png,9,9,20,20\n"
    items = read(write(folder / "boxes.csv", text))
    assert list(items) == ["0001.png", "0000.png"]
    assert boxes(items["0001.png"]) == [[1.0, 2.0, 3.0, 4.0], [9.0, 9.0, 20.0, 20.0]]
    assert [region["id"] for region in items["0001.png"].request["regions"]] == ["0", "1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("image,left,top\na.png,1,2\n", "no columns hold boxes; call them x1,y1,x2,y2 or x,y,width,height"),
        ("picture,x1,y1,x2,y2\na.png,1,2,3,4\n", "no column names the image"),
    ],
)
def test_a_table_without_its_columns_is_refused(folder: Path, text: str, said: str) -> None:
    with pytest.raises(BatchError, match=said):
        read(write(folder / "boxes.csv", text))


def test_yolo_lies_beside_the_images_or_in_labels(tmp_path: Path) -> None:
    root = tmp_path / "set"
    make_images(root / "images" / "train", 3)
    write(root / "labels" / "train" / "0000.txt", "1 0.5 0.5 0.25 0.5\n0 .1 .1 .2 .2 0.9\n")
    write(root / "labels" / "train" / "0001.txt", "")
    write(root / "data.yaml", "names: {0: dog, 1: cat}\n")
    by_root, by_images = read(root), read(root / "images")
    assert list(by_root) == ["images/train/0000.png"] and list(by_images) == ["train/0000.png"]
    for item in (*by_root.values(), *by_images.values()):
        assert item.labels == ("cat", "dog")
        assert item.request["coordinates"] == "unit" and item.request["box_format"] == "cxcywh"
        assert boxes(item) == [[0.5, 0.5, 0.25, 0.5], [0.1, 0.1, 0.2, 0.2]]


def test_yolo_may_lie_in_a_folder_of_its_own_and_hold_polygons(folder: Path) -> None:
    labels = folder.parent / "texts"
    write(labels / "0002.txt", "3 0.1 0.1 0.5 0.1 0.5 0.5\n")
    write(labels / "classes.txt", "dog\ncat\n")
    (item,) = read(folder, boxes=labels).values()
    assert item.labels == ("3",)  # without a name
    assert item.request["regions"] == [{"id": "0", "polygon": [[0.1, 0.1, 0.5, 0.1, 0.5, 0.5]]}]


def test_a_broken_label_file_fails_alone(folder: Path) -> None:
    write(folder / "0000.txt", "1 0.5 0.5 0.25 0.5\n")
    write(folder / "0001.txt", "1 0.5 0.5 0.25 0.5\n1 0.5 oops 0.2 0.2\n")
    items = read(folder)
    assert items["0001.png"].flaw == "0001.txt, line 2 is not a class and a box or polygon."
    assert not items["0000.png"].flaw


VOC = """<annotation><filename>{name}</filename><object><name>dog</name><bndbox><xmin>1</xmin><ymin>2.5</ymin>
<xmax>30</xmax><ymax>20</ymax></bndbox></object><object><name>cat</name></object></annotation>"""


def test_voc_lies_beside_the_images_or_in_annotations(folder: Path) -> None:
    write(folder / "0000.xml", VOC.format(name="0000.png"))
    apart = folder.parent / "Annotations"
    write(apart / "0002.xml", VOC.format(name="renamed.jpg"))  # found by the file's own name
    for items, name in ((read(folder), "0000.png"), (read(folder, boxes=apart), "0002.png")):
        assert list(items) == [name] and items[name].image == folder / name
        assert items[name].labels == ("dog", "cat")
        assert str(boxes(items[name])) == "[[1.0, 2.5, 30.0, 20.0], [nan, nan, nan, nan]]"


def test_vocs_own_layout_is_read(tmp_path: Path) -> None:
    make_images(tmp_path / "VOC" / "JPEGImages", 1)
    write(tmp_path / "VOC" / "Annotations" / "0000.xml", VOC.format(name="0000.png"))
    assert list(read(tmp_path / "VOC")) == ["JPEGImages/0000.png"]


def test_broken_xml_fails_alone(folder: Path) -> None:
    write(folder / "0000.xml", VOC.format(name="0000.png"))
    write(folder / "0001.xml", "<annotation><object>")
    assert "is not XML" in read(folder)["0001.xml"].flaw


def test_lines_are_requests_with_a_path_for_an_image(folder: Path) -> None:
    file = write_requests(
        folder / "r.jsonl",
        [
            {"image": "0000.png", "id": "first", "regions": [{"box": [1, 2, 3, 4]}], "task": "tags"},
            {"image": {"base64": "aGVsbG8="}, "regions": [{"box": [1, 2, 3, 4]}]},
        ],
    )
    items = list(open_source(file)[0].items())
    assert items[0].request == {"regions": [{"box": [1, 2, 3, 4]}], "task": "tags"}
    assert (items[0].file, items[0].image, items[0].id) == ("0000.png", folder / "0000.png", "first")
    assert (items[1].file, items[1].image) == ("line 2", b"hello")


@pytest.mark.parametrize(
    ("line", "flaw"),
    [
        ("{nothing", "line 2 is not a JSON object."),
        ("[1]", "line 2 is not a JSON object."),
        ('{"regions": []}', '`image` must be a path, or {"base64": ...}.'),
        ('{"image": {"url": "https://example.org/a.png"}}', '`image` must be a path, or {"base64": ...}.'),
        ('{"image": {"base64": "???"}}', "The image is not standard Base64"),
        ('{"file_name": "a.png", "objects": {}}', "`objects` needs a list `bbox`"),
        ('{"file_name": 3, "objects": {}}', "`file_name` must be a path."),
    ],
)
def test_a_line_that_makes_no_question_fails_alone(folder: Path, line: str, flaw: str) -> None:
    good = '{"image": "0000.png", "regions": [{"box": [1, 2, 3, 4]}]}'
    first, second = open_source(write(folder / "r.jsonl", f"{good}\n{line}\n"))[0].items()
    assert not first.flaw and flaw in second.flaw


def test_hugging_faces_metadata_is_read(folder: Path) -> None:
    line = {"file_name": "0001.png", "objects": {"bbox": [[1, 2, 3, 4]], "category": ["dog"], "id": [5]}}
    (item,) = read(write_requests(folder / "metadata.jsonl", [line])).values()
    assert item.request == {"box_format": "xywh", "regions": [{"id": "5", "box": [1.0, 2.0, 3.0, 4.0]}]}
    assert item.labels == ("dog",)


def test_the_one_thing_in_a_folder_that_has_boxes_brings_them(folder: Path) -> None:
    write(folder / "annotations" / "boxes.json", COCO)
    assert list(read(folder)) == ["0001.png", "0000.png"]
    write(folder / "out.jsonl.journal.jsonl", "{}")  # what the command writes itself brings none
    assert len(read(folder, written=(folder / "out.jsonl",))) == 2


def test_a_choice_of_boxes_is_left_to_the_user(folder: Path) -> None:
    write(folder / "boxes.json", COCO)
    write(folder / "boxes.csv", "image,x1,y1,x2,y2\n0001.png,1,2,3,4\n")
    with pytest.raises(BatchError, match=r"boxes\.csv \(csv\), .*boxes\.json \(coco\); name one by --boxes"):
        read(folder)
    assert list(read(folder, format="csv")) == ["0001.png"]


def test_a_folder_without_boxes_is_refused_with_both_choices(folder: Path) -> None:
    with pytest.raises(BatchError, match="name a file or folder with boxes by --boxes .* or .* found with --find"):
        read(folder)


def test_regions_are_found_in_every_image_of_a_folder_or_of_lines(folder: Path) -> None:
    make_images(folder / "sub" / "deeper", 1, "jpg")
    assert list(read(folder, find=True)) == ["0000.png", "0001.png", "0002.png", "sub/deeper/0000.jpg"]
    file = write_requests(folder / "r.jsonl", [{"image": "0000.png"}, {"image": "0001.png", "regions": []}])
    items = read(file, find=True)
    assert not items["0000.png"].flaw
    assert items["0001.png"].flaw == "With --find a line has `image` alone, not `regions`."


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"find": True, "boxes": Path(".")}, "give one of the two"),
        ({"boxes": Path("/nowhere")}, "there is no /nowhere"),
        ({"images": Path(".")}, "is a folder itself"),
        ({"boxes": Path("."), "format": "coco"}, "--format coco is read from a file"),
    ],
)
def test_options_that_contradict_each_other_are_refused(folder: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(BatchError, match=said):
        read(folder, **options)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BatchError, match="holds no images"):
        read(tmp_path, find=True)


def test_a_file_of_another_kind_is_refused(folder: Path) -> None:
    with pytest.raises(BatchError, match=r"is neither COCO's JSON, a CSV nor JSONL; name its format by --format"):
        read(write(folder / "boxes.dat", "hello"))
