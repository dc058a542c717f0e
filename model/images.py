"""Images of any mode -> upright RGB, the same for HTTP, the command line and Python. No torch.

`decode_image` is for bytes from strangers: a few formats, within limits, and errors whose text may be shown.
`upright_pixels` is for what a program already trusts, `annotated_image` for the files that annotations list. All
three read a file in the same way: `containers.py` keeps what the pixels need, one decoder of Pillow's decodes it, and
`rgb.py` turns and converts it.
"""

import io
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from dynrefer.model.containers import Container, damaged, format_of, open_container, webp_size
from dynrefer.model.errors import (
    AnnotatedImageError,
    DamagedImageError,
    ImageError,
    ImageTooCostlyError,
    ImageTooLargeError,
    QueryError,
    UnsupportedImageError,
)
from dynrefer.model.exif import ORIENTATION, orientation_of
from dynrefer.model.geometry import ImageSize
from dynrefer.model.orientation import TURNS
from dynrefer.model.rgb import Pixels, RowReader, rows_of_bytes, rows_of_image, upright_rgb
from dynrefer.model.types import ImageInfo

__all__ = [
    "DecodedImage",
    "ImageInfo",
    "ImageSource",
    "Pixels",
    "annotated_image",
    "annotated_info",
    "decode_image",
    "errors_of_decoders",
    "forbid_bombs",
    "ignore_header",
    "png_image",
    "read_image",
    "upright_pixels",
]

# Bytes a pixel at the peak of decoding, where that is more than 10: these decoders hold two or three canvases.
DEAR_FORMATS = {"WebP": 12, "AVIF": 13}

TIFF_BITS_PER_SAMPLE, TIFF_PHOTOMETRIC = 258, 262
WHITE_IS_ZERO = 0

# Modules whose warnings are about an image, as a regular expression.
IMAGE_LIBRARIES = r"(PIL|imagehash|pillow_heif)\b"

ImageSource = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | Pixels


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """pixels: (H, W, 3) uint8 RGB, upright, C-contiguous. info: what the file says of them."""

    pixels: Pixels
    info: ImageInfo


@dataclass(frozen=True, slots=True)
class _Opened:
    """An image file whose header was read. size: (width, height) as stored. decode: decodes all pixels."""

    size: ImageSize
    decode: Callable[[], RowReader]
    orientation: int
    frames: int


def forbid_bombs(max_pixels: int | None = None) -> None:
    """Make Pillow refuse more than max_pixels itself, where it would only warn; None: where its own bound is. What
    else image libraries warn of is ignored.

    One image can cause 65,535 warnings about its metadata, each with a text of its own. Ignored by a filter they cost
    about a microsecond each, and the interpreter keeps none of their texts. Holds for the whole process, as filters of
    warnings and loggers do: called when a process starts to decode images from strangers, never at import.
    `decode_image` checks the size before; this is for what a decoder opens inside.
    """
    warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
    # Behind the other filters, so that those which the user has set apply.
    warnings.filterwarnings("ignore", module=IMAGE_LIBRARIES, append=True)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # a line per tag at the level debug
    if max_pixels is not None:
        Image.MAX_IMAGE_PIXELS = max_pixels


def ignore_header(width: int, height: int) -> None:
    """For those who need not know the size early."""


def decode_image(
    data: bytes | memoryview, max_pixels: int | None, on_header: Callable[[int, int], None] = ignore_header
) -> DecodedImage:
    """The upright RGB pixels of an image file's bytes; CPU work.

    Only `containers.FORMATS` are tried. The size in the header is checked before anything is decoded. The first frame
    is used, the EXIF orientation applied, alpha composited over white; colour profile and other metadata are dropped.
    max_pixels: the most that are decoded; None: any number, for files that are trusted.
    on_header: called with the width and height of the stored rows and columns once they are known and accepted, before
    any pixel is decoded.

    Memory at the peak: 7 bytes a pixel, 12 for WebP, AVIF and progressive JPEG, beside the file.

    Raises `ImageTooLargeError` for more than max_pixels (width x height), `UnsupportedImageError` for bytes that are
    none of the formats or a kind of one that cannot be decoded, `DamagedImageError` for one of them that is damaged or
    cut short, and `ImageTooCostlyError` where memory does not suffice.
    """
    with errors_of_decoders():
        container = open_container(bytes(data))
    first: DecodedImage | None = None
    for ending in container.endings:
        with errors_of_decoders():
            opened = _open(container, container.data + ending)
        if first is None:
            _check_size(opened.size, container.format, max_pixels)
            on_header(*opened.size)
        with errors_of_decoders():
            pixels = upright_rgb(opened.size, opened.decode(), opened.orientation)
        if first is None:
            first = DecodedImage(pixels, _info(opened))
        elif not np.array_equal(first.pixels, pixels):
            raise damaged()
    assert first is not None
    return first


def _info(opened: _Opened) -> ImageInfo:
    width, height = opened.size
    swapped, _, _ = TURNS[opened.orientation]
    return ImageInfo(*((height, width) if swapped else (width, height)), opened.orientation, opened.frames)


def _check_size(size: ImageSize, kind: str, max_pixels: int | None) -> None:
    """Raises `ImageTooLargeError`; the bound of dear formats is lower, so that all take about the same memory."""
    width, height = size
    if max_pixels is not None:
        max_pixels = max_pixels * 10 // DEAR_FORMATS.get(kind, 10)
    if max_pixels is not None and width * height > max_pixels:
        raise ImageTooLargeError(f"The image has {width} x {height} pixels; at most {max_pixels} are accepted.")


@contextmanager
def errors_of_decoders() -> Iterator[None]:
    """Whatever a decoder raises is an `ImageError`; its text is not for clients."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageTooCostlyError("The image takes more memory to decode than is allowed.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # a frame larger than the header's
        pixels = re.search(r"\d+", str(error))
        raise ImageTooLargeError(f"The image has {pixels[0] if pixels else 'too many'} pixels.") from error
    except ImportError as error:
        raise UnsupportedImageError("This installation cannot decode images of this format.") from error
    except Exception as error:  # by kind: decoders have been seen to raise a dozen classes
        if "out of memory" in str(error):
            raise ImageTooCostlyError("The image takes more memory to decode than is allowed.") from error
        if "truncated" in str(error):
            raise damaged() from error
        raise DamagedImageError(
            "The image cannot be decoded: it is damaged, or of a kind that is not supported; save it anew."
        ) from error


def _open(container: Container, data: bytes) -> _Opened:
    """Read the header with the format's own decoder; each is imported where it is first used, and no other is."""
    match container.format:
        case "WebP":
            return _open_webp(container, data)
        case "AVIF":
            return _open_avif(container, data)
        case "HEIC":
            return _open_heic(container, data)
        case "TIFF":
            return _open_tiff(container, data)
    image = _plugin(container.format)(io.BytesIO(data))

    def decode() -> RowReader:
        image.load()
        return rows_of_image(image)

    return _Opened(image.size, decode, container.orientation, container.frames)


def _plugin(kind: str) -> type[ImageFile.ImageFile]:
    match kind:
        case "JPEG":
            from PIL.JpegImagePlugin import JpegImageFile

            return JpegImageFile
        case "PNG":
            from PIL.PngImagePlugin import PngImageFile

            return PngImageFile
        case "GIF":
            from PIL.GifImagePlugin import GifImageFile

            return GifImageFile
        case _:
            from PIL.BmpImagePlugin import BmpImageFile

            return BmpImageFile


def png_image(container: Container) -> ImageFile.ImageFile:
    """A PNG whose header was read, and none of its pixels. For use within `errors_of_decoders`."""
    return _plugin("PNG")(io.BytesIO(container.data + container.endings[0]))


def _open_tiff(container: Container, data: bytes) -> _Opened:
    from PIL.TiffImagePlugin import TiffImageFile

    image = TiffImageFile(io.BytesIO(data))
    bits = image.tag_v2.get(TIFF_BITS_PER_SAMPLE, (1,))
    negative = image.tag_v2.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO

    def decode() -> RowReader:
        image.load()
        return rows_of_image(image, bits[0], negative)

    return _Opened(image.size, decode, container.orientation, container.frames)


def _open_webp(container: Container, data: bytes) -> _Opened:
    """With Pillow's decoder but not through its image, which would be two more copies of the pixels."""
    size = webp_size(data)

    def decode() -> RowReader:
        from PIL import _webp

        decoder = _webp.WebPAnimDecoder(data)
        *_, mode = decoder.get_info()
        frame = decoder.get_next()
        del decoder  # and its two canvases
        if frame is None:
            raise damaged()
        return rows_of_bytes(frame[0], size, mode)

    return _Opened(size, decode, container.orientation, container.frames)


def _open_avif(container: Container, data: bytes) -> _Opened:
    """As `_open_webp`. How the image is turned stands in its container; EXIF only repeats it."""
    from PIL import _avif

    decoder = _avif.AvifDecoder(data, "auto", 1)  # one thread: the workers share the processors
    size, frames, mode, _, _, orientation, _ = decoder.get_info()

    def decode() -> RowReader:
        pixels, *_ = decoder.get_frame(0)
        return rows_of_bytes(pixels, size, mode)

    return _Opened(size, decode, orientation_of(orientation), max(1, frames))


def _open_heic(container: Container, data: bytes) -> _Opened:
    """With the package of the extra `heic`, which turns the image itself as its container says."""
    import pi_heif

    image = pi_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)

    def decode() -> RowReader:
        return rows_of_image(image.to_pillow())

    return _Opened(image.size, decode, container.orientation, max(1, len(image)))


def upright_pixels(image: ImageSource) -> Pixels:
    """(H, W, 3) uint8 RGB, EXIF orientation applied. For trusted input: there are no limits.

    image: a file, its bytes, a Pillow image, or such an array, which is returned as it is.
    Raises `QueryError` for anything else, and for pixels whose range is unclear, `UnsupportedImageError` for a file
    that is no image, `DamagedImageError` for an image that cannot be decoded, and OSError for a file that cannot be
    opened.
    """
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise QueryError(f"The image must be (H, W, 3) uint8 RGB, not {image.shape} {image.dtype}.")
        return image
    if isinstance(image, Image.Image):
        try:
            return _pixels_of(image)
        except UnsupportedImageError as error:
            raise QueryError(str(error)) from error
    if isinstance(image, bytes | bytearray | memoryview):
        return _read(bytes(image), "the given bytes").pixels
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image)).pixels
    raise QueryError(
        "The image must be a file's path, its bytes, a Pillow image or an (H, W, 3) uint8 RGB array, "
        f"not {type(image).__name__}."
    )


def _pixels_of(image: Image.Image) -> Pixels:
    """(H, W, 3) uint8 RGB from a Pillow image of any mode, turned upright; transparency is composited over white."""
    image.load()
    return upright_rgb(image.size, rows_of_image(image), _orientation(image))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where the metadata is damaged: the pixels may still be good."""
    try:
        return orientation_of(image.getexif().get(ORIENTATION))
    except Exception:  # by kind, as in `errors_of_decoders`
        return 1


def read_image(path: Path) -> DecodedImage:
    """A trusted image file, without limits: of the formats of `decode_image`, or of any other that Pillow reads.

    Raises `UnsupportedImageError` for a file that is no image, `DamagedImageError` for an image that cannot be decoded,
    and OSError for a file that cannot be opened.
    """
    return _read(_bytes_of(path), str(path))


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except ValueError:  # a null in the name
        raise FileNotFoundError(f"no such file: {str(path)!r}") from None


def _read(data: bytes, name: str) -> DecodedImage:
    with _named(name):
        if format_of(data) is not None:
            return decode_image(data, None)
        with errors_of_decoders(), Image.open(io.BytesIO(data)) as image:
            image.load()
            orientation = _orientation(image)
            pixels = upright_rgb(image.size, rows_of_image(image), orientation)
            return DecodedImage(pixels, ImageInfo(pixels.shape[1], pixels.shape[0], orientation))


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors say which image is meant. name: its path, say."""
    try:
        yield
    except ImageError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            raise UnsupportedImageError(f"{name} is not an image.") from error
        raise type(error)(f"{name} cannot be read: {error}") from error


def annotated_image(path: Path) -> DecodedImage:
    """An image that annotations list, upright, without limits. Raises `AnnotatedImageError`: missing or unreadable."""
    with _annotated(path):
        return read_image(path)


def annotated_info(path: Path) -> ImageInfo:
    """Size and orientation of an image that annotations list; none of its pixels is decoded.

    Raises `AnnotatedImageError`: missing or unreadable.
    """
    with _annotated(path):
        data = _bytes_of(path)
        if format_of(data) is None:
            return _read(data, str(path)).info
        with _named(str(path)), errors_of_decoders():
            container = open_container(data)
            opened = _open(container, container.data + container.endings[0])
        return _info(opened)


@contextmanager
def _annotated(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise AnnotatedImageError(f"there is no image {path}") from error
    except OSError as error:
        raise AnnotatedImageError(f"the image {path} cannot be read: {error.strerror or error}") from error
    except ImageError as error:
        clause = str(error).removesuffix(".")
        if clause.endswith(" is not an image"):
            raise AnnotatedImageError(clause) from error
        reason = clause.removeprefix(f"{path}: ").removeprefix("The image ")
        raise AnnotatedImageError(f"the image {path} cannot be read: it {reason}") from error
