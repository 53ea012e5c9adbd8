"""The tables of a run as Markdown: for the terminal, table.md and RESULTS.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .environment import one_line

#: metric -> head of its column, in the tables for people.
COLUMNS = {
    "image_auroc": "image AUROC",
    "image_ap": "AP",
    "image_f1_max": "F1-max",
    "accuracy": "accuracy",
    "false_positive_rate": "FPR",
    "recall": "recall",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "aupro": "AUPRO",
    "name_accuracy": "name",
}


def shown_columns(summary: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The columns in which any row has a value."""
    return {name: head for name, head in COLUMNS.items() if any(row[name] for row in summary)}


def cell(value: Mapping[str, Any] | None, *, full: bool = False) -> str:
    """ "0.812", or in full "0.812 ± 0.010 [0.770, 0.850]"."""
    if value is None:
        return "–"
    text = f"{value['mean']:.3f}"
    if not full:
        return text
    spread = "" if value["sd"] is None else f" ± {value['sd']:.3f}"
    return f"{text}{spread} [{value['low']:.3f}, {value['high']:.3f}]"


def summary_table(summary: Sequence[Mapping[str, Any]]) -> str:
    """One row for each category, method and number of shots."""
    columns = shown_columns(summary)
    several = len({(row["dataset"], row["category"]) for row in summary}) > 1
    head = [*(["data"] if several else []), "method", "shots", "images", *columns.values(), "s/image"]
    rows = []
    for row in summary:
        name = row["category"] if row["category"] == row["dataset"] else f"{row['dataset']}/{row['category']}"
        values = [cell(row[metric], full=metric in ("image_auroc", "aupro")) for metric in columns]
        count = f"{row['images'] - row['anomalous']} + {row['anomalous']}"
        shots = f"{row['shots']}" + (f" x {row['seeds']}" if row["seeds"] > 1 else "")
        rows.append(
            [*([name] if several else []), row["method"], shots, count, *values, f"{row['seconds_per_image']:.3f}"]
        )
    return markdown(head, rows)


LEGEND = (
    "mean ± standard deviation over seeds [95 % bootstrap interval over images]; shots x seeds; images: normal + "
    "anomalous; accuracy, FPR (normal images flagged) and recall (anomalous images flagged) at the method's own "
    "threshold, which aims at an FPR of 0.05 unless the command says otherwise; AUPRO up to an FPR of 0.3; name: "
    "rightly named among the defects that were flagged; s/image with decoding."
)


LATENCY_HEAD = (
    "method",
    "shots",
    "batch",
    "median ms",
    "p95 ms",
    "images/s",
    "bare forward ms",
    "ratio",
    "peak MB",
    "runs",
)


def latency_cells(row: Mapping[str, Any]) -> list[str]:
    """Under `LATENCY_HEAD`."""
    return [
        row["method"],
        str(row["shots"]),
        str(row["batch"]),
        f"{1000 * row['median_s']:.1f}",
        f"{1000 * row['p95_s']:.1f}",
        f"{row['images_per_second']:.1f}",
        f"{1000 * row['bare_forward_s']:.1f}",
        f"{row['ratio']:.2f}",
        f"{row['peak_memory_mb']:.0f}",
        str(row["repetitions"]),
    ]


def latency_table(latency: Sequence[Mapping[str, Any]]) -> str:
    """One row for each method and batch size."""
    return markdown(LATENCY_HEAD, [latency_cells(row) for row in latency])


def parts_table(latency: Sequence[Mapping[str, Any]]) -> str:
    """Milliseconds of each part at batch 1; empty without any."""
    timed = [row for row in latency if row.get("parts_s")]
    names = list(dict.fromkeys(name for row in timed for name in row["parts_s"]))
    rows = [
        [
            row["method"],
            str(row["shots"]),
            *(f"{1000 * row['parts_s'][n]:.1f}" if n in row["parts_s"] else "–" for n in names),
        ]
        for row in timed
    ]
    return markdown(["ms at batch 1", "shots", *names], rows) if rows else ""


def document(
    environment: Mapping[str, Any],
    units: Sequence[Mapping[str, Any]],
    summary: Sequence[Mapping[str, Any]],
    latency: Sequence[Mapping[str, Any]],
    problems: Sequence[str],
) -> str:
    """All tables of a run, with the command and the machine: table.md."""
    blocks = [f"`{environment['command']}`", one_line(dict(environment)), summary_table(summary), LEGEND]
    if course := course_tables(units):
        blocks.append(course)
    if latency:
        blocks += [latency_table(latency), parts_table(latency)]
    if problems:
        blocks.append("\n".join(f"- {problem}" for problem in problems))
    return "\n\n".join(block for block in blocks if block) + "\n"


def course_tables(units: Sequence[Mapping[str, Any]]) -> str:
    """The course's own table of each method on a course layout, first seed."""
    blocks = []
    for unit in units:
        row = unit["row"]
        if row["layout"] != "course" or row["seed"] != 0:
            continue
        rows = []
        for name, members in (
            ("normal", [s for s in unit["scores"] if not s["label"]]),
            ("anomaly", [s for s in unit["scores"] if s["label"]]),
            ("all", unit["scores"]),
        ):
            if not members:
                continue
            decided = [s for s in members if s["threshold"] is not None]
            correct = sum((s["score"] > s["threshold"]) == bool(s["label"]) for s in decided)
            similar = [s["similarity"] for s in members if s["similarity"]]
            means = [f"{value:.4f}" for value in np.mean(similar, axis=0)] if similar else ["–", "–"]
            total = sum(s["elapsed_s"] for s in members)
            accuracy = f"{100 * correct / len(members):.2f} %" if decided else "–"
            counts = [str(len(members)), str(correct) if decided else "–", accuracy]
            rows.append([name, *counts, *means, f"{total:.2f}", f"{total / len(members):.4f}"])
        head = "class", "total", "correct", "accuracy", "normal similarity", "anomaly similarity", "seconds", "s/image"
        blocks.append(f"{row['dataset']}, {row['method']}, {row['shots']} references a class\n\n{markdown(head, rows)}")
        if row.get("training"):
            blocks.append(_training_table(row))
    return "\n\n".join(blocks)


def _training_table(row: Mapping[str, Any]) -> str:
    best = min(row["training"], key=lambda epoch: epoch["loss"])["epoch"]
    rows = [
        [
            f"{epoch['epoch']:.0f}{' (kept)' if epoch['epoch'] == best else ''}",
            f"{epoch['loss']:.4f}",
            f"{epoch['accuracy']:.4f}",
        ]
        for epoch in row["training"]
    ]
    return f"{row['dataset']}, {row['method']}, training\n\n{markdown(['epoch', 'loss', 'accuracy'], rows)}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    cells = [list(head), *[list(row) for row in rows]]
    wide = [max(len(row[k]) for row in cells) for k in range(len(head))]
    lines = ["| " + " | ".join(text.ljust(w) for text, w in zip(row, wide, strict=True)) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in wide) + "|", *lines[1:]])
