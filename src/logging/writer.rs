//! [`LogWriter`]: a bounded channel, and the thread behind it that writes lines where they may have to wait.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Lines that may wait to be written.
const MAX_LINES: usize = 8192;
/// Bytes that may wait to be written. A line can be as long as the head of a request.
const MAX_BYTES: usize = 4 << 20;
/// Whoever gave us stderr made it non-blocking, and it takes no more: it is tried again this much later.
const PAUSE: Duration = Duration::from_millis(10);

/// Takes lines without ever waiting. Those that find no room are dropped and counted; the log says how many as soon as
/// it flows again. The thread ends when all clones are gone.
#[derive(Clone, Debug)]
pub(super) struct LogWriter {
    messages: Sender<Message>,
    waiting: Arc<Waiting>,
}

enum Message {
    Line(Vec<u8>),
    /// Disconnected when everything before it is written.
    Flush(Sender<()>),
}

/// What both sides count. None of it guards other data: `Relaxed`.
#[derive(Debug, Default)]
struct Waiting {
    /// In the channel. Raised by who sends, lowered by the thread.
    bytes: AtomicUsize,
    /// Lines that were dropped, and of which the log has not told. Raised by everybody, taken by the thread.
    lost: AtomicU64,
}

impl LogWriter {
    /// Starts the thread `log`, which writes to `out`.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (messages, receiver) = bounded(MAX_LINES);
        let waiting = Arc::new(Waiting::default());
        let mut thread = Thread { messages: receiver, waiting: Arc::clone(&waiting), out, since_told: 0 };
        // Not joined: nobody can wake it while it waits for a pipe. `flush` waits for what it is there for.
        Builder::new().name("log".to_owned()).spawn(move || thread.run())?;
        Ok(Self { messages, waiting })
    }

    /// Hands lines over, or drops and counts them.
    pub(super) fn send(&self, line: Vec<u8>) {
        let length = line.len();
        if self.waiting.bytes.fetch_add(length, Ordering::Relaxed) + length > MAX_BYTES
            || self.messages.try_send(Message::Line(line)).is_err()
        {
            self.waiting.bytes.fetch_sub(length, Ordering::Relaxed);
            self.waiting.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything handed over before is written, but not longer than `patience`.
    pub(super) fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let (written, done) = bounded(0);
        if self.messages.send_deadline(Message::Flush(written), deadline).is_ok() {
            // Nothing is ever sent: it ends when the thread drops its side, or at the deadline.
            let _ = done.recv_deadline(deadline);
        }
    }
}

/// One call is one line: that is how `env_logger` writes.
impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.send(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the thread owns.
struct Thread<W> {
    messages: Receiver<Message>,
    waiting: Arc<Waiting>,
    out: W,
    /// Lines written since the log last told of lost ones.
    since_told: usize,
}

impl<W: Write> Thread<W> {
    fn run(&mut self) {
        while let Ok(message) = self.messages.recv() {
            match message {
                Message::Line(line) => {
                    self.waiting.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                    if self.write(&line).is_err() {
                        // There is nobody to tell, until it can be written again: a disk that was full.
                        self.waiting.lost.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    self.since_told += 1;
                    if self.messages.is_empty() || self.since_told > MAX_LINES {
                        self.tell_of_lost_lines();
                    }
                }
                Message::Flush(written) => {
                    self.tell_of_lost_lines();
                    drop(written);
                }
            }
        }
    }

    /// What was lost came after what was waiting then. So this is called when all that is written, and when lines come
    /// faster than they are written, once per channel.
    fn tell_of_lost_lines(&mut self) {
        self.since_told = 0;
        let lost = self.waiting.lost.swap(0, Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        // Not through the logger: this must not depend on room in the channel, nor on RUST_LOG.
        let told = format!(
            "reverse-proxy: {lost} log line{} lost here, because stderr did not take them fast enough; if this happens \
             often, look at what reads the log, or log less with RUST_LOG=warn\n",
            if lost == 1 { " was" } else { "s were" }
        );
        if self.write(told.as_bytes()).is_err() {
            self.waiting.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(PAUSE),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Longer than any test.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Takes what it gets while the gate is open.
    #[derive(Clone)]
    struct Pipe {
        written: Arc<Mutex<Vec<u8>>>,
        /// Disconnected: open.
        gate: Receiver<()>,
        fails: bool,
        /// Says so once, as a pipe does that is not to be waited for.
        is_full: bool,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.gate.recv();
            if std::mem::take(&mut self.is_full) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            if self.fails {
                return Err(io::ErrorKind::StorageFull.into());
            }
            // A few bytes at a time, as a pipe that is nearly full.
            let some = &bytes[..bytes.len().min(7)];
            self.written.lock().unwrap().extend_from_slice(some);
            Ok(some.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn pipe() -> (Pipe, Sender<()>) {
        let (open, gate) = bounded(0);
        (Pipe { written: Arc::default(), gate, fails: false, is_full: true }, open)
    }

    impl Pipe {
        fn lines(&self) -> Vec<String> {
            let written = String::from_utf8(self.written.lock().unwrap().clone()).unwrap();
            written.lines().map(str::to_owned).collect()
        }
    }

    #[test]
    fn lines_are_written_in_order_and_a_flush_waits_for_them() {
        let (pipe, open) = pipe();
        drop(open);
        let writer = LogWriter::start(pipe.clone()).unwrap();
        for number in 0..100 {
            writer.send(format!("line {number}\n").into_bytes());
        }
        writer.flush(PATIENCE);
        assert_eq!(pipe.lines(), (0..100).map(|number| format!("line {number}")).collect::<Vec<_>>());
    }

    #[test]
    fn nobody_waits_for_a_pipe_that_is_not_read_and_what_was_lost_is_told() {
        let (pipe, open) = pipe();
        let writer = LogWriter::start(pipe.clone()).unwrap();
        // The first may or may not have left the channel when the others come.
        for number in 0..MAX_LINES + 11 {
            writer.send(format!("line {number}\n").into_bytes());
        }
        let begin = Instant::now();
        writer.flush(Duration::from_millis(20));
        assert!(begin.elapsed() < PATIENCE, "a flush has a deadline");
        drop(open);
        writer.flush(PATIENCE);
        let lines = pipe.lines();
        let told: Vec<_> = lines.iter().filter(|line| line.contains("lost here")).collect();
        let kept = lines.len() - told.len();
        assert!((MAX_LINES..=MAX_LINES + 1).contains(&kept), "{kept}");
        let lost = MAX_LINES + 11 - kept;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(&format!(" {lost} log lines were lost")), "{told:?}");
        assert_eq!(lines.last(), Some(told[0]), "told where they are missing");
        writer.send(b"on it goes\n".to_vec());
        writer.flush(PATIENCE);
        assert_eq!(pipe.lines().last().unwrap(), "on it goes", "told once");
    }

    #[test]
    fn long_lines_do_not_fill_the_memory() {
        let (pipe, open) = pipe();
        let writer = LogWriter::start(pipe).unwrap();
        for _ in 0..1000 {
            writer.send(vec![b'x'; 64 << 10]);
        }
        assert!(writer.waiting.bytes.load(Ordering::Relaxed) <= MAX_BYTES);
        assert!(writer.waiting.lost.load(Ordering::Relaxed) >= 1000 - 65);
        drop(open);
    }

    #[test]
    fn a_disk_that_is_full_costs_lines() {
        let (mut pipe, open) = pipe();
        drop(open);
        pipe.fails = true;
        let writer = LogWriter::start(pipe).unwrap();
        writer.send(b"one\n".to_vec());
        writer.flush(PATIENCE);
        assert_eq!(writer.waiting.lost.load(Ordering::Relaxed), 1);
    }
}
