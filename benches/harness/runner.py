"""One run: a proxy is started, loaded, measured and stopped."""

import http.client
import socket
import ssl
import time
from collections import Counter

from . import load
from .measure import LateLook, Machine, usage
from .processes import Process, free_port
from .proxies import certificate

MIB = 1024 * 1024
# The certificate is made for the run, and nobody has signed it.
_NO_QUESTIONS = ssl.create_default_context()
_NO_QUESTIONS.check_hostname = False
_NO_QUESTIONS.verify_mode = ssl.CERT_NONE


def run(proxy, scenario, backends, options):
    """Measures `proxy`; what was measured, by name. The proxy is started for this run alone, on a port of its own:
    nothing is left over from the run before, and the peak of its memory belongs to this scenario."""
    port = free_port()
    command = proxy.command(port, backends, *([certificate()] if scenario.tls else []))
    process = Process(f"proxy-{proxy.name}", command, proxy.environment)
    before = Machine.now()
    try:
        if scenario.kind == "rest":
            result = _rest(process, port, scenario)
        else:
            process.wait_for_port(port)
            if scenario.kind != "websockets":
                _first_answer(process, port, scenario)
            measured = {
                "requests": _requests,
                "websockets": _websockets,
                "idle": _idle,
                "waiting": _waiting,
            }[scenario.kind]
            result = measured(process, port, scenario, options)
    finally:
        process.stop()
    result["foreign"] = Machine.now().foreign_since(before)
    return result


def _requests(process, port, scenario, options):
    def drive(seconds):
        scheme = "https" if scenario.tls else "http"
        return load.wrk(
            port, scenario.path, scenario.connections, seconds, scenario.upload, scenario.headers, scheme
        )

    return _driven(process, drive, scenario, options)


def _websockets(process, port, scenario, options):
    def drive(seconds):
        return load.websockets(options.helper, port, scenario.connections, seconds)

    return _driven(process, drive, scenario, options)


def _driven(process, drive, scenario, options):
    if options.warm_up:
        drive(options.warm_up)
    late = LateLook(process.pid, options.seconds)
    before = usage(process.pid)
    late.start()
    done = drive(options.seconds)
    after = usage(process.pid)
    late.join()
    if process.popen.poll() is not None:
        raise RuntimeError(f"ended by itself: {process.last_words()}")
    # What the cost is divided by: requests, or MiB. wrk counts the bytes of answers that the end of its time cut off.
    cpu = (after.cpu - before.cpu) * 1e6
    mib = (done.requests * scenario.upload if scenario.upload else done.bytes) / MIB
    units = mib if scenario.per_mib else done.requests
    if units == 0:
        raise RuntimeError(f"not one request succeeded: {process.last_words()}")
    return {
        "rate": units / done.seconds,
        "p50_us": done.p50_us,
        "p99_us": done.p99_us,
        "errors": done.errors,
        "cpu_us": cpu / units,
        "switches": late.switches_until(after) / units,
        "threads": after.threads,
        "peak_mib": after.peak,
    }


def _idle(process, port, scenario, options):
    """The busy clients alone, and again beside many that keep their connection open and say nothing."""
    alone = _requests(process, port, scenario, options)
    idle = []
    try:
        for _ in range(scenario.idle or options.idle):
            try:
                idle.append(_keep_open(port, scenario))
            except OSError as error:
                raise RuntimeError(f"after {len(idle)} idle connections: {error}") from None
        beside = _requests(process, port, scenario, options)
        now = usage(process.pid, with_pss=True)
        closed = sum(not _is_open(connection) for connection in idle)
    finally:
        for connection in idle:
            connection.close()
    return {
        **beside,
        "errors": dict(Counter(alone["errors"]) + Counter(beside["errors"]) + Counter(closed=closed)),
        "alone_rate": alone["rate"],
        "beside_share": beside["rate"] / alone["rate"],
        "rss_mib": now.rss,
        "pss_mib": now.pss,
        "threads": now.threads,
    }


def _waiting(process, port, scenario, options):
    """The busy clients alone, and again beside many that wait. What these cost is what came on top."""
    at_start = usage(process.pid)
    alone = _requests(process, port, scenario, options)
    before = usage(process.pid)
    with load.Waiting(options.helper, port, scenario.name, scenario.waiting) as waiting:
        beside = _requests(process, port, scenario, options)
        now = usage(process.pid)
        failures = waiting.finish()
    return {
        **beside,
        "errors": dict(Counter(alone["errors"]) + Counter(beside["errors"]) + Counter(failures)),
        "failures": sum(failures.values()),
        "alone_rate": alone["rate"],
        "alone_p99_us": alone["p99_us"],
        "alone_cpu_us": alone["cpu_us"],
        "beside_share": beside["rate"] / alone["rate"],
        "rss_mib": now.rss,
        "rss_kib_each": (now.rss - before.rss) * 1024 / scenario.waiting,
        "threads_at_start": at_start.threads,
        "threads": now.threads,
        "threads_more": now.threads - at_start.threads,
    }


def _keep_open(port, scenario):
    connection = socket.create_connection(("127.0.0.1", port), 10)
    if scenario.tls:
        connection = _NO_QUESTIONS.wrap_socket(connection, server_hostname="localhost")
    connection.sendall(f"GET {scenario.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    answer = connection.recv(4096)
    connection.settimeout(None)
    if not answer.startswith(b"HTTP/1.1 200"):
        connection.close()
        raise RuntimeError(f"an idle connection got {answer[:40]!r}")
    return connection


def _is_open(connection):
    try:
        if isinstance(connection, ssl.SSLSocket):
            connection.setblocking(False)
            return connection.recv(1) != b""
        return connection.recv(1, socket.MSG_DONTWAIT) != b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False


def _rest(process, port, scenario):
    """How long until the first answer, and what it takes then."""
    end = process.started + 10
    while True:
        try:
            _ask(port, scenario)
            break
        except (OSError, http.client.HTTPException):
            if process.popen.poll() is not None:
                raise RuntimeError(f"ended by itself: {process.last_words()}") from None
            if time.monotonic() > end:
                raise RuntimeError("no answer within 10 s") from None
            time.sleep(0.0005)
    answered = time.monotonic()
    time.sleep(0.5)
    now = usage(process.pid, with_pss=True)
    return {
        "first_answer_ms": (answered - process.started) * 1000,
        "rss_mib": now.rss,
        "pss_mib": now.pss,
        "threads": now.threads,
        "errors": {},
    }


def _first_answer(process, port, scenario):
    """Whether it works at all, before time is spent on measuring."""
    end = time.monotonic() + 5
    while True:
        try:
            return _ask(port, scenario)
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() > end:
                raise RuntimeError(f"{error}; {process.last_words()}") from None
            time.sleep(0.01)


def _ask(port, scenario):
    if scenario.tls:
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=_NO_QUESTIONS)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        if scenario.upload:
            connection.request("POST", scenario.path, body=b"u" * scenario.upload)
        else:
            connection.request("GET", scenario.path, headers=scenario.headers or {})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise http.client.HTTPException(f"answered {answer.status} {answer.reason}")
    finally:
        connection.close()
