//! The program itself, as an operator starts it.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::wait::{Task, spawn, wait_for, wait_for_up_to};

/// A directory that is deleted with everything in it.
#[derive(Debug)]
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("reverse-proxy-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("create a directory for the test");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file and returns its path.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("write a file of the test");
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The program under test. Its environment is ours without what would configure it.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reverse-proxy"));
    command.env_remove("REVERSE_PROXY_CONFIG_PATH").env_remove("RUST_LOG").env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The program, started by a shell that runs `first` and is replaced by it.
pub fn program_after(first: &str) -> Command {
    let command = program();
    let path = command.get_program().to_owned();
    let mut shell = Command::new("/bin/sh");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell.arg("-c").arg(format!("{first}; exec \"$0\" \"$@\"")).arg(path);
    shell
}

/// A started program whose output is collected. Dropping it kills it.
#[derive(Debug)]
pub struct ProxyProcess {
    child: Child,
    output: Arc<Mutex<String>>,
    readers: Vec<Task<()>>,
    _directory: Option<TempDir>,
    #[cfg(feature = "tls")]
    _speaking: Option<super::secured::Speaking>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Exit {
    pub status: ExitStatus,
    /// Both streams together.
    pub output: String,
    pub after: Duration,
}

impl ProxyProcess {
    /// Starts the program with this configuration and waits until it listens.
    pub fn start(config: &str) -> (Self, SocketAddr) {
        Self::start_with(config, program())
    }

    /// [`start`](Self::start) by a command of which `--config PATH` becomes the end.
    pub fn start_with(config: &str, mut command: Command) -> (Self, SocketAddr) {
        let directory = TempDir::new();
        let path = directory.file("reverse-proxy.toml", config);
        let mut process = Self::spawn(command.arg("--config").arg(path));
        process._directory = Some(directory);
        let addr = process.wait_for_output("the address it listens on", listen_addr);
        #[cfg(feature = "tls")]
        {
            process._speaking = super::secured::Speaking::at(addr);
        }
        (process, addr)
    }

    /// Threads it has now.
    pub fn threads(&self) -> usize {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        tasks.expect("the program is running").count()
    }

    /// Descriptors it has now.
    pub fn descriptors(&self) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        open.expect("the program is running").count()
    }

    /// Kilobytes of memory it has now.
    pub fn resident_kib(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the program is running");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Takes away its descriptors: `spare` more can be opened now, and no other.
    pub fn limit_descriptors(&self, spare: u64) {
        let open = |number: &u64| {
            std::fs::exists(format!("/proc/{}/fd/{number}", self.child.id())).is_ok_and(|it| it)
        };
        let free = (0..).filter(|number| !open(number)).nth(usize::try_from(spare).unwrap());
        self.set_descriptor_limit(free.expect("a number"));
    }

    /// Gives it as many as it likes again.
    pub fn unlimit_descriptors(&self) {
        self.set_descriptor_limit(1000);
    }

    fn set_descriptor_limit(&self, soft: u64) {
        use rustix::process::{Pid, Resource, Rlimit, prlimit};
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let limit = Rlimit { current: Some(soft), maximum: Some(1000) };
        prlimit(pid, Resource::Nofile, limit).expect("set the limit of a child");
    }

    /// Starts the program as told.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("start the program");
        let output = Arc::new(Mutex::new(String::new()));
        let stdout = child.stdout.take().expect("a pipe");
        let stderr = child.stderr.take().expect("a pipe");
        let readers = vec![collect("stdout", stdout, &output), collect("stderr", stderr, &output)];
        Self {
            child,
            output,
            readers,
            _directory: None,
            #[cfg(feature = "tls")]
            _speaking: None,
        }
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `find` finds something in a line that it printed.
    pub fn wait_for_output<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        wait_for(what, || {
            let ended = !self.readers.iter().any(Task::is_running);
            let output = self.output();
            let found = output.lines().find_map(&find);
            assert!(
                found.is_some() || !ended,
                "the program has ended without {what}: {:?}",
                self.child.wait()
            );
            found.ok_or(output)
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("send a signal");
    }

    /// Waits until the program has ended.
    pub fn wait(self) -> Exit {
        self.wait_up_to(super::PATIENCE)
    }

    /// [`wait`](Self::wait) with another deadline.
    pub fn wait_up_to(mut self, deadline: Duration) -> Exit {
        let started = Instant::now();
        let status = wait_for_up_to(deadline, "the program to end", || match self.child.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err((other, self.output())),
        });
        let after = started.elapsed();
        for reader in self.readers.drain(..) {
            reader.join();
        }
        Exit { status, output: self.output(), after }
    }
}

impl Drop for ProxyProcess {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- output of the program\n{}---", self.output());
        }
    }
}

fn collect(name: &str, stream: impl Read + Send + 'static, output: &Arc<Mutex<String>>) -> Task<()> {
    let output = Arc::clone(output);
    spawn(name, move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            output.push_str(&line);
            output.push('\n');
        }
    })
}

/// The address in a log line that says `listening`.
fn listen_addr(line: &str) -> Option<SocketAddr> {
    let rest = line.split_once("istening")?.1;
    rest.split(|char: char| !(char.is_ascii_digit() || char == '.' || char == ':'))
        .map(|word| word.trim_matches([':', '.']))
        .find_map(|word| word.parse().ok())
}
