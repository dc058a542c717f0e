"""DynRefer: region descriptions at dynamic resolution. The one name to import.

    from dynrefer import DynRefer                                     # in this process: pip install 'dynrefer[serve]'
    DynRefer.load("embedded").describe(image, [(64, 256, 384, 384)])

    from dynrefer import Client                                       # by a service: pip install dynrefer
    Client("http://127.0.0.1:8000").describe(image, [(64, 256, 384, 384)])

`dynrefer.model` is the network and its predictor, `dynrefer.service` the HTTP service, whose client is in
`dynrefer.service.client`. In a checkout both are links to the folders at the top of the repository. Importing this
loads neither NumPy nor torch; the first use of `DynRefer` does.
"""

import importlib
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
    from dynrefer.service.client import (
        AsyncClient,
        BrokenAnswer,
        CertificateRejected,
        Client,
        ClientError,
        ConnectionFailed,
        Described,
        ProblemError,
        Retries,
        ServerTooSlow,
    )

__all__ = [
    "ALL_TASKS",
    "AsyncClient",
    "AttributeLabel",
    "BoxError",
    "BoxFormat",
    "BrokenAnswer",
    "Caption",
    "CertificateRejected",
    "Client",
    "ClientError",
    "ConfigError",
    "ConnectionFailed",
    "ConversionError",
    "Corners",
    "DamagedImageError",
    "Described",
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
    "ProblemError",
    "QueryError",
    "RegionDescription",
    "RegionQuery",
    "Retries",
    "ServerTooSlow",
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


_OF_CLIENT = frozenset(
    {
        "AsyncClient",
        "BrokenAnswer",
        "CertificateRejected",
        "Client",
        "ClientError",
        "ConnectionFailed",
        "Described",
        "ProblemError",
        "Retries",
        "ServerTooSlow",
    }
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module("dynrefer.service.client" if name in _OF_CLIENT else "dynrefer.model")
    value = globals()[name] = getattr(module, name)  # the next look-up finds it
    return value
