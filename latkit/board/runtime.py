"""What runs a bundle's networks on a board; each runtime is one module beside this one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from latkit.backends.timing import cpu_clock

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from latkit.backends.runner import Clock, Runner
    from latkit.core.device import Facts

# The content of a file of one network, by the file's ending.
Read: TypeAlias = "Callable[[str], bytes]"


class BoardRuntime(ABC):
    """A runtime on a board.

    Args:
        threads: CPU threads of a run.
        seed: of the weights and inputs.
    """

    def __init__(self, threads: int, seed: int) -> None:
        self.threads = threads
        self.seed = seed

    @property
    def clock(self) -> Clock:
        """The clock of its runners."""
        return cpu_clock(self.threads)

    @abstractmethod
    def load(self, read: Read) -> Runner:
        """A network, ready to run, with weights and inputs that follow from the seed alone.

        Raises:
            BackendError: the runtime cannot take it.
        """

    @abstractmethod
    def facts(self) -> Facts:
        """What the backend of the same runtime has in a fingerprint."""
