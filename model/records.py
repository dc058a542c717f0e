"""Records as plain data, ready for JSON. No torch."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

NOT_JSON = {"json": False}  # metadata of a field that is for this process alone


class JsonRecord:
    """A base of dataclasses that can say what they hold in JSON's types."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as dicts, lists, strings, numbers, truth values and None alone; enumerations as their values."""
        return _plain_fields(self)

    def to_json(self, indent: int | None = None) -> str:
        """`to_dict` as JSON. indent: spaces per level; None for one line. Raises ValueError for NaN and infinity."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False, allow_nan=False)


def _plain_fields(record: Any) -> dict[str, Any]:
    return {each.name: _plain(getattr(record, each.name)) for each in fields(record) if each.metadata.get("json", True)}


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return _plain(value.value)
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if is_dataclass(value):
        return _plain_fields(value)
    return _plain(value.item()) if hasattr(value, "item") else value  # NumPy's numbers
