"""Load on a proxy: wrk for requests, the helper for WebSockets and for clients that wait."""

import json
import subprocess
import threading
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


def wrk(port, path, connections, seconds, upload=0, headers=None, scheme="http"):
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
            f"{scheme}://127.0.0.1:{port}{path}",
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


class Waiting:
    """Clients of the helper that wait: open from the beginning of a `with` to its end, unless `finish` is called."""

    OPENING = 60
    """Seconds until all of them are open."""
    ENDING = 60
    """Seconds from being told so until all of them have ended: more than a long poll takes."""

    def __init__(self, helper, port, kind, count):
        self.command = [helper, "wait", kind, f"127.0.0.1:{port}", str(count)]

    def __enter__(self):
        self.popen = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        line = self._within(self.OPENING, self.popen.stdout.readline)
        try:
            self.open = json.loads(line)["open"]
        except ValueError:
            self._kill()
            raise RuntimeError(f"the helper's clients did not open: {line.strip() or 'no word within 60 s'}") from None
        return self

    def finish(self):
        """Lets them end. How many failed, and why: `{reason: count}`."""
        # Closes its input, by which it is told.
        text = self._within(self.ENDING, lambda: self.popen.communicate()[0])
        *complaints, result = text.strip().splitlines() or [""]
        try:
            reasons = {}
            for complaint in complaints:
                count, _, reason = complaint.removeprefix("helper: ").partition(" × ")
                reasons[reason] = int(count)
            complete = json.loads(result)["failures"] == sum(reasons.values())
        except ValueError:
            complete = False
        if not complete:
            raise RuntimeError(f"the helper's clients did not end well: {text.strip()[-300:] or 'no word within 60 s'}")
        return reasons

    def __exit__(self, *_):
        self._kill()

    def _within(self, seconds, what):
        alarm = threading.Timer(seconds, self.popen.kill)
        alarm.start()
        try:
            return what()
        finally:
            alarm.cancel()

    def _kill(self):
        self.popen.kill()
        self.popen.communicate()
