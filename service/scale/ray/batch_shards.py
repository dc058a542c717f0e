"""Shards of a batch run: the items that one call of a worker answers, what it replies, and the stream of both.

Ray Data moves the shards: one task makes them from the input, on the machine of the command, as they are wanted; the
actors of a pool answer them; the command takes the replies. Its object store holds the shards that wait and nothing
else, so memory does not grow with the input. What is exactly-once, and what is tried again, is not left to it: see
`batch.py`.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dynrefer.service.batch.answers import Order
from dynrefer.service.batch.errors import BatchError
from dynrefer.service.batch.items import Digest, Item, ItemSource, Line
from dynrefer.service.batch.running import Room

if TYPE_CHECKING:
    from ray.data import Dataset

MAX_SHARD_BYTES = 8 << 20  # of images that stand in the input itself
ONE_BY_ONE = Room(images=1, regions=1)
_COLUMN = "shard"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why nothing can be answered, as a sentence. kind: what cannot be used: the model, its device, or the input."""

    kind: Literal["model", "device", "input"]
    sentence: str


@dataclass(frozen=True, slots=True)
class Shard:
    """problem: why the input cannot be read on; the last shard then, without items."""

    items: tuple[Item, ...] = ()
    problem: Problem | None = None

    @property
    def key(self) -> bytes:
        """Tells it from all others that are under way."""
        return self.items[0].digest


@dataclass(frozen=True, slots=True)
class Answered:
    """An item's line. regions: how many it brought."""

    digest: Digest
    regions: int
    line: Line


@dataclass(frozen=True, slots=True)
class Reply:
    """Of a worker to a shard; without lines where it was not begun (`batch_control.Verdict`), or there is a problem.

    revision: of its model. loaded_s: since when that is there, in seconds.
    """

    lines: tuple[Answered, ...] = ()
    revision: str = ""
    loaded_s: float = 0.0
    problem: Problem | None = None


@dataclass(frozen=True)
class Wanted:
    """Where shards come from. skip: items that have their answer. size: of a shard, at most; an image alone may be
    larger."""

    source: ItemSource
    skip: Order
    size: Room

    def shards(self, stopped: Callable[[], bool]) -> Iterator[Shard]:
        """All, in the order of the input, until a stop is asked for; the same for the same input and answers."""
        try:
            for items in _groups(self._items(), self.size):
                if stopped():
                    return
                yield Shard(items)
        except BatchError as error:
            yield Shard(problem=Problem("input", str(error)))

    def _items(self) -> Iterator[Item]:
        begun = set(self.skip)
        for item in self.source.items():
            digest = item.digest
            if digest not in begun:
                begun.add(digest)
                yield item


def _groups(items: Iterable[Item], size: Room) -> Iterator[tuple[Item, ...]]:
    group: list[Item] = []
    regions = data = 0
    for item in items:
        own = len(item.image) if isinstance(item.image, bytes) else 0
        full = len(group) >= size.images or regions + item.num_regions > size.regions or data + own > MAX_SHARD_BYTES
        if group and full:
            yield tuple(group)
            group, regions, data = [], 0, 0
        group.append(_for_any_folder(item))
        regions += item.num_regions
        data += own
    if group:
        yield tuple(group)


def _for_any_folder(item: Item) -> Item:
    """An item whose file is found from any working directory."""
    return replace(item, image=item.image.absolute()) if isinstance(item.image, Path) else item


@dataclass(frozen=True, slots=True)
class Pool:
    """So many workers. gpus, cpus: of each. reader_node: where the input is read.

    at_once: shards of a worker, so that its device has work while one ends and the next begins.
    """

    size: int
    gpus: float
    cpus: float
    at_once: int
    reader_node: str


def stream(wanted: Wanted, pool: Pool, worker: type[Any], arguments: tuple[Any, ...]) -> Dataset:
    """The replies to all shards, as a lazy data set: read them with `replies`.

    worker: a class whose instances turn a Shard into a Reply; arguments: of its constructor, the last of them a handle
    of `batch_control.Control`.
    """
    import ray.data
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current()
    # Blocks are shards, whatever their size: none is cut, none is joined with the next.
    context.target_max_block_size = context.target_min_block_size = 1
    context.enable_progress_bars = context.print_on_execution_start = False
    start = ray.data.from_items([{_COLUMN: b""}], override_num_blocks=1)
    read = start.map_batches(
        _Reader(wanted, arguments[-1]).read,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=0,
        label_selector={"ray.io/node-id": pool.reader_node},
    )
    return read.map_batches(
        _worker(worker),
        fn_constructor_args=arguments,
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
        compute=ActorPoolStrategy(
            size=pool.size,
            max_tasks_in_flight_per_actor=pool.at_once,
            max_concurrent_calls_per_actor=pool.at_once,
            enable_true_multi_threading=True,
        ),
    )


def replies(dataset: Dataset) -> Iterator[Reply]:
    """As they come. Blocks; ends early where the consumer closes it."""
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        block: Any = table
        for data in block[_COLUMN].to_pylist():
            yield pickle.loads(data)


@dataclass(frozen=True)
class _Reader:
    """The task that makes the shards."""

    wanted: Wanted
    control: Any

    def read(self, _: Any) -> Iterator[Any]:
        import ray

        def stopped() -> bool:
            return bool(ray.get(self.control.stopped.remote()))

        for shard in self.wanted.shards(stopped):
            yield _table(shard)


def _worker(worker: type[Any]) -> type[Any]:
    """A class that Ray Data can make an actor of: blocks in, blocks out."""

    class Worker:
        def __init__(self, *arguments: Any) -> None:
            self._worker = worker(*arguments)

        def __call__(self, table: Any) -> Iterator[Any]:
            for data in table[_COLUMN].to_pylist():
                yield _table(self._worker(pickle.loads(data)))

    Worker.__name__ = Worker.__qualname__ = worker.__name__
    return Worker


def _table(content: Shard | Reply) -> Any:
    import pyarrow as pa

    return pa.table({_COLUMN: pa.array([pickle.dumps(content)], pa.large_binary())})
