//! Every behaviour is tested on every way in.
//!
//! `on_both_engines!(one, two);` turns the functions `fn one(engine: Engine)` of a file into the tests `native::one`
//! and `tiny_http::one`; `on_native!(one, two);` is for files about what tiny_http does not have. A test function that is not named there is dead code, which the compiler reports.

/// A way in: a value of `engine` under `[server]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Native,
    TinyHttp,
}

impl Engine {
    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::TinyHttp => "tiny_http",
        }
    }

    /// Lines under `[server]` with which it carries `count` exchanges at once: a thread each, or none.
    pub fn carries(self, count: usize) -> String {
        match self {
            Self::Native => format!("max_exchanges = {count}"),
            Self::TinyHttp => format!("workers = {count}"),
        }
    }
}

/// The one list of what cannot be had: engine, test, reason.
const SKIPPED: &[(Engine, &str, &str)] = &[
    (
        Engine::TinyHttp,
        "basic_auth::who_leaves_frees_everything",
        "tiny_http does not tell that a client has left",
    ),
    (
        Engine::TinyHttp,
        "slow_start::only_the_backends_time_counts",
        "ureq does not tell when a request has been sent",
    ),
    (Engine::TinyHttp, "rules::fields_in_trailers", "tiny_http takes no trailers, and passes none on"),
    (Engine::TinyHttp, "compress::trailers_pass_but_those_about_the_bytes", "ureq drops trailers"),
    (
        Engine::TinyHttp,
        "compress::who_leaves_gives_the_place_back",
        "tiny_http keeps the sockets to itself, so nobody can see that a client left",
    ),
    (
        Engine::TinyHttp,
        "broken_answers::the_connection_is_closed_at_once",
        "tiny_http cannot close a connection whose answer broke off; the client waits",
    ),
    (
        Engine::TinyHttp,
        "broken_answers::an_old_client_can_tell_too",
        "tiny_http keeps the sockets to itself, so nobody can reset one",
    ),
    (
        Engine::TinyHttp,
        "request_headers::bytes_beyond_ascii_pass",
        "tiny_http closes the connection when a header value has bytes over 0x7f, without an answer",
    ),
    (
        Engine::TinyHttp,
        "failures::a_declared_length_that_is_too_large_is_413_at_once",
        "a request of tiny_http can only be dropped when its body was read to the end",
    ),
    (
        Engine::TinyHttp,
        "expect::a_refused_request_is_not_told_to_continue",
        "a request of tiny_http can only be dropped when its body was read to the end, which asks for it",
    ),
    (
        Engine::TinyHttp,
        "expect::an_old_client_gets_no_100",
        "tiny_http sends 100 Continue to HTTP/1.0 clients as well",
    ),
    (
        Engine::TinyHttp,
        "forms::an_old_client_gets_an_unknown_length_until_close",
        "tiny_http cannot close a connection that its client wants to keep; the client waits",
    ),
    (
        Engine::TinyHttp,
        "forms::empty_lines_before_a_request_are_ignored",
        "tiny_http answers 400 to an empty line before a request",
    ),
    (
        Engine::TinyHttp,
        "forward_auth::nobody_is_told_to_continue_before",
        "a request of tiny_http can only be dropped when its body was read to the end, which asks for it",
    ),
    (Engine::TinyHttp, "responses::reason_phrases_pass", "ureq does not tell the reason phrase"),
    (Engine::TinyHttp, "responses::nine_hundred_fields_pass", "ureq takes no more than 128 fields"),
    (
        Engine::TinyHttp,
        "idle_connections::one_that_hangs_up_is_closed_at_once",
        "ureq looks at an idle connection when it is next used",
    ),
    (
        Engine::TinyHttp,
        "idle_connections::one_on_which_the_backend_speaks_is_closed_at_once",
        "ureq looks at an idle connection when it is next used",
    ),
    (
        Engine::TinyHttp,
        "bad_answers::a_head_just_within_the_limits_passes",
        "ureq takes no more than 128 fields",
    ),
    (
        Engine::TinyHttp,
        "bad_answers::interim_answers_are_swallowed",
        "ureq takes no fields with a 100, and no more than 64 KiB of interim answers",
    ),
    (
        Engine::TinyHttp,
        "broken_answers::a_reset_is_no_end",
        "ureq takes a reset for the end of a body without a length",
    ),
    (Engine::TinyHttp, "cause_words::of_connections", "Unix-domain sockets are for the native engine"),
    (Engine::TinyHttp, "cause_words::of_answers", "deadline_secs is for the native engine"),
    (
        Engine::TinyHttp,
        "dropped::dropping_it_ends_its_threads_at_once",
        "a thread that waits in a system call can't be called back",
    ),
    (
        Engine::TinyHttp,
        "idle_connections::the_newest_is_used_first",
        "ureq uses the oldest idle connection first",
    ),
    (
        Engine::TinyHttp,
        "idle_connections::they_are_closed_in_time",
        "ureq closes idle connections when it next looks for one",
    ),
    (
        Engine::TinyHttp,
        "retries::an_answer_that_began_is_not_asked_for_again",
        "ureq does not say whether some of an answer had come",
    ),
    (
        Engine::TinyHttp,
        "streaming::a_small_request_chunk_arrives_before_the_body_ends",
        "reads of tiny_http have no deadline, so bodies are collected up to 64 KiB however long that takes",
    ),
    (Engine::TinyHttp, "retries::not_beyond_the_deadline", "deadline_secs is for the native engine"),
    (
        Engine::TinyHttp,
        "reload::idle_clients_have_the_time_that_is_at_work",
        "tiny_http gives idle clients no time limit",
    ),
    (
        Engine::TinyHttp,
        "reload::a_listener_that_goes_loses_nobody",
        "tiny_http has no limit of connections that would make one wait",
    ),
    (
        Engine::TinyHttp,
        "admin::few_connections_are_dealt_out_evenly_among_the_workers",
        "its workers carry requests, and tiny_http the connections",
    ),
    (
        Engine::TinyHttp,
        "reload::who_waits_beyond_a_smaller_max_connections_is_served",
        "tiny_http has no limit of connections that would make one wait",
    ),
];

/// Files about what tiny_http does not have at all: file, reason. Their tests run on the native engine only.
const NATIVE_ONLY: &[(&str, &str)] = &[
    ("cause_words_of_clients", "tiny_http has no limits for clients, and does not see them leave"),
    ("client_leaves", "tiny_http keeps the sockets to itself, so nobody can see that a client left"),
    ("closing", "tiny_http does not let us close a connection"),
    ("deadline", "ureq has time-outs for its steps only"),
    ("deadline_clients", "reads and writes of tiny_http have no deadline"),
    ("drain", "tiny_http drops what it has not read, and leaves idle connections open"),
    ("early_answers", "tiny_http reads a body to its end before it lets us answer"),
    ("forward_auth_meanwhile", "a thread that waits for an answer does not see its client leave"),
    ("hold", "a thread that waits for a backend does not see its client leave"),
    ("interim", "tiny_http sends one answer to a request, and cannot send a part of one before it"),
    (
        "listeners",
        "the addresses are opened for both engines alike; the backlog is for the native one to take from",
    ),
    ("loops", "requests of tiny_http are carried by the same code, and loops need ports of their own"),
    ("passed_on", "tiny_http keeps the sockets to itself, so every byte goes through a buffer"),
    ("pool", "tiny_http has a thread for each connection before the pool, and cannot close one"),
    ("proxy_protocol", "tiny_http reads from its sockets itself, and from the first byte on"),
    ("slow_clients", "tiny_http has no deadline of any kind"),
    (
        "strict",
        "tiny_http has a parser of its own that accepts much of this, and it cannot close a connection",
    ),
    ("tls", "https:// backends are for the native engine"),
    ("tls_front", "TLS towards clients is for the native engine"),
    ("unix", "Unix-domain sockets are for the native engine"),
    ("trailers", "tiny_http reads trailers past, and cannot send any"),
    ("upgrade", "tiny_http keeps the sockets to itself, so nobody can join them"),
    ("survival", "tiny_http ends its accept loop at the first error, and has no limit of connections"),
];

/// Runs `test` on the native engine; its file has to be in the list. Called by [`on_native!`].
pub fn run_native(module: &str, function: fn(Engine)) {
    let file = module.split("::").nth(1).unwrap_or(module);
    assert!(NATIVE_ONLY.iter().any(|(listed, _)| *listed == file), "{file} is not in NATIVE_ONLY");
    function(Engine::Native);
}

/// Runs `test` unless the list says that it cannot pass. Called by [`on_both_engines!`].
pub fn run(engine: Engine, module: &str, test: &str, function: fn(Engine)) {
    let file = module.split("::").nth(1).unwrap_or(module);
    let name = format!("{file}::{test}");
    match SKIPPED.iter().find(|(skipped, test, _)| *skipped == engine && *test == name) {
        Some((_, _, reason)) => println!("{name} is skipped on {}: {reason}", engine.name()),
        None => function(engine),
    }
}

/// Makes a test of each function, once for every engine.
macro_rules! on_both_engines {
    ($($test:ident),+ $(,)?) => {
        #[cfg(feature = "classic")]
        mod tiny_http {
            $(
                #[test]
                fn $test() {
                    use $crate::support::engines::{Engine, run};
                    run(Engine::TinyHttp, module_path!(), stringify!($test), super::$test);
                }
            )+
        }

        mod native {
            $(
                #[test]
                fn $test() {
                    use $crate::support::engines::{Engine, run};
                    run(Engine::Native, module_path!(), stringify!($test), super::$test);
                }
            )+
        }
    };
}
pub(crate) use on_both_engines;

/// Makes a test of each function, for the native engine only.
macro_rules! on_native {
    ($($test:ident),+ $(,)?) => {
        mod native {
            $(
                #[test]
                fn $test() {
                    $crate::support::engines::run_native(module_path!(), super::$test);
                }
            )+
        }
    };
}
pub(crate) use on_native;

/// What a connection may cost in memory beside what it holds itself: a session, where TLS is spoken.
pub fn kib_of_tls() -> usize {
    #[cfg(feature = "tls")]
    if super::secured::is_wanted() {
        return 25;
    }
    0
}

/// Makes a test of each function once more, for the native engine with clients that speak TLS (`support/secured.rs`). Those of
/// files of which the clients are more than bytes, or are not [`Client`](super::Client)s, are left out.
macro_rules! on_native_over_tls {
    ($($test:ident),+ $(,)?) => {
        #[cfg(feature = "tls")]
        mod over_tls {
            $(
                #[test]
                fn $test() {
                    $crate::support::secured::run(super::$test);
                }
            )+
        }
    };
}
pub(crate) use on_native_over_tls;

/// A name in the list that no longer belongs to a test would go unnoticed otherwise.
#[test]
fn every_skipped_test_exists() {
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program).arg("--list").output().unwrap();
    let tests = String::from_utf8(output.stdout).unwrap();
    for (engine, name, _) in SKIPPED {
        if *engine == Engine::TinyHttp && cfg!(not(feature = "classic")) {
            continue;
        }
        let (file, test) = name.split_once("::").unwrap();
        // There may be a module of what one system has alone in between.
        let (start, end) = (format!("{file}::"), format!("::{}::{test}: test", engine.name()));
        let is_it = |line: &str| line.starts_with(&start) && line.ends_with(&end);
        assert!(tests.lines().any(is_it), "SKIPPED names {name} of {}, which is not a test", engine.name());
    }
    for (file, _) in NATIVE_ONLY {
        // Without the cargo feature their tests are not built.
        if file.starts_with("tls") && cfg!(not(feature = "tls")) {
            continue;
        }
        let prefix = format!("{file}::native::");
        assert!(
            tests.lines().any(|line| line.starts_with(&prefix)),
            "NATIVE_ONLY names {file}, without tests"
        );
    }
}
