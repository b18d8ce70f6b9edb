"""``latkit search --method one-shot --fleet``: sub-networks evaluated by several workers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from latkit.core.errors import InputError, SearchError
from latkit.core.events import Listener
from latkit.profiling.fleet.address import check_address
from latkit.profiling.fleet.dispatch import Dispatcher, Worker
from latkit.profiling.fleet.pool import Hired, Pool, Ready
from latkit.profiling.fleet.ray_pool import RayPool
from latkit.search.distributed import Processes
from latkit.search.network_training import memory_errors
from latkit.search.oneshot.config import OneShotConfig
from latkit.search.oneshot.evaluation import EVALUATION, Evaluator, HeldOut
from latkit.search.oneshot.initial import INITIAL, InitialNetwork
from latkit.search.oneshot.network import OneShotNetwork
from latkit.search.oneshot.subnets import Find, Finding
from latkit.spaces import ChoiceMatrix, get_space

# What is found, and of which sub-network: the name of the finding's file, a row of a choice matrix.
SubnetItem = tuple[str, ChoiceMatrix]
# By the finding's columns.
SubnetNumbers = list[float]
# Where networks are computed, and the resource of Ray of which a worker takes one.
_RESOURCES = {"cpu": "CPU", "cuda": "GPU"}


def check_fleet(address: str, processes: Processes) -> None:
    """Refuse a fleet that can never work, before anything is trained.

    Raises:
        InputError: Ray is not installed, the address is none, or torchrun has started this process.
    """
    if processes.world > 1:
        raise InputError("a fleet has workers of its own", "start it without torchrun, or --fleet")
    check_address(address)


@dataclass(frozen=True)
class SubnetJob:
    """Evaluates sub-networks, and looks at their initial weights.

    Attributes:
        space: name of what is searched.
        config: of the search.
        held_out: the images.
        weights: of the trained network, on the CPU.
        where: a worker computes, ``cpu`` or ``cuda``.
        cores: how many CPU cores a worker takes for itself, each with a thread; 0: it is not kept
            to any.
    """

    space: str
    config: OneShotConfig
    held_out: HeldOut
    weights: Mapping[str, Tensor]
    where: str
    cores: int

    def start(self) -> Ready[SubnetItem, SubnetNumbers]:
        """Nothing but what names the worker: each network is built when it is first used.

        Raises:
            BackendError: the GPU is not usable.
        """
        device, identity = torch.device(self.where), None
        if self.where == "cuda":
            from latkit.backends.torch_cuda import current_gpu_uuid

            identity = current_gpu_uuid()
        if self.cores:
            torch.set_num_threads(self.cores)
        return Ready(_Finds(self, device), identity)


class _Finds:
    """What a worker finds of a sub-network."""

    def __init__(self, job: SubnetJob, device: torch.device) -> None:
        self._job, self._device, self._space = job, device, get_space(job.space)

    def __call__(self, item: SubnetItem) -> SubnetNumbers:
        """The numbers of an item.

        Raises:
            SearchError: memory ran out.
        """
        file, row = item
        finding = EVALUATION if file == EVALUATION.file else INITIAL
        with memory_errors(SearchError, finding.doing, finding.smaller):
            find: Find = self._evaluator if finding is EVALUATION else self._initial
            numbers: SubnetNumbers = find(row).tolist()
            return numbers

    @cached_property
    def _evaluator(self) -> Evaluator:
        job, data = self._job, self._job.held_out.data
        network = OneShotNetwork.build(job.config, self._space, data, self._device)
        network.mixture.load_state_dict(dict(job.weights))
        return Evaluator(network, job.held_out, self._device)

    @cached_property
    def _initial(self) -> InitialNetwork:
        data = self._job.held_out.data
        return InitialNetwork(self._space, data, self._job.config.seed, self._device)


class SubnetDispatcher(Dispatcher[Worker[int], int, SubnetItem, SubnetNumbers]):
    """Lets workers find numbers of sub-networks; one serves all findings, with the same workers.

    Args:
        pool: the workers.
        size: how many there is room for.
        listener: receives who was lost.
    """

    error_class = SearchError
    others_do = "others evaluate what it had to"
    kept = "every evaluated sub-network is kept"

    def __init__(
        self, pool: Pool[SubnetItem, SubnetNumbers], size: int, listener: Listener
    ) -> None:
        super().__init__(pool, listener)
        self._size = size
        self._todo: deque[int] = deque()
        self._found: dict[int, SubnetNumbers] = {}

    def find(
        self, finding: Finding, matrix: ChoiceMatrix, places: Sequence[int]
    ) -> Iterator[dict[int, SubnetNumbers]]:
        """What is found of the rows ``places`` of a choice matrix, in any order.

        Yields:
            The numbers by place, of one sub-network after each event, or of none.

        Raises:
            SearchError: memory ran out, or no worker is left.
        """
        self._finding, self._matrix, self._todo = finding, matrix, deque(places)
        for _ in range(len(self._workers) + self._hiring, min(self._size, len(places))):
            self._hire()
        for _ in self._dispatch():
            found, self._found = self._found, {}
            yield found

    def _welcome(self, hired: Hired) -> None:
        self._workers[hired.worker] = Worker(hired.worker)

    def _next_task(self, worker: Worker[int]) -> tuple[int, SubnetItem] | None:
        if not self._todo:
            return None
        place = self._todo.popleft()
        return place, (self._finding.file, self._matrix[place])

    def _record(self, worker: Worker[int], task: int, result: SubnetNumbers) -> None:
        self._found[task] = result

    def _take_back(self, task: int) -> None:
        self._todo.appendleft(task)


class SubnetFleet:
    """Workers on Ray, which are hired when the first of them is needed; a context manager.

    Args:
        address: of Ray's cluster; ``auto``: the cores or GPUs of this machine.
        job: of every worker.
        listener: receives how many there are, and who was lost.
    """

    def __init__(self, address: str, job: SubnetJob, listener: Listener) -> None:
        self._address, self._job, self._listener = address, job, listener
        self._dispatcher: SubnetDispatcher | None = None

    def __enter__(self) -> SubnetFleet:
        self._stack = ExitStack()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(
        self, finding: Finding, matrix: ChoiceMatrix, places: Sequence[int]
    ) -> Iterator[dict[int, SubnetNumbers]]:
        """As :meth:`SubnetDispatcher.find`.

        Raises:
            InputError: the cluster has no room for a worker.
            BackendError: there is no cluster.
            SearchError: memory ran out, or no worker is left.
        """
        if not places:
            return
        if self._dispatcher is None:
            pool = RayPool(self._address, self._job, _RESOURCES[self._job.where])
            self._stack.enter_context(pool)
            self._listener.note(f"a fleet of at most {pool.size} workers evaluates them")
            self._dispatcher = SubnetDispatcher(pool, pool.size, self._listener)
        yield from self._dispatcher.find(finding, matrix, places)
