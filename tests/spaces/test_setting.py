"""Settings: presets, changes, and what is refused."""

from __future__ import annotations

import json

import pytest

from latkit.core.errors import InputError
from latkit.spaces import Setting, get_preset, parse_setting, preset_names


def test_presets_are_the_papers() -> None:
    imagenet = get_preset("imagenet")
    assert (imagenet.network.cells, imagenet.network.channels, imagenet.resolution) == (14, 48, 224)
    assert imagenet.network.reduction_indices == (4, 9)
    cifar = get_preset("cifar")
    assert (cifar.network.cells, cifar.network.channels, cifar.batch) == (20, 36, 32)
    assert cifar.network.reduction_indices == (6, 13)


def test_changes() -> None:
    setting = parse_setting("imagenet, batch=32,memory_format=nchw")
    assert setting == get_preset("imagenet").replace(batch=32, memory_format="nchw")
    assert setting == get_preset("paper")


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
    base = get_preset("imagenet")
    changes = {
        "macro": "cifar", "cells": 15, "channels": 50, "resolution": 256, "batch": 2,
        "classes": 10, "reduction": "gdas", "memory_format": "nchw", "precision": "fp16",
    }  # fmt: skip
    assert set(base.to_dict()) == set(changes)
    for name, value in changes.items():
        assert base.replace(**{name: value}).slug != base.slug


@pytest.mark.parametrize("name", preset_names())
def test_dictionary_round_trip(name: str) -> None:
    setting = get_preset(name)
    config = type(setting.network)
    assert Setting.from_dict(config, json.loads(json.dumps(setting.to_dict()))) == setting
    good = setting.to_dict()
    for bad in ({**good, "batch": "1"}, {**good, "more": 1}, {**good, "batch": True}):
        with pytest.raises(InputError, match="is not a field of this setting"):
            Setting.from_dict(config, bad)
    del good["resolution"]
    with pytest.raises(InputError, match="incomplete"):
        Setting.from_dict(config, good)


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("cifar", "cifar-l20-c36-r32-b32-k10-darts_v2-fp32-channels_last"),
        ("nasbench201", "nasbench201-l15-c16-r32-b1-k10-none-fp32-channels_last"),
        ("fbnet", "fbnet-l22-c16-r224-b1-k1000-none-fp32-channels_last"),
    ],
)
def test_files_of_earlier_versions(name: str, slug: str) -> None:
    """Fields and folders are named as they were when all spaces shared one class."""
    fields = {
        "cifar": {"macro": "cifar", "cells": 20, "channels": 36, "resolution": 32, "batch": 32,
                  "classes": 10, "reduction": "darts_v2"},
        "nasbench201": {"macro": "nasbench201", "cells": 15, "channels": 16, "resolution": 32,
                        "batch": 1, "classes": 10, "reduction": "none"},
        "fbnet": {"macro": "fbnet", "cells": 22, "channels": 16, "resolution": 224, "batch": 1,
                  "classes": 1000, "reduction": "none"},
    }[name] | {"precision": "fp32", "memory_format": "channels_last"}  # fmt: skip
    setting = get_preset(name)
    assert setting.to_dict() == fields
    assert setting.slug == slug
    with pytest.raises(InputError, match="macro"):
        Setting.from_dict(type(setting.network), {**fields, "macro": "another"})


def test_constants_may_be_written() -> None:
    text = "nasbench201,macro=nasbench201,cells=6,reduction=none"
    assert parse_setting(text) == get_preset("nasbench201").replace(cells=6)
    with pytest.raises(InputError, match="field=value"):
        parse_setting("nasbench201,reduction=gdas")
