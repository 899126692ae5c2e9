"""From runs to tables."""

from collections import Counter
from statistics import median

from .scenarios import SCENARIOS, variant_name

OURS = ("native", "tiny_http")
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

    def ratio(self, proxy, key, to):
        value, reference = self.median(proxy, key), self.median(to, key)
        return value / reference if value is not None and reference else None


def table(scenario, runs):
    """The lines of a scenario's table."""
    runs = Runs(runs)
    columns = _columns(scenario)
    rows = [["" if scenario.variants else "proxy", *(title for title, *_ in columns)]]
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
    references = [variant_name(scenario, scenario.variants[0])] if scenario.variants else REFERENCES
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


# What issue "Fast, and proven so" asks of the native engine.


def targets(results, all_of_them=True):
    """The lines of the table that holds each target against what was measured; without `all_of_them` only the
    measured ones, which may be none."""
    rows = [["target", "measured", "met"]]
    for text, bound, at_most, measured in _targets(
        {name: Runs(its["runs"]) for name, its in results.items()}
    ):
        if measured is None:
            if all_of_them:
                rows.append([text, "not measured", ""])
        else:
            met = measured <= bound if at_most else measured >= bound
            rows.append([text, f"{measured:.2f}", "yes" if met else "**no**"])
    return _aligned(rows) if len(rows) > 1 else []


def _targets(results):
    nothing = Runs({})

    def ratio(scenario, key, to):
        return results.get(scenario, nothing).ratio("native", key, to)

    def value(scenario, key):
        return results.get(scenario, nothing).median("native", key)

    for connections, hyper, haproxy in ((64, 1.0, 1.5), (512, 0.9, 1.15)):
        name = f"small-{connections}"
        at = f"at {connections} connections"
        yield f"CPU/request {at}: at most {hyper} × hyper", hyper, True, ratio(name, "cpu_us", "hyper")
        yield (
            f"CPU/request {at}: at most {haproxy} × haproxy",
            haproxy,
            True,
            ratio(name, "cpu_us", "haproxy"),
        )
        yield f"req/s {at}: at least 1.0 × hyper", 1.0, False, ratio(name, "rate", "hyper")
        yield f"req/s {at}: at least 0.85 × nginx", 0.85, False, ratio(name, "rate", "nginx")
        yield f"p99 {at}: at most 1.25 × hyper", 1.25, True, ratio(name, "p99_us", "hyper")
    yield "slow backend, req/s: at least 0.95 × threads", 0.95, False, ratio("slow", "rate", "threads")
    for name in ("1m", "100m", "upload-64k", "upload-10m"):
        # The best of the references is the one that makes the ratio largest.
        ratios = [ratio(name, "cpu_us", to) for to in REFERENCES]
        worst = None if None in ratios else max(ratios)
        yield f"{name}, CPU/MiB: at most 1.1 × the best of nginx, haproxy, hyper", 1.1, True, worst
    yield (
        "new connections, CPU/request: at most 1.0 × hyper",
        1.0,
        True,
        ratio("new-connection", "cpu_us", "hyper"),
    )
    yield "10,000 idle connections, RSS: under 60 MiB", 60, True, value("idle", "rss_mib")
    yield (
        "10,000 idle connections, req/s beside: at least 0.9 × alone",
        0.9,
        False,
        value("idle", "beside_share"),
    )
    yield "at rest, RSS: under 6 MiB", 6, True, value("rest", "rss_mib")
    yield "first answer after the start: under 20 ms", 20, True, value("rest", "first_answer_ms")


def document(results, machine):
    """The whole of results.md."""
    lines = [
        "# Benchmark",
        "",
        "Written by `just bench` (`benches/run`), medians over interleaved rounds; ± is how far a round lies from the",
        "median at most. **native** and **tiny_http** are the engines of reverse-proxy; *hyper* is a small proxy on",
        "Tokio and hyper (`benches/peers`), *threads* a thread per connection on plain sockets, *pool* the poller, the",
        "channel and the workers of reverse-proxy on plain sockets, with nothing else in it. CPU is user and system time",
        "of the proxy with all its threads and child processes; ×: that cost in relation to nginx, haproxy and hyper.",
        "RSS is summed over processes. Proxies, origin and clients share the machine: compare numbers of one table with",
        "each other only. How the others are configured is in `benches/harness/proxies.py`.",
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
