//! Any bytes that may come where a PROXY header is expected.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The proxy's own, which are not part of its library.
#[allow(dead_code, reason = "the proxy writes headers, too")]
#[path = "../../src/net/proxy_protocol.rs"]
mod proxy_protocol;
#[path = "../../src/net/proxy_protocol_rules.rs"]
mod proxy_protocol_rules;

fuzz_target!(|input: &[u8]| proxy_protocol_rules::check(input));
