"""Fields of requests: what a caller may give for them."""

from __future__ import annotations

import pytest

from latkit.core.errors import InputError
from latkit.core.requests import check_types
from latkit.search.request import SearchRequest
from latkit.tasks.measure_request import MeasureRequest
from latkit.tasks.profile import ProfileRequest
from latkit.tasks.retarget_request import RetargetRequest


def test_one_number_stands_for_a_sequence_of_one() -> None:
    check_types(RetargetRequest, {"max_ms": 5.0, "target_ms": 3})
    assert RetargetRequest("run", device=("a", "b"), max_ms=5.0).max_ms == (5.0, 5.0)  # type: ignore[arg-type]
    check_types(ProfileRequest, {"cores": 1})
    assert ProfileRequest(cores=1).cores == (1,)  # type: ignore[arg-type]
    check_types(MeasureRequest, {"batch": 8, "cores": 0, "what": "darts_v2"})
    assert MeasureRequest("darts_v2", batch=8, cores=0).batch == (8,)  # type: ignore[arg-type]
    check_types(SearchRequest, {"sweep_target_ms": 8.0, "also": "t4"})
    assert SearchRequest(device="p100", sweep_target_ms=8.0).sweep_target_ms == (8.0,)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cls", "fields"),
    [
        (RetargetRequest, {"max_ms": "5"}),
        (RetargetRequest, {"device": 5}),
        (RetargetRequest, {"max_ms": None}),
        (ProfileRequest, {"cores": 1.5}),
        (ProfileRequest, {"n": "3"}),
    ],
)
def test_another_type_is_refused(cls: type, fields: dict[str, object]) -> None:
    with pytest.raises(InputError):
        check_types(cls, fields)
