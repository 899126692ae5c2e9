//! From the entries of a pool's configuration to its backends: addresses at once, names when they have been looked up.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::pool::{Group, Pool};
use crate::balance::Backend;
use crate::balance::backend::now_millis;
use crate::config::BackendConfig;
use crate::logging::sparingly::log_sparingly;
use crate::upstream::address::Upstream;
use crate::upstream::names;

impl Pool {
    /// The entries that are names, whose addresses may change.
    pub(crate) fn names(&self) -> impl Iterator<Item = &BackendConfig> {
        self.config().backends.iter().filter(|entry| names::is_name(&entry.addr))
    }

    /// Takes in what looking up a name has found. An address that stays keeps its backend with its health and counts; a
    /// name that can't be looked up keeps the addresses it had. Called by one thread at a time.
    pub(crate) fn take_in_addresses(
        &self,
        entry: &BackendConfig,
        found: io::Result<Vec<Option<SocketAddr>>>,
        is_first: bool,
    ) {
        let before = self.backends();
        let known: Vec<_> = before.iter().filter(|backend| backend.config() == entry).collect();
        let (addr, owner) = (&entry.addr, self.owner());
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                if is_first {
                    // Backups may be all there is.
                    self.look_how_few(true);
                }
                if !known.is_empty() {
                    log::debug!("kept the addresses of backend={addr} {owner}: {error}");
                } else if is_first {
                    log::warn!("no address for backend={addr} {owner}: {error}");
                } else {
                    log::debug!("still no address for backend={addr} {owner}: {error}");
                }
                return;
            }
        };
        let mut of_entry = Vec::new();
        for resolved in found {
            of_entry.push(match known.iter().find(|backend| backend.resolved() == resolved) {
                Some(backend) => Arc::clone(backend),
                None => match self.new_backend(entry, resolved) {
                    Ok(backend) => backend,
                    Err(error) => {
                        log_sparingly!(
                            warn,
                            "backends stay as they are {owner} backend={addr} reason={:?}",
                            error.to_string()
                        );
                        return;
                    }
                },
            });
        }
        if known.len() == of_entry.len() && known.iter().zip(&of_entry).all(|(a, b)| Arc::ptr_eq(a, b)) {
            return;
        }
        let what = if is_first { "addresses found" } else { "addresses changed" };
        let labels = of_entry.iter().map(|backend| backend.label()).collect::<Vec<_>>().join(",");
        log::info!("{what} {owner} backends={labels}");
        let mut after = Vec::new();
        let mut others = before.iter().filter(|backend| backend.config() != entry).peekable();
        // Both are in the order of the file.
        for each in &self.config().backends {
            if each == entry {
                after.append(&mut of_entry);
            }
            while let Some(backend) = others.next_if(|backend| backend.config() == each) {
                after.push(Arc::clone(backend));
            }
        }
        if !is_first || self.is_successor {
            for backend in after.iter().filter(|new| !before.iter().any(|old| Arc::ptr_eq(old, new))) {
                backend.begin_slowly(now_millis());
            }
        }
        self.group.store(Arc::new(Group::new(self.config(), after)));
        self.health_changed();
    }

    /// The backends whose addresses are in the file. What else is in the file is checked.
    pub(super) fn known_backends(&self) -> io::Result<Vec<Arc<Backend>>> {
        let mut backends = Vec::new();
        for entry in &self.config().backends {
            for resolved in self.known_addresses(entry)? {
                backends.push(self.new_backend(entry, resolved)?);
            }
        }
        Ok(backends)
    }

    /// The addresses of an entry that need no resolver.
    fn known_addresses(&self, entry: &BackendConfig) -> io::Result<Vec<Option<SocketAddr>>> {
        if names::is_name(&entry.addr) {
            // What is wrong with it whatever its address: no CA certificates, for one.
            Upstream::new(&entry.addr, None, self.config())?;
            return Ok(Vec::new());
        }
        names::addresses(&entry.addr, &|_: &str, _: u16| Err(io::ErrorKind::NotFound.into()))
    }

    /// The backends of a pool that comes after `before`: those of it that are still in the file, and what is new there.
    pub(super) fn backends_after(&self, before: &Self) -> io::Result<Vec<Arc<Backend>>> {
        let known = before.backends();
        let connects_alike = self.config().connects_like(before.config());
        let mut backends = Vec::new();
        for entry in &self.config().backends {
            let mut of_entry = known.iter().filter(|backend| backend.config().addr == entry.addr).peekable();
            if of_entry.peek().is_none() {
                for resolved in self.known_addresses(entry)? {
                    let backend = self.new_backend(entry, resolved)?;
                    backend.begin_slowly(now_millis());
                    backends.push(backend);
                }
            }
            for backend in of_entry {
                let upstream = if connects_alike {
                    None
                } else {
                    Some(Upstream::new(&entry.addr, backend.resolved(), self.config())?)
                };
                backends.push(Arc::new(backend.successor(entry.clone(), upstream)));
            }
        }
        Ok(backends)
    }

    fn new_backend(&self, entry: &BackendConfig, resolved: Option<SocketAddr>) -> io::Result<Arc<Backend>> {
        let upstream = Upstream::new(&entry.addr, resolved, self.config())?;
        Ok(Arc::new(Backend::new(entry.clone(), resolved, upstream, Arc::clone(&self.line))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::PickRequest;
    use crate::error::Cause;
    use crate::route::Route;
    use crate::upstream::names::Lookup;

    fn look_up(pool: &Pool, lookup: Lookup<'_>) {
        for entry in pool.names() {
            pool.take_in_addresses(entry, names::addresses(&entry.addr, lookup), true);
        }
    }

    #[test]
    fn a_name_is_followed_to_its_addresses() {
        let route = Route::for_tests(0, |config| {
            let addr = "app.test:80".parse().unwrap();
            config.backends = vec![BackendConfig::new(addr)];
        });
        let addresses = |list: &'static [&'static str]| {
            move |_: &str, _: u16| Ok(list.iter().map(|addr| addr.parse().unwrap()).collect())
        };
        let labels = || route.backends().iter().map(|backend| backend.label().to_owned()).collect::<Vec<_>>();
        assert_eq!(route.find_backend(&PickRequest::ANYONE, &[], None).err(), Some(Cause::NameNotResolved));
        look_up(route.pool(), &addresses(&["10.0.0.2:80", "10.0.0.1:80", "10.0.0.2:80"]));
        assert_eq!(labels(), ["app.test:80/10.0.0.1:80", "app.test:80/10.0.0.2:80"]);
        let kept = Arc::clone(&route.backends()[1]);
        kept.set_healthy(false);
        look_up(route.pool(), &addresses(&["10.0.0.2:80", "10.0.0.3:80"]));
        assert_eq!(labels(), ["app.test:80/10.0.0.2:80", "app.test:80/10.0.0.3:80"]);
        assert!(Arc::ptr_eq(&kept, &route.backends()[0]), "its health and counts go with it");
        let share = |number: usize| {
            let ramp = crate::balance::Ramp::new(std::time::Duration::from_secs(1000));
            route.backends()[number].share(ramp, now_millis())
        };
        let first = share(1);
        let found = Ok(["10.0.0.3:80", "10.0.0.4:80"].map(|addr| Some(addr.parse().unwrap())).into());
        let name = route.pool().names().next().unwrap();
        route.pool().take_in_addresses(name, found, false);
        assert_eq!((share(0), share(1) < first), (first, true), "the new one begins slowly");
        // A reload brings a name beside it.
        let mut config = route.config().clone();
        config.backends.push(BackendConfig::new("b.test:80".parse().unwrap()));
        let after = Arc::new(route.pool().successor(&config).unwrap());
        after.take_in_addresses(&config.backends[1], Ok(vec![Some("10.0.0.9:80".parse().unwrap())]), true);
        let ramp = crate::balance::Ramp::new(std::time::Duration::from_secs(1000));
        assert!(after.backends()[2].share(ramp, now_millis()) < first, "so does this one");
        look_up(route.pool(), &|_, _| Err(io::ErrorKind::TimedOut.into()));
        assert_eq!(labels().len(), 2, "a resolver that fails changes nothing");
    }

    #[test]
    fn an_address_needs_no_resolver_and_the_order_is_that_of_the_file() {
        let mut config = Route::for_tests(0, |_| ()).config().clone();
        config.backends = ["b.test:80", "10.0.0.9:80", "a.test:80"]
            .map(|addr| BackendConfig::new(addr.parse().unwrap()))
            .into();
        let route = Route::build(&config).unwrap();
        let labels = || route.backends().iter().map(|backend| backend.label().to_owned()).collect::<Vec<_>>();
        let name = |number: usize| route.pool().names().nth(number).unwrap();
        assert_eq!(labels(), ["10.0.0.9:80"]);
        route.pool().take_in_addresses(name(1), Ok(vec![Some("10.0.0.2:80".parse().unwrap())]), true);
        assert_eq!(labels(), ["10.0.0.9:80", "a.test:80/10.0.0.2:80"]);
        route.pool().take_in_addresses(name(0), Ok(vec![Some("10.0.0.1:80".parse().unwrap())]), true);
        assert_eq!(labels(), ["b.test:80/10.0.0.1:80", "10.0.0.9:80", "a.test:80/10.0.0.2:80"]);
    }
}
