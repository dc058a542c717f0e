"""What is given to `DynRefer.ask` becomes a conversation."""

from typing import Any

import pytest

from dynrefer.model.asking import Pointing, asked_conversation
from dynrefer.model.errors import ConversationError
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


@pytest.mark.parametrize(
    ("changed", "field", "said"),
    [
        ({"answers": None}, "answers", "must be a list of texts, and not None"),
        ({"answers": "yes"}, "answers", "must be a list of texts, and not 'yes'"),
        ({"answers": [True, False]}, "answers", "must be a list of texts"),
        ({"question": None}, "messages", "a text or a list of messages, and not None"),
        ({"question": {"role": "user", "content": "What?"}}, "messages", "a list of messages"),
        ({"question": [{"role": "user", "content": 5}]}, "messages", "'content': 'text'"),
        ({"question": [{"role": "system", "content": "x"}]}, "messages", "'content': 'text'"),
        ({"regions": {1: (1, 2, 3, 4)}}, "regions", "must be a text, and not 1"),
        ({"regions": [(1, 2, 3, 4)]}, "regions", "must be a dict from names to regions"),
    ],
)
def test_an_argument_of_another_type_is_named(changed: dict[str, Any], field: str, said: str) -> None:
    given = {"question": "What?", "regions": {}, "answers": ()} | changed
    with pytest.raises(ConversationError, match=said) as refused:
        asked_conversation(
            given["question"], given["regions"], (9, 9), ground=True, answers=given["answers"], max_tokens=8
        )
    assert refused.value.field == field
