use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::config::{BackendAddr, BackendConfig, Config, RouteConfig, ServerConfig};
use crate::counters::Counters;
use crate::downstream::listener::Entrance;
use crate::exchange::gateway::Places;
use crate::passwords::Passwords;
use crate::route::Route;
use crate::routing::Prefix;
use crate::snapshot::Snapshot;
use crate::workers::mailbox::Mailbox;
use crate::workers::places::ConnectionPlaces;
use crate::workers::tests::gateway;

/// Longer than anything here takes; proptest looks for a smaller case that takes as long.
const PATIENCE: Duration = Duration::from_secs(5);

/// A worker that nobody runs, behind a door of its own.
fn worker(gateway: Arc<Gateway>) -> (Mailbox, Worker) {
    let (mailbox, inbox, poller) = Mailbox::new().unwrap();
    let door = Door::new(vec![mailbox.clone()], 1, poller.waker(), Arc::clone(&gateway));
    (mailbox, Worker::new(0, poller, inbox, Arc::new(door), gateway))
}

/// Else the drain would take all of its time.
#[test]
fn who_falls_asleep_notices_that_nobody_else_will_come() {
    let (mailbox, mut worker) = worker(gateway());
    mailbox.drain(Instant::now() + Duration::from_secs(3600));
    worker.read_mail(Instant::now());
    // The worker is awake: nobody has to wake it.
    worker.door.close();
    assert_eq!(worker.patience(), Some(Duration::ZERO));
}

/// Also in the middle of a turn.
#[test]
fn who_comes_after_a_reload_has_what_it_brought() {
    let mut stage = Stage::new(false);
    let reload = |stage: &Stage, number| {
        let routes = [Arc::clone(&stage.route)];
        let snapshot = Snapshot::new(number, &Config::for_tests(), &routes, None, &Arc::default());
        let snapshot = Arc::new(snapshot);
        stage.worker.gateway.snapshot.store(Arc::clone(&snapshot));
        snapshot
    };
    stage.come();
    stage.clients[0].write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").unwrap();
    reload(&stage, 2);
    let now = Instant::now();
    stage.worker.read_mail(now);
    assert_eq!(stage.worker.snapshot.number, 2, "a connection");
    let third = reload(&stage, 3);
    let token = stage.worker.clients.tokens()[0];
    stage.worker.advance(token, now);
    // It is held here, as the one at work, and by the exchange.
    assert_eq!((stage.worker.snapshot.number, Arc::strong_count(&third)), (2, 3), "a request");
}

/// What clients and backends do. The number says which of those that are there.
#[derive(Clone, Debug)]
enum Event {
    Come,
    Send(usize, &'static str),
    Receive(usize),
    HalfClose(usize),
    Leave(usize),
    Answer(usize, &'static str),
    BackendEnds(usize),
    BackendLeaves(usize),
    /// Nobody does anything for so many milliseconds.
    Time(u64),
}

/// What a client may say, in whole or in part.
const SAID: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "GET / HTTP/1.1\r\nHo",
    "st: a\r\n\r\n",
    "hello",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "nonsense\r\n\r\n",
];

/// What a backend may say.
const ANSWERED: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
    "0\r\n\r\n",
    "HTTP/1.1 200 OK\r\n\r\nuntil the end",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 2",
    "more",
    "garbage\r\n\r\n",
];

fn event() -> impl Strategy<Value = Event> {
    let which = || 0_usize..4;
    prop_oneof![
        4 => Just(Event::Come),
        8 => (which(), proptest::sample::select(SAID)).prop_map(|(n, text)| Event::Send(n, text)),
        3 => which().prop_map(Event::Receive),
        1 => which().prop_map(Event::HalfClose),
        1 => which().prop_map(Event::Leave),
        8 => (which(), proptest::sample::select(ANSWERED)).prop_map(|(n, text)| Event::Answer(n, text)),
        1 => which().prop_map(Event::BackendEnds),
        1 => which().prop_map(Event::BackendLeaves),
        1 => (1_u64..12).prop_map(Event::Time),
    ]
}

/// A worker whose turns the test takes, its clients and its backend.
struct Stage {
    worker: Worker,
    mailbox: Mailbox,
    route: Arc<Route>,
    listener: TcpListener,
    clients: Vec<UnixStream>,
    backends: Vec<TcpStream>,
}

impl Stage {
    /// `brief`: what is waited for may be over within the test.
    fn new(brief: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut server = ServerConfig::default();
        let addr: BackendAddr = listener.local_addr().unwrap().to_string().parse().unwrap();
        let entries = vec![BackendConfig::new(addr)];
        let mut config = RouteConfig::new(Prefix::root(), entries, &server);
        config.max_in_flight_per_backend = NonZeroUsize::new(3);
        if brief {
            let time = Duration::from_millis(8);
            (server.header_timeout, server.keepalive_timeout, server.read_timeout) = (time, time, time);
            (config.response_timeout, config.idle_timeout, config.queue_timeout) = (time, time, time);
            config.deadline = Some(2 * time);
        }
        let route = Arc::new(Route::build(&config).unwrap());
        let gateway = Arc::new(Gateway {
            snapshot: ArcSwap::from_pointee(Snapshot::new(
                1,
                &Config { server, ..Config::for_tests() },
                &[Arc::clone(&route)],
                None,
                &Arc::default(),
            )),
            counters: Arc::new(Counters::default()),
            tunnels: Places::new(2),
            compressing: Places::new(2),
            exchanges: Places::new(5),
            per_client: Arc::default(),
            passwords: Passwords::default(),
            via: "test".to_owned(),
            draining: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            in_use: Arc::default(),
        });
        let (mailbox, worker) = worker(gateway);
        Self { worker, mailbox, route, listener, clients: Vec::new(), backends: Vec::new() }
    }

    /// A client connects, and is dealt to the worker.
    fn come(&mut self) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let places = ConnectionPlaces::new(1, self.worker.inbox.wakeup.waker.clone());
        let place = Arc::new(places).take().unwrap();
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let socket = OwnedFd::from(theirs).into();
        let accepted = self.mailbox.accepted(socket, peer, Entrance::default(), place);
        self.mailbox.deal(accepted, PATIENCE);
        self.clients.push(ours);
    }

    fn play(&mut self, event: &Event) {
        match *event {
            Event::Come => self.come(),
            Event::Send(n, text) => {
                if let Some(client) = self.clients.get_mut(n) {
                    // It may be gone.
                    let _ = client.write(text.as_bytes());
                }
            }
            Event::Receive(n) => {
                if let Some(client) = self.clients.get_mut(n) {
                    let mut first = [0; 4096];
                    if let Ok(length @ 1..) = client.read(&mut first) {
                        assert!(length > 0);
                    }
                }
            }
            Event::HalfClose(n) => {
                if let Some(client) = self.clients.get(n) {
                    let _ = client.shutdown(Shutdown::Write);
                }
            }
            Event::Leave(n) => {
                if n < self.clients.len() {
                    drop(self.clients.swap_remove(n));
                }
            }
            Event::Answer(n, text) => {
                if let Some(backend) = self.backends.get_mut(n) {
                    let _ = backend.write(text.as_bytes());
                }
            }
            Event::BackendEnds(n) => {
                if let Some(backend) = self.backends.get(n) {
                    let _ = backend.shutdown(Shutdown::Write);
                }
            }
            Event::BackendLeaves(n) => {
                if n < self.backends.len() {
                    drop(self.backends.swap_remove(n));
                }
            }
            Event::Time(millis) => self.turns(Duration::from_millis(millis)),
        }
        self.turns(Duration::ZERO);
    }

    /// The worker's turns until `time` is over, one at least. Then what must hold at any moment.
    fn turns(&mut self, time: Duration) {
        let end = Instant::now() + time;
        let mut events = Events::new();
        loop {
            let patience = self.worker.patience();
            let left = end.saturating_duration_since(Instant::now());
            let patience = patience.map_or(left, |patience| patience.min(left));
            assert!(self.worker.turn_within(Some(patience), &mut events).is_continue());
            self.take_in_backends();
            if Instant::now() >= end {
                break;
            }
        }
        let gateway = &self.worker.gateway;
        assert!(gateway.exchanges.taken() <= 5 && gateway.tunnels.taken() <= 2);
        let in_flight = gateway.counters.in_flight.load(Ordering::Relaxed);
        let (mut tunnels, mut others) = (0, 0);
        for token in self.worker.clients.tokens() {
            match self.worker.clients.get_mut(token).and_then(|client| client.exchange.as_ref()) {
                Some(exchange) if exchange.is_tunnel() => tunnels += 1,
                Some(_) => others += 1,
                None => {}
            }
        }
        assert_eq!((others, gateway.tunnels.taken() >= tunnels), (in_flight, true));
        let on_backend = self.route.backends().iter().map(|backend| backend.in_flight()).sum::<usize>();
        assert!(on_backend <= 3 && on_backend <= in_flight + tunnels);
        assert!(self.worker.upstreams.used() <= on_backend);
        assert_eq!(self.worker.gateway.counters.panics.load(Ordering::Relaxed), 0);
    }

    fn take_in_backends(&mut self) {
        while let Ok((backend, _)) = self.listener.accept() {
            backend.set_nonblocking(true).unwrap();
            self.backends.push(backend);
        }
        // So that nobody is stopped by a full buffer.
        for backend in &mut self.backends {
            let mut sink = [0; 4096];
            while matches!(backend.read(&mut sink), Ok(1..)) {}
        }
    }

    /// When all have left, nothing is left of them.
    fn end(mut self) {
        self.clients.clear();
        let begin = Instant::now();
        while self.worker.clients.len() > 0 {
            self.turns(Duration::from_millis(1));
            assert!(begin.elapsed() < PATIENCE, "{} connections are left", self.worker.clients.len());
        }
        let Self { worker, route, mailbox, .. } = &mut self;
        let gateway = &worker.gateway;
        assert_eq!((gateway.exchanges.taken(), gateway.tunnels.taken()), (0, 0));
        assert_eq!(gateway.counters.in_flight.load(Ordering::Relaxed), 0);
        assert_eq!(route.in_flight(), 0);
        assert_eq!(route.backends().iter().map(|backend| backend.in_flight()).sum::<usize>(), 0);
        assert_eq!((worker.upstreams.used(), mailbox.load()), (0, 0));
        assert!(worker.turns.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn whatever_happens_in_the_end_nothing_is_left(brief: bool, events in vec(event(), 1..60)) {
        let mut stage = Stage::new(brief);
        for event in &events {
            stage.play(event);
        }
        stage.end();
    }
}

/// One that has ended its side before, so that only its hanging up is news.
#[test]
fn a_client_that_leaves_a_tunnel_takes_it_along() {
    let mut stage = Stage::new(false);
    for event in [
        Event::Come,
        Event::Send(0, "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
        Event::Answer(0, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
        Event::HalfClose(0),
    ] {
        stage.play(&event);
    }
    stage.end();
}

/// The same, whatever else a client has said: it gets an answer, or the end of its connection.
#[test]
fn a_client_that_waits_gets_an_answer_or_the_end() {
    for said in SAID {
        let mut stage = Stage::new(true);
        stage.play(&Event::Come);
        stage.play(&Event::Send(0, said));
        let begin = Instant::now();
        let mut answer = Vec::new();
        loop {
            stage.turns(Duration::from_millis(1));
            let mut buf = [0; 4096];
            match stage.clients[0].read(&mut buf) {
                Ok(0) => break,
                Ok(n) => answer.extend_from_slice(&buf[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
            if answer.windows(4).any(|end| end == b"\r\n\r\n") && !answer.starts_with(b"HTTP/1.1 100") {
                break;
            }
            assert!(begin.elapsed() < PATIENCE, "{said:?}");
        }
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "{said:?}");
        stage.end();
    }
}
