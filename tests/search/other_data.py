"""``latkit`` started by torchrun, where the second process finds other data by the same name."""

from __future__ import annotations

import os
import sys

from latkit.cli.main import main

if __name__ == "__main__":
    if os.environ["RANK"] == "1":
        sys.argv[sys.argv.index("--data") + 1] = "other"
    main()
