//! `max_connections_per_client`: how many connections each client has, and no more than it may.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::IpNetwork;
use crate::rules::counted_as;

/// The connections of each client that has some: no more entries than there are connections, so `max_connections` bounds it.
#[derive(Debug, Default)]
pub(crate) struct PerClient {
    /// Held for a few instructions.
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection that is counted. Given back when dropped.
#[derive(Debug)]
pub(crate) struct ClientPlace {
    all: Arc<PerClient>,
    client: IpAddr,
}

/// As many connections of one client are open as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl PerClient {
    /// Counts one more connection of the client at this address. `None`: those are not counted, being many clients in one: Unix
    /// sockets have no address, and behind `trusted` proxies are others.
    pub(crate) fn take(
        self: &Arc<Self>,
        address: IpAddr,
        max: usize,
        trusted: &[IpNetwork],
    ) -> Result<Option<ClientPlace>, TooMany> {
        let address = address.to_canonical();
        if address.is_unspecified() || trusted.iter().any(|network| network.contains(address)) {
            return Ok(None);
        }
        let client = counted_as(address);
        let mut open = self.lock();
        let count = open.get(&client).copied().unwrap_or(0);
        if count >= max {
            return Err(TooMany);
        }
        open.insert(client, count + 1);
        drop(open);
        Ok(Some(ClientPlace { all: Arc::clone(self), client }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        let mut open = self.all.lock();
        if let Some(count) = open.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_so_many() {
        let (all, trusted) = (Arc::new(PerClient::default()), ["192.0.2.9/32".parse().unwrap()]);
        let take = |text: &str| all.take(text.parse().unwrap(), 2, &trusted);
        let one = take("192.0.2.1").unwrap();
        let other = take("::ffff:192.0.2.1").unwrap();
        assert!(one.is_some() && other.is_some());
        assert_eq!(take("192.0.2.1").unwrap_err(), TooMany);
        let of_network: Vec<_> = ["2001:db8::1", "2001:db8::2"].map(|text| take(text).unwrap()).into();
        assert_eq!(take("2001:db8::3").unwrap_err(), TooMany);
        assert!(take("2001:db8:0:1::3").is_ok() && take("192.0.2.2").is_ok());
        assert_eq!(all.lock().len(), 2, "who has left is forgotten");
        drop(one);
        let again = take("192.0.2.1").unwrap();
        assert_eq!(take("192.0.2.1").unwrap_err(), TooMany);
        for text in ["0.0.0.0", "192.0.2.9", "::ffff:192.0.2.9"] {
            assert!((0..5).all(|_| take(text).unwrap().is_none()), "{text}");
        }
        drop((other, again, of_network));
        assert!(all.lock().is_empty());
        // A reload may lower it: who is there stays.
        let many: Vec<_> = (0..2).map(|_| take("192.0.2.1").unwrap()).collect();
        assert_eq!(all.take("192.0.2.1".parse().unwrap(), 1, &[]).unwrap_err(), TooMany);
        drop(many);
        assert!(all.take("192.0.2.1".parse().unwrap(), 1, &[]).is_ok());
    }
}
