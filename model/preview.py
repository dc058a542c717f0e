"""A small memory of the image that results are about, so that they can be shown later without its pixels being kept."""

import io
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from PIL import Image

from dynrefer.model.errors import ImageError
from dynrefer.model.geometry import ImageSize
from dynrefer.model.images import ImageSource, upright_pixels

LONGEST = 1000  # pixels of a remembered image's longer side
_MOST_BYTES = 250_000  # of a file that is remembered as it is
_QUALITY = 85  # of JPEG


@dataclass(frozen=True, slots=True)
class Preview:
    """Where to look for an image: a file's path, the bytes of a small file, or a JPEG of at most `LONGEST` pixels.

    size: (width, height) of the upright image, which the boxes of results are in pixels of. small: whether the
    source is a smaller copy.
    """

    source: Path | bytes = field(repr=False)
    size: ImageSize
    small: bool = False

    @classmethod
    def of(cls, image: ImageSource, size: ImageSize) -> Self:
        """Of an image that was described. size: (width, height), upright.

        A path costs nothing and is read again when it is shown; of an array, a Pillow image or large bytes a JPEG is
        made at once, some milliseconds and 100 kB. Raises as `upright_pixels` does.
        """
        if isinstance(image, str | os.PathLike):
            return cls(Path(image).absolute(), size)
        if isinstance(image, bytes | bytearray | memoryview) and len(image) <= _MOST_BYTES:
            return cls(bytes(image), size)
        small = Image.fromarray(upright_pixels(image))
        small.thumbnail((LONGEST, LONGEST), reducing_gap=2.0)
        stored = io.BytesIO()
        small.save(stored, "JPEG", quality=_QUALITY)
        return cls(stored.getvalue(), size, small=True)

    def image(self) -> Image.Image:
        """The upright image as RGB, or a smaller copy of it.

        Raises OSError for a file that cannot be opened any more, `ImageError` for one that is another image now.
        """
        found = Image.fromarray(upright_pixels(self.source))
        if not self.small and found.size != self.size:
            raise ImageError(
                f"{self.source if isinstance(self.source, Path) else 'the image'} has {found.width} x {found.height} "
                f"pixels now, and had {self.size[0]} x {self.size[1]} when its regions were described."
            )
        return found
