"""From runs to tables."""

from collections import Counter
from dataclasses import dataclass
from statistics import median

from .scenarios import SCENARIOS, variant_name

OURS = ("native", "tiny_http", "observed")
REFERENCES = ("nginx", "haproxy", "hyper")


class Runs:
    """The runs of one scenario: `{proxy: [run, …]}`, in the order the proxies are listed."""

    def __init__(self, runs):
        self.runs = runs

    def values(self, proxy, key):
        return [run[key] for run in self.runs.get(proxy, []) if key in run]

    def median(self, proxy, key):
        values = self.values(proxy, key)
        return median(values) if values else None

    def most(self, proxy, key):
        return max(self.values(proxy, key), default=None)

    def ratio(self, proxy, key, to):
        value, reference = self.median(proxy, key), self.median(to, key)
        return value / reference if value is not None and reference else None

    def ratio_to_least(self, proxy, key, of):
        """In relation to the one that needs least; nothing while one of them has not been measured."""
        ratios = [self.ratio(proxy, key, to) for to in of]
        return None if None in ratios else max(ratios)


def table(scenario, runs):
    """The lines of a scenario's table."""
    runs = Runs(runs)
    columns = _columns(scenario)
    first = "" if scenario.variants else "rule" if scenario.rules else "proxy"
    rows = [[first, *(title for title, *_ in columns)]]
    notes = []
    for proxy, its in runs.runs.items():
        failed = [run["failed"] for run in its if "failed" in run]
        if len(failed) == len(its):
            notes.append(f"{proxy}: not measured: {failed[0]}")
            continue
        if failed:
            notes.append(f"{proxy}: {len(failed)} of {len(its)} runs failed: {failed[0]}")
        name = f"**{proxy}**" if proxy in OURS else proxy
        errors = sum((Counter(run.get("errors")) for run in its), Counter())
        if errors:
            kinds = ", ".join(f"{count} {kind}" for kind, count in errors.items())
            notes.append(f"{proxy}: **errors**: {kinds}")
            name += " ⚠"
        rows.append([name, *(cell(runs, proxy) for _, cell in columns)])
    return [*_aligned(rows), "", *(f"- {note}" for note in notes), *([""] if notes else [])]


def _columns(scenario):
    if scenario.kind == "rest":
        return [
            ("first answer, ms", _spread("first_answer_ms", "{:.1f}")),
            ("RSS, MiB", _plain("rss_mib", "{:.1f}")),
            ("PSS, MiB", _plain("pss_mib", "{:.1f}")),
            ("threads", _plain("threads", "{:.0f}")),
        ]
    if scenario.kind == "idle":
        return [
            ("req/s alone", _spread("alone_rate", "{:,.0f}")),
            ("beside", _spread("rate", "{:,.0f}")),
            ("beside / alone", _spread("beside_share", "{:.2f}")),
            ("RSS, MiB", _plain("rss_mib", "{:.1f}")),
            ("PSS, MiB", _plain("pss_mib", "{:.1f}")),
            ("threads", _plain("threads", "{:.0f}")),
        ]
    if scenario.kind == "waiting":
        return [
            ("req/s alone", _spread("alone_rate", "{:,.0f}")),
            ("beside", _spread("rate", "{:,.0f}")),
            ("beside / alone", _spread("beside_share", "{:.2f}")),
            ("p99 alone, ms", _time("alone_p99_us")),
            ("beside", _time("p99_us")),
            ("CPU µs/req alone", _spread("alone_cpu_us", "{:.1f}")),
            ("beside", _spread("cpu_us", "{:.1f}")),
            ("RSS, MiB", _plain("rss_mib", "{:.1f}")),
            ("KiB more for each", _spread("rss_kib_each", "{:.1f}")),
            ("threads at start", _plain("threads_at_start", "{:.0f}")),
            ("beside", _plain("threads", "{:.0f}")),
            ("failed", _sum("failures")),
        ]
    references = REFERENCES
    if scenario.variants:
        references = [variant_name(scenario, scenario.variants[0])]
    elif scenario.rules:
        references = [scenario.rules[0].name]
    unit = "MiB" if scenario.per_mib else "message" if scenario.kind == "websockets" else "req"
    return [
        (f"{unit}/s", _spread("rate", "{:,.0f}")),
        ("p50, ms", _time("p50_us")),
        ("p99, ms", _time("p99_us")),
        (f"CPU µs/{unit}", _spread("cpu_us", "{:.1f}")),
        *((f"× {name}", _ratio("cpu_us", name)) for name in references),
        (f"switches/{unit}", _plain("switches", "{:.2f}")),
        ("peak RSS, MiB", _plain("peak_mib", "{:.1f}")),
    ]


def _plain(key, form):
    def cell(runs, proxy):
        value = runs.median(proxy, key)
        return "" if value is None else form.format(value)

    return cell


def _sum(key):
    def cell(runs, proxy):
        values = runs.values(proxy, key)
        return f"{sum(values):,}" if values else ""

    return cell


def _time(key):
    """Microseconds as milliseconds. Nothing where no request was answered to its end."""

    def cell(runs, proxy):
        value = runs.median(proxy, key)
        return f"{value / 1000:.2f}" if value else ""

    return cell


def _spread(key, form):
    """The median, and how far the runs lie from it at most."""

    def cell(runs, proxy):
        values = runs.values(proxy, key)
        if not values:
            return ""
        middle = median(values)
        text = form.format(middle)
        if len(values) > 1 and middle:
            text += f" ±{max(max(values) - middle, middle - min(values)) / middle:.0%}"
        return text

    return cell


def _ratio(key, to):
    def cell(runs, proxy):
        ratio = runs.ratio(proxy, key, to)
        return "" if ratio is None else f"{ratio:.2f}"

    return cell


def _aligned(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(cells):
        first, *rest = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "| " + " | ".join([first, *rest]) + " |"

    rule = (
        "|"
        + "|".join(
            "-" * (width + 2) if column == 0 else "-" * (width + 1) + ":"
            for column, width in enumerate(widths)
        )
        + "|"
    )
    return [line(rows[0]), rule, *(line(row) for row in rows[1:])]


def targets(results, all_of_them=True):
    """The lines of the table that holds each target of the native engine against what was measured; without
    `all_of_them` only the measured ones, which may be none."""
    rows = [["target", "measured", "met"]]
    for text, bound, measured in _targets({name: Runs(its["runs"]) for name, its in results.items()}):
        if measured is None:
            if all_of_them:
                rows.append([f"{text}: {bound}", "not measured", ""])
        else:
            # What is shown is what is judged.
            shown = round(measured, 2)
            met = shown <= bound.value if bound.at_most else shown >= bound.value
            rows.append([f"{text}: {bound}", f"{shown:.2f}", "yes" if met else "**no**"])
    return _aligned(rows) if len(rows) > 1 else []


@dataclass(frozen=True)
class _Bound:
    at_most: bool
    value: float
    of: str = ""

    def __str__(self):
        return f"at {'most' if self.at_most else 'least'} {self.value:g}{' ' if self.of else ''}{self.of}"


def _at_most(value, of=""):
    return _Bound(True, value, of)


def _at_least(value, of=""):
    return _Bound(False, value, of)


def _targets(results):
    """What is aimed at, as `(of what, bound, measured)`."""

    def of(scenario):
        return results.get(scenario, Runs({}))

    def ratio(scenario, key, to, whose="native"):
        return of(scenario).ratio(whose, key, to)

    def to_least(scenario, key, *others):
        return of(scenario).ratio_to_least("native", key, others)

    yield "1 connection, CPU/request", _at_most(0.8, "× hyper"), ratio("small-1", "cpu_us", "hyper")
    for connections in (8, 64, 512):
        name, at = f"small-{connections}", f"{connections} connections"
        yield f"{at}, CPU/request", _at_most(0.7, "× hyper"), ratio(name, "cpu_us", "hyper")
        yield f"{at}, CPU/request", _at_most(1.0, "× haproxy"), ratio(name, "cpu_us", "haproxy")
        if connections > 8:
            yield f"{at}, CPU/request", _at_most(1.0, "× nginx"), ratio(name, "cpu_us", "nginx")
        yield f"{at}, req/s", _at_least(0.95, "× nginx"), ratio(name, "rate", "nginx")
        best = to_least(name, "p99_us", *REFERENCES)
        yield f"{at}, p99", _at_most(1.25, "× the best of nginx, haproxy, hyper"), best
    for name, takes in (("soon", "2 ms"), ("slow", "20 ms")):
        backend = f"a backend that takes {takes}"
        yield f"{backend}, CPU/request", _at_most(0.7, "× hyper"), ratio(name, "cpu_us", "hyper")
        yield f"{backend}, req/s", _at_least(1.0, "× a thread for each connection"), ratio(name, "rate", "threads")
    new = ratio("new-connection", "cpu_us", "hyper")
    yield "a new connection for every request, CPU/request", _at_most(0.8, "× hyper"), new
    for connections in (1, 64, 512):
        cost = ratio(f"small-{connections}", "cpu_us", "native", "observed")
        yield f"access log and metrics, {connections} connections, CPU/request", _at_most(1.08, "× without"), cost
    for name, bound in (("tls-small", 1.0), ("tls-1m", 1.0), ("tls-handshake", 1.1)):
        yield f"{name}, CPU", _at_most(bound, "× haproxy"), ratio(name, "cpu_us", "haproxy")
    for name in ("10k", "chunked", "upload-64k"):
        best = to_least(name, "cpu_us", "haproxy", "hyper")
        yield f"{name}, CPU", _at_most(0.8, "× the best of haproxy, hyper"), best
    for name in ("1m", "upload-10m", "100m"):
        best = to_least(name, "cpu_us", *REFERENCES)
        yield f"{name}, CPU", _at_most(1.0, "× the best of nginx, haproxy, hyper"), best
    yield "websocket, CPU/message", _at_most(0.85, "× hyper"), ratio("websocket", "cpu_us", "hyper")
    for scenario in SCENARIOS:
        if scenario.kind == "waiting":
            yield from _targets_of_waiting(scenario, of(scenario.name))
    idle = of("idle")
    yield "10,000 idle connections, RSS in MiB", _at_most(60), idle.median("native", "rss_mib")
    yield "10,000 idle connections, req/s beside", _at_least(0.9, "× alone"), idle.median("native", "beside_share")
    rest = of("rest")
    yield "at rest, RSS in MiB", _at_most(6), rest.median("native", "rss_mib")
    yield "first answer after the start, in ms", _at_most(20), rest.median("native", "first_answer_ms")


def _targets_of_waiting(scenario, runs):
    of = f"{scenario.waiting:,} {scenario.name}"
    # In no run one of them may fail, or a thread be started. A run that came to nothing counts as a failure.
    failures = runs.most("native", "failures")
    if broken := sum("failed" in run for run in runs.runs.get("native", [])):
        failures = (failures or 0) + broken
    yield f"{of}, failures", _at_most(0), failures
    yield f"{of}, threads more than at start", _at_most(0), runs.most("native", "threads_more")
    yield f"{of}, req/s beside", _at_least(0.5, "× alone"), runs.median("native", "beside_share")
    yield f"{of}, RSS in KiB more for each", _at_most(15), runs.median("native", "rss_kib_each")


def document(results, machine):
    """The whole of results.md."""
    lines = [
        "# Benchmark",
        "",
        "Written by `just bench` (`benches/run`), medians over interleaved rounds; ± is how far a round lies from the",
        "median at most. **native** and **tiny_http** are the engines of reverse-proxy; *hyper* is a small proxy on",
        "Tokio and hyper (`benches/peers`), *threads* a thread per connection on plain sockets, *pool* a thread that",
        "polls and blocking workers that it hands requests to. CPU is user and system time of the proxy with all its",
        "threads and child processes; ×: that cost in relation to nginx, haproxy and hyper. RSS is summed over processes.",
        "Where clients wait beside busy ones, rate, p99 and CPU per request are those of the busy ones, and what the",
        "others cost is in that CPU; *for each* is what RSS has grown by, divided by how many wait; *failed* counts those",
        "that wait, over all rounds. Proxies, origin and clients share the machine: compare numbers of one table with",
        "each other only. How the others are configured is in `benches/harness/proxies.py`. What a rule of a route costs is",
        "measured with the native engine and one rule each (`benches/harness/rules.py`): × none is the ratio to no rule at",
        "all, for the same request.",
        "",
        *(f"- {name}: {value}" for name, value in machine.items()),
        "",
    ]
    if results:
        lines += ["## Targets", "", *targets(results), ""]
    for scenario in SCENARIOS:
        if scenario.name not in results:
            continue
        its = results[scenario.name]
        lines += [f"## {scenario.title}", "", *table(scenario, its["runs"])]
        foreign = [run["foreign"] for runs in its["runs"].values() for run in runs if "foreign" in run]
        share = f" Other programs had {median(foreign):.0%} of the machine." if foreign else ""
        lines += [f"{its['how']}{share}", ""]
    return "\n".join(lines).rstrip() + "\n"
