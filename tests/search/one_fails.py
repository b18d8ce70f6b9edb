"""``latkit`` started by torchrun, where the second process finds another registry, an empty one."""

from __future__ import annotations

import os

from latkit.cli.main import main

if __name__ == "__main__":
    if os.environ["RANK"] == "1":
        os.environ["LATKIT_REGISTRY"] = "empty"
    main()
