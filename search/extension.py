"""More epochs for a search that is finished."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from latkit.core.errors import SearchError
from latkit.search.checkpoint import finished_epochs
from latkit.search.collapse import last_good_epoch
from latkit.search.history import read_history
from latkit.search.supernet import Supernet
from latkit.spaces import SearchSpace


def is_extension(
    out: Path,
    content: Mapping[str, Any],
    earlier: Mapping[str, Any],
    space: SearchSpace,
    supernet: type[Supernet],
) -> bool:
    """Whether a search goes on with the finished one in a folder, for more epochs.

    Args:
        out: the folder.
        content: of its ``config.json`` as the search would write it.
        earlier: what is in it.
        space: that is searched.
        supernet: of the search's method.

    Raises:
        SearchError: the earlier search is not finished, or it was ended by a collapse.
    """
    wanted, planned = content["epochs"], earlier.get("epochs")
    if {**earlier, "epochs": wanted} != content or not isinstance(planned, int):
        return False
    if wanted <= planned:
        return False
    done = finished_epochs(out)
    # Before anything is written: without its history the search cannot go on.
    history = read_history(out, done, supernet.alpha_names)
    good = last_good_epoch(history, content["warmup_epochs"], space, supernet.most_skips)
    if content["stop_on_collapse"] and good is not None:
        raise SearchError(
            f"the search in {out} was ended by a collapse in epoch {done}",
            f"repeat it with --epochs {planned} for its result, or choose another --out",
        )
    if done < planned:
        raise SearchError(
            f"the search in {out} has finished {done} of its {planned} epochs, and only a finished "
            "one can be given more",
            f"finish it with --epochs {planned} first, or choose another --out",
        )
    return True
