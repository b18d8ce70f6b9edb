"""Every JSON file that latkit reads, and the TOML of ``--config``."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from benchmarks.robustness.formats import Maker, MixedFormat, Reader, latkit, use_registry
from benchmarks.robustness.material import DEVICE, REGISTRY
from benchmarks.robustness.mutations import Mutator
from latkit.board.results import Results
from latkit.core.errors import SearchError
from latkit.core.events import SILENT
from latkit.dataset.format import read_manifest
from latkit.dataset.writer import DatasetWriter
from latkit.search.claim import CONFIG, claimed
from latkit.search.distributed import ALONE
from latkit.tasks.measurement_file import read_rows


class JsonFormat(MixedFormat):
    name = "json"

    def prepare(self) -> None:
        self._documents: dict[str, Any] = {}

    def makers(self) -> tuple[Maker, ...]:
        weighted: tuple[tuple[int, Maker], ...] = (
            (5, self._dataset),
            (2, self._journal),
            (3, self._results),
            (5, self._card),
            (4, self._search),
            (2, self._sweep),
            (3, self._training),
            (3, self._measurement),
            (3, self._one_shot),
            (2, self._retarget),
            (4, self._config),
            (2, self._printed),
            (2, self._benchmark),
            (4, self._toml),
        )
        return tuple(make for weight, make in weighted for _ in range(weight))

    def _document(self, path: str) -> Any:
        if path not in self._documents:
            self._documents[path] = json.loads((self.material / path).read_text())
        return self._documents[path]

    def _mutated(self, mutator: Mutator, box: Path, path: str) -> None:
        """Copy the folder of a file, and change that."""
        self.copy(path.partition("/")[0], box)
        (box / path).write_bytes(mutator.json(self._document(path)))

    def _dataset(self, mutator: Mutator, box: Path) -> Reader:
        self._mutated(mutator, box, "profile/dataset.json")
        return mutator.choice((*of_dataset("profile", box), lambda: _go_on(box / "profile")))

    def _journal(self, mutator: Mutator, box: Path) -> Reader:
        """Rows that are in no part yet."""
        folder = self.copy("results", box)
        lines = (folder / "journal.jsonl").read_bytes().splitlines()
        at = mutator.integer(0, len(lines) - 1)
        lines[at] = mutator.json(json.loads(lines[at]))
        (folder / "journal.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        return mutator.choice((*of_dataset("results", box), *self._of_results(box)))

    def _results(self, mutator: Mutator, box: Path) -> Reader:
        self._mutated(mutator, box, "results/dataset.json")
        return mutator.choice(self._of_results(box))

    def _of_results(self, box: Path) -> tuple[Reader, ...]:
        manifest = self._document("results/dataset.json")

        def go_on() -> None:
            with Results(box / "results", manifest, SILENT):
                pass

        arguments = ("dataset", "import", "results", "--device", "board", "--out", "made", "--json")
        return (lambda: latkit(*arguments), go_on)

    def _card(self, mutator: Mutator, box: Path) -> Reader:
        """An LPM's card, mostly with the digest of what it says now."""
        registry = self.copy(REGISTRY, box)
        card = next(registry.glob("darts/**/lpm.json"))
        content = mutator.json(self._document(str(Path(REGISTRY, card.relative_to(registry)))))
        if mutator.chance(85):
            content = signed(content)
        card.write_bytes(content)
        use_registry(registry)
        return mutator.choice(of_registry(card.parent))

    def _search(self, mutator: Mutator, box: Path) -> Reader:
        self._mutated(mutator, box, "search/result.json")
        file = "search/result.json"
        return mutator.choice(
            (
                lambda: latkit("report", "search", "--out", "page.html", "--json"),
                lambda: latkit("report", "search", "profile", "--out", "page.html", "--json"),
                lambda: latkit("predict", file, "--device", "p100", "--json"),
                lambda: latkit("draw", file, "--out", "drawn.svg"),
            )
        )

    def _sweep(self, mutator: Mutator, box: Path) -> Reader:
        self._mutated(mutator, box, "sweep/sweep.json")
        return mutator.choice(
            (
                lambda: latkit("report", "sweep", "--out", "page.html", "--json"),
                lambda: latkit("predict", "sweep/sweep.json", "--device", "p100", "--json"),
            )
        )

    def _training(self, mutator: Mutator, box: Path) -> Reader:
        self._mutated(mutator, box, "train/training.json")
        return mutator.choice(
            (
                lambda: latkit("report", "train", "--out", "page.html", "--json"),
                lambda: latkit("export", "darts_v2", "--weights", "train", "--out", "n.onnx"),
            )
        )

    def _measurement(self, mutator: Mutator, box: Path) -> Reader:
        self._mutated(mutator, box, "measure/measurement.json")
        return mutator.choice(
            (
                lambda: latkit("report", "measure", "--out", "page.html", "--json"),
                lambda: [row.to_dict() for row in read_rows(box / "measure")],
            )
        )

    def _one_shot(self, mutator: Mutator, box: Path) -> Reader:
        if mutator.chance(30):
            self._mutated(mutator, box, "one-shot/lpm/lpm.json")
            card = box / "one-shot/lpm/lpm.json"
            card.write_bytes(signed(card.read_bytes()))
        else:
            self._mutated(mutator, box, "one-shot/result.json")
        space = ("--space", "nasbench201", "--device", DEVICE)
        return mutator.choice(
            (
                lambda: latkit("report", "one-shot", "--out", "page.html", "--json"),
                lambda: latkit("predict", "one-shot/result.json", *space, "--json"),
                lambda: latkit("retarget", "one-shot", "--device", DEVICE, "--front", 2,
                               "--out", "new", "--json"),
            )
        )  # fmt: skip

    def _retarget(self, mutator: Mutator, box: Path) -> Reader:
        self._mutated(mutator, box, "retarget/result.json")
        space = ("--space", "nasbench201", "--device", DEVICE)
        return mutator.choice(
            (
                lambda: latkit("report", "retarget", "--out", "page.html", "--json"),
                lambda: latkit("predict", "retarget/result.json:p1", *space, "--json"),
            )
        )

    def _config(self, mutator: Mutator, box: Path) -> Reader:
        """What a folder says it is of, read when its command is run again."""
        folder = mutator.choice(("search", "one-shot", "train", "retarget"))
        self._mutated(mutator, box, f"{folder}/{CONFIG}")
        content = self._document(f"{folder}/{CONFIG}")

        def go_on() -> None:
            with claimed(box / folder, content, ALONE, "search", SearchError):
                pass

        return go_on

    def _printed(self, mutator: Mutator, box: Path) -> Reader:
        self._mutated(mutator, box, "lpm-of-darts.json")
        return lambda: latkit("report", "lpm-of-darts.json", "--out", "page.html", "--json")

    def _benchmark(self, mutator: Mutator, box: Path) -> Reader:
        document = {
            "benchmark": "made", "date": "2026-11-27", "command": "python x.py", "threads": 1,
            "rows": [{"name": "a", "p50_ms": 1.5}, {"name": "b", "p50_ms": 2.5}],
            "conditions": {"date": "2026-11-27", "cpu": "none"}, "seconds": 3.0,
        }  # fmt: skip
        (box / "made.json").write_bytes(mutator.json(document))
        return lambda: latkit("report", "made.json", "--out", "page.html", "--json")

    def _toml(self, mutator: Mutator, box: Path) -> Reader:
        document = {"predict": {"device": "p100", "json": True, "space": "darts"}, "spaces": {}}
        (box / "c.toml").write_bytes(_toml_of(mutator, document))
        return mutator.choice(
            (
                lambda: latkit("predict", "darts_v2", "--config", "c.toml"),
                lambda: latkit("spaces", "--config", "c.toml", "--json"),
            )
        )


def of_dataset(name: str, box: Path) -> tuple[Reader, ...]:
    """Commands that read a dataset."""
    return (
        lambda: latkit("dataset", "show", name, "--json"),
        lambda: latkit("dataset", "check", name, "--json"),
        lambda: latkit("dataset", "export", name, "made.csv", "--json"),
        lambda: latkit("dataset", "compare", name, name, "--json"),
        lambda: latkit("dataset", "merge", name, "--out", "merged", "--json"),
        lambda: latkit("report", name, "--out", "page.html", "--json"),
        lambda: latkit("train-lpm", name, "--kind", "op-count", "--no-publish", "--json"),
    )


def of_registry(lpm: Path) -> tuple[Reader, ...]:
    """Commands that read a registry, or one LPM's folder."""
    return (
        lambda: latkit("lpms", "list", "--json"),
        lambda: latkit("lpms", "show", DEVICE, "--json"),
        lambda: latkit("lpms", "compare", DEVICE, "p100", "--json"),
        lambda: latkit("predict", "darts_v2", "--device", DEVICE, "--json"),
        lambda: latkit("report", DEVICE, "--out", "page.html", "--json"),
        lambda: latkit("report", str(lpm), "--out", "page.html", "--json"),
        lambda: latkit("registry", "push", "other", "--json"),
    )


def signed(content: bytes, weights: bytes | None = None) -> bytes:
    """A card with the digests of what it says, where it is JSON with such fields."""
    from latkit.lpm.store import card_text

    try:
        card = json.loads(content)
        if weights is not None:
            card["weights_sha256"] = hashlib.sha256(weights).hexdigest()
        return card_text(card).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return content


def _go_on(folder: Path) -> None:
    """As ``latkit profile`` does with a folder that is there."""
    with DatasetWriter(folder, read_manifest(folder)):
        pass


def _toml_of(mutator: Mutator, document: dict[str, dict[str, Any]]) -> bytes:
    """TOML with changes."""
    lines = []
    for table, values in document.items():
        lines.append(f"[{table}]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    for _ in range(mutator.integer(1, 3)):
        at = mutator.integer(0, len(lines) - 1)
        how = mutator.integer(0, 3)
        fragment = mutator.fragment()
        mutator.note(f"line {at}: change {how}, {fragment[:60]}")
        if how == 0:
            lines[at] = re.sub("=.*", lambda _, to=fragment: f"= {to}", lines[at])
        elif how == 1:
            lines.insert(at + 1, f"further = {fragment}")
        elif how == 2:
            name = mutator.choice(("[predict]", "[[predict]]", "[a.b]", "[x]", "[predict.device]"))
            lines.insert(at, name)
        else:
            nested = mutator.choice(("a." * 3000 + "b = 1", "x = " + "[" * 3000,
                                     "x = " + "{a=" * 3000, "device = 1979-05-27T07:32:00Z",
                                     "device = inf", "device = 0x" + "f" * 5000))  # fmt: skip
            lines.insert(at + 1, nested)
    content = "\n".join(lines).encode("utf-8", "replace")
    return mutator.content(content, 2) if mutator.chance(15) else content
