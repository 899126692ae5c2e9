//! [`BackendGuard`]: one exchange in flight on a backend. +1 when made, −1 when dropped.

use std::ops::Deref;
use std::sync::Arc;

use super::Backend;

/// Counts one exchange on its backend for as long as it lives, whatever ends it: success, error, panic.
#[derive(Debug)]
pub struct BackendGuard {
    backend: Arc<Backend>,
}

impl BackendGuard {
    /// Counts an exchange on `backend`.
    #[must_use]
    pub fn new(backend: &Arc<Backend>) -> Self {
        backend.enter();
        Self { backend: Arc::clone(backend) }
    }

    /// The backend counted on.
    #[must_use]
    pub fn backend(&self) -> &Arc<Backend> {
        &self.backend
    }
}

impl Deref for BackendGuard {
    type Target = Backend;

    fn deref(&self) -> &Backend {
        &self.backend
    }
}

impl Drop for BackendGuard {
    fn drop(&mut self) {
        self.backend.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_while_alive_and_survives_a_panic() {
        let backend = Arc::new(Backend::for_tests(1));
        let first = BackendGuard::new(&backend);
        let second = BackendGuard::new(&backend);
        assert_eq!(backend.in_flight(), 2);
        drop(first);
        assert_eq!(backend.in_flight(), 1);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = second;
            panic!("an exchange went wrong");
        }));
        assert!(caught.is_err());
        assert_eq!(backend.in_flight(), 0);
    }
}
