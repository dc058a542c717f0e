"""OpenAI: POST /v1/chat/completions and GET /v1/models/{model}, for clients of OpenAI's API and of DAM's server.

It describes regions and does not chat: of a conversation it takes one user message with one image, and of its words the
boxes. Whatever would change the answer and cannot be honoured is refused.
"""

from dynrefer.service.api.surfaces import Surface
from dynrefer.service.integrations.integration import Integration
from dynrefer.service.integrations.openai.errors import write_problem
from dynrefer.service.integrations.openai.routes import CHAT_PATHS, router
from dynrefer.service.server.auth import ADMIN_PATHS
from dynrefer.service.settings import Settings

__all__ = ["integration"]

MODELS = "/v1/models/"


def integration(settings: Settings) -> Integration:
    """The integration `openai`."""
    surface = Surface("openai", (*CHAT_PATHS, MODELS), write_problem, apart=ADMIN_PATHS)
    return Integration(surface, router)
