# SPDX-License-Identifier: MIT
"""Rows as a table for people and as JSON for programs."""

import json

import machine

SHARED_COLUMNS = {
    "clients": "clients",
    "pipeline": "pipeline",
    "size": "size",
    "system": "system",
    "io": "io",
}


def number(value):
    if isinstance(value, str):
        return value
    if isinstance(value, int) or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def print_columns(lines):
    """Words to the left, numbers to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        cells = [
            cell.ljust(width) if cell[:1].isalpha() and line is not lines[0] else cell.rjust(width)
            for cell, width in zip(line, widths)
        ]
        print("  ".join(cells).rstrip())


def print_table(scenario, rows, machine_text):
    columns = {**SHARED_COLUMNS, **scenario.COLUMNS}
    print(f"\n{scenario.NAME}: {scenario.TITLE}\n{machine_text}\n")
    lines = [list(columns.values()) + ["spread"]]
    for row in rows:
        spread = "-" if row["spread"] is None else f"{row['spread']:.0%}"
        lines.append([number(row[key]) for key in columns] + [spread])
    print_columns(lines)
    print_ratios(scenario, rows)


def print_ratios(scenario, rows):
    """Clove's figure divided by the peer's."""
    by_point = {}
    for row in rows:
        point = (row["clients"], row["pipeline"], row["size"])
        by_point.setdefault(point, {})[row["system"]] = row
    peers = sorted({row["system"] for row in rows} - {"clove"})
    for peer in peers:
        print(f"\nclove / {peer}")
        lines = [["clients", "pipeline", "size", *scenario.RATIOS.values()]]
        for point, systems in by_point.items():
            clove, other = systems["clove"], systems[peer]
            ratios = [
                f"{clove[key] / other[key]:.2f}" if other[key] else "-" for key in scenario.RATIOS
            ]
            lines.append([*map(str, point), *ratios])
        print_columns(lines)


def write_json(rows, path):
    try:
        path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    except OSError as problem:
        raise machine.Unusable(f"cannot write {path}: {problem.strerror}") from None
