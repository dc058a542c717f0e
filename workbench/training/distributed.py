"""One process or many: device, precision, and how the objective is spread. On accelerate, and torch's FSDP 2.

Sharding is done here and not by accelerate because accelerate shards on accelerators only; so, it is tested on any
machine.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from dynrefer.model.loading import pick_device
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.workbench.errors import SettingError
from dynrefer.workbench.training.run_settings import TrainingSettings

_DEVICES = ("auto", "cpu", "cuda")


def begin(settings: TrainingSettings) -> Accelerator:
    """Join the processes that torchrun started, if any. Raises `DeviceError`, `SettingError`."""
    if settings.device not in _DEVICES:
        raise SettingError(
            f"--device {settings.device} is unknown; use {', '.join(_DEVICES)} (which GPU: CUDA_VISIBLE_DEVICES)."
        )
    on_cpu = pick_device(settings.device).type == "cpu"
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and not on_cpu)
    accelerator = Accelerator(
        cpu=on_cpu,
        mixed_precision="bf16" if bf16 else "no",
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)],
    )
    if settings.fsdp and accelerator.num_processes == 1:
        raise SettingError(
            "--fsdp spreads the weights over several processes; start it with torchrun, or leave it out."
        )
    return accelerator


def frozen_dtype(accelerator: Accelerator) -> torch.dtype:
    """What the towers that are not trained are kept in."""
    return torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32


def spread(objective: nn.Module, accelerator: Accelerator, *, fsdp: bool) -> nn.Module:
    """The objective on its device, sharded, or as a replica that shares its gradients."""
    if not fsdp:
        prepared: nn.Module = accelerator.prepare(objective)
        return prepared
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for module in reversed(list(objective.modules())):  # inner ones first
        if type(module).__name__ in (DynReferModel._no_split_modules or ()):
            fully_shard(module, mesh=mesh)
    single = {parameter for parameter in objective.parameters() if not parameter.ndim}  # FSDP refuses single numbers
    for parameter in single:
        parameter.data = parameter.data.to(accelerator.device)
    fully_shard(objective, mesh=mesh, ignored_params=single)
    return objective


def average_single_numbers(model: nn.Module, accelerator: Accelerator, *, fsdp: bool) -> None:
    """Share the gradients that sharding leaves to us."""
    if not fsdp:
        return
    for parameter in model.parameters():
        if not parameter.ndim and parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= accelerator.num_processes


def clip_gradients(model: nn.Module, most: float) -> None:
    """Scale all gradients down so that their joint L2 norm is at most `most`; shards count as what they are part of."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    norms = [_whole(torch.linalg.vector_norm(gradient.float())) for gradient in gradients]
    factor = (most / (torch.stack(norms).norm() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.to(gradient.dtype))


def _whole(value: Tensor) -> Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


def sharing_gradients(model: nn.Module, accelerator: Accelerator, *, last: bool) -> AbstractContextManager[Any]:
    """Share gradients with the other processes only at the last of several accumulated passes.

    Shards are shared every time: they could not be added up otherwise without whole gradients on each process.
    """
    if last or not isinstance(model, nn.parallel.DistributedDataParallel):
        return contextlib.nullcontext()
    waiting: AbstractContextManager[Any] = accelerator.no_sync(model)
    return waiting
