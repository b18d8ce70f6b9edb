"""The conformance suite of backends: subclass it, and pytest holds a backend to the interface.

    from latkit.backends.testing import BackendConformance

    class TestMyBackend(BackendConformance):
        backend_class = MyBackend

Tests of a backend that is not usable here are skipped with its own reason. pytest is needed.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from latkit.backends.base import Backend, Probe
from latkit.core.errors import BackendError
from latkit.networks.models import from_module
from latkit.spaces import Architecture, NetworkConfig, RunConfig, Setting, get_space
from latkit.spaces.build import random_input, random_network
from latkit.spaces.darts.config import DartsConfig
from latkit.spaces.darts.genotype import Genotype
from latkit.spaces.darts.zoo import ZOO
from latkit.spaces.fbnet.config import FbnetConfig
from latkit.spaces.fbnet.layers import FbnetLayers
from latkit.spaces.fbnet.zoo import ZOO as CHAINS
from latkit.spaces.nasbench201.config import NasBench201Config
from latkit.spaces.nasbench201.space import NasBench201Cell
from latkit.spaces.setting import MEMORY_FORMATS, PRECISIONS

# Random cells of DARTS, beside one for each operation.
ARCHITECTURES = 6
SEED = 3
# Of NAS-Bench-201: the first has every operation, the last hands one tensor to all nodes.
CELLS = (
    "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|",
    "|avg_pool_3x3~0|+|skip_connect~0|none~1|+|none~0|nor_conv_1x1~1|avg_pool_3x3~2|",
    "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|none~2|",
)
# Of logits, relative to the largest, after some forty layers.
FP16_TOLERANCE = 1e-2
BF16_TOLERANCE = 1e-1
INT8_TOLERANCE = 1e-1


class BackendConformance:
    """What every backend must do.

    Attributes:
        backend_class: the backend.
        tolerance: of fp32 logits, relative to the largest; looser only with a reason.
        setting: a small network that the backend can run in a fraction of a second.
        rebuilds: networks built and closed to check that memory is released.
    """

    backend_class: ClassVar[type[Backend]]
    tolerance: ClassVar[float] = 1e-5
    setting: ClassVar[Setting] = Setting(
        DartsConfig(macro="cifar", cells=3, channels=8, resolution=16, classes=10),
        RunConfig(batch=2),
    )
    rebuilds: ClassVar[int] = 21

    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        probe = self.backend_class.probe()
        if not probe.usable:
            pytest.skip(f"{self.backend_class.name} is {probe.status}: {probe.reason}")
        with self.backend_class() as backend:
            yield backend

    @property
    def small(self) -> Setting:
        """The setting in a memory format that the backend takes."""
        return self.setting.replace(memory_format=self.backend_class.memory_formats[0])

    def genotypes(self) -> list[Genotype]:
        """Random cells, and one for each operation that uses it everywhere.

        A backend that takes long to compile may return fewer.
        """
        space = get_space("darts")
        rows = list(space.unrank(space.sample(ARCHITECTURES, SEED)))
        for operation in space.operations:
            if operation != "none":
                text = "+".join(f"|{operation}~0|{operation}~{node + 1}|" for node in range(4))
                rows.append(space.parse(text)[0])
        return [space.genotype(row, ZOO["darts_v2"]) for row in rows]

    def cells(self) -> list[NasBench201Cell]:
        """A few cells of NAS-Bench-201; a backend that takes long to compile may return one.

        One that cannot run its networks refuses the macro in ``check_setting``.
        """
        space = get_space("nasbench201")
        return [space.cell(space.parse(text)[0]) for text in CELLS]

    def chains(self) -> list[FbnetLayers]:
        """Two networks of FBNet, the first of which has every operation; as of :meth:`cells`."""
        return [CHAINS["fbnet_a"], CHAINS["fbnet_c"]]

    def expected(self, architecture: Architecture, setting: Setting, seed: int) -> Any:
        with torch.inference_mode():
            return random_network(architecture, setting, seed)(random_input(setting, seed)).numpy()

    # --- without the backend being usable ----------------------------------------------------

    def test_probe_has_a_reason_and_a_fix(self) -> None:
        probe = self.backend_class.probe()
        assert isinstance(probe, Probe)
        assert probe.reason
        assert "\n" not in probe.reason + probe.fix
        assert bool(probe.fix) != probe.usable

    def test_has_a_name_that_can_stand_in_paths(self) -> None:
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", self.backend_class.name)
        assert set(self.backend_class.memory_formats) <= set(MEMORY_FORMATS)
        assert self.backend_class.memory_formats

    def test_an_unusable_backend_does_not_open(self) -> None:
        probe = self.backend_class.probe()
        if probe.usable:
            pytest.skip(f"{self.backend_class.name} is usable here")
        with pytest.raises(BackendError, match=re.escape(probe.reason)):
            self.backend_class().__enter__()

    # --- computing ---------------------------------------------------------------------------

    @pytest.mark.parametrize("precision", PRECISIONS)
    @pytest.mark.parametrize("macro", ["cifar", "imagenet", "nasbench201", "fbnet"])
    def test_computes_what_pytorch_computes(
        self, backend: Backend, macro: str, precision: str
    ) -> None:
        networks: dict[str, NetworkConfig] = {
            "cifar": self.small.network,
            "imagenet": self.small.replace(macro="imagenet", resolution=64).network,
            "nasbench201": NasBench201Config(cells=3, channels=8, resolution=16),
            "fbnet": FbnetConfig(macro="fbnet-cifar", channels=4, resolution=16, classes=10),
        }
        setting = Setting(networks[macro], self.small.run).replace(precision=precision)
        try:
            backend.check_setting(setting)
        except BackendError as refusal:
            pytest.skip(str(refusal))
        tolerance = {
            "fp32": self.tolerance, "fp16": FP16_TOLERANCE, "bf16": BF16_TOLERANCE,
            "int8": INT8_TOLERANCE,
        }  # fmt: skip
        architectures: dict[str, Callable[[], Sequence[Architecture]]] = {
            "darts": self.genotypes, "nasbench201": self.cells, "fbnet": self.chains,
        }  # fmt: skip
        for architecture in architectures[setting.space]():
            wanted = self.expected(architecture, setting, SEED)
            with backend.compile(architecture, setting, SEED) as runner:
                logits = runner.logits()
            assert logits.shape == (setting.batch, setting.classes)
            assert logits.dtype == np.float32
            error = np.abs(logits - wanted).max() / np.abs(wanted).max()
            assert error <= tolerance[precision], (str(architecture), error)
            if precision != "fp32":  # fp32 under another name would be closer
                assert error > self.tolerance, (str(architecture), error)

    def test_weights_and_input_follow_from_the_seed(self, backend: Backend) -> None:
        genotype = ZOO["darts_v2"]
        logits = []
        for seed in (1, 1, 2):
            with backend.compile(genotype, self.small, seed) as runner:
                logits.append(runner.logits())
        assert np.allclose(logits[0], logits[1])
        assert not np.allclose(logits[0], logits[2])

    def test_networks_do_not_disturb_each_other(self, backend: Backend) -> None:
        """The anchor stays loaded while candidates come and go."""
        with backend.compile(ZOO["darts_v2"], self.small, 1) as anchor:
            before = anchor.logits()
            for seed in range(2):
                with backend.compile(ZOO["gdas"], self.small, seed) as candidate:
                    candidate.run(1)
                    anchor.run(1)
            assert np.allclose(anchor.logits(), before)

    # --- models of no space ------------------------------------------------------------------

    @pytest.mark.parametrize("kind", ["module", "onnx"])
    def test_models_run_or_are_refused(self, backend: Backend, kind: str) -> None:
        """A module and an ONNX file compute what PyTorch computes, or are refused by name."""
        torch.manual_seed(SEED)
        module = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU6(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
        )  # fmt: skip
        model = from_module(module, "tiny", "tiny", ("2x3x16x16",))
        wanted = module(*model.tensors(SEED)).numpy()
        if kind == "onnx":
            model = dataclasses.replace(
                model, module=None, file=onnx.load_model_from_string(model.onnx())
            )
        run = self.small.run
        if kind not in self.backend_class.model_kinds:
            with pytest.raises(BackendError, match="tiny"):
                backend.compile_model(model, run, SEED)
            return
        with backend.compile_model(model, run, SEED) as runner:
            logits = runner.logits()
            assert logits.dtype == np.float32
            assert np.abs(logits - wanted).max() <= self.tolerance * np.abs(wanted).max()
            assert len(runner.run(3).wall_ms) == 3
            layers = runner.layer_times(2)
        assert layers is None or layers.explained > 0

    # --- timing ------------------------------------------------------------------------------

    def test_samples(self, backend: Backend) -> None:
        with backend.compile(ZOO["darts_v2"], self.small) as runner:
            assert runner.clock == backend.clock
            for n in (1, 5):
                samples = runner.run(n)
                for times in (samples.clock_ms, samples.wall_ms):
                    assert len(times) == n
                    assert all(math.isfinite(t) and t > 0 for t in times)

    def test_a_larger_network_takes_longer(self, backend: Backend) -> None:
        """By both clocks: a clock that stands still or counts nothing would pass the others.

        The large one has hundreds of times the work, of which a factor of two is asked.
        """
        best = []
        # On a GPU a small network takes what its launches take; only a large one takes longer.
        large = (48, 64) if backend.clock == "cpu" else (64, 256)
        for channels, resolution in ((8, 16), large):
            setting = self.small.replace(channels=channels, resolution=resolution)
            with backend.compile(ZOO["darts_v2"], setting) as runner:
                runner.run(3)
                samples = runner.run(7)
                best.append((min(samples.clock_ms), min(samples.wall_ms)))
        assert best[1][0] > 2 * best[0][0]
        assert best[1][1] > 2 * best[0][1]

    # --- closing -----------------------------------------------------------------------------

    def test_a_closed_runner_refuses(self, backend: Backend) -> None:
        runner = backend.compile(ZOO["darts_v2"], self.small)
        runner.close()
        runner.close()
        with pytest.raises(BackendError, match="closed"):
            runner.run(1)
        with pytest.raises(BackendError, match="closed"):
            runner.logits()

    def test_closing_releases_memory(self, backend: Backend) -> None:
        """Many networks in a row take no more memory than a few."""
        statm = Path("/proc/self/statm")
        if not statm.exists():
            pytest.skip("this system has no memory of a process in /proc")
        page_kb = os.sysconf("SC_PAGE_SIZE") // 1024
        setting = self.small.replace(channels=256, cells=3)

        def rebuild(times: int) -> int:
            for seed in range(times):
                with backend.compile(ZOO["darts_v2"], setting, seed) as runner:
                    runner.run(1)
            gc.collect()
            return int(statm.read_text().split()[1]) * page_kb

        weights = random_network(ZOO["darts_v2"], setting, 0).parameters()
        network_kb = sum(w.numel() for w in weights) * 4 / 1024
        used_kb = [rebuild(self.rebuilds // 7)]
        # A third of the networks kept would show in every round; what a runtime's allocator and
        # caches take once does not.
        for _ in range(3):
            used_kb.append(rebuild(self.rebuilds))
            if used_kb[-1] - used_kb[-2] < self.rebuilds / 3 * network_kb:
                return
        pytest.fail(f"memory grows with every {self.rebuilds} networks, in KiB: {used_kb}")

    # --- facts -----------------------------------------------------------------------------

    def test_the_fingerprint_is_plain_and_steady(self, backend: Backend) -> None:
        facts = backend.fingerprint()
        assert facts == backend.fingerprint()
        assert json.loads(json.dumps(facts)) == facts
        assert backend.hardware_name()
        versions = [v for v in facts.values() if isinstance(v, str) and re.match(r"\d+\.\d+", v)]
        assert versions, "a fingerprint names the version of its runtime"

    def test_metrics_are_what_runners_measure(self, backend: Backend) -> None:
        with backend.compile(ZOO["darts_v2"], self.small) as runner:
            runner.run(1)
            peak_mb = runner.peak_memory_mb()
        assert (peak_mb is not None) == ("peak_memory_mb" in backend.metrics)
        assert peak_mb is None or peak_mb > 0

    def test_settings_it_cannot_run_are_refused(self, backend: Backend) -> None:
        for memory_format in set(MEMORY_FORMATS) - set(backend.memory_formats):
            setting = self.small.replace(memory_format=memory_format)
            with pytest.raises(BackendError, match=f"cannot run networks in {memory_format}"):
                backend.compile(ZOO["darts_v2"], setting)
        for precision in set(PRECISIONS) - set(backend.precisions):
            setting = self.small.replace(precision=precision)
            with pytest.raises(BackendError, match=f"cannot run networks in {precision}"):
                backend.compile(ZOO["darts_v2"], setting)

    def test_compiles_only_while_open(self, backend: Backend) -> None:
        with pytest.raises(BackendError, match="not open"):
            type(backend)().compile(ZOO["darts_v2"], self.small)
