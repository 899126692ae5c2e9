//! What a route does beside passing requests on: one rule a file, each a value that the configuration makes and that knows
//! nothing of sockets, so that both engines and [`explain`](crate::explain) ask the same one.
//!
//! The order on a request is fixed: who may come, then headers, then the backend. A rule that is not written is a `None` on the
//! route, and costs a request that one look.

mod access;

pub use access::Access;

/// The rules of a route.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// From where requests are taken; absent = from everywhere.
    pub access: Option<Access>,
}
