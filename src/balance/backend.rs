//! [`Backend`]: the address of one server, whether it is healthy, and how busy it is.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;

use super::answer_time::AnswerTime;
use super::hash::hash;
use super::line::Line;
use super::passive::{Millis, Passive};
use super::slow_start::Ramp;
use crate::config::BackendConfig;
use crate::counters::tally::Classes;
use crate::upstream::address::Upstream;

/// What [`Millis`] are counted from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A change of passive health is logged once in this many milliseconds per backend; a flapping one fills no log.
pub(crate) const LOG_PAUSE: Millis = 60_000;

/// What the clock shows at [`START`]: the year before can be written too.
const AT_START: Millis = 1 << 35;

/// Now, as passive health counts time.
#[must_use]
pub fn now_millis() -> Millis {
    Millis::try_from(START.elapsed().as_millis()).map_or(Millis::MAX - 1, |millis| AT_START + millis)
}

/// What an operator has ordered for a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// To take part.
    Ready,
    /// To get nothing new; what is under way goes on, and so do probes.
    Drain,
    /// The same, and nobody probes it.
    Down,
}

impl Standing {
    /// The word that orders it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Down => "down",
        }
    }
}

/// What a probe has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastProbe {
    /// When.
    pub at: SystemTime,
    /// Whether it was good.
    pub is_good: bool,
    /// `status 200`, or why there was no answer.
    pub word: String,
}

/// One server behind a route. Asking for its health or load takes no lock.
#[derive(Debug)]
pub struct Backend {
    config: BackendConfig,
    /// Which of the addresses of a name it is.
    resolved: Option<SocketAddr>,
    /// Its name in logs.
    label: String,
    id: u64,
    upstream: Arc<Upstream>,
    condition: Arc<Condition>,
    /// Where exchanges wait for a backend of this route to become free.
    line: Arc<Line>,
}

/// How the server is. After a reload the backend before it and the one after it have the same.
#[derive(Debug)]
struct Condition {
    /// Written by the health thread of the route, read by the balancers. A hint: nothing else depends on it, so
    /// `Relaxed`.
    healthy: AtomicBool,
    passive: Passive,
    /// When a change of passive health was last logged, 0 = never. `Relaxed`: a race logs twice.
    logged_at: AtomicU64,
    /// The log was told that it is out, and not yet that it is back. `Relaxed`: a race tells it twice or not.
    told_out: AtomicBool,
    /// What it has answered.
    answers: Classes,
    /// Changes of health that probes have brought, and times that failures have taken it out.
    flips: AtomicU64,
    ejections: AtomicU64,
    /// Whether an operator has taken it out: see [`Standing`].
    standing: AtomicU8,
    last_probe: ArcSwapOption<LastProbe>,
    /// When anything of this was last changed.
    changed: AtomicU64,
    /// When it came back, or came with a reload; 0 = it has been there from the start. Written by whoever brings it back,
    /// read by the balancers. A hint: `Relaxed`.
    came_back: AtomicU64,
    answer_time: AnswerTime,
    /// Written by [`BackendGuard`](super::BackendGuard) alone. It steers balancing; with [`Line`] it decides who waits,
    /// so `SeqCst` where it goes down and where a full backend is looked at.
    in_flight: AtomicUsize,
}

impl Backend {
    /// A backend that is taken for healthy until a probe says otherwise. `resolved`: its address, if `config` has a name.
    #[must_use]
    pub fn new(
        config: BackendConfig,
        resolved: Option<SocketAddr>,
        upstream: Upstream,
        line: Arc<Line>,
    ) -> Self {
        let label = match resolved {
            Some(addr) if addr.to_string() != config.addr.to_string() => format!("{}/{addr}", config.addr),
            _ => config.addr.to_string(),
        };
        Self {
            id: hash(label.as_bytes()),
            config,
            resolved,
            label,
            upstream: Arc::new(upstream),
            condition: Arc::new(Condition {
                healthy: AtomicBool::new(true),
                passive: Passive::default(),
                logged_at: AtomicU64::new(0),
                told_out: AtomicBool::new(false),
                answers: Classes::default(),
                flips: AtomicU64::new(0),
                ejections: AtomicU64::new(0),
                standing: AtomicU8::new(0),
                last_probe: ArcSwapOption::empty(),
                changed: AtomicU64::new(now_millis()),
                came_back: AtomicU64::new(0),
                answer_time: AnswerTime::default(),
                in_flight: AtomicUsize::new(0),
            }),
            line,
        }
    }

    /// The same server after a reload, with its health and what it carries. `upstream`: where connections are made in
    /// another way from now on; else those that are kept stay.
    #[must_use]
    pub(crate) fn successor(&self, config: BackendConfig, upstream: Option<Upstream>) -> Self {
        Self {
            config,
            resolved: self.resolved,
            label: self.label.clone(),
            id: self.id,
            upstream: upstream.map_or_else(|| Arc::clone(&self.upstream), Arc::new),
            condition: Arc::clone(&self.condition),
            line: Arc::clone(&self.line),
        }
    }

    /// Its entry in the configuration.
    #[must_use]
    pub fn config(&self) -> &BackendConfig {
        &self.config
    }

    /// Its address; `None` for a Unix-domain socket.
    #[must_use]
    pub fn resolved(&self) -> Option<SocketAddr> {
        self.resolved
    }

    /// What logs call it: its entry, and the address if the entry is a name.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What stands for its address in sticky cookies and on the ring of consistent hashing. The same after a restart, in
    /// other proxies, and wherever its entry stands.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The client that speaks to it.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Whether the probes say that exchanges may be sent to it.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.condition.healthy.load(Ordering::Relaxed)
    }

    /// Sets what the probes say and returns what it was.
    pub fn set_healthy(&self, healthy: bool) -> bool {
        let was = self.condition.healthy.swap(healthy, Ordering::Relaxed);
        if was != healthy {
            self.condition.flips.fetch_add(1, Ordering::Relaxed);
            self.note_change();
            if healthy {
                self.begin_slowly(now_millis());
            }
        }
        was
    }

    /// Whether exchanges may be sent to it, as far as probes and operators have a say.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.is_healthy() && self.standing() == Standing::Ready
    }

    /// The same, and no failures have taken it out.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_available() && !self.passive().is_out()
    }

    /// What an operator has ordered.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self.condition.standing.load(Ordering::Relaxed) {
            1 => Standing::Drain,
            2 => Standing::Down,
            _ => Standing::Ready,
        }
    }

    /// Takes an order, and returns what it was.
    pub fn set_standing(&self, standing: Standing) -> Standing {
        let was = self.standing();
        let number = match standing {
            Standing::Ready => 0,
            Standing::Drain => 1,
            Standing::Down => 2,
        };
        self.condition.standing.store(number, Ordering::Relaxed);
        self.note_change();
        if was != Standing::Ready && standing == Standing::Ready {
            self.begin_slowly(now_millis());
        }
        was
    }

    /// It is back, or new: where there is a slow start, it has a small share at first. How long it took before to answer says
    /// nothing any more.
    pub(crate) fn begin_slowly(&self, now: Millis) {
        self.condition.came_back.store(now, Ordering::Relaxed);
        self.condition.answer_time.forget();
    }

    /// Its share at this moment, of [`FULL`](super::slow_start::FULL).
    pub(crate) fn share(&self, ramp: Ramp, now: Millis) -> u32 {
        let came_back = self.condition.came_back.load(Ordering::Relaxed);
        ramp.share((came_back != 0).then_some(came_back), now)
    }

    /// How long it takes to answer, where that is measured.
    pub(crate) fn answer_time(&self) -> &AnswerTime {
        &self.condition.answer_time
    }

    /// Changes of health that probes have brought.
    #[must_use]
    pub fn flips(&self) -> u64 {
        self.condition.flips.load(Ordering::Relaxed)
    }

    /// Times that failures have taken it out.
    #[must_use]
    pub fn ejections(&self) -> u64 {
        self.condition.ejections.load(Ordering::Relaxed)
    }

    pub(crate) fn count_ejection(&self) {
        self.condition.ejections.fetch_add(1, Ordering::Relaxed);
        self.note_change();
    }

    pub(crate) fn note_change(&self) {
        self.condition.changed.store(now_millis(), Ordering::Relaxed);
    }

    /// How long it has been in the state it is in.
    #[must_use]
    pub fn unchanged_for(&self) -> Duration {
        Duration::from_millis(now_millis().saturating_sub(self.condition.changed.load(Ordering::Relaxed)))
    }

    /// What the last probe said; `None`: there was none.
    #[must_use]
    pub fn last_probe(&self) -> Option<Arc<LastProbe>> {
        self.condition.last_probe.load_full()
    }

    pub(crate) fn set_last_probe(&self, probe: LastProbe) {
        self.condition.last_probe.store(Some(Arc::new(probe)));
    }

    /// What it has answered.
    #[must_use]
    pub fn answers(&self) -> &Classes {
        &self.condition.answers
    }

    /// What the exchanges say.
    pub(crate) fn passive(&self) -> &Passive {
        &self.condition.passive
    }

    /// Whether a change of passive health may be logged above debug now.
    pub(crate) fn may_log(&self, now: Millis) -> bool {
        let last = self.condition.logged_at.load(Ordering::Relaxed);
        if last != 0 && now.saturating_sub(last) < LOG_PAUSE {
            return false;
        }
        self.condition.logged_at.store(now, Ordering::Relaxed);
        true
    }

    /// Notes whether the log was last told that failures have taken it out, and returns what it was.
    pub(crate) fn told_out(&self, out: bool) -> bool {
        self.condition.told_out.swap(out, Ordering::Relaxed)
    }

    /// Exchanges it is carrying now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.condition.in_flight.load(Ordering::SeqCst)
    }

    /// Where exchanges wait for it: that of its pool.
    pub(crate) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    pub(super) fn enter(&self) {
        self.condition.in_flight.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn leave(&self) {
        self.condition.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.line.call_next();
    }

    /// A backend at a made-up address that nobody connects to.
    #[cfg(test)]
    pub(crate) fn for_tests(port: u16) -> Self {
        Self::in_line_for_tests(port, Arc::default())
    }

    /// The same, with the line of its route.
    #[cfg(test)]
    pub(crate) fn in_line_for_tests(port: u16, line: Arc<Line>) -> Self {
        use crate::config::BackendAddr;
        let addr = BackendAddr::Tcp { host: "127.0.0.1".into(), port };
        let config = BackendConfig::new(addr);
        Self::new(config, None, Upstream::for_tests(), line)
    }
}
