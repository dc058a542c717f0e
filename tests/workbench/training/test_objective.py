"""Two processes with half of the batch each give the loss and the gradients of one process with all of it."""

from __future__ import annotations

import os
import socket
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dynrefer.model.networks.dynrefer.language import IGNORED
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.workbench.training.initial_model import load_initial_model, prepare_parts
from dynrefer.workbench.training.losses import sigmoid_contrastive_loss
from dynrefer.workbench.training.objective import (
    REFERENCE_BATCH,
    TrainingObjective,
    gather_rows,
    global_contrastive_loss,
    mean_tokens,
    weighted_total,
)
from dynrefer.workbench.training.run_settings import TrainingSettings
from dynrefer.workbench.training.samples import TrainingBatch

pytestmark = pytest.mark.training

REGIONS = 6  # in both processes together
CPU = torch.device("cpu")


def make_batch(network: DynReferModel) -> TrainingBatch:
    """Random regions whose captions differ in length."""
    torch.manual_seed(3)
    config = network.config
    size, views = config.view_size, config.num_views
    corner = torch.rand(REGIONS, views, 2) * size * 0.5
    boxes = torch.cat((corner, corner + 2 + torch.rand(REGIONS, views, 2) * size * 0.4), dim=-1).floor()
    labels = torch.randint(3, 90, (REGIONS, 7))
    for row in range(REGIONS):
        labels[row, 2 + row % 4 :] = IGNORED
    texts = torch.randint(3, 200, (REGIONS, 5))
    texts[:, 3:] = config.text_config.eos_token_id
    controls = torch.randint(3, 90, (REGIONS, 4))
    return TrainingBatch(
        images=torch.randint(0, 256, (REGIONS, views, 3, size, size), dtype=torch.uint8),
        boxes=boxes,
        caption_ids=texts,
        labels=labels,
        control_ids=controls,
        control_mask=torch.ones_like(controls),
        tags=(torch.rand(REGIONS, 20) < 0.2).float(),
        bad=(),
    )


def part(batch: TrainingBatch, rank: int) -> TrainingBatch:
    """The half of one process."""
    rows = slice(rank * REGIONS // 2, (rank + 1) * REGIONS // 2)
    return replace(batch, **{f.name: getattr(batch, f.name)[rows] for f in fields(batch) if f.name != "bad"})


def make_objective(model: str) -> TrainingObjective:
    """In evaluation mode: dropout of two processes is not that of one."""
    network = load_initial_model(model).network
    prepare_parts(network, TrainingSettings(train=Path("none")), frozen_dtype=torch.float32)
    torch.manual_seed(4)
    embeddings = torch.randn(20, network.config.text_config.projection_dim)
    with torch.no_grad():
        for parameter in network.parameters():  # nothing that starts at zero hides a mistake
            parameter += 0.05 * torch.randn_like(parameter)
    return TrainingObjective(network, embeddings, tag_gamma=4.0, train_vision=False).eval()


def gradients(module: nn.Module) -> dict[str, Tensor]:
    found = {name.removeprefix("module."): p.grad for name, p in module.named_parameters() if p.requires_grad}
    assert all(gradient is not None for gradient in found.values())
    return {name: gradient for name, gradient in found.items() if gradient is not None}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def join(rank: int, port: int) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)


def one_half(rank: int, port: int, model: str, out: str) -> None:
    """One of the two processes; leaves the mean loss terms and its gradients, which are those of both."""
    join(rank, port)
    objective = make_objective(model)
    spread = DistributedDataParallel(objective, broadcast_buffers=False)
    half = part(make_batch(objective.network), rank)
    terms = spread(half, mean_tokens([half], CPU))
    terms["total"].backward()
    means = {}
    for name, value in terms.items():
        mean = value.detach() / 2
        dist.all_reduce(mean)
        means[name] = mean
    torch.save({"terms": means, "gradients": gradients(spread)}, f"{out}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one_with_the_joined_batch(tiny_model: Path, tmp_path: Path) -> None:
    arguments = (free_port(), str(tiny_model), str(tmp_path))
    multiprocessing.start_processes(one_half, arguments, nprocs=2, start_method="fork")
    objective = make_objective(str(tiny_model))
    batch = make_batch(objective.network)
    terms = objective(batch, mean_tokens([batch], CPU))
    terms["total"].backward()
    alone = gradients(objective)
    for rank in range(2):
        both: dict[str, Any] = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, value in both["terms"].items():
            assert value.item() == pytest.approx(terms[name].item(), rel=1e-5), name
        assert both["gradients"].keys() == alone.keys()
        for name, gradient in both["gradients"].items():
            scale = float(alone[name].abs().max())
            assert float((gradient - alone[name]).abs().max()) <= 1e-4 * scale + 1e-6, name


def gathered_gradient(rank: int, port: int, out: str) -> None:
    """A loss on gathered rows divided unequally between both processes."""
    join(rank, port)
    rows = torch.tensor([[1.0 + rank], [3.0 + rank]], requires_grad=True)
    gathered = gather_rows(rows)
    (gathered.squeeze(1) * torch.arange(1.0, 5.0) * (rank + 1)).sum().backward()
    torch.save({"gathered": gathered.detach(), "gradient": rows.grad}, f"{out}/{rank}.pt")
    dist.destroy_process_group()


def test_gathered_rows_carry_gradients_to_their_owner(tmp_path: Path) -> None:
    arguments = (free_port(), str(tmp_path))
    multiprocessing.start_processes(gathered_gradient, arguments, nprocs=2, start_method="fork")
    for rank, expected in ((0, [3.0, 6.0]), (1, [9.0, 12.0])):  # both losses contribute: 1 + 2 times the row's weight
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found["gathered"].flatten().tolist() == [1.0, 3.0, 2.0, 4.0]
        assert found["gradient"].flatten().tolist() == expected


def test_one_process_gathers_nothing() -> None:
    rows = torch.ones(2, 3)
    assert gather_rows(rows) is rows


def test_shares_of_the_contrastive_loss_add_up() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 6)
    losses = [global_contrastive_loss(logits[2 * rank : 2 * rank + 2], rank) for rank in range(3)]
    assert torch.stack(losses).mean().item() == pytest.approx(sigmoid_contrastive_loss(logits).item(), rel=1e-6)


def test_tags_weigh_the_same_whatever_the_batch(tiny_model: Path) -> None:
    objective = make_objective(str(tiny_model))
    batch = make_batch(objective.network)
    with torch.no_grad():
        whole = objective(batch, torch.tensor(1.0))["tags"]
        halves = [objective(part(batch, rank), torch.tensor(1.0))["tags"] for rank in range(2)]
    assert whole.item() == pytest.approx((halves[0] + halves[1]).item() / 2, rel=1e-5)
    assert REFERENCE_BATCH == 64  # of the released configuration, for which the weight 0.01 is meant


def test_total_is_the_paper_s_sum() -> None:
    terms = {"language": torch.tensor(2.0), "tags": torch.tensor(300.0), "region_text": torch.tensor(4.0)}
    assert weighted_total(terms).item() == pytest.approx(2.0 + 3.0 + 2.0)


def test_towers_stay_in_evaluation_mode(tiny_model: Path) -> None:
    objective = make_objective(str(tiny_model)).train()
    assert not objective.network.vision.training and not objective.network.text.training
    assert objective.network.qformer.training and objective.network.language.training
