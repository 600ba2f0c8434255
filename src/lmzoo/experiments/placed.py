"""Chooses where the models of a plan are trained: in processes of this computer, or on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from lmzoo.experiments.plan import RunPlan
from lmzoo.system.placement import BFLOAT16_VARIABLE, Device

if TYPE_CHECKING:
    from lmzoo.system.ray_jobs import RayJobs


@contextmanager
def placed(plan: RunPlan) -> Iterator[tuple[RunPlan, RayJobs | None]]:
    """Connects to the cluster of a plan, and yields the plan and the executor that runs its jobs.

    If the plan has no cluster, the executor is None. Two choices that otherwise depend on the hardware of each node are
    made on this computer for all nodes: which device "auto" stands for, and whether networks are trained in bfloat16.
    Raises ConfigurationError if this computer lacks the device of the plan, and the errors of `ray_connection`.
    """
    if plan.cluster is None:
        yield plan, None
        return
    from lmzoo.neural.devices import find_device, has_bfloat16  # here, because it imports torch
    from lmzoo.system.ray_connection import ray_connection
    from lmzoo.system.ray_jobs import RayJobs

    device = find_device(plan.device)
    variables = {BFLOAT16_VARIABLE: f"{has_bfloat16(device):d}"}
    with ray_connection(plan.cluster) as ray:
        yield replace(plan, device=cast(Device, device.type)), RayJobs(ray, variables)
