//! Idle connections to one backend: newest first, so that the old ones age out, and never more than a bounded number.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::conn::Conn;

/// ureq's own pool is a scan under a lock, oldest connection first; this one is a push and a pop.
#[derive(Debug)]
pub(crate) struct IdlePool {
    /// Held for a push or a pop; sockets are probed and closed outside.
    idle: Mutex<Vec<Idle>>,
    max_idle: usize,
    max_age: Duration,
}

#[derive(Debug)]
struct Idle {
    conn: Conn,
    since: Instant,
}

impl IdlePool {
    pub(super) fn new(max_idle: usize, max_age: Duration) -> Self {
        Self { idle: Mutex::new(Vec::new()), max_idle, max_age }
    }

    /// The most recently used connection on which the backend has neither spoken nor hung up.
    pub(super) fn take(&self, now: Instant) -> Option<Conn> {
        loop {
            let (candidate, too_old) = {
                let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
                match idle.pop() {
                    None => return None,
                    Some(newest) if now.duration_since(newest.since) >= self.max_age => {
                        // All others are older still.
                        (None, std::mem::take(&mut *idle))
                    }
                    Some(newest) => (Some(newest.conn), Vec::new()),
                }
            };
            drop(too_old);
            let mut conn = candidate?;
            if conn.is_quiet() {
                return Some(conn);
            }
        }
    }

    pub(super) fn put(&self, conn: Conn) {
        if self.max_idle == 0 {
            return;
        }
        let oldest = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let oldest = (idle.len() >= self.max_idle).then(|| idle.remove(0));
            idle.push(Idle { conn, since: Instant::now() });
            oldest
        };
        drop(oldest);
    }

    /// Closes what has been idle for too long.
    pub(super) fn close_expired(&self) {
        let expired = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let young =
                idle.iter().position(|entry| entry.since.elapsed() < self.max_age).unwrap_or(idle.len());
            idle.drain(..young).collect::<Vec<_>>()
        };
        drop(expired);
    }
}
