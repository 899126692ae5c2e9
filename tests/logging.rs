//! The log: nobody waits for it, and what must be said is said whatever `RUST_LOG` says.

use std::net::TcpListener;
use std::process::Command;

use crate::support::engines::on_both_engines;
use crate::support::process::{Exit, TempDir, program};
use crate::support::{Engine, Origin, ProxyProcess, TestProxy, get};

fn start_on_a_port_in_use(engine: Engine, filter: &str) -> (Exit, String) {
    let occupant = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = occupant.local_addr().unwrap().to_string();
    let config = TestProxy::builder(engine).route("/", &["127.0.0.1:9".into()], "").toml();
    let directory = TempDir::new();
    let path = directory.file("reverse-proxy.toml", &config.replace("127.0.0.1:0", &addr));
    let exit = ProxyProcess::spawn(program().env("RUST_LOG", filter).arg("--config").arg(path)).wait();
    (exit, addr)
}

fn why_it_does_not_start_is_said_once_whatever_the_filter(engine: Engine) {
    for filter in ["", "off", "info", "debug", "verbose", "json", "reverse-proxy=warn", "reverse_proxy=off"] {
        let (exit, addr) = start_on_a_port_in_use(engine, filter);
        assert_eq!(exit.status.code(), Some(1), "{filter}: {exit:?}");
        let why = format!("cannot listen on {addr}");
        assert_eq!(exit.output.matches(&why).count(), 1, "{filter}: {}", exit.output);
    }
}

fn a_filter_that_makes_no_sense_is_warned_of(engine: Engine) {
    for filter in
        ["verbose", "json", "reverse-proxy=warn", "reverse_proxy::heath=debug", "reverse_proxy=loud"]
    {
        let (exit, _) = start_on_a_port_in_use(engine, filter);
        assert!(exit.output.contains("RUST_LOG"), "{filter}: {}", exit.output);
        assert!(exit.output.contains(filter), "{filter}: {}", exit.output);
    }
    for filter in ["", "off", "warn,reverse_proxy::health=info", "reverse_proxy=debug", "info,tiny_http=warn"]
    {
        let (exit, _) = start_on_a_port_in_use(engine, filter);
        assert!(!exit.output.contains("RUST_LOG"), "{filter}: {}", exit.output);
    }
}

/// What was logged last is the most interesting, and the process ends right after it.
fn the_last_lines_are_written(engine: Engine) {
    let origin = Origin::echo();
    let config = TestProxy::builder(engine).route("/", &[origin.addr()], "").toml();
    let mut command: Command = program();
    // What tiny_http says at this level comes when it is dropped, after the end.
    command.env("RUST_LOG", "reverse_proxy=debug");
    let (process, addr) = ProxyProcess::start_with(&config, command);
    for _ in 0..200 {
        get(addr, "/").expect(200);
    }
    {
        process.signal(rustix::process::Signal::TERM);
        let exit = process.wait();
        assert!(exit.output.lines().last().is_some_and(|line| line.contains("stopped")), "{}", exit.output);
        assert!(!exit.output.contains("lost here"), "{}", exit.output);
    }
}

on_both_engines!(
    why_it_does_not_start_is_said_once_whatever_the_filter,
    a_filter_that_makes_no_sense_is_warned_of,
    the_last_lines_are_written,
);

/// stderr is a pipe, and whoever should read it has stopped.
mod a_full_pipe {
    use std::io::{BufRead, BufReader, Read};
    use std::net::SocketAddr;
    use std::process::{Child, ChildStderr};
    use std::time::{Duration, Instant};

    use rustix::pipe::fcntl_setpipe_size;
    use rustix::process::{Pid, Signal, kill_process};

    use super::*;
    use crate::support::wait::wait_for_up_to;
    use crate::support::{Client, wait_for};

    /// Killed when dropped.
    struct Program {
        child: Child,
        stderr: BufReader<ChildStderr>,
        addr: SocketAddr,
        _directory: TempDir,
    }

    impl Drop for Program {
        fn drop(&mut self) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }

    /// Reads the log until the program listens, and from then on only when the test does.
    fn start(config: &str) -> Program {
        let directory = TempDir::new();
        let path = directory.file("reverse-proxy.toml", config);
        let mut child = program().env("RUST_LOG", "debug").arg("--config").arg(path).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        fcntl_setpipe_size(&stderr, 4096).unwrap();
        let mut stderr = BufReader::new(stderr);
        let mut line = String::new();
        while !line.contains("listening addr=") {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "the program has ended");
        }
        let addr = line.split_once("addr=").unwrap().1.split_whitespace().next().unwrap().parse().unwrap();
        Program { child, stderr, addr, _directory: directory }
    }

    fn fill(program: &Program) {
        let mut client = Client::connect(program.addr);
        let long = "x".repeat(1000);
        for number in 0..300 {
            client.get(&format!("/{number}/{long}")).expect(200);
        }
    }

    fn config(engine: Engine, origin: &Origin) -> String {
        let check = "health_check = { path = \"/health\", interval_secs = 0.05, timeout_secs = 5 }";
        TestProxy::builder(engine).shutdown_timeout("3").route("/", &[origin.addr()], check).toml()
    }

    fn keeps_nobody_from_being_answered(engine: Engine) {
        let origin = Origin::echo();
        let program = start(&config(engine, &origin));
        fill(&program);
        // Probes go on too.
        let before = origin.probes();
        wait_for("more probes", || match origin.probes() {
            seen if seen > before + 3 => Ok(()),
            seen => Err(seen),
        });
        get(program.addr, "/new").expect(200);
    }

    fn keeps_no_signal_from_ending_the_program(engine: Engine) {
        let origin = Origin::echo();
        let mut program = start(&config(engine, &origin));
        fill(&program);
        let told = Instant::now();
        kill_process(Pid::from_child(&program.child), Signal::TERM).unwrap();
        let status = wait_for_up_to(Duration::from_secs(8), "the program to end", || {
            program.child.try_wait().unwrap().ok_or("still running")
        });
        assert_eq!(status.code(), Some(0), "{status:?}");
        assert!(told.elapsed() < Duration::from_secs(5), "it took {:?}", told.elapsed());
    }

    fn costs_lines_which_are_counted(engine: Engine) {
        let origin = Origin::echo();
        let mut program = start(&config(engine, &origin));
        let mut client = Client::connect(program.addr);
        // More than may wait, whether counted in lines or in bytes.
        for _ in 0..9000 {
            client.get("/").expect(200);
        }
        let mut found = false;
        let mut line = String::new();
        for _ in 0..20_000 {
            line.clear();
            assert_ne!(program.stderr.read_line(&mut line).unwrap(), 0, "the program has ended");
            found = line.contains("log lines were lost here");
            if found {
                break;
            }
        }
        assert!(found, "nobody said how many lines were lost");
        kill_process(Pid::from_child(&program.child), Signal::TERM).unwrap();
        let mut rest = String::new();
        program.stderr.read_to_string(&mut rest).unwrap();
        assert!(rest.lines().last().is_some_and(|line| line.contains("stopped")), "{rest}");
    }

    fn keeps_no_program_from_refusing_to_start(engine: Engine) {
        use std::os::fd::OwnedFd;
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        fcntl_setpipe_size(&writer, 4096).unwrap();
        rustix::io::write(&writer, &[b'x'; 4096]).unwrap();
        let occupant = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = occupant.local_addr().unwrap().to_string();
        let config = TestProxy::builder(engine).route("/", &["127.0.0.1:9".into()], "").toml();
        let directory = TempDir::new();
        let path = directory.file("reverse-proxy.toml", &config.replace("127.0.0.1:0", &addr));
        let writer: OwnedFd = writer;
        let mut child = program().stderr(writer).arg("--config").arg(path).spawn().unwrap();
        let status = wait_for("the program to end", || child.try_wait().unwrap().ok_or("still running"));
        assert_eq!(status.code(), Some(1));
        drop(reader);
    }

    on_both_engines!(
        keeps_nobody_from_being_answered,
        keeps_no_signal_from_ending_the_program,
        costs_lines_which_are_counted,
        keeps_no_program_from_refusing_to_start,
    );
}
