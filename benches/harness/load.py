"""Load on a proxy: wrk for requests, the helper for WebSockets."""

import json
from dataclasses import dataclass

from . import processes
from .processes import folder

_SCRIPT = """
wrk.method = "{method}"
{headers}
{body}
done = function(summary, latency, requests)
    local e = summary.errors
    io.write(string.format(
        'RESULT {{"seconds":%.6f,"requests":%.0f,"bytes":%.0f,"p50_us":%.0f,"p99_us":%.0f,"errors":{{' ..
        '"connecting":%.0f,"reading":%.0f,"writing":%.0f,"other than 2xx":%.0f,"over 10 s":%.0f}}}}\\n',
        summary.duration / 1e6, summary.requests, summary.bytes,
        latency:percentile(50), latency:percentile(99),
        e.connect, e.read, e.write, e.status, e.timeout))
end
"""


@dataclass
class Load:
    """What came of it. `bytes` is what the client received, heads included."""

    seconds: float
    requests: int
    p50_us: float
    p99_us: float
    errors: dict
    """How many of which kind."""
    bytes: int = 0


def wrk(port, path, connections, seconds, upload=0, headers=None):
    """Requests from `connections` clients for so many whole seconds."""
    script = folder() / "wrk.lua"
    lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in (headers or {}).items()]
    script.write_text(
        _SCRIPT.format(
            method="POST" if upload else "GET",
            headers="\n".join(lines),
            body=f'wrk.body = string.rep("u", {upload})' if upload else "",
        )
    )
    text = processes.run(
        [
            "wrk",
            f"--threads={min(2, connections)}",
            f"--connections={connections}",
            f"--duration={seconds}s",
            "--timeout=10s",
            f"--script={script}",
            f"http://127.0.0.1:{port}{path}",
        ],
        seconds + 20,
    )
    for line in text.splitlines():
        if line.startswith("RESULT "):
            result = Load(**json.loads(line.removeprefix("RESULT ")))
            result.errors = {kind: count for kind, count in result.errors.items() if count}
            return result
    raise RuntimeError(f"wrk said nothing of a result: {text.strip()[-300:]}")


def websockets(helper, port, connections, seconds):
    """Messages there and back on `connections` WebSockets."""
    text = processes.run([helper, "websocket", f"127.0.0.1:{port}", connections, seconds], seconds + 20)
    *complaints, result = text.strip().splitlines()
    result = Load(**json.loads(result))
    result.errors = {"broken off": result.errors} if result.errors else {}
    if result.requests == 0:
        raise RuntimeError(f"no message came back: {complaints[0] if complaints else 'no reason given'}")
    return result
