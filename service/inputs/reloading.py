"""A request to let another model serve -> which one, by the settings of what may be loaded."""

from pydantic import ValidationError

from dynrefer.service.api.reload_schemas import ReloadRequest
from dynrefer.service.engine.serving import ModelSource
from dynrefer.service.errors import InvalidRequestError
from dynrefer.service.inputs.json_text import parse_json, printable
from dynrefer.service.inputs.parsing import field_errors, reject
from dynrefer.service.settings import Settings

MOST_BYTES = 16_384  # of the body
MOST_VALUES = 100
EMBEDDED = "embedded"


def read_reload(body: bytes) -> ReloadRequest:
    """The fields. Raises InvalidRequestError with a pointer for every error."""
    try:
        return ReloadRequest.model_validate(parse_json(body, MOST_VALUES).document)
    except ValidationError as error:
        reject(field_errors(error.errors(include_url=False, include_input=False), {"": ReloadRequest}))


def model_source(name: str, settings: Settings) -> ModelSource:
    """What a name stands for. A client names only what is in `models_dir`, the model of the settings, and "embedded":
    whoever can send a request, with the key of an administrator too, reads no other directory of this machine.

    A link in the folder stands for what it leads to, so that a roll back loads what served, even if the link leads
    somewhere else by then. Looks at the file system. Raises InvalidRequestError.
    """
    if name in (EMBEDDED, settings.model):
        return ModelSource(name, name)
    if settings.models_dir is None:
        known = " and ".join(dict.fromkeys((f"'{EMBEDDED}'", f"'{settings.model}'")))
        raise _refused(f"This service loads {known} alone: it was started without the setting models_dir.")
    folder = settings.models_dir.resolve()
    shown = printable(name)
    try:
        directory = (folder / name).resolve()
        if not directory.is_relative_to(folder) or directory == folder:
            raise _refused(f"'{shown}' is not in the folder models_dir of this service; name one that is.")
        found = directory.is_dir()
    except (OSError, RuntimeError, ValueError):  # too long, a circle of links, a null character
        found = False
    if not found:
        raise _refused(f"There is no directory '{shown}' in the folder models_dir of this service.")
    return ModelSource(name, str(directory))


def _refused(detail: str) -> InvalidRequestError:
    return InvalidRequestError.at("/model", detail)
