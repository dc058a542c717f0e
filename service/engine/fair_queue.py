"""The waiting items and whose turn it is. Nothing here locks: the batcher does.

Kinds of work take turns, one batch each. Within a kind keys take turns, and within a key its requests, one item each.
So neither a large request nor a busy key can hold up a small one: whoever waits is served within one round.
"""

from collections import OrderedDict, deque
from collections.abc import Container, Iterator, Sequence
from typing import Generic

from dynrefer.service.engine.reservations import Item, Kind, Output, QueuedRequest, WorkItem


class FairQueue(Generic[Item, Output]):
    """The waiting items of all kinds."""

    def __init__(self) -> None:
        self._kinds: OrderedDict[Kind, _Turns[Item, Output]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._kinds)

    @property
    def requests(self) -> Iterator[QueuedRequest[Item, Output]]:
        """Every request that has something waiting; one that waits with several kinds comes several times."""
        for turns in self._kinds.values():
            yield from turns.requests

    @property
    def num_keys(self) -> int:
        """How many keys have something waiting."""
        return len({key for turns in self._kinds.values() for key in turns.keys})

    @property
    def next_size(self) -> int:
        """How many items wait of the kind whose turn is next; 0 where nothing waits."""
        return self._next.size if self._kinds else 0

    @property
    def next_kind(self) -> Kind:
        """The kind whose turn is next."""
        return next(iter(self._kinds))

    @property
    def next_cost(self) -> int:
        """Of the item that is next."""
        return self._next.next_cost

    @property
    def next_submitted_at(self) -> float:
        """When the item that waits longest, of the kind whose turn is next, was submitted."""
        return self._next.submitted_at

    def add(self, items: Sequence[WorkItem[Item, Output]]) -> None:
        """Behind the other requests of their key; a key that had nothing waiting comes last."""
        for item in items:
            self._kinds.setdefault(item.part.kind, _Turns()).add(item)

    def remove(self, request: QueuedRequest[Item, Output]) -> int:
        """Take out all that the request has waiting; how many items it was."""
        removed = sum(turns.remove(request) for turns in self._kinds.values())
        for kind in [kind for kind, turns in self._kinds.items() if not turns.size]:
            del self._kinds[kind]
        return removed

    def take(self, most_items: int, most_cost: int) -> list[WorkItem[Item, Output]]:
        """The next batch: items of one kind, at least one, within both bounds from the second on."""
        kind, turns = self._kinds.popitem(last=False)
        batch = [turns.take()]
        cost = batch[0].cost
        while turns.size and len(batch) < most_items and cost + turns.next_cost <= most_cost:
            batch.append(turns.take())
            cost += batch[-1].cost
        if turns.size:
            self._kinds[kind] = turns
        return batch

    def take_one_each(
        self, most_items: int, most_cost: int, but: Container[QueuedRequest[Item, Output]]
    ) -> list[WorkItem[Item, Output]]:
        """One item of each request but those, of the kind whose turn is next, within both bounds; perhaps none."""
        kind, turns = next(iter(self._kinds.items()))
        batch: list[WorkItem[Item, Output]] = []
        for request, cost in [(each, turns.cost_of(each)) for each in turns.requests if each not in but]:
            if len(batch) < most_items and cost <= most_cost:
                batch.append(turns.take_of(request))
                most_cost -= cost
        if batch:
            del self._kinds[kind]
            if turns.size:
                self._kinds[kind] = turns
        return batch

    @property
    def _next(self) -> "_Turns[Item, Output]":
        return next(iter(self._kinds.values()))


class _Turns(Generic[Item, Output]):
    """The waiting items of one kind. The first key's first request is next. size: how many items there are."""

    def __init__(self) -> None:
        self.size = 0
        self.keys: OrderedDict[str | None, OrderedDict[QueuedRequest[Item, Output], deque[WorkItem[Item, Output]]]] = (
            OrderedDict()
        )

    @property
    def requests(self) -> Iterator[QueuedRequest[Item, Output]]:
        for requests in self.keys.values():
            yield from requests

    @property
    def submitted_at(self) -> float:
        """Of the item that waits longest."""
        return min(items[0].part.submitted_at for requests in self.keys.values() for items in requests.values())

    @property
    def next_cost(self) -> int:
        requests = next(iter(self.keys.values()))
        return next(iter(requests.values()))[0].cost

    def add(self, item: WorkItem[Item, Output]) -> None:
        request = item.part.request
        self.keys.setdefault(request.key, OrderedDict()).setdefault(request, deque()).append(item)
        self.size += 1

    def remove(self, request: QueuedRequest[Item, Output]) -> int:
        requests = self.keys.get(request.key)
        if requests is None or request not in requests:
            return 0
        removed = len(requests.pop(request))
        if not requests:
            del self.keys[request.key]
        self.size -= removed
        return removed

    def cost_of(self, request: QueuedRequest[Item, Output]) -> int:
        """Of the request's next item."""
        return self.keys[request.key][request][0].cost

    def take(self) -> WorkItem[Item, Output]:
        """The next item; its request and its key then wait until all others had theirs."""
        requests = next(iter(self.keys.values()))
        return self.take_of(next(iter(requests)))

    def take_of(self, request: QueuedRequest[Item, Output]) -> WorkItem[Item, Output]:
        """The request's next item; the request and its key then wait until all others had theirs."""
        requests = self.keys.pop(request.key)
        items = requests.pop(request)
        item = items.popleft()
        if items:
            requests[request] = items
        if requests:
            self.keys[request.key] = requests
        self.size -= 1
        return item
