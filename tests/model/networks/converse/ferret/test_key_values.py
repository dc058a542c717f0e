"""Keys and values of conversations: written in place, cut back, laid side by side."""

import torch

from dynrefer.model.networks.converse.ferret.key_values import JoinedKeyValues, KeyValues

LAYERS, HEADS, WIDTH = 2, 3, 4


def fed(values: KeyValues, tokens: int, seed: int) -> torch.Tensor:
    """Random keys for so many tokens, written to every layer; values are their negatives."""
    new = torch.randn(1, HEADS, tokens, WIDTH, generator=torch.Generator().manual_seed(seed))
    for layer in range(LAYERS):
        keys, opposite = values.update(new + layer, -(new + layer), layer)
        assert torch.equal(keys, -opposite)
    return new


def test_tokens_are_written_behind_those_that_are_there_without_moving_them() -> None:
    values = KeyValues(LAYERS, 10)
    first = fed(values, 5, 0)
    address = values.layers[0].held[0].data_ptr()
    second = fed(values, 3, 1)
    assert values.layers[0].held[0].data_ptr() == address
    assert torch.equal(values.layers[0].held[0], torch.cat((first, second), dim=2))
    assert values.length == 8
    assert values.nbytes == LAYERS * 2 * HEADS * 64 * WIDTH * 4  # the room is rounded up


def test_more_than_the_room_is_still_kept() -> None:
    values = KeyValues(LAYERS, 10)
    parts = [fed(values, 60, 0), fed(values, 60, 1)]
    assert torch.equal(values.layers[0].held[0], torch.cat(parts, dim=2))


def test_a_beginning_is_a_copy_that_goes_its_own_way() -> None:
    values = KeyValues(LAYERS, 10)
    first = fed(values, 5, 0)
    copied = values.beginning(3, 20)
    values.keep(1)
    other = fed(values, 4, 1)
    assert torch.equal(copied.layers[0].held[0], first[:, :, :3])
    assert torch.equal(values.layers[0].held[0], torch.cat((first[:, :, :1], other), dim=2))
    assert values.beginning(0, 20).length == 0


def test_conversations_side_by_side_are_padded_on_the_left_and_get_their_own_tokens_back() -> None:
    rows = [KeyValues(LAYERS, 10) for _ in range(3)]
    given = [fed(row, tokens, seed) for seed, (row, tokens) in enumerate(zip(rows, (2, 5, 4), strict=True))]
    joined = JoinedKeyValues(rows, 2)
    assert joined.positions.flatten().tolist() == [2, 5, 4]
    assert joined.mask.tolist() == [[0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]]
    new = torch.randn(3, HEADS, 2, WIDTH)
    for layer in range(LAYERS):
        keys, _ = joined.values.update(new[:, :, :1], new[:, :, :1], layer)
        assert torch.equal(keys[0, :, 3:5], given[0][0] + layer)
        assert (keys[0, :, :3] == 0).all()
    assert joined.positions.flatten().tolist() == [3, 6, 5]
    for layer in range(LAYERS):
        joined.values.update(new[:, :, 1:], new[:, :, 1:], layer)
    joined.split([2, 0, 1])
    assert [row.length for row in rows] == [4, 5, 5]
    assert torch.equal(rows[0].layers[1].held[0], torch.cat((given[0] + 1, new[:1]), dim=2))
    assert torch.equal(rows[2].layers[0].held[1], torch.cat((-given[2], new[2:, :, :1]), dim=2))
