"""Which tensor of which file becomes which tensor of ours. Strict: no tensor is silently lost or invented."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dynrefer.model.convert.names import ALIAS_REASON, Dropped, Piece, bare_vision_block, origin, translate
from dynrefer.model.convert.weight_files import WeightFile
from dynrefer.model.errors import ConversionError

if TYPE_CHECKING:
    from torch import Tensor

    from dynrefer.model.networks.dynrefer.config import DynReferConfig


@dataclass(frozen=True)
class Source:
    """A piece of one of our tensors, and the file and name that it is read from."""

    file: WeightFile
    key: str
    piece: Piece


@dataclass(frozen=True)
class ConversionPlan:
    """sources: our name -> its pieces. shapes: our name -> shape. dropped: (file, key) -> reason.

    random: our name -> randomly initialised tensor, of what no file holds and training starts from scratch.
    merged: our name -> tensor that a LoRA adapter has changed.
    """

    sources: Mapping[str, tuple[Source, ...]]
    shapes: Mapping[str, tuple[int, ...]]
    dropped: Mapping[tuple[str, str], str]
    random: Mapping[str, Tensor] = field(default_factory=dict)
    merged: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return sum(_size(shape) for shape in self.shapes.values())

    def assemble(self, name: str) -> Tensor:
        """Read one of our tensors, in the type that its source has."""
        import torch

        for replaced in (self.merged, self.random):
            if name in replaced:
                return replaced[name]
        sources = self.sources[name]
        if len(sources) == 1 and sources[0].piece.target_third is None:
            return _read(sources[0])
        whole = torch.zeros(self.shapes[name], dtype=sources[0].file.read(sources[0].key).dtype)
        for source in sources:
            assert source.piece.target_third is not None
            whole.chunk(3)[source.piece.target_third].copy_(_read(source))
        return whole


def plan_conversion(
    files: Sequence[WeightFile], config: DynReferConfig, random: Mapping[str, Tensor] | None = None
) -> ConversionPlan:
    """Decide where every tensor goes; where two files hold the same one, the later file wins.

    random: used for tensors that no file holds.

    Raises `ConversionError` for an unknown name, a wrong shape, or a part that no file holds.
    """
    shapes = network_shapes(config)
    depth = getattr(config.vision_config, "num_hidden_layers", 0)
    collected = _Collected({}, [], {})
    for file in files:
        for key in file.shapes:
            block = bare_vision_block(key)
            pieces = translate(key)
            if block is not None and block >= depth:
                pieces = Dropped(f"a block of EVA beyond the {depth} that are used")
            if pieces is None:
                raise ConversionError(f"{file.path} holds {key!r}, a name that is not known from any official file.")
            if isinstance(pieces, Dropped):
                collected.drop(file, key, pieces.reason)
                continue
            for piece in pieces:
                source = Source(file, key, piece)
                _check_shape(source, shapes)
                collected.add(source)
    found = collected.resolve()
    new = {name: value for name, value in (random or {}).items() if name not in found}
    _check_complete(found, [name for name in shapes if name not in new])
    sources = {name: tuple(found[name].values()) for name in shapes if name not in new}
    return ConversionPlan(sources, shapes, collected.dropped, new)


@dataclass
class _Collected:
    """found: our name -> third (None: all of it) -> source."""

    found: dict[str, dict[int | None, Source]]
    aliases: list[Source]
    dropped: dict[tuple[str, str], str]

    def drop(self, file: WeightFile, key: str, reason: str) -> None:
        self.dropped[str(file.path), key] = reason

    def add(self, source: Source) -> None:
        if source.piece.alias:
            self.aliases.append(source)
            return
        pieces = self.found.setdefault(source.piece.target, {})
        third = source.piece.target_third
        for other in list(pieces) if third is None else [third, None]:  # a whole replaces thirds, and the reverse
            if earlier := pieces.pop(other, None):
                self.drop(earlier.file, earlier.key, f"replaced by {source.file.path.name}")
        pieces[third] = source

    def resolve(self) -> dict[str, dict[int | None, Source]]:
        """Use aliases where nothing else is there."""
        for source in self.aliases:
            if source.piece.target in self.found:
                self.drop(source.file, source.key, ALIAS_REASON)
            else:
                self.found[source.piece.target] = {None: source}
        return self.found


def network_shapes(config: DynReferConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of a model directory; tensors that are tied to another are not stored."""
    from dynrefer.model.networks.dynrefer.model import stored_layout

    return stored_layout(config).shapes


def _check_shape(source: Source, shapes: Mapping[str, tuple[int, ...]]) -> None:
    piece, given = source.piece, source.file.shapes[source.key]
    if piece.target not in shapes:
        raise ConversionError(
            f"{source.file.path} holds {source.key!r}, for which a model of these sizes has no place; "
            "give the right sizes with --config."
        )
    expected = shapes[piece.target]
    if piece.source_third is not None:
        expected = (3 * expected[0], *expected[1:])
    if piece.target_third is not None:
        expected = (expected[0] // 3, *expected[1:])
    if piece.transposed:
        expected = expected[::-1]
    if given != expected:
        raise ConversionError(
            f"{source.key!r} in {source.file.path} has the shape {_shape(given)}, but a model of these sizes needs "
            f"{_shape(expected)}; give the right sizes with --config."
        )


def _check_complete(found: Mapping[str, Mapping[int | None, Source]], needed: Iterable[str]) -> None:
    missing: dict[tuple[str, str], list[str]] = {}
    for name in needed:
        pieces = found.get(name, {})
        # Query and value bias come as two tensors; a third one, the key's, does not exist.
        if None not in pieces and set(pieces) != {0, 2}:
            missing.setdefault(origin(name), []).append(name)
    if missing:
        parts = [
            f"the {part} lacks {len(names)} tensors ({names[0]}{', ...' if len(names) > 1 else ''}): give {where}"
            for (part, where), names in missing.items()
        ]
        raise ConversionError("; ".join(parts) + ".")


def _read(source: Source) -> Tensor:
    tensor = source.file.read(source.key)
    if source.piece.source_third is not None:
        tensor = tensor.chunk(3)[source.piece.source_third]
    return tensor.T if source.piece.transposed else tensor


def _size(shape: Iterable[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "of a single number"
