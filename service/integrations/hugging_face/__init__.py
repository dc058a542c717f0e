"""Hugging Face: the payloads of the tasks of Inference Endpoints, POST /hf/TASK, as `huggingface_hub.InferenceClient`
sends and reads them.

The body is the image's file, or JSON with `inputs` (Base64 or a URL) and `parameters`. What no payload has a place for
stands in the URL's query, with the names of /v1/describe and /v1/detect: the boxes of the regions to caption, the names
to find. So the client, whose `model` is the URL, reaches it too.
"""

from dynrefer.service.api.surfaces import Surface
from dynrefer.service.integrations.hugging_face.answers import problem
from dynrefer.service.integrations.hugging_face.routes import router
from dynrefer.service.integrations.integration import Integration
from dynrefer.service.settings import Settings


def integration(settings: Settings) -> Integration:
    """The integration `hugging-face`."""
    return Integration(Surface("hugging-face", ("/hf/",), write_problem=problem), router)
