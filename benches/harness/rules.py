"""What a rule of a route costs: variants of the native engine with one rule each, beside one without any. All of them get the
same request, with everything in it that one of the rules looks at."""

from dataclasses import dataclass

from .processes import folder

REQUEST = {
    "Accept-Encoding": "gzip",
    # anna, secret.
    "Authorization": "Basic YW5uYTpzZWNyZXQ=",
    "X-Beta": "1",
}
USERS = "anna:$2b$05$c4WoMPo3SXsafkva.HHa6u7b1XOWKqA7XZANDrnv4IVny/8ABNR66\n"


@dataclass(frozen=True)
class Rule:
    """One variant. What it has in it may name `{folder}` and, of the backends, `{addresses}` and `{first}`."""

    name: str
    keys: str = ""
    """Of the route."""
    tables: str = ""
    """Beside the route."""
    prefix: str = "/"
    path: str = None
    """What is asked for, if not what the scenario says."""
    pools: bool = False
    """The keys say where the backends are."""
    nginx: str = None
    """nginx in place of ours, with these directives."""

    def filled(self, text, backends):
        addresses = ", ".join(f'"127.0.0.1:{backend}"' for backend in backends)
        text = text.replace("{addresses}", addresses).replace("{first}", f"127.0.0.1:{backends[0]}")
        return text.replace("{folder}", str(folder()))


def write_files():
    """The files that rules name."""
    (folder() / "users").write_text(USERS)
    (folder() / "sorry.html").write_text("<p>Sorry.</p>\n")


NONE = Rule("none")
OF_SMALL = (
    NONE,
    Rule("allow, deny", 'allow = ["127.0.0.0/8", "10.0.0.0/8"]\ndeny = ["192.0.2.0/24", "2001:db8::/32"]'),
    # The first that is looked at lacks a field, the second is it.
    Rule(
        "methods, match_headers",
        'name = "beta"\nmethods = ["GET", "HEAD"]\nmatch_headers = { X-Beta = "1" }',
        '[[routes]]\nname = "two"\nprefix = "/"\nbackend_addrs = [{addresses}]\n'
        'match_headers = { X-Beta = "1", X-Gamma = true }\n'
        '[[routes]]\nname = "rest"\nprefix = "/"\nbackend_addrs = [{addresses}]',
    ),
    Rule("rate_limit", "rate_limit = { requests_per_sec = 1000000, burst = 1000000 }"),
    Rule(
        "request_headers, response_headers",
        'request_headers = { set = { X-Client = "{client_ip}", X-From = "{scheme} {host} {route}" }, remove = ["X-Beta"] }\n'
        'response_headers = { set = { X-Request = "{request_id}" }, remove = ["Server"] }',
    ),
    Rule("strip_prefix", "strip_prefix = true", prefix="/service", path="/service/small"),
    Rule("basic_auth", 'basic_auth = { users_file = "{folder}/users" }'),
    Rule("forward_auth", 'forward_auth = { addr = "{first}", path = "/small", copy_headers = ["Remote-User"] }'),
    Rule("error_pages", 'error_pages = { 5xx = "{folder}/sorry.html" }\nintercept_errors = ["5xx"]'),
    Rule(
        "shares",
        "backends = { stable = 95, canary = 5 }",
        '[[backends]]\nname = "stable"\naddrs = [{addresses}]\nkeepalive_connections = 1024\n'
        '[[backends]]\nname = "canary"\naddrs = ["{first}"]\nkeepalive_connections = 1024',
        pools=True,
    ),
    Rule("compress", "compress = true"),
)
OF_TEXT = (
    NONE,
    Rule("compress, a picture", "compress = true", path="/picture.png"),
    Rule("compress, text", "compress = true"),
    Rule("nginx", nginx=""),
    Rule(
        "nginx, gzip",
        nginx="gzip on; gzip_types text/plain; gzip_min_length 1024; gzip_comp_level 5; gzip_proxied any; gzip_vary on;",
    ),
)
