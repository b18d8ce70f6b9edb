"""What a part of the proof is, and how it reports while it runs.

A part is a function of a :class:`Context`. It reports results as soon as it has them: they are in
the parent's hands, and on disk, whatever becomes of the part's process afterwards.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from latkit.backends import BACKENDS
from latkit.backends.base import Backend

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Part:
    """One part of the proof.

    Attributes:
        name: on the command line and in files; ``suite.torch-cuda`` belongs to the group ``suite``.
        title: what it shows.
        function: ``module:function`` of what runs it, given a :class:`Context`.
        limit_s: seconds after which it is killed.
        arguments: words for the function.
        together: parts next to each other with this set run at the same time: they do not measure.
    """

    name: str
    title: str
    function: str
    limit_s: float
    arguments: tuple[str, ...] = ()
    together: bool = False


class Skipped(Exception):
    """The part cannot run here; its text is the reason."""


class Context:
    """What a part is given: where it runs, and how it reports.

    Args:
        device: ``cuda``, or ``cpu`` to run the same logic with ``torch-cpu`` for ``torch-cuda``.
        quick: scale everything down to seconds.
        work: a folder that all parts of a run share.
        arguments: of the part.
        send: takes one report, a JSON object.
    """

    def __init__(
        self,
        device: str,
        quick: bool,
        work: Path,
        arguments: tuple[str, ...],
        send: Callable[[dict[str, Any]], None],
    ) -> None:
        self.device, self.quick, self.work, self.arguments = device, quick, work, arguments
        self._send = send
        self.failed_checks: list[str] = []

    @property
    def cuda(self) -> bool:
        return self.device == "cuda"

    def size(self, full: int, quick: int) -> int:
        """A count: the full one, or a small one in the quick form."""
        return quick if self.quick else full

    def backend_name(self, name: str = "torch-cuda") -> str:
        """The backend, or what stands for it on a CPU."""
        return name if self.cuda else "torch-cpu"

    def backend_class(self, name: str = "torch-cuda") -> type[Backend]:
        return BACKENDS.get(self.backend_name(name))

    def record(self, **results: Any) -> None:
        """Report results; those of a name reported before are replaced."""
        self._send({"results": results})

    def record_gpu_state(self, when: str) -> None:
        """Report clocks, power and what slows the GPU at this moment, where it tells."""
        if not self.cuda:
            return
        from latkit.backends.torch_cuda import current_gpu_uuid
        from latkit.core.errors import BackendError
        from latkit.meters.nvml import find_gpu, gpu_state, load_nvml

        try:
            nvml = load_nvml()
            state = gpu_state(nvml, find_gpu(nvml, current_gpu_uuid()))
        except BackendError as error:
            self.record(**{f"gpu state {when}": error.cause})
        else:
            self.record(**{f"gpu state {when}": dataclasses.asdict(state)})

    def figure(self, text: str) -> None:
        """Report the one figure that stands for the part in the table."""
        self._send({"figure": text})

    def check(self, name: str, passed: bool, detail: str = "") -> None:
        """Report whether something holds; the part goes on, and has failed if it does not."""
        self._send({"check": {"name": name, "passed": bool(passed), "detail": detail}})
        if not passed:
            self.failed_checks.append(name)

    def skip(self, reason: str) -> NoReturn:
        """End the part: it cannot run here."""
        raise Skipped(reason)

    def command(self, *arguments: object) -> list[str]:
        """A command line of latkit's, reported as one that was run."""
        words = [str(argument) for argument in arguments]
        self._send({"command": " ".join(["latkit", *words])})
        return [sys.executable, "-m", "latkit", *words]

    def latkit(self, *arguments: object) -> Any:
        """Run a command of latkit's and return its JSON. Its notes go to the log.

        Raises:
            RuntimeError: it failed; with its last line.
        """
        done = subprocess.run(
            self.command(*arguments, "--json"), capture_output=True, text=True, check=False,
        )  # fmt: skip
        print(done.stderr, file=sys.stderr, flush=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
            raise RuntimeError(f"latkit {arguments[0]} ended with {done.returncode}: {last}")
        return json.loads(done.stdout)
