"""A distribution that is installed beside latkit adds one of each kind of plug-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import run_latkit

HERE = Path(__file__).parent
SEARCH = (
    "search", "--space", "toy", "--device", "box", "--data", "stripes", "--preset", "cpu",
    "--channels", "4", "--batch", "16", "--epochs", "2", "--cost", "squared",
    "--estimator", "enumeration", "--lambda", "0.01", "--out", "found",
)  # fmt: skip
ONE_SHOT = (
    "search", "--method", "one-shot", "--space", "toy", "--data", "stripes", "--preset", "cpu",
    "--channels", "4", "--batch", "16", "--epochs", "1", "--subnets", "20", "--out", "shared",
)  # fmt: skip


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip has installed the distribution."""
    folder = tmp_path_factory.mktemp("site")
    # Not from the tree itself, into which the build would write.
    source = tmp_path_factory.mktemp("source") / "stranger"
    source.mkdir()
    for path in [HERE / "pyproject.toml", *(HERE / "latkit_stranger").glob("*.py")]:
        target = source / path.relative_to(HERE)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(path.read_bytes())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run(
        [*pip, "--no-build-isolation", "--target", str(folder), str(source)],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder


def test_one_of_each(stranger: Path, tmp_path: Path) -> None:
    paths = [str(stranger), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "LATKIT_REGISTRY": str(tmp_path / "registry"),
    }

    def latkit(*arguments: str) -> Any:
        done = run_latkit(*arguments, "--json", cwd=tmp_path, environment=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    (toy,) = [space for space in latkit("spaces") if space["name"] == "toy"]
    assert (toy["size"], toy["settings"]) == (81, ["toy"])

    # The paper's protocol flags nothing, however busy this machine is.
    summary = latkit(
        "profile", "--space", "toy", "--n", "40", "--protocol", "paper", "--device", "box",
        "--out", "d",
    )  # fmt: skip
    assert summary["architectures"] == 40

    trained = latkit("train-lpm", "d", "--kind", "ridge")
    assert trained["kind"] == "ridge"
    assert trained["metrics"]["n_test"] == 8

    chain = "|conv_3x3~0|+|skip~1|+|conv_3x3~2|+|conv_1x1~3|"
    (prediction,) = latkit("predict", "--space", "toy", "--device", "box", chain)["predictions"]
    assert prediction["arch"] == chain
    assert prediction["latency_ms"] > 0

    result = latkit(*SEARCH)
    assert result["config"]["method"] == "toy-mixture"
    weighed = result["searched_for"]
    assert (weighed["cost"], weighed["unit"]) == ("squared", "ms²")
    predicted = result["found"]["predicted_ms"]
    assert weighed["found"] == pytest.approx(predicted**2, rel=1e-3)
    assert result["found"]["measured_ms"] > 0

    shared = latkit(*ONE_SHOT)
    assert shared["network"]["repeats"] == 2
    assert shared["accuracy_lpm"]["cross_validated"]["n_test"] == 20

    exported = latkit("export", "found/result.json", "--setting", "toy", "--out", "toy.onnx")
    assert exported["genotype"] == result["genotype"]
    assert (tmp_path / "toy.onnx").stat().st_size == exported["bytes"]
    if exported["largest_relative_error"] is not None:  # ONNX Runtime is here
        assert exported["largest_relative_error"] < 1e-5
