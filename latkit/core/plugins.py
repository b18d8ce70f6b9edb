"""The one way in which latkit is extended: named classes, latkit's own and other distributions'."""

from __future__ import annotations

import difflib
import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from latkit.core.errors import InputError, LatkitError

T = TypeVar("T")


class PluginError(LatkitError):
    """A plug-in of another distribution that does not load or is not what it has to be."""

    code = "plug-in"


class Variants(ABC, Generic[T]):
    """Classes of latkit's own that differ by a parameter, which a user writes in the name."""

    @abstractmethod
    def names(self) -> list[str]:
        """Of those that are found on this machine."""

    @abstractmethod
    def covers(self, name: str) -> bool:
        """Whether a name is that of a variant, found here or not."""

    @abstractmethod
    def make(self, name: str) -> type[T]:
        """The class of a name that :meth:`covers` takes.

        Raises:
            InputError: the parameter cannot be one.
        """


class Plugins(Generic[T]):
    """Classes of one kind by name.

    latkit's own register themselves by the decorator :meth:`register`, in modules that are imported
    when the name is first used. Other distributions name theirs by an entry point: its name is the
    plug-in's, and its value is the class.

    Args:
        kind: what they are, for messages, e.g. ``backend``.
        group: of the entry points, e.g. ``latkit.backends``.
        base: what every class has to inherit from.
        own: of latkit's own, the module that registers each name, in the order in which they are
            listed.
        error: raised where a plug-in does not load.
        listed_by: the command that lists them, for messages.
        unlisted: of latkit's own, those that can be had by name and are not among the names: users
            have no choice of them.
        variants: latkit's own classes whose names have a parameter.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        base: type[T],
        own: Mapping[str, str],
        error: type[LatkitError] = PluginError,
        listed_by: str = "",
        unlisted: Mapping[str, str] | None = None,
        variants: Variants[T] | None = None,
    ) -> None:
        self.kind, self.group = kind, group
        self._base, self._own, self._error = base, dict(own), error
        self._unlisted = dict(unlisted or {})
        self._listed_by, self._variants = listed_by, variants
        self._classes: dict[str, type[T]] = {}
        self._points: dict[str, EntryPoint] | None = None

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Decorate one of latkit's own classes, in the module that the table names."""

        def add(cls: type[T]) -> type[T]:
            self._classes[name] = cls
            return cls

        return add

    def names(self) -> list[str]:
        """All names: latkit's own in their order, then the plug-ins', whether they load or not."""
        variants = self._variants.names() if self._variants is not None else []
        return [*dict.fromkeys([*self._own, *variants]), *sorted(self._entry_points())]

    def is_own(self, name: str) -> bool:
        """Whether latkit has it itself."""
        return name in self._own

    def get(self, name: str) -> type[T]:
        """The class of a name.

        Raises:
            InputError: there is none.
            LatkitError: it is a plug-in that does not load, or not what it has to be.
        """
        if name not in self._classes:
            if name in self._unlisted:
                importlib.import_module(self._unlisted[name])
            elif name in self._own:
                importlib.import_module(self._own[name])
            elif name in self._entry_points():
                self._classes[name] = self._load(self._entry_points()[name])
            elif self._variants is not None and self._variants.covers(name):
                self._classes[name] = self._variants.make(name)
            else:
                raise self.unknown(name)
        return self._classes[name]

    def unknown(self, name: str) -> InputError:
        """What to raise for a name that is not there."""
        known = self.names()
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        listing = f" (see {self._listed_by})" if self._listed_by else ""
        return InputError(
            f"unknown {self.kind} {name!r}", f"{hint}use one of: {', '.join(known)}{listing}"
        )

    def check(self, name: str) -> None:
        """Raises: InputError: there is no such name."""
        if name in {*self._own, *self._unlisted} or name in self._entry_points():
            return
        if self._variants is None or not self._variants.covers(name):
            raise self.unknown(name)

    def broken(self) -> dict[str, LatkitError]:
        """The plug-ins that do not load, with their reasons."""
        errors: dict[str, LatkitError] = {}
        for name in self._entry_points():
            try:
                self.get(name)
            except LatkitError as error:
                errors[name] = error
        return errors

    def refresh(self) -> None:
        """Forget the plug-ins of other distributions, to find those that are installed now."""
        self._points = None
        kept = {*self._own, *self._unlisted}
        self._classes = {name: cls for name, cls in self._classes.items() if name in kept}

    def _entry_points(self) -> dict[str, EntryPoint]:
        """Of other distributions; they cannot take the name of one of latkit's own."""
        if self._points is None:
            found = entry_points(group=self.group)
            taken = {*self._own, *self._unlisted}
            self._points = {point.name: point for point in found if point.name not in taken}
        return self._points

    def _load(self, point: EntryPoint) -> type[T]:
        origin = f"plug-in {point.name} ({point.value}"
        origin += f" of {point.dist.name} {point.dist.version})" if point.dist else ")"
        fix = "mend or uninstall the plug-in"
        try:
            cls = point.load()
        except Exception as error:  # anything at all may go wrong in somebody else's module
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise self._error(f"{origin} does not load: {reason}", fix) from error
        if not (isinstance(cls, type) and issubclass(cls, self._base)):
            raise self._error(f"{origin} is not a {_name_of(self._base)}", fix)
        if inspect.isabstract(cls):
            lacking = ", ".join(sorted(getattr(cls, "__abstractmethods__", ())))
            raise self._error(f"{origin} lacks {lacking}", fix)
        own_name = getattr(cls, "name", point.name)
        if isinstance(own_name, str) and own_name != point.name:
            raise self._error(f"{origin} calls itself {own_name!r}", fix)
        return cls


def _name_of(cls: type) -> str:
    module = cls.__module__
    # The public package, not the module in it that holds the base class.
    return f"{module.removesuffix('.base')}.{cls.__name__}"
