//! [`LogWriter`]: a bounded channel, and the thread behind it that writes lines where they may have to wait.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

/// Messages that may wait to be written.
const MAX_MESSAGES: usize = 8192;
/// Bytes that may wait to be written. A line can be as long as the head of a request.
const MAX_BYTES: usize = 4 << 20;
/// What is written at once.
const BATCH: usize = 64 << 10;
/// Between two batches while lines come: so many seldom wake the thread, and one at a time would cost more than they do.
const PAUSE: Duration = Duration::from_millis(50);
/// Whoever gave us the pipe made it non-blocking, and it takes no more: it is tried again this much later.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// Where lines go.
pub(crate) trait Output: Send + 'static {
    /// Takes some bytes: how many.
    ///
    /// # Errors
    /// It takes none; `WouldBlock`: for now.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Leaves what is open, and opens what is there under its name.
    fn reopen(&mut self);

    /// Tells somebody of lines that were lost before this moment.
    ///
    /// # Errors
    /// Nobody can be told: it will be tried again.
    fn lost(&mut self, lines: u64) -> io::Result<()>;

    /// Lines could not be written. They count as lost.
    fn failed(&mut self, error: &io::Error);
}

/// Takes lines without ever waiting. Those that find no room are dropped and counted. The thread ends when all clones are
/// gone.
#[derive(Clone, Debug)]
pub(crate) struct LogWriter {
    messages: Sender<Message>,
    waiting: Arc<Waiting>,
}

#[derive(Debug)]
enum Message {
    /// One or several.
    Lines(Vec<u8>),
    /// Disconnected when everything before it is written.
    Flush(Sender<()>),
    /// There is something to do.
    Wake,
}

/// What both sides count. None of it guards other data: `Relaxed`.
#[derive(Debug, Default)]
struct Waiting {
    /// In the channel. Raised by who sends, lowered by the thread.
    bytes: AtomicUsize,
    /// Lines that were dropped, and of which nobody was told. Raised by everybody, taken by the thread.
    lost: AtomicU64,
    /// All that ever were.
    all_lost: AtomicU64,
    /// The output is to be opened anew. Raised by everybody, taken by the thread.
    reopen: AtomicBool,
}

impl Waiting {
    fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
        self.all_lost.fetch_add(lines, Ordering::Relaxed);
    }
}

impl LogWriter {
    /// Starts the thread `name`, which writes to `out`.
    ///
    /// # Errors
    /// The thread can't be started.
    pub(crate) fn start(name: &str, out: impl Output) -> io::Result<Self> {
        let (messages, receiver) = bounded(MAX_MESSAGES);
        let waiting = Arc::new(Waiting::default());
        let mut thread = Thread {
            messages: receiver,
            waiting: Arc::clone(&waiting),
            out,
            batch: Vec::new(),
            is_torn: false,
            since_told: 0,
        };
        // Not joined: nobody can wake it while it waits for a pipe. `flush` waits for what it is there for.
        Builder::new().name(name.to_owned()).spawn(move || thread.run())?;
        Ok(Self { messages, waiting })
    }

    /// Hands lines over, or drops and counts them.
    pub(crate) fn send(&self, lines: Vec<u8>) {
        let length = lines.len();
        if self.waiting.bytes.fetch_add(length, Ordering::Relaxed) + length > MAX_BYTES {
            self.waiting.bytes.fetch_sub(length, Ordering::Relaxed);
            self.waiting.lose(count(&lines));
        } else if let Err(refused) = self.messages.try_send(Message::Lines(lines))
            && let Message::Lines(lines) = refused.into_inner()
        {
            self.waiting.bytes.fetch_sub(length, Ordering::Relaxed);
            self.waiting.lose(count(&lines));
        }
    }

    /// Lines that were ever lost.
    pub(crate) fn lost(&self) -> u64 {
        self.waiting.all_lost.load(Ordering::Relaxed)
    }

    /// Has the output opened anew, soon. Never waits.
    pub(crate) fn reopen(&self) {
        self.waiting.reopen.store(true, Ordering::Relaxed);
        // Wakes the thread; one that finds no room finds it awake.
        let _ = self.messages.try_send(Message::Wake);
    }

    /// Waits until everything handed over before is written, but not longer than `patience`.
    pub(crate) fn flush(&self, patience: Duration) {
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

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// What the thread owns.
struct Thread<O> {
    messages: Receiver<Message>,
    waiting: Arc<Waiting>,
    out: O,
    /// Whole lines, to be written.
    batch: Vec<u8>,
    /// What was written last is a part of a line.
    is_torn: bool,
    /// Bytes written since somebody was last told of lost lines.
    since_told: usize,
}

impl<O: Output> Thread<O> {
    fn run(&mut self) {
        while let Ok(message) = self.messages.recv() {
            let mut next = Some(message);
            while let Some(Message::Lines(lines)) = next {
                self.batch.extend_from_slice(&lines);
                next = if self.batch.len() < BATCH { self.messages.try_recv().ok() } else { None };
            }
            self.write_batch();
            if self.waiting.reopen.swap(false, Ordering::Relaxed) {
                self.out.reopen();
            }
            match next {
                Some(Message::Flush(written)) => {
                    self.tell_of_lost_lines();
                    drop(written);
                }
                Some(Message::Wake | Message::Lines(_)) | None if self.messages.is_empty() => {
                    self.tell_of_lost_lines();
                    sleep(PAUSE);
                }
                Some(Message::Wake | Message::Lines(_)) | None => {}
            }
        }
    }

    fn write_batch(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return;
        }
        self.waiting.bytes.fetch_sub(batch.len(), Ordering::Relaxed);
        self.since_told += batch.len();
        if let Err((left, error)) = self.write_whole(&batch) {
            let left = batch.get(batch.len() - left..).unwrap_or_default();
            self.waiting.lose(count(left));
            self.out.failed(&error);
        }
        if self.since_told > MAX_BYTES {
            self.tell_of_lost_lines();
        }
        self.batch = batch;
        self.batch.clear();
    }

    /// What was lost came after what was waiting then. So this is called when all that is written, and when lines come
    /// faster than they are written, once per channel.
    fn tell_of_lost_lines(&mut self) {
        self.since_told = 0;
        let lost = self.waiting.lost.swap(0, Ordering::Relaxed);
        if lost > 0 && self.out.lost(lost).is_err() {
            self.waiting.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }

    /// Writes lines; after a fault, how many bytes were left. What is torn then gets its end before the next line.
    fn write_whole(&mut self, lines: &[u8]) -> Result<(), (usize, io::Error)> {
        if self.is_torn {
            write_all(&mut self.out, b"\n").map_err(|(_, error)| (lines.len(), error))?;
            self.is_torn = false;
        }
        write_all(&mut self.out, lines).inspect_err(|(left, _)| {
            let written = lines.get(..lines.len() - left).unwrap_or_default();
            self.is_torn = written.last().is_some_and(|last| *last != b'\n');
        })
    }
}

/// Writes all of it; after a fault, how many bytes were left.
pub(super) fn write_all(out: &mut impl Output, mut bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err((bytes.len(), io::ErrorKind::WriteZero.into())),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(TRY_AGAIN),
            Err(error) => return Err((bytes.len(), error)),
        }
    }
    Ok(())
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
        /// After so many bytes.
        fails_after: usize,
        /// Says so once, as a pipe does that is not to be waited for.
        is_full: bool,
    }

    impl Output for Pipe {
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
            let mut written = self.written.lock().unwrap();
            written.extend_from_slice(some);
            self.fails = written.len() >= self.fails_after;
            Ok(some.len())
        }

        fn reopen(&mut self) {
            (self.fails, self.fails_after) = (false, usize::MAX);
        }

        fn lost(&mut self, lines: u64) -> io::Result<()> {
            if self.fails {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let told = format!("{lines} lost here\n");
            write_all(self, told.as_bytes()).map_err(|(_, error)| error)
        }

        fn failed(&mut self, _: &io::Error) {}
    }

    fn pipe() -> (Pipe, Sender<()>) {
        let (open, gate) = bounded(0);
        (Pipe { written: Arc::default(), gate, fails: false, fails_after: usize::MAX, is_full: true }, open)
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
        let writer = LogWriter::start("log", pipe.clone()).unwrap();
        for number in 0..100 {
            writer.send(format!("line {number}\n").into_bytes());
        }
        writer.flush(PATIENCE);
        assert_eq!(pipe.lines(), (0..100).map(|number| format!("line {number}")).collect::<Vec<_>>());
    }

    #[test]
    fn nobody_waits_for_a_pipe_that_is_not_read_and_what_was_lost_is_told() {
        let (pipe, open) = pipe();
        let writer = LogWriter::start("log", pipe.clone()).unwrap();
        // The first may or may not have left the channel when the others come.
        writer.send(b"line\n".to_vec());
        sleep(Duration::from_millis(50));
        for number in 0..MAX_MESSAGES + 11 {
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
        assert!((MAX_MESSAGES..=MAX_MESSAGES + 1).contains(&kept), "{kept}");
        let lost = MAX_MESSAGES + 12 - kept;
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(&format!("{lost} lost")), "{told:?}");
        assert_eq!(lines.last(), Some(told[0]), "told where they are missing");
        writer.send(b"on it goes\n".to_vec());
        writer.flush(PATIENCE);
        assert_eq!(pipe.lines().last().unwrap(), "on it goes", "told once");
    }

    #[test]
    fn long_lines_do_not_fill_the_memory() {
        let (pipe, open) = pipe();
        let writer = LogWriter::start("log", pipe).unwrap();
        for _ in 0..1000 {
            let mut line = vec![b'x'; 64 << 10];
            line.push(b'\n');
            writer.send(line);
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
        let writer = LogWriter::start("log", pipe).unwrap();
        writer.send(b"one\n".to_vec());
        writer.flush(PATIENCE);
        assert_eq!(writer.waiting.lost.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_is_written_after_a_torn_line_begins_a_new_one() {
        let (mut pipe, open) = pipe();
        drop(open);
        pipe.fails_after = 10;
        let writer = LogWriter::start("log", pipe.clone()).unwrap();
        writer.send(b"one\ntwo, which is torn\nthree\n".to_vec());
        writer.flush(PATIENCE);
        writer.reopen();
        writer.send(b"four\n".to_vec());
        writer.flush(PATIENCE);
        assert_eq!(pipe.lines(), ["one", "two, which", "four", "2 lost here"]);
    }
}
