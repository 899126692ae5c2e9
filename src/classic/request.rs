//! A request as ureq takes it.

use std::borrow::Cow;
use std::net::SocketAddr;

use http::request::Builder;
use http::uri::Scheme;
use http::{Method, Request, Uri};

use crate::config::Engine;
use crate::exchange::decision::{Outgoing, is_sent_by};
use crate::http::head::RequestHead;
use crate::rules::ForwardAuth;

/// What goes to the backend at `addr` but for its body, or with a `rule` what the service of that is asked. What is wrong with it,
/// the builder says at its end.
pub(super) fn request(
    outgoing: &Outgoing<'_>,
    head: &RequestHead,
    rule: Option<&ForwardAuth>,
    addr: SocketAddr,
) -> Builder {
    let target = match (rule, outgoing.target(head)) {
        (Some(rule), _) => rule.path.parse().ok(),
        (None, Cow::Borrowed(_)) => Some(head.target.path_and_query().clone()),
        (None, Cow::Owned(target)) => target.parse().ok(),
    };
    let mut uri = http::uri::Parts::default();
    (uri.scheme, uri.authority) = (Some(Scheme::HTTP), addr.to_string().parse().ok());
    uri.path_and_query = target;
    // Of these three parts a URI is complete; another would be refused.
    let uri = Uri::from_parts(uri).unwrap_or_default();
    let method = if rule.is_some() { Method::GET } else { head.method.clone() };
    let mut request = Request::builder().method(method).uri(uri);
    let mut put = |name: &[u8], value: &[u8]| {
        if is_sent_by(Engine::TinyHttp, name) {
            request = std::mem::take(&mut request).header(name, value);
        }
    };
    match rule {
        Some(_) => outgoing.put_question(head, &mut put),
        None => outgoing.put_fields(head, &mut put),
    }
    request
}
