"""Errors raised by the model::

    ModelError
    ├── ConfigError            a configuration key or value that cannot be honoured
    ├── ModelNotFoundError     no model directory, or a file missing in it
    ├── WeightsError           weights that are corrupt, incomplete or of the wrong shape
    ├── ConversionError        foreign weights that cannot be converted
    ├── DeviceError            a device, dtype or kernel library that this machine does not have
    │   ├── DeviceMemoryError  the device has no memory for the work
    │   └── DeviceLostError    the device no longer responds
    ├── OutputError            the network gave NaN or infinity for a region
    ├── OutputFileError        a file that a command must not write
    ├── ImageError             an image that cannot be used
    │   ├── ImageTooLargeError     more pixels than the caller allows
    │   ├── UnsupportedImageError  not a file of an accepted format
    │   ├── DamagedImageError      a file of an accepted format that is damaged or cut short
    │   ├── ImageTooCostlyError    an image whose decoding took more time or memory than is allowed, or crashed
    │   └── AnnotatedImageError    an annotated image that is missing, damaged or of another size than listed
    ├── StoppedError           a batch that was cancelled because no client waits for it
    └── QueryError             a region query that cannot be answered
        ├── BoxError           a box that is empty, inverted, not finite or outside the image
        ├── PromptError        a polygon, scribble or mask that gives no region
        ├── PointsError        points that give no region
        ├── ConversationError  a conversation that cannot be had
        ├── ViewsError         explicit views that the model cannot take
        └── InvalidQueriesError    several queries of one image, each with its own error

The messages are one sentence that names the thing at fault and the fix; they may be shown to a client
(`QueryError`, `ImageError`) or to the person who starts the service (the others). Nothing here knows HTTP.
"""

from collections.abc import Callable, Sequence


class ModelError(Exception):
    """Base of every error that the model raises on purpose."""


class ConfigError(ModelError):
    """A configuration key or value that cannot be honoured; names the key."""


class ModelNotFoundError(ModelError):
    """The model directory or one of its files does not exist; names the path."""


class WeightsError(ModelError):
    """Weights that are corrupt, incomplete or of the wrong shape; names the file or the tensor."""


class ConversionError(ModelError):
    """Foreign weights that cannot be converted; names the key or the missing source file."""


class DeviceError(ModelError):
    """A device, dtype or kernel library that this machine does not have."""


class DeviceMemoryError(DeviceError):
    """The device does not have enough memory for the batch or for the model; a smaller batch may fit."""


class DeviceLostError(DeviceError):
    """The device no longer responds; only a new process can use it again."""


class OutputError(ModelError):
    """The network returned NaN or infinity for a region."""


class OutputFileError(ModelError):
    """A file that a command must not write: it reads it, or it exists; names the option and the file."""


class ImageError(ModelError):
    """An image that cannot be used."""


class ImageTooLargeError(ImageError):
    """More pixels (width x height) than the caller allows."""


class UnsupportedImageError(ImageError):
    """Not a file of an accepted format."""


class DamagedImageError(ImageError):
    """A file of an accepted format that is damaged or cut short."""


class ImageTooCostlyError(ImageError):
    """An image whose decoding or cutting took more time or memory than is allowed, or ended its process."""


class AnnotatedImageError(ImageError):
    """An annotated image that is missing, damaged, of another size than listed, or whose boxes contradict each other; a
    clause without its full stop."""


class StoppedError(ModelError):
    """A batch that was cancelled because no client waits for its results."""


def raise_if_stopped(should_stop: Callable[[], bool]) -> None:
    """Raises `StoppedError` where a batch is to end. Called between two images of it; each call is a heartbeat."""
    if should_stop():
        raise StoppedError("the batch was cancelled: no client waits for its results.")


class QueryError(ModelError):
    """A region query that cannot be answered.

    field: the member of the region that is wrong. index: the query's position among those given, once known.
    """

    field: str = ""
    index: int | None = None


class BoxError(QueryError):
    """A box that is empty, inverted, not finite or wholly outside the image."""

    field = "box"


class PromptError(QueryError):
    """A polygon, scribble or mask that gives no region. field: where in the region, such as "mask/png"."""

    def __init__(self, sentence: str, field: str) -> None:
        super().__init__(sentence)
        self.field = field

    def __reduce__(self) -> "tuple[type[PromptError], tuple[str, str], dict[str, object]]":
        return type(self), (str(self), self.field), {"index": self.index}


class FinderError(QueryError):
    """Something that this model cannot be asked to find. field: where in the request, such as "names/3"; empty: the
    request as a whole."""

    def __init__(self, sentence: str, field: str = "") -> None:
        super().__init__(sentence)
        self.field = field

    def __reduce__(self) -> "tuple[type[FinderError], tuple[str, str], dict[str, object]]":
        return type(self), (str(self), self.field), {"index": self.index}


class ConversationError(QueryError):
    """Something that this model cannot be asked. field: where in the request, such as "messages/0/content"; empty: the
    request as a whole."""

    def __init__(self, sentence: str, field: str = "") -> None:
        super().__init__(sentence)
        self.field = field

    def __reduce__(self) -> "tuple[type[ConversationError], tuple[str, str], dict[str, object]]":
        return type(self), (str(self), self.field), {"index": self.index}


class PointsError(QueryError):
    """Points outside the image, none on the object, or points for a model without a segmenter."""

    field = "points"


class ViewsError(QueryError):
    """Explicit views that the model cannot take (first not 0, wrong number, outside [0, 1])."""

    field = "views"


class InvalidQueriesError(QueryError):
    """Queries of one image that cannot be answered. errors: one per such query, with its `index`, in order."""

    def __init__(self, errors: Sequence[QueryError]) -> None:
        super().__init__(str(errors[0]) if len(errors) == 1 else f"{len(errors)} regions cannot be answered.")
        self.errors = tuple(errors)
        self.index = errors[0].index
        self.field = errors[0].field

    @classmethod
    def one_or_all(cls, errors: Sequence[QueryError]) -> QueryError:
        """The only error as it is, or all of them as one."""
        return errors[0] if len(errors) == 1 else cls(errors)

    def __reduce__(self) -> "tuple[type[InvalidQueriesError], tuple[tuple[QueryError, ...]]]":
        return type(self), (self.errors,)
