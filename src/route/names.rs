//! From the entries of a route's configuration to its backends: names are looked up, at the start and again while the
//! proxy runs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Group, Route};
use crate::balance::{Backend, balancer};
use crate::upstream::address::Upstream;
use crate::upstream::names::{self, Lookup};

impl Route {
    /// Whether the addresses of its backends may change.
    #[must_use]
    pub fn has_names(&self) -> bool {
        self.config.backends.iter().any(|entry| names::is_name(&entry.addr))
    }

    /// Looks the names of its backends up again. An address that stays keeps its backend with its health and counts; a
    /// name that can't be looked up keeps the addresses it had.
    pub fn look_up_names(&self, lookup: Lookup<'_>) {
        let before = self.backends();
        let after = match self.look_up(lookup, &before) {
            Ok(after) => after,
            Err(error) => {
                log::warn!("backends stay as they are route={} reason={error}", self.config.prefix);
                return;
            }
        };
        let same = before.len() == after.len() && before.iter().zip(&after).all(|(a, b)| Arc::ptr_eq(a, b));
        if same {
            return;
        }
        let labels = after.iter().map(|backend| backend.label()).collect::<Vec<_>>().join(",");
        log::info!("addresses changed route={} backends={labels}", self.config.prefix);
        let balancer = balancer(&self.config, &after);
        self.group.store(Arc::new(Group { backends: after, balancer }));
        self.health_changed();
    }

    pub(super) fn look_up(
        &self,
        lookup: Lookup<'_>,
        before: &[Arc<Backend>],
    ) -> io::Result<Vec<Arc<Backend>>> {
        let mut backends = Vec::new();
        for entry in &self.config.backends {
            let of_entry = |backend: &&Arc<Backend>| backend.config() == entry;
            match names::addresses(&entry.addr, lookup) {
                Ok(addresses) => {
                    for resolved in addresses {
                        let known =
                            before.iter().filter(of_entry).find(|backend| backend.resolved() == resolved);
                        backends.push(match known {
                            Some(backend) => Arc::clone(backend),
                            None => {
                                let upstream = Upstream::new(&entry.addr, resolved, &self.config)?;
                                let line = Arc::clone(&self.line);
                                Arc::new(Backend::new(entry.clone(), resolved, upstream, line))
                            }
                        });
                    }
                }
                Err(error) => {
                    let known = before.iter().filter(of_entry).cloned();
                    let count = backends.len();
                    backends.extend(known);
                    let (addr, route) = (&entry.addr, &self.config.prefix);
                    if backends.len() > count {
                        log::debug!("kept the addresses of backend={addr} route={route}: {error}");
                    } else if self.names_known.load(Ordering::Relaxed) {
                        log::debug!("still no address for backend={addr} route={route}: {error}");
                    } else {
                        // Said once, at the start: a name that has had an address keeps it.
                        log::warn!("no address for backend={addr} route={route}: {error}");
                    }
                }
            }
        }
        Ok(backends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::PickRequest;
    use crate::config::BackendConfig;
    use crate::error::Cause;

    #[test]
    fn a_name_is_followed_to_its_addresses() {
        let route = Route::for_tests(0, |config| {
            let addr = "app.test:80".parse().unwrap();
            config.backends = vec![BackendConfig { addr, weight: std::num::NonZeroU32::MIN }];
        });
        let addresses = |list: &'static [&'static str]| {
            move |_: &str, _: u16| Ok(list.iter().map(|addr| addr.parse().unwrap()).collect())
        };
        let labels = || route.backends().iter().map(|backend| backend.label().to_owned()).collect::<Vec<_>>();
        assert_eq!(route.find_backend(&PickRequest::ANYONE, &[], None).err(), Some(Cause::NameNotResolved));
        route.look_up_names(&addresses(&["10.0.0.2:80", "10.0.0.1:80", "10.0.0.2:80"]));
        assert_eq!(labels(), ["app.test:80/10.0.0.1:80", "app.test:80/10.0.0.2:80"]);
        let kept = Arc::clone(&route.backends()[1]);
        kept.set_healthy(false);
        route.look_up_names(&addresses(&["10.0.0.2:80", "10.0.0.3:80"]));
        assert_eq!(labels(), ["app.test:80/10.0.0.2:80", "app.test:80/10.0.0.3:80"]);
        assert!(Arc::ptr_eq(&kept, &route.backends()[0]), "its health and counts go with it");
        route.look_up_names(&|_, _| Err(io::ErrorKind::TimedOut.into()));
        assert_eq!(labels().len(), 2, "a resolver that fails changes nothing");
    }
}
