"""What is kept of an error, and what is not."""

import logging
import weakref

import pytest

from dynrefer.model.errors import PromptError
from dynrefer.service.engine.kept_errors import anew, kept
from dynrefer.service.errors import QueueFullError


class Held:
    """What a function holds."""


def _fail(held: Held) -> None:
    try:
        raise LookupError("what began it")
    except LookupError as error:
        raise ValueError("what came of it") from error


def test_a_kept_error_holds_none_of_the_functions_that_it_passed_through(
    caplog: pytest.LogCaptureFixture, uncollected: None
) -> None:
    held = Held()
    left = weakref.ref(held)
    try:
        _fail(held)
    except ValueError as raised:
        error = kept(raised)
    del held
    assert left() is None
    logging.getLogger("test").error("it failed", exc_info=error)
    for part in ("in _fail", "what began it", "what came of it", "ValueError"):
        assert part in caplog.text, "its trace is still told"
    assert kept(error) is error and caplog.text.count("what began it") == 2


def test_an_error_is_raised_anew_with_all_that_it_says() -> None:
    full = anew(QueueFullError("full.", 3.0, "key_share"))
    assert (full.detail, full.retry_after_s, full.reason) == ("full.", 3, "key_share")
    flaw = PromptError("no such thing.", "mask/png")
    flaw.index = 4
    again = anew(flaw)
    assert again is not flaw and (str(again), again.field, again.index) == ("no such thing.", "mask/png", 4)
