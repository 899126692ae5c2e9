//! [`StickyCookie`]: a client stays with the backend that its cookie names.

use std::sync::Arc;

use http::HeaderValue;

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
            .filter_map(|id| self.find(id))
            .find(|backend| eligible(backend))
            .map(BackendGuard::new)
            .or_else(|| self.otherwise.pick(request, eligible))
    }
}

/// The value of `Set-Cookie` for an answer of `backend` to a request with these `fields`; `None` when the route has no
/// sticky cookie, or the client's names this backend, or one that can still be used: it was only full this time.
pub(crate) fn set_cookie(
    route: &RouteConfig,
    fields: &Fields,
    backend: &Backend,
    can_be_used: &dyn Fn(u64) -> bool,
) -> Option<HeaderValue> {
    let StickyCookieConfig { name, max_age_secs } = route.sticky_cookie.as_ref()?;
    if named(fields, name).any(|id| id == backend.id() || can_be_used(id)) {
        return None;
    }
    let (id, path) = (backend.id(), route.key.prefix.as_str());
    let max_age = max_age_secs.map(|seconds| format!("; Max-Age={seconds}")).unwrap_or_default();
    let value = format!("{name}={id:016x}; Path={path}; HttpOnly; SameSite=Lax{max_age}");
    HeaderValue::try_from(value).ok()
}

/// The backends named by the cookies of this name.
fn named<'a>(fields: &'a Fields, name: &'a str) -> impl Iterator<Item = u64> + 'a {
    cookies_named(fields, name).filter_map(|value| {
        // What `set_cookie` writes, and nothing else that would be the same number.
        let ours = value.len() == 16 && value.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        u64::from_str_radix(str::from_utf8(value).ok().filter(|_| ours)?, 16).ok()
    })
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
        let set = |fields: &Fields, backend| set_cookie(route.config(), fields, backend, &|_| false);
        let expected = format!("stick={:016x}; Path=/api; HttpOnly; SameSite=Lax", one.id());
        assert_eq!(set(&Fields::new(), one).unwrap(), expected.as_str());
        assert_eq!(set(&naming(other), one).unwrap(), expected.as_str());
        assert_eq!(set(&cookie("stick=nobody"), one).unwrap(), expected.as_str());
        assert_eq!(set(&naming(one), one), None);
        let other_is_full = |id| id == other.id();
        assert_eq!(set_cookie(route.config(), &naming(other), one, &other_is_full), None);
        assert_ne!(set(&naming(one), other).unwrap(), expected.as_str());
        assert!(!expected.contains("127"), "{expected}");
    }

    #[test]
    fn it_lasts_as_long_as_the_configuration_says() {
        let route = Route::for_tests(1, |route| route.sticky_cookie = Some(config(Some(3600))));
        let value = set_cookie(route.config(), &Fields::new(), &route.backends()[0], &|_| false).unwrap();
        assert!(value.to_str().unwrap().ends_with("; SameSite=Lax; Max-Age=3600"), "{value:?}");
        let without = Route::for_tests(1, |_| ());
        assert_eq!(set_cookie(without.config(), &Fields::new(), &without.backends()[0], &|_| false), None);
    }

    /// If this fails, an upgrade of the proxy makes every client's cookie worthless.
    #[test]
    fn ids_are_stable_for_ever() {
        assert_eq!(format!("{:016x}", backends(1)[0].id()), "2679dee067dfc260");
    }
}
