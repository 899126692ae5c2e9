//! [`HealthChecker`]: the thread of one pool that begins a round of probes every interval.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::client;
use super::probe::{Probe, Prober};
use super::target::{Target, thread_name};
use crate::route::Pool;
use crate::stop::StopToken;

/// What probes that are under way when the checker is told to stop get to finish.
const STOP_GRACE: Duration = Duration::from_millis(100);

/// Probes the backends of one pool side by side, at once and then every interval, on short-lived threads. A probe
/// that hangs delays nobody: each thread sets the health of its backend as soon as it knows it, and a backend whose
/// last probe is still under way is left out of the round.
#[derive(Debug)]
pub struct HealthChecker {
    prober: Arc<Prober>,
    targets: Vec<Target>,
    /// Every probe thread holds a clone of `alive`, so `ended` is disconnected when all have ended.
    alive: Sender<Infallible>,
    ended: Receiver<Infallible>,
}

impl HealthChecker {
    /// Starts the thread `health POOL`, which runs until it is told to stop. It ends at once then: it waits for the end of
    /// an interval not at all, and at most 100 ms for probes under way. Those that take longer end by themselves, within
    /// their time-out, and change nothing any more.
    ///
    /// `None` if it has no health check.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(pool: Arc<Pool>) -> io::Result<Option<RunningChecker>> {
        Self::start_with(
            pool,
            Box::new(|backend, check| client::probe(backend.upstream(), &check.path, check.timeout)),
        )
    }

    fn start_with(pool: Arc<Pool>, probe: Probe) -> io::Result<Option<RunningChecker>> {
        let Some(check) = pool.config().health_check.clone() else {
            return Ok(None);
        };
        let name = thread_name("health", pool.label());
        let (alive, ended) = mpsc::channel();
        let stop = StopToken::new();
        let checker = Self {
            prober: Arc::new(Prober { pool, check, probe, stop: stop.clone() }),
            targets: Vec::new(),
            alive,
            ended,
        };
        let thread = Builder::new().name(name).spawn(move || checker.run())?;
        Ok(Some(RunningChecker { stop, thread: Some(thread) }))
    }

    fn run(mut self) {
        let mut due = Instant::now();
        while !self.prober.stop.is_stopped() {
            self.follow_addresses();
            for target in self.targets.iter_mut().filter(|target| target.is_wanted()) {
                target.start_probe(&self.prober, &self.alive);
            }
            let now = Instant::now();
            let pause = match next_round(due, self.prober.check.interval, now) {
                Some(next) => {
                    due = next;
                    next.saturating_duration_since(now)
                }
                None => Duration::MAX,
            };
            if self.prober.stop.sleep(pause) {
                break;
            }
        }
        self.finish();
    }

    /// Takes in backends that are new, and lets go of those that are gone and not being probed.
    fn follow_addresses(&mut self) {
        let backends = self.prober.pool.backends();
        self.targets.retain(|target| {
            target.running.as_ref().is_some_and(|probe| !probe.is_finished())
                || backends.iter().any(|backend| Arc::ptr_eq(backend, &target.backend))
        });
        for backend in backends {
            if !self.targets.iter().any(|target| Arc::ptr_eq(&backend, &target.backend)) {
                self.targets.push(Target::new(backend, &self.prober.check));
            }
        }
    }

    /// Joins the probes that end soon, and lets go of the rest.
    fn finish(self) {
        let Self { prober, targets, alive, ended } = self;
        drop(alive);
        let all_ended = matches!(ended.recv_timeout(STOP_GRACE), Err(mpsc::RecvTimeoutError::Disconnected));
        let mut left = 0;
        for running in targets.into_iter().filter_map(|target| target.running) {
            if all_ended || running.is_finished() {
                drop(running.join());
            } else {
                left += 1;
            }
        }
        if left > 0 {
            log::debug!("stopped with probes under way {} probes={left}", prober.owner());
        }
    }
}

/// The thread of a [`HealthChecker`]. Dropping it ends and joins it.
#[derive(Debug)]
pub struct RunningChecker {
    stop: StopToken,
    thread: Option<JoinHandle<()>>,
}

impl RunningChecker {
    /// Tells it to end, and does not wait for that.
    pub fn stop(&self) {
        self.stop.stop();
    }
}

impl Drop for RunningChecker {
    fn drop(&mut self) {
        self.stop();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("a health thread had panicked");
        }
    }
}

/// When the round after the one that was due at `due` begins. Rounds keep their distance from beginning to beginning;
/// after a stall (a suspended machine, a debugger) the next one begins at once, and those missed are not made up
/// for. `None`: beyond what the clock can express.
fn next_round(due: Instant, interval: Duration, now: Instant) -> Option<Instant> {
    due.checked_add(interval).map(|next| next.max(now))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::num::NonZeroU32;
    use std::sync::{Condvar, Mutex};

    use ::http::StatusCode;

    use super::*;
    use crate::balance::Backend;
    use crate::config::HealthCheckConfig;
    use crate::health::client::ProbeError;

    /// Longer than any test: rounds after the first never come.
    const NEVER: Duration = Duration::from_secs(3600);
    const OFTEN: Duration = Duration::from_millis(1);
    const PATIENCE: Duration = Duration::from_secs(20);

    /// What a probe does, by the backend's position.
    #[derive(Clone, Copy)]
    enum Script {
        Status(u16),
        Refused,
        Panic,
        /// Until the script changes.
        Hang,
    }

    /// Plays the scripts and notes what happens.
    #[derive(Default)]
    struct Stage {
        state: Mutex<State>,
        changed: Condvar,
    }

    #[derive(Default)]
    struct State {
        scripts: HashMap<u16, Script>,
        /// Probes begun and ended.
        begun: HashMap<u16, usize>,
        ended: HashMap<u16, usize>,
        threads: Vec<String>,
    }

    impl Stage {
        fn set(&self, backend: u16, script: Script) {
            self.state.lock().unwrap().scripts.insert(backend, script);
            self.changed.notify_all();
        }

        fn play(&self, backend: &Backend, check: &HealthCheckConfig) -> Result<StatusCode, ProbeError> {
            assert_eq!(check.path, "/ping");
            let crate::config::BackendAddr::Tcp { port, .. } = backend.config().addr else { unreachable!() };
            let mut state = self.state.lock().unwrap();
            *state.begun.entry(port).or_default() += 1;
            state.threads.push(std::thread::current().name().unwrap().to_owned());
            self.changed.notify_all();
            let state = self.changed.wait_while(state, |state| matches!(state.scripts[&port], Script::Hang));
            let mut state = state.unwrap();
            *state.ended.entry(port).or_default() += 1;
            let script = state.scripts[&port];
            drop(state);
            self.changed.notify_all();
            match script {
                Script::Status(status) => Ok(StatusCode::from_u16(status).unwrap()),
                Script::Refused => Err(ProbeError::Failed("connection refused".into())),
                Script::Panic => panic!("as the script says"),
                Script::Hang => unreachable!(),
            }
        }

        #[track_caller]
        fn wait_until(&self, what: &str, condition: impl Fn(&State) -> bool) {
            let state = self.state.lock().unwrap();
            let (_state, waited) =
                self.changed.wait_timeout_while(state, PATIENCE, |state| !condition(state)).unwrap();
            assert!(!waited.timed_out(), "{what}");
        }
    }

    /// A checker on a stage. Ends it when dropped.
    struct Running {
        stage: Arc<Stage>,
        route: Arc<Pool>,
        checker: Option<RunningChecker>,
    }

    fn run(interval: Duration, threshold: u32, scripts: &[Script]) -> Running {
        let stage = Arc::new(Stage::default());
        for (port, &script) in (0..).zip(scripts) {
            stage.set(port, script);
        }
        let route = Pool::for_tests(scripts.len().try_into().unwrap(), |config| {
            config.health_check = Some(HealthCheckConfig {
                path: "/ping".into(),
                interval,
                timeout: NEVER,
                healthy_threshold: NonZeroU32::new(threshold).unwrap(),
                unhealthy_threshold: NonZeroU32::new(threshold).unwrap(),
            });
        });
        let probe: Probe = {
            let stage = Arc::clone(&stage);
            Box::new(move |backend, check| stage.play(backend, check))
        };
        let checker = HealthChecker::start_with(Arc::clone(&route), probe).unwrap();
        assert!(checker.is_some());
        Running { stage, route, checker }
    }

    impl Running {
        #[track_caller]
        fn wait_healthy(&self, expected: &[bool]) {
            let begin = Instant::now();
            loop {
                let healthy: Vec<_> = self.route.backends().iter().map(|b| b.is_healthy()).collect();
                if healthy == expected {
                    return;
                }
                assert!(begin.elapsed() < PATIENCE, "healthy: {healthy:?}, expected: {expected:?}");
                std::thread::sleep(Duration::from_millis(1));
            }
        }

        /// Until `count` more probes of `backend` have ended.
        #[track_caller]
        fn wait_probes(&self, backend: u16, count: usize) {
            let ended = |state: &State| state.ended.get(&backend).copied().unwrap_or(0);
            let before = ended(&self.stage.state.lock().unwrap());
            self.stage.wait_until("more probes", |state| ended(state) >= before + count);
        }

        fn stop(&mut self) {
            self.checker = None;
        }
    }

    impl Drop for Running {
        fn drop(&mut self) {
            for port in 0..self.route.backends().len() {
                self.stage.set(port.try_into().unwrap(), Script::Status(200));
            }
            self.stop();
        }
    }

    #[test]
    fn the_first_probe_comes_at_once() {
        let running = run(NEVER, 1, &[Script::Status(503), Script::Status(200), Script::Refused]);
        running.wait_healthy(&[false, true, false]);
    }

    #[test]
    fn detects_failure_and_recovery() {
        let running = run(OFTEN, 1, &[Script::Status(200), Script::Status(204)]);
        running.wait_probes(0, 3);
        running.wait_healthy(&[true, true]);
        running.stage.set(0, Script::Status(500));
        running.wait_healthy(&[false, true]);
        running.stage.set(0, Script::Status(302));
        running.wait_healthy(&[true, true]);
    }

    #[test]
    fn thresholds_count_probes() {
        let running = run(OFTEN, 3, &[Script::Refused]);
        running.wait_healthy(&[false]);
        assert!(running.stage.state.lock().unwrap().ended[&0] >= 3);
        running.stage.set(0, Script::Status(200));
        running.wait_healthy(&[true]);
    }

    #[test]
    fn a_hanging_probe_delays_nobody() {
        let running = run(OFTEN, 1, &[Script::Hang, Script::Status(503)]);
        running.wait_healthy(&[true, false]);
        running.stage.wait_until("the probe hangs", |state| state.begun.contains_key(&0));
        running.wait_probes(1, 5);
        running.stage.set(1, Script::Status(200));
        running.wait_healthy(&[true, true]);
        assert_eq!(running.stage.state.lock().unwrap().begun[&0], 1, "not probed again meanwhile");

        running.stage.set(0, Script::Refused);
        running.wait_healthy(&[false, true]);
        running.wait_probes(0, 2);
    }

    #[test]
    fn a_panic_is_a_failed_probe() {
        let running = run(OFTEN, 1, &[Script::Panic, Script::Status(200)]);
        running.wait_healthy(&[false, true]);
        running.wait_probes(0, 2);
        running.stage.set(0, Script::Status(200));
        running.wait_healthy(&[true, true]);
    }

    #[test]
    fn stopping_waits_for_no_interval() {
        let mut running = run(NEVER, 1, &[Script::Status(200)]);
        running.stage.wait_until("the first round", |state| state.ended.contains_key(&0));
        let begin = Instant::now();
        running.stop();
        assert!(begin.elapsed() < PATIENCE);
    }

    #[test]
    fn stopping_waits_for_no_hanging_probe_and_ignores_its_result() {
        let mut running = run(NEVER, 1, &[Script::Hang, Script::Hang]);
        running.stage.wait_until("both hang", |state| state.begun.len() == 2);
        let begin = Instant::now();
        running.stop();
        assert!(begin.elapsed() < PATIENCE);

        running.stage.set(0, Script::Refused);
        running.stage.set(1, Script::Refused);
        // The probes' threads own the only other references to the route.
        let begin = Instant::now();
        while Arc::strong_count(&running.route) > 1 {
            assert!(begin.elapsed() < PATIENCE, "the probes end");
            std::thread::sleep(Duration::from_millis(1));
        }
        running.wait_healthy(&[true, true]);
    }

    #[test]
    fn stopping_joins_probes_that_end() {
        let mut running = run(OFTEN, 1, &[Script::Status(200), Script::Refused]);
        running.wait_probes(1, 3);
        running.stop();
        assert_eq!(Arc::strong_count(&running.route), 1);
    }

    #[test]
    fn begins_with_what_is_known_of_a_backend() {
        let route = Pool::for_tests(1, |_| ());
        route.backends()[0].set_healthy(false);
        let check = HealthCheckConfig {
            path: "/ping".into(),
            interval: NEVER,
            timeout: NEVER,
            healthy_threshold: NonZeroU32::MIN,
            unhealthy_threshold: NonZeroU32::MIN,
        };
        let backends = route.backends();
        let config = crate::config::RouteConfig { health_check: Some(check), ..route.config().clone() };
        let route = Arc::new(Pool::with_line(config, backends, Arc::default()));
        let probe: Probe = Box::new(|_, _| Ok(StatusCode::OK));
        let _checker = HealthChecker::start_with(Arc::clone(&route), probe).unwrap().unwrap();
        let begin = Instant::now();
        while !route.has_healthy() {
            assert!(begin.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn without_a_health_check_there_is_no_thread() {
        let started = HealthChecker::start(Pool::for_tests(1, |_| ()));
        assert!(started.unwrap().is_none());
    }

    #[test]
    fn threads_say_what_they_do_for_whom() {
        let running = run(NEVER, 1, &[Script::Status(200), Script::Status(200)]);
        let thread = running.checker.as_ref().and_then(|checker| checker.thread.as_ref());
        assert_eq!(thread.unwrap().thread().name(), Some("health /api"));
        running.stage.wait_until("both probed", |state| state.threads.len() == 2);
        let mut names = running.stage.state.lock().unwrap().threads.clone();
        names.sort_unstable();
        assert_eq!(names, ["probe 127.0.0.1:0", "probe 127.0.0.1:1"]);
    }

    #[test]
    fn rounds_neither_drift_nor_burst() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let interval = Duration::from_millis(100);
        // A round that took a while does not shift the next.
        assert_eq!(next_round(at(0), interval, at(30)), Some(at(100)));
        // One that overran the interval is followed at once.
        assert_eq!(next_round(at(100), interval, at(210)), Some(at(210)));
        // After a stall of many intervals: one round at once, then a whole interval.
        let resumed = next_round(at(210), interval, at(5_000)).unwrap();
        assert_eq!(resumed, at(5_000));
        assert_eq!(next_round(resumed, interval, at(5_001)), Some(at(5_100)));
        assert_eq!(next_round(start, Duration::MAX, start), None);
    }
}
