# What there is to do with this repository. `just` alone shows the proxy at work, `just --list` says what else.

set windows-shell := ["bash", "-cu"]

# Python's http.server behind the proxy, one request through both, then both are stopped
python-demo:
    #!/usr/bin/env bash
    set -euo pipefail
    backend=http://127.0.0.1:8000/ proxy=http://127.0.0.1:3000/
    pids=()
    directory=$(mktemp -d)
    stop() {
        for pid in "${pids[@]}"; do
            # By process id, and not an error if it has ended already.
            kill "$pid" 2>/dev/null || true
            wait "$pid" 2>/dev/null || true
        done
        rm -rf "$directory"
    }
    trap stop EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM

    # Whoever listens on these ports: only our own page has this line.
    mark="page number $$-$RANDOM"
    echo "Hello from Python's http.server, $mark." >"$directory/index.html"
    # Waits until the page can be had at $1 while process $2 runs; $3 is what to say if not.
    wait_for() {
        for _ in {1..100}; do
            if ! kill -0 "$2" 2>/dev/null; then
                echo "just: $3" >&2
                exit 1
            fi
            if curl --silent --max-time 2 --noproxy '*' "$1" | grep --quiet --fixed-strings "$mark"; then
                return
            fi
            sleep 0.1
        done
        echo "just: no answer from $1 within 10 seconds" >&2
        exit 1
    }

    cargo build --locked
    python3 -m http.server 8000 --bind 127.0.0.1 --directory "$directory" &
    pids=($!)
    wait_for "$backend" $! "Python's http.server did not start, see above; is port 8000 taken?"
    # In front, so that the proxy is stopped first.
    cargo run --quiet --locked -- --config reverse-proxy.toml &
    pids=($! "${pids[@]}")
    wait_for "$proxy" $! "the proxy did not start, see above"

    echo
    echo "\$ curl --include $proxy"
    curl --silent --show-error --fail-with-body --noproxy '*' --max-time 10 --include "$proxy"
    echo

# Run the proxy; arguments follow: just run --config FILE
run *ARGUMENTS:
    cargo run --locked -- {{ ARGUMENTS }}

# Run the proxy in front of three built-in origins
demo:
    cargo run --locked -- --demo

# Does it compile? The fastest answer
check:
    cargo check --locked --all-targets

# All tests, or those whose names contain FILTER
test *FILTER:
    {{ if FILTER == "" { ".ci/run test" } else { "cargo test --locked " + FILTER } }}

# Clippy, with and without the classic feature; warnings are errors
lint:
    .ci/run lint

# Format everything
fmt:
    cargo fmt
    cargo fmt --manifest-path fuzz/Cargo.toml

# Is everything formatted?
fmt-check:
    .ci/run fmt

# Is everything spelled right?
spell:
    .ci/run spell

# Build the documentation; its warnings are errors
doc:
    .ci/run doc

# Everything that has to pass before a change goes to main
ci:
    .ci/run

# Fuzz TARGET (head, response, chunked, proxy_header or rules) until stopped, or: just fuzz head -max_total_time=60
fuzz TARGET *OPTIONS:
    #!/usr/bin/env bash
    set -euo pipefail
    # Stable takes the flags of the sanitizers with this.
    export RUSTC_BOOTSTRAP=1
    mkdir -p "fuzz/corpus/{{ TARGET }}"
    folders=("fuzz/corpus/{{ TARGET }}")
    options=(-max_len=4096)
    [ ! -d "fuzz/seeds/{{ TARGET }}" ] || folders+=("fuzz/seeds/{{ TARGET }}")
    [ ! -f "fuzz/{{ TARGET }}.dict" ] || options+=("-dict=fuzz/{{ TARGET }}.dict")
    cargo fuzz run "{{ TARGET }}" "${folders[@]}" -- "${options[@]}" {{ OPTIONS }}

# A tarball for this machine, or for TARGET, in target/dist (dist/tarball)
dist TARGET="":
    dist/tarball {{ TARGET }}

# Write what is made from the source again: man page, completions, JSON schema
dist-files:
    REVERSE_PROXY_WRITE_DIST=1 cargo test --quiet --locked up_to_date

# The benchmark against other proxies (benches/run): just bench, just bench --quick, just bench --only small-64,tunnels
bench *ARGUMENTS:
    benches/run {{ ARGUMENTS }}

# The instructions one small request costs in user space, layer by layer (benches/layers)
layers *ARGUMENTS:
    benches/layers {{ ARGUMENTS }}

# One of three backends is killed every few seconds under load: not one GET may fail (benches/kill-loop)
kill-loop *ARGUMENTS:
    benches/kill-loop {{ ARGUMENTS }}

# Bursts of clients that wait: what they took is given back (benches/bursts)
bursts *ARGUMENTS:
    benches/bursts {{ ARGUMENTS }}

# A flood of wrong passwords on one route: others do not feel it (benches/password-flood)
password-flood *ARGUMENTS:
    benches/password-flood {{ ARGUMENTS }}

# 100,000 requests, one in ten of which meets a fault: memory and descriptors stay flat (benches/soak)
soak *ARGUMENTS:
    benches/soak {{ ARGUMENTS }}
