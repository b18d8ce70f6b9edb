"""Images of a path: a folder with a folder a class, or Parquet files."""

from __future__ import annotations

from latkit.core.errors import InputError
from latkit.core.files import expand_user
from latkit.search.image_folder import FolderListing, text_of
from latkit.search.image_parquet import ParquetListing, find_parquet
from latkit.search.image_source import IMAGE_SOURCES, PATHS, DataOptions, ImageSource
from latkit.search.images import ImageListing


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
