"""The setting: the network into which a cell is put to be measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from latkit.errors import InputError
from latkit.networks.zoo import ZOO

# The networks that latkit knows, and of which space's architectures they are made.
SPACES_OF_MACROS = {
    "imagenet": "darts",
    "cifar": "darts",
    "nasbench201": "nasbench201",
    "fbnet": "fbnet",
}
MACROS = tuple(SPACES_OF_MACROS)
MEMORY_FORMATS = ("channels_last", "nchw")
PRECISIONS = ("fp32", "fp16", "bf16")
# With fewer, every cell is a reduction cell and the normal cell, which is what is chosen, absent.
MIN_CELLS = 3


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{name}={value!r} is unknown", f"use one of: {', '.join(allowed)}")


@dataclass(frozen=True)
class Setting:
    """Everything besides the normal cell that decides how long a network takes.

    Attributes:
        macro: ``imagenet`` (three stride-2 convolutions before the cells, paper section 4.2),
            ``cifar`` (one convolution of stride 1, section 4.1), ``nasbench201`` (three stages of
            cells, a residual block of stride 2 between them), or ``fbnet`` (22 layers).
        cells: number of cells; those at one and two thirds of the depth are reduction cells in the
            first two macros; of ``fbnet``, its layers.
        channels: initial number of channels C.
        resolution: side of the square input image in pixels.
        batch: images per run.
        classes: width of the classifier.
        reduction: zoo name of the genotype whose reduction cell is used; ``none`` in the macros
            that have no such cell.
        precision: arithmetic of the run; a runtime may take more where an operation needs it.
        memory_format: layout of weights and activations.
    """

    macro: str
    cells: int
    channels: int
    resolution: int
    batch: int = 1
    classes: int = 1000
    reduction: str = "darts_v2"
    precision: str = "fp32"
    memory_format: str = "channels_last"

    def __post_init__(self) -> None:
        _one_of("macro", self.macro, MACROS)
        _one_of("reduction", self.reduction, tuple(ZOO) if self.space == "darts" else ("none",))
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("memory_format", self.memory_format, MEMORY_FORMATS)
        for name, least in (("channels", 2), ("batch", 1), ("classes", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name}={getattr(self, name)} is too small", f"use >= {least}")
        self._check_shape()

    def _check_shape(self) -> None:
        if self.macro == "fbnet" and (self.cells, self.channels) != (22, 16):
            raise InputError("fbnet has 22 layers and begins with 16 channels", "leave them out")
        if self.macro == "nasbench201" and self.cells % 3:
            raise InputError(
                f"cells={self.cells} does not fill the three stages of nasbench201",
                "use a multiple of 3, e.g. cells=15",
            )
        if self.cells < MIN_CELLS:
            raise InputError(
                f"cells={self.cells} leaves no normal cell: the cells at one and two thirds of the "
                "depth are reduction cells",
                f"use at least {MIN_CELLS} cells",
            )
        if self.channels % 2:
            raise InputError(
                f"channels={self.channels} is odd",
                "use an even number: a factorized reduction splits the channels in two halves",
            )
        stride = self.total_stride
        if self.resolution < stride or self.resolution % stride:
            raise InputError(
                f"resolution={self.resolution} does not fit the macro {self.macro}",
                f"use a multiple of {stride}",
            )

    @property
    def total_stride(self) -> int:
        """Factor by which the network reduces the resolution."""
        if self.space != "darts":
            return {"nasbench201": 4, "fbnet": 32}[self.macro]
        return (8 if self.macro == "imagenet" else 1) << len(self.reduction_indices)

    @property
    def space(self) -> str:
        """The search space whose architectures the network is made of."""
        return SPACES_OF_MACROS[self.macro]

    @property
    def reduction_indices(self) -> tuple[int, ...]:
        """Positions of the reduction cells, at one and two thirds of the depth."""
        return tuple(sorted({self.cells // 3, 2 * self.cells // 3}))

    @property
    def slug(self) -> str:
        """A short, unique, file-system-safe name; its parts are every field of the setting."""
        return (
            f"{self.macro}-l{self.cells}-c{self.channels}-r{self.resolution}-b{self.batch}"
            f"-k{self.classes}-{self.reduction}-{self.precision}-{self.memory_format}"
        )

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Setting:
        """A setting from a file's fields.

        Raises:
            InputError: a field is unknown, missing or of the wrong type.
        """
        types = {field.name: field.type for field in dataclasses.fields(cls)}
        for name, value in values.items():
            if name not in types or type(value).__name__ != types[name]:
                raise InputError(
                    f"{name}={value!r} is not a field of a setting",
                    f"the fields are {', '.join(f'{k} ({v})' for k, v in types.items())}",
                )
        try:
            return cls(**values)
        except TypeError as error:
            raise InputError(f"the setting is incomplete: {error}", "add the field") from None


PRESETS: dict[str, Setting] = {
    # The paper's ImageNet network (section 4.2) with one image a run.
    "imagenet": Setting("imagenet", cells=14, channels=48, resolution=224),
    # The paper's CIFAR-10 network (section 4.1) as Table 2 measures it.
    "cifar": Setting("cifar", cells=20, channels=36, resolution=32, batch=32, classes=10),
    # As Table 5 measures it: eager PyTorch's own layout, 32 images a run.
    "paper": Setting(
        "imagenet", cells=14, channels=48, resolution=224, batch=32, memory_format="nchw"
    ),
    # The networks of the two benchmarks, with one image a run.
    "nasbench201": Setting(
        "nasbench201", cells=15, channels=16, resolution=32, classes=10, reduction="none"
    ),
    "fbnet": Setting("fbnet", cells=22, channels=16, resolution=224, reduction="none"),
    # A few milliseconds a run on one CPU core; for demonstrations and tests.
    "tiny": Setting("cifar", cells=5, channels=16, resolution=32, classes=10),
}


def default_setting(space: str) -> str:
    """The preset that a space is measured in where a user names none."""
    return next(name for name, setting in PRESETS.items() if setting.space == space)


def parse_setting(text: str) -> Setting:
    """A setting from ``PRESET[,field=value]...``, e.g. ``imagenet,batch=32``.

    Raises:
        InputError: unknown preset or field, or a value that does not fit.
    """
    preset, *overrides = [part.strip() for part in text.split(",")]
    if preset not in PRESETS:
        raise InputError(
            f"unknown setting {preset!r}",
            f"start with one of {', '.join(PRESETS)}, e.g. imagenet,batch=32",
        )
    setting = PRESETS[preset]
    types = {field.name: field.type for field in dataclasses.fields(Setting)}
    values: dict[str, Any] = {}
    for override in overrides:
        name, _, value = override.partition("=")
        if name not in types or not value:
            raise InputError(
                f"{override!r} is not field=value", f"the fields are {', '.join(types)}"
            )
        if types[name] == "int" and not value.isdecimal():
            raise InputError(f"{name}={value!r} is not a whole number", "write e.g. batch=32")
        values[name] = int(value) if types[name] == "int" else value
    return dataclasses.replace(setting, **values)
