"""What is given to `DynRefer.ask` becomes a conversation."""

from dynrefer.model.asking import Pointing, asked_conversation
from dynrefer.model.prompts import Polygon, Scribble


def test_a_scribble_has_a_box_and_no_mask_and_a_polygon_both() -> None:
    given: dict[str, Pointing] = {
        "line": Scribble(((10.0, 20.0, 30.0, 40.0),)),
        "ring": Polygon(((5.0, 5.0, 15.0, 5.0, 15.0, 25.0),)),
    }
    asked = asked_conversation("What are they?", given, (60, 60), ground=True, answers=(), max_tokens=8)
    line, ring = (region.query for region in asked.regions)
    assert line.box == (10.0, 20.0, 30.0, 40.0) and line.mask is None and line.rough
    assert ring.box == (5.0, 5.0, 15.0, 25.0) and ring.mask is not None and not ring.rough
