//! `--demo`: the proxy in front of three small origins of its own, for a first look that needs no file and no other
//! program.

use std::error::Error;
use std::fmt::Write;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use tiny_http::{Request, Response, Server};

use crate::config::Config;
use crate::daemon;
use crate::proxy::{Proxy, StartError};
use crate::signals::Signals;
use crate::stop::StopToken;

/// Where the proxy listens if it can, as the shipped configuration does.
const ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 3000);
/// What the origins are called. The last one is the one that fails now and then.
const NAMES: [&str; 3] = ["origin-1", "origin-2", "origin-3"];
/// The last origin passes its health check for so long, …
const GOOD: Duration = Duration::from_secs(12);
/// … and then fails it for so long. Longer than a few probes, short enough to be watched.
const BAD: Duration = Duration::from_secs(6);

/// Runs the proxy in front of built-in origins until a signal ends it.
///
/// # Errors
/// The origins or the proxy can't be started.
pub fn run(signals: Signals) -> Result<(), Box<dyn Error>> {
    let origins = NAMES.map(|name| Origin::start(name, NAMES.last() == Some(&name)));
    let origins = origins.into_iter().collect::<io::Result<Vec<_>>>();
    let origins = origins.map_err(|error| format!("cannot start an origin: {error}"))?;
    for origin in &origins {
        let health = if origin.fails {
            format!("200 for {} s, then 503 for {} s, and so on", GOOD.as_secs(), BAD.as_secs())
        } else {
            "200".to_owned()
        };
        log::info!("demo origin name={} addr={} answers_to_probes={health:?}", origin.name, origin.addr);
    }
    let addrs: Vec<SocketAddr> = origins.iter().map(|origin| origin.addr).collect();
    // Parsed here, so that the closure is left with the errors of the start alone.
    let (wanted, any) = (config(ADDR, &addrs)?, config(SocketAddr::new(ADDR.ip(), 0), &addrs)?);
    daemon::run_until_signal(signals, None, || {
        let proxy = start(wanted, any)?;
        for addr in proxy.local_addrs() {
            log::info!("try: curl http://{addr}/");
        }
        Ok(proxy)
    })?;
    // The origins end when dropped: after the drain, so that requests in flight still get their answers.
    Ok(())
}

fn start(wanted: Config, any: Config) -> Result<Proxy, StartError> {
    match Proxy::start(wanted) {
        Err(StartError::Listen(addr, error)) => {
            log::info!("{addr} cannot be had ({error}): taking a free port instead");
            Proxy::start(any)
        }
        started => started,
    }
}

/// Written as a file would be: what can be watched here can be copied from here.
fn config(listen_addr: SocketAddr, backends: &[SocketAddr]) -> Result<Config, Box<dyn Error>> {
    let backends: Vec<String> = backends.iter().map(|addr| format!("\"{addr}\"")).collect();
    let text = format!(
        r#"
        listen_addr = "{listen_addr}"
        [[routes]]
        prefix = "/"
        backend_addrs = [{}]
        health_check = {{ path = "/health", interval_secs = 1 }}
        max_body_bytes = 1048576
        "#,
        backends.join(", ")
    );
    Ok(Config::parse(&text, "demo")?)
}

/// A server that tells what reached it. Dropping it ends and joins its thread.
struct Origin {
    name: &'static str,
    addr: SocketAddr,
    fails: bool,
    server: Arc<Server>,
    stop: StopToken,
    thread: Option<JoinHandle<()>>,
}

impl Origin {
    fn start(name: &'static str, fails: bool) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let server = Server::from_listener(listener, None).map_err(io::Error::other)?;
        let (server, stop) = (Arc::new(server), StopToken::new());
        let (same, token) = (Arc::clone(&server), stop.clone());
        let thread = Builder::new().name(name.to_owned()).spawn(move || serve(&same, &token, name, fails))?;
        Ok(Self { name, addr, fails, server, stop, thread: Some(thread) })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.stop();
        self.server.unblock();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread of {} had panicked", self.name);
        }
    }
}

fn serve(server: &Server, stop: &StopToken, name: &str, fails: bool) {
    let started = Instant::now();
    while !stop.is_stopped() {
        match server.recv() {
            Ok(request) => {
                let good = !fails || is_good(started.elapsed());
                if let Err(error) = answer(request, name, good) {
                    log::debug!("{name} could not answer: {error}");
                }
            }
            Err(_) if stop.is_stopped() => {}
            Err(error) => {
                log::error!("{name} takes no further connections: {error}");
                return;
            }
        }
    }
}

/// Only the health check notices: other requests are answered all the same.
fn is_good(running: Duration) -> bool {
    running.as_secs() % (GOOD + BAD).as_secs() < GOOD.as_secs()
}

fn answer(mut request: Request, name: &str, good: bool) -> io::Result<()> {
    // The route allows 1 MiB. Left unread, it would be read at the end by tiny_http, into memory.
    let body_bytes = io::copy(request.as_reader(), &mut io::sink())?;
    if request.url() != "/health" {
        let text = describe(&request, name, body_bytes);
        return request.respond(Response::from_string(text));
    }
    let (word, status) = if good { ("healthy", 200) } else { ("not healthy", 503) };
    request.respond(Response::from_string(format!("{name} is {word}\n")).with_status_code(status))
}

fn describe(request: &Request, name: &str, body_bytes: u64) -> String {
    let version = request.http_version();
    let mut text = format!(
        "This is {name}. What reached me:\n\n{} {} HTTP/{}.{}\n",
        request.method(),
        request.url(),
        version.0,
        version.1
    );
    for header in request.headers() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}: {}", header.field, header.value);
    }
    let _ = writeln!(text, "\nand {body_bytes} bytes of body");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ListenAddr;

    #[test]
    fn the_configuration_is_valid() {
        let backend = SocketAddr::from(([127, 0, 0, 1], 8001));
        let config = config(ADDR, &[backend, SocketAddr::from(([127, 0, 0, 1], 8002))]).unwrap();
        assert_eq!(config.listen_addrs, [ListenAddr::from(ADDR).into()]);
        assert_eq!(config.routes[0].backends.len(), 2);
        assert!(config.routes[0].health_check.is_some());
    }

    #[test]
    fn one_fails_and_recovers() {
        for (second, good) in [(0, true), (11, true), (12, false), (17, false), (18, true), (30, false)] {
            assert_eq!(is_good(Duration::from_secs(second)), good, "{second}");
        }
    }

    #[test]
    fn an_origin_that_is_dropped_takes_its_thread_along() {
        let origin = Origin::start("origin-1", false).unwrap();
        let server = Arc::downgrade(&origin.server);
        drop(origin);
        assert!(server.upgrade().is_none());
    }
}
