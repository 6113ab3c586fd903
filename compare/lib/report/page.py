# SPDX-License-Identifier: Apache-2.0
"""Writes a document as one HTML page that needs nothing else, for screens and for paper."""

import html

from . import document

STYLE = """
:root { color-scheme: light dark; --line: #d0d4d9; --soft: #f3f4f6; --link: #0b57d0; }
@media (prefers-color-scheme: dark) {
  :root { --line: #44484d; --soft: #26292d; --link: #8ab4f8; }
  body { background: #17191c; color: #e3e5e8; }
}
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1, h2, h3, h4 { line-height: 1.25; margin: 2rem 0 .6rem; }
h2 { border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
a { color: var(--link); }
nav ul { list-style: none; padding-left: 1.2rem; margin: 0; }
nav { columns: 22rem; font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { border: 1px solid var(--line); padding: .2rem .6rem; text-align: left;
  vertical-align: top; }
th { background: var(--soft); }
.n { text-align: right; white-space: nowrap; }
figure { margin: 1.2rem 0; }
figure svg { max-width: 100%; height: auto; }
figcaption { font-size: .9rem; opacity: .85; }
pre { background: var(--soft); border: 1px solid var(--line); padding: .6rem; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: .85rem; }
@media print {
  :root { color-scheme: light; --line: #999; --soft: #fff; --link: #000; }
  body { background: #fff; color: #000; font-size: 10pt; max-width: none; padding: 0; }
  figure, tr, li { break-inside: avoid; }
  h2, h3, h4 { break-after: avoid; }
  thead { display: table-header-group; }
}
"""


def escape(text):
    return html.escape(str(text))


def table(block):
    def cells(row, tag):
        return "".join(f'<{tag}{" class=n" if at >= block.texts else ""}>{escape(cell)}</{tag}>'
                       for at, cell in enumerate(row))
    rows = "\n".join(f"<tr>{cells(row, 'td')}</tr>" for row in block.rows)
    return (f'<div class="wide"><table><thead><tr>{cells(block.headings, "th")}</tr></thead>\n'
            f"<tbody>\n{rows}\n</tbody></table></div>")


def heading(block):
    anchor = f' id="{escape(block.anchor)}"' if block.anchor else ""
    return f"<h{block.level}{anchor}>{escape(block.text)}</h{block.level}>"


def link(text, address):
    return f'<a href="{escape(address)}">{escape(text)}</a>'


def items(marked_up):
    return "<ul>" + "".join(f"<li>{item}</li>" for item in marked_up) + "</ul>"


def chart(block):
    return f"<figure>{block.svg}<figcaption>{escape(block.caption)}</figcaption></figure>"


WRITERS = {
    document.Heading: heading,
    document.Paragraph: lambda b: f"<p>{escape(b.text)}</p>",
    document.Items: lambda b: items(escape(text) for text in b.texts),
    document.Table: table,
    document.Chart: chart,
    document.Verbatim: lambda b: f"<pre>{escape(b.text)}</pre>",
    document.Links: lambda b: items(link(*text_and_address) for text_and_address in b.links),
}


def contents(blocks):
    """A table of contents of all headings below the title."""
    lines, level = [], 1
    for block in blocks:
        if not isinstance(block, document.Heading) or block.level == 1:
            continue
        lines.append("<ul>" * (block.level - level) + "</ul>" * (level - block.level))
        lines.append(f"<li>{link(block.text, '#' + block.anchor)}</li>")
        level = block.level
    return "<nav>" + "\n".join(lines) + "</ul>" * (level - 1) + "</nav>"


def write(blocks):
    title = blocks[0].text
    body = [WRITERS[type(block)](block) for block in blocks]
    return "\n".join([
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
        body[0], contents(blocks), *body[1:], "</body>\n</html>\n"])
