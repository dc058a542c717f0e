"""KServe v2, the Open Inference Protocol over HTTP, as KServe, Triton's and Seldon's clients speak it.

Two models, `describe` and `detect`, because each has a signature of its own. Their input `image` holds image files,
`request` the JSON of /v1/describe or /v1/detect without its image; the output `answer` holds an answer per image.
"""

from dynrefer.service.api.surfaces import Surface
from dynrefer.service.integrations.integration import Integration
from dynrefer.service.integrations.kserve.answers import problem
from dynrefer.service.integrations.kserve.routes import OPEN_PATHS, router
from dynrefer.service.settings import Settings


def integration(settings: Settings) -> Integration:
    """The integration `kserve`."""
    return Integration(Surface("kserve", ("/v2", "/v2/"), write_problem=problem, open_paths=OPEN_PATHS), router)
