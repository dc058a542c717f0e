"""An image file's container, before a decoder sees it: which format, which frame, and how it is turned. No torch.

A decoder is given what the pixels need and nothing else: text, profiles, thumbnails and further frames are left out
here, so that metadata, whether large, damaged or hostile, neither costs an image nor is paid for. Nothing is decoded,
and nothing of a file's contents is trusted: sizes are checked against the bytes that are there.
"""

import importlib.util
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from dynrefer.model.errors import DamagedImageError, ImageTooCostlyError, UnsupportedImageError
from dynrefer.model.exif import (
    ORIENTATION,
    UPRIGHT,
    directory_offsets,
    entry_integer,
    find_integer,
    orientation_of,
    read_directory,
    read_orientation,
    tiff_layout,
)

HEIC = "HEIC"
FORMATS = ("JPEG", "PNG", "WebP", "AVIF", "TIFF", "BMP", "GIF")

MOST_PARTS = 100_000  # chunks or segments of a file: 30 MB in the 8 kB of libpng are 4,000
MOST_SCANS = 500  # of a JPEG: encoders write about ten, and each costs a walk over the whole image
MOST_FRAMES = 10_000  # are counted
METADATA_BYTES = 1 << 20  # a longer piece of metadata is not read for the orientation

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_NEEDED = (b"IHDR", b"PLTE", b"tRNS")  # beside IDAT and IEND
PALETTE = 3  # PNG's colour type
JPEG_END = b"\xff\xd9"
# JPEG's start of frame: Huffman or arithmetic coding, sequential, progressive or lossless. C4, C8, CC are other things.
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_SEQUENTIAL = frozenset((0xC0, 0xC1))
JPEG_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length
JPEG_METADATA = frozenset((*range(0xE0, 0xF0), 0xFE))
# What may stand in place of the missing end of a JPEG: whatever the decoder still needs of the image it reads here.
JPEG_ENDINGS = (b"\0" * 256 + JPEG_END, b"\xaa" * 256 + JPEG_END, b"\x5b" * 256 + JPEG_END)
MP_NUMBER_OF_IMAGES = 0xB001
# What an ISO media file calls its kind.
AVIF_BRANDS = (b"avif", b"avis")
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
# What describes the pixels of a TIFF file; not, say, its orientation, which is applied here, and further directories.
TIFF_NEEDED = frozenset(
    (256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 338, 339, 347)
    + (512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532)
)


@dataclass(frozen=True, slots=True)
class Container:
    """An image file without what its pixels do not need.

    format: one of FORMATS. data: the file that the decoder is given. orientation: EXIF, 1 to 8. frames: how many
    images there are; the first is used.
    endings: one of them is to be appended to `data`. Where there are several, the file has no end, and the image is
    whole if it does not depend on which is taken.
    """

    format: str
    data: bytes
    orientation: int = UPRIGHT
    frames: int = 1
    endings: tuple[bytes, ...] = (b"",)


def open_container(data: bytes) -> Container:
    """Read an image file's container.

    Raises `UnsupportedImageError` for bytes that are none of FORMATS, or a kind of one that no decoder here reads,
    `DamagedImageError` where no image can be in it, and `ImageTooCostlyError` for more parts than honest files have.
    """
    kind = format_of(data)
    if kind is None or (kind == HEIC and not _reads_heic()):
        raise UnsupportedImageError(f"The image is not one of the accepted formats: {', '.join(accepted_formats())}.")
    reader = {"PNG": _png, "JPEG": _jpeg, "WebP": _webp, "TIFF": _tiff, "GIF": _gif}.get(kind)
    return Container(kind, data) if reader is None else reader(data)


def accepted_formats() -> tuple[str, ...]:
    """FORMATS, and HEIC where the package of the extra `heic` is installed."""
    return (*FORMATS, HEIC) if _reads_heic() else FORMATS


@cache
def _reads_heic() -> bool:
    return importlib.util.find_spec("pi_heif") is not None


def format_of(data: bytes) -> str | None:
    """Which of FORMATS these bytes begin as, or HEIC; None for none."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(PNG_SIGNATURE):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        return "AVIF" if _has_brand(data, AVIF_BRANDS) else HEIC if _has_brand(data, HEIC_BRANDS) else None
    if tiff_layout(data[:16]) is not None:
        return "TIFF"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    return "BMP" if data.startswith(b"BM") else None


def _has_brand(data: bytes, brands: tuple[bytes, ...]) -> bool:
    """Whether the first box of an ISO media file names one of these brands."""
    end = min(int.from_bytes(data[:4], "big"), len(data), 256)
    return any(data[at : at + 4] in brands for at in (8, *range(16, end, 4)))


def damaged() -> DamagedImageError:
    """The error for what cannot be a whole file."""
    return DamagedImageError("The image is damaged or cut short.")


def _too_many_parts() -> ImageTooCostlyError:
    return ImageTooCostlyError(f"The image file has more than {MOST_PARTS} parts: save the image anew.")


def _png(data: bytes) -> Container:
    """Keep the header, the palette and the pixels, these in one chunk: checks of what is left out are not made."""
    whole = memoryview(data)
    header, kept, pixels, metadata = b"", [whole[:8]], list[memoryview](), _PngMetadata()
    has_palette = False
    for name, at, end in _png_chunks(data):
        if name == b"IDAT":
            pixels.append(whole[at + 8 : end])
            metadata.saw_pixels()
        elif name in PNG_NEEDED and not pixels and (name == b"IHDR") == (not header):
            header = header or data[at + 8 : end]
            has_palette |= name == b"PLTE"
            if name != b"PLTE" or header[9:10] == bytes((PALETTE,)):  # elsewhere it is a mere suggestion
                kept.append(whole[at : end + 4])
        else:
            metadata.add(name, whole[at + 8 : end])
    if not header or not pixels or (header[9:10] == bytes((PALETTE,)) and not has_palette):
        raise damaged()
    length = struct.pack(">I", sum(map(len, pixels)))
    closing = bytes(8) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))  # a checksum that is not looked at, no length
    return Container("PNG", b"".join([*kept, length, b"IDAT", *pixels, closing]), metadata.orientation, metadata.frames)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, offset, offset of the body's end) of each chunk up to the end or to what is no chunk; the last may be cut
    short."""
    at = len(PNG_SIGNATURE)
    for _ in range(MOST_PARTS):
        if len(data) - at < 8:
            return
        length, name = struct.unpack_from(">I4s", data, at)
        if not name.isalpha() or name == b"IEND":
            return
        yield name, at, min(at + 8 + length, len(data))
        at += 12 + length
    raise _too_many_parts()


class _PngMetadata:
    """What the chunks beside the pixels say."""

    def __init__(self) -> None:
        self._exif: bytes | None = None
        self._profile: bytes | None = None
        self._xmp: bytes | None = None
        self._animated = self._pixels = self._default_image = False
        self._frames = 0

    @property
    def orientation(self) -> int:
        """EXIF's, 1 to 8."""
        return read_orientation(self._profile if self._exif is None else self._exif, self._xmp)

    @property
    def frames(self) -> int:
        """Of the animation, the image that stands in for it included; 1 if there is none."""
        return max(1, min(self._frames + self._default_image, MOST_FRAMES)) if self._animated else 1

    def saw_pixels(self) -> None:
        """The image of IDAT is a frame of the animation only where a frame was announced before it."""
        self._default_image |= not self._pixels and not self._frames
        self._pixels = True

    def add(self, name: bytes, body: memoryview) -> None:
        """Take note of a chunk."""
        self._animated |= name == b"acTL"
        self._frames += name == b"fcTL"
        if len(body) > METADATA_BYTES:
            return
        if name == b"eXIf":
            self._exif = bytes(body)
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            self._add_text(name, bytes(body))

    def _add_text(self, name: bytes, body: bytes) -> None:
        key, _, value = body.partition(b"\0")
        if key == b"Raw profile type exif" and name != b"iTXt":  # ImageMagick's; hexadecimal digits after three lines
            text = _unpacked(value[1:]) if name == b"zTXt" else value
            digits = b"".join(text.split(b"\n")[3:])
            self._profile = bytes.fromhex(digits.decode()) if re.fullmatch(rb"(?:[0-9a-fA-F]{2})+", digits) else None
        elif key == b"XML:com.adobe.xmp" and name == b"iTXt" and value.count(b"\0") >= 2:
            text = value[2:].split(b"\0", 2)[-1]
            self._xmp = _unpacked(text) if value[0] else text


def _unpacked(data: bytes) -> bytes:
    """The first METADATA_BYTES of what was compressed; nothing where it is damaged."""
    try:
        return zlib.decompressobj().decompress(data, METADATA_BYTES)
    except zlib.error:
        return b""


def _jpeg(data: bytes) -> Container:
    """Leave out the segments of applications and comments but for the two that tell how colours are coded."""
    kept, exif, xmp, frames, frame = [data[:2]], None, None, 1, b""
    for marker, at, body in _jpeg_segments(data):
        if marker in JPEG_FRAMES:
            frame = frame or bytes((marker,)) + body
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            exif = body if exif is None else exif
        elif marker == 0xE1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            xmp = body
        elif marker == 0xE2 and body.startswith(b"MPF\0"):
            frames = find_integer(body[4:], MP_NUMBER_OF_IMAGES) or 1
        if marker not in JPEG_METADATA or (marker, body[:5]) in ((0xE0, b"JFIF\0"), (0xEE, b"Adobe")):
            kept.append(data[at : at + 4 + len(body)])
        scan = at
    if len(frame) < 7 or marker != 0xDA:
        raise damaged()
    if frame[1] != 8:
        raise UnsupportedImageError(f"The image cannot be decoded: a JPEG with {frame[1]} bits per sample.")
    if data.count(b"\xff\xda", scan) > MOST_SCANS:
        raise ImageTooCostlyError(f"The image is a JPEG of more than {MOST_SCANS} scans: save the image anew.")
    kept[-1] = pixels = data[scan:]
    endings: tuple[bytes, ...] = (b"",)
    if pixels.find(JPEG_END) < 0 and _holds_all_restarts(frame, pixels, data[:scan]):
        kept[-1] = pixels.rstrip(b"\xff")
        endings = JPEG_ENDINGS
    frames = min(max(frames, 1), MOST_FRAMES)
    return Container("JPEG", b"".join(kept), read_orientation(exif, xmp), frames, endings)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(marker, offset of the marker, body) of each segment up to the first scan's, which is the last."""
    at = 2
    for _ in range(MOST_PARTS):
        at = data.find(b"\xff", at)  # junk between segments is skipped, as decoders do
        while 0 <= at < len(data) - 1 and data[at + 1] == 0xFF:
            at += 1
        if at < 0 or len(data) - at < 4:
            raise damaged()
        marker = data[at + 1]
        if marker == 0 or marker in JPEG_ALONE:
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xD9 or length < 2:
            raise damaged()
        yield marker, at, data[at + 4 : at + 2 + length]
        if marker == 0xDA:
            return
        at += 2 + length
    raise _too_many_parts()


def _holds_all_restarts(frame: bytes, pixels: bytes, tables: bytes) -> bool:
    """Whether a JPEG without its end may yet be whole: one scan has all its components and restart markers.

    frame: the marker and body of the start of frame. pixels: from the scan's header on.
    Between restarts a decoder skips what does not belong there, so that the endings would not show what is missing. A
    progressive image may lack later scans, which cannot be seen either.
    """
    components = frame[6]
    if frame[0] not in JPEG_SEQUENTIAL or len(frame) < 7 + 3 * components or pixels.count(b"\xff\xda") != 1:
        return False
    if pixels[4:5] != bytes((components,)):
        return False
    interval = 0
    for marker, _, body in _jpeg_segments(tables + pixels):
        if marker == 0xDD and len(body) >= 2:
            interval = int.from_bytes(body[:2], "big")
    if not interval:
        return True
    height, width = int.from_bytes(frame[2:4], "big"), int.from_bytes(frame[4:6], "big")
    factors = [frame[8 + 3 * each] for each in range(components)]
    across = 8 * (max(each >> 4 for each in factors) if components > 1 else 1)
    down = 8 * (max(each & 15 for each in factors) if components > 1 else 1)
    units = -(-width // max(across, 1)) * -(-height // max(down, 1))
    restarts = len(re.findall(rb"\xff[\xd0-\xd7]", pixels))
    return restarts >= -(-units // interval) - 1


def _webp(data: bytes) -> Container:
    """Leave out nothing: the decoder does not look at metadata."""
    exif, xmp, frames, at = None, None, 0, 12
    for _ in range(MOST_PARTS):
        if len(data) - at < 8:
            break
        name, length = struct.unpack_from("<4sI", data, at)
        if length <= METADATA_BYTES and name in (b"EXIF", b"XMP "):
            body = data[at + 8 : at + 8 + length]
            exif, xmp = (body, xmp) if name == b"EXIF" else (exif, body)
        frames += name == b"ANMF"
        at += 8 + length + length % 2
    else:
        raise _too_many_parts()
    return Container("WebP", data, read_orientation(exif, xmp), max(1, min(frames, MOST_FRAMES)))


def webp_size(data: bytes) -> tuple[int, int]:
    """(width, height) of a WebP file's canvas, in pixels. Raises `DamagedImageError` where the header has none."""
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L" and len(data) >= 25 and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and len(data) >= 30 and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        if width & 0x3FFF and height & 0x3FFF:
            return width & 0x3FFF, height & 0x3FFF
    raise damaged()


def _tiff(data: bytes) -> Container:
    """Leave in the first directory what is needed, and none behind it. Nothing moves: offsets stay right."""
    layout = tiff_layout(data)
    directory = None if layout is None else read_directory(data, layout.first, layout)
    if layout is None or directory is None or not directory.entries:
        raise damaged()
    stated = [entry_integer(entry, layout) for tag, entry in directory.entries if tag == ORIENTATION]
    orientation = orientation_of(stated[0]) if stated else UPRIGHT
    frames = sum(1 for _ in directory_offsets(data, layout, MOST_FRAMES))
    kept = [entry for tag, entry in directory.entries if tag in TIFF_NEEDED]
    no_next = bytes(struct.calcsize(layout.offset_format))
    shorter = b"".join([struct.pack(layout.count_format, len(kept)), *kept, no_next])
    whole = memoryview(data)
    parts: list[bytes | memoryview] = [whole[: layout.first], shorter, whole[layout.first + len(shorter) :]]
    return Container("TIFF", b"".join(parts), orientation, frames)


def _gif(data: bytes) -> Container:
    """Leave out nothing: comments cost little. The frames are counted as far as MOST_PARTS blocks go."""
    frames = 0
    colours = 3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 0x80 else 0
    at, left = 13 + colours, MOST_PARTS
    while at < len(data) and left and data[at] in b"!,":
        image = data[at] == 0x2C
        frames += image
        if image and len(data) > at + 9:
            at += 11 + (3 << (data[at + 9] & 7) + 1 if data[at + 9] & 0x80 else 0)
        else:
            at += 2
        while at < len(data) and data[at] and left:
            at += 1 + data[at]
            left -= 1
        at, left = at + 1, max(left - 1, 0)
    return Container("GIF", data, frames=max(1, min(frames, MOST_FRAMES)))
