"""One process or many: device, precision, sharding and what the processes exchange. By accelerate and torch's FSDP 2.

Sharding is done here rather than by accelerate because accelerate shards on accelerators only; this way it is tested on
any machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object
from torch import nn

from dynrefer.model.loading import pick_device
from dynrefer.model.networks.dynrefer.model import DynReferModel
from dynrefer.workbench.data.bad_samples import BadSample, BadSampleReport
from dynrefer.workbench.errors import SettingError
from dynrefer.workbench.training.run_settings import TrainingSettings

_DEVICES = ("auto", "cpu", "cuda")


def join_processes(settings: TrainingSettings) -> Accelerator:
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
        raise SettingError("--fsdp shards the weights over several processes; start it with torchrun, or leave it out.")
    return accelerator


def frozen_dtype(accelerator: Accelerator) -> torch.dtype:
    """The dtype of the towers that are not trained."""
    return torch.bfloat16 if accelerator.mixed_precision == "bf16" else torch.float32


def distribute(objective: nn.Module, accelerator: Accelerator, *, fsdp: bool) -> nn.Module:
    """Move the objective to its device, as a shard, or as a replica that shares its gradients."""
    if not fsdp:
        prepared: nn.Module = accelerator.prepare(objective)
        return prepared
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for module in reversed(list(objective.modules())):  # inner ones first
        if type(module).__name__ in (DynReferModel._no_split_modules or ()):
            fully_shard(module, mesh=mesh)
    scalars = {parameter for parameter in objective.parameters() if not parameter.ndim}  # FSDP refuses scalars
    for parameter in scalars:
        parameter.data = parameter.data.to(accelerator.device)
    fully_shard(objective, mesh=mesh, ignored_params=scalars)
    return objective


def average_scalar_gradients(model: nn.Module, accelerator: Accelerator, *, fsdp: bool) -> None:
    """Average over the processes the gradients of the parameters that `distribute` could not shard."""
    if not fsdp:
        return
    for parameter in model.parameters():
        if not parameter.ndim and parameter.grad is not None:
            torch.distributed.all_reduce(parameter.grad)
            parameter.grad /= accelerator.num_processes


def gradient_sync(model: nn.Module, accelerator: Accelerator, *, last: bool) -> AbstractContextManager[Any]:
    """Synchronise gradients between the processes only in the last of several accumulated passes.

    Shards are synchronised every time: otherwise each process would need whole gradients to accumulate them.
    """
    if last or not isinstance(model, nn.parallel.DistributedDataParallel):
        return contextlib.nullcontext()
    unsynchronised: AbstractContextManager[Any] = accelerator.no_sync(model)
    return unsynchronised


def share_bad_samples(reports: Sequence[BadSampleReport]) -> None:
    """Give all processes the bad samples that any has met, so that all stop together, and the images read as stored.

    Raises `TooManyBadSamplesError`.
    """
    for report in reports:
        found = [BadSample(name, reason) for name, reason in report.found.items()]
        report.add(gather_object(found))
        report.stored.update(gather_object(sorted(report.stored)))
        report.check()
