"""What a program and all its children have used so far, from /proc."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_MIB = 1024 * 1024


@dataclass
class Usage:
    """Of a process and all its descendants."""

    cpu: float
    """Seconds, user and system, all threads, ended children included."""
    switches: dict
    """Voluntary and involuntary context switches, by thread."""
    threads: int
    rss: float
    """MiB resident now, summed over the processes: what they share counts for each."""
    pss: float
    """MiB resident now, shared memory divided among those who share it."""
    peak: float
    """The most that was ever resident, MiB, summed over the processes."""


def usage(pid, with_pss=False):
    """The usage of `pid` and its descendants."""
    total = Usage(0.0, {}, 0, 0.0, 0.0, 0.0)
    for member in tree(pid):
        folder = Path("/proc") / str(member)
        try:
            total.cpu += _cpu(folder)
            status = _fields(folder / "status")
            total.threads += status["Threads"]
            total.rss += status["VmRSS"] * 1024 / _MIB
            total.peak += status["VmHWM"] * 1024 / _MIB
            if with_pss:
                total.pss += _fields(folder / "smaps_rollup")["Pss"] * 1024 / _MIB
            total.switches.update((int(task.name), _switches(task)) for task in (folder / "task").iterdir())
        except (FileNotFoundError, ProcessLookupError, KeyError):
            continue
    return total


class LateLook(threading.Timer):
    """Counts the context switches once more shortly before a load ends: when the clients have gone, threads that
    served them alone have gone as well, and their counts with them."""

    def __init__(self, pid, seconds):
        self.before = usage(pid).switches
        self.late = {}
        super().__init__(max(0.0, seconds - 0.15), lambda: self.late.update(usage(pid).switches))
        self.daemon = True

    def switches_until(self, after):
        """All switches since the start, `after` being the usage at the end."""
        last = {**self.late, **after.switches}
        return sum(count - self.before.get(thread, 0) for thread, count in last.items())


def tree(pid):
    """`pid` and its descendants."""
    children = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                children.setdefault(int(_stat(folder)[1]), []).append(int(folder.name))
            except (FileNotFoundError, ProcessLookupError):
                continue
    found = [pid]
    for member in found:
        found.extend(children.get(member, []))
    return found


@dataclass
class Machine:
    """Processor time of the whole machine and of this benchmark, in seconds since some beginning."""

    total: float
    busy: float
    own: float

    @staticmethod
    def now():
        with open("/proc/stat") as stat:
            ticks = [int(number) for number in stat.readline().split()[1:9]]
        idle = ticks[3] + ticks[4]
        own = sum(_cpu_or_nothing(Path("/proc") / str(pid)) for pid in tree(os.getpid()))
        return Machine(sum(ticks) / _TICKS, (sum(ticks) - idle) / _TICKS, own)

    def foreign_since(self, before):
        """Which share of the machine others had."""
        total = self.total - before.total
        foreign = (self.busy - before.busy) - (self.own - before.own)
        return max(0.0, foreign / total) if total > 0 else 0.0


def _stat(folder):
    # The name of the program, in parentheses, may hold anything.
    return (folder / "stat").read_text().rpartition(")")[2].split()


def _cpu(folder):
    # utime, stime, and those of children that have ended.
    return sum(int(ticks) for ticks in _stat(folder)[11:15]) / _TICKS


def _cpu_or_nothing(folder):
    try:
        return _cpu(folder)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def _fields(path):
    fields = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(":")
        number = value.split()[:1]
        if number and number[0].isdigit():
            fields[name] = int(number[0])
    return fields


def _switches(task):
    try:
        status = _fields(task / "status")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return status.get("voluntary_ctxt_switches", 0) + status.get("nonvoluntary_ctxt_switches", 0)
