"""The schemas of the OpenAPI document in the form that tools understand: generators of clients, pages and validators.

Pydantic's are right, but a member that excludes another is a rule that most tools skip, and with it the whole schema.
"""

import copy
from collections.abc import Mapping
from typing import Any

from dynrefer.service.api.prompt_schemas import PROMPTS
from dynrefer.service.inputs.query_parameters import CONVERSE_READERS, DETECT_READERS, READERS, parameters_schema

Json = dict[str, Any]

REFERENCE = "#/components/schemas/{model}"
NULL = {"type": "null"}
# OpenAPI 3.1 says it by the media type; many tools know the older `format` alone.
FILE = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
# A schema of which exactly one member is given -> what each member makes of it: a schema of its own.
ALTERNATIVES: Mapping[str, Mapping[str, str]] = {
    "ImageIn": {"base64": "ImageBytes", "url": "ImageAddress"},
    "RegionIn": {prompt: f"{prompt.capitalize()}Region" for prompt in PROMPTS},
    "AskedRegionIn": {prompt: f"Asked{prompt.capitalize()}Region" for prompt in PROMPTS},
}


def reference(*names: str) -> Json:
    """One of these schemas. Where they are several it has a type too: tools take what has none for a text."""
    references = [{"$ref": REFERENCE.format(model=name)} for name in names]
    return references[0] if len(references) == 1 else {"type": "object", "oneOf": references}


def _form(image: Json, *fields: str) -> Json:
    """The schema of a multipart form. image: of its part `image`. fields: the schemas of its part `request`."""
    return {
        "type": "object",
        "required": ["image", "request"],
        "additionalProperties": False,
        "properties": {"image": image, "request": reference(*fields)},
    }


_FILES = {
    "type": "array",
    "items": FILE,
    "minItems": 1,
    "description": "one file; with `images` in `request`, as many parts of this name as there are images, in order",
}
# Schemas that no class has, by their names.
FORM_SCHEMAS: Mapping[str, Json] = {
    "DescribeForm": _form(_FILES, "DescribeFields", "DescribeImagesFields"),
    "DescribeQuery": parameters_schema(READERS),
    "DetectForm": _form(FILE, "DetectFields"),
    "DetectQuery": parameters_schema(DETECT_READERS),
    "ConverseForm": _form(FILE, "ConverseFields"),
    "ConverseQuery": parameters_schema(CONVERSE_READERS),
}


def understood(schemas: Mapping[str, Json]) -> dict[str, Json]:
    """The components of the document: these schemas, in the form that tools understand, and those of forms."""
    found = copy.deepcopy({**schemas, **FORM_SCHEMAS})
    for name, members in ALTERNATIVES.items():
        if name in found:
            found |= _alternatives(name, found[name], members)
    for schema in found.values():
        _drop_null_defaults(schema)
    return dict(sorted(found.items()))


def _alternatives(name: str, schema: Json, members: Mapping[str, str]) -> dict[str, Json]:
    """A schema of which exactly one of some members is given -> one schema for each member, and their union."""
    found: dict[str, Json] = {name: {"oneOf": [reference(each) for each in members.values()]}}
    for member, title in members.items():
        kept = {key: each for key, each in schema["properties"].items() if key == member or key not in members}
        kept[member] = _without_null(kept[member])
        rest = {key: each for key, each in schema.items() if key not in ("oneOf", "properties", "required", "title")}
        found[title] = {**rest, "title": title, "properties": kept, "required": [member]}
    return found


def _without_null(schema: Json) -> Json:
    """The schema of a member that has to be given."""
    choices = [each for each in schema.get("anyOf", ()) if each != NULL]
    rest = {key: each for key, each in schema.items() if key not in ("anyOf", "default")}
    if not choices:
        return rest
    return {**rest, **choices[0]} if len(choices) == 1 else {**rest, "anyOf": choices}


def _drop_null_defaults(schema: Any) -> None:
    """Take out defaults of null where null is not accepted: such a field may be left out, which `required` says."""
    if isinstance(schema, list):
        for each in schema:
            _drop_null_defaults(each)
    if not isinstance(schema, dict):
        return
    if schema.get("default", 0) is None and NULL not in schema.get("anyOf", ()):
        del schema["default"]
    for each in schema.values():
        _drop_null_defaults(each)
