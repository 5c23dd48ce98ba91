# SPDX-License-Identifier: MIT
"""Interleaves the measurements of all systems and picks the median round of each.

A shared machine drifts. Every round therefore measures every point on every system, one right after
the other, so that a slow minute hits all of them, and a row is a round that took place, not a mix
of several: the one whose rate is the median.
"""

import shutil

import machine
import report


def run(scenario, systems, options, build_dir, directory):
    """One row per point and system, in the order of the points."""
    fleet = Fleet(scenario, systems, options, build_dir, directory)
    results = {}  # (point, system): rows of the rounds
    try:
        plan = [
            (number, point, system)
            for number in range(1, options.rounds + 1)
            for point in scenario.POINTS
            for system in rotated(fleet.systems, number)
            if scenario.takes_part(system, point, number)
        ]
        for done, (number, point, system) in enumerate(plan, 1):
            row = fleet.measure(system, point)
            results.setdefault((point, system), []).append(row)
            say_progress(f"[{done}/{len(plan)}] round {number}", scenario, row)
    finally:
        fleet.stop()
    return [
        median_row(scenario, results[point, system])
        for point in scenario.POINTS
        for system in systems
        if (point, system) in results
    ]


def rotated(systems, number):
    """Who goes first changes from round to round."""
    shift = number % len(systems)
    return systems[shift:] + systems[:shift]


def say_progress(prefix, scenario, row):
    point = " ".join(f"{key}={row[key]}" for key in scenario.KEYS)
    value = f"{row[scenario.RANK]:,.0f} {scenario.RANK}"
    machine.say(f"{prefix} {row['scenario']} {point} {report.label(row)}: {value}")


def median_row(scenario, rows):
    """The round in the middle by the scenario's figure; of an even number the lower one."""
    ordered = sorted(rows, key=lambda row: row[scenario.RANK])
    middle = ordered[(len(ordered) - 1) // 2]
    values = [row[scenario.RANK] for row in rows]
    spread = None  # one round has none
    if len(rows) > 1 and middle[scenario.RANK]:
        spread = round((max(values) - min(values)) / middle[scenario.RANK], 3)
    return {**middle, "rounds": values, "spread": spread}


class Fleet:
    """The running servers; a scenario that needs a fresh one for each measurement says so."""

    def __init__(self, scenario, systems, options, build_dir, directory):
        self.scenario = scenario
        self.options = options
        self.build_dir = build_dir
        self.directory = directory
        self.running = {}
        self.started = 0
        self.systems = list(systems)  # without those that cannot run here
        if not scenario.FRESH_SERVER:
            for system in systems:
                self.start_kept(system)

    def start_kept(self, system):
        try:
            self.running[system] = self.start(system)
        except machine.CannotRun as problem:
            machine.say(f"without {system}, which cannot run here: {problem}")
            self.systems.remove(system)

    def start(self, system):
        self.started += 1
        place = self.directory / f"{self.started}-{system}"
        fresh = self.scenario.SYSTEMS[system](place, self.build_dir, self.options)
        try:
            fresh.start()
        except machine.CannotRun:
            raise
        except BaseException:
            self.stop()
            raise
        return fresh

    def measure(self, system, point):
        if self.scenario.FRESH_SERVER:
            self.running[system] = self.start(system)
        running = self.running[system]
        fields = self.scenario.measure(running, self.options.seconds, *point)
        if self.scenario.FRESH_SERVER:
            self.running.pop(system).stop()
            shutil.rmtree(running.directory)
        return {
            "scenario": self.scenario.NAME,
            "system": running.NAME,
            **dict(zip(self.scenario.KEYS, point)),
            **fields,
            "settings": running.settings(),
            "machine": machine.describe(),
        }

    def stop(self):
        for running in self.running.values():
            running.stop()
