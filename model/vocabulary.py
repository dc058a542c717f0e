"""A model's vocabulary: tags, attributes and categories; their prompts and their text embeddings.

No torch at import; the embeddings load it on first use. Prompt rules: the released code (its attribute prompts follow
the OVAD benchmark, with an empty noun); a model's configuration may have others.
Shapes: T = tags, P = attribute prompts, K = categories, E = text width.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from dynrefer.model.errors import ConfigError, WeightsError
from dynrefer.model.model_files import check_tensors, read_header, read_json_object

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerBase

    from dynrefer.model.networks.dynrefer.model import DynReferModel

VOCABULARY_FILE = "vocabulary.json"
EMBEDDINGS_FILE = "text_embeddings.safetensors"

Template = Literal["is", "has"]

# The released code has more synonyms for maturity than the benchmark lists.
_EXTRA_SYNONYMS = {
    "young/baby": ("kid", "kids", "child", "toddler", "boy", "girl"),
    "adult/old/aged": ("teen", "elder"),
}


@dataclass(frozen=True)
class Attribute:
    """A property of an object, such as "color:red" or "hair color:black".

    name: "type:value". synonyms: at least one; the first is the value. template: whether the prompt says that an object
    *is* so ("the object is red") or that it *has* such a thing ("the object has black hair color").
    """

    name: str
    type: str
    synonyms: tuple[str, ...]
    template: Template

    @classmethod
    def from_benchmark(cls, name: str, template: Template) -> Attribute:
        """From a name of the OVAD benchmark, "type:value/synonym/..."; other forms raise `ConfigError`."""
        kind, separator, values = name.partition(":")
        if not separator or not kind or not values:
            raise ConfigError(f'attribute {name!r} is not of the form "type:value/synonym/...".')
        return cls(name, kind, (*values.split("/"), *_EXTRA_SYNONYMS.get(values, ())), template)

    @property
    def value(self) -> str:
        """The attribute's value in answers: its first synonym."""
        return self.synonyms[0]

    @property
    def prompts(self) -> tuple[str, ...]:
        """Two texts per synonym, as in the released code."""
        return OFFICIAL_PROMPTS.attribute(self)


@dataclass(frozen=True)
class PromptTemplates:
    """What the text tower is given for a word: texts in which {name}, {value} and {type} are put.

    A category's name is put in lower case. Attributes have two texts per synonym; the noun is empty in the released
    code, hence two spaces in a row. Of a type the word "tone" is left out ("hair tone").
    """

    tag: str = "{name}"
    category: str = "the {name}"
    attribute_is: tuple[str, str] = ("the {value}", "the  is {value}")
    attribute_has: tuple[str, str] = ("the {value} {type}", "the  has {value} {type}")

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> PromptTemplates:
        """From a configuration's key "prompts". Raises `ConfigError` for an unknown key and for other than texts."""
        known = {each.name: each.default for each in fields(cls)}
        for key, value in given.items():
            if key not in known:
                raise ConfigError(f"unknown key {key!r} in prompts; it may hold {', '.join(known)}.")
            single = isinstance(known[key], str)
            texts = [value] if single else value
            if not isinstance(texts, list | tuple) or (not single and len(texts) != 2):
                raise ConfigError(f"prompts.{key} must be two texts.")
            place = "{name}" if single else "{value}"
            if not all(isinstance(text, str) and place in text for text in texts):
                raise ConfigError(f"prompts.{key} must be made of texts with {place} in them.")
        values: dict[str, Any] = {
            key: value if isinstance(value, str) else tuple(value) for key, value in given.items()
        }
        return cls(**values)

    def tag_text(self, name: str) -> str:
        """A tag's text."""
        return self.tag.replace("{name}", name)

    def category_text(self, name: str) -> str:
        """A category's text."""
        return self.category.replace("{name}", name.lower())

    def attribute(self, attribute: Attribute) -> tuple[str, ...]:
        """Two texts per synonym, synonym by synonym."""
        templates = self.attribute_is if attribute.template == "is" else self.attribute_has
        kind = attribute.type.replace(" tone", "")
        return tuple(
            template.replace("{type}", kind).replace("{value}", synonym)
            for synonym in attribute.synonyms
            for template in templates
        )


OFFICIAL_PROMPTS = PromptTemplates()


@dataclass(frozen=True)
class Vocabulary:
    """The labels that a model can return. Their order is that of the embeddings and of the scores."""

    tags: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    categories: tuple[str, ...]

    @cached_property
    def tag_index(self) -> dict[str, int]:
        """Tag -> its index."""
        return {tag: index for index, tag in enumerate(self.tags)}

    @cached_property
    def attribute_prompts(self) -> tuple[str, ...]:
        """P prompts, attribute by attribute."""
        return tuple(prompt for attribute in self.attributes for prompt in attribute.prompts)

    @cached_property
    def attribute_owner(self) -> tuple[int, ...]:
        """The index of the attribute that each of the P prompts belongs to."""
        return tuple(index for index, attribute in enumerate(self.attributes) for _ in attribute.prompts)

    @cached_property
    def category_prompts(self) -> tuple[str, ...]:
        """K prompts, one per category."""
        return tuple(map(OFFICIAL_PROMPTS.category_text, self.categories))

    def save(self, directory: str | Path) -> None:
        """Write vocabulary.json."""
        text = json.dumps(asdict(self), ensure_ascii=False, indent=1)
        (Path(directory) / VOCABULARY_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: str | Path) -> Vocabulary:
        """Read vocabulary.json. Raises `ModelNotFoundError` if missing, `ConfigError` if malformed."""
        path = Path(directory) / VOCABULARY_FILE
        data = read_json_object(path, "vocabulary")
        _expect_keys(data, ("tags", "attributes", "categories"), str(path))
        items = _list_of(data["attributes"], dict, f"attributes in {path}")
        return cls(
            tags=tuple(_list_of(data["tags"], str, f"tags in {path}")),
            attributes=tuple(_attribute(item, f"attributes[{i}] in {path}") for i, item in enumerate(items)),
            categories=tuple(_list_of(data["categories"], str, f"categories in {path}")),
        )


@dataclass(frozen=True)
class TextEmbeddings:
    """float32, in the vocabulary's order. tags: (T, E). attributes: (P, E), by prompt. categories: (K, E)."""

    tags: Tensor
    attributes: Tensor
    categories: Tensor

    def save(self, directory: str | Path) -> None:
        """Write text_embeddings.safetensors."""
        from safetensors.torch import save_file

        tensors = {name: getattr(self, name).contiguous() for name in ("tags", "attributes", "categories")}
        save_file(tensors, Path(directory) / EMBEDDINGS_FILE)

    @classmethod
    def load(cls, directory: str | Path) -> TextEmbeddings:
        """Read text_embeddings.safetensors. Raises `ModelNotFoundError` or `WeightsError`."""
        import torch
        from safetensors.torch import load_file

        path, what = Path(directory) / EMBEDDINGS_FILE, "text embeddings' file"
        header = read_header(path, what)
        check_tensors(header, ("tags", "attributes", "categories"), path, what)
        for name, stored in header.items():
            if len(stored.shape) != 2:
                raise WeightsError(f"{name} in {str(path)!r} has the shape {list(stored.shape)}, not texts x width.")
        tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
        for name, tensor in tensors.items():
            if not torch.isfinite(tensor).all():
                raise WeightsError(f"{name} in {str(path)!r} holds NaN or infinity.")
        return cls(**tensors)

    def check(self, vocabulary: Vocabulary, width: int) -> None:
        """Raise `WeightsError` unless there is one embedding of E = `width` per text of the vocabulary."""
        texts = {
            "tags": vocabulary.tags,
            "attributes": vocabulary.attribute_prompts,
            "categories": vocabulary.category_prompts,
        }
        for name, expected in texts.items():
            found = getattr(self, name)
            if len(found) != len(expected):
                raise WeightsError(
                    f"{EMBEDDINGS_FILE} holds {len(found)} {name} but the vocabulary has {len(expected)}."
                )
            if found.shape != (len(expected), width):
                raise WeightsError(
                    f"{EMBEDDINGS_FILE} holds {name} of width {found.shape[1]} but the text tower has width {width}."
                )


def embed_vocabulary(
    network: DynReferModel,
    text_tokenizer: PreTrainedTokenizerBase,
    vocabulary: Vocabulary,
    batch_size: int = 256,
) -> TextEmbeddings:
    """Embed all texts of a vocabulary, made by the configuration's templates."""
    tower, prompts = network.text, PromptTemplates.from_mapping(network.config.prompts)
    attributes = [text for attribute in vocabulary.attributes for text in prompts.attribute(attribute)]
    return TextEmbeddings(
        tags=embed_texts(tower, text_tokenizer, map(prompts.tag_text, vocabulary.tags), batch_size),
        attributes=embed_texts(tower, text_tokenizer, attributes, batch_size),
        categories=embed_texts(tower, text_tokenizer, map(prompts.category_text, vocabulary.categories), batch_size),
    )


def embed_texts(
    tower: CLIPTextModelWithProjection,
    text_tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    batch_size: int = 256,
) -> Tensor:
    """Text embeddings (T, E) float32 on the CPU, no gradient. Long texts are cut; their end token stays."""
    import torch

    listed, limit = list(texts), tower.config.max_position_embeddings
    device = next(tower.parameters()).device
    found = [torch.zeros(0, tower.text_projection.out_features)]
    with torch.no_grad():
        for start in range(0, len(listed), batch_size):
            some = listed[start : start + batch_size]
            batch = text_tokenizer(some, padding=True, truncation=True, max_length=limit, return_tensors="pt")
            found.append(tower(input_ids=batch["input_ids"].to(device)).text_embeds.float().cpu())
    return torch.cat(found)


def _attribute(item: Mapping[str, Any], where: str) -> Attribute:
    _expect_keys(item, ("name", "type", "synonyms", "template"), where)
    for key in ("name", "type"):
        if not isinstance(item[key], str):
            raise ConfigError(f"{key} of {where} is {item[key]!r}, not a text.")
    if item["template"] not in get_args(Template):
        raise ConfigError(f'template of {where} is {item["template"]!r}; use "is" or "has".')
    synonyms = tuple(_list_of(item["synonyms"], str, f"synonyms of {where}"))
    if not synonyms:
        raise ConfigError(f"synonyms of {where} is empty; the first one is the attribute's value.")
    return Attribute(item["name"], item["type"], synonyms, item["template"])


def _expect_keys(data: object, keys: tuple[str, ...], where: str) -> None:
    if not isinstance(data, dict):
        raise ConfigError(f"{where} is not a JSON object.")
    for key in data:
        if key not in keys:
            raise ConfigError(f"unknown key {key!r} in {where}; it may hold {', '.join(keys)}.")
    for key in keys:
        if key not in data:
            raise ConfigError(f"key {key!r} is missing in {where}.")


def _list_of(data: object, kind: type, where: str) -> list[Any]:
    if not isinstance(data, list) or not all(isinstance(item, kind) for item in data):
        raise ConfigError(f"{where} is not a list of {'texts' if kind is str else 'objects'}.")
    return data
