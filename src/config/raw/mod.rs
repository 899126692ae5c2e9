//! The TOML as people write it. Values are checked in `resolve`; here they only have their types and their places in
//! the file.
//!
//! Every key is documented here, and for operators in `docs/configuration.md` and in `reverse-proxy.toml`. Defaults are those of
//! [`ServerConfig`](super::ServerConfig), [`RouteConfig`](super::RouteConfig) and
//! [`HealthCheckConfig`](super::HealthCheckConfig).

mod backends;
mod expect;
mod hints;
mod listen;
mod route;
mod rules;
mod server;
mod top;

pub(super) use backends::{
    BACKEND, HEALTH_CHECK, POOL, RawBackend, RawBackendTable, RawHealthCheck, RawPool, RawStickyCookie,
    RawTls, STICKY_COOKIE, TLS, is_of_pool,
};
pub(super) use expect::{EXPECT, RawExpect};
pub(super) use listen::{
    CERTIFICATE, FRONT_TLS, LISTEN, RawCertificate, RawFrontTls, RawListen, RawListenEntry, RawListenTable,
};
pub(super) use route::{ROUTE, RawRoute};
pub(super) use rules::{
    BASIC_AUTH, COMPRESS, FORWARD_AUTH, RATE_LIMIT, REDIRECT, REQUEST_HEADERS, RESPOND, RESPONSE_HEADERS,
    RawBasicAuth, RawCompress, RawCompressTable, RawFieldRules, RawForwardAuth, RawRateLimit, RawRedirect,
    RawRespond,
};
pub(super) use server::{ACCESS_LOG, ADMIN, RawAccessLog, RawAdmin, RawServer, SERVER};
pub(super) use top::{RawConfig, TOP};

/// The keys a table may have. Next to each struct below, because serde keeps the names to itself and the messages
/// about unknown keys need those of the other tables too ("it belongs to ...").
#[derive(Debug)]
pub(super) struct TableKeys {
    /// What messages call the table.
    pub(super) name: &'static str,
    /// What is written where something else was found.
    pub(super) expected: &'static str,
    /// All keys.
    pub(super) keys: &'static [&'static str],
    /// Those of the keys that hold tables.
    pub(super) tables: &'static [(&'static str, Nested)],
    /// What people write who know another program, and the key that it is here.
    pub(super) aliases: &'static [(&'static str, &'static str)],
    /// What people write for which there is no key, and what to do instead: the end of a sentence.
    pub(super) absent: &'static [(&'static str, &'static str)],
}

/// How a key holds tables.
#[derive(Debug)]
pub(super) enum Nested {
    /// One table.
    One(&'static TableKeys),
    /// An array of tables.
    Many(&'static TableKeys),
    /// An array of tables and other things.
    Among(&'static TableKeys),
    /// One table, an array of tables and other things, or something else.
    Perhaps(&'static TableKeys),
    /// One table, `true` or `false`.
    Switch(&'static TableKeys),
}

impl Nested {
    /// What each of the tables may have.
    pub(super) fn keys(&self) -> &'static TableKeys {
        match self {
            Self::One(keys)
            | Self::Many(keys)
            | Self::Among(keys)
            | Self::Perhaps(keys)
            | Self::Switch(keys) => keys,
        }
    }
}

/// Every table there is, the outer ones first.
pub(super) const TABLES: [&TableKeys; 22] = [
    &TOP,
    &SERVER,
    &LISTEN,
    &CERTIFICATE,
    &FRONT_TLS,
    &POOL,
    &ROUTE,
    &HEALTH_CHECK,
    &TLS,
    &BACKEND,
    &STICKY_COOKIE,
    &REDIRECT,
    &RATE_LIMIT,
    &FORWARD_AUTH,
    &BASIC_AUTH,
    &RESPOND,
    &REQUEST_HEADERS,
    &RESPONSE_HEADERS,
    &COMPRESS,
    &ACCESS_LOG,
    &ADMIN,
    &EXPECT,
];

#[cfg(test)]
mod tests {
    use std::fmt;

    use serde::Deserialize;

    use super::*;

    /// The keys serde knows, from its message about one it does not.
    fn keys_of<T: for<'de> Deserialize<'de> + fmt::Debug>() -> Vec<String> {
        let error = toml::from_str::<T>("no_such_key = 1").unwrap_err().message().to_owned();
        let (_, keys) = error.split_once("expected ").expect("a list of keys");
        keys.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn aliases_lead_to_keys_and_are_none() {
        for table in TABLES {
            for (alias, key) in table.aliases {
                assert!(table.keys.contains(key), "{alias} of {}", table.name);
            }
            let others = table.aliases.iter().chain(table.absent);
            assert!(others.clone().all(|(other, _)| !table.keys.contains(other)), "of {}", table.name);
        }
    }

    #[test]
    fn the_lists_of_keys_agree_with_the_structs() {
        assert_eq!(keys_of::<RawConfig>(), TOP.keys);
        assert_eq!(keys_of::<RawListenTable>(), LISTEN.keys);
        assert_eq!(keys_of::<RawCertificate>(), CERTIFICATE.keys);
        assert_eq!(keys_of::<RawFrontTls>(), FRONT_TLS.keys);
        assert_eq!(keys_of::<RawServer>(), SERVER.keys);
        assert_eq!(keys_of::<RawAccessLog>(), ACCESS_LOG.keys);
        assert_eq!(keys_of::<RawAdmin>(), ADMIN.keys);
        assert_eq!(keys_of::<RawPool>(), POOL.keys);
        assert_eq!(keys_of::<RawRoute>(), ROUTE.keys);
        assert_eq!(keys_of::<RawHealthCheck>(), HEALTH_CHECK.keys);
        assert_eq!(keys_of::<RawTls>(), TLS.keys);
        assert_eq!(keys_of::<RawBackendTable>(), BACKEND.keys);
        assert_eq!(keys_of::<RawStickyCookie>(), STICKY_COOKIE.keys);
        assert_eq!(keys_of::<RawRedirect>(), REDIRECT.keys);
        assert_eq!(keys_of::<RawRespond>(), RESPOND.keys);
        assert_eq!(keys_of::<RawFieldRules>(), REQUEST_HEADERS.keys);
        assert_eq!(keys_of::<RawFieldRules>(), RESPONSE_HEADERS.keys);
        assert_eq!(keys_of::<RawRateLimit>(), RATE_LIMIT.keys);
        assert_eq!(keys_of::<RawForwardAuth>(), FORWARD_AUTH.keys);
        assert_eq!(keys_of::<RawCompressTable>(), COMPRESS.keys);
        assert_eq!(keys_of::<RawBasicAuth>(), BASIC_AUTH.keys);
        assert_eq!(keys_of::<RawExpect>(), EXPECT.keys);
    }
}
