"""ncnn, an engine made for phones, on the CPU in fp32."""

from __future__ import annotations

import contextlib
import importlib.util
from functools import partial

import numpy as np
import numpy.typing as npt

from latkit.backends.base import Backend, Clock, Probe, Runner
from latkit.backends.hardware import BACKEND_SUPPORT
from latkit.backends.ncnn_net import (
    NcnnRunner,
    fix_thread_count,
    import_ncnn,
    load_net,
    net_facts,
    parallel_width,
)
from latkit.backends.registry import BACKENDS
from latkit.backends.timing import cpu_clock
from latkit.backends.torch_modes import beside_torch
from latkit.core.device import Facts, cpu_name
from latkit.core.errors import BackendError
from latkit.networks.ncnn import to_ncnn
from latkit.spaces import Architecture, Setting
from latkit.spaces.build import random_input, random_onnx


@BACKENDS.register("ncnn-cpu")
class NcnnCpuBackend(Backend):
    """``ncnn-cpu``: half precision ruled out, which ncnn takes by itself; one image a run."""

    name = "ncnn-cpu"
    memory_formats = ("nchw",)
    thread_limits = ("OMP_THREAD_LIMIT",)

    @classmethod
    def probe(cls) -> Probe:
        if importlib.util.find_spec("ncnn") is None:
            return Probe("missing", "ncnn is not installed", BACKEND_SUPPORT[cls.name].install)
        try:
            version = import_ncnn().__version__
        except Exception as error:  # a broken binary can raise anything
            reason = " ".join(str(error).split())[:200]
            return Probe("unusable", f"ncnn does not import: {reason}", "install it again")
        return Probe("ok", f"ncnn {version} on {cpu_name()}")

    @property
    def clock(self) -> Clock:
        return cpu_clock(self.threads)

    def fingerprint(self) -> Facts:
        return net_facts(self.threads)

    def hardware_name(self) -> str:
        return cpu_name()

    def check_setting(self, setting: Setting) -> None:
        super().check_setting(setting)
        if setting.batch != 1:
            raise BackendError("ncnn runs one image at a time", "use a setting with batch=1")

    def _compile(self, architecture: Architecture, setting: Setting, seed: int) -> Runner:
        network = random_onnx(architecture, setting, seed)
        written = to_ncnn(network)
        fills = (
            partial(_fill, network.weights[name]) if name else None for name in written.weights
        )
        net = load_net(written.layers, fills, self.threads)
        return NcnnRunner(net, random_input(setting, seed).numpy()[0], self.clock)

    def _parallel_width(self) -> int | None:
        return parallel_width(self.threads)

    def _enter(self) -> None:
        self._host = contextlib.ExitStack()
        try:
            self._host.enter_context(beside_torch(self.threads))
            self._host.callback(import_ncnn().set_omp_dynamic, fix_thread_count())
        except BaseException:
            self._host.close()
            raise

    def _exit(self) -> None:
        self._host.close()


def _fill(weight: npt.NDArray[np.floating], memory: npt.NDArray[np.float32]) -> None:
    np.copyto(memory, weight.reshape(-1), casting="no")
