# SPDX-License-Identifier: Apache-2.0
"""A document as a list of blocks of plain text, which page and markdown write as they need it."""

import dataclasses


@dataclasses.dataclass
class Heading:
    level: int
    text: str
    anchor: str = ""


@dataclasses.dataclass
class Paragraph:
    text: str


@dataclasses.dataclass
class Items:
    texts: list


@dataclasses.dataclass
class Table:
    """`texts`: so many columns from the left are text; the others are figures."""
    headings: list
    rows: list
    texts: int = 1


@dataclasses.dataclass
class Chart:
    """`svg` is an element to be put into a page, in the colours around it."""
    name: str
    caption: str
    svg: str


@dataclasses.dataclass
class Verbatim:
    text: str


@dataclasses.dataclass
class Links:
    """(text, path relative to the document) each."""
    links: list
