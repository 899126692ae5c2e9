//! Values that people may write in more than one way, each with a message that says which.
//!
//! By hand: serde's untagged enums lose the places of what is inside them, and their message ("data did not match any
//! variant") helps nobody.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use toml::Spanned;

/// A table for which its address may stand alone.
pub(super) trait Table: for<'de> Deserialize<'de> {
    /// What is written where something else was found.
    const EXPECTED: &'static str;
}

/// An address, or a table that says more about it.
#[derive(Debug)]
pub(super) enum AddrOrTable<T> {
    Addr(String),
    Table(T),
}

impl<'de, T: Table> Deserialize<'de> for AddrOrTable<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Table> Visitor<'de> for Either<T> {
            type Value = AddrOrTable<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_str<E: Error>(self, addr: &str) -> Result<Self::Value, E> {
                Ok(AddrOrTable::Addr(addr.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(AddrOrTable::Table)
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// `true` or `false`, or a table that says more.
#[derive(Debug)]
pub(super) enum SwitchOrTable<T> {
    Switch(bool),
    Table(T),
}

impl<'de, T: for<'t> Deserialize<'t>> Deserialize<'de> for SwitchOrTable<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: for<'t> Deserialize<'t>> Visitor<'de> for Either<T> {
            type Value = SwitchOrTable<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a table")
            }

            fn visit_bool<E: Error>(self, is_on: bool) -> Result<Self::Value, E> {
                Ok(SwitchOrTable::Switch(is_on))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(SwitchOrTable::Table)
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// The name of a `[[backends]]` table, or those of several and their shares. People write addresses there who know another
/// program.
#[derive(Debug)]
pub(super) enum PoolNames {
    One(String),
    /// In the order of the file.
    Shares(Vec<(String, Spanned<i128>)>),
}

impl<'de> Deserialize<'de> for PoolNames {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = PoolNames;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "the name of a [[backends]] table, or several with their shares, as in { stable = 95, canary = 5 }; \
                     addresses are named by backend_addrs",
                )
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<PoolNames, E> {
                Ok(PoolNames::One(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PoolNames, A::Error> {
                let mut shares: Vec<(String, Spanned<i128>)> = Vec::new();
                while let Some(share) = map.next_entry()? {
                    shares.push(share);
                }
                shares.sort_by_key(|(_, share)| share.span().start);
                Ok(PoolNames::Shares(shares))
            }
        }

        deserializer.deserialize_any(Names)
    }
}

/// What is asked of a header field: a value, or whether it is there at all.
#[derive(Debug)]
pub(super) enum ValueOrPresence {
    Value(String),
    Presence(bool),
}

impl<'de> Deserialize<'de> for ValueOrPresence {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = ValueOrPresence;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value in quotes, true (the field is there) or false (it is not)")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<ValueOrPresence, E> {
                Ok(ValueOrPresence::Value(value.to_owned()))
            }

            fn visit_bool<E: Error>(self, is_there: bool) -> Result<ValueOrPresence, E> {
                Ok(ValueOrPresence::Presence(is_there))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// A status, or a class of them: `500` or `"5xx"`. Whether there is such a one is for others to say.
#[derive(Debug)]
pub(super) struct StatusOrClass(pub(super) String);

impl<'de> Deserialize<'de> for StatusOrClass {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Status;

        impl Visitor<'_> for Status {
            type Value = StatusOrClass;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("statuses, for example [500, 502] or [\"5xx\"]")
            }

            fn visit_str<E: Error>(self, class: &str) -> Result<StatusOrClass, E> {
                Ok(StatusOrClass(class.to_owned()))
            }

            fn visit_i64<E: Error>(self, status: i64) -> Result<StatusOrClass, E> {
                Ok(StatusOrClass(status.to_string()))
            }

            fn visit_u64<E: Error>(self, status: u64) -> Result<StatusOrClass, E> {
                Ok(StatusOrClass(status.to_string()))
            }

            fn visit_i128<E: Error>(self, status: i128) -> Result<StatusOrClass, E> {
                Ok(StatusOrClass(status.to_string()))
            }
        }

        deserializer.deserialize_any(Status)
    }
}

/// Any number, whole or not, of whatever size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Seconds(pub(super) f64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        #[expect(clippy::cast_precision_loss, reason = "only numbers far out of range lose digits")]
        impl Visitor<'_> for Number {
            type Value = Seconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds, for example 5 or 0.5")
            }

            fn visit_f64<E: Error>(self, n: f64) -> Result<Seconds, E> {
                Ok(Seconds(n))
            }

            fn visit_i64<E: Error>(self, n: i64) -> Result<Seconds, E> {
                Ok(Seconds(n as f64))
            }

            fn visit_u64<E: Error>(self, n: u64) -> Result<Seconds, E> {
                Ok(Seconds(n as f64))
            }

            fn visit_i128<E: Error>(self, n: i128) -> Result<Seconds, E> {
                Ok(Seconds(n as f64))
            }
        }

        deserializer.deserialize_any(Number)
    }
}
