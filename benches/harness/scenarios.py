"""What is measured."""

from dataclasses import dataclass

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
    """Who is behind: "nginx", or the "helper" for what nginx does not do by itself."""
    kind: str = "requests"
    """How it is driven: see runner.py."""
    upload: int = 0
    """Bytes of each request's body."""
    headers: dict = None
    per_mib: bool = False
    """Bodies are what counts: rate and cost per MiB."""
    headline: bool = False
    """Measured in more rounds than the others."""
    quick: bool = False
    """Part of --quick."""
    variants: tuple = ()
    """Instead of several proxies: the native engine alone, with more and more of something. The counts."""


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
    Scenario("chunked", "Chunked answers of 8 × 1 KiB, 64 connections", "/chunked", origin="helper"),
    Scenario("soon", "A backend that takes 2 ms, 64 connections", "/soon", 64, "helper"),
    Scenario("slow", "A backend that takes 20 ms, 256 connections", "/slow", 256, "helper", quick=True),
    Scenario("idle", "10,000 idle connections beside 8 busy ones", connections=8, kind="idle"),
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
    Scenario("rest", "At rest: after the start and one request", kind="rest", quick=True),
]
