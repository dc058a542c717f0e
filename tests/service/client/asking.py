"""Both clients behind one function, so that a test is written once."""

import asyncio
from collections.abc import Callable
from typing import Any

from dynrefer import AsyncClient, Client, Retries

QUICK = Retries(first_pause_s=0.001)

Ask = Callable[..., Any]


def ask_client(url: str, *arguments: Any, method: str = "describe", settings: Any = None, **options: Any) -> Any:
    """What the method returns."""
    with Client(url, **{"retries": QUICK, **(settings or {})}) as client:
        return getattr(client, method)(*arguments, **options)


def ask_async_client(url: str, *arguments: Any, method: str = "describe", settings: Any = None, **options: Any) -> Any:
    """What the method returns, once it is awaited."""

    async def run() -> Any:
        async with AsyncClient(url, **{"retries": QUICK, **(settings or {})}) as client:
            return await getattr(client, method)(*arguments, **options)

    return asyncio.run(run())


def stream_of_client(url: str, *arguments: Any, **options: Any) -> tuple[list[str], Any]:
    """The pieces of an answer, and all of it."""
    with Client(url, retries=QUICK) as client, client.ask_stream(*arguments, **options) as stream:
        return list(stream), stream.reply


def stream_of_async_client(url: str, *arguments: Any, **options: Any) -> tuple[list[str], Any]:
    """The pieces of an answer, and all of it."""

    async def run() -> tuple[list[str], Any]:
        async with AsyncClient(url, retries=QUICK) as client, client.ask_stream(*arguments, **options) as stream:
            return [piece async for piece in stream], stream.reply

    return asyncio.run(run())
