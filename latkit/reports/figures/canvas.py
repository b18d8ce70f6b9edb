"""A picture as a file: SVG, PNG or PDF, by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latkit.reports.figures.picture import ROLES, Box, Disc, Item, Label, Line, Picture, Shape

SUFFIXES = (".svg", ".png", ".pdf")
# Pixels of a picture in an inch, and dots of a PNG in an inch: two a pixel.
PX, DPI = 96.0, 192
POINT = 72 / PX


def write_picture(picture: Picture, path: Path, format: str, title: str) -> None:
    """Write a picture on white; the same picture makes the same file.

    Args:
        picture: what is written.
        path: of the file.
        format: ``svg``, ``png`` or ``pdf``.
        title: of the document, in the file's metadata.

    Raises:
        OSError: the file cannot be written.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(picture.width / PX, picture.height / PX), facecolor=ROLES["paper"])
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, picture.width)
    axes.set_ylim(picture.height, 0)
    axes.set_axis_off()
    for order, item in enumerate(picture.items):
        _draw(axes, item, order)
    # No moment and no version in it: what is drawn alone decides the file.
    metadata: dict[str, Any] = {
        "svg": {"Date": None, "Creator": "latkit", "Title": title},
        "pdf": {"CreationDate": None, "Creator": "latkit", "Producer": None, "Title": title},
        "png": {"Software": None, "Title": title},
    }[format]
    style: dict[Any, Any] = {
        "svg.hashsalt": "latkit", "font.family": "DejaVu Sans", "pdf.fonttype": 42,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        figure.savefig(path, format=format, dpi=DPI, metadata=metadata)


def _draw(axes: Any, item: Item, order: int) -> None:
    from matplotlib import patches
    from matplotlib.path import Path as Curve

    def style(outline: str | None = None) -> dict[str, Any]:
        return {
            "facecolor": _colour(item.colour),
            "edgecolor": "none" if outline is None else _colour(outline),
            "linewidth": 1.5 * POINT,
            "alpha": None if isinstance(item, Label) else item.opacity,
            "zorder": order,
        }

    match item:
        case Line():
            codes, points = [Curve.MOVETO], [item.points[0]]
            for (x, y), (to_x, to_y) in zip(item.points, item.points[1:], strict=False):
                if item.smooth:
                    middle = (x + to_x) / 2
                    points += [(middle, y), (middle, to_y), (to_x, to_y)]
                    codes += [Curve.CURVE4] * 3
                else:
                    points.append((to_x, to_y))
                    codes.append(Curve.LINETO)
            axes.add_patch(
                patches.PathPatch(
                    Curve(points, codes),
                    facecolor="none",
                    edgecolor=_colour(item.colour),
                    linewidth=item.width * POINT,
                    linestyle="--" if item.dashed else "-",
                    alpha=item.opacity,
                    zorder=order,
                    capstyle="round",
                )
            )
        case Shape():
            axes.add_patch(patches.Polygon(item.points, closed=True, **style()))
        case Box():
            axes.add_patch(
                patches.FancyBboxPatch(
                    (item.x, item.y),
                    item.width,
                    item.height,
                    mutation_aspect=1,
                    boxstyle=f"Round, pad=0, rounding_size={item.radius or 1e-6}",
                    **style(item.outline),
                )
            )
        case Disc():
            axes.add_patch(patches.Circle((item.x, item.y), item.radius, **style(item.outline)))
        case Label():
            axes.text(
                item.x, item.y, _literal(item.text), color=_colour(item.colour),
                fontsize=item.size * POINT, fontfamily="DejaVu Sans", va="center_baseline",
                ha={"start": "left", "middle": "center", "end": "right"}[item.anchor],
                fontweight="bold" if item.bold else "normal",
                rotation=90 if item.turned else 0, rotation_mode="anchor", zorder=order,
            )  # fmt: skip


def _literal(text: str) -> str:
    """A text in which matplotlib finds no mathematics."""
    return text.replace("$", r"\$")


def _colour(colour: str) -> str:
    return ROLES.get(colour, colour)
