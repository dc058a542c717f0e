"""The life of a request that posts an image, where its end is unusual."""

import asyncio
import gc
from typing import Any, cast

import pytest
from fastapi import Request
from starlette.requests import ClientDisconnect

from dynrefer.service.api import posting


class _Left:
    """The request of a client that has left."""

    async def receive(self) -> dict[str, str]:
        await asyncio.sleep(0)
        return {"type": "http.disconnect"}


def test_what_fails_once_the_client_has_left_is_no_complaint_of_asyncio() -> None:
    complaints: list[dict[str, Any]] = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("while it was cancelled")

    async def leave() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        with pytest.raises(ClientDisconnect):
            await posting._unless_disconnected(cast(Request, _Left()), work())
        await asyncio.sleep(0.01)
        gc.collect()

    asyncio.run(leave())
    assert complaints == []
