"""DynRefer: region descriptions at dynamic resolution. The public face of the model.

    from dynrefer import DynRefer
    DynRefer.load("embedded").describe(image, [(64, 256, 384, 384)])

Importing this module is cheap: NumPy, Pillow and torch are loaded by the first use of a name that needs them.
"""

from types import ModuleType
from typing import TYPE_CHECKING, Any

from dynrefer.model.errors import (
    BoxError,
    ConfigError,
    ConversionError,
    DamagedImageError,
    DeviceError,
    ImageError,
    ImageTooLargeError,
    ModelError,
    ModelNotFoundError,
    QueryError,
    UnsupportedImageError,
    ViewsError,
    WeightsError,
)
from dynrefer.model.gc_pause import gc_paused
from dynrefer.model.types import (
    ALL_TASKS,
    AttributeLabel,
    Caption,
    Corners,
    Label,
    ModelCard,
    RegionDescription,
    RegionQuery,
    Task,
    View,
    ViewCandidate,
    ViewPlan,
    ViewPolicy,
)

if TYPE_CHECKING:
    from dynrefer.model.geometry import BoxFormat, corners_from
    from dynrefer.model.images import decode_image, upright_pixels
    from dynrefer.model.predictor import DynRefer

__all__ = [
    "ALL_TASKS",
    "AttributeLabel",
    "BoxError",
    "BoxFormat",
    "Caption",
    "ConfigError",
    "ConversionError",
    "Corners",
    "DamagedImageError",
    "DeviceError",
    "DynRefer",
    "ImageError",
    "ImageTooLargeError",
    "Label",
    "ModelCard",
    "ModelError",
    "ModelNotFoundError",
    "QueryError",
    "RegionDescription",
    "RegionQuery",
    "Task",
    "UnsupportedImageError",
    "View",
    "ViewCandidate",
    "ViewPlan",
    "ViewPolicy",
    "ViewsError",
    "WeightsError",
    "corners_from",
    "decode_image",
    "upright_pixels",
]


def __getattr__(name: str) -> Any:
    """Import the names above that need more than the standard library when they are first used."""
    home: ModuleType
    if name in ("BoxFormat", "corners_from"):
        from dynrefer.model import geometry as home
    elif name in ("decode_image", "upright_pixels"):
        from dynrefer.model import images as home
    elif name == "DynRefer":
        with gc_paused():
            from dynrefer.model import predictor as home
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(home, name)  # the next look-up finds it
    return value
