//! The rules of a route: what is written becomes what [`rules`](crate::rules) takes.

use toml::Spanned;

use super::IpNetwork;
use super::values::Resolver;
use crate::rules::Access;

impl Resolver<'_> {
    /// `allow` and `deny` of the route at `route`.
    pub(super) fn access(
        &mut self,
        route: &str,
        allow: Option<Spanned<Vec<Spanned<String>>>>,
        deny: Option<Spanned<Vec<Spanned<String>>>>,
    ) -> Option<Access> {
        if allow.is_none() && deny.is_none() {
            return None;
        }
        let allow = allow.map(|list| self.some_networks(&format!("{route}.allow"), list));
        let deny = deny.map(|list| self.some_networks(&format!("{route}.deny"), list)).unwrap_or_default();
        Some(Access { allow, deny })
    }

    /// A list that was written to have something in it: an empty `allow` would shut out everybody.
    fn some_networks(&mut self, key: &str, list: Spanned<Vec<Spanned<String>>>) -> Vec<IpNetwork> {
        self.note(key, &list.span());
        if list.get_ref().is_empty() {
            let problem = "the list is empty; expected at least one network, or no such key";
            self.refuse(&list.span(), key, problem.to_owned());
        }
        self.networks(key, list.into_inner())
    }

    /// Networks in CIDR notation, single addresses, and `unix:`.
    pub(super) fn networks(&mut self, key: &str, list: Vec<Spanned<String>>) -> Vec<IpNetwork> {
        let mut networks = Vec::new();
        for text in list {
            match text.get_ref().as_str() {
                "unix:" => networks.push(IpNetwork::UNIX_CLIENTS),
                network => match network.parse() {
                    Ok(network) => networks.push(network),
                    Err(error) => self.refuse_text(&text, key, error),
                },
            }
        }
        networks
    }
}
