//! `[[expect]]`: what the operator expects to become of a request. Here is what is written;
//! [`explain::check`](crate::explain::check) says whether it is so.

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::HeaderName;
use toml::Spanned;

use super::IpNetwork;
use super::raw::RawExpect;
use super::values::Resolver;

/// One `[[expect]]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The path of its key, such as `expect[0]`.
    pub key: String,
    /// Method and target, as on a request line.
    pub request: String,
    /// Further header fields.
    pub headers: Vec<(String, String)>,
    /// Where the connection comes from; absent: from this machine.
    pub from: Option<IpAddr>,
    /// The label of the route that it is to find, in [`RouteConfig::label`](super::RouteConfig::label).
    pub route: Option<String>,
    /// What is to become of it.
    pub expected: Expected,
}

/// What is to become of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The route takes it: passes it on, or answers it itself.
    Taken,
    /// The proxy itself answers with this status.
    Status(u16),
    /// A backend gets it.
    PassedOn {
        /// The target that the backend gets.
        backend_target: Option<String>,
        /// Fields that the backend gets, and their values; several lines of a field as one list.
        request_header: Vec<(HeaderName, String)>,
    },
}

/// Where a connection comes from: an address, or `unix:` for a Unix-domain socket.
#[must_use]
pub fn client_from(text: &str) -> Option<IpAddr> {
    if text == "unix:" {
        return Some(IpNetwork::UNIX_CLIENTS.addr);
    }
    text.parse().ok().map(|address: IpAddr| address.to_canonical())
}

impl Resolver<'_> {
    pub(super) fn expectations(&mut self, raw: Vec<Spanned<RawExpect>>) -> Vec<Expectation> {
        raw.into_iter()
            .enumerate()
            .filter_map(|(n, raw)| self.expectation(format!("expect[{n}]"), raw))
            .collect()
    }

    fn expectation(&mut self, key: String, raw: Spanned<RawExpect>) -> Option<Expectation> {
        let span = raw.span();
        self.note(&key, &span);
        let raw = raw.into_inner();
        let name = |name: &str| format!("{key}.{name}");
        if raw.request.is_none() {
            let expected = "a request, for example request = \"GET http://shop.example/cart\"";
            self.missing(Some(&span), &name("request"), expected);
        }
        let from = raw.from.and_then(|text| {
            let from = client_from(text.get_ref());
            if from.is_none() {
                let problem =
                    "is no address of a client; expected one, for example \"192.0.2.7\", or \"unix:\"";
                self.refuse_text(&text, &name("from"), problem);
            }
            from
        });
        let mut text = |of: &str, text: Option<Spanned<String>>| {
            text.map(|text| {
                self.note(&name(of), &text.span());
                text.into_inner()
            })
        };
        let request = text("request", raw.request);
        let (route, backend_target) = (text("route", raw.route), text("backend_target", raw.backend_target));
        let headers = self.fields(&name("headers"), raw.headers);
        let mut request_header = Vec::new();
        for (field, value) in self.fields(&name("request_header"), raw.request_header) {
            if let Ok(field) = HeaderName::try_from(&field) {
                request_header.push((field, value));
            }
        }
        let is_passed_on = backend_target.is_some() || !request_header.is_empty();
        let expected = match raw.status {
            Some(status) if is_passed_on => {
                let problem = "is that of an answer the proxy itself makes: no backend has the request then; leave out \
                               this, or backend_target and request_header";
                self.refuse(&status.span(), &name("status"), problem.to_owned());
                return None;
            }
            Some(status) => {
                let mut expected = 200;
                self.whole(&name("status"), Some(status), 200..=599, &mut expected);
                Expected::Status(expected)
            }
            None if is_passed_on => Expected::PassedOn { backend_target, request_header },
            None if route.is_some() => Expected::Taken,
            None => {
                let expected = "what becomes of the request: route, backend_target, request_header or status";
                self.missing(Some(&span), &key, expected);
                return None;
            }
        };
        Some(Expectation { request: request?, headers, from, route, expected, key })
    }

    /// Names of fields and their values.
    fn fields(
        &mut self,
        key: &str,
        raw: Option<Spanned<BTreeMap<String, Spanned<String>>>>,
    ) -> Vec<(String, String)> {
        let Some(raw) = raw else { return Vec::new() };
        self.note(key, &raw.span());
        let mut fields = Vec::new();
        for (name, value) in raw.into_inner() {
            if HeaderName::try_from(&name).is_err() {
                self.refuse(&value.span(), key, format!("{name:?} is no name of a header field"));
            }
            fields.push((name, value.into_inner()));
        }
        fields
    }
}
