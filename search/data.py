"""Images to search on, held in memory as bytes, and their batches."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from latkit.core.errors import InputError, from_os_error
from latkit.core.events import Listener, Progress
from latkit.search.image_source import DataOptions, ImageData, ImageSource, find_source
from latkit.search.images import ImageListing, decode_image, listed, scale_images

__all__ = [
    "DataOptions",
    "ImageData",
    "batches",
    "epoch_generator",
    "load_data",
    "load_noted",
    "load_split",
    "split_halves",
]

# Pixels of a side that images of files are scaled to, unless another resolution is given.
RESOLUTION = 32
# Of a side: nobody searches on more, and a system may kill a process that allocates too much.
_MOST_PIXELS = 4096
# Of a source without test images, one in so many is held out; which ones never changes.
HELD_OUT = 5
_SPLIT_SEED = 0


def load_data(
    source: str,
    limit: int | None,
    seed: int,
    options: DataOptions | None = None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> ImageData:
    """Load training images.

    Args:
        source: the name of one of ``IMAGE_SOURCES``, or a path that one of them recognises.
        limit: use this many images, drawn at random with ``seed``; None for all.
        seed: of the draw, and of the images' order.
        options: how they are read.
        on_image: called with how many images of files are decoded, and of how many.

    Raises:
        InputError: the source is unknown, empty, unreadable, or nothing can be learnt from it.
        LatkitError: a file cannot be read.
    """
    options = options or DataOptions()
    with _loading(source, options) as origin:
        images = origin.open(source, options)
        chosen = _choose(_count(images), limit, seed)
        return _checked(_taken(images, chosen, options, on_image))


def load_noted(
    source: str, limit: int | None, seed: int, options: DataOptions, listener: Listener
) -> ImageData:
    """:func:`load_data` with progress, and with warnings about what was left out."""
    listener.note(f"reading images of {source}")

    def report(done: int, total: int) -> None:
        if done < total:  # what is noted next stands for the last one
            listener.progress(Progress("images", done, total))

    try:
        data = load_data(source, limit, seed, options, report)
    finally:
        listener.end_progress()
    for remark in data.remarks:
        listener.warn(remark)
    return data


def load_split(
    source: str,
    limit: int | None = None,
    options: DataOptions | None = None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[ImageData, ImageData]:
    """Load training and test images; what is drawn is drawn with a fixed seed.

    Of a named source that has no test images a fixed fifth of all images is held out, and a remark
    of the test images says so.

    Args:
        source: as in :func:`load_data`.
        limit: use this many training images, drawn at random; None for all. Test images are never
            limited.
        options: how they are read.
        on_image: called with how many images of files of a split are decoded, and of how many.

    Returns:
        Both with the class names, and the labels, of the training images.

    Raises:
        InputError: as in :func:`load_data`; or there are no test images, or some of a class that
            no training image has.
        LatkitError: a file cannot be read.
    """
    options = options or DataOptions()
    with _loading(source, options) as origin:
        images, tests = origin.open(source, options), origin.open_test(source, options)
        order, remark = _choose(_count(images), None, _SPLIT_SEED), None
        if tests is None:
            held_out = len(order) // HELD_OUT
            remark = (
                f"{images.name} has no test images: {held_out} of its {len(order)} images, always "
                "the same ones, are held out"
            )
            tests, test_order, order = images, order[:held_out], order[held_out:]
        else:
            test_order = torch.arange(_count(tests))
        if not len(test_order):
            raise InputError(f"{tests.name} holds no test images", "choose other data")
        train = _checked(_taken(images, order[:limit], options, on_image))
        test = _relabelled(_taken(tests, test_order, options, on_image), train.class_names)
        return train, test if remark is None else dataclasses.replace(
            test, remarks=(*test.remarks, remark)
        )


@contextmanager
def _loading(source: str, options: DataOptions) -> Iterator[ImageSource]:
    """The source of what is loaded meanwhile; errors of files and memory become one line.

    Raises:
        InputError: the source is unknown, or an option does not fit it.
        LatkitError: a file cannot be read.
    """
    side = options.resolution
    if side is not None and (side % 4 or not 4 <= side <= _MOST_PIXELS):
        raise InputError(
            f"images of {side}x{side} pixels fit no network of cells",
            f"use a --resolution from 4 to {_MOST_PIXELS} that is a multiple of 4 (a cell network "
            "halves it twice)",
        )
    try:
        origin = find_source(source)
        if not origin.has_columns and (options.image_column or options.label_column):
            raise InputError(
                f"{source} has no columns",
                "leave out --image-column and --label-column, which are for Parquet files",
            )
        yield origin
    except OSError as error:
        raise from_os_error(error, f"read {source}", "nothing was changed") from None
    except MemoryError:
        raise InputError(
            f"memory ran out while the images of {source} were read",
            "use a smaller --limit or --resolution",
        ) from None


def split_halves(data: ImageData, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the images that train the weights, and of the others."""
    generator = torch.Generator().manual_seed(seed)
    split = torch.randperm(len(data.labels), generator=generator)
    half = len(data.labels) // 2
    return split[:half], split[half:]


def epoch_generator(seed: int, epoch: int, stream: int = 0) -> torch.Generator:
    """One of an epoch's three streams of random numbers; the first is of the weights' batches.

    They are distinct for any realistic number of epochs, and the same after a resume.
    """
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) * 3 + stream)


def batches(
    data: ImageData,
    indices: Tensor,
    batch: int,
    normalisation: tuple[Tensor, Tensor],
    generator: torch.Generator,
    skip: int = 0,
    share: tuple[int, int] = (0, 1),
) -> Iterator[tuple[Tensor, Tensor]]:
    """One shuffled pass over ``data[indices]`` in full batches, augmented and normalised.

    Augmentation is the field's: a random crop after padding by an eighth, and a mirror where
    the classes allow it. Everything random comes from ``generator``, and what is drawn depends
    neither on ``skip`` nor on ``share``.

    Args:
        data: the images.
        indices: those to pass over.
        batch: images of a batch, over all processes.
        normalisation: see :meth:`ImageData.normalisation`.
        generator: source of randomness.
        skip: batches at the beginning that were used before and are left out.
        share: (rank, processes): yield this process's equal part of each batch only.

    Yields:
        Images (``B x C x H x W`` float32, channels last) and labels.
    """
    rank, processes = share
    share_of_batch = slice(rank * batch // processes, (rank + 1) * batch // processes)
    mean, std = normalisation
    height, width = data.images.shape[2:]
    pad = max(1, height // 8)
    shuffled = indices[torch.randperm(len(indices), generator=generator)]
    for number in range(len(shuffled) // batch):
        chosen = shuffled[number * batch : (number + 1) * batch][share_of_batch]
        # Drawn for the whole batch, and for skipped ones too: then every process, and a search
        # that goes on in the middle of an epoch, sees what it would have seen.
        offsets = torch.randint(0, 2 * pad + 1, (2, batch), generator=generator)[:, share_of_batch]
        mirrored = torch.rand(batch, generator=generator)[share_of_batch] < 0.5
        if number < skip:
            continue
        x = (data.images[chosen].float() - mean) / std
        x = torch.nn.functional.pad(x, (pad, pad, pad, pad))
        rows = offsets[0, :, None] + torch.arange(height)
        columns = offsets[1, :, None] + torch.arange(width)
        if data.flip:
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        image = torch.arange(len(chosen))[:, None, None]
        # Indices on both sides of the channel slice put channels last in memory.
        cropped = x[image, :, rows[:, :, None], columns[:, None, :]]
        yield cropped.permute(0, 3, 1, 2), data.labels[chosen]


def _count(images: ImageData | ImageListing) -> int:
    return len(images.labels)


def _taken(
    images: ImageData | ImageListing,
    chosen: Tensor,
    options: DataOptions,
    on_image: Callable[[int, int], None],
) -> ImageData:
    """Some images in the order chosen: decoded and scaled; those in memory only if asked to."""
    if isinstance(images, ImageListing):
        return _decoded(images, chosen, options, on_image)
    pixels = images.images[chosen]
    if options.resolution is not None:
        pixels = scale_images(pixels, options.resolution)
    return dataclasses.replace(
        images, images=pixels, labels=images.labels[chosen], flip=images.flip and options.flip
    )


def _decoded(
    listing: ImageListing,
    chosen: Tensor,
    options: DataOptions,
    on_image: Callable[[int, int], None],
) -> ImageData:
    from PIL.Image import DecompressionBombWarning

    side = options.resolution or RESOLUTION
    images = np.empty((len(chosen), 3, side, side), dtype=np.uint8)
    with warnings.catch_warnings():
        # Of images half as large as those that are refused.
        warnings.simplefilter("ignore", DecompressionBombWarning)
        # Of damaged tags beside an image that can be read.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        contents = listing.contents(chosen.tolist())
        for done, (place, content, name) in enumerate(contents, start=1):
            images[place] = decode_image(content, name, side).transpose(2, 0, 1)
            on_image(done, len(chosen))
    labels = torch.from_numpy(listing.labels)[chosen]
    return ImageData(
        listing.name, torch.from_numpy(images), labels, listing.class_names, options.flip,
        listing.remarks,
    )  # fmt: skip


def _relabelled(data: ImageData, class_names: tuple[str, ...]) -> ImageData:
    """The images with the labels of other class names, among which their own are.

    Raises:
        InputError: a class is not among them.
    """
    unknown = [name for name in data.class_names if name not in class_names]
    if unknown:
        raise InputError(
            f"{data.name} has test images of classes that no training image has: {listed(unknown)}",
            "leave those test images out, or pass the whole training split",
        )
    place = torch.tensor([class_names.index(name) for name in data.class_names])
    return dataclasses.replace(data, labels=place[data.labels], class_names=class_names)


def _choose(available: int, limit: int | None, seed: int) -> Tensor:
    order = torch.randperm(available, generator=torch.Generator().manual_seed(seed))
    return order if limit is None else order[:limit]


def _checked(data: ImageData) -> ImageData:
    """The data, with a remark if ``--limit`` left classes without images.

    Raises:
        InputError: nothing can be learnt from it.
    """
    images = len(data.labels)
    if images == 0:
        raise InputError(f"{data.name} holds no images", "choose other data")
    counts = torch.bincount(data.labels, minlength=data.classes).tolist()
    names = list(zip(data.class_names, counts, strict=True))
    present = [name for name, count in names if count]
    if len(present) < 2:
        raise InputError(
            f"the {images} images of {data.name} are of 1 class ({present[0]})",
            "use data with at least two classes, or a larger --limit",
        )
    if data.is_constant():
        raise InputError(
            f"the {images} images of {data.name} are all the same, pixel by pixel",
            "look at one of them; content that is only transparent white on white, or in 16 bits "
            "of which the upper 8 are 0, is lost",
        )
    if len(present) == data.classes:
        return data
    absent = [name for name, count in names if not count]
    remark = (
        f"{len(absent)} of the {data.classes} classes of {data.name} have none of the {images} "
        f"images: {listed(absent)}; use a larger --limit"
    )
    return dataclasses.replace(data, remarks=(*data.remarks, remark))
