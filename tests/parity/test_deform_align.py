"""dcnv4 and dcnv4_cases.json: the deformable operator alone, and its gradient."""

from typing import Any

from torch import Tensor

from dynrefer.model.networks.dynrefer.region import Sampling, deformable_sampling
from tests.parity.conftest import Comparison, Goldens
from tests.parity.stages import TIGHT

# Of the recorded settings these describe the input or tune the official kernel; they change no result.
OF_THE_INPUT = {"B", "H", "W", "group_channels", "d_stride_block_thread"}
OF_THE_OPERATOR = {"group", "offset_scale", "remove_center", "stride", "dilation", "pad"}


def sampling_of(case: dict[str, Any]) -> Sampling:
    """Our settings of a recorded case."""
    assert set(case) == OF_THE_INPUT | OF_THE_OPERATOR
    return Sampling(
        groups=case["group"],
        stride=case["stride"],
        pad=case["pad"],
        dilation=case["dilation"],
        offset_scale=case["offset_scale"],
        remove_center=bool(case["remove_center"]),
    )


def cases(recorded: Goldens) -> list[tuple[str, Sampling, dict[str, Tensor]]]:
    """(name, settings, tensors in float32) of every forward case."""
    tensors = recorded.tensors("dcnv4")
    found = []
    for name, case in recorded.json("dcnv4_cases.json").items():
        own = {key.partition(".")[2]: value.float() for key, value in tensors.items() if key.startswith(f"{name}.")}
        found.append((name, sampling_of(case), own))
    return found


def outputs(sampling: Sampling, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Ours and the recorded output, of which sometimes only the first rows were kept."""
    ours = deformable_sampling(tensors["x"], tensors["offset_mask"], sampling)
    theirs = next(value for key, value in tensors.items() if key.startswith("out"))
    return ours[:, : theirs.shape[1]], theirs


def test_all_cases(recorded: Goldens, compare: Comparison) -> None:
    for name, sampling, tensors in cases(recorded):
        assert tensors["offset_mask"].shape[-1] == sampling.channels
        compare.tensor(name, *outputs(sampling, tensors), TIGHT)


def test_every_recorded_tensor_is_compared(recorded: Goldens) -> None:
    names = {key.partition(".")[0] for key in recorded.tensors("dcnv4")}
    assert names == {*recorded.json("dcnv4_cases.json"), "grad"}


def test_gradient(recorded: Goldens, compare: Comparison) -> None:
    """The gradient case has no settings of its own: groups follow from the width of its offset map."""
    tensors = recorded.tensors("dcnv4")
    value = tensors["grad.x"].clone().requires_grad_()
    offset_mask = tensors["grad.offset_mask"].clone().requires_grad_()
    groups = next(n for n in range(1, 65) if Sampling(groups=n).channels == offset_mask.shape[-1])
    deformable_sampling(value, offset_mask, Sampling(groups=groups)).backward(tensors["grad.grad_out"])
    assert value.grad is not None and offset_mask.grad is not None
    compare.tensor("value", value.grad, tensors["grad.grad_x"], TIGHT)
    compare.tensor("offsets and modulation", offset_mask.grad, tensors["grad.grad_offset_mask"], TIGHT)


def test_comparison_detects_a_change(recorded: Goldens, compare: Comparison) -> None:
    """Offsets that are 0.1 % larger are noticed in every case that has offsets."""
    for name, sampling, tensors in cases(recorded):
        offset_mask = tensors["offset_mask"] * 1.001
        ours, theirs = outputs(sampling, {**tensors, "offset_mask": offset_mask})
        error = float((ours - theirs).norm() / theirs.norm())
        assert error > TIGHT, f"{name}: {error:.1e}"
