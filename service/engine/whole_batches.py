"""The loop of a device that runs one batch after another, each from its beginning to its end."""

import time
from typing import TYPE_CHECKING

from dynrefer.service.engine.reservations import Item, Output, WorkItem

if TYPE_CHECKING:
    from dynrefer.service.engine.batcher import Batcher, Run

IMAGE_SHARE = 0.25  # the longest that image work may delay the next batch, as a proportion of the last one's time
WAIT_SHARE = 0.1  # the same of the wait for a fuller batch
MOST_WAIT_S = 0.1  # and the longest of these, unless the settings allow a longer one


def serve_whole_batches(batcher: "Batcher[Item, Output]", run: "Run[Item, Output]") -> None:
    """Run batches until the batcher is closed and nothing is left. Raises DeviceLostError if `run` does."""
    while batch := _next_batch(batcher):
        batcher.run_whole(run, batch)
        with batcher.changed:
            batcher.set_running(())
        del batch  # its regions and results would stay until the next one, which may be hours away


def _next_batch(batcher: "Batcher[Item, Output]") -> list[WorkItem[Item, Output]]:
    """The next batch, as soon as there is one; empty when the batcher is closed and nothing is left."""
    with batcher.changed:
        while not batcher.over:
            if not batcher.queue:
                batcher.changed.wait()
                continue
            _wait_for_batch(batcher)
            batcher.fail_expired()
            if batcher.queue:
                batch = batcher.take(batcher.queue.take(batcher.cap, batcher.limits.batch_views))
                batcher.set_running(batch)
                return batch
    return []


def _wait_for_batch(batcher: "Batcher[Item, Output]") -> None:
    """Wait only for items that are reserved already: a lone request is never delayed.

    A fuller batch is worth a wait in proportion to what a batch costs. On shared cores a request that was admitted
    during a batch has time to prepare its regions after it, even where the next batch is full.
    """
    last_s = batcher.ended_at - batcher.began
    image_until = batcher.ended_at + IMAGE_SHARE * last_s if batcher.shares_cores else 0.0
    while batcher.queue and batcher.announced:
        free_since = max(batcher.queue.next_submitted_at, batcher.ended_at)
        batch_until = free_since + max(batcher.limits.batch_wait_s, min(WAIT_SHARE * last_s, MOST_WAIT_S))
        full = batcher.queue.next_size >= batcher.cap
        remaining = (image_until if full else max(batch_until, image_until)) - time.monotonic()
        if remaining <= 0:
            return
        batcher.changed.wait(remaining)
