"""``import latkit``: what it loads, what it gives, and the README's section on Python."""

from __future__ import annotations

import contextlib
import io
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import latkit
from latkit import api
from latkit.core.errors import InputError
from latkit.core.events import Listener, Progress
from latkit.profiling import protocol
from latkit.registry import Registry
from tests.support.synthetic import made_lpm

ROOT = Path(__file__).parents[2]


def test_importing_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'numpy', 'pyarrow', 'onnx'}"
    code = f"import sys, latkit; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_name_is_there() -> None:
    for name in latkit.__all__:
        assert getattr(latkit, name) is not None
    for name in api.__all__:
        assert callable(getattr(latkit, name))
    assert {*api.__all__, "__version__"} == {*latkit.__all__} == {*dir(latkit)}
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        latkit.nothing_of_this_name  # noqa: B018


def test_packages_are_functions_too() -> None:
    """Whether their package was imported before or not."""
    code = (
        "import latkit; first = latkit.spaces(); import latkit.spaces; "
        "from latkit.spaces import get_space; import latkit.backends, latkit.search; "
        "assert latkit.spaces() == first; assert latkit.backends(); "
        "assert callable(latkit.search); print(first[0].name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "darts"


def test_fields_that_are_not_there() -> None:
    with pytest.raises(InputError, match="has no field setings") as refused:
        latkit.profile(setings="tiny")
    assert "did you mean setting" in refused.value.fix
    with pytest.raises(InputError, match="missing 1 required positional argument: 'out'"):
        latkit.export("darts_v2")
    with pytest.raises(InputError, match="search has no value epoch"):
        latkit.search(device="p100", epoch=2)


def test_a_request_may_be_changed() -> None:
    request = api.ExportRequest("darts_v2", Path("a.onnx"), setting="tiny,precision=bf16")
    with pytest.raises(InputError, match="cannot be exported in bf16"):
        latkit.export(request)
    with pytest.raises(InputError, match="unknown setting"):
        latkit.export(request, setting="nope")


def test_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry_url: str) -> None:
    """Its Python section runs as it stands, in at most 15 lines."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"## From Python.*?```python\n(.*?)```", text, re.DOTALL)
    assert len(code.splitlines()) <= 15
    monkeypatch.chdir(tmp_path)
    # Whatever else this machine does: rows that it disturbed would train nothing.
    monkeypatch.setattr(protocol, "disturbances", lambda *arguments: ())
    names: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "README.md", "exec"), names)
    error, first, second, found = printed.getvalue().splitlines()
    assert float(error.split()[0]) > 0
    for line, name in ((first, "darts_v2"), (second, "gdas")):
        given, value, _, std, unit = line.split()
        assert (given, unit) == (name, "ms")
        assert float(value) > float(std) > 0
    assert found.startswith("Genotype(")
    assert (tmp_path / "found.onnx").exists()


def test_progress_is_reported(tmp_path: Path) -> None:
    class Counting(Listener):
        done = 0

        def progress(self, now: Progress) -> None:
            self.done = now.done

    listener = Counting()
    latkit.profile(
        setting="tiny,cells=3,channels=4,resolution=8", n=4, device="here", protocol="paper",
        out=str(tmp_path / "d"), listener=listener,
    )  # fmt: skip
    assert listener.done >= 4


def test_an_architecture_of_another_machine_is_predicted_only() -> None:
    done = latkit.measure_genotype("darts_v2", device="p100")
    assert done.predicted_ms == pytest.approx(29.066, abs=0.001)
    assert (done.measured_ms, done.measured_at_profile_speed_ms) == (None, None)
    assert done.skip_reason
    assert done.macs == pytest.approx(529.9e6, abs=0.1e6)
    # Five nodes: a network, but no point of the space.
    assert latkit.measure_genotype("nasnet_a", device="p100").predicted_ms is None


def test_what_scripts_pass(tmp_path: Path, registry_url: str) -> None:
    """Texts for paths, one text for several, identifiers, settings and datasets as objects."""
    setting = latkit.spaces.parse_setting("tiny,cells=3,channels=4,resolution=8")
    request = api.ExportRequest("darts_v2", str(tmp_path / "a.onnx"), setting=setting)  # type: ignore[arg-type]
    assert latkit.export(request).genotype.startswith("Genotype(")
    seven = latkit.export(7, out=tmp_path / "b.onnx", setting=setting).genotype
    assert latkit.measure_genotype(7, device="p100").genotype == seven
    assert api.TrainRequest(from_devices="p100").from_devices == ("p100",)
    assert api.SearchRequest("p100", also="t4", out="s").also == ("t4",)
    assert api.SearchRequest("p100", out="s").out == Path("s")
    for wrong in (
        lambda: latkit.profile("d"),
        lambda: latkit.profile(seed=-1, out=str(tmp_path / "d")),
        lambda: latkit.train_lpm("d", seed=2**32),
        lambda: latkit.profile(target_error="1%"),
    ):
        with pytest.raises(InputError):
            wrong()
    assert not (tmp_path / "d").exists()


def test_errors_cross_processes() -> None:
    error = InputError("no such thing", "use another")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.to_dict()) == (InputError, error.to_dict())


def test_a_sweep_in_a_script_without_a_guard(tmp_path: Path, registry_url: str) -> None:
    """Its processes must not run the script again."""
    trained = made_lpm(tmp_path / "made")
    Registry(registry_url).publish(trained.lpm, trained.card)
    script = tmp_path / "script.py"
    script.write_text(
        "import latkit\nprint('begun')\n"
        "found = latkit.search(device='formula', preset='cpu', cells=3, channels=2, epochs=1, "
        "limit=64, batch=16, out='s', sweep_lambda=(0.1,), jobs=2)\n"
        "found.check()\nprint(len(found.searches))\n"
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["begun", "1"], done.stderr
