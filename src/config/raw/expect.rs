//! `[[expect]]`.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::TableKeys;

pub(in crate::config) static EXPECT: TableKeys = TableKeys {
    name: "[[expect]]",
    expected: "tables that each begin with the line [[expect]], in double brackets",
    keys: &["request", "headers", "from", "route", "status", "backend_target", "request_header"],
    tables: &[],
    aliases: &[
        ("url", "request"),
        ("header", "headers"),
        ("client", "from"),
        ("target", "backend_target"),
        ("request_headers", "request_header"),
        ("backend_header", "request_header"),
    ],
    absent: &[
        (
            "backend",
            "which backend is chosen depends on the moment; expected is route, or what the backend gets",
        ),
        ("method", "the method is the first word of request: request = \"GET http://shop.example/cart\""),
        ("host", "the host is in request, request = \"GET http://shop.example/cart\", or in headers"),
    ],
};

/// One `[[expect]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawExpect {
    /// Method and target: `GET http://shop.example/cart`, or `GET /cart` with a `Host` in `headers`. Required.
    pub(in crate::config) request: Option<Spanned<String>>,
    /// Further header fields of the request.
    pub(in crate::config) headers: Option<Spanned<BTreeMap<String, Spanned<String>>>>,
    /// The address its connection comes from; `unix:` for a Unix-domain socket. Default: 127.0.0.1.
    pub(in crate::config) from: Option<Spanned<String>>,
    /// The name of the route that takes it, whether it passes it on or answers itself; of one without a name, its first host
    /// and its prefix. One that refuses it takes it only if `status` says so.
    pub(in crate::config) route: Option<Spanned<String>>,
    /// The status of the proxy's own answer, as far as the head of the request alone decides it; 404: no route.
    /// Not with `backend_target` or `request_header`.
    pub(in crate::config) status: Option<Spanned<i128>>,
    /// The target the backend gets.
    pub(in crate::config) backend_target: Option<Spanned<String>>,
    /// Header fields the backend gets.
    pub(in crate::config) request_header: Option<Spanned<BTreeMap<String, Spanned<String>>>>,
}
