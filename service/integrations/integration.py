"""What an integration brings, and how those of the settings are loaded."""

import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from dynrefer.service.api.routes import describe, detect, operations, vocabularies
from dynrefer.service.api.surfaces import Surface
from dynrefer.service.server.auth import ADMIN_PATHS, PAGES
from dynrefer.service.settings import Settings, SettingsError


def _nothing_runs(app: FastAPI) -> AbstractAsyncContextManager[None]:
    return nullcontext()


@dataclass(frozen=True, slots=True)
class Integration:
    """surface: its paths, keys and form of an error. router: its routes, which the OpenAPI document shows.

    lifespan: what runs beside the service, entered at start and left at the end.
    """

    surface: Surface
    router: APIRouter
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] = _nothing_runs


def switched_on(settings: Settings) -> list[Integration]:
    """Those of the settings; only their modules are imported.

    Raises SettingsError where one lacks a package or a setting of its own, or has a path that is taken.
    """
    found: list[Integration] = []
    for name in settings.integrations:
        module = importlib.import_module(f"{__package__}.{name.replace('-', '_')}")
        integration: Integration = module.integration(settings)
        _refuse_taken_paths(integration.surface, [each.surface for each in found])
        found.append(integration)
    return found


def _refuse_taken_paths(surface: Surface, others: Sequence[Surface]) -> None:
    """Some integrations have their paths from outside."""
    routers = (describe.router, detect.router, operations.router, operations.metrics_router, vocabularies.router)
    own = {route.path for router in routers for route in router.routes if isinstance(route, APIRoute)}
    own |= PAGES | ADMIN_PATHS
    for path in surface.paths:
        owner = next((each.name for each in others if each.owns(path)), "the service itself" if path in own else None)
        if owner is not None:
            raise SettingsError(f"{path} cannot be a path of the integration {surface.name}: {owner} has it.")
