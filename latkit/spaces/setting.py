"""The setting: the network into which an architecture is put, and how it is run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from typing_extensions import Self

from latkit.core.errors import InputError

MEMORY_FORMATS = ("channels_last", "nchw")
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


def check_one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises: InputError: a field has a value that it cannot have."""
    if value not in allowed:
        raise InputError(f"{name}={value!r} is unknown", f"use one of: {', '.join(allowed)}")


def check_at_least(name: str, value: int, least: int) -> None:
    """Raises: InputError: a field's value is too small."""
    if value < least:
        raise InputError(f"{name}={value} is too small", f"use >= {least}")


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The network around an architecture; each space has its own subclass.

    A subclass adds fields of the types ``int`` and ``str`` and checks them in ``__post_init__``.

    Attributes:
        resolution: side of the square input image in pixels.
        classes: width of the classifier.
    """

    resolution: int
    classes: int

    space: ClassVar[str]
    # Fields that files have beside those of the class, with the one value that each can have.
    constants: ClassVar[Mapping[str, int | str]] = {}

    def __post_init__(self) -> None:
        check_at_least("classes", self.classes, 1)
        check_at_least("resolution", self.resolution, 1)

    def check_stride(self, stride: int) -> None:
        """Raises: InputError: the network's strides do not divide the resolution."""
        if self.resolution < stride or self.resolution % stride:
            raise InputError(
                f"resolution={self.resolution} does not fit this network of {self.space}",
                f"use a multiple of {stride}",
            )

    def slug(self, batch: int) -> str:
        """A short, unique, file-system-safe name of the network and the batch."""
        fields = "-".join(f"{name}{value}" for name, value in dataclasses.asdict(self).items())
        return f"{self.space}-{fields}-b{batch}"

    def to_dict(self) -> dict[str, Any]:
        return {**self.constants, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """A network from a file's fields.

        Raises:
            InputError: a field is unknown, missing or of the wrong type.
        """
        _check_object(values)
        for name, value in cls.constants.items():
            if name in values and values[name] != value:
                raise InputError(
                    f"{name}={values[name]!r} does not fit a network of {cls.space}",
                    f"use {name}={value}, or leave it out",
                )
        fields: Self = _from_fields(
            cls, {n: v for n, v in values.items() if n not in cls.constants}
        )
        return fields


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How a network is run.

    Attributes:
        batch: images per run.
        precision: arithmetic of the run; a runtime may take more where an operation needs it.
        memory_format: layout of weights and activations.
    """

    batch: int = 1
    precision: str = "fp32"
    memory_format: str = "channels_last"

    def __post_init__(self) -> None:
        check_at_least("batch", self.batch, 1)
        check_one_of("precision", self.precision, PRECISIONS)
        check_one_of("memory_format", self.memory_format, MEMORY_FORMATS)


@dataclass(frozen=True)
class Setting:
    """Everything besides the architecture that decides how long a network takes."""

    network: NetworkConfig
    run: RunConfig = RunConfig()

    @property
    def space(self) -> str:
        """The search space whose architectures the network is made of."""
        return self.network.space

    @property
    def resolution(self) -> int:
        """Side of the input image in pixels."""
        return self.network.resolution

    @property
    def classes(self) -> int:
        """Width of the classifier."""
        return self.network.classes

    @property
    def batch(self) -> int:
        """Images per run."""
        return self.run.batch

    @property
    def precision(self) -> str:
        """Arithmetic of the run."""
        return self.run.precision

    @property
    def memory_format(self) -> str:
        """Layout of weights and activations."""
        return self.run.memory_format

    @property
    def slug(self) -> str:
        """A short, unique, file-system-safe name; its parts are every field of the setting."""
        return f"{self.network.slug(self.batch)}-{self.precision}-{self.memory_format}"

    def replace(self, **changes: int | str) -> Setting:
        """The setting with other values of fields of the network or of the run.

        Raises:
            InputError: a field is unknown, or a value does not fit.
        """
        fields = {**dataclasses.asdict(self.network), **dataclasses.asdict(self.run)}
        _check_fields(changes, {name: type(value).__name__ for name, value in fields.items()})
        of_run = {n: v for n, v in changes.items() if hasattr(self.run, n)}
        of_network = {n: v for n, v in changes.items() if n not in of_run}
        return Setting(
            dataclasses.replace(self.network, **of_network),  # type: ignore[arg-type]
            dataclasses.replace(self.run, **of_run),  # type: ignore[arg-type]
        )

    def with_text(self, changes: str) -> Setting:
        """The setting changed by ``field=value,...``, as on the command line.

        Raises:
            InputError: a field is unknown, or a value does not fit.
        """
        fields = {**dataclasses.asdict(self.network), **dataclasses.asdict(self.run)}
        values: dict[str, int | str] = {}
        for change in filter(None, (part.strip() for part in changes.split(","))):
            name, _, value = change.partition("=")
            known = self.network.constants.get(name)
            if known is not None and value == str(known):
                continue
            if name not in fields or not value:
                raise InputError(
                    f"{change!r} is not field=value", f"the fields are {', '.join(fields)}"
                )
            is_number = isinstance(fields[name], int)
            if is_number and not value.isdecimal():
                raise InputError(f"{name}={value!r} is not a whole number", "write e.g. batch=32")
            values[name] = int(value) if is_number else value
        return self.replace(**values)

    def to_dict(self) -> dict[str, Any]:
        """All fields of network and run in one mapping, as files have them."""
        return {**self.network.to_dict(), **dataclasses.asdict(self.run)}

    @classmethod
    def from_dict(cls, config: type[NetworkConfig], values: Mapping[str, Any]) -> Setting:
        """A setting from a file's fields.

        Args:
            config: of the space that the setting is of.
            values: see :meth:`to_dict`.

        Raises:
            InputError: a field is unknown, missing or of the wrong type.
        """
        _check_object(values)
        names = {field.name for field in dataclasses.fields(RunConfig)}
        run = {name: value for name, value in values.items() if name in names}
        network = {name: value for name, value in values.items() if name not in names}
        return cls(config.from_dict(network), _from_fields(RunConfig, run))


def _check_object(values: object) -> None:
    if not isinstance(values, Mapping):
        raise InputError(f"{values!r:.40} is no setting", "write its fields as an object")


def _check_fields(values: Mapping[str, Any], types: Mapping[str, str]) -> None:
    for name, value in values.items():
        if name not in types or type(value).__name__ != types[name]:
            raise InputError(
                f"{name}={value!r} is not a field of this setting",
                f"the fields are {', '.join(f'{k} ({v})' for k, v in types.items())}",
            )


def _from_fields(cls: type[Any], values: Mapping[str, Any]) -> Any:
    # Annotations are texts: modules of configurations postpone their evaluation.
    _check_fields(values, {field.name: str(field.type) for field in dataclasses.fields(cls)})
    missing = [field.name for field in dataclasses.fields(cls) if field.name not in values]
    if missing:
        raise InputError(f"the setting is incomplete: it lacks {', '.join(missing)}", "add them")
    return cls(**values)
