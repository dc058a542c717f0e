"""The network of the embedded finder: an image -> at every place of a map a box, its objectness, and what is in it.

A convolutional network with one box per place of a stride-8 map, as FCOS has them (Tian et al., 2019). What a place
sees does not depend on any name: objectness is class-agnostic, and a name's logit is the scaled cosine of the place's
embedding and the projected text embedding of the name, as in DetCLIPv3. Masks are coefficients of a place times
prototypes at stride 4, as in YOLACT (Bolya et al., 2019).

Shapes: B = images, H W = pixels, multiples of 32, h w = H/8 W/8, C = embedding, K = prototypes, T = texts, E = width of
a text embedding.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 8  # pixels between places
MULTIPLE = 32  # the sides of an input are multiples of it
_MEAN, _SCALE = 127.5, 63.75
_LEAST_REACH, _MOST_REACH = -3.0, 4.5  # natural logarithm of a box's reach in strides


@dataclass(frozen=True)
class FinderConfig:
    """widths: channels at strides 2, 4, 8, 16 and 32. neck: channels of the map that places are on.

    embedding: C. prototypes: K. text_width: E.
    """

    widths: tuple[int, int, int, int, int] = (16, 32, 72, 128, 192)
    neck: int = 96
    embedding: int = 96
    prototypes: int = 24
    text_width: int = 160


class FinderMaps(NamedTuple):
    """objectness: (B, h, w) logits. boxes: (B, h, w, 4) xyxy, pixels of the input. embeddings: (B, h, w, C), of length
    1. coefficients: (B, h, w, K). prototypes: (B, K, 2h, 2w)."""

    objectness: Tensor
    boxes: Tensor
    embeddings: Tensor
    coefficients: Tensor
    prototypes: Tensor


class _Convolution(nn.Module):
    """3 x 3 or 1 x 1, normalised, with or without ReLU."""

    def __init__(self, width: int, out: int, stride: int = 1, size: int = 3, *, relu: bool = True) -> None:
        super().__init__()
        self.change = nn.Conv2d(width, out, size, stride, padding=size // 2, bias=False)
        self.norm = nn.BatchNorm2d(out)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h / stride, w / stride)."""
        x = self.norm(self.change(x))
        return functional.relu(x) if self.relu else x


class _Block(nn.Module):
    """Two 3 x 3 convolutions around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _Convolution(width, width), _Convolution(width, width, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        return functional.relu(x + self.second(self.first(x)))


class FinderNetwork(nn.Module):
    """Images -> `FinderMaps`."""

    def __init__(self, config: FinderConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FinderConfig()
        at2, at4, at8, at16, at32 = config.widths
        neck = config.neck
        self.down2 = _Convolution(3, at2, 2)
        self.down4 = nn.Sequential(_Convolution(at2, at4, 2), _Convolution(at4, at4))
        self.down8 = nn.Sequential(_Convolution(at4, at8, 2), _Block(at8))
        self.down16 = nn.Sequential(_Convolution(at8, at16, 2), _Block(at16), _Block(at16))
        self.down32 = nn.Sequential(_Convolution(at16, at32, 2), _Block(at32), _Block(at32))
        # What the image shows as a whole reaches every place, beyond what the convolutions see.
        self.whole = nn.Linear(at32, at32)
        self.from32 = _Convolution(at32, at16, size=1)
        self.join16 = _Block(at16)
        self.from16 = _Convolution(at16, neck, size=1)
        self.from8 = _Convolution(at8, neck, size=1)
        self.join8 = _Block(neck)
        self.box_tower = _Convolution(neck, neck)
        self.name_tower = nn.Sequential(_Convolution(neck, neck), _Convolution(neck, 2 * neck, size=1))
        self.objectness = nn.Conv2d(neck, 1, 3, padding=1)
        self.reach = nn.Conv2d(neck, 4, 3, padding=1)
        self.coefficients = nn.Conv2d(neck, config.prototypes, 1)
        self.embedding = nn.Conv2d(2 * neck, config.embedding, 1)
        self.text = nn.Linear(config.text_width, config.embedding)
        self.name_scale = nn.Parameter(torch.tensor(2.5))  # logarithm of what cosines are multiplied with
        self.from4 = _Convolution(at4, 32, size=1)
        self.to4 = _Convolution(neck, 32, size=1)
        self.prototypes = nn.Sequential(_Convolution(32, 32), nn.Conv2d(32, config.prototypes, 1))
        nn.init.normal_(self.reach.weight, std=0.01)
        _begin_at(self.objectness, -4.0)  # most places show no object
        _begin_at(self.reach, 1.0)

    def forward(self, pixels: Tensor) -> FinderMaps:
        """pixels: (B, 3, H, W) uint8 or float, 0 to 255, RGB."""
        x = (pixels.float() - _MEAN) / _SCALE
        at4 = self.down4(self.down2(x))
        at8 = self.down8(at4)
        at16 = self.down16(at8)
        at32 = self.down32(at16)
        whole = self.whole(at32.mean(dim=(2, 3)))
        at32 = functional.relu(at32 + whole[:, :, None, None])
        at16 = self.join16(at16 + _doubled(self.from32(at32)))
        places = self.join8(self.from8(at8) + _doubled(self.from16(at16)))
        boxes, names = self.box_tower(places), self.name_tower(places)
        embeddings = functional.normalize(self.embedding(names), dim=1).permute(0, 2, 3, 1)
        prototypes = self.prototypes(functional.relu(self.from4(at4) + _doubled(self.to4(places))))
        return FinderMaps(
            self.objectness(boxes)[:, 0],
            boxes_of(self.reach(boxes)),
            embeddings,
            self.coefficients(boxes).permute(0, 2, 3, 1),
            prototypes,
        )

    def name_vectors(self, text_embeddings: Tensor) -> Tensor:
        """Text embeddings (T, E) of the describer -> (T, C), of length 1."""
        return functional.normalize(self.text(text_embeddings), dim=-1)

    def name_logits(self, embeddings: Tensor, vectors: Tensor) -> Tensor:
        """embeddings: (..., C) of places, vectors: (T, C) of names -> (..., T)."""
        return embeddings @ vectors.T * self.name_scale.exp()


def boxes_of(reach: Tensor) -> Tensor:
    """How far the boxes reach from their places, (B, 4, h, w) logarithms in strides, left, up, right, down -> (B, h, w,
    4) xyxy in pixels of the input."""
    low, high = _LEAST_REACH, _MOST_REACH
    distances = reach.clamp(low, high).exp().permute(0, 2, 3, 1) * STRIDE
    points = places_of(*reach.shape[2:]).to(reach)
    return torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)


def places_of(height: int, width: int) -> Tensor:
    """The places' centres, (h, w, 2) float32 x and y in pixels of the input."""
    rows, columns = (torch.arange(height) + 0.5) * STRIDE, (torch.arange(width) + 0.5) * STRIDE
    return torch.stack([columns.expand(height, -1), rows[:, None].expand(-1, width)], dim=-1)


def mask_logits(coefficients: Tensor, prototypes: Tensor) -> Tensor:
    """coefficients: (N, K) of places of one image, prototypes: (K, 2h, 2w) -> (N, 2h, 2w)."""
    return torch.einsum("nk,khw->nhw", coefficients, prototypes)


def _begin_at(layer: nn.Conv2d, value: float) -> None:
    assert layer.bias is not None
    nn.init.constant_(layer.bias, value)


def _doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")
