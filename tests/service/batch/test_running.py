"""How a run keeps the engine busy: room, order, stops, and an engine that takes nothing for now."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dynrefer.service.batch import running
from dynrefer.service.batch.errors import BatchError, DeviceGoneError
from dynrefer.service.batch.items import Item, Line
from dynrefer.service.batch.journal import Entry
from dynrefer.service.batch.running import Room, Run
from dynrefer.service.errors import FieldError, UnavailableError

ENTRY, ROOM = Entry(0, 1, 0), Room(images=3, regions=100)


def items(count: int, regions: int = 1) -> list[Item]:
    request = {"regions": [{"box": [0, 0, 1, 1]}] * regions}
    return [Item(f"{place}.png", Path("x"), request) for place in range(count)]


def over(
    asked: list[Item] | Iterator[Item],
    answer: Callable[[Item], Awaitable[Line]],
    room: Room = ROOM,
    **options: Any,
) -> tuple[bool, list[Line]]:
    """Whether the run was complete, and the lines that it wrote."""
    lines: list[Line] = []

    def write(item: Item, line: Line) -> Entry:
        lines.append(line)
        return ENTRY

    run = Run(answer, options.pop("write", write), **options)
    return asyncio.run(run.over(asked, room)), lines


class Busy:
    """Answers after some turns of the loop; counts what is under way."""

    def __init__(self) -> None:
        self.images = self.regions = self.most_images = self.most_regions = 0

    async def __call__(self, item: Item) -> Line:
        self.images, self.regions = self.images + 1, self.regions + item.num_regions
        self.most_images, self.most_regions = max(self.most_images, self.images), max(self.most_regions, self.regions)
        for _ in range(5):
            await asyncio.sleep(0)
        self.images, self.regions = self.images - 1, self.regions - item.num_regions
        return {"regions": []}


def test_no_more_is_under_way_than_there_is_room_for() -> None:
    busy = Busy()
    complete, lines = over(items(50), busy)
    assert complete and len(lines) == 50 and busy.most_images == 3
    busy = Busy()
    over(items(20, regions=4), busy, Room(images=10, regions=10))
    assert busy.most_regions == 8


def test_an_image_with_more_regions_than_there_is_room_for_goes_alone() -> None:
    busy = Busy()
    assert over(items(4, regions=50), busy, Room(images=10, regions=10))[0]
    assert busy.most_images == 1


def test_items_are_taken_as_there_is_room_and_not_before() -> None:
    taken = 0

    def some() -> Iterator[Item]:
        nonlocal taken
        for item in items(1_000):
            taken += 1
            yield item

    seen: list[int] = []

    async def answer(item: Item) -> Line:
        seen.append(taken)
        await asyncio.sleep(0)
        return {"regions": []}

    over(some(), answer)
    assert max(ahead - place for place, ahead in enumerate(seen)) <= 5


def test_a_stop_lets_what_is_under_way_end_and_begins_nothing() -> None:
    begun = []

    async def scene() -> bool:
        async def answer(item: Item) -> Line:
            begun.append(item.file)
            if len(begun) == 4:
                run.stop()
            await asyncio.sleep(0.01)
            return {"regions": []}

        run = Run(answer, lambda item, line: written.append(item.file) or ENTRY)  # type: ignore[func-returns-value]
        return await run.over(items(100), Room(images=3, regions=100))

    written: list[str] = []
    assert asyncio.run(scene()) is False
    assert sorted(written) == sorted(begun) and 4 <= len(begun) <= 6


def test_an_abort_gives_up_what_is_under_way() -> None:
    written: list[str] = []

    async def scene() -> bool:
        async def answer(item: Item) -> Line:
            if item.file == "2.png":
                run.abort()
            await asyncio.sleep(30)
            return {"regions": []}

        run = Run(answer, lambda item, line: written.append(item.file) or ENTRY)  # type: ignore[func-returns-value]
        return await run.over(items(100), Room(images=5, regions=100))

    assert asyncio.run(asyncio.wait_for(scene(), 5)) is False
    assert not written


def test_an_engine_that_takes_nothing_for_now_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "RETRY_S", 0.001)
    tries: dict[str, int] = {}

    async def answer(item: Item) -> Line:
        tries[item.file] = tries.get(item.file, 0) + 1
        if tries[item.file] < 3:
            raise UnavailableError("The service is waiting for its device to have memory again.")
        return {"regions": []}

    complete, lines = over(items(5), answer)
    assert complete and not any("error" in line for line in lines) and set(tries.values()) == {3}


def test_one_that_takes_nothing_any_more_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "RETRY_S", 0.001)
    monkeypatch.setattr(running, "PATIENCE_S", 0.05)

    async def answer(item: Item) -> Line:
        raise UnavailableError("The service is waiting for its device to answer again.")

    with pytest.raises(DeviceGoneError, match="to answer again"):
        over(items(5), answer)


def test_what_does_not_fit_the_device_is_a_failure_of_its_item() -> None:
    async def answer(item: Item) -> Line:
        raise UnavailableError("It does not fit.", fields=[FieldError("/regions/0", "It does not fit.")])

    complete, lines = over(items(1), answer)
    assert complete and lines[0]["error"] == {"type": "unavailable", "detail": "It does not fit. (at /regions/0)"}


def test_a_lost_device_fails_no_item() -> None:
    async def answer(item: Item) -> Line:
        raise RuntimeError("whatever")

    with pytest.raises(DeviceGoneError):
        over(items(5), answer, lost=lambda: True)


def test_an_unforeseen_error_is_a_failure_with_its_first_line(caplog: pytest.LogCaptureFixture) -> None:
    async def answer(item: Item) -> Line:
        raise RuntimeError("image work failed in a worker process:\nTraceback")

    complete, lines = over(items(1), answer)
    assert complete and lines[0]["error"]["detail"].startswith("Something went wrong: image work failed")
    assert "Traceback" not in lines[0]["error"]["detail"] and "0.png failed" in caplog.text


def test_a_journal_that_cannot_be_written_ends_the_run() -> None:
    def write(item: Item, line: Line) -> Entry:
        raise BatchError("cannot write the journal: no space left on device.")

    with pytest.raises(BatchError, match="no space left"):
        over(items(50), Busy(), write=write)
