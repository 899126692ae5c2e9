"""What is measured."""

from dataclasses import dataclass

from . import rules

KIB = 1024
MIB = 1024 * KIB
CLOSE = {"Connection": "close"}


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    path: str = "/small"
    connections: int = 64
    origin: str = "nginx"
    """Who is behind: "nginx" ("many" of them), or the "helper" for what nginx does not do by itself ("split": answers
    in two pieces)."""
    kind: str = "requests"
    """How it is driven: see runner.py."""
    upload: int = 0
    """Bytes of each request's body."""
    headers: dict = None
    tls: bool = False
    """The clients speak TLS; the proxies that can take part."""
    idle: int = 0
    """Of the kind "idle": how many, if not as many as the command line says."""
    per_mib: bool = False
    """Bodies are what counts: rate and cost per MiB."""
    headline: bool = False
    """Measured in more rounds than the others."""
    quick: bool = False
    """Part of --quick."""
    waiting: int = 0
    """Clients that wait beside the busy ones, in the way that the scenario is named after."""
    without: tuple = ()
    """The proxies that take no part."""
    variants: tuple = ()
    """Instead of several proxies: the native engine alone, with more and more of something. The counts."""
    rules: tuple = ()
    """Instead of several proxies: the native engine with each of these rules, the first being none."""
    group: str = ""
    """Measured only if it, or its group, is asked for."""


# What takes a thread for each exchange, or much memory, cannot have thousands of them.
WITH_FEW = ("tiny_http", "apache", "caddy")


def waiting(name, title, count, **fields):
    """A scenario with clients that wait, beside a few that ask for the small answer."""
    return Scenario(
        name, title, connections=8, origin="helper", kind="waiting", waiting=count, without=WITH_FEW, **fields
    )


def variant_name(scenario, count):
    """How a variant is called in the tables."""
    return f"{count} {scenario.name if count > 1 else scenario.name.removesuffix('s')}"


SCENARIOS = [
    *(
        Scenario(
            f"small-{connections}",
            f"Small answer (72 bytes), {connections} connection{'s' if connections > 1 else ''}",
            connections=connections,
            headline=True,
            quick=connections in (64, 512),
        )
        for connections in (1, 8, 64, 512)
    ),
    Scenario("10k", "Answers of 10 KiB, 64 connections", "/10k"),
    Scenario("1m", "Answers of 1 MiB, 16 connections", "/1m", 16, per_mib=True, quick=True),
    Scenario("100m", "Answers of 100 MiB, 4 connections", "/100m", 4, per_mib=True),
    Scenario(
        "upload-64k",
        "Uploads of 64 KiB, 16 connections",
        "/upload",
        16,
        "helper",
        upload=64 * KIB,
        per_mib=True,
        quick=True,
    ),
    Scenario(
        "upload-10m",
        "Uploads of 10 MiB, 4 connections",
        "/upload",
        4,
        "helper",
        upload=10 * MIB,
        per_mib=True,
    ),
    Scenario(
        "new-connection",
        "A new connection for every request, 16 clients",
        connections=16,
        headers=CLOSE,
        quick=True,
    ),
    Scenario("tls-small", "TLS: small answer (72 bytes), 64 connections", tls=True),
    Scenario("tls-1m", "TLS: answers of 1 MiB, 16 connections", "/1m", 16, tls=True, per_mib=True),
    Scenario(
        "tls-handshake",
        "TLS: a new connection and a full handshake for every request, 16 clients",
        connections=16,
        headers=CLOSE,
        tls=True,
    ),
    Scenario(
        "tls-idle", "TLS: 1,000 idle connections beside 8 busy ones", connections=8, kind="idle", tls=True, idle=1000
    ),
    Scenario("chunked", "Chunked answers of 8 × 1 KiB, 64 connections", "/chunked", origin="helper"),
    Scenario("soon", "A backend that takes 2 ms, 64 connections", "/soon", 64, "helper"),
    Scenario("slow", "A backend that takes 20 ms, 256 connections", "/slow", 256, "helper", quick=True),
    Scenario("idle", "10,000 idle connections beside 8 busy ones", connections=8, kind="idle"),
    waiting("slow-readers", "1,000 clients that read 1 MiB at 1 KiB/s, beside 8 busy ones", 1000),
    waiting("long-polls", "4,000 requests that are answered after 15 s, beside 8 busy clients", 4000),
    waiting("event-streams", "4,000 streams with an event every 3 s, beside 8 busy clients", 4000),
    waiting("tunnels", "3,000 idle WebSockets, beside 8 busy clients", 3000),
    Scenario(
        "split-writes",
        "A backend that writes head and body separately, Nagle's algorithm on, 8 connections",
        connections=8,
        origin="split",
        quick=True,
    ),
    Scenario(
        "websocket",
        "WebSocket messages of 64 bytes there and back, 64 connections",
        "/ws",
        64,
        "helper",
        "websockets",
        quick=True,
    ),
    Scenario(
        "routes", "More and more routes (the native engine alone, small answer)", variants=(1, 10, 100, 1000)
    ),
    Scenario(
        "backends",
        "More and more backends (the native engine alone, small answer)",
        variants=(3, 30, 300),
        origin="many",
    ),
    Scenario(
        "connections",
        "More and more connections (the native engine alone, small answer)",
        variants=(8, 32, 128, 512, 2000),
    ),
    Scenario(
        "rules-small",
        "A rule of a route: small answer (72 bytes), 64 connections",
        headers=rules.REQUEST,
        headline=True,
        rules=rules.OF_SMALL,
        group="rules",
    ),
    Scenario(
        "rules-text",
        "Compression: answers of 10 KiB, 64 connections",
        "/text.txt",
        headers=rules.REQUEST,
        rules=rules.OF_TEXT,
        group="rules",
    ),
    Scenario("rest", "At rest: after the start and one request", kind="rest", quick=True),
]
