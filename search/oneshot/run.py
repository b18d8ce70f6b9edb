"""A whole one-shot search: from a request to trained weights and an accuracy LPM."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latkit.core.errors import Interrupted, SearchError
from latkit.core.events import Listener, Progress
from latkit.core.files import write_json_atomically
from latkit.search.claim import claimed
from latkit.search.data import load_noted
from latkit.search.distributed import Processes
from latkit.search.image_source import ImageData
from latkit.search.network_training import GO_ON, StepReport
from latkit.search.oneshot import ONE_SHOT
from latkit.search.oneshot.accuracy import fit_accuracy, warnings_of, write_accuracy
from latkit.search.oneshot.config import OneShotConfig
from latkit.search.oneshot.evaluation import EVALUATION, Evaluator
from latkit.search.oneshot.initial import INITIAL, InitialNetwork
from latkit.search.oneshot.plan import plan
from latkit.search.oneshot.result import OneShotResult, SubnetSummary
from latkit.search.oneshot.subnets import Finding, FindMany, find_all, in_turn
from latkit.search.oneshot.training import OneShotTraining
from latkit.search.request import SearchRequest
from latkit.search.session import RESULT, check_fits, check_same_everywhere
from latkit.search.signals import StopRequest, stop_on_signals
from latkit.spaces import SearchSpace, get_space


def one_shot(
    request: SearchRequest, where: str, trained_on: str, processes: Processes, listener: Listener
) -> OneShotResult | None:
    """Train all networks of a space in one, evaluate some, and learn the accuracy of all.

    Each epoch is checkpointed, and so is the step at which SIGINT or SIGTERM ends the training;
    evaluated sub-networks are kept too. The same request goes on.

    Args:
        request: of the method ``one-shot``.
        where: the network is trained, ``cpu`` or ``cuda``.
        trained_on: the same as a remark.
        processes: this process among those that search together, connected by ``joined``.
        listener: receives notes, warnings and progress.

    Returns:
        The result, which is also in ``result.json``; None on other ranks than 0.

    Raises:
        InputError: a value of the request cannot work, or does not fit the data; or a fleet has no
            Ray, or no room for a worker.
        BackendError: a fleet has no cluster.
        SearchError: the folder holds another search or is corrupt, or a loss is not finite, or
            no worker of a fleet is left.
        LPMError: the accuracy LPM cannot be fitted.
        Interrupted: by a signal; the same request goes on.
        LatkitError: a file cannot be read or written.
    """
    config, space = plan(request), get_space(request.space)
    processes.check_batch(config.batch)
    if request.fleet is not None:
        from latkit.search.oneshot.fleet import check_fleet

        check_fleet(request.fleet, processes)
    listener.note(trained_on)
    with processes.main_first():
        data = load_noted(request.data, config.limit, config.seed, request.data_options, listener)
    check_fits(config.batch, data, processes)
    height, width = data.images.shape[2:]
    listener.note(
        f"{len(data.labels)} images of {data.classes} classes, {width}x{height} pixels, of "
        f"{data.name}; half of them train the weights, half are held out"
    )
    out = request.out or Path("searches", f"{ONE_SHOT}-{space.name}")
    content = identity(config, space, data)
    check_same_everywhere(content, processes)
    with claimed(out, content, processes, "one-shot search", SearchError):
        try:
            with stop_on_signals() as stop:
                return _Search(
                    config, space, data, where, out, processes, listener, request.fleet
                ).run(stop)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; the last checkpoint in {out}, if there is one, is kept", GO_ON
            ) from None
        finally:
            listener.end_progress()


def identity(config: OneShotConfig, space: SearchSpace, data: ImageData) -> dict[str, Any]:
    """What two searches of one folder have in common, as JSON.

    Not the number of sub-networks: a finished search may be given more of them.
    """
    values = {name: value for name, value in config.to_dict().items() if name != "subnets"}
    content: dict[str, Any] = json.loads(
        json.dumps(
            {
                "method": ONE_SHOT,
                "space": space.name,
                "config": values,
                "data": data.identity(),
            }
        )
    )
    return content


@dataclass(frozen=True)
class _Search:
    """A one-shot search whose folder is known to be its own."""

    config: OneShotConfig
    space: SearchSpace
    data: ImageData
    where: str
    out: Path
    processes: Processes
    listener: Listener
    fleet: str | None = None

    def run(self, stop: StopRequest) -> OneShotResult | None:
        config, listener = self.config, self.listener
        device = self.processes.place(self.where)
        training = OneShotTraining(config, self.space, self.data, self.out, device, self.processes)
        total, before = config.epochs * training.steps, training.steps_done
        if before:
            listener.note(f"going on after {before} of {total} steps")

        def on_step(now: StepReport) -> None:
            done = (now.epoch - 1) * training.steps + now.step
            detail = f"epoch {now.epoch} of {config.epochs}, loss {now.train_loss:.3f}"
            if now.last is not None:
                held_out = now.last["held_out_accuracy_percent"]
                detail += f", held-out accuracy {held_out:.1f} %"
            listener.progress(Progress("steps", done, total, before, detail))

        training.run(on_step, stop)
        listener.end_progress()
        evaluator = training.evaluator(config.eval_images)
        listener.note(
            f"evaluating {config.subnets} sub-networks on {evaluator.images} held-out images in "
            f"batches of {evaluator.batch}, into {self.out / EVALUATION.file}"
        )
        with ExitStack() as stack:
            fleet = self._open_fleet(training, stack)
            evaluated = self._find(EVALUATION, fleet or in_turn(evaluator, self.processes), stop)
            network = InitialNetwork(self.space, self.data, config.seed, device)
            listener.note(f"looking at their initial weights, into {self.out / INITIAL.file}")
            initial = self._find(INITIAL, fleet or in_turn(network, self.processes), stop)
        result = None
        if self.processes.is_main:
            result = self._finish(training, evaluator, network, evaluated, initial)
        # Nobody leaves before it is written: torchrun ends all processes when one has ended.
        self.processes.wait()
        return result

    def _open_fleet(self, training: OneShotTraining, stack: ExitStack) -> FindMany | None:
        """The workers that find what is missing; None without a fleet."""
        if self.fleet is None:
            return None
        from latkit.search.oneshot.fleet import SubnetFleet, SubnetJob

        job = SubnetJob(
            self.space.name, self.config, training.held_out(self.config.eval_images),
            {name: value.cpu() for name, value in training.net.mixture.state_dict().items()},
            self.where, cores=1 if self.where == "cpu" else 0,
        )  # fmt: skip
        return stack.enter_context(SubnetFleet(self.fleet, job, self.listener))

    def _find(
        self, finding: Finding, find_many: FindMany, stop: StopRequest
    ) -> list[dict[str, Any]]:
        """A row of each sub-network."""
        count, listener = self.config.subnets, self.listener

        def on_subnet(done: int, before: int) -> None:
            listener.progress(Progress("sub-networks", done, count, before))

        rows = find_all(
            finding, find_many, self.space, count, self.config.seed, self.out, self.processes,
            on_subnet, stop,
        )  # fmt: skip
        listener.end_progress()
        return rows

    def _finish(
        self,
        training: OneShotTraining,
        evaluator: Evaluator,
        initial_network: InitialNetwork,
        evaluated: list[dict[str, Any]],
        initial: list[dict[str, Any]],
    ) -> OneShotResult:
        """The accuracy LPM and ``result.json``."""
        self.listener.note(f"fitting an accuracy LPM to {len(evaluated)} sub-networks")
        network, images, batch = training.net.mixture.config, evaluator.images, evaluator.batch
        protocol = {"images": images, "batch": batch, "batch_norm": "statistics of the batch"}
        trained = fit_accuracy(self.space, network, evaluated, initial, self.config.seed, protocol)
        for warning in warnings_of(trained.card):
            self.listener.warn(warning)
        write_accuracy(self.out, trained)
        result = OneShotResult(
            space=self.space.name,
            network=network,
            config=self.config,
            data={"name": self.data.name, **self.data.identity()},
            history=training.history,
            subnets=SubnetSummary.of(evaluated, images, batch, initial_network.images),
            card=trained.card,
            searched_on=self.where,
            out=self.out,
        )
        write_json_atomically(self.out / RESULT, result.to_dict())
        return result
