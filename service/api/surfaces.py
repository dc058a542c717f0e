"""Surfaces: the contracts under which clients reach the service, each with its paths, keys and form of an error.

The service's own is `CORE`; every integration that is switched on adds one. A request belongs to one surface, by its
path, before anything else is known of it: a refusal of any layer is written in that surface's form.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from starlette.datastructures import Headers

from dynrefer.service.api.problems import ToldProblem, problem_response, told

KeyOf = Callable[[Headers], str | None]


def no_further_key(headers: Headers) -> str | None:
    """Where a surface's clients send their key in the header Authorization alone."""
    return None


@dataclass(frozen=True, slots=True)
class Surface:
    """name: in the metrics and the log. paths: those that belong to it; one that ends in "/" stands for all below it.

    write_problem: what a client is told of an error, in the form that the surface's clients read.
    open_paths: those that need no key. key_of: where a key is found beside the header Authorization. key_members: where
    it may stand in a JSON body, as the members that lead to it; () is nowhere. page_headers: what web pages of the
    settings' `cors_origins` may send besides.
    apart: paths that do not belong to it, though they stand below one that does.
    """

    name: str
    paths: tuple[str, ...] = ()
    write_problem: Callable[[ToldProblem], Response] = problem_response
    open_paths: frozenset[str] = frozenset()
    key_of: KeyOf = no_further_key
    key_members: tuple[str, ...] = ()
    page_headers: tuple[str, ...] = ()
    apart: frozenset[str] = frozenset()

    def owns(self, path: str) -> bool:
        """Whether a path belongs to it."""
        owned = any(path == each or (each.endswith("/") and path.startswith(each)) for each in self.paths)
        return owned and path not in self.apart


CORE = Surface("api")


class Surfaces:
    """All that are there. further: the integrations'; a path that none of them owns is the service's own."""

    def __init__(self, further: Sequence[Surface] = ()) -> None:
        self._further = tuple(further)

    def of(self, path: str) -> Surface:
        """Whose path it is."""
        return next((each for each in self._further if each.owns(path)), CORE)


def refusal(error: Exception, state: dict[str, Any]) -> Response:
    """The response to any error. state: the request's, as `RequestLogMiddleware` sets it."""
    surface: Surface = state["surface"]
    return surface.write_problem(told(error, state["request_id"]))


async def answer_problem(request: Request, error: Exception) -> Response:
    """Exception handler of everything in the table of problems and of the framework's own refusals."""
    return refusal(error, request.scope["state"])
