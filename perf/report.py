# SPDX-License-Identifier: MIT
"""Rows as a table for people and as JSON for programs."""

import json

import machine

def label(row):
    """A system as a table names it."""
    return " ".join(row[key] for key in ("system", "profile") if key in row)


def number(value):
    if value is None:
        return "-"
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
    print(f"\n{scenario.NAME}: {scenario.TITLE}\n{machine_text}\n")
    lines = [[*scenario.KEYS, "system", *scenario.COLUMNS.values(), "spread"]]
    for row in rows:
        point = [str(row[key]) for key in scenario.KEYS]
        figures = [number(row[key]) for key in scenario.COLUMNS]
        spread = "-" if row["spread"] is None else f"{row['spread']:.0%}"
        lines.append([*point, label(row), *figures, spread])
    print_columns(lines)
    print_ratios(scenario, rows)


def print_ratios(scenario, rows):
    """Clove's figures divided by the peer's."""
    own = [row for row in rows if row["system"].startswith("clove")]
    peers = list(dict.fromkeys(label(row) for row in rows if row not in own))
    for peer in peers:
        lines = [[*scenario.KEYS, "clove", *scenario.RATIOS.values()]]
        for row in own:
            for other in rows:
                if label(other) == peer and point_of(scenario, other) == point_of(scenario, row):
                    lines.append([*map(str, point_of(scenario, row)), *ratios(scenario, row, other)])
        print(f"\nclove / {peer}")
        print_columns(lines)


def point_of(scenario, row):
    return [row[key] for key in scenario.KEYS]


def ratios(scenario, row, other):
    """The profile, and the quotients where both have the figure."""
    figures = [(row[key], other[key]) for key in scenario.RATIOS]
    quotients = [f"{mine / theirs:.2f}" if mine is not None and theirs else "-" for mine, theirs in figures]
    return [row.get("profile", ""), *quotients]


def write_json(rows, path):
    try:
        path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    except OSError as problem:
        raise machine.Unusable(f"cannot write {path}: {problem.strerror}") from None
