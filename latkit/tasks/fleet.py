"""``latkit profile --fleet``: several workers measure one dataset."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from latkit.backends import Backend
from latkit.backends.hardware import BACKEND_SUPPORT
from latkit.core.errors import InputError
from latkit.core.events import SILENT, Listener
from latkit.dataset import Target
from latkit.profiling.fleet.address import LOCAL
from latkit.profiling.fleet.driver import Fleet, FleetPlan
from latkit.profiling.fleet.measuring import MeasuringJob
from latkit.profiling.fleet.ray_pool import RayPool
from latkit.profiling.plan import check_count
from latkit.profiling.protocol import Protocol
from latkit.spaces import Setting, get_space
from latkit.tasks.choices import choose_backend


def profile_fleet(
    address: str,
    backend_class: type[Backend],
    device: str,
    setting: Setting,
    protocol: Protocol,
    n: int,
    seed: int,
    out: Path,
    replicates: int,
    target_error: float | None,
    energy: bool,
    provider_library: Path | None,
    listener: Listener,
) -> tuple[str, ...]:
    """Measure a list by all devices of a kind; see :class:`latkit.profiling.fleet.driver.Fleet`.

    Args:
        address: of Ray's cluster; ``auto``: the devices of this machine.
        device: the kind: of a cluster also the name of the resource that its nodes were started
            with.

    Returns:
        What limits the dataset's use.

    Raises:
        InputError: Ray is not installed, the cluster has no such device, or the workers cannot be
            kept to the cores that are named.
        BackendError: a network failed to run, or no worker is left.
        DatasetError: ``out`` holds something else.
    """
    if protocol.cores:
        raise InputError(
            "workers of a fleet take cores of their own", "leave --cores out, or --fleet"
        )
    space = get_space(setting.space)
    space.architecture(space.unrank(0)[0], setting.network)  # refuses one without networks
    check_count(space, n)
    support = BACKEND_SUPPORT.get(backend_class.name)
    on_gpu = support is not None and support.hardware == "GPU"
    if energy and address == LOCAL and not on_gpu:
        raise InputError(
            "the energy of a CPU is that of all its cores, where each worker has some of them",
            "leave --energy out, or --fleet",
        )
    local = "GPU" if on_gpu else "CPU"
    job = MeasuringJob(
        open=partial(_open, backend_class.name, provider_library, protocol.threads),
        setting=setting,
        protocol=protocol,
        energy=energy,
        cores=0 if on_gpu else protocol.threads,
    )
    target = Target(setting.space, device, backend_class.name, setting)
    plan = FleetPlan(target, protocol, n, seed, out, replicates, target_error)
    with RayPool(address, job, local if address == LOCAL else device) as pool:
        return Fleet(plan, pool, pool.size, listener).run()


def _open(name: str, provider_library: Path | None, threads: int) -> Backend:
    """A backend where a worker runs."""
    return choose_backend(name, SILENT, provider_library)(threads=threads)
