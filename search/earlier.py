"""A search that another one begins with: what is taken from it, and what has to be as it was."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latkit.core.errors import InputError, SearchError
from latkit.core.requests import check_types
from latkit.search.claim import CONFIG, read_config
from latkit.search.config import SearchConfig
from latkit.search.identity import named_differences
from latkit.search.image_source import ImageData
from latkit.search.oneshot import ONE_SHOT
from latkit.search.optimizers import OptimizerConfig
from latkit.search.start import Start

# Of the earlier search's epochs; it has moved weights and α most of the way.
EPOCHS_SHARE, LEAST_EPOCHS = 10, 2
# The shape of the supernet, and which images train its weights.
_FIXED = ("cells", "channels", "limit", "seed")


@dataclass(frozen=True)
class EarlierSearch:
    """A finished or interrupted search, as its ``config.json`` has it.

    Attributes:
        folder: of it.
        space: that was searched; None: the file does not name it.
        config: of it; its ``start`` is not read.
        data: identity of its images.
        lpm: what it was searched with.
    """

    folder: Path
    space: str | None
    config: SearchConfig
    data: Mapping[str, Any]
    lpm: str

    @classmethod
    def read(cls, folder: Path) -> EarlierSearch:
        """The search in a folder.

        Raises:
            InputError: there is none, or a one-shot search.
            SearchError: its ``config.json`` is corrupt.
            LatkitError: that cannot be read.
        """
        path = folder / CONFIG
        if not path.exists():
            raise InputError(
                f"{folder} holds no search (it has no {CONFIG})",
                "name the folder of a search; of a sweep that of one of its searches",
            )
        content = read_config(path, SearchError)
        if content.get("method") == ONE_SHOT:
            raise InputError(
                f"{folder} holds a one-shot search, which has no alpha",
                "leave it to latkit retarget, or name the folder of another search",
            )
        try:
            names = {field.name for field in dataclasses.fields(SearchConfig)} - {"start"}
            values = {name: value for name, value in content.items() if name in names}
            optimizer = {**values["optimizer"]}
            optimizer["arch_betas"] = tuple(optimizer["arch_betas"])
            check_types(OptimizerConfig, optimizer)
            values |= {"optimizer": OptimizerConfig(**optimizer), "also": tuple(values["also"])}
            check_types(SearchConfig, values)
            return cls(folder, content.get("space"), SearchConfig(**values), {**content["data"]},
                       str(content["lpm"]))  # fmt: skip
        except (InputError, KeyError, TypeError, ValueError):
            raise InputError(
                f"{path} is not that of a search",
                "name the folder of a search; of a sweep that of one of its searches",
            ) from None

    def usual(self) -> SearchConfig:
        """What a search that begins with this one has unless other values are given.

        All is as it was but what the search was for, and how long it took: weights are frozen, so
        that there is neither a second order nor a warm-up, and epochs are few.
        """
        config, paper = self.config, SearchConfig()
        return dataclasses.replace(
            config,
            start=Start.of(self.folder),
            cost=paper.cost,
            also=paper.also,
            lambda_per_ms=paper.lambda_per_ms,
            target_ms=paper.target_ms,
            order=1,
            warmup_epochs=0,
            epochs=max(LEAST_EPOCHS, config.epochs // EPOCHS_SHARE),
            optimizer=dataclasses.replace(config.optimizer, weight_lr=0.0),
        )

    def check(self, space: str, changes: Mapping[str, Any]) -> None:
        """Refuse what cannot be another than it was.

        Args:
            space: that is to be searched.
            changes: values of the configuration, ``method`` among them where it is given.

        Raises:
            InputError: one of them is another.
        """
        if self.space is not None and space != self.space:
            raise InputError(
                f"{self.folder} holds a search of the space {self.space}, not {space}",
                f"use --space {self.space}",
            )
        for name in ("method", *_FIXED):
            before = getattr(self.config, name)
            if changes.get(name, before) != before:
                raise InputError(
                    f"{self.folder} was searched with {name}={before}, and what begins with it "
                    f"cannot have {name}={changes[name]}",
                    f"leave out --{name}, or search without --from",
                )

    def check_data(self, data: ImageData) -> None:
        """Raises: InputError: other images: what trained the weights may be in α's half of them."""
        changed = named_differences({"data": data.identity()}, {"data": self.data})
        if changed:
            raise InputError(
                f"{self.folder} was searched on other images (now / then: {'; '.join(changed)})",
                "use the --data of that search, with the same options, or search without --from",
            )
