"""report.html: one self-contained page with tables, curves, histograms and a gallery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from . import charts, tables
from .environment import one_line

Unit = Mapping[str, Any]

_STYLE = Path(__file__).with_name("report.css")

_READING = """
<p><b>How to read it.</b> Scores are high for anomalous images everywhere. Image AUROC asks whether a defective image
gets a higher score than a good one; 0.5 is a coin. Pixel AUROC asks the same of pixels, where large defects count most;
AUPRO counts every connected defect alike, up to 30 % false positives. Accuracy and false-positive rate are those of the
threshold that the method sets itself from normal images. The line beside a figure is its 95 % interval over images.</p>
"""


_SCORES = (
    f'<span><span class="chip" style="background:{charts.NORMAL}"></span>normal images, upwards</span>'
    f'<span><span class="chip" style="background:{charts.ANOMALOUS}"></span>anomalous images, downwards</span>'
    '<span><span class="dash"></span>threshold</span>'
)


def write_report(
    environment: Mapping[str, Any],
    data: Sequence[Mapping[str, Any]],
    units: Sequence[Unit],
    summary: Sequence[Mapping[str, Any]],
    latency: Sequence[Mapping[str, Any]],
    problems: Sequence[str],
) -> str:
    """The whole page; it refers to nothing outside itself."""
    methods = list(dict.fromkeys(unit["row"]["method"] for unit in units))
    colours = {name: charts.PALETTE[k % len(charts.PALETTE)] for k, name in enumerate(methods)}
    categories = list(dict.fromkeys((unit["row"]["dataset"], unit["row"]["category"]) for unit in units))
    links = "".join(f'<a href="#c{k}">{escape(category)}</a>' for k, (_, category) in enumerate(categories))
    sections = []
    for k, (dataset, category) in enumerate(categories):
        own = [unit for unit in units if (unit["row"]["dataset"], unit["row"]["category"]) == (dataset, category)]
        sections.append(_category(k, dataset, category, own, colours))
    course = tables.course_tables(units)
    body = [
        "<header><h1>patchclip benchmark</h1>",
        f'<p class="soft">{escape(one_line(dict(environment)))}</p>',
        f"<p><code>{escape(environment['command'])}</code></p>",
        f"<nav><a href='#summary'>summary</a>{links}{'<a href=#latency>latency</a>' if latency else ''}</nav></header>",
        f"<main><h2 id='summary'>Summary</h2>{_READING}{_summary(summary, colours)}",
        *sections,
        _latency(latency, colours) if latency else "",
        f"<h2>Course tables</h2><div class='card'><pre>{escape(course)}</pre></div>" if course else "",
        f"<h2>Data</h2><div class='card'>{_data(data)}</div>",
        _problems(problems),
        "</main>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>patchclip benchmark</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE.read_text()}</style></head>\n<body>{''.join(body)}</body></html>\n"
    )


def _summary(summary: Sequence[Mapping[str, Any]], colours: Mapping[str, str]) -> str:
    columns = tables.shown_columns(summary)
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in sorted(summary, key=lambda row: row["category"] == "mean", reverse=True):  # the mean comes first
        groups.setdefault((row["dataset"], row["category"]), []).append(row)
    head = "".join(f"<th>{escape(text)}</th>" for text in ["method", "shots", *columns.values(), "s/image"])
    head = head.replace("<th>image AUROC</th>", '<th colspan="2">image AUROC</th>')
    lines = []
    for (dataset, category), rows in groups.items():
        count = f"{rows[0]['images'] - rows[0]['anomalous']} normal and {rows[0]['anomalous']} anomalous images"
        name = (
            dataset
            if dataset == category
            else f"{dataset}, {'mean of its categories' if category == 'mean' else category}"
        )
        lines.append(
            f'<tr class="group"><td colspan="{len(columns) + 4}">{escape(name)} <small>{count}</small></td></tr>'
        )
        best = {
            m: max((r[m]["mean"] for r in rows if r[m]), default=None) for m in columns if m != "false_positive_rate"
        }
        for row in rows:
            chip = f'<span class="chip" style="background:{colours[row["method"]]}"></span>'
            seeds = f" <small>x {row['seeds']}</small>" if row["seeds"] > 1 else ""
            cells = [f"<td>{chip}{escape(row['method'])}</td><td>{row['shots']}{seeds}</td>"]
            for metric in columns:
                value = row[metric]
                mark = ' class="best"' if value and value["mean"] == best.get(metric) else ""
                text = "–" if value is None else f"{value['mean']:.3f}"
                if value and value["sd"] is not None and metric in ("image_auroc", "pixel_auroc", "aupro"):
                    text += f" <small>± {value['sd']:.3f}</small>"
                bounds = f' title="95 %: {value["low"]:.3f} to {value["high"]:.3f}"' if value else ""
                cells.append(f"<td{mark}{bounds}>{text}</td>")
                if metric == "image_auroc":
                    dot = (
                        charts.interval_mark(value["mean"], value["low"], value["high"], colours[row["method"]])
                        if value
                        else ""
                    )
                    cells.append(f"<td>{dot}</td>")
            lines.append(f"<tr>{''.join(cells)}<td>{row['seconds_per_image']:.3f}</td></tr>")
    return f'<div class="card"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _category(number: int, dataset: str, category: str, units: Sequence[Unit], colours: Mapping[str, str]) -> str:
    """Curves, histograms and pictures: the first seed at each method's highest number of shots."""
    shown: dict[str, Unit] = {}
    for unit in units:
        row = unit["row"]
        if row["seed"] == 0 and row["shots"] >= shown.get(row["method"], unit)["row"]["shots"]:
            shown[row["method"]] = unit
    title = category if category == dataset else f"{dataset}, {category}"
    legend = "".join(
        f'<span><span class="chip" style="background:{colours[name]}"></span>{escape(name)}, '
        f"{unit['row']['shots']} shots</span>"
        for name, unit in shown.items()
    )
    figures = []
    for key, x_title, y_title, limit in (
        ("roc", "false-positive rate of images", "true-positive rate", 1.0),
        ("pro", "false-positive rate of pixels", "region overlap", 0.3),
    ):
        curves = {name: tuple(unit["curves"][key]) for name, unit in shown.items() if key in unit["curves"]}
        if curves:
            chart = charts.curve_chart(
                curves, colours, x_title=x_title, y_title=y_title, x_limit=limit, diagonal=key == "roc"
            )
            caption = "ROC of images" if key == "roc" else "PRO of pixels"
            figures.append(f"<figure><figcaption>{caption}</figcaption>{chart}</figure>")
    histograms = []
    for name, unit in shown.items():
        normal = [score["score"] for score in unit["scores"] if not score["label"]]
        anomalous = [score["score"] for score in unit["scores"] if score["label"]]
        if normal or anomalous:
            chart = charts.histogram_chart(normal, anomalous, unit["row"]["threshold"])
            histograms.append(f"<figure><figcaption>{escape(name)}</figcaption>{chart}</figure>")
    pictures = [name for name, unit in shown.items() if unit["gallery"]]
    main = "dense+bank" if "dense+bank" in pictures else pictures[-1] if pictures else None
    galleries = "".join(
        f"<details{' open' if name == main else ''}><summary>Pictures: {escape(name)}, "
        f"{shown[name]['row']['shots']} shots</summary>{_gallery(shown[name]['gallery'])}</details>"
        for name in pictures
    )
    return (
        f'<h2 id="c{number}">{escape(title)}</h2><div class="card"><div class="legend">{legend}</div>'
        f'<p class="note">First draw of references. Hover over a line or a bar for its name.</p>'
        f'<div class="row">{"".join(figures)}</div><h3>Scores</h3><div class="legend">{_SCORES}</div>'
        f'<div class="row">{"".join(histograms)}</div>{_by_kind(shown)}{galleries}</div>'
    )


def _by_kind(shown: Mapping[str, Unit]) -> str:
    """Image AUROC of each kind of defect."""
    kinds = next((unit["row"]["by_kind"] for unit in shown.values() if unit["row"].get("by_kind")), None)
    if not kinds:
        return ""
    head = "".join(f"<th>{escape(kind)} <small>({entry['images']})</small></th>" for kind, entry in kinds.items())
    lines = []
    for name, unit in shown.items():
        found = unit["row"].get("by_kind", {})
        values = [found[kind]["image_auroc"] if kind in found else None for kind in kinds]
        cells = "".join("<td>–</td>" if value is None else f"<td>{value:.3f}</td>" for value in values)
        lines.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    return (
        f"<h3>Image AUROC by kind of defect</h3><table><thead><tr><th>method</th>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _gallery(pictures: Sequence[Mapping[str, Any]]) -> str:
    shots = []
    for picture in pictures:
        threshold = picture["threshold"]
        if threshold is None:
            verdict = '<span class="tag none">no threshold</span>'
        else:
            right = (picture["score"] > threshold) == bool(picture["label"])
            verdict = f'<span class="tag {"right" if right else "wrong"}">{"right" if right else "wrong"}</span>'
        kind = (picture["kind"] or "anomalous") if picture["label"] else "normal"
        images = f'<img alt="image" src="data:image/jpeg;base64,{picture["image"]}">'
        if picture["heatmap"]:
            images += f'<img alt="heatmap" src="data:image/jpeg;base64,{picture["heatmap"]}">'
        part = (
            "" if picture["ranked_right"] is None else f", ranked right against {100 * picture['ranked_right']:.0f} %"
        )
        limit = "" if threshold is None else f", threshold {threshold:.3f}"
        said = f", named {escape(picture['defect'])}" if picture["defect"] else ""
        shots.append(
            f'<div class="shot"><div class="pair">{images}</div>'
            f"<p><b>{picture['which']} {escape(kind)}</b> {verdict}</p>"
            f'<p class="soft">{escape(picture["path"])}: score {picture["score"]:.3f}{limit}{part}{said}</p></div>'
        )
    note = (
        "The best, the median and the worst anomalous image, then normal image, by the part of the other class that it "
        "is ranked right against. Left the image, its defect outlined in magenta; right the heatmap, on a fixed scale "
        "that is the same for all images of a method, with the boxes that were found; with recipe winclip, "
        "relative to each image."
    )
    return f'<p class="note">{note}</p><div class="gallery">{"".join(shots)}</div>'


def _latency(latency: Sequence[Mapping[str, Any]], colours: Mapping[str, str]) -> str:
    timed = [row for row in latency if row.get("parts_s")]
    bars = ""
    if timed:
        names = list(dict.fromkeys(name for row in timed for name in row["parts_s"]))
        shades = {name: charts.PALETTE[k % len(charts.PALETTE)] for k, name in enumerate(names)}
        longest = max(sum(row["parts_s"].values()) for row in timed)
        legend = "".join(
            f'<span><span class="chip" style="background:{shades[n]}"></span>{escape(n)}</span>' for n in names
        )
        lines = "".join(
            f"<tr><td>{escape(row['method'])}</td><td>{charts.stacked_bar(row['parts_s'], shades, longest)}</td>"
            f"<td>{1000 * sum(row['parts_s'].values()):.1f} ms</td></tr>"
            for row in timed
        )
        bars = f'<h3>One image</h3><div class="legend">{legend}</div><table><tbody>{lines}</tbody></table>'
    rows = "".join(
        f'<tr><td><span class="chip" style="background:{colours[row["method"]]}"></span>'
        + "</td><td>".join(map(escape, tables.latency_cells(row)))
        + "</td></tr>"
        for row in latency
    )
    heads = "".join(f"<th>{text}</th>" for text in tables.LATENCY_HEAD)
    note = (
        "Whole predictions from files, decoding included, in turn with the bare forward of the same network at its own "
        "size and precision."
    )
    return (
        f'<h2 id="latency">Latency</h2><div class="card"><p class="note">{note}</p>{bars}<h3>Batches</h3>'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _data(data: Sequence[Mapping[str, Any]]) -> str:
    keys = "dataset", "category", "layout", "references", "normal", "anomalous", "with_mask"
    head = "".join(f"<th>{escape(key.replace('_', ' '))}</th>" for key in keys)
    rows = "".join("<tr>" + "".join(f"<td>{escape(str(entry[key]))}</td>" for key in keys) + "</tr>" for entry in data)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _problems(problems: Sequence[str]) -> str:
    if not problems:
        return '<p class="note">No image was left out and nothing was missing.</p>'
    items = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
    return f"<h2>Remarks on the data ({len(problems)})</h2><div class='card'><ul>{items}</ul></div>"
