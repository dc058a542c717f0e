"""The job that describes the shapes of a CVAT task: with the real SDK, a service process with the embedded model, and a
CVAT server that is faked at the level of HTTP.
"""

from typing import Any

import pytest

from tests.repository import ROOT
from tests.service.integrations.cvat.conftest import Run
from tests.service.integrations.cvat.fake_server import TASK, FakeCvat, label, shape, text_attribute

pytestmark = [pytest.mark.system, pytest.mark.server, pytest.mark.heavy]  # not for its size: it runs many programs
TOURIST = ROOT / "benchmarks" / "photographs" / "tourist.jpg"
PHONE = [308.0, 190.0, 401.0, 258.0]
LABELS = [
    label(1, "thing", text_attribute(11, "caption"), text_attribute(12, "note"), text_attribute(13, "colour")),
    label(2, "plain"),
]
JOB = "dynrefer.service.client.cvat"
MASK = [0, 30 * 20, 310, 195, 339, 214]  # all pixels of a box of 30 x 20


def shapes() -> list[dict[str, Any]]:
    return [
        shape(101, "rectangle", PHONE, 1, attributes=[{"spec_id": 12, "value": "checked"}], z_order=4),
        shape(102, "polygon", [308.0, 190.0, 401.0, 190.0, 401.0, 258.0, 308.0, 258.0], 1, frame=1),
        shape(103, "mask", MASK, 1, frame=1),
        shape(104, "rectangle", [320.0, 177.5, 389.0, 270.5], 1, frame=1, rotation=90.0),
        shape(105, "ellipse", [354.5, 224.0, 401.0, 190.0], 1, frame=2),
        shape(106, "rectangle", PHONE, 1, frame=2, attributes=[{"spec_id": 11, "value": "by a person"}]),
        shape(107, "points", [1.0, 2.0], 1, frame=2),
        shape(108, "rectangle", PHONE, 2, frame=2),
    ]


@pytest.fixture
def fake() -> FakeCvat:
    return FakeCvat([TOURIST] * 12, LABELS, shapes())


def patches(fake: FakeCvat) -> list[dict[str, Any]]:
    return [body for method, path, body in fake.asked if method == "PATCH" and "action=update" in path]


def values(fake: FakeCvat, kind: str, frame: int, number: int = 11) -> list[str]:
    found = [s for s in fake.shapes if s["type"] == kind and s["frame"] == frame and s["label_id"] == 1]
    return [each["value"] for s in found for each in s["attributes"] if each["spec_id"] == number]


def test_it_fills_the_attributes_of_shapes_of_every_kind(run: Run, fake: FakeCvat) -> None:
    ran = run(JOB, "describe", str(TASK), "--attributes", "caption, kind:color=colour")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "6 shapes described; 2 have no inside or no such attribute.\n"
    assert values(fake, "rectangle", 0) == ["a black cell phone"] and values(fake, "rectangle", 0, 13) == ["black"]
    assert values(fake, "polygon", 1) == ["a black cell phone"]
    assert values(fake, "rectangle", 1) == ["a black cell phone"]  # turned by 90 degrees, it is the same
    assert all(values(fake, "mask", 1)) and all(values(fake, "ellipse", 2))


def test_what_is_not_its_business_stays(run: Run, fake: FakeCvat) -> None:
    before = {each["id"]: dict(each) for each in shapes()}
    assert run(JOB, "describe", str(TASK)).returncode == 0
    (patch,) = patches(fake)
    assert {each["id"] for each in patch["shapes"]} == {101, 102, 103, 104, 105}
    for each in patch["shapes"]:
        old = before[each["id"]]
        assert all(each[name] == old[name] for name in ("type", "points", "label_id", "frame", "z_order", "source"))
    assert values(fake, "rectangle", 0, 12) == ["checked"]
    assert {each["id"] for each in fake.shapes} >= {106, 107, 108}
    assert values(fake, "rectangle", 2) == ["by a person"]


def test_a_second_run_has_nothing_to_do_and_overwriting_does_all(run: Run, fake: FakeCvat) -> None:
    run(JOB, "describe", str(TASK))
    again = run(JOB, "describe", str(TASK))
    assert again.stdout.startswith("0 shapes described; 6 had their attributes already;") and len(patches(fake)) == 1
    all_of_them = run(JOB, "describe", str(TASK), "--overwrite")
    assert all_of_them.stdout.startswith("6 shapes described;")
    assert values(fake, "rectangle", 2) == ["a black cell phone"]


def test_it_sends_back_every_few_images(run: Run, fake: FakeCvat) -> None:
    """So that a run that ends early has done a part."""
    fake.shapes = [shape(200 + frame, "rectangle", PHONE, 1, frame=frame) for frame in range(12)]
    ran = run(JOB, "describe", str(TASK))
    assert [len(each["shapes"]) for each in patches(fake)] == [10, 2]
    assert "10 of 12 images" in ran.stderr


def test_what_is_edited_or_deleted_meanwhile_stays_as_it_is(run: Run, fake: FakeCvat) -> None:
    moved = [10.0, 10.0, 60.0, 60.0]

    def edit(time: int) -> None:
        if time == 2:  # it has described, and looks again before it writes
            fake.shapes = [
                {**each, "points": moved} if each["id"] == 101 else each for each in fake.shapes if each["id"] != 102
            ]

    fake.before_read = edit
    ran = run(JOB, "describe", str(TASK))
    assert ran.returncode == 0 and "3 shapes described" in ran.stdout and "2 were changed meanwhile" in ran.stdout
    (kept,) = [each for each in fake.shapes if each["id"] == 101]
    assert kept["points"] == moved and [each["spec_id"] for each in kept["attributes"]] == [12]
    assert not [each for each in fake.shapes if each["type"] == "polygon"]


def test_a_shape_that_cannot_be_described_is_named_and_the_others_are_done(run: Run, fake: FakeCvat) -> None:
    fake.shapes = [shape(101, "rectangle", [900.0, 900.0, 950.0, 950.0], 1), shape(102, "rectangle", PHONE, 1)]
    ran = run(JOB, "describe", str(TASK))
    assert ran.returncode == 1 and "1 shape described; 1 could not be described." in ran.stdout
    assert "shape 101: The box (900, 900, 950, 950) covers nothing" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (["--attributes", "captoin"], {}, "'captoin' is no part of a description"),
        (["--attributes", ","], {}, "names nothing to fill"),
        (["--attributes", "tags"], {}, f"No label of task {TASK} has a text attribute named 'tags'"),
        ([], {"DYNREFER_KEY": "wrong"}, "error: the service:"),
        ([], {"CVAT_ACCESS_TOKEN": "wrong"}, "error: CVAT: 401"),
        ([], {"DYNREFER_SERVER": "http://127.0.0.1:9"}, "error: the service:"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    run: Run, fake: FakeCvat, arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    ran = run(JOB, "describe", str(TASK), *arguments, **environment)
    assert ran.returncode in (1, 2) and sentence in ran.stderr and "Traceback" not in ran.stderr
    assert not patches(fake)
