"""Files of safetensors."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.robustness.formats import Maker, MixedFormat, Reader, latkit, use_registry
from benchmarks.robustness.json_format import of_registry, signed
from benchmarks.robustness.material import COMMANDS, DEVICE, REGISTRY
from benchmarks.robustness.mutations import Mutator
from latkit.core.errors import SearchError, TrainingError
from latkit.search.checkpoint import digest_of, finished_epochs
from latkit.search.network_checkpoint import progress_of


class SafetensorsFormat(MixedFormat):
    """Weights of LPMs and networks, and checkpoints."""

    name = "safetensors"

    def makers(self) -> tuple[Maker, ...]:
        return (self._weights, self._weights, self._lpm, self._checkpoint, self._checkpoint,
                self._resumed)  # fmt: skip

    def _weights(self, mutator: Mutator, box: Path) -> Reader:
        path = box / "w.safetensors"
        source = self.material / "train/seed-0/last.safetensors"
        path.write_bytes(_changed_tensors(mutator, source.read_bytes()))
        setting = "cifar,cells=3,channels=4,resolution=8"
        return lambda: latkit("export", "darts_v2", "--setting", setting, "--weights", path,
                              "--out", "n.onnx", "--json")  # fmt: skip

    def _lpm(self, mutator: Mutator, box: Path) -> Reader:
        registry = self.copy(REGISTRY, box)
        card = next(registry.glob("darts/**/lpm.json"))
        path = card.with_name("weights.safetensors")
        content = _changed_tensors(mutator, path.read_bytes())
        path.write_bytes(content)
        card.write_bytes(signed(card.read_bytes(), content))
        use_registry(registry)
        return mutator.choice(of_registry(card.parent))

    def _checkpoint(self, mutator: Mutator, box: Path) -> Reader:
        """What is read of checkpoints without their networks."""
        path = box / "checkpoint.safetensors"
        name = mutator.choice(("search", "one-shot", "train/seed-0"))
        source = self.material / name / path.name
        path.write_bytes(_changed_tensors(mutator, source.read_bytes()))
        return mutator.choice(
            (
                lambda: finished_epochs(box),
                lambda: digest_of(box),
                lambda: progress_of(box, SearchError),
                lambda: progress_of(box, TrainingError),
            )
        )

    def _resumed(self, mutator: Mutator, box: Path) -> Reader:
        name, file = mutator.choice(
            (("search", "checkpoint.safetensors"), ("one-shot", "checkpoint.safetensors"),
             ("train", "seed-0/checkpoint.safetensors"), ("one-shot", "lpm/weights.safetensors"),
             ("from", "search/checkpoint.safetensors"))
        )  # fmt: skip
        if name == "from":
            path = self.copy("search", box) / "checkpoint.safetensors"
            command = [*COMMANDS["search"], "--from", "search", "--out", "new", "--json"]
        else:
            path = self.copy(name, box) / file
            command = [*COMMANDS[name], "--out", name, "--json"]
        content = _changed_tensors(mutator, path.read_bytes())
        path.write_bytes(content)
        if name == "one-shot" and file.startswith("lpm"):
            card = path.with_name("lpm.json")
            card.write_bytes(signed(card.read_bytes(), content))
            command = ["retarget", "one-shot", "--device", DEVICE, "--front", "2", "--out", "new"]
        return lambda: latkit(*command)


def _changed_tensors(mutator: Mutator, content: bytes) -> bytes:
    """A safetensors file with changes, mostly of its header."""
    if mutator.chance(25):
        return mutator.content(content)
    length = int.from_bytes(content[:8], "little")
    header, tensors = json.loads(content[8 : 8 + length]), content[8 + length :]
    if mutator.chance(25) and "__metadata__" in header:
        # Metadata are texts, and latkit's are JSON.
        inner = header["__metadata__"]
        for name in list(inner):
            changed = mutator.json(json.loads(inner[name])) if inner[name][:1] == "{" else b"x"
            inner[name] = changed.decode("utf-8", "replace")
        text = json.dumps(header).encode()
    elif mutator.chance(40):
        name = mutator.choice([name for name in header if name != "__metadata__"])
        info = header[name]
        size = info["data_offsets"][1] - info["data_offsets"][0]
        shape: list[int]
        dtype, width = mutator.choice(
            (("F32", 4), ("F64", 8), ("F16", 2), ("BF16", 2), ("I64", 8), ("I8", 1), ("U8", 1),
             ("BOOL", 1), ("F8_E4M3", 1), ("F8_E5M2", 1), ("F8_E8M0", 1), ("U16", 2), ("U64", 8),
             ("C64", 8), ("F4", 1))
        )  # fmt: skip
        shape = mutator.choice(([size // width], [size // width, 1], [1, size // width, 1]))
        mutator.note(f"{name} is {dtype} of {shape}")
        header[name] = {**info, "dtype": dtype, "shape": shape}
        text = json.dumps(header).encode()
    elif mutator.chance(40):
        name = mutator.choice([name for name in header if name != "__metadata__"])
        start, end = header[name]["data_offsets"]
        byte = mutator.choice((0x00, 0x7F, 0xFF))
        mutator.note(f"{name} is all {byte:#x}")
        tensors = tensors[:start] + bytes([byte]) * (end - start) + tensors[end:]
        text = json.dumps(header).encode()
    else:
        text = mutator.json(header)
    size = len(text) if mutator.chance(95) else mutator.choice((0, 1, 2**31, 2**63, 2**64 - 1))
    return size.to_bytes(8, "little") + text + tensors
