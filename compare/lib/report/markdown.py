# SPDX-License-Identifier: Apache-2.0
"""Writes a document as Markdown for a code-hosting site, with the charts as files beside it."""

import re

from . import document

CHARTS = "charts"
# An image in a page has no colours around it: it brings its own.
STYLE = ("<style>svg{color:#1f2328;background:#fff}@media(prefers-color-scheme:dark)"
         "{svg{color:#e3e5e8;background:#17191c}}</style>")


def escape(text):
    """Text in which nothing is markup, also in a table."""
    text = str(text).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", text)


def fenced(text):
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def table(block):
    marks = ["---" if at < block.texts else "---:" for at in range(len(block.headings))]
    rows = [[escape(cell) for cell in row] for row in (block.headings, *block.rows)]
    rows.insert(1, marks)
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def heading(block):
    anchor = f'<a id="{block.anchor}"></a>' if block.anchor else ""
    return f"{'#' * block.level} {anchor}{escape(block.text)}"


def chart(block):
    return f"![{escape(block.caption)}]({CHARTS}/{block.name}.svg)\n\n*{escape(block.caption)}*"


WRITERS = {
    document.Heading: heading,
    document.Paragraph: lambda b: escape(b.text),
    document.Items: lambda b: "\n".join(f"- {escape(text)}" for text in b.texts),
    document.Table: table,
    document.Chart: chart,
    document.Verbatim: lambda b: fenced(b.text),
    document.Links: lambda b: "\n".join(f"- [{escape(text)}]({path})" for text, path in b.links),
}


def contents(blocks):
    return "\n".join(f"{'  ' * (block.level - 2)}- [{escape(block.text)}](#{block.anchor})"
                     for block in blocks if isinstance(block, document.Heading) and block.level > 1)


def write(blocks):
    body = [WRITERS[type(block)](block) for block in blocks]
    return "\n\n".join([body[0], contents(blocks), *body[1:]]) + "\n"


def standalone(svg):
    """A chart as a file of its own."""
    head = '<?xml version="1.0" encoding="utf-8"?>\n'
    return head + svg.replace("</title>", "</title>" + STYLE, 1)
