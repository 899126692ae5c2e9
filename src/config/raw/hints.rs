//! What to do instead of a key that there is not: ends of sentences.

pub(super) const WHERE_TLS_IS: &str = "TLS towards clients is switched on by listen_addr = [{ addr = \"0.0.0.0:443\", tls = true }], with \
                            cert and key below the line [[certificates]]";
pub(super) const BACKENDS_ARE_IN_ROUTES: &str =
    "backends are named by backend_addrs, below the line [[routes]]";
pub(super) const PREFIXES_ARE_IN_ROUTES: &str =
    "the paths of a route are named by prefix, below the line [[routes]]";
pub(super) const LOGGING_IS_ELSEWHERE: &str = "what is logged is said by the environment variable RUST_LOG";
pub(super) const WHERE_TO_LISTEN: &str = "where to listen is said by listen_addr, above the first [table]";
pub(super) const WHOSE_HEADERS: &str = "those of requests are changed by request_headers, those of answers by response_headers, and match_headers says which a \
     request must have";
pub(super) const SLOW_START_IS_FOR_ALL: &str =
    "how slowly backends begin is the same for all of a list: slow_start_secs beside it";
pub(super) const NO_REWRITING: &str =
    "of paths, the prefix can be changed, by strip_prefix and replace_prefix; all else is passed on as it is";
