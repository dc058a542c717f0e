"""DynRefer: region descriptions at dynamic resolution. The public face of the model.

    from dynrefer import DynRefer
    DynRefer.load("embedded").describe(image, [(64, 256, 384, 384)])

Importing this module is cheap: NumPy, Pillow and torch are loaded by the first use of a name that needs them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from dynrefer.model.device_start import begin_start
from dynrefer.model.errors import (
    BoxError,
    ConfigError,
    ConversionError,
    DamagedImageError,
    DeviceError,
    DeviceLostError,
    DeviceMemoryError,
    FinderError,
    ImageError,
    ImageTooLargeError,
    ModelError,
    ModelNotFoundError,
    OutputError,
    PointsError,
    PromptError,
    QueryError,
    UnsupportedImageError,
    ViewsError,
    WeightsError,
)
from dynrefer.model.gc_pause import gc_paused
from dynrefer.model.lean_imports import import_lean
from dynrefer.model.memory_release import release_memory
from dynrefer.model.torch_environment import set_cache_environment

if TYPE_CHECKING:
    from dynrefer.model.arguments import listed_boxes, prompts_among, region_queries
    from dynrefer.model.described import Descriptions
    from dynrefer.model.drawing import Annotation, draw_regions
    from dynrefer.model.explanation import Explain, ExplainedLabel, Explanation
    from dynrefer.model.find_names import find_query
    from dynrefer.model.finding import (
        MOST_LOOKS,
        NO_FINDER,
        AbsentName,
        AskedName,
        Candidates,
        FinderInput,
        FinderSpec,
        Findings,
        FindQuery,
        FoundRegion,
        find_queries,
        given_queries,
        lack_masks,
    )
    from dynrefer.model.findings import with_masks
    from dynrefer.model.geometry import BoxFormat, corners_from
    from dynrefer.model.images import DecodedImage, ImageSource, Pixels, decode_image, forbid_bombs, upright_pixels
    from dynrefer.model.mask_files import decode_with_alpha
    from dynrefer.model.masks import bitmap_from_mask, mask_from_bitmap
    from dynrefer.model.named_vocabularies import NamedVocabularies, NamedVocabulary, written_words
    from dynrefer.model.orientation import stored_box, stored_mask, stored_size, upright_box, upright_view
    from dynrefer.model.outlines import mask_outlines, simplified_outline
    from dynrefer.model.predictor import DynRefer
    from dynrefer.model.preparation import PreparationSpec, PreparedRegion, prepare, prepare_each
    from dynrefer.model.preview import Preview
    from dynrefer.model.prompts import AlphaMask, AlphaOrWhole, MaskFile, Polygon, Prompt, Scribble, placed
    from dynrefer.model.protocol import (
        BatchLimits,
        CacheCounts,
        ContinuousBatch,
        Predictor,
        Preparation,
        ReadyRegion,
    )
    from dynrefer.model.request_vocabulary import AttributeWord, RequestVocabulary, UnknownWord, Word
    from dynrefer.model.run_lengths import compressed_runs
    from dynrefer.model.segmentation import (
        PointedRegion,
        WindowMask,
        pointed_queries,
        queries_with_masks,
        queries_with_whole_image,
    )
    from dynrefer.model.shared_cache import SharedStore
    from dynrefer.model.tasks import DEVICE_STAGES, TASKS
    from dynrefer.model.translations import ENGLISH, Translations, Translator, is_language
    from dynrefer.model.types import (
        ALL_TASKS,
        LIKELY,
        AttributeLabel,
        Caption,
        CaptionCandidate,
        CaptionWriting,
        Corners,
        ImageInfo,
        Label,
        ModelCard,
        PointPrompt,
        RegionDescription,
        RegionMask,
        RegionQuery,
        Task,
        View,
        ViewCandidate,
        ViewPlan,
        ViewPolicy,
    )
    from dynrefer.model.vocabulary_entries import (
        VOCABULARY_MEMBERS,
        ResolveVocabulary,
        UnknownVocabularyError,
        VocabularyError,
        VocabularyLimits,
        no_names,
        read_vocabulary,
    )

__all__ = [
    "ALL_TASKS",
    "AbsentName",
    "Annotation",
    "NO_FINDER",
    "MOST_LOOKS",
    "AskedName",
    "Candidates",
    "FindQuery",
    "FinderError",
    "FinderInput",
    "FinderSpec",
    "Findings",
    "FoundRegion",
    "find_queries",
    "find_query",
    "given_queries",
    "lack_masks",
    "listed_boxes",
    "prompts_among",
    "region_queries",
    "with_masks",
    "DEVICE_STAGES",
    "TASKS",
    "VOCABULARY_MEMBERS",
    "AttributeLabel",
    "AttributeWord",
    "BatchLimits",
    "BoxError",
    "BoxFormat",
    "CacheCounts",
    "Caption",
    "CaptionCandidate",
    "CaptionWriting",
    "ConfigError",
    "ContinuousBatch",
    "ConversionError",
    "Corners",
    "DamagedImageError",
    "DecodedImage",
    "Descriptions",
    "DeviceError",
    "DeviceLostError",
    "DeviceMemoryError",
    "DynRefer",
    "ENGLISH",
    "Explain",
    "ExplainedLabel",
    "Explanation",
    "ImageError",
    "ImageInfo",
    "LIKELY",
    "ImageSource",
    "ImageTooLargeError",
    "Label",
    "ModelCard",
    "ModelError",
    "ModelNotFoundError",
    "NamedVocabularies",
    "NamedVocabulary",
    "OutputError",
    "Pixels",
    "PointPrompt",
    "PointedRegion",
    "PointsError",
    "Predictor",
    "Preparation",
    "Preview",
    "PreparationSpec",
    "PreparedRegion",
    "AlphaMask",
    "AlphaOrWhole",
    "MaskFile",
    "Polygon",
    "Prompt",
    "PromptError",
    "QueryError",
    "Scribble",
    "ReadyRegion",
    "RegionDescription",
    "RegionMask",
    "RegionQuery",
    "RequestVocabulary",
    "ResolveVocabulary",
    "SharedStore",
    "Task",
    "Translations",
    "Translator",
    "UnknownVocabularyError",
    "UnknownWord",
    "UnsupportedImageError",
    "View",
    "ViewCandidate",
    "ViewPlan",
    "ViewPolicy",
    "ViewsError",
    "VocabularyError",
    "VocabularyLimits",
    "WeightsError",
    "WindowMask",
    "Word",
    "compressed_runs",
    "corners_from",
    "decode_image",
    "decode_with_alpha",
    "draw_regions",
    "forbid_bombs",
    "begin_start",
    "gc_paused",
    "import_lean",
    "is_language",
    "no_names",
    "pointed_queries",
    "prepare",
    "prepare_each",
    "queries_with_masks",
    "queries_with_whole_image",
    "read_vocabulary",
    "release_memory",
    "stored_box",
    "stored_mask",
    "stored_size",
    "bitmap_from_mask",
    "mask_from_bitmap",
    "mask_outlines",
    "simplified_outline",
    "placed",
    "upright_box",
    "upright_pixels",
    "upright_view",
    "written_words",
]


# Names that need NumPy, Pillow or torch, with the module that each is imported from at its first use.
_LAZY = {
    "AbsentName": "finding",
    "Annotation": "drawing",
    "NO_FINDER": "finding",
    "MOST_LOOKS": "finding",
    "AskedName": "finding",
    "Candidates": "finding",
    "FindQuery": "finding",
    "FinderInput": "finding",
    "FinderSpec": "finding",
    "Findings": "finding",
    "FoundRegion": "finding",
    "find_queries": "finding",
    "find_query": "find_names",
    "listed_boxes": "arguments",
    "prompts_among": "arguments",
    "region_queries": "arguments",
    "given_queries": "finding",
    "lack_masks": "finding",
    "with_masks": "findings",
    "ALL_TASKS": "types",
    "AttributeLabel": "types",
    "AttributeWord": "request_vocabulary",
    "BatchLimits": "protocol",
    "BoxFormat": "geometry",
    "CacheCounts": "protocol",
    "Caption": "types",
    "CaptionCandidate": "types",
    "CaptionWriting": "types",
    "ContinuousBatch": "protocol",
    "Corners": "types",
    "DEVICE_STAGES": "tasks",
    "DecodedImage": "images",
    "Descriptions": "described",
    "DynRefer": "predictor",
    "ENGLISH": "translations",
    "Explain": "explanation",
    "ExplainedLabel": "explanation",
    "Explanation": "explanation",
    "ImageInfo": "types",
    "LIKELY": "types",
    "ImageSource": "images",
    "Label": "types",
    "ModelCard": "types",
    "NamedVocabularies": "named_vocabularies",
    "NamedVocabulary": "named_vocabularies",
    "Pixels": "images",
    "PointPrompt": "types",
    "PointedRegion": "segmentation",
    "Predictor": "protocol",
    "Preparation": "protocol",
    "PreparationSpec": "preparation",
    "PreparedRegion": "preparation",
    "Preview": "preview",
    "ReadyRegion": "protocol",
    "RegionDescription": "types",
    "RegionMask": "types",
    "RegionQuery": "types",
    "RequestVocabulary": "request_vocabulary",
    "ResolveVocabulary": "vocabulary_entries",
    "SharedStore": "shared_cache",
    "TASKS": "tasks",
    "Task": "types",
    "Translations": "translations",
    "Translator": "translations",
    "UnknownVocabularyError": "vocabulary_entries",
    "UnknownWord": "request_vocabulary",
    "VOCABULARY_MEMBERS": "vocabulary_entries",
    "View": "types",
    "ViewCandidate": "types",
    "ViewPlan": "types",
    "ViewPolicy": "types",
    "VocabularyError": "vocabulary_entries",
    "VocabularyLimits": "vocabulary_entries",
    "WindowMask": "segmentation",
    "Word": "request_vocabulary",
    "compressed_runs": "run_lengths",
    "corners_from": "geometry",
    "decode_image": "images",
    "decode_with_alpha": "mask_files",
    "draw_regions": "drawing",
    "forbid_bombs": "images",
    "is_language": "translations",
    "no_names": "vocabulary_entries",
    "pointed_queries": "segmentation",
    "prepare": "preparation",
    "prepare_each": "preparation",
    "queries_with_masks": "segmentation",
    "queries_with_whole_image": "segmentation",
    "read_vocabulary": "vocabulary_entries",
    "stored_box": "orientation",
    "stored_mask": "orientation",
    "stored_size": "orientation",
    "upright_box": "orientation",
    "upright_pixels": "images",
    "upright_view": "orientation",
    "AlphaMask": "prompts",
    "AlphaOrWhole": "prompts",
    "MaskFile": "prompts",
    "Polygon": "prompts",
    "Prompt": "prompts",
    "Scribble": "prompts",
    "bitmap_from_mask": "masks",
    "mask_from_bitmap": "masks",
    "mask_outlines": "outlines",
    "simplified_outline": "outlines",
    "placed": "prompts",
    "written_words": "named_vocabularies",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "DynRefer":
        set_cache_environment()
    try:
        with gc_paused():  # importing torch makes many objects, hardly any of them garbage
            module = importlib.import_module(f"{__name__}.{_LAZY[name]}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("dynrefer"):
            raise
        raise ModuleNotFoundError(
            f"{name} needs the package {error.name}: pip install 'dynrefer[serve]' adds it.", name=error.name
        ) from error
    value = globals()[name] = getattr(module, name)  # the next look-up finds it
    return value
