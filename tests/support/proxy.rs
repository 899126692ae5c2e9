//! A proxy inside the test process.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reverse_proxy::config::Config;
use reverse_proxy::counters::Counters;
use reverse_proxy::error::Cause;
use reverse_proxy::proxy::{Proxy, StartError};
use reverse_proxy::reload::{ReloadOutcome, Reloaded};
use reverse_proxy::upkeep::SharedLookup;

use super::engines::Engine;
use super::wait::{PATIENCE, Task, spawn, wait_for};

/// A running proxy on a port of its own. Dropping it drains it.
pub struct TestProxy {
    addr: SocketAddr,
    proxy: Option<Proxy>,
    config: String,
    #[cfg(feature = "tls")]
    speaking: Option<super::secured::Speaking>,
}

/// The configuration of a [`TestProxy`].
#[derive(Clone, Debug)]
pub struct Builder {
    engine: Engine,
    listen: String,
    drain_delay: &'static str,
    shutdown_timeout: &'static str,
    front: String,
    server: String,
    routes: String,
}

/// What a route gets unless the test says otherwise.
const ROUTE_DEFAULTS: &[(&str, &str)] =
    &[("connect_timeout_secs", "5"), ("response_timeout_secs", "8"), ("idle_timeout_secs", "8")];

impl Builder {
    /// A key of `[server]`.
    pub fn server(mut self, line: &str) -> Self {
        self.server.push_str(line);
        self.server.push('\n');
        self
    }

    /// Tables between those of the top level and `[server]`: `[[certificates]]`, `[tls]`, `[[backends]]`.
    pub fn front(mut self, tables: &str) -> Self {
        self.front.push_str(tables);
        self.front.push('\n');
        self
    }

    /// Another `listen_addr` than a free port of 127.0.0.1, as TOML.
    pub fn listen(mut self, addrs: &str) -> Self {
        addrs.clone_into(&mut self.listen);
        self
    }

    /// Seconds that requests in flight get on shutdown. Short unless said: proxies are dropped with whatever a
    /// failed test left behind.
    pub fn shutdown_timeout(mut self, seconds: &'static str) -> Self {
        self.shutdown_timeout = seconds;
        self
    }

    /// Seconds that new connections are still served after a signal. None unless said.
    pub fn drain_delay(mut self, seconds: &'static str) -> Self {
        self.drain_delay = seconds;
        self
    }

    /// A route; `keys` are further lines of its table.
    pub fn route(self, prefix: &str, backends: &[String], keys: &str) -> Self {
        self.route_to(prefix, &format!("{backends:?}"), keys)
    }

    /// A route that answers itself.
    pub fn answering_route(mut self, prefix: &str, keys: &str) -> Self {
        write!(self.routes, "\n[[routes]]\nprefix = {prefix:?}\n{keys}\n").expect("write to a string");
        self
    }

    /// A route to backends with weights.
    pub fn weighted_route(self, prefix: &str, backends: &[(String, u32)], keys: &str) -> Self {
        let entry = |(addr, weight): &(String, u32)| format!("{{ addr = {addr:?}, weight = {weight} }}");
        let entries: Vec<String> = backends.iter().map(entry).collect();
        self.route_to(prefix, &format!("[{}]", entries.join(", ")), keys)
    }

    /// A route to the backends of a pool, which is one of the tables of [`front`](Self::front).
    pub fn route_to_pool(self, prefix: &str, pool: &str, keys: &str) -> Self {
        self.route_with(prefix, &format!("backends = {pool:?}"), keys)
    }

    /// A route to several pools, each with its share: an inline table.
    pub fn route_to_shares(self, prefix: &str, shares: &str, keys: &str) -> Self {
        self.route_with(prefix, &format!("backends = {shares}"), keys)
    }

    /// A route to these `backend_addrs`, as TOML.
    pub fn route_to(self, prefix: &str, backends: &str, keys: &str) -> Self {
        self.route_with(prefix, &format!("backend_addrs = {backends}"), keys)
    }

    fn route_with(mut self, prefix: &str, backends: &str, keys: &str) -> Self {
        write!(self.routes, "\n[[routes]]\nprefix = {prefix:?}\n{backends}\n{}\n", keys.trim())
            .expect("write to a string");
        for (key, value) in ROUTE_DEFAULTS {
            if !keys.contains(key) {
                writeln!(self.routes, "{key} = {value}").expect("write to a string");
            }
        }
        self
    }

    /// The configuration file.
    pub fn toml(&self) -> String {
        format!(
            "listen_addr = {}\ndrain_delay_secs = {}\nshutdown_timeout = {}\n{}\n[server]\nengine = {:?}\n{}{}",
            self.listen,
            self.drain_delay,
            self.shutdown_timeout,
            self.front,
            self.engine.name(),
            self.server,
            self.routes
        )
    }

    pub fn start(self) -> TestProxy {
        self.start_with_lookup(Arc::new(reverse_proxy::upstream::names::system))
    }

    /// [`start`](Self::start) with another resolver than that of the system.
    pub fn start_with_lookup(self, lookup: SharedLookup) -> TestProxy {
        log_to_test_output();
        let config = self.toml();
        let parsed = Config::parse(&config, "test.toml")
            .unwrap_or_else(|error| panic!("the test's configuration is refused: {error}\n{config}"));
        let proxy = Proxy::start_with_lookup(parsed, lookup)
            .unwrap_or_else(|error| panic!("the proxy does not start: {error}\n{config}"));
        let addr = proxy.local_addrs()[0];
        TestProxy {
            addr,
            proxy: Some(proxy),
            config,
            #[cfg(feature = "tls")]
            speaking: super::secured::Speaking::at(addr),
        }
    }
}

/// A free port, and the tables it takes.
fn listen() -> (String, String) {
    #[cfg(feature = "tls")]
    if let Some(front) = super::secured::front() {
        return front;
    }
    ("\"127.0.0.1:0\"".to_owned(), String::new())
}

/// The log of a failed test is shown with it: threads inherit the test's captured output.
fn log_to_test_output() {
    let filter = env_logger::Env::default().default_filter_or("reverse_proxy=debug");
    drop(env_logger::Builder::from_env(filter).is_test(true).try_init());
}

impl TestProxy {
    pub fn builder(engine: Engine) -> Builder {
        let (listen, front) = listen();
        Builder {
            engine,
            listen,
            drain_delay: "0",
            shutdown_timeout: "1",
            front,
            server: String::new(),
            routes: String::new(),
        }
    }

    /// A proxy with one route, `/`.
    pub fn to(engine: Engine, backends: &[String], keys: &str) -> Self {
        Self::builder(engine).route("/", backends, keys).start()
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// All addresses listened on.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.running().local_addrs().to_vec()
    }

    /// The address of the admin listener.
    #[cfg(feature = "admin")]
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.running().admin_addr().and_then(reverse_proxy::config::ListenAddr::tcp)
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        self.running().counters()
    }

    /// Waits until so many exchanges have ended for this cause. They are counted when all else is done.
    #[track_caller]
    pub fn expect_count(&self, cause: Cause, count: u64) {
        wait_for(&format!("the count of {cause}"), || match self.counters().of(cause) {
            seen if seen == count => Ok(()),
            seen => Err(seen),
        });
    }

    fn running(&self) -> &Proxy {
        self.proxy.as_ref().expect("a running proxy")
    }

    /// Waits until this backend carries so many exchanges.
    #[track_caller]
    pub fn expect_in_flight(&self, backend: &str, count: usize) {
        wait_for("the in-flight count", || {
            let counts = self.in_flight();
            if counts.iter().any(|(name, seen)| name == backend && *seen == count) {
                Ok(())
            } else {
                Err((count, counts))
            }
        });
    }

    /// Waits until so many exchanges have ended for this cause. They are counted when the client has its answer.
    #[track_caller]
    pub fn expect_counted(&self, cause: Cause, count: u64) {
        wait_for("exchanges to be counted", || match self.counters().of(cause) {
            seen if seen == count => Ok(()),
            seen => Err((cause, count, seen)),
        });
    }

    /// Exchanges that each backend is carrying.
    pub fn in_flight(&self) -> Vec<(String, usize)> {
        self.proxy.as_ref().map(Proxy::backend_in_flight).unwrap_or_default()
    }

    /// Waits until no backend carries an exchange. The last byte of an answer is out before it is counted off.
    #[track_caller]
    pub fn expect_idle(&self) {
        wait_for("every in-flight count to be zero", || {
            let counts = self.in_flight();
            assert!(!counts.is_empty(), "the proxy names no backends");
            if counts.iter().all(|(_, count)| *count == 0) { Ok(()) } else { Err(counts) }
        });
    }

    /// Puts another configuration to work.
    pub fn reload(&mut self, builder: &Builder) -> Result<Reloaded, StartError> {
        let config = builder.toml();
        let parsed = Config::parse(&config, "test.toml")
            .unwrap_or_else(|error| panic!("the test's configuration is refused: {error}\n{config}"));
        self.config = config;
        self.proxy.as_mut().expect("a running proxy").reload(&parsed)
    }

    /// Waits until nothing runs under an earlier configuration any more.
    #[track_caller]
    pub fn expect_one_snapshot(&self) {
        wait_for("the earlier configurations to be gone", || match self.running().snapshots_in_use() {
            1 => Ok(()),
            count => Err(count),
        });
    }

    pub fn snapshots_in_use(&self) -> usize {
        self.running().snapshots_in_use()
    }

    pub fn last_reload(&self) -> Option<ReloadOutcome> {
        self.running().last_reload()
    }

    /// Begins the drain; the result is how many exchanges were cut off.
    pub fn drain(mut self) -> Task<usize> {
        let proxy = self.proxy.take().expect("a running proxy");
        #[cfg(feature = "tls")]
        let speaking = self.speaking.take();
        spawn("the drain", move || {
            let cut = proxy.drain().cut;
            #[cfg(feature = "tls")]
            drop(speaking);
            cut
        })
    }
}

impl Drop for TestProxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- configuration\n{}---", self.config);
        }
        let Some(proxy) = self.proxy.take() else { return };
        let drain = spawn("the drain", move || proxy.drain().cut);
        if std::thread::panicking() {
            // The failure that is on its way says more than this one could.
            drop(drain);
        } else {
            drain.join_within(PATIENCE + Duration::from_secs(5));
        }
    }
}

impl std::fmt::Debug for TestProxy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TestProxy").field("addr", &self.addr).finish_non_exhaustive()
    }
}
