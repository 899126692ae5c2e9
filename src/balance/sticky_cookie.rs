//! [`StickyCookie`]: a client stays with the backend that its cookie names.

use std::sync::Arc;

use http::HeaderValue;

use super::hash::hash;
use super::{Backend, BackendGuard, LoadBalancer, PickRequest};
use crate::config::{RouteConfig, StickyCookieConfig};
use crate::http::cookie::cookies_named;
use crate::http::fields::Fields;

/// Picks the backend that the client's cookie names while that one is eligible. For clients without such a cookie, and
/// for those whose backend is not eligible, another algorithm picks, and `set_cookie` below tells the client whom it got.
#[derive(Debug)]
pub struct StickyCookie<'a> {
    name: &'a str,
    by_id: &'a [Arc<Backend>],
    otherwise: &'a dyn LoadBalancer,
}

/// These backends in the order of their ids: a look-up does not go through all of them.
#[must_use]
pub fn by_id(backends: &[Arc<Backend>]) -> Vec<Arc<Backend>> {
    let mut backends = backends.to_vec();
    backends.sort_by_key(|backend| backend.id());
    backends
}

impl<'a> StickyCookie<'a> {
    /// Puts the cookie before `otherwise`, which picks among the same backends. The cookie is the route's, and they are the
    /// pool's, which may be that of several routes.
    #[must_use]
    pub fn new(
        config: &'a StickyCookieConfig,
        by_id: &'a [Arc<Backend>],
        otherwise: &'a dyn LoadBalancer,
    ) -> Self {
        Self { name: &config.name, by_id, otherwise }
    }

    fn find(&self, id: u64) -> Option<&Arc<Backend>> {
        let place = self.by_id.binary_search_by_key(&id, |backend| backend.id()).ok()?;
        self.by_id.get(place)
    }
}

impl LoadBalancer for StickyCookie<'_> {
    fn pick(&self, request: &PickRequest<'_>, eligible: &dyn Fn(&Backend) -> bool) -> Option<BackendGuard> {
        // More than one when the client has cookies of this name for several paths: the one for this route comes first
        // (RFC 6265 §5.4), and those of other routes name none of these backends.
        named(request.fields, self.name)
            .filter_map(|named| self.find(named.backend))
            .find(|backend| eligible(backend))
            .map(BackendGuard::new)
            .or_else(|| self.otherwise.pick(request, eligible))
    }
}

/// What a cookie names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// The id of a pool, where the route has several.
    pub(crate) pool: Option<u64>,
    /// The id of a backend.
    pub(crate) backend: u64,
}

/// The id of a pool of this name. As that of a backend, it is the same after a restart and in other proxies.
pub(crate) fn pool_id(name: &str) -> u64 {
    hash(name.as_bytes())
}

/// The value of `Set-Cookie` for an answer of what is `picked` to a request with these `fields`; `None` when the route has no
/// sticky cookie, or the client's names this backend, or one that can still be used: it was only full this time. `scheme`: how
/// the client speaks. What it has got over `https` it never sends in the clear.
pub(crate) fn set_cookie(
    route: &RouteConfig,
    fields: &Fields,
    picked: Named,
    can_be_used: &dyn Fn(Named) -> bool,
    scheme: &str,
) -> Option<HeaderValue> {
    let StickyCookieConfig { name, max_age_secs } = route.sticky_cookie.as_ref()?;
    // Where there is one pool alone, it does not matter what a cookie says of others.
    let is_it = |named: Named| {
        named.backend == picked.backend && (picked.pool.is_none() || named.pool == picked.pool)
    };
    if named(fields, name).any(|named| is_it(named) || can_be_used(named)) {
        return None;
    }
    let pool = picked.pool.map(|id| format!("{id:016x}.")).unwrap_or_default();
    let (id, path) = (picked.backend, route.key.prefix.as_str());
    let max_age = max_age_secs.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
    let secure = if scheme == "https" { "; Secure" } else { "" };
    let value = format!("{name}={pool}{id:016x}; Path={path}; HttpOnly; SameSite=Lax{secure}{max_age}");
    HeaderValue::try_from(value).ok()
}

/// What the cookies of this name name: what `set_cookie` writes, and nothing else that would be the same number.
pub(crate) fn named<'a>(fields: &'a Fields, name: &'a str) -> impl Iterator<Item = Named> + 'a {
    cookies_named(fields, name).filter_map(|value| match value.split_at_checked(ID_LEN) {
        Some((backend, [])) => Some(Named { pool: None, backend: id(backend)? }),
        Some((pool, [b'.', backend @ ..])) => Some(Named { pool: Some(id(pool)?), backend: id(backend)? }),
        _ => None,
    })
}

/// Digits of an id.
const ID_LEN: usize = 16;

fn id(text: &[u8]) -> Option<u64> {
    let is_ours = text.len() == ID_LEN && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(str::from_utf8(text).ok().filter(|_| is_ours)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use http::header::COOKIE;

    use super::super::test_support::{backends, position, shares};
    use super::super::{LeastConnections, RoundRobin};
    use super::*;
    use crate::route::Route;

    fn config(max_age_secs: Option<u32>) -> StickyCookieConfig {
        StickyCookieConfig { name: "stick".into(), max_age_secs: max_age_secs.and_then(NonZeroU32::new) }
    }

    fn cookie(value: &str) -> Fields {
        [(COOKIE, HeaderValue::from_str(value).unwrap())].into_iter().collect()
    }

    fn naming(backend: &Backend) -> Fields {
        cookie(&format!("stick={:016x}", backend.id()))
    }

    fn pick(balancer: &dyn LoadBalancer, fields: &Fields) -> BackendGuard {
        balancer.pick(&PickRequest { fields, ..PickRequest::ANYONE }, &Backend::is_healthy).unwrap()
    }

    #[test]
    fn the_cookie_decides_while_its_backend_is_eligible() {
        let backends = backends(3);
        let (config, sorted, otherwise) =
            (config(None), by_id(&backends), LeastConnections::new(&backends, None));
        let balancer = StickyCookie::new(&config, &sorted, &otherwise);
        let _busy: Vec<_> = (0..9).map(|_| BackendGuard::new(&backends[1])).collect();
        let fields = naming(&backends[1]);
        for _ in 0..10 {
            assert_eq!(position(&backends, &pick(&balancer, &fields)), 1);
        }
        backends[1].set_healthy(false);
        assert_ne!(position(&backends, &pick(&balancer, &fields)), 1);
        backends[1].set_healthy(true);
        assert_eq!(position(&backends, &pick(&balancer, &fields)), 1);
        for backend in &backends {
            backend.set_healthy(false);
        }
        let request = PickRequest { fields: &fields, ..PickRequest::ANYONE };
        assert!(balancer.pick(&request, &Backend::is_healthy).is_none());
    }

    #[test]
    fn without_a_cookie_the_algorithm_decides() {
        let backends = backends(3);
        let (config, sorted, otherwise) = (config(None), by_id(&backends), RoundRobin::new(&backends));
        let balancer = StickyCookie::new(&config, &sorted, &otherwise);
        assert_eq!(shares(&balancer, &backends, 30), [10, 10, 10]);
        let id = format!("{:016x}", backends[0].id());
        for worthless in [
            format!("stick={}", &id[1..]),
            format!("stick=0{id}"),
            format!("stick={:016x}", backends[0].id() + 1),
            format!("Stick={id}"),
            "stick=127.0.0.1:0; stick; stick=".into(),
            format!("stick=+{}", &id[1..]),
            format!("stick=\"{id}\""),
        ] {
            let fields = cookie(&worthless);
            let picked: Vec<_> = (0..3).map(|_| position(&backends, &pick(&balancer, &fields))).collect();
            assert_eq!(picked, [0, 1, 2], "{worthless}");
        }
    }

    /// A cookie of `/` beside that of `/api`.
    #[test]
    fn of_several_cookies_the_first_that_helps_counts() {
        let (ours, others) = (backends(3), backends(9).split_off(8));
        let (config, sorted, otherwise) = (config(None), by_id(&ours), RoundRobin::new(&ours));
        let balancer = StickyCookie::new(&config, &sorted, &otherwise);
        let [first, second, other] =
            [&ours[2], &ours[1], &others[0]].map(|backend| format!("stick={:016x}", backend.id()));
        let fields = cookie(&format!("{other}; {first}; {second}"));
        assert_eq!(position(&ours, &pick(&balancer, &fields)), 2);
        ours[2].set_healthy(false);
        assert_eq!(position(&ours, &pick(&balancer, &fields)), 1);
    }

    #[test]
    fn the_cookie_is_set_when_it_is_missing_or_names_another() {
        let route = Route::for_tests(2, |route| route.sticky_cookie = Some(config(None)));
        let [one, other] = &route.backends()[..] else { panic!("two backends") };
        let of = |backend: &Backend| Named { pool: None, backend: backend.id() };
        let set = |fields: &Fields, backend: &Backend| {
            set_cookie(route.config(), fields, of(backend), &|_| false, "http")
        };
        let expected = format!("stick={:016x}; Path=/api; HttpOnly; SameSite=Lax", one.id());
        assert_eq!(set(&Fields::new(), one).unwrap(), expected.as_str());
        assert_eq!(set(&naming(other), one).unwrap(), expected.as_str());
        assert_eq!(set(&cookie("stick=nobody"), one).unwrap(), expected.as_str());
        assert_eq!(set(&naming(one), one), None);
        let other_is_full = |named| named == of(other);
        assert_eq!(set_cookie(route.config(), &naming(other), of(one), &other_is_full, "http"), None);
        assert_ne!(set(&naming(one), other).unwrap(), expected.as_str());
        assert!(!expected.contains("127"), "{expected}");
    }

    #[test]
    fn it_lasts_as_long_as_the_configuration_says() {
        let route = Route::for_tests(1, |route| route.sticky_cookie = Some(config(Some(3600))));
        let picked = Named { pool: None, backend: route.backends()[0].id() };
        let set =
            |route: &Route, scheme| set_cookie(route.config(), &Fields::new(), picked, &|_| false, scheme);
        let ends = |scheme, end: &str| {
            let value = set(&route, scheme).unwrap();
            assert!(value.to_str().unwrap().ends_with(end), "{value:?}");
        };
        ends("http", "; SameSite=Lax; Max-Age=3600");
        ends("https", "; SameSite=Lax; Secure; Max-Age=3600");
        let without = Route::for_tests(1, |_| ());
        assert_eq!(set(&without, "https"), None);
    }

    /// A route may get several pools, and lose them: cookies from before name backends all the same.
    #[test]
    fn a_cookie_may_name_the_pool_as_well() {
        let route = Route::for_tests(1, |route| route.sticky_cookie = Some(config(None)));
        let set =
            |value: &str, picked| set_cookie(route.config(), &cookie(value), picked, &|_| false, "http");
        let picked = Named { pool: Some(0xa), backend: 0xb };
        let value = "stick=000000000000000a.000000000000000b";
        assert!(set("a=b", picked).unwrap().to_str().unwrap().starts_with(&format!("{value}; Path=/api")));
        assert_eq!(named(&cookie(value), "stick").collect::<Vec<_>>(), [picked]);
        assert_eq!(set(value, picked), None);
        for other in [
            "stick=000000000000000b",
            "stick=000000000000000c.000000000000000b",
            "stick=000000000000000a.000000000000000c",
            "stick=000000000000000a,000000000000000b",
            "stick=000000000000000a.00000000000000b",
        ] {
            assert!(set(other, picked).is_some(), "{other}");
        }
        let alone = Named { pool: None, ..picked };
        assert_eq!(set(value, alone), None);
        assert_eq!(set("stick=000000000000000b", alone), None);
        assert!(set("stick=000000000000000a", alone).is_some());
        let backends = backends(2);
        let (config, sorted, otherwise) = (config(None), by_id(&backends), RoundRobin::new(&backends));
        let balancer = StickyCookie::new(&config, &sorted, &otherwise);
        let fields = cookie(&format!("stick=000000000000000a.{:016x}", backends[1].id()));
        assert_eq!([1; 3].map(|_| position(&backends, &pick(&balancer, &fields))), [1; 3]);
    }

    /// If this fails, an upgrade of the proxy makes every client's cookie worthless.
    #[test]
    fn ids_are_stable_for_ever() {
        assert_eq!(format!("{:016x}", backends(1)[0].id()), "2679dee067dfc260");
        assert_eq!(format!("{:016x}", pool_id("canary")), "cf0dc5125c080bea");
    }
}
