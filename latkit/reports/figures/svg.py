"""A picture as SVG within a web page, in the page's colours and font."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from latkit.reports.figures.picture import (
    ROLES,
    Box,
    Disc,
    Item,
    Label,
    Line,
    Picture,
    Point,
    Shape,
)


def inline_svg(picture: Picture, key: str, title: str, description: str) -> str:
    """Markup of an ``svg`` element that has a name and a description.

    Args:
        picture: what it shows.
        key: of the page's elements this one's; letters, digits and dashes.
        title: its name.
        description: what it shows, for those who cannot see it.
    """
    content = "".join(_element(item) for item in picture.items)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="{key}-t {key}-d" '
        f'viewBox="0 0 {_n(picture.width)} {_n(picture.height)}" '
        f'width="{_n(picture.width)}" height="{_n(picture.height)}">'
        f'<title id="{key}-t">{escape(title)}</title>'
        f'<desc id="{key}-d">{escape(description)}</desc>{content}</svg>'
    )


def _element(item: Item) -> str:
    match item:
        case Line():
            path = _curve(item.points) if item.smooth else _path(item.points)
            dash = ' stroke-dasharray="5 4"' if item.dashed else ""
            return (
                f'<path d="{path}" fill="none" stroke="{_colour(item.colour)}" '
                f'stroke-width="{_n(item.width)}"{dash}{_opacity(item.opacity)}/>'
            )
        case Shape():
            return (
                f'<path d="{_path(item.points)}Z" fill="{_colour(item.colour)}"'
                f"{_opacity(item.opacity)}/>"
            )
        case Box():
            return (
                f'<rect x="{_n(item.x)}" y="{_n(item.y)}" width="{_n(item.width)}" '
                f'height="{_n(item.height)}" rx="{_n(item.radius)}" '
                f'fill="{_colour(item.colour)}"{_outline(item.outline)}{_opacity(item.opacity)}/>'
            )
        case Disc():
            return (
                f'<circle cx="{_n(item.x)}" cy="{_n(item.y)}" r="{_n(item.radius)}" '
                f'fill="{_colour(item.colour)}"{_outline(item.outline)}{_opacity(item.opacity)}/>'
            )
        case Label():
            turned = f' transform="rotate(-90 {_n(item.x)} {_n(item.y)})"' if item.turned else ""
            bold = ' font-weight="600"' if item.bold else ""
            return (
                f'<text x="{_n(item.x)}" y="{_n(item.y)}" dy="0.35em" font-size="{_n(item.size)}" '
                f'text-anchor="{item.anchor}" fill="{_colour(item.colour)}"{bold}{turned}>'
                f"{escape(item.text)}</text>"
            )


def _colour(colour: str) -> str:
    return f"var(--{colour})" if colour in ROLES else colour


def _outline(colour: str | None) -> str:
    return "" if colour is None else f' stroke="{_colour(colour)}" stroke-width="1.5"'


def _opacity(opacity: float) -> str:
    return "" if opacity == 1 else f' opacity="{_n(opacity)}"'


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points)


def _curve(points: Sequence[Point]) -> str:
    x, y = points[0]
    path = f"M{_n(x)} {_n(y)}"
    for to_x, to_y in points[1:]:
        middle = _n((x + to_x) / 2)
        path += f"C{middle} {_n(y)} {middle} {_n(to_y)} {_n(to_x)} {_n(to_y)}"
        x, y = to_x, to_y
    return path


def _n(value: float) -> str:
    """A coordinate, to a hundredth of a pixel."""
    return f"{value:.2f}".rstrip("0").rstrip(".")
