//! [`PickRequest`]: what an algorithm may know of the request it picks for.

use std::net::IpAddr;

use crate::http::fields::Fields;

/// Who asks, and with what fields. Made once per exchange.
#[derive(Clone, Copy, Debug)]
pub struct PickRequest<'a> {
    /// The address the client's connection comes from.
    pub client: IpAddr,
    /// All fields as received.
    pub fields: &'a Fields,
    /// The turn that it has taken, where several pools take turns; absent: it takes one where it needs one.
    pub turn: Option<usize>,
}

#[cfg(test)]
impl PickRequest<'static> {
    /// A request without any field.
    pub(crate) const ANYONE: Self = {
        static NO_FIELDS: Fields = Fields::new();
        Self { client: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), fields: &NO_FIELDS, turn: None }
    };
}
