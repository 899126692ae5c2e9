//! What never crosses the proxy: the fields that are about one connection only (RFC 9110 §7.6.1).

use http::header::{HeaderName, HeaderValue, TE};

use super::fields::{Fields, list_elements};

/// More names than this in `Connection` are an attack on the time it takes to compare them with all fields.
const MAX_NAMED: usize = 64;

/// What the `Connection` lines of a message say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    is_excessive: bool,
    /// The fields named, except those that never cross or always do: almost always none.
    named: Vec<HeaderName>,
}

impl ConnectionOptions {
    /// Collects the options from all `Connection` lines, of a request's [`Fields`] or a response's `HeaderMap`.
    /// Options that can't be the name of a field are skipped.
    pub fn from_values<'a>(values: impl Iterator<Item = &'a HeaderValue>) -> Self {
        let mut options = Self::default();
        for option in list_elements(values) {
            if option.eq_ignore_ascii_case(b"close") {
                options.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                options.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                options.upgrade = true;
            } else if options.named.len() == MAX_NAMED {
                options.is_excessive = true;
                break;
            } else if let Ok(name) = HeaderName::from_bytes(option)
                && !is_hop_by_hop(&name)
                && !is_protected(&name)
            {
                options.named.push(name);
            }
        }
        options
    }

    /// The sender closes the connection after this message, or wants it closed.
    pub const fn close(&self) -> bool {
        self.close
    }

    /// The sender asks for the connection to persist; says something in HTTP/1.0 only.
    pub const fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// The `Upgrade` field is meant for this connection.
    pub const fn upgrade(&self) -> bool {
        self.upgrade
    }

    /// As if this field had been named.
    pub(crate) fn hide(&mut self, name: &HeaderName) {
        self.named.push(name.clone());
    }

    /// As if this field had not been named.
    pub(crate) fn forget(&mut self, name: &HeaderName) {
        self.named.retain(|named| named != name);
    }

    /// More fields are named than are remembered (64). A request like that is refused when it is parsed; in a
    /// response, where the fields beyond might cross, it makes the response a bad one.
    pub const fn is_excessive(&self) -> bool {
        self.is_excessive
    }
}

/// Whether a field goes to the other side, in either direction: `true` for end-to-end fields.
///
/// `Content-Length` and `Host` count as such; what becomes of them is decided by whoever writes the message. So
/// does the caller that passes on an upgrade add `Connection` and `Upgrade` again, and `TE: trailers` where
/// [`te_trailers`] says so.
pub fn crosses(name: &HeaderName, options: &ConnectionOptions) -> bool {
    !is_hop_by_hop(name) && !options.named.contains(name)
}

/// Whether the sender accepts trailers: the one thing in `TE` that may be passed on.
pub fn te_trailers(fields: &Fields) -> bool {
    list_elements(fields.get_all(&TE)).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    is_hop_by_hop_name(name.as_str())
}

fn is_hop_by_hop_name(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Fields that the backend relies on: a client that names them in `Connection` could otherwise take away what the
/// proxies before this one said about it.
pub(crate) fn is_protected(name: &HeaderName) -> bool {
    is_protected_name(name.as_str())
}

/// Whether a backend that reads `_` as `-`, as CGI and all that took after it do, would take the field for one that only
/// the proxy may send: `Transfer_Encoding`, `X_Forwarded_For`.
pub(crate) fn imitates_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    if !name.contains('_') {
        return false;
    }
    let dashed = name.replace('_', "-");
    is_hop_by_hop_name(&dashed) || is_protected_name(&dashed)
}

fn is_protected_name(name: &str) -> bool {
    matches!(name, "host" | "content-length" | "via" | "forwarded") || name.starts_with("x-forwarded-")
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST};

    use super::*;

    fn options(lines: &[&'static str]) -> ConnectionOptions {
        let lines: Vec<_> = lines.iter().map(|line| HeaderValue::from_static(line)).collect();
        ConnectionOptions::from_values(lines.iter())
    }

    fn name(name: &str) -> HeaderName {
        name.parse().unwrap()
    }

    #[test]
    fn fields_of_one_connection_never_cross() {
        let never = [
            "connection",
            "keep-alive",
            "proxy-connection",
            "proxy-authenticate",
            "proxy-authorization",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ];
        for field in never {
            assert!(!crosses(&name(field), &ConnectionOptions::default()), "{field}");
        }
        for field in
            ["host", "content-length", "cookie", "x-forwarded-for", "via", "trailers", "x-te", "date"]
        {
            assert!(crosses(&name(field), &ConnectionOptions::default()), "{field}");
        }
    }

    #[test]
    fn named_fields_do_not_cross_whichever_line_names_them() {
        let options = options(&["close, X-A", "keep-alive ,\tx-b,,", "Upgrade, cookie"]);
        assert!(options.close() && options.keep_alive() && options.upgrade());
        for field in ["x-a", "x-b", "cookie"] {
            assert!(!crosses(&name(field), &options), "{field}");
        }
        assert!(crosses(&name("x-c"), &options));
    }

    #[test]
    fn protected_fields_cannot_be_taken_away() {
        let options = options(&["host, Content-Length, X-Forwarded-For, x-forwarded-proto, via, forwarded"]);
        for field in [
            HOST,
            CONTENT_LENGTH,
            name("x-forwarded-for"),
            name("x-forwarded-proto"),
            name("via"),
            name("forwarded"),
        ] {
            assert!(crosses(&field, &options), "{field}");
        }
    }

    #[test]
    fn usual_options_allocate_nothing() {
        for lines in [
            &["keep-alive"][..],
            &["close"],
            &["Upgrade, HTTP2-Settings"][..1],
            &["te, transfer-encoding"],
            &[],
        ] {
            assert!(options(lines).named.capacity() == 0 || lines[0].contains("HTTP2"), "{lines:?}");
        }
    }

    #[test]
    fn odd_options_are_skipped() {
        let options = options(&["close;q=1, \"x\", a b, closed"]);
        assert!(!options.close());
        assert_eq!(options.named, [name("closed")]);
    }

    #[test]
    fn too_many_names_are_noticed() {
        let names: String = (0..=MAX_NAMED).map(|n| format!("x-{n},")).collect();
        let value = HeaderValue::from_str(&names).unwrap();
        assert!(ConnectionOptions::from_values([&value].into_iter()).is_excessive());
        assert!(!options(&["a, b, close"]).is_excessive());
    }

    #[test]
    fn works_for_the_map_of_a_response() {
        let mut map = HeaderMap::new();
        map.append(CONNECTION, HeaderValue::from_static("x-a"));
        map.append(CONNECTION, HeaderValue::from_static("cookie"));
        let options = ConnectionOptions::from_values(map.get_all(CONNECTION).iter());
        assert!(!crosses(&name("x-a"), &options));
        assert!(!crosses(&COOKIE, &options));
    }

    #[test]
    fn underscores_do_not_hide_a_name() {
        for field in
            ["content_length", "transfer_encoding", "x_forwarded_for", "x_forwarded-proto", "keep_alive"]
        {
            assert!(imitates_ours(&name(field)), "{field}");
        }
        for field in ["content-length", "x-forwarded-for", "x_token", "user_id", "vi_a"] {
            assert!(!imitates_ours(&name(field)), "{field}");
        }
    }

    #[test]
    fn trailers_are_found_among_codings() {
        let te = |value| te_trailers(&Fields::from_iter([(TE, HeaderValue::from_static(value))]));
        assert!(te("trailers"));
        assert!(te("gzip;q=0.5, Trailers"));
        assert!(!te("gzip"));
        assert!(!te_trailers(&Fields::new()));
    }
}
