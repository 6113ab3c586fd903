# SPDX-License-Identifier: Apache-2.0
"""Bar charts with spread, drawn by gnuplot, as SVG in the colours of what is around it.

A chart has two panels with the same rows, one row for a VMM: the values, and the values divided by
the best VMM's median. A whisker goes from the smallest to the largest value.
"""

import dataclasses
import math
import os
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ET

from lib.results import Refused

from . import figures

WIDTH = 860
ROW = 19
FOOT = 50
# Of a letter in the font that the charts are drawn with.
LETTER = 6.9
LABEL_LETTERS_MAX = 44
# A chart with more rows does not fit on a page of paper.
ROWS_MAX = 44
TIMEOUT_S = 120
SVG = "http://www.w3.org/2000/svg"
# What most of a chart has, so that it is said once.
DRAWN_WITH = {"fill": "none", "stroke": "currentColor", "stroke-width": "1.00",
              "stroke-linecap": "butt", "stroke-linejoin": "miter", "font-family": "sans-serif",
              "font-size": "12.00"}
INHERITED = {*DRAWN_WITH, "text-anchor", "shape-rendering"}
# A path that goes to a place and draws no line there.
NO_LINE = re.compile(r"(M[-\d.]+,[-\d.]+ ?)*")
OURS_COLOUR, OTHER_COLOUR, HOST_COLOUR = 0x2F7ED8, 0x9AA0A6, 0xC9A24B

HEAD = """reset
set terminal svg size {width},{height} font 'sans-serif,12' noenhanced
set output {output}
set multiplot
unset key
set border 1
set style fill solid noborder
set errorbars 0.6
set tmargin at screen 1
set bmargin at screen {bottom}
set yrange [{rows}-0.4:-0.6]
set xtics nomirror out scale 0.5
"""

# Columns of the data: row, value, low, high, colour, label.
PANEL = """unset label
set lmargin at screen {left}
set rmargin at screen {right}
set ytics nomirror scale 0 ({labels})
{headings}
set xlabel {title} offset 0,0.5
set xrange [{low}:{high}]
set xtics {step}
set format x {form}
plot {data} using (0):1:(0):2:($1-0.38):($1+0.38):5 with boxxyerror lc rgb variable, \\
     {data} using 2:1:3:4 with xerrorbars pt 0 lc black, \\
     {data} using 4:1:6 with labels left offset 0.6,0
"""


@dataclasses.dataclass
class Row:
    """A bar, or where there is no value, a heading or a failure."""
    label: str
    heading: bool = False
    values: tuple = ()
    ratio: float | None = None
    colour: int = OTHER_COLOUR


@dataclasses.dataclass
class Panel:
    """What a row's bar says (low, median, high), and what is written beside it."""
    title: str
    span_of: object
    written: object


def absolute(metric):
    return Panel(metric.unit or metric.title, lambda row: row.values,
                 lambda row: figures.text(row.values[1]))


def normalised():
    def span_of(row):
        return [row.ratio * value / row.values[1] if row.values[1] else 0 for value in row.values]
    return Panel("divided by the best VMM’s median", span_of,
                 lambda row: figures.ratio_text(row.ratio))


def quoted(text):
    """A gnuplot string in which nothing is special; an apostrophe would end it."""
    return "'" + text.replace("'", "’") + "'"


def shortened(text):
    if len(text) <= LABEL_LETTERS_MAX:
        return text
    return text[:LABEL_LETTERS_MAX - 1] + "…"


def colour(vmm):
    if vmm == figures.HOST:
        return HOST_COLOUR
    return OURS_COLOUR if figures.is_ours(vmm) else OTHER_COLOUR


def case_rows(group, case):
    rows = [Row(group.short(case), heading=True)] if len(group.cases) > 1 else []
    for figure in group.of_case(case):
        if figure.values:
            values = (min(figure.values), figure.median, max(figure.values))
            rows.append(Row(figure.vmm, False, values, figure.to_best, colour(figure.vmm)))
        else:
            rows.append(Row(f"{figure.vmm}: failed"))
    return rows


def chunks(group):
    """The rows of each chart of a group: whole cases, and ROWS_MAX at most unless one has more."""
    rows = []
    for case in group.cases:
        more = case_rows(group, case)
        if rows and len(rows) + len(more) > ROWS_MAX:
            yield rows
            rows = []
        rows = rows + more
    yield rows


def write_data(path, rows, panel):
    with open(path, "w", encoding="utf-8") as f:
        for at, row in enumerate(rows):
            if row.values:
                low, median, high = panel.span_of(row)
                f.write(f"{at} {median!r} {low!r} {high!r} {row.colour} {panel.written(row)}\n")


def step_of(span):
    """A round distance for six marks or fewer on an axis."""
    unit = 10.0 ** math.floor(math.log10(span / 5))
    return next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= span / 5)


def panel_script(panel, rows, data, left, right, labelled):
    """The commands for one panel, between two places from 0 to 1, with names before it or not."""
    write_data(data, rows, panel)
    spans = [panel.span_of(row) for row in rows if row.values]
    low, high = min(0, *(span[0] for span in spans)), max(0, *(span[2] for span in spans))
    labels, headings = [], []
    for at, row in enumerate(rows):
        if labelled and row.heading:
            headings.append(f"set label {quoted(shortened(row.label))} at screen 0.005, first {at}")
        elif labelled:
            # The label of a mark on an axis is a format.
            label = quoted(shortened(row.label).replace("%", "%%"))
            labels.append(f"{label} {at}")
    # On the right of the longest bar there is room for its figure.
    span = ((high - low) or 1) * 1.25
    step = step_of(span)
    return PANEL.format(left=left, right=right, labels=", ".join(labels) or "'' 0",
                        headings="\n".join(headings), title=quoted(panel.title), low=low,
                        high=low + span, step=step, form="'%.0f'" if 1 <= step < 1e6 else "'%g'",
                        data=quoted(data))


def chart_script(metric, rows, output):
    """The commands that draw one chart to the file `output`."""
    height = len(rows) * ROW + FOOT
    labels = max(len(shortened(row.label)) for row in rows if not row.heading) * LETTER + 16
    left = labels / WIDTH
    script = HEAD.format(width=WIDTH, height=height, output=quoted(output),
                         bottom=FOOT / height, rows=len(rows))
    ratios = all(row.ratio is not None for row in rows if row.values)
    middle = left + (0.97 - left) / 2 if ratios else 0.95
    script += panel_script(absolute(metric), rows, output + ".absolute", left, middle, True)
    if ratios:
        script += panel_script(normalised(), rows, output + ".normalised", middle + 0.03, 0.98,
                               False)
    return script + "unset multiplot\nset output\n"


def tag_of(element):
    return element.tag.removeprefix(f"{{{SVG}}}")


def is_noise(element, inherited):
    """Draws nothing, or is of use only in gnuplot's viewer."""
    tag = tag_of(element)
    return (tag in ("defs", "use", "title", "desc") or tag == "g" and len(element) == 0
            or tag == "path" and NO_LINE.fullmatch(element.get("d"))
            or tag == "rect" and element.get("fill", inherited.get("fill")) == "none")


def slimmed(element, inherited):
    """
    What is left of an element, as a list, without noise, without groups that say nothing, and
    without attributes that are inherited anyway.
    """
    for name, value in list(element.attrib.items()):
        if name in ("id", "color") or inherited.get(name) == value:
            del element.attrib[name]
    here = inherited | {name: value for name, value in element.attrib.items() if name in INHERITED}
    children = [left for child in element for left in slimmed(child, here)]
    element[:] = children
    element.tail = None
    if tag_of(element) != "text":
        element.text = None
    if is_noise(element, inherited):
        return []
    return children if tag_of(element) == "g" and not element.attrib else [element]


def recolour(element):
    """What is black takes the colour of the text around the chart."""
    for name, value in element.attrib.items():
        if value.strip() == "black":
            element.set(name, "currentColor")
        else:
            element.set(name, " ".join(value.split()))
    for child in element:
        recolour(child)


def cleaned(svg, caption):
    """A chart that fits into any page: its colours are those of the text, its names nobody's."""
    ET.register_namespace("", SVG)
    root = ET.fromstring(svg)
    recolour(root)
    for name, value in DRAWN_WITH.items():
        root.set(name, value)
    root[:] = [left for child in root for left in slimmed(child, DRAWN_WITH)]
    root.text = None
    root.set("role", "img")
    title = ET.Element(f"{{{SVG}}}title")
    title.text = caption
    root.insert(0, title)
    return ET.tostring(root, encoding="unicode")


def find_gnuplot():
    program = shutil.which("gnuplot")
    if not program:
        raise Refused("gnuplot is missing: run `scripts/setup report` (Debian package gnuplot-nox)")
    return program


def run_gnuplot(script):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GNUPLOT")}
    done = subprocess.run([find_gnuplot(), "-d"], input=script, capture_output=True, text=True,
                          timeout=TIMEOUT_S, check=False, env=environment)
    if done.returncode != 0 or done.stderr.strip():
        raise Refused(f"gnuplot failed: {done.stderr.strip()[-500:]}")


def draw(wanted):
    """SVG elements for (metric, rows, caption) each."""
    with tempfile.TemporaryDirectory(prefix="minivmm-charts-") as scratch:
        paths = [os.path.join(scratch, f"{at}.svg") for at in range(len(wanted))]
        run_gnuplot("".join(chart_script(metric, rows, path)
                            for (metric, rows, _), path in zip(wanted, paths)))
        result = []
        for (_, _, caption), path in zip(wanted, paths):
            with open(path, encoding="utf-8") as f:
                result.append(cleaned(f.read(), caption))
        return result
