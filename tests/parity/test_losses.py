"""training_losses.json: the three losses and the gradient of every trainable parameter, without dropout."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dynrefer.model.convert.assets import text_tokenizer
from dynrefer.model.convert.names import Piece, translate
from dynrefer.model.networks.dynrefer.language import IGNORED
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.workbench.training.losses import REGION_TEXT_WEIGHT, TAG_WEIGHT, DynReferLosses, dynrefer_losses
from tests.parity.conftest import Comparison, Goldens

LOSS, GRADIENT = 1e-4, 1e-3  # relative
ZERO = 1e-5  # of the key weights' gradient: what rounding leaves of a key bias's, which is zero
FROZEN = ("vision.", "query_tokens", "text.", "language.model.")


@pytest.fixture(scope="module")
def losses(recorded: Goldens) -> dict[str, Any]:
    """training_losses.json."""
    return recorded.json("training_losses.json")  # type: ignore[no-any-return]


def trainable_network(recorded: Goldens) -> DynReferModel:
    """In training mode, with the official code's frozen parts and no dropout."""
    network = recorded.network().train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "attention_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(not name.startswith(FROZEN))
    return network


def compute(network: DynReferModel, recorded: Goldens, losses: dict[str, Any], words: list[str]) -> DynReferLosses:
    """The losses of the recorded regions, captions, tags and control words."""
    texts = text_tokenizer(recorded.folder, recorded.config)
    captions = texts(losses["captions"], padding=True, truncation=True, return_tensors="pt")["input_ids"]
    ids = torch.tensor(losses["target_ids"])
    padding = network.language.model.config.pad_token_id
    control_ids, control_mask = recorded.controls(words)
    return dynrefer_losses(
        network,
        network.represent(recorded.features, recorded.intermediates["boxes"]),
        tag_embeddings=recorded.embeddings["clip_embeds"],
        tag_targets=tag_targets(losses),
        caption_embeddings=network.embed_texts(captions),
        control_ids=control_ids,
        control_mask=control_mask,
        labels=ids.masked_fill(ids == padding, IGNORED),
    )


def tag_targets(losses: dict[str, Any]) -> Tensor:
    """(R, T): the union of both tag sets."""
    targets = torch.zeros(len(losses["captions"]), losses["num_tags"])
    for region, column in losses["tag_index_pairs"]:
        targets[region, column % losses["num_tags"]] = 1.0
    return targets


def gradient_norm(network: DynReferModel, key: str) -> float:
    """L2 norm of the gradient of the official parameter of this name."""
    pieces = translate(key)
    assert isinstance(pieces, tuple)
    assert pieces == (Piece(pieces[0].target),), f"{key} is not one whole tensor of ours"
    gradient = network.get_parameter(pieces[0].target).grad
    assert gradient is not None, f"{key} has no gradient"
    return float(gradient.double().norm())


def test_target_ids_are_the_tokenizer_s(recorded: Goldens, losses: dict[str, Any]) -> None:
    ids, _ = recorded.controls(losses["captions"])  # captions are cut at the same length as control words
    assert ids.tolist() == losses["target_ids"]


def test_losses_and_gradients(recorded: Goldens, losses: dict[str, Any], compare: Comparison) -> None:
    assert losses["losses"]
    for variant, theirs in losses["losses"].items():
        network = trainable_network(recorded)
        ours = compute(network, recorded, losses, theirs["control_words"])
        for name, mine, other in (
            ("total", ours.total, theirs["loss"]),
            ("language", ours.language, theirs["loss_llm"]),
            ("tags", TAG_WEIGHT * ours.tags, theirs["loss_tag"]),
            ("region-text", REGION_TEXT_WEIGHT * ours.region_text, theirs["loss_att"]),
        ):
            compare.number(f"{variant}: {name} loss", abs(float(mine.detach()) - other) / abs(other), LOSS)
        ours.total.backward()
        check_gradients(variant, network, theirs["grad_l2"], compare)


def check_gradients(variant: str, network: DynReferModel, theirs: dict[str, float], compare: Comparison) -> None:
    """Every recorded norm, and no trainable parameter beyond those recorded."""
    for key, norm in theirs.items():
        mine = gradient_norm(network, key)
        if key.endswith(".key.bias"):
            # It shifts all scores of a query alike, so softmax ignores it: its gradient is rounding.
            scale = theirs[key.removesuffix("bias") + "weight"]
            compare.number(f"{variant}: {key}", max(mine, norm) / scale, ZERO)
        else:
            compare.number(f"{variant}: gradient of {key}", abs(mine - norm) / norm, GRADIENT)
    recorded_ones = {piece.target for key in theirs for piece in pieces_of(key)}
    assert recorded_ones == {name for name, value in network.named_parameters() if value.grad is not None}


def pieces_of(key: str) -> tuple[Piece, ...]:
    """Where an official parameter goes."""
    pieces = translate(key)
    assert isinstance(pieces, tuple)
    return pieces


def test_comparison_detects_a_change(recorded: Goldens, losses: dict[str, Any]) -> None:
    """A learned temperature that is 0.1 % larger is noticed in loss and gradient."""
    variant = next(iter(losses["losses"].values()))
    network = trainable_network(recorded)
    with torch.no_grad():
        network.region_text_temperature.mul_(1.001)
    ours = compute(network, recorded, losses, variant["control_words"])
    error = abs(float(REGION_TEXT_WEIGHT * ours.region_text.detach()) - variant["loss_att"]) / variant["loss_att"]
    assert error > LOSS and not math.isnan(error)
