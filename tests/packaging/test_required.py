"""What latkit requires, where it is missing: one line and no traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from latkit.backends.hardware import BACKEND_SUPPORT
from latkit.cli.main import REQUIRED
from latkit.core.errors import InstallationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_every_requirement_is_known_by_its_module() -> None:
    content = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))
    names = {Requirement(line).name for line in content["project"]["dependencies"]}
    assert set(REQUIRED.values()) == names - {"click"}  # without which there is no command line


@pytest.mark.parametrize(
    ("module", "arguments"), [("torch", ("predict", "--device", "p100", "darts_v2")),
                              ("pyarrow", ("dataset", "check", "d"))],
)  # fmt: skip
def test_a_requirement_that_is_missing(module: str, arguments: tuple[str, ...]) -> None:
    code = (
        f"import sys; sys.modules[{module!r}] = None; sys.argv = ['latkit', *{arguments!r}]; "
        "from latkit.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == InstallationError.exit_code
    (line,) = done.stderr.splitlines()
    assert f"pip install {module}" in line


def test_a_module_of_nobody_is_a_defect() -> None:
    code = (
        "import sys; sys.modules['latkit.cli.predict'] = None; sys.argv = ['latkit', 'predict']; "
        "from latkit.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "Traceback" in done.stderr


def test_all_cpu_has_every_runtime_of_a_cpu() -> None:
    """What the backends of any CPU name as their extras."""
    extras = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    (line,) = extras["all-cpu"]
    in_all = Requirement(line).extras
    of_cpus = {
        support.extra
        for name, support in BACKEND_SUPPORT.items()
        if support.hardware == "CPU" and support.extra and ":" not in name
    }
    assert in_all == of_cpus
    assert in_all <= set(extras)
