"""Images of a path: a folder with a folder a class, or Parquet files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from latkit.core.errors import InputError
from latkit.core.files import expand_user
from latkit.search.image_folder import FolderListing, find_test_folders, text_of
from latkit.search.image_parquet import ParquetListing, find_parquet, find_test_parquet
from latkit.search.image_source import IMAGE_SOURCES, PATHS, DataOptions, ImageSource
from latkit.search.images import ImageListing, listed


@IMAGE_SOURCES.register("parquet")
class ParquetSource(ImageSource):
    """A Parquet file in a layout of the Hugging Face hub."""

    of_paths = True
    has_columns = True

    def recognises(self, path: str) -> bool:
        file = expand_user(path)
        return file.is_file() and file.suffix.lower() == ".parquet"

    def open(self, source: str, options: DataOptions) -> ImageListing:
        path = expand_user(source)
        return ParquetListing([path], text_of(path), options.image_column, options.label_column)

    def open_test(self, source: str, options: DataOptions) -> ImageListing:
        path = expand_user(source)
        return _test_listing(path.parent, [path], options)


@IMAGE_SOURCES.register("folder")
class FolderSource(ImageSource):
    """A folder with Parquet files of the training split, or with a folder of images a class."""

    of_paths = True
    has_columns = True

    def recognises(self, path: str) -> bool:
        return expand_user(path).is_dir()

    def open(self, source: str, options: DataOptions) -> ImageListing:
        path = expand_user(source)
        name, columns = text_of(path), (options.image_column, options.label_column)
        if files := find_parquet(path, named_training=True):
            return ParquetListing(files, name, *columns)
        folders = FolderListing(path)
        if folders.class_names:
            if any(columns):
                raise InputError(
                    f"{name} is a folder of images, which have no columns",
                    "leave out --image-column and --label-column",
                )
            return folders
        if files := find_parquet(path, named_training=False):
            return ParquetListing(files, name, *columns)
        raise InputError(
            f"{name} holds neither train*.parquet nor folders of images",
            f"pass the name of a data set, {PATHS}",
        )

    def open_test(self, source: str, options: DataOptions) -> ImageListing:
        path = expand_user(source)
        if files := find_parquet(path, named_training=True):
            return _test_listing(path, files, options)
        if folders := find_test_folders(path):
            return FolderListing(folders[0])
        raise _no_test_images(path)


def _test_listing(folder: Path, training: Sequence[Path], options: DataOptions) -> ParquetListing:
    """The images of the first of a data set's test splits that has labels.

    Args:
        folder: holds the data set.
        training: the files of its training split.

    Raises:
        InputError: there is none.
    """
    splits = find_test_parquet(folder, training)
    for number, files in enumerate(splits, start=1):
        try:
            name = listed([text_of(file) for file in files])
            listing = ParquetListing(files, name, options.image_column, options.label_column)
            if number > 1:
                listing.remarks += (f"the test split has no labels: {name} is tested on",)
            return listing
        except InputError:  # e.g. ImageNet's on the hub, whose labels are all -1
            if number == len(splits):
                raise
    raise _no_test_images(folder)


def _no_test_images(folder: Path) -> InputError:
    return InputError(
        f"{text_of(folder)} has no test images beside the training images",
        "put test.parquet beside train.parquet, or a folder test, with one folder of images per "
        "class, beside the folder train",
    )
