//! The tables of the rules of a route.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::super::forms::{Seconds, SwitchOrTable};
use super::TableKeys;

pub(in crate::config) static REDIRECT: TableKeys = TableKeys {
    name: "redirect",
    expected: "a table, for example { to = \"https://{host}{target}\" }",
    keys: &["to", "status"],
    tables: &[],
    aliases: &[("url", "to"), ("location", "to"), ("target", "to"), ("code", "status")],
    absent: &[(
        "permanent",
        "whether it is for good is said by status: 308 (or 301) is, 307 (or 302) is not",
    )],
};

/// `redirect` of a route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawRedirect {
    /// A URL or a path, with placeholders. Required.
    pub(in crate::config) to: Option<Spanned<String>>,
    /// 301, 302, 303, 307 or 308. Default: 308.
    pub(in crate::config) status: Option<Spanned<i128>>,
}

pub(in crate::config) static RATE_LIMIT: TableKeys = TableKeys {
    name: "rate_limit",
    expected: "a table, for example { requests_per_sec = 10, burst = 20, per = \"client\" }",
    keys: &["requests_per_sec", "burst", "per", "dry_run"],
    tables: &[],
    aliases: &[
        ("rate", "requests_per_sec"),
        ("average", "requests_per_sec"),
        ("key", "per"),
        ("by", "per"),
        ("limit_req_dry_run", "dry_run"),
    ],
    absent: &[],
};

/// `rate_limit` of a route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawRateLimit {
    /// In the long run. Required.
    pub(in crate::config) requests_per_sec: Option<Spanned<i128>>,
    /// At once, after a pause. Default: as many as in a second.
    pub(in crate::config) burst: Option<Spanned<i128>>,
    /// `client`, `header:NAME` or `route`: whose requests are counted together. Default: client.
    pub(in crate::config) per: Option<Spanned<String>>,
    /// What would be refused is counted, and taken all the same. Default: false.
    pub(in crate::config) dry_run: Option<Spanned<bool>>,
}

pub(in crate::config) static BASIC_AUTH: TableKeys = TableKeys {
    name: "basic_auth",
    expected: "a table, for example { users_file = \"/etc/reverse-proxy/users\", realm = \"Staff\" }",
    keys: &["users_file", "realm", "forward_authorization"],
    tables: &[],
    aliases: &[
        ("file", "users_file"),
        ("path", "users_file"),
        ("htpasswd", "users_file"),
        ("user_file", "users_file"),
        ("auth_basic_user_file", "users_file"),
        ("usersFile", "users_file"),
        ("name", "realm"),
        ("pass_authorization", "forward_authorization"),
    ],
    absent: &[(
        "users",
        "names and the hashes of passwords are in a file of their own, users_file, which fewer people can read",
    )],
};

/// `basic_auth` of a route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawBasicAuth {
    /// A file of 1 MiB and 10,000 users at most, as `htpasswd -B` writes it; read when the configuration is. Required.
    pub(in crate::config) users_file: Option<Spanned<String>>,
    /// What browsers call what is asked for. Default: `Restricted`.
    pub(in crate::config) realm: Option<Spanned<String>>,
    /// Backends get `Authorization` as well. Default: false.
    pub(in crate::config) forward_authorization: Option<Spanned<bool>>,
}

pub(in crate::config) static FORWARD_AUTH: TableKeys = TableKeys {
    name: "forward_auth",
    expected: "a table, for example { addr = \"127.0.0.1:9091\", path = \"/verify\" }",
    keys: &["addr", "path", "copy_headers", "timeout_secs"],
    tables: &[],
    aliases: &[
        ("address", "addr"),
        ("backend_addr", "addr"),
        ("service", "addr"),
        ("uri", "path"),
        ("url", "path"),
        ("auth_response_headers", "copy_headers"),
        ("authResponseHeaders", "copy_headers"),
        ("headers", "copy_headers"),
        ("timeout", "timeout_secs"),
        ("response_timeout_secs", "timeout_secs"),
    ],
    absent: &[
        ("trust_forward_header", "who may say X-Forwarded-* is said by trusted_proxies under [server]"),
        ("trustForwardHeader", "who may say X-Forwarded-* is said by trusted_proxies under [server]"),
        ("auth_request_headers", "the service gets all fields of the request"),
        ("authRequestHeaders", "the service gets all fields of the request"),
    ],
};

/// `forward_auth` of a route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawForwardAuth {
    /// Where the service is, as in `backend_addrs`. Required.
    pub(in crate::config) addr: Option<Spanned<String>>,
    /// Path and query that it is asked for. Required.
    pub(in crate::config) path: Option<Spanned<String>>,
    /// Fields of its answer that backends get; those that clients send under these names are removed. Default: none.
    pub(in crate::config) copy_headers: Option<Spanned<Vec<Spanned<String>>>>,
    /// For its 2xx, or for the head of another answer, connecting included. Default: 5.
    pub(in crate::config) timeout_secs: Option<Spanned<Seconds>>,
}

pub(in crate::config) static RESPOND: TableKeys = TableKeys {
    name: "respond",
    expected: "a table, for example { status = 200, body = \"hello\" }",
    keys: &["status", "body", "file", "content_type", "headers"],
    tables: &[],
    aliases: &[
        ("code", "status"),
        ("content", "body"),
        ("text", "body"),
        ("path", "file"),
        ("mime_type", "content_type"),
        ("type", "content_type"),
        ("header", "headers"),
    ],
    absent: &[],
};

/// `respond` of a route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawRespond {
    /// Default: 200.
    pub(in crate::config) status: Option<Spanned<i128>>,
    /// The content. Absent, as `file` is: none.
    pub(in crate::config) body: Option<Spanned<String>>,
    /// A file with the content, of 1 MiB at most, read when the configuration is.
    pub(in crate::config) file: Option<Spanned<String>>,
    /// Default: `text/plain; charset=utf-8`.
    pub(in crate::config) content_type: Option<Spanned<String>>,
    /// Further header fields, with placeholders.
    pub(in crate::config) headers: Option<Spanned<BTreeMap<String, Spanned<String>>>>,
}

pub(in crate::config) static REQUEST_HEADERS: TableKeys = field_rules("request_headers");
pub(in crate::config) static RESPONSE_HEADERS: TableKeys = field_rules("response_headers");

const fn field_rules(name: &'static str) -> TableKeys {
    TableKeys {
        name,
        expected: "a table, for example { set = { X-A = \"b\" }, remove = [\"X-B\"] }",
        keys: &["set", "add", "remove"],
        tables: &[],
        aliases: &[("replace", "set"), ("append", "add"), ("delete", "remove"), ("unset", "remove")],
        absent: &[],
    }
}

/// `request_headers` or `response_headers` of a route.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawFieldRules {
    /// Fields and their values, in place of those that came; with placeholders.
    pub(in crate::config) set: Option<Spanned<BTreeMap<String, Spanned<String>>>>,
    /// The same, beside those that came.
    pub(in crate::config) add: Option<Spanned<BTreeMap<String, Spanned<String>>>>,
    /// Names of fields that are not passed on.
    pub(in crate::config) remove: Option<Spanned<Vec<Spanned<String>>>>,
}

pub(in crate::config) static COMPRESS: TableKeys = TableKeys {
    name: "compress",
    expected: "true, false or a table, for example { min_bytes = 1024, types = [\"text/*\"], level = 5 }",
    keys: &["min_bytes", "types", "level"],
    tables: &[],
    aliases: &[
        ("min_length", "min_bytes"),
        ("minimum_length", "min_bytes"),
        ("gzip_min_length", "min_bytes"),
        ("minResponseBodyBytes", "min_bytes"),
        ("type", "types"),
        ("gzip_types", "types"),
        ("mime_types", "types"),
        ("includedContentTypes", "types"),
        ("comp_level", "level"),
        ("gzip_comp_level", "level"),
    ],
    absent: &[("algorithm", GZIP_ALONE), ("encodings", GZIP_ALONE), ("br", GZIP_ALONE), ("zstd", GZIP_ALONE)],
};

const GZIP_ALONE: &str = "gzip is the one coding there is";

/// `compress` of a route.
pub(in crate::config) type RawCompress = SwitchOrTable<RawCompressTable>;

/// The same, as a table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawCompressTable {
    /// Answers that are known to be shorter stay as they are. Default: 1024.
    pub(in crate::config) min_bytes: Option<Spanned<i128>>,
    /// `text/html`, `text/*`, `+json` or `*/*`. Default: those that become smaller.
    pub(in crate::config) types: Option<Spanned<Vec<Spanned<String>>>>,
    /// 1, the fastest, to 9. Default: 5.
    pub(in crate::config) level: Option<Spanned<i128>>,
}
