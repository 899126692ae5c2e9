"""The proxies that are compared, each with its configuration. Where clients speak TLS, with one certificate (ECDSA P-256).

The same for all: three backends in turn, connections kept alive on both sides and never closed after some number
of requests, X-Forwarded-For, no access log, no health checks, bodies streamed, a thread (or process) per core where
that can be chosen. Everything else is as the program comes.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .origins import nginx_command, nginx_preamble, nginx_temporary
from .processes import folder, free_port
from .rules import NONE, write_files


@dataclass
class Proxy:
    """One of the programs. `command(port, backends)` writes what it needs and says how it is started."""

    name: str
    command: object
    version: object
    program: str
    """What has to be installed, or built."""
    environment: dict = None
    ours: bool = False
    only: tuple = ()
    """The scenarios it takes part in, if not all."""
    speaks_tls: bool = False
    """`command(port, backends, certificate)` makes it."""

    def unusable(self):
        """Why it cannot be measured, or `None`."""
        if shutil.which(self.program) is None:
            return f"{self.program} is not installed"
        if not self.ours:
            return None
        # A build may lack an engine, or be older than a key of the configuration.
        command = [str(part) for part in [*self.command(free_port(), [free_port()]), "--check"]]
        checked = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        lines = (checked.stderr + checked.stdout).strip().splitlines()
        return None if checked.returncode == 0 else lines[-1] if lines else "it does not take its configuration"


def certificate():
    """The files of a certificate and its key, made for this run."""
    cert, key = folder() / "cert.pem", folder() / "key.pem"
    if not key.exists():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            + ["-subj", "/CN=localhost", "-days", "30", "-addext", "subjectAltName=DNS:localhost"]
            + ["-keyout", key, "-out", cert],
            check=True,
            capture_output=True,
        )
        # haproxy wants both in one.
        (folder() / "both.pem").write_text(cert.read_text() + key.read_text())
    return cert, key


def ours(name, binary, engine, routes=1, most_backends=None, observed=False, only=(), rule=NONE):
    """reverse-proxy with one of its ways in; the first of its routes takes everything that is asked for here. `observed`: with
    the access log as JSON in a file, and the admin listener. `rule`: what its first route does beside."""

    def command(port, backends, certificate=None):
        config = folder() / f"{name}.toml"
        write_files()
        addresses = ", ".join(f'"127.0.0.1:{backend}"' for backend in backends[:most_backends])
        prefixes = [rule.prefix, *(f"/service-{number}/v1" for number in range(1, routes))]
        # As many idle connections as the other proxies are told to keep.
        keys = "" if rule.pools else f"backend_addrs = [{addresses}]\nkeepalive_connections = 1024"
        keys += "\n" + rule.filled(rule.keys, backends)
        tables = (f'[[routes]]\nprefix = "{prefix}"\n{keys}' for prefix in prefixes)
        # As many connections as any scenario has; upgraded ones are counted by the native engine alone.
        tunnels = "max_tunnels = 4000" if engine == "native" else ""
        listen, certificates = f'"127.0.0.1:{port}"', ""
        if certificate:
            listen = f'{{ addr = "127.0.0.1:{port}", tls = true }}'
            certificates = f'[[certificates]]\ncert = "{certificate[0]}"\nkey = "{certificate[1]}"'
        if observed:
            tunnels += f'\n[access_log]\npath = "{folder()}/access.log"\nformat = "json"'
            tunnels += f'\n[admin]\nlisten_addr = "127.0.0.1:{free_port()}"'
        config.write_text(f"""
listen_addr = {listen}
shutdown_timeout = 1

{certificates}

[server]
engine = "{engine}"
max_connections = 12000
{tunnels}

{chr(10).join(tables)}
{rule.filled(rule.tables, backends)}
""")
        return [binary, "--config", config]

    version = _first_line(binary, "--version", pattern=r"reverse-proxy (\S+)")
    speaks_tls = engine == "native"
    return Proxy(name, command, version, str(binary), {"RUST_LOG": "error"}, True, only, speaks_tls)


def peer(name, binary, **options):
    """One of benches/peers."""

    def command(port, backends, certificate=None):
        secured = ["--tls", *certificate] if certificate else []
        return [binary, *secured, *(f"127.0.0.1:{number}" for number in [port, *backends])]

    return Proxy(name, command, lambda: _locked_version("hyper"), str(binary), **options)


def nginx(name="nginx", directives=""):
    """`directives`: more of them, of the server."""

    def command(port, backends, certificate=None):
        secured = f" ssl; ssl_certificate {certificate[0]}; ssl_certificate_key {certificate[1]}" if certificate else ""
        config = folder() / "nginx.conf"
        servers = "\n".join(f"server 127.0.0.1:{backend};" for backend in backends)
        config.write_text(f"""
{nginx_preamble("nginx")}
http {{
    {nginx_temporary("nginx")}
    access_log off;
    keepalive_timeout 120s;
    keepalive_requests 1000000000;
    map $http_upgrade $connection_to_send {{ default upgrade; "" ""; }}
    upstream backends {{
        {servers}
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096{secured};
        client_max_body_size 0;
        {directives}
        location / {{
            proxy_pass http://backends;
            proxy_http_version 1.1;
            proxy_set_header Connection $connection_to_send;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            # Bodies of any size pass as they come instead of being kept in files.
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
        }}
    }}
}}
""")
        return nginx_command(config)

    return Proxy(name, command, _first_line("nginx", "-v", pattern=r"nginx/(\S+)"), "nginx", speaks_tls=True)


def haproxy():
    def command(port, backends, certificate=None):
        secured = f" ssl crt {folder()}/both.pem" if certificate else ""
        config = folder() / "haproxy.cfg"
        servers = "\n".join(
            f"    server backend{number} 127.0.0.1:{backend}" for number, backend in enumerate(backends)
        )
        config.write_text(f"""
global
    maxconn 12000
    # It reckons with two descriptors for each of them; idle ones need one.
    no strict-limits
    # Else it keeps no idle connections to backends once a quarter of its descriptors is in use.
    tune.pool-low-fd-ratio 99
    tune.pool-high-fd-ratio 100
defaults
    mode http
    timeout connect 5s
    timeout client 120s
    timeout server 120s
    timeout tunnel 120s
    option forwardfor
frontend front
    bind 127.0.0.1:{port} backlog 4096{secured}
    default_backend backends
backend backends
    balance roundrobin
    http-reuse always
{servers}
""")
        return ["haproxy", "-db", "-f", config]

    return Proxy("haproxy", command, _first_line("haproxy", "-v", pattern=r"version (\S+?)[- ]"), "haproxy", speaks_tls=True)


def apache():
    modules = Path(os.environ.get("APACHE_MODULES", "/usr/lib/apache2/modules"))

    def command(port, backends):
        config = folder() / "apache.conf"
        wanted = ["mpm_event", "authz_core", "slotmem_shm", "proxy", "proxy_http", "proxy_balancer"]
        wanted += ["proxy_wstunnel", "lbmethod_byrequests"]
        load = "\n".join(f"LoadModule {name}_module {modules}/mod_{name}.so" for name in wanted)
        members = "\n".join(
            f"    BalancerMember http://127.0.0.1:{backend} upgrade=websocket" for backend in backends
        )
        user = "User www-data\nGroup www-data" if os.getuid() == 0 else ""
        config.write_text(f"""
{load}
ServerName localhost
ServerRoot {folder()}
DefaultRuntimeDir {folder()}
PidFile {folder()}/apache.pid
Mutex posixsem
ErrorLog {folder()}/apache.error.log
LogLevel crit
{user}
Listen 127.0.0.1:{port}
ListenBacklog 4096
# Twice as many threads as exchanges in any scenario, all from the beginning: short of them, it closes connections.
ServerLimit 2
StartServers 2
ThreadLimit 512
ThreadsPerChild 512
MaxRequestWorkers 1024
MinSpareThreads 1024
MaxSpareThreads 1024
AsyncRequestWorkerFactor 100
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 120
<Proxy balancer://backends>
{members}
    ProxySet lbmethod=byrequests
</Proxy>
ProxyPass / balancer://backends/
""")
        return ["apache2", "-D", "FOREGROUND", "-f", config]

    return Proxy("apache", command, _first_line("apache2", "-v", pattern=r"Apache/(\S+)"), "apache2")


def caddy():
    def command(port, backends):
        config = folder() / "Caddyfile"
        addresses = " ".join(f"127.0.0.1:{backend}" for backend in backends)
        config.write_text(f"""
{{
    admin off
    auto_https off
    log {{
        level ERROR
    }}
}}
http://:{port} {{
    bind 127.0.0.1
    reverse_proxy {addresses} {{
        lb_policy round_robin
        transport http {{
            keepalive_idle_conns 4096
            keepalive_idle_conns_per_host 1024
            compression off
        }}
    }}
}}
""")
        return ["caddy", "run", "--adapter", "caddyfile", "--config", config]

    home = {name: str(folder()) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    return Proxy("caddy", command, _first_line("caddy", "version", pattern=r"v?(\d\S*)"), "caddy", home)


def _first_line(*command, pattern=r"(\S+)\s*$"):
    """Finds the version in what a program says about itself."""

    def version():
        try:
            said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return "?"
        lines = (said.stdout + said.stderr).strip().splitlines()
        found = re.search(pattern, lines[0]) if lines else None
        return found.group(1) if found else "?"

    return version


def _locked_version(package):
    lock = (Path(__file__).parent.parent / "peers" / "Cargo.lock").read_text()
    found = re.search(rf'name = "{package}"\nversion = "([^"]+)"', lock)
    return found.group(1) if found else "?"
