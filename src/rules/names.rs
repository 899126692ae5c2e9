//! Names of fields that no rule can set: those that are about one connection or about how a message ends, and those that the
//! proxy itself answers for. And of fields that no route can ask for.

use http::header::{self, HeaderName};

use crate::http::hop_by_hop::{ConnectionOptions, crosses, imitates_ours, is_protected};
use crate::http::request_id::REQUEST_ID;

const OF_THE_CONNECTION: &str =
    "is about one connection, or about how a message is sent; the proxy alone decides about it";

/// Why a rule cannot have this name, as the end of a sentence that begins with it.
pub(crate) fn why_not(name: &HeaderName) -> Option<&'static str> {
    if is_of_the_connection(name) {
        Some(OF_THE_CONNECTION)
    } else if is_protected(name) || [REQUEST_ID, header::DATE].contains(name) || name == "proxy-status" {
        Some("is a field that the proxy itself answers for")
    } else if imitates_ours(name) {
        Some("is taken for a field of the proxy by servers that read _ as -")
    } else {
        None
    }
}

/// Why no condition of a route can be about this field, as the end of a sentence that begins with its name.
pub(crate) fn why_no_condition(name: &HeaderName) -> Option<&'static str> {
    if *name == header::HOST {
        Some("is what hosts is about; expected the host there")
    } else if is_of_the_connection(name) {
        Some(OF_THE_CONNECTION)
    } else {
        None
    }
}

fn is_of_the_connection(name: &HeaderName) -> bool {
    !crosses(name, &ConnectionOptions::default())
        || [header::CONTENT_LENGTH, header::EXPECT, header::MAX_FORWARDS].contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_route_can_ask_for() {
        for name in ["connection", "te", "transfer-encoding", "content-length", "upgrade", "expect", "host"] {
            assert!(why_no_condition(&name.parse().unwrap()).is_some(), "{name}");
        }
        for name in ["x-beta", "cookie", "authorization", "accept", "x-forwarded-proto", "via"] {
            assert_eq!(why_no_condition(&name.parse().unwrap()), None, "{name}");
        }
    }

    #[test]
    fn what_belongs_to_the_proxy() {
        for name in [
            "connection",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "proxy-authorization",
            "content-length",
            "expect",
            "max-forwards",
            "host",
            "via",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-anything",
            "x-request-id",
            "x_forwarded_for",
            "transfer_encoding",
        ] {
            assert!(why_not(&name.parse().unwrap()).is_some(), "{name}");
        }
        for name in ["x-a", "authorization", "cookie", "set-cookie", "server", "x_a", "x-real-ip"] {
            assert_eq!(why_not(&name.parse().unwrap()), None, "{name}");
        }
    }
}
