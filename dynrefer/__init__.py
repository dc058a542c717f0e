"""DynRefer: region descriptions at dynamic resolution. The one name to import.

    from dynrefer import DynRefer
    DynRefer.load("embedded").describe(image, [(64, 256, 384, 384)])

`dynrefer.model` is the network and its predictor, `dynrefer.service` the HTTP service. In a checkout both are links to
the folders at the top of the repository. Importing this loads neither NumPy nor torch; the first use of `DynRefer`
does.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dynrefer.model import (
        ALL_TASKS,
        AttributeLabel,
        BoxError,
        BoxFormat,
        Caption,
        ConfigError,
        ConversionError,
        Corners,
        DamagedImageError,
        DeviceError,
        DeviceLostError,
        DeviceMemoryError,
        DynRefer,
        ImageError,
        ImageTooLargeError,
        Label,
        ModelCard,
        ModelError,
        ModelNotFoundError,
        OutputError,
        PointPrompt,
        PointsError,
        QueryError,
        RegionDescription,
        RegionQuery,
        Task,
        UnsupportedImageError,
        View,
        ViewCandidate,
        ViewPlan,
        ViewPolicy,
        ViewsError,
        WeightsError,
        corners_from,
    )

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
    "DeviceLostError",
    "DeviceMemoryError",
    "DynRefer",
    "ImageError",
    "ImageTooLargeError",
    "Label",
    "ModelCard",
    "ModelError",
    "ModelNotFoundError",
    "OutputError",
    "PointPrompt",
    "PointsError",
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
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dynrefer import model

    value = globals()[name] = getattr(model, name)  # the next look-up finds it
    return value
