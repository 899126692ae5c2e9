//! Base and reserve: the threads, and the channel on which they wait for work.
//!
//! Context switches are what threads cost, so few threads run and many may wait. A small *base* is called as soon as work
//! is queued. The *reserve* is started on first need, and called when work has been queued for longer than a tick and
//! [`reserve`](super::reserve) finds that it would help.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use super::idle::{CloseWhenDropped, IdleWorkers, Seat};
use super::reserve::{HELD, Judgement, Look, Situation};
use crate::counters::Counters;

/// That all workers are held is logged once in this time.
const LOG_PAUSE: Duration = Duration::from_secs(60);

/// What workers do with a job.
pub(crate) type Work<J> = Arc<dyn Fn(J, Worker<'_>) + Send + Sync>;

/// The pool. Dropping it without [`join`](Self::join) lets the workers end by themselves.
pub(crate) struct Pool<J> {
    jobs: Sender<J>,
    // Declared, and so dropped, after the sender: who is called then finds the queue at its end.
    idle: [CloseWhenDropped; 2],
    shared: Arc<Shared<J>>,
    /// Disconnected once the last worker has ended.
    ended: Receiver<()>,
    alive: Sender<()>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held by who looks whether the reserve is to be called.
    looking: Mutex<()>,
}

struct Shared<J> {
    work: Work<J>,
    jobs: Receiver<J>,
    idle_base: Arc<IdleWorkers>,
    idle_reserve: Arc<IdleWorkers>,
    /// Base workers that were started.
    base: AtomicUsize,
    /// Threads started, the base included. Written under the lock of `Pool::threads`; read without it as a bound for
    /// `held`, where a late value only delays a call by one tick.
    started: AtomicUsize,
    /// Reserve workers that are not parked. Raised by who calls one, lowered by the worker when it goes back.
    reserve_awake: AtomicUsize,
    /// Reserve workers that are to go back although work is queued.
    dismissed: AtomicUsize,
    /// Jobs queued since the start.
    submitted: AtomicU64,
    /// One per possible worker: microseconds from `clock` to when its exchange began, 0 while it has none. Written by
    /// the worker, read by who calls the reserve.
    held_since: Box<[AtomicU64]>,
    clock: Instant,
    /// All workers are held while work is queued: counted once per episode.
    exhausted: AtomicBool,
    /// The log was told so, and not yet that it is over. Not of every episode: near the limit there are hundreds in a
    /// second.
    said_exhausted: AtomicBool,
    /// When the log was last told, 0 = never; in microseconds from `clock`.
    said_at: AtomicU64,
    /// The last attempt to start a thread failed: said once per episode.
    cannot_start: AtomicBool,
    counters: Arc<Counters>,
}

/// What a job may know of the worker that carries it.
#[derive(Clone, Copy)]
pub(crate) struct Worker<'a> {
    pool: &'a dyn View,
    number: usize,
}

/// The part of the pool that does not depend on what the jobs are.
trait View {
    fn may_linger(&self, number: usize) -> bool;
    fn go_on(&self, number: usize, now: Instant);
}

impl Worker<'_> {
    /// Whether the worker may wait a moment on a quiet connection: no work is queued, and somebody else would take it.
    pub(crate) fn may_linger(&self) -> bool {
        self.pool.may_linger(self.number)
    }

    /// The job goes on with another exchange: the time it has been held counts from now, unless others wait for a
    /// worker. To them it makes no difference how many exchanges keep it from them.
    pub(crate) fn begin_exchange(&self, now: Instant) {
        self.pool.go_on(self.number, now);
    }
}

impl<J: Send + 'static> Pool<J> {
    /// Starts the base: `4 × cores` workers, or `workers` if that is fewer.
    ///
    /// # Errors
    /// Not a single thread could be started.
    pub(crate) fn start(
        workers: usize,
        queue_size: usize,
        counters: Arc<Counters>,
        work: Work<J>,
    ) -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let base = (cores * 4).clamp(1, workers);
        let (jobs, queue) = bounded(queue_size);
        let (idle_base, idle_reserve) = (Arc::default(), Arc::default());
        let idle = [&idle_base, &idle_reserve].map(|idle| CloseWhenDropped(Arc::clone(idle)));
        let (alive, ended) = bounded(0);
        let shared = Arc::new(Shared {
            work,
            jobs: queue,
            idle_base,
            idle_reserve,
            base: AtomicUsize::new(0),
            started: AtomicUsize::new(0),
            reserve_awake: AtomicUsize::new(0),
            dismissed: AtomicUsize::new(0),
            submitted: AtomicU64::new(0),
            held_since: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            clock: Instant::now(),
            exhausted: AtomicBool::new(false),
            said_exhausted: AtomicBool::new(false),
            said_at: AtomicU64::new(0),
            cannot_start: AtomicBool::new(false),
            counters,
        });
        let pool =
            Self { jobs, idle, shared, ended, alive, threads: Mutex::default(), looking: Mutex::default() };
        for number in 0..base {
            let started = pool.start_worker(Shared::run_base);
            match started {
                Ok(()) => pool.shared.base.store(number + 1, Ordering::Relaxed),
                Err(error) if number == 0 => return Err(error),
                Err(error) => {
                    log::warn!("only {number} of {base} base workers could be started: {error}");
                    break;
                }
            }
        }
        Ok(pool)
    }

    fn start_worker(&self, run: fn(&Shared<J>, usize)) -> io::Result<()> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let number = threads.len();
        let alive = self.alive.clone();
        let shared = Arc::clone(&self.shared);
        let handle = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            let _alive = alive;
            run(&shared, number);
        })?;
        threads.push(handle);
        self.shared.started.store(threads.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Queues a job.
    ///
    /// # Errors
    /// Gives the job back when `queue_size` jobs wait already.
    pub(crate) fn submit(&self, job: J) -> Result<(), J> {
        // Counted first: another who feeds the pool must not take this job for an old one.
        self.shared.submitted.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.jobs.try_send(job) {
            self.shared.submitted.fetch_sub(1, Ordering::Relaxed);
            return Err(error.into_inner());
        }
        self.shared.idle_base.call_one_at_a_time();
        Ok(())
    }

    /// Calls reserve workers if work has been waiting for a tick or more, and that helps. Whoever submits work calls this
    /// after doing so, and again after a [`TICK`](super::reserve::TICK) while it says `true`.
    pub(crate) fn call_reserve(&self, look: &mut Look) -> bool {
        let shared = &self.shared;
        let queued = shared.jobs.len();
        if queued == 0 {
            shared.exhausted.store(false, Ordering::Relaxed);
            shared.dismissed.store(0, Ordering::Relaxed);
            if shared.said_exhausted.swap(false, Ordering::Relaxed) {
                log::info!("workers are free again");
            }
            return false;
        }
        // Where tiny_http listens on several addresses, several call: together they would start more than there may be.
        let _alone = match self.looking.try_lock() {
            Err(TryLockError::WouldBlock) => return true,
            alone => alone,
        };
        let now = Instant::now();
        let submitted = shared.submitted.load(Ordering::Relaxed);
        let Some((waiting, short_of_cpu)) = look.again(now, queued, submitted) else { return true };
        let situation = Situation {
            waiting,
            short_of_cpu,
            // Those who are on their way to the work, or at it.
            base: shared.base.load(Ordering::Relaxed).saturating_sub(shared.idle_base.count()).max(1),
            awake: shared.reserve_awake.load(Ordering::Relaxed),
            held: shared.held(),
        };
        let Judgement { wanted, dismissed } = situation.judge();
        shared.dismissed.store(dismissed, Ordering::Relaxed);
        for _ in 0..wanted {
            if !self.wake_or_start_one() {
                break;
            }
        }
        true
    }

    /// Calls one reserve worker; `false` when there is none left to call.
    fn wake_or_start_one(&self) -> bool {
        let shared = &self.shared;
        let started = shared.started.load(Ordering::Relaxed);
        shared.reserve_awake.fetch_add(1, Ordering::Relaxed);
        let called = if shared.idle_reserve.call_one() {
            true
        } else if started >= shared.held_since.len() {
            // Those who are not held are on their way to the queue.
            if shared.held() >= started {
                shared.note_exhausted();
            }
            false
        } else {
            match self.start_worker(Shared::run_reserve) {
                Ok(()) => {
                    shared.cannot_start.store(false, Ordering::Relaxed);
                    true
                }
                Err(error) => {
                    if !shared.cannot_start.swap(true, Ordering::Relaxed) {
                        log::warn!("no further worker can be started, {started} carry on: {error}");
                    }
                    false
                }
            }
        };
        if !called {
            shared.reserve_awake.fetch_sub(1, Ordering::Relaxed);
        }
        called
    }

    /// Lets the workers finish what is queued, and waits for them until `deadline`. Whether all have ended.
    pub(crate) fn join(self, deadline: Instant) -> bool {
        let Self { jobs, idle, shared, ended, alive, threads, looking: _ } = self;
        drop((jobs, idle, shared, alive));
        // Nothing is ever sent: the channel ends with the last worker.
        if ended.recv_deadline(deadline) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
            return false;
        }
        for thread in threads.into_inner().unwrap_or_else(PoisonError::into_inner) {
            if thread.join().is_err() {
                log::error!("a worker had panicked outside an exchange");
            }
        }
        true
    }
}

impl<J> View for Shared<J> {
    fn may_linger(&self, number: usize) -> bool {
        // One of the reserve would go back now, and can be called as well as any other.
        let is_reserve = number >= self.base.load(Ordering::Relaxed);
        self.jobs.is_empty() && (is_reserve || self.idle_base.count() > 0)
    }

    fn go_on(&self, number: usize, now: Instant) {
        if self.jobs.is_empty() {
            self.begin(number, now);
        }
    }
}

impl<J> Shared<J> {
    /// All workers are held while work is queued.
    fn note_exhausted(&self) {
        if !self.exhausted.swap(true, Ordering::Relaxed) {
            self.counters.pool_exhausted.fetch_add(1, Ordering::Relaxed);
        }
        let now = self.since_start(Instant::now());
        let last = self.said_at.load(Ordering::Relaxed);
        let is_due = last == 0 || u128::from(now.saturating_sub(last)) >= LOG_PAUSE.as_micros();
        if !self.said_exhausted.load(Ordering::Relaxed) && is_due {
            self.said_exhausted.store(true, Ordering::Relaxed);
            self.said_at.store(now, Ordering::Relaxed);
            log::warn!(
                "all workers are held, {} requests wait: raise [server] workers, or find the slow backend or \
                 the slow clients that hold them workers={}",
                self.jobs.len(),
                self.started.load(Ordering::Relaxed)
            );
        }
    }

    /// Microseconds from `clock`, never 0.
    fn since_start(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.clock).as_micros()).unwrap_or(u64::MAX).max(1)
    }

    fn begin(&self, number: usize, now: Instant) {
        if let Some(since) = self.held_since.get(number) {
            since.store(self.since_start(now), Ordering::Relaxed);
        }
    }
}

impl<J: Send + 'static> Shared<J> {
    /// A base worker: called for each job, until there are none and will be none.
    fn run_base(&self, number: usize) {
        let seat = Seat::of_this_thread();
        loop {
            let job = match self.jobs.try_recv() {
                Ok(job) => Some(job),
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => self
                    .idle_base
                    .sleep(&seat, || self.jobs.try_recv().ok())
                    .or_else(|| self.take_and_call_the_next()),
            };
            if let Some(job) = job {
                self.run(job, number);
            }
        }
    }

    /// What a base worker that was called does first: it alone was, see [`IdleWorkers::call_one_at_a_time`].
    fn take_and_call_the_next(&self) -> Option<J> {
        let job = self.jobs.try_recv().ok();
        if !self.jobs.is_empty() {
            self.idle_base.call_one_at_a_time();
        }
        job
    }

    /// A reserve worker: started because there is work, then asleep until called.
    fn run_reserve(&self, number: usize) {
        let seat = Seat::of_this_thread();
        loop {
            while let Ok(job) = self.jobs.try_recv() {
                self.run(job, number);
                if self.is_dismissed() {
                    break;
                }
            }
            self.reserve_awake.fetch_sub(1, Ordering::Relaxed);
            self.idle_reserve.sleep(&seat, || None::<()>);
            if self.idle_reserve.is_closed() {
                return;
            }
        }
    }

    fn is_dismissed(&self) -> bool {
        self.dismissed.load(Ordering::Relaxed) > 0
            && self
                .dismissed
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
    }

    fn run(&self, job: J, number: usize) {
        self.begin(number, Instant::now());
        let worker = Worker { pool: self, number };
        // A panic ends its exchange, whose guards count back while it unwinds; the worker lives on.
        if catch_unwind(AssertUnwindSafe(|| (self.work)(job, worker))).is_err() {
            self.counters.panics.fetch_add(1, Ordering::Relaxed);
            log::error!("an exchange panicked; this is a defect of the proxy, please report it");
        }
        if let Some(since) = self.held_since.get(number) {
            since.store(0, Ordering::Relaxed);
        }
    }

    /// Workers that have been held for longer than [`HELD`].
    fn held(&self) -> usize {
        let limit = self
            .since_start(Instant::now())
            .saturating_sub(u64::try_from(HELD.as_micros()).unwrap_or(u64::MAX));
        let started = self.started.load(Ordering::Relaxed);
        let held = |since: &&AtomicU64| (1..limit).contains(&since.load(Ordering::Relaxed));
        self.held_since.iter().take(started).filter(held).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workers::reserve::TICK;
    use crossbeam_channel::unbounded;

    fn pool(workers: usize, queue: usize, work: Work<u32>) -> Pool<u32> {
        Pool::start(workers, queue, Arc::new(Counters::default()), work).unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn as_many_base_workers_wake_as_there_are_jobs() {
        let together = Arc::new(std::sync::Barrier::new(3));
        let work = Arc::clone(&together);
        let pool = pool(
            3,
            10,
            Arc::new(move |_, _| {
                work.wait();
            }),
        );
        let end = soon();
        for round in 0..20 {
            while pool.shared.idle_base.count() < 3 {
                assert!(Instant::now() < end);
                thread::yield_now();
            }
            for job in 0..3 {
                pool.submit(round * 3 + job).unwrap();
            }
        }
        assert!(pool.join(soon()));
    }

    #[test]
    fn every_job_is_done_before_join_returns() {
        let done = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&done);
        let pool = pool(
            4,
            1000,
            Arc::new(move |_, _| {
                counter.fetch_add(1, Ordering::SeqCst);
            }),
        );
        for job in 0..1000 {
            pool.submit(job).unwrap();
        }
        assert!(pool.join(soon()));
        assert_eq!(done.load(Ordering::SeqCst), 1000);
    }

    /// One at a time, so that workers fall asleep just when the next comes.
    #[test]
    fn no_job_is_overlooked() {
        let (done, seen) = unbounded();
        let pool = pool(3, 10, Arc::new(move |job, _| done.send(job).unwrap()));
        for job in 0..5000 {
            pool.submit(job).unwrap();
            assert_eq!(seen.recv_timeout(Duration::from_secs(20)), Ok(job));
        }
        assert!(pool.join(soon()));
    }

    #[test]
    fn reserve_workers_go_back_while_work_waits_if_they_are_dismissed() {
        let base = thread::available_parallelism().map_or(1, usize::from) * 4;
        let (release, released) = unbounded();
        let pool = pool(base + 8, 1000, Arc::new(move |_, _| released.recv().unwrap()));
        let mut look = Look::of_this_thread();
        for job in 0..500 {
            pool.submit(job).unwrap();
        }
        let awake = || pool.shared.reserve_awake.load(Ordering::Relaxed);
        while awake() < 8 {
            assert!(pool.call_reserve(&mut look), "the queue is never empty");
            thread::sleep(TICK);
        }
        pool.shared.dismissed.store(5, Ordering::Relaxed);
        let end = soon();
        while awake() > 3 {
            release.send(()).unwrap();
            assert!(Instant::now() < end, "{} are awake", awake());
            thread::sleep(TICK);
        }
        assert_eq!(pool.shared.dismissed.load(Ordering::Relaxed), 0);
        (0..500).for_each(|_| release.send(()).unwrap());
        assert!(pool.join(soon()));
    }

    #[test]
    fn a_full_queue_gives_the_job_back() {
        let (hold, held) = bounded::<()>(0);
        let (entered, is_in) = unbounded();
        let pool = pool(
            1,
            1,
            Arc::new(move |_, _| {
                entered.send(()).unwrap();
                assert!(held.recv().is_err());
            }),
        );
        pool.submit(1).unwrap();
        is_in.recv_timeout(Duration::from_secs(10)).unwrap();
        pool.submit(2).unwrap();
        assert_eq!(pool.submit(3), Err(3));
        drop(hold);
        assert!(pool.join(soon()));
    }

    #[test]
    fn a_panic_takes_no_worker() {
        let (done, seen) = unbounded();
        let pool = pool(
            1,
            10,
            Arc::new(move |job, _| {
                assert!(job != 0, "scripted");
                done.send(job).unwrap();
            }),
        );
        pool.submit(0).unwrap();
        pool.submit(1).unwrap();
        assert_eq!(seen.recv_timeout(Duration::from_secs(10)), Ok(1));
        assert_eq!(pool.shared.counters.panics.load(Ordering::Relaxed), 1);
        assert!(pool.join(soon()));
    }

    /// One that goes from exchange to exchange, as with a client that has sent hundreds of requests at once, is held too.
    #[test]
    fn the_reserve_is_called_while_workers_go_on_without_an_end() {
        let base = thread::available_parallelism().map_or(1, usize::from) * 4;
        let (release, released) = bounded::<()>(0);
        let (done, seen) = unbounded();
        let pool = pool(
            base + 4,
            100,
            Arc::new(move |job, worker| {
                let busy = usize::try_from(job).unwrap() < base;
                while busy && released.try_recv() == Err(TryRecvError::Empty) {
                    worker.begin_exchange(Instant::now());
                    thread::sleep(Duration::from_micros(100));
                }
                done.send(job).unwrap();
            }),
        );
        for job in 0..=u32::try_from(base).unwrap() {
            pool.submit(job).unwrap();
        }
        let mut look = Look::of_this_thread();
        let (started, mut in_a_row) = (Instant::now(), 0);
        while in_a_row < 5 {
            in_a_row = if pool.shared.held() == base { in_a_row + 1 } else { 0 };
            assert!(started.elapsed() < Duration::from_secs(10), "{} are held", pool.shared.held());
            thread::sleep(5 * TICK);
        }
        while pool.call_reserve(&mut look) && started.elapsed() < Duration::from_secs(10) {
            thread::sleep(TICK);
        }
        assert_eq!(seen.recv_timeout(Duration::from_secs(10)), Ok(u32::try_from(base).unwrap()));
        drop(release);
        assert!(pool.join(soon()));
    }

    #[test]
    fn every_time_all_are_held_is_counted_and_few_are_logged() {
        let pool = pool(1, 10, Arc::new(|_, _| {}));
        let mut look = Look::of_this_thread();
        let said = || pool.shared.said_exhausted.load(Ordering::Relaxed);
        for round in 1..=100 {
            (0..5).for_each(|_| pool.shared.note_exhausted());
            assert_eq!(pool.shared.counters.pool_exhausted.load(Ordering::Relaxed), round);
            assert_eq!(said(), round == 1);
            assert!(!pool.call_reserve(&mut look), "nothing is queued");
            assert!(!said());
        }
        pool.shared.said_at.store(0, Ordering::Relaxed);
        pool.shared.note_exhausted();
        assert!(said());
        assert!(pool.join(soon()));
    }

    #[test]
    fn the_reserve_is_called_while_the_base_is_held() {
        let (hold, held) = bounded::<()>(0);
        let running = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&running);
        let pool = pool(
            40,
            100,
            Arc::new(move |_, _| {
                counter.fetch_add(1, Ordering::SeqCst);
                assert!(held.recv().is_err());
            }),
        );
        for job in 0..50 {
            pool.submit(job).unwrap();
        }
        let mut look = Look::of_this_thread();
        // All 40 workers carry a job, ten jobs wait, and that has been counted once.
        while running.load(Ordering::SeqCst) < 40
            || pool.shared.counters.pool_exhausted.load(Ordering::Relaxed) == 0
        {
            assert!(pool.call_reserve(&mut look), "the queue is never empty");
            thread::sleep(TICK);
        }
        assert_eq!(pool.shared.jobs.len(), 10);
        drop(hold);
        assert!(pool.join(soon()));
        assert_eq!(running.load(Ordering::SeqCst), 50);
    }
}
