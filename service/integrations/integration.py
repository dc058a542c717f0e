"""What an integration brings, and how those of the settings are loaded."""

import importlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from fastapi import APIRouter, FastAPI

from dynrefer.service.api.surfaces import Surface
from dynrefer.service.settings import Settings


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

    Raises SettingsError where one lacks a package or a setting of its own.
    """
    found = []
    for name in settings.integrations:
        module = importlib.import_module(f"{__package__}.{name.replace('-', '_')}")
        integration: Integration = module.integration(settings)
        found.append(integration)
    return found
