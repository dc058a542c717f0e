"""The requests that the OpenAPI document has as examples, each about one small drawing: a red dotted snowman above a
pink pig above a striped glass, on snow, 221 x 231 pixels (docs/images/scene.png)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynrefer.service.api.examples import SAMPLE, SAMPLE_PATH
from dynrefer.service.playground import HERE

Json = dict[str, Any]

JSON, FORM, IMAGE = "application/json", "multipart/form-data", "image/*"
SNOWMAN, PIG, GLASS = [41, 2, 117, 82], [50, 88, 105, 140], [56, 148, 124, 230]


@dataclass(frozen=True)
class ExampleRequest:
    """A request. summary: what it shows, in a line. fields: without the image; of an image alone they are query
    parameters. several: whether the form may have several files. about_image: false where there is no image."""

    summary: str
    fields: Json
    media: str = JSON
    several: bool = False
    about_image: bool = True

    def example(self) -> Json:
        """OpenAPI's Example Object. The file of a form is named; that of a body has its address."""
        if self.media == IMAGE:
            return {"summary": self.summary, "externalValue": SAMPLE_PATH}
        if self.media == FORM:
            name = SAMPLE_PATH.rpartition("/")[2]
            image = [name] if self.several else name
            return {"summary": self.summary, "value": {"image": image, "request": self.fields}}
        return {"summary": self.summary, "value": self._document({"base64": SAMPLE})}

    def _document(self, image: Json) -> Json:
        """The request as one JSON object."""
        if not self.about_image:
            return self.fields
        if "images" in self.fields:
            return {**self.fields, "images": [{"image": image, **each} for each in self.fields["images"]]}
        return {"image": image, **self.fields}

    def posted(self, base64_text: str) -> Json:
        """Keyword arguments of a client's `post`. base64_text: the drawing's."""
        image = sample_bytes()
        if self.media == JSON:
            return {"json": self._document({"base64": base64_text})}
        if self.media == FORM:
            return {"files": {"image": ("scene.webp", image)}, "data": {"request": json.dumps(self.fields)}}
        return {"content": image, "headers": {"content-type": "image/webp"}, "params": self.fields}


def sample_bytes() -> bytes:
    """The drawing's file."""
    return (HERE / SAMPLE_PATH).read_bytes()


_TWO = {
    "regions": [{"id": "snowman", "box": SNOWMAN}, {"id": "pig", "box": PIG}],
    "task": ["caption", "attributes"],
    "top_k": 3,
}
_NAMES = {"names": ["pig", "snowman", "dog"]}

DESCRIBE: Mapping[str, ExampleRequest] = {
    "two-tasks": ExampleRequest("Caption and attributes of two regions", _TWO),
    "everything": ExampleRequest(
        "All four outputs of a region, with the views that the image suggests",
        {"regions": [{"box": GLASS}], "top_k": 3},
    ),
    "point": ExampleRequest(
        "The object that a point lies on, with its mask",
        {"regions": [{"points": [{"x": 78, "y": 112}]}], "task": "caption"},
    ),
    "polygon": ExampleRequest(
        "A polygon in place of a box",
        {"regions": [{"polygon": [[79, 2, 117, 40, 100, 82, 55, 82, 41, 40]]}], "task": "caption"},
    ),
    "own-words": ExampleRequest(
        "Words of your own, with a synonym; one that the model does not know",
        {
            "regions": [{"box": PIG}],
            "task": "categories",
            "vocabulary": {"categories": ["cow", {"name": "piglet", "synonyms": ["pig"]}, "quux"]},
        },
    ),
    "german": ExampleRequest(
        "Names in German", {"regions": [{"box": PIG}], "task": "categories", "language": "de", "top_k": 2}
    ),
    "captions": ExampleRequest(
        "Three captions, led by a control word",
        {"regions": [{"box": PIG}], "task": "caption", "num_captions": 3, "controls": ["bright"]},
    ),
    "why": ExampleRequest(
        "Why the caption says what it says",
        {"regions": [{"box": SNOWMAN}], "task": "caption", "explain": {"candidates": False}},
    ),
    "a-bad-region": ExampleRequest(
        "One region of two lies outside the image, and is reported in its place",
        {
            "regions": [{"box": PIG}, {"id": "nowhere", "box": [900, 900, 950, 950]}],
            "task": "caption",
            "on_region_error": "report",
        },
    ),
    "images": ExampleRequest(
        "Two images in one call: here the same one twice",
        {"images": [{"regions": [{"box": SNOWMAN}]}, {"regions": [{"box": GLASS}]}], "task": "caption"},
    ),
    "form": ExampleRequest("The same two regions, the image as a file", _TWO, FORM, several=True),
    "file": ExampleRequest(
        "The image alone, its fields in the query", {"box": "50,88,105,140", "task": "caption,tags"}, IMAGE
    ),
}

DETECT: Mapping[str, ExampleRequest] = {
    "names": ExampleRequest("Things by their names; one is not there", _NAMES),
    "described": ExampleRequest(
        "A thing by its name, with its mask and its description",
        {"names": ["pig"], "masks": True, "describe": {"task": ["caption", "attributes"], "top_k": 2}},
    ),
    "sentence": ExampleRequest(
        "Every noun phrase of a sentence", {"phrase": "a red snowman above a pink pig beside a dog"}
    ),
    "nothing-asked": ExampleRequest("Every object", {"max_regions": 3}),
    "form": ExampleRequest("Things by their names, the image as a file", _NAMES, FORM),
    "file": ExampleRequest("The image alone, its fields in the query", {"name": "pig", "describe": "caption"}, IMAGE),
}

_ASKED = {
    "regions": [{"id": "a", "box": SNOWMAN}, {"id": "b", "box": PIG}],
    "messages": [{"role": "user", "content": "Is <region:a> larger than <region:b>?"}],
}
CONVERSE: Mapping[str, ExampleRequest] = {
    "question": ExampleRequest("A question about two regions", _ASKED),
    "points": ExampleRequest(
        "A question about the object that a point lies on",
        {
            "regions": [{"points": [{"x": 78, "y": 112}]}],
            "messages": [{"role": "user", "content": "What is <region:0>?"}],
        },
    ),
    "choice": ExampleRequest(
        "The better of two answers, each with a probability",
        {"messages": [{"role": "user", "content": "Is there a pig?"}], "answers": ["yes", "no"]},
    ),
    "turns": ExampleRequest(
        "The second turn of a conversation",
        {
            "messages": [
                {"role": "user", "content": "What is at the top?"},
                {"role": "assistant", "content": "a snowman"},
                {"role": "user", "content": "Which colour is it?"},
            ],
            "max_tokens": 16,
        },
    ),
    "form": ExampleRequest("The same question, the image as a file", _ASKED, FORM),
    "file": ExampleRequest(
        "The image alone, its fields in the query", {"question": "What is <region:0>?", "box": "50,88,105,140"}, IMAGE
    ),
}

RELOAD: Mapping[str, ExampleRequest] = {
    "another": ExampleRequest("Another model, by its name", {"model": "embedded"}, about_image=False),
    "previous": ExampleRequest("The model that served before", {"previous": True}, about_image=False),
    "unload-first": ExampleRequest(
        "Where there is no memory for two models", {"model": "embedded", "unload_first": True}, about_image=False
    ),
}
ABOUT_IMAGES: Mapping[str, Mapping[str, ExampleRequest]] = {
    "POST /v1/describe": DESCRIBE,
    "POST /v1/detect": DETECT,
    "POST /v1/converse": CONVERSE,
}
POSTS: Mapping[str, Mapping[str, ExampleRequest]] = {**ABOUT_IMAGES, "POST /v1/models/reload": RELOAD}
# Operation -> what its answer shows: of every service, and with those that are there for administrators alone.
OPEN_GETS: Mapping[str, str] = {
    "GET /livez": "The process answers",
    "GET /readyz": "The model is loaded and warm",
    "GET /health": "The model is loaded and warm",
    "GET /metrics": "Some of the lines",
    "GET /v1/models": "The embedded model, its lists of names shortened",
    "GET /v1/vocabularies": "The vocabularies that ship",
    "GET /v1/vocabularies/{name}": "COCO's 80 names, shortened",
}
GETS: Mapping[str, str] = {
    **OPEN_GETS,
    "GET /v1/models/reload": "The embedded model, which the service was started with",
}
PARAMETERS: Mapping[str, Json] = {
    "POST /v1/describe": {"fields": DESCRIBE["file"].fields},
    "POST /v1/detect": {"fields": DETECT["file"].fields},
    "POST /v1/converse": {"fields": CONVERSE["file"].fields},
    "GET /v1/vocabularies/{name}": {"name": "coco"},
}
ADMIN = "boss"  # the key of the administrator by whom the examples are asked
MOST_NAMES = 3  # of a list of names in an example


def shortened(answer: Any) -> Any:
    """An answer with no more than MOST_NAMES of each list of names or words."""
    if isinstance(answer, dict):
        return {key: shortened(each) for key, each in answer.items()}
    if isinstance(answer, list):
        names = all(isinstance(each, str) or (isinstance(each, dict) and "name" in each) for each in answer)
        return [shortened(each) for each in (answer[:MOST_NAMES] if names else answer)]
    return answer
