//! [`Challenges`]: the files that answer challenges of ACME servers. They may be on a file server that does not answer, so a
//! thread of its own reads each, and wakes who waits for it. Nobody else waits.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;

use crossbeam_channel::{Receiver, bounded};

use crate::balance::line::Wake;
use crate::logging::sparingly::log_sparingly;

/// So many files are read at a time, those that nobody expects any more included. Beyond it there is no answer: a file server
/// that hangs costs no more threads than that.
const READERS: usize = 4;
/// Longer than any token; that of Let's Encrypt has 43 characters.
const LONGEST_TOKEN: usize = 256;
/// The answer is a token and the hash of a key. What is larger is no answer.
const LARGEST: u64 = 4096;

/// `acme_challenge_dir`.
#[derive(Clone, Debug)]
pub(crate) struct Challenges {
    dir: Arc<Path>,
    /// How many readers there are. A bound and nothing else: `Relaxed`.
    readers: Arc<AtomicUsize>,
}

/// One of the readers. Counted for as long as it lives.
struct Reader(Arc<AtomicUsize>);

impl Reader {
    /// If there may be another one.
    fn new(readers: &Arc<AtomicUsize>) -> Option<Self> {
        let one_more = |count| (count < READERS).then_some(count + 1);
        readers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self(Arc::clone(readers)))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Challenges {
    /// `before`: what it takes the place of. Its readers may still be reading.
    pub(crate) fn new(dir: PathBuf, before: Option<&Self>) -> Self {
        let readers = before.map(|before| Arc::clone(&before.readers)).unwrap_or_default();
        Self { dir: dir.into(), readers }
    }

    /// Has the file of `token` read: its content comes, or that there is none, and then `wake` is called. `None`: it is not read.
    pub(crate) fn begin(&self, token: &str, wake: Box<dyn Wake>) -> Option<Receiver<Option<Vec<u8>>>> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if token.is_empty() || token.len() > LONGEST_TOKEN || !token.bytes().all(is_token) {
            return None;
        }
        let path = self.dir.join(token);
        self.start(move || read(&path), wake)
    }

    fn start(
        &self,
        read: impl FnOnce() -> Option<Vec<u8>> + Send + 'static,
        wake: Box<dyn Wake>,
    ) -> Option<Receiver<Option<Vec<u8>>>> {
        let Some(reader) = Reader::new(&self.readers) else {
            log_sparingly!(warn, "no challenge is read: its directory does not answer dir={:?}", self.dir);
            return None;
        };
        let (done, result) = bounded(1);
        let work = move || {
            let _reader = reader;
            // Nobody may be there any more who wants to know.
            let _ = done.send(read());
            wake.wake();
        };
        if let Err(error) = Builder::new().name("challenge".to_owned()).spawn(work) {
            log_sparingly!(warn, "no challenge is read: {error}");
            return None;
        }
        Some(result)
    }
}

/// The name is one that cannot lead out of the directory; the file must be a plain one, since a pipe has no end.
fn read(path: &Path) -> Option<Vec<u8>> {
    let file = open(path)?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return None;
    }
    let mut content = Vec::new();
    // It may grow meanwhile.
    file.take(LARGEST).read_to_end(&mut content).ok()?;
    Some(content)
}

fn open(path: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok().map(File::from)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Tells that it was called.
    #[derive(Debug)]
    struct Bell(crossbeam_channel::Sender<()>);

    impl Wake for Bell {
        fn wake(&self) {
            let _ = self.0.send(());
        }
    }

    fn bell() -> (Box<dyn Wake>, Receiver<()>) {
        let (sender, rung) = bounded(1);
        (Box::new(Bell(sender)), rung)
    }

    #[test]
    fn a_challenge_is_one_plain_small_file() {
        let dir = std::env::temp_dir().join(format!("reverse-proxy-acme-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("folder")).unwrap();
        std::fs::write(dir.join("to-k_en"), "answer").unwrap();
        std::fs::write(dir.join("large"), vec![b'x'; 5000]).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.join("link")).unwrap();
        let challenges = Challenges::new(dir.clone(), None);
        let answer = |token: &str| {
            let (wake, rung) = bell();
            let result = challenges.begin(token, wake)?;
            // Whoever is woken finds the result.
            rung.recv_timeout(PATIENCE).unwrap();
            result.try_recv().unwrap()
        };
        assert_eq!(answer("to-k_en").as_deref(), Some(&b"answer"[..]));
        for token in ["", "..", ".", "none", "folder", "folder/x", "large", "link", "a%2fb", "to-k_en/"] {
            assert_eq!(answer(token), None, "{token}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_directory_that_hangs_holds_nobody() {
        let challenges = Challenges::new(PathBuf::from("/nowhere"), None);
        let (release, released) = bounded::<()>(0);
        let hang = || {
            let released = released.clone();
            let read = move || {
                // Until all have been released.
                let _ = released.recv();
                Some(b"late".to_vec())
            };
            challenges.start(read, bell().0)
        };
        let waiting: Vec<_> = (0..READERS).map(|_| hang().unwrap()).collect();
        assert!(waiting.iter().all(Receiver::is_empty));
        // So does that of the next configuration.
        let next = Challenges::new(PathBuf::from("/elsewhere"), Some(&challenges));
        assert!(next.start(|| panic!("nobody reads beyond the bound"), bell().0).is_none());
        drop(release);
        for late in waiting {
            assert_eq!(late.recv_timeout(PATIENCE).unwrap().as_deref(), Some(&b"late"[..]));
        }
        let deadline = Instant::now() + PATIENCE;
        while next.start(|| None, bell().0).is_none() {
            assert!(Instant::now() < deadline, "the places are given back");
            std::thread::yield_now();
        }
    }
}
