"""Programs started for the benchmark. None of them outlives it, whatever ends it."""

import atexit
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_running = []
_folder = None
_ports = set()


def prepare():
    """As many descriptors as allowed; whatever ends this program stops what it started."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Not more than is needed: haproxy and apache2 reserve memory in proportion.
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    atexit.register(_clean_up)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def descriptors():
    """How many files a process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def folder():
    """The directory of this run: configurations, logs, the files of the origin. Removed at the end."""
    global _folder
    if _folder is None:
        _folder = Path(tempfile.mkdtemp(prefix="reverse-proxy-bench-"))
        # apache2 started by root serves as another user.
        _folder.chmod(0o755)
    return _folder


def free_port():
    """A port nobody listens on and that has not been given out before. Below those that outgoing connections take
    by themselves."""
    while True:
        port = random.randint(10000, 32000)
        if port in _ports:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                _ports.add(port)
                return port
            except OSError:
                continue


class Process:
    """A program running in the background, in a process group of its own."""

    def __init__(self, name, command, environment=None):
        self.log = folder() / f"{name}.log"
        with open(self.log, "wb") as log:
            self.popen = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder(),
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        # Popen comes back when the new program is being executed.
        self.started = time.monotonic()
        self.pid = self.popen.pid
        _running.append(self)

    def wait_for_port(self, port, seconds=10.0):
        """Waits until something answers on `port`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.popen.poll() is not None:
                raise RuntimeError(f"ended by itself: {self.last_words()}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.002)
        raise RuntimeError(f"does not listen after {seconds:g} s: {self.last_words()}")

    def last_words(self):
        """The end of what it said."""
        text = self.log.read_text(errors="replace").strip()
        return text.splitlines()[-1][:300] if text else "without a word"

    def stop(self):
        """Asks it to end; after two seconds, ends it and all processes of its group."""
        if self not in _running:
            return
        _running.remove(self)
        for send, number in ((os.kill, signal.SIGTERM), (os.killpg, signal.SIGKILL)):
            try:
                send(self.pid, number)
                self.popen.wait(2)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass


def run(command, seconds, **options):
    """Runs a program to its end, but not longer than `seconds`. What it wrote to stdout."""
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        **options,
    )
    try:
        text, _ = process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {text.strip()[-300:]}")
    return text


def _clean_up():
    for process in list(_running):
        process.stop()
    if _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)
