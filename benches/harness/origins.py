"""The three backends, the same for every proxy."""

import os
import random
from pathlib import Path

from . import processes
from .processes import Process, folder, free_port

SMALL = b"reverse-proxy benchmark: a small answer of seventy-two bytes, as it is.\n"
FILES = {"/10k": 10 * 1024, "/picture.png": 10 * 1024, "/1m": 1024 * 1024, "/100m": 100 * 1024 * 1024}


def start_nginx(count=3):
    """nginx with the small answer and the files, on three ports or more."""
    assert len(SMALL) == 72
    root = folder() / "files"
    root.mkdir(exist_ok=True)
    for path, size in FILES.items():
        with open(root / path[1:], "wb") as file:
            block = os.urandom(64 * 1024)
            for written in range(0, size, len(block)):
                file.write(block[: size - written])
    (root / "text.txt").write_text(_words(10 * 1024))
    ports = [free_port() for _ in range(count)]
    listen = "\n".join(f"listen 127.0.0.1:{port} backlog=4096;" for port in ports)
    small = SMALL.decode().replace("\n", "\\n")
    config = folder() / f"origin-{count}.conf"
    config.write_text(f"""
{nginx_preamble(f"origin-{count}")}
http {{
    {nginx_temporary(f"origin-{count}")}
    access_log off;
    default_type text/plain;
    types {{ image/png png; }}
    sendfile on;
    tcp_nodelay on;
    keepalive_timeout 120s;
    keepalive_requests 1000000000;
    open_file_cache max=10;
    server {{
        {listen}
        root {root};
        location = /small {{ return 200 "{small}"; }}
    }}
}}
""")
    process = Process(f"origin-{count}", nginx_command(config))
    for port in ports:
        process.wait_for_port(port)
    return ports


def _words(size):
    """So much text, which becomes smaller as texts do: words in an order that does not repeat."""
    source = (Path(__file__).parent / "processes.py").read_text()
    words = source.split()
    order = random.Random(1)
    text = ""
    while len(text) < size:
        text += order.choice(words) + order.choice("  \n")
    return text[:size]


def start_helper(binary, kind="origin"):
    """One of the helper's origins, on three ports: "origin" for slow and chunked answers, uploads, events, WebSockets;
    "split-origin" for answers in two pieces."""
    ports = [free_port() for _ in range(3)]
    process = Process(f"helper-{kind}", [binary, kind, *(f"127.0.0.1:{port}" for port in ports)])
    for port in ports:
        process.wait_for_port(port)
    return ports


def nginx_preamble(name):
    """What every configuration of nginx here begins with."""
    limit = processes.descriptors()
    user = "user root;" if os.getuid() == 0 else ""
    temporary = folder() / f"{name}.tmp"
    temporary.mkdir(exist_ok=True)
    return f"""
daemon off;
{user}
worker_processes auto;
worker_rlimit_nofile {limit};
pid {folder() / name}.pid;
error_log stderr crit;
events {{ worker_connections {min(limit - 100, 16000)}; }}
"""


def nginx_temporary(name):
    """Where nginx may put files: not into the directories of the system."""
    temporary = folder() / f"{name}.tmp"
    return "\n".join(
        f"{kind}_temp_path {temporary / kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )


def nginx_command(config):
    return ["nginx", "-e", "stderr", "-p", folder(), "-c", Path(config)]
