"""What the tower is given: normalised pixels, in float32 until the last step."""

import numpy as np
import torch

from dynrefer.model.networks.dynrefer.vision import normalise


def test_normalise() -> None:
    images = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    mean, std = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)
    values = normalise(torch.from_numpy(images), torch.tensor(mean), torch.tensor(std), torch.float32)
    assert values.dtype is torch.float32
    expected = (images / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    assert np.abs(values.numpy() - expected).max() < 1e-6
