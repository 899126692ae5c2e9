//! [`RouteGuard`]: one exchange on a route. +1 when made, −1 when dropped; none beyond the route's limit.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Route;

impl Route {
    /// Exchanges it is carrying now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts an exchange on this route for as long as the guard lives. `None` when it carries `max_in_flight`
    /// already.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Option<RouteGuard> {
        let limit = self.config.max_in_flight.get();
        self.in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < limit).then_some(count + 1))
            .ok()?;
        Some(RouteGuard { route: Arc::clone(self) })
    }
}

/// Counts one exchange on its route for as long as it lives, whatever ends it: success, error, panic.
#[derive(Debug)]
pub struct RouteGuard {
    route: Arc<Route>,
}

impl Drop for RouteGuard {
    fn drop(&mut self) {
        self.route.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn limited(max_in_flight: usize) -> Arc<Route> {
        Route::for_tests(1, |config| {
            config.max_in_flight = NonZeroUsize::new(max_in_flight).unwrap();
        })
    }

    #[test]
    fn enter_refuses_beyond_the_limit() {
        let route = limited(2);
        let first = route.enter().unwrap();
        let _second = route.enter().unwrap();
        assert!(route.enter().is_none());
        assert_eq!(route.in_flight(), 2, "a refused one is not counted");
        drop(first);
        assert!(route.enter().is_some());
        assert_eq!(route.in_flight(), 1);
    }

    #[test]
    fn a_panic_leaves_the_route() {
        let route = limited(1);
        let guard = route.enter();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _held = guard;
            panic!("an exchange went wrong");
        }));
        assert!(caught.is_err());
        assert_eq!(route.in_flight(), 0);
    }

    /// Eight threads enter at once, 100 times: exactly five get in each time, not one fewer.
    #[test]
    fn the_limit_is_exact_under_threads() {
        let route = limited(5);
        let (entered, counted) = (Barrier::new(8), Barrier::new(8));
        let entries = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let guard = route.enter();
                        entries.fetch_add(usize::from(guard.is_some()), Ordering::Relaxed);
                        entered.wait();
                        drop(guard);
                        counted.wait();
                    }
                });
            }
        });
        assert_eq!(entries.into_inner(), 500);
        assert_eq!(route.in_flight(), 0);
    }
}
