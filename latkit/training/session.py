"""What the trainings of one folder have in common.

The folder holds ``config.json``, a folder ``seed-N`` for each seed and, once a seed is done,
``training.json``.
"""

from __future__ import annotations

import json
from typing import Any

from latkit.training.data import TrainingData
from latkit.training.request import TrainingPlan


def identity(plan: TrainingPlan, data: TrainingData) -> dict[str, Any]:
    """What two trainings of one folder have in common, as JSON; their seeds may differ."""
    content: dict[str, Any] = json.loads(
        json.dumps(
            {
                "space": plan.space.name,
                "genotype": str(plan.architecture),
                "network": plan.network.to_dict(),
                "config": plan.config.to_dict(),
                "data": data.identity(),
            }
        )
    )
    return content
