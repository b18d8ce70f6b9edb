"""Check what a built wheel does where only its own requirements are installed.

Usage: python tests/packaging/check_install.py WHEEL

Two environments are made, of links to packages that are installed here, so that nothing is fetched:

- *core*: what ``pip install latkit`` brings, and none of the extras;
- *bare*: the same without PyTorch and what comes with it, as where its installation failed.

In each the wheel is installed by pip, and commands run in another folder, without the tree.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests" / "data" / "dataset-format-1"
TORCH = {"torch", "torchvision"}
PREDICT = ("predict", "--device", "p100", "darts_v2")
TIMEOUT = 300


def closure(names: Iterable[str], without: Iterable[str] = ()) -> set[str]:
    """Distributions and all that they require here, extras left out.

    Args:
        names: of distributions.
        without: these and what only they require are left out.
    """
    found: set[str] = set()
    todo = [canonicalize_name(name) for name in names]
    while todo:
        name = todo.pop()
        if name in found or name in without:
            continue
        found.add(name)
        for line in importlib.metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                todo.append(canonicalize_name(requirement.name))
    return found


def core_requirements(wheel: Path) -> list[str]:
    """Names of what a wheel requires without extras, by its own metadata."""
    (distribution,) = importlib.metadata.distributions(name="latkit", path=[str(wheel)])
    requirements = map(Requirement, distribution.requires or ())
    return [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]


def make_environment(folder: Path, wheel: Path, distributions: Iterable[str]) -> Path:
    """A virtual environment with links to these distributions and the wheel; its ``latkit``."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    site = Path(done.stdout.strip())
    for name in distributions:
        distribution = importlib.metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    return folder / "bin" / "latkit"


class Checker:
    """Runs commands of an installation and collects what is wrong.

    Args:
        latkit: the command.
        home: an empty folder, in which they run.
    """

    def __init__(self, latkit: Path, home: Path) -> None:
        self._latkit, self._home = latkit, home
        home.mkdir()
        self.problems: list[str] = []

    def run(self, *arguments: str, code: int | None = 0, says: Iterable[str] = ()) -> None:
        """Run a command.

        Args:
            arguments: of ``latkit``.
            code: its exit code; None: any but 0, with one line and no traceback.
            says: words of its output.
        """
        path = os.pathsep.join([str(self._latkit.parent), "/usr/bin", "/bin"])
        environment = {"PATH": path, "HOME": str(self._home), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [self._latkit, *arguments], cwd=self._home, env=environment, capture_output=True,
            text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
        wrong = []
        if "Traceback" in done.stderr:
            wrong.append("a traceback")
        if (done.returncode == 0) if code is None else (done.returncode != code):
            wrong.append(f"exit code {done.returncode}")
        if code is None and len(done.stderr.splitlines()) != 1:
            wrong.append("not one line")
        wrong += [f"no {word!r}" for word in says if word not in done.stdout + done.stderr]
        if wrong:
            text = f"{done.stdout}{done.stderr}"
            self.problems.append(f"latkit {' '.join(arguments)}: {', '.join(wrong)}\n{text}")


def check_core(latkit: Path, home: Path) -> list[str]:
    """With PyTorch and no extras."""
    check = Checker(latkit, home)
    check.run("--help", says=("doctor", "predict"))
    check.run("doctor", says=("torch-cpu", "latkit[onnxruntime]", "latkit[ncnn]"))
    check.run("dataset", "check", str(RECORDED), says=("usable",))
    check.run(*PREDICT, says=("ms",))
    profile = ("profile", "--device", "here", "--setting", "tiny", "--n", "2")
    check.run(*profile, "--backend", "ncnn-cpu", code=None, says=("latkit[ncnn]",))
    fleet = (*profile, "--backend", "torch-cpu", "--fleet", "auto")
    check.run(*fleet, code=None, says=("latkit[fleet]",))
    return check.problems


def check_bare(latkit: Path, home: Path) -> list[str]:
    """Without PyTorch."""
    check = Checker(latkit, home)
    check.run("--help", says=("doctor", "predict"))
    check.run("doctor", code=1, says=("torch", "broken"))
    check.run("dataset", "check", str(RECORDED), says=("usable",))
    for command in (PREDICT, ("spaces",), ("train-lpm", str(RECORDED))):
        check.run(*command, code=None, says=("torch", "pip install"))
    return check.problems


def main() -> None:
    wheel = Path(sys.argv[1]).resolve()
    core = core_requirements(wheel)
    bare = closure((name for name in core if name not in TORCH), TORCH)
    environments = {"core": (closure(core), check_core), "bare": (bare, check_bare)}
    work = Path(tempfile.mkdtemp(prefix="latkit-install-"))
    problems = []
    try:
        for name, (distributions, check) in environments.items():
            latkit = make_environment(work / name, wheel, sorted(distributions))
            found = check(latkit, work / f"home-{name}")
            problems += [f"{name}: {problem}" for problem in found]
            print(f"{wheel.name} in {name}: {len(distributions)} packages, {len(found)} problems")
    finally:
        shutil.rmtree(work)
    print("\n".join(problems), end="")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
