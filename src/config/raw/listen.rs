//! Where it listens, and with which certificates.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

use super::super::forms::{AddrOrTable, Seconds, Table};
use super::TableKeys;

pub(in crate::config) static LISTEN: TableKeys = TableKeys {
    name: "an entry of listen_addr",
    expected: "a string or a list of strings, for example \"127.0.0.1:3000\"",
    keys: &["addr", "tls", "https_redirect", "proxy_protocol"],
    tables: &[],
    aliases: &[
        ("address", "addr"),
        ("ssl", "tls"),
        ("https", "tls"),
        ("redirect", "https_redirect"),
        ("redirect_to_https", "https_redirect"),
        ("accept_proxy", "proxy_protocol"),
        ("proxy", "proxy_protocol"),
    ],
    absent: &[("cert", WHERE_CERTIFICATES_ARE), ("key", WHERE_CERTIFICATES_ARE)],
};

const WHERE_CERTIFICATES_ARE: &str =
    "certificates are named by cert and key, below the line [[certificates]]";

/// An entry of `listen_addr` as a table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawListenTable {
    /// As without a table. Required.
    pub(in crate::config) addr: Option<Spanned<String>>,
    /// Speak TLS. Default: false.
    pub(in crate::config) tls: Option<bool>,
    /// Answer 308, to the same target at `https://`. Default: false.
    pub(in crate::config) https_redirect: Option<bool>,
    /// Expect a PROXY header, of version 1 or 2, from `trusted_proxies` alone. Default: false.
    pub(in crate::config) proxy_protocol: Option<bool>,
}

pub(in crate::config) static CERTIFICATE: TableKeys = TableKeys {
    name: "[[certificates]]",
    expected: "tables that each begin with the line [[certificates]], in double brackets",
    keys: &["cert", "key"],
    tables: &[],
    aliases: &[
        ("certificate", "cert"),
        ("chain", "cert"),
        ("fullchain", "cert"),
        ("cert_file", "cert"),
        ("ssl_certificate", "cert"),
        ("key_file", "key"),
        ("private_key", "key"),
        ("ssl_certificate_key", "key"),
    ],
    absent: &[
        ("names", NAMES_ARE_IN_CERTIFICATES),
        ("hosts", NAMES_ARE_IN_CERTIFICATES),
        ("host", NAMES_ARE_IN_CERTIFICATES),
        ("server_name", NAMES_ARE_IN_CERTIFICATES),
    ],
};

const NAMES_ARE_IN_CERTIFICATES: &str = "for which names a certificate is says the certificate itself";

/// One `[[certificates]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawCertificate {
    /// A PEM file: the certificate, then those that vouch for it. Required.
    pub(in crate::config) cert: Option<Spanned<String>>,
    /// A PEM file with its private key. Required.
    pub(in crate::config) key: Option<Spanned<String>>,
}

pub(in crate::config) static FRONT_TLS: TableKeys = TableKeys {
    name: "[tls]",
    expected: "a table that begins with the line [tls]",
    keys: &[
        "min_version",
        "strict_sni",
        "handshake_timeout_secs",
        "max_handshakes",
        "client_ca",
        "client_auth",
        "client_cert_headers",
        "acme_challenge_dir",
    ],
    tables: &[],
    aliases: &[
        ("ssl_protocols", "min_version"),
        ("protocols", "min_version"),
        ("minimum_version", "min_version"),
        ("handshake_timeout", "handshake_timeout_secs"),
        ("ssl_client_certificate", "client_ca"),
        ("ssl_verify_client", "client_auth"),
        ("client_cert_header", "client_cert_headers"),
        ("ssl_client_s_dn", "client_cert_headers"),
        ("acme_dir", "acme_challenge_dir"),
        ("webroot", "acme_challenge_dir"),
    ],
    absent: &[
        ("cert", WHERE_CERTIFICATES_ARE),
        ("key", WHERE_CERTIFICATES_ARE),
        ("certificate", WHERE_CERTIFICATES_ARE),
        ("ca", CA_OF_WHOM),
        ("ciphers", NO_CIPHERS),
        ("cipher_suites", NO_CIPHERS),
    ],
};

const CA_OF_WHOM: &str =
    "whose certificates of clients are believed is said by client_ca; of backends, by tls of a route";
const NO_CIPHERS: &str = "all ciphers that are spoken here are good ones";

/// `[tls]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawFrontTls {
    /// `1.2` or `1.3`. Default: 1.2.
    pub(in crate::config) min_version: Option<Spanned<String>>,
    /// Refuse clients that name nobody, or somebody for whom there is no certificate. Default: false.
    pub(in crate::config) strict_sni: Option<Spanned<bool>>,
    /// From a connection being accepted to its handshake being through; then closed.
    pub(in crate::config) handshake_timeout_secs: Option<Spanned<Seconds>>,
    /// Handshakes under way at once; beyond it the oldest is given up.
    pub(in crate::config) max_handshakes: Option<Spanned<i128>>,
    /// A PEM file of the CA certificates that clients' certificates are to be signed with. Absent: clients show none.
    pub(in crate::config) client_ca: Option<Spanned<String>>,
    /// With `client_ca`: `require` or `request`. Default: require.
    pub(in crate::config) client_auth: Option<Spanned<String>>,
    /// Tell backends the subject and the fingerprint of the certificate that a client has shown, and remove what clients
    /// themselves say of it. Default: false.
    pub(in crate::config) client_cert_headers: Option<Spanned<bool>>,
    /// What is served under `/.well-known/acme-challenge/` on plain HTTP. Absent: nothing.
    pub(in crate::config) acme_challenge_dir: Option<Spanned<String>>,
}

/// An entry of `listen_addr`.
pub(in crate::config) type RawListenEntry = AddrOrTable<RawListenTable>;

impl Table for RawListenTable {
    const EXPECTED: &'static str = "\"ip:port\", \"unix:/path\" or { addr = \"ip:port\", tls = true }";
}

/// `listen_addr`: an entry or a list of them.
#[derive(Debug)]
pub(in crate::config) enum RawListen {
    One(RawListenEntry),
    Many(Vec<Spanned<RawListenEntry>>),
}

impl<'de> Deserialize<'de> for RawListen {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntryOrList;

        impl<'de> Visitor<'de> for EntryOrList {
            type Value = RawListen;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(LISTEN.expected)
            }

            fn visit_str<E: Error>(self, one: &str) -> Result<RawListen, E> {
                Ok(RawListen::One(RawListenEntry::Addr(one.to_owned())))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawListen, A::Error> {
                let table = RawListenTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(RawListen::One(RawListenEntry::Table(table)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawListen, A::Error> {
                let mut many = Vec::new();
                while let Some(one) = list.next_element()? {
                    many.push(one);
                }
                Ok(RawListen::Many(many))
            }
        }

        deserializer.deserialize_any(EntryOrList)
    }
}
