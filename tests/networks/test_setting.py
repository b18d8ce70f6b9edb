"""Settings: presets, changes, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest

from latkit.errors import InputError
from latkit.networks.setting import PRESETS, Setting, parse_setting


def test_presets_are_the_papers() -> None:
    imagenet = PRESETS["imagenet"]
    assert (imagenet.cells, imagenet.channels, imagenet.resolution) == (14, 48, 224)
    assert imagenet.reduction_indices == (4, 9)
    cifar = PRESETS["cifar"]
    assert (cifar.cells, cifar.channels, cifar.batch) == (20, 36, 32)
    assert cifar.reduction_indices == (6, 13)


def test_changes() -> None:
    setting = parse_setting("imagenet, batch=32,memory_format=nchw")
    assert setting == dataclasses.replace(PRESETS["imagenet"], batch=32, memory_format="nchw")
    assert setting == PRESETS["paper"]


@pytest.mark.parametrize(
    "text",
    ["nope", "imagenet,batch", "imagenet,batch=0", "imagenet,batch=x", "imagenet,size=3",
     "imagenet,resolution=100", "imagenet,channels=7", "imagenet,precision=fp8",
     "imagenet,reduction=nope", "imagenet,macro=mobile", "cifar,memory_format=nhwc",
     "cifar,batch=²"],
)  # fmt: skip
def test_wrong_settings_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_setting(text)


def test_every_field_is_in_the_slug() -> None:
    base = PRESETS["imagenet"]
    changes = {
        "macro": "cifar", "cells": 15, "channels": 50, "resolution": 256, "batch": 2,
        "classes": 10, "reduction": "gdas", "memory_format": "nchw", "precision": "fp16",
    }  # fmt: skip
    assert {f.name for f in dataclasses.fields(Setting)} == set(changes)
    for name, value in changes.items():
        assert dataclasses.replace(base, **{name: value}).slug != base.slug


def test_dictionary_round_trip() -> None:
    for setting in PRESETS.values():
        assert Setting.from_dict(setting.to_dict()) == setting
    good = PRESETS["tiny"].to_dict()
    for bad in ({**good, "batch": "1"}, {**good, "more": 1}, {**good, "batch": True}):
        with pytest.raises(InputError, match="is not a field of a setting"):
            Setting.from_dict(bad)
    del good["cells"]
    with pytest.raises(InputError, match="incomplete"):
        Setting.from_dict(good)
