"""The SVG that matplotlib writes, made fit for a page.

A page under a strict Content-Security-Policy applies no `style` attribute and no style sheet but
its own, so what they say becomes presentation attributes. On a page colours are variables of its
style sheet, for light and dark, and text is in the page's font. Names of elements go, but for those
that are referred to; shapes that tell something get a title, which browsers show at the pointer.
"""

import re
from collections.abc import Iterator, Mapping, Set
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from warmup_distill.figures.canvas import GRID, INK, PAPER, QUIET, SERIES, SIZE
from warmup_distill.foreign.showing import clean

_SVG = "http://www.w3.org/2000/svg"
_HREF = "{http://www.w3.org/1999/xlink}href"

_DROPPED = {"font", "font-family", "font-size", "font-style", "font-weight"}
"""All text of a figure has one font, which the root names."""
_ON_PAGE = {INK: "var(--ink)", QUIET: "var(--quiet)", GRID: "var(--line)", PAPER: "none"} | {
    color: f"var(--series-{number})" for number, color in enumerate(SERIES)
}


_NUMERIC = {"d", "x", "y", "width", "height", "transform", "stroke-width"}
_NUMBER = re.compile(r"-?\d+\.\d+")


def for_file(written: str, told: Mapping[str, str], title: str, summary: str) -> str:
    """A file that stands for itself.

    Args:
        written: what matplotlib wrote.
        told: by the name of an element, the title that it gets.
    """
    root = _tidied(written, told)
    root.attrib |= {"xmlns": _SVG, "font-family": "sans-serif", "font-size": str(SIZE)}
    _tell(root, summary, "desc")
    _tell(root, title)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def for_page(written: str, told: Mapping[str, str], title: str, summary: str) -> str:
    """An element of a page, whose style sheet has the variables; for arguments see `for_file`."""
    root = _tidied(written, told)
    del root.attrib["width"], root.attrib["height"]
    root.attrib |= {"role": "img", "aria-label": clean(f"{title}. {summary}")}
    for element in root.iter():
        for name in {"fill", "stroke"} & element.attrib.keys():
            element.set(name, _ON_PAGE.get(element.attrib[name], element.attrib[name]))
    return ElementTree.tostring(root, encoding="unicode")


def _tidied(written: str, told: Mapping[str, str]) -> Element:
    root = ElementTree.fromstring(written)
    for element in root.iter():
        element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
        if _HREF in element.attrib:
            element.set("href", element.attrib.pop(_HREF))
        _restyle(element)
        if words := told.get(element.get("id", "")):
            _tell(element, words)
            element.set("class", "told")
    used = set(re.findall(r'#([^")]+)', ElementTree.tostring(root, encoding="unicode")))
    root[:], root.text = _without_wrapping(root, used), None
    # matplotlib writes a style sheet that says this of all elements
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt"}
    return root


def _restyle(element: Element) -> None:
    """Attributes in place of a style, without what says nothing."""
    for rule in filter(None, element.attrib.pop("style", "").split("; ")):
        name, _, value = rule.partition(": ")
        if name not in _DROPPED:
            element.set(name, value)
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]
    for name in _NUMERIC & element.attrib.keys():
        element.set(name, " ".join(_NUMBER.sub(_shortened, element.attrib[name]).split()))


def _shortened(number: re.Match[str]) -> str:
    """A hundredth of a point is nothing that anybody sees."""
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _tell(element: Element, words: str, tag: str = "title") -> None:
    told = Element(tag)
    told.text = clean(words)
    element.insert(0, told)


def _without_wrapping(parent: Element, used: Set[str]) -> Iterator[Element]:
    """The children without metadata, style sheets, names not in use, and groups that do nothing."""
    for child in parent:
        if child.tag == "metadata" or child.find("style") is not None:
            continue
        if child.get("id") not in used:
            child.attrib.pop("id", None)
        child.tail = None
        child[:] = _without_wrapping(child, used)
        if child.tag == "g" and not child.attrib:
            yield from child
            continue
        if not isinstance(child.text, str) or not child.text.strip():
            child.text = None
        yield child
