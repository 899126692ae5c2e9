//! [`ConsistentHash`]: the same client, or the same key, to the same backend.

use std::net::IpAddr;
use std::sync::Arc;

use super::hash::{hash, mix};
use super::{Backend, BackendGuard, LoadBalancer, PickRequest};
use crate::config::HashOn;
use crate::http::cookie::cookies_named;
use crate::http::fields::trim_ows;

/// Points on the ring for each unit of weight. With 160 the shares of equal backends differ by some 8 %.
const POINTS: u64 = 160;
/// Points on a ring, about: where weights are large, a unit gets fewer. 1 MiB.
const MAX_POINTS: u64 = 65_536;

/// Picks by a hash of the client's address, of a field or of a cookie.
///
/// Each backend has many points on a ring, as many as its weight says, at places that follow from its address alone.
/// The hash of a request is a place too, and the next eligible backend from there on is picked. So the order of the
/// configuration does not matter, nor does a restart, and several proxies agree. When a backend is lost, its share goes
/// to those who come next, some here and some there, and nobody else's moves; when it is back, so is its share.
#[derive(Debug)]
pub struct ConsistentHash {
    on: HashOn,
    backends: Vec<Arc<Backend>>,
    /// A place on the ring, and which backend has it; in the order of the places.
    ring: Vec<(u64, usize)>,
}

impl ConsistentHash {
    /// Spreads `backends` over the ring.
    #[must_use]
    pub fn new(on: HashOn, backends: &[Arc<Backend>]) -> Self {
        let weight = |backend: &Backend| u64::from(backend.config().weight.get());
        let total: u64 = backends.iter().map(|backend| weight(backend)).sum();
        let mut ring = Vec::new();
        for (position, backend) in backends.iter().enumerate() {
            // The first so many of one sequence: when a neighbour that comes or goes changes the number of points, few
            // of them do.
            let most = weight(backend).saturating_mul(MAX_POINTS) / total;
            let points = weight(backend).saturating_mul(POINTS).min(most).max(1);
            ring.extend((1..=points).map(|n| (mix(backend.id() ^ mix(n)), position, backend.id())));
        }
        // Two points at one place are in an order that does not depend on the configuration's either.
        ring.sort_unstable_by_key(|&(place, _, id)| (place, id));
        let ring = ring.into_iter().map(|(place, position, _)| (place, position)).collect();
        Self { on, backends: backends.to_vec(), ring }
    }

    /// Where on the ring a request belongs. Without the field or the cookie, its client's address decides.
    fn place(&self, request: &PickRequest<'_>) -> u64 {
        let key = match &self.on {
            HashOn::ClientAddress => None,
            HashOn::Header(name) => request.fields.get(name).map(|value| trim_ows(value.as_bytes())),
            HashOn::Cookie(name) => cookies_named(request.fields, name).next(),
        };
        match (key.filter(|key| !key.is_empty()), request.client.to_canonical()) {
            (Some(key), _) => hash(key),
            (None, IpAddr::V4(addr)) => hash(&addr.octets()),
            (None, IpAddr::V6(addr)) => hash(&addr.octets()),
        }
    }
}

impl LoadBalancer for ConsistentHash {
    fn pick(&self, request: &PickRequest<'_>, eligible: &dyn Fn(&Backend) -> bool) -> Option<BackendGuard> {
        let place = self.place(request);
        let (before, after) = self.ring.split_at(self.ring.partition_point(|&(at, _)| at < place));
        let mut walk = after.iter().chain(before).filter_map(|&(_, position)| self.backends.get(position));
        let owner = walk.next()?;
        if eligible(owner) {
            return Some(BackendGuard::new(owner));
        }
        // Nobody walks around the whole ring to learn that there is none, and if all fall ill on the way, the one that
        // was well is the best there is.
        let other = self.backends.iter().find(|backend| eligible(backend))?;
        let next = walk.find(|backend| !Arc::ptr_eq(backend, owner) && eligible(backend));
        Some(BackendGuard::new(next.unwrap_or(other)))
    }
}

#[cfg(test)]
mod tests {
    use http::header::{COOKIE, HeaderName, HeaderValue};

    use super::super::test_support::{backends, position, weighted};
    use super::*;
    use crate::http::fields::Fields;

    const KEYS: u32 = 20_000;

    fn by_address(backends: &[Arc<Backend>]) -> ConsistentHash {
        ConsistentHash::new(HashOn::ClientAddress, backends)
    }

    /// Whom a client gets, by its address: the number of its backend's port.
    fn port_for(balancer: &ConsistentHash, client: u32) -> u16 {
        let request = PickRequest { client: IpAddr::V4(client.into()), ..PickRequest::ANYONE };
        port(&balancer.pick(&request, &Backend::is_healthy).unwrap())
    }

    fn port(picked: &BackendGuard) -> u16 {
        picked.config().addr.to_string().rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// The same for [`KEYS`] clients with consecutive addresses.
    fn ports(balancer: &ConsistentHash) -> Vec<u16> {
        (0..KEYS).map(|n| port_for(balancer, 0x0a00_0000 + n)).collect()
    }

    fn share(ports: &[u16], of: u16) -> f64 {
        let count = ports.iter().filter(|port| **port == of).count();
        f64::from(u32::try_from(count).unwrap()) / f64::from(KEYS)
    }

    #[test]
    fn shares_are_about_even() {
        for count in [2, 3, 10] {
            let ports = ports(&by_address(&backends(count)));
            for port in 0..count {
                let of_fair = share(&ports, port) * f64::from(count);
                assert!((0.75..1.25).contains(&of_fair), "{of_fair} of a fair share, {port} of {count}");
            }
        }
    }

    #[test]
    fn weights_count() {
        for weights in [[1, 2, 3], [10, 20, 30], [1_000, 2_000, 3_000]] {
            let balancer = by_address(&weighted(&weights));
            assert!(balancer.ring.len() as u64 <= MAX_POINTS);
            let ports = ports(&balancer);
            for (port, sixths) in [(0, 1.), (1, 2.), (2, 3.)] {
                let of_fair = share(&ports, port) * 6. / sixths;
                assert!((0.75..1.25).contains(&of_fair), "{of_fair} of a fair share, {port} of {weights:?}");
            }
        }
    }

    #[test]
    fn only_the_share_of_a_lost_one_moves() {
        let backends = backends(5);
        let balancer = by_address(&backends);
        let before = ports(&balancer);
        for lost in 0..5 {
            backends[usize::from(lost)].set_healthy(false);
            let after = ports(&balancer);
            let mut heirs = [0; 5];
            for (before, after) in before.iter().zip(&after) {
                if *before == lost {
                    heirs[usize::from(*after)] += 1;
                } else {
                    assert_eq!(before, after, "without {lost}");
                }
            }
            assert_eq!(heirs[usize::from(lost)], 0);
            assert_eq!(
                heirs.iter().filter(|share| **share > 0).count(),
                4,
                "all of the others inherit: {heirs:?}"
            );
            // A backend that is ill and one that is not there at all make no difference.
            let rest: Vec<_> = backends.iter().filter(|backend| backend.is_healthy()).cloned().collect();
            assert_eq!(ports(&by_address(&rest)), after, "without {lost}");
            backends[usize::from(lost)].set_healthy(true);
            assert_eq!(ports(&balancer), before, "{lost} is back");
        }
    }

    /// Where weights fill the ring, one backend more leaves the others fewer points.
    #[test]
    fn little_moves_on_a_full_ring() {
        let all = weighted(&[900, 800, 700, 1]);
        let full = by_address(&all);
        let without_last = by_address(&all[..3]);
        let moved = ports(&full).iter().zip(ports(&without_last)).filter(|(a, b)| *a != b).count();
        assert!(moved < 100, "{moved} of {KEYS} moved for a four-hundredth of a per cent");
    }

    #[test]
    fn the_order_of_the_configuration_does_not_matter() {
        let mut backends = weighted(&[1, 2, 3, 4]);
        let before = ports(&by_address(&backends));
        backends.reverse();
        assert_eq!(ports(&by_address(&backends)), before);
        backends.swap(0, 2);
        assert_eq!(ports(&by_address(&backends)), before);
    }

    /// If this fails, an upgrade of the proxy moves every client.
    #[test]
    fn is_stable_for_ever() {
        let balancer = by_address(&backends(10));
        let ports: Vec<_> = (0..16).map(|n| port_for(&balancer, 0xc000_0200 + n)).collect();
        assert_eq!(ports, [5, 4, 9, 3, 7, 1, 3, 2, 4, 8, 7, 4, 0, 4, 0, 7]);
    }

    fn with_field(on: HashOn, name: HeaderName, value: &str) -> Vec<u16> {
        let balancer = ConsistentHash::new(on, &backends(100));
        let fields = [(name, HeaderValue::from_str(value).unwrap())].into_iter().collect();
        let clients = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let pick =
            |client| balancer.pick(&PickRequest { client, fields: &fields, turn: None }, &|_| true).unwrap();
        clients.map(|client| port(&pick(client))).into()
    }

    #[test]
    fn the_key_is_what_the_configuration_says() {
        let user = HeaderName::from_static("x-user");
        let by_user = |value| with_field(HashOn::Header(user.clone()), user.clone(), value);
        let by_cookie = |value| with_field(HashOn::Cookie("id".into()), COOKIE, value);
        let by_address = with_field(HashOn::ClientAddress, user.clone(), "ann");
        assert_ne!(by_address[0], by_address[1]);
        let ann = by_user("ann");
        assert_eq!(ann[0], ann[1], "from both addresses");
        assert_ne!(by_user("bob"), ann);
        assert_eq!(by_cookie("a=1; id=ann"), ann);
        assert_eq!(by_cookie("id=ann; id=bob"), ann, "the first counts");
        for (what, ports) in [
            ("another field", with_field(HashOn::Header(user.clone()), COOKIE, "ann")),
            ("an empty field", by_user(" ")),
            ("another cookie", by_cookie("ID=ann")),
            ("an empty cookie", by_cookie("id=")),
            ("no cookie at all", with_field(HashOn::Cookie("id".into()), user.clone(), "ann")),
        ] {
            assert_eq!(ports, by_address, "{what}: the address decides");
        }
    }

    #[test]
    fn an_address_is_the_same_in_both_families() {
        let balancer = by_address(&backends(100));
        let pick = |client: &str| {
            let request = PickRequest { client: client.parse().unwrap(), fields: &Fields::new(), turn: None };
            port(&balancer.pick(&request, &|_| true).unwrap())
        };
        assert_eq!(pick("::ffff:192.0.2.1"), pick("192.0.2.1"));
        assert_ne!(pick("2001:db8::1"), pick("2001:db8::2"));
    }

    #[test]
    fn none_without_an_eligible_one() {
        assert!(by_address(&backends(3)).pick(&PickRequest::ANYONE, &|_| false).is_none());
        assert!(by_address(&[]).pick(&PickRequest::ANYONE, &|_| true).is_none());
    }

    /// Who says yes once is picked, even if all say no afterwards.
    #[test]
    fn survives_a_change_of_mind() {
        let backends = backends(3);
        for yes_at in 0..4 {
            let (asked, said_yes) = (std::cell::Cell::new(0), std::cell::Cell::new(usize::MAX));
            let picked = by_address(&backends).pick(&PickRequest::ANYONE, &|backend| {
                let yes = asked.replace(asked.get() + 1) == yes_at;
                if yes {
                    let at = backends.iter().position(|other| std::ptr::eq(&raw const **other, backend));
                    said_yes.set(at.unwrap());
                }
                yes
            });
            assert_eq!(position(&backends, &picked.unwrap()), said_yes.get());
        }
    }
}
