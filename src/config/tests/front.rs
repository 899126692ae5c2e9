//! Where clients come in: tables in `listen_addr`, and certificates.

#[cfg(feature = "tls")]
use super::super::*;
use super::accepted;
use super::refused;

const ROUTE: &str = "[[routes]]\nprefix = \"/\"\nbackend_addrs = [\"a:1\"]\n";
const TLS: &str = "listen_addr = { addr = \"127.0.0.1:0\", tls = true }";

#[cfg(feature = "tls")]
fn file(name: &str) -> String {
    format!("{}/tests/certs/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Line 3 has the certificate, line 4 its key; `more` begins on line 5.
#[cfg(feature = "tls")]
fn with_pair(cert: &str, key: &str, more: &str) -> String {
    format!("{TLS}\n[[certificates]]\ncert = {:?}\nkey = {:?}\n{more}\n{ROUTE}", file(cert), file(key))
}

/// Without those about keys that everybody can read: a checkout makes them so.
#[cfg(feature = "tls")]
fn warned(text: &str) -> Vec<String> {
    let warnings = accepted(text).warnings;
    let warnings = warnings.iter().map(|warning| warning.to_string().replace(&file(""), ""));
    warnings.filter(|warning| !warning.contains("by everybody")).collect()
}

#[test]
#[cfg(feature = "tls")]
fn tables_and_texts_in_one_list() {
    let listen = "listen_addr = [\"127.0.0.1:80\", { addr = \"127.0.0.1:81\", https_redirect = true }, \
                  { addr = \"127.0.0.1:443\", tls = true }]";
    let config = accepted(&with_pair("shop.pem", "shop.key", "").replacen(TLS, listen, 1));
    let seen: Vec<_> = config.listen_addrs.iter().map(|listen| (listen.tls, listen.https_redirect)).collect();
    assert_eq!(seen, [(false, false), (false, true), (true, false)]);
    let [certificate] = &config.front.certificates[..] else { panic!("one certificate") };
    assert_eq!(certificate.names, ["shop.test", "*.shop.test", "localhost"]);
    let seconds = |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    // 2020-01-01 and 2120-01-01.
    assert_eq!(seconds(certificate.valid_from), 1_577_836_800);
    assert_eq!(seconds(certificate.valid_until), 4_733_510_400);
}

#[test]
#[cfg(feature = "tls")]
fn pairs_that_are_none() {
    for (cert, key, line, message) in [
        ("shop.pem", "other.key", 4, "is not the key of the certificate in"),
        ("shop.pem", "shop.encrypted.key", 4, "has a key that takes a pass phrase"),
        ("shop.pem", "shop.pem", 4, "has no private key in it"),
        ("shop.pem", "none", 4, "cannot be read"),
        ("shop.key", "shop.key", 3, "has no certificates in it"),
        ("none", "shop.key", 3, "cannot be read"),
        ("", "shop.key", 3, "cannot be read"),
        ("chained.reversed.pem", "chained.key", 3, "has the certificate of the key behind others"),
        ("chained.gap.pem", "chained.key", 3, "number 1 is not vouched for by number 2"),
    ] {
        let [error] = &refused(&with_pair(cert, key, ""))[..] else { panic!("one error about {cert}") };
        let name = if line == 3 { "cert" } else { "key" };
        assert!(error.starts_with(&format!(":{line}: certificates[0].{name}: ")), "{error}");
        assert!(error.contains(message), "{error}");
    }
}

#[test]
#[cfg(feature = "tls")]
fn what_is_asked_for_and_not_there() {
    assert_eq!(
        refused(&format!("{TLS}\n{ROUTE}")),
        [
            ":1: certificates: missing; expected at least one [[certificates]] table with cert and key, because of tls = true"
        ]
    );
    let redirect = "listen_addr = { addr = \"127.0.0.1:80\", https_redirect = true }";
    assert_eq!(
        refused(&format!("{redirect}\n{ROUTE}")),
        [":1: listen_addr: https_redirect leads nowhere: expected an address with tls = true beside it"]
    );
    assert_eq!(
        refused(&format!("listen_addr = [{{ tls = false }}]\n{ROUTE}")),
        [":1: listen_addr[0].addr: missing; expected where to listen, for example addr = \"0.0.0.0:443\""]
    );
    assert_eq!(
        refused(&with_pair("shop.pem", "shop.key", "[[certificates]]\ncert = \"a\"")),
        [
            ":5: certificates[1].key: missing; expected a file with the private key of the certificate, in PEM format"
        ]
    );
    let circle = with_pair("shop.pem", "shop.key", "").replacen("0\", tls", "443\", tls", 1);
    let errors = refused(&circle.replace("\"a:1\"", "\"https://localhost\""));
    assert!(errors[0].contains("is where the proxy itself listens"), "{errors:?}");
    let both = TLS.replace("true", "true, https_redirect = true");
    let errors = refused(&with_pair("shop.pem", "shop.key", "").replacen(TLS, &both, 1));
    assert!(errors[0].contains("is for TLS and redirects to TLS"), "{errors:?}");
    let errors = refused(&format!("listen_addr = [{{ addr = \"127.0.0.1:0\", tls = \"yes\" }}]\n{ROUTE}"));
    assert_eq!(errors, [":1: listen_addr[0].tls: found \"yes\"; expected true or false"]);
    let errors =
        refused(&with_pair("shop.pem", "shop.key", "[tls]\nmin_version = \"1.1\"\nclient_auth = \"maybe\""));
    assert!(errors[0].contains("expected \"1.2\" or \"1.3\""), "{errors:?}");
    assert!(errors[1].contains("expected \"require\" or \"request\""), "{errors:?}");
}

#[test]
#[cfg(feature = "tls")]
fn what_is_good_for_little_is_warned_about() {
    assert_eq!(warned(&with_pair("shop.pem", "shop.key", "")), Vec::<String>::new());
    assert_eq!(
        warned(&with_pair("expired.pem", "expired.key", "")),
        [
            "f.toml:3: certificates[0].cert: \"expired.pem\" has expired on Fri, 01 Jan 2021 00:00:00 GMT; renew it",
            "f.toml:3: certificates[0].cert: \"expired.pem\" has no DNS names in it (subjectAltName): no client finds it by \
             its name"
        ]
    );
    let second = format!(
        "[[certificates]]\ncert = {:?}\nkey = {:?}",
        file("shop-renewed.pem"),
        file("shop-renewed.key")
    );
    assert_eq!(
        warned(&with_pair("shop.pem", "shop.key", &second)),
        [
            "f.toml:6: certificates[1].cert: \"shop-renewed.pem\" is never shown: those before it have all of its names, and \
          keys of the same kind; leave it out"
        ]
    );
    let plain = with_pair("shop.pem", "shop.key", "[tls]\nstrict_sni = true");
    let warnings = warned(&plain.replacen(TLS, "listen_addr = \"127.0.0.1:0\"", 1));
    let without = "has no use without an address in listen_addr with tls = true; leave it out";
    assert_eq!(
        warnings,
        [
            format!("f.toml:3: certificates[0].cert: {without}"),
            format!("f.toml:6: tls.strict_sni: {without}")
        ]
    );
    let auth = with_pair("shop.pem", "shop.key", "[tls]\nclient_auth = \"request\"");
    assert_eq!(warned(&auth), ["f.toml:6: tls.client_auth: has no use without client_ca; leave it out"]);
    let fields = with_pair("shop.pem", "shop.key", "[tls]\nclient_cert_headers = true");
    let problem = "only removes what clients send: without client_ca none is asked for a certificate";
    assert_eq!(warned(&fields), [format!("f.toml:6: tls.client_cert_headers: {problem}")]);
    let ca = format!("[tls]\nclient_ca = {:?}\nclient_cert_headers = true", file("ca.pem"));
    assert_eq!(warned(&with_pair("shop.pem", "shop.key", &ca)), Vec::<String>::new());
    let challenges = with_pair("shop.pem", "shop.key", "[tls]\nacme_challenge_dir = \"/nowhere/at/all\"");
    assert_eq!(
        warned(&challenges),
        ["f.toml:6: tls.acme_challenge_dir: \"/nowhere/at/all\" is no directory; create it"]
    );
}

#[test]
#[cfg(feature = "tls")]
fn a_key_that_everybody_can_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt;

    let dir = std::env::temp_dir().join(format!("reverse-proxy-keys-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let key = dir.join("key.pem");
    fs::copy(file("shop.key"), &key).unwrap();
    for (mode, is_open) in [(0o600, false), (0o640, false), (0o644, true), (0o602, true)] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let loaded = CertificateConfig::load(file("shop.pem").into(), key.clone()).unwrap();
        assert_eq!(loaded.key_is_open, is_open, "{mode:o}");
    }
    fs::remove_dir_all(dir).unwrap();
}

#[test]
#[cfg(feature = "tls")]
fn the_end_is_warned_about_two_weeks_before() {
    use std::time::Duration;

    let shop = CertificateConfig::load(file("shop.pem").into(), file("shop.key").into()).unwrap();
    let day = Duration::from_secs(24 * 3600);
    let about = |before: Duration| about_validity(&shop, shop.valid_until - before);
    assert_eq!(about(15 * day), None);
    assert_eq!(about(14 * day), None);
    let words = "expires on Mon, 01 Jan 2120 00:00:00 GMT, in 13 days; renew it";
    assert_eq!(about(14 * day - Duration::from_secs(1)).as_deref(), Some(words));
    let words = "has expired on Mon, 01 Jan 2120 00:00:00 GMT; renew it";
    assert_eq!(about_validity(&shop, shop.valid_until + day).as_deref(), Some(words));
    assert!(about_validity(&shop, shop.valid_from - day).unwrap().contains("not valid yet"));
}

#[test]
#[cfg(not(feature = "tls"))]
fn without_tls_none_is_spoken() {
    let errors = refused(&format!("{TLS}\n[[certificates]]\ncert = \"a\"\nkey = \"b\"\n{ROUTE}"));
    assert!(errors.iter().all(|error| error.contains("not part of this build")), "{errors:?}");
}

#[test]
#[cfg(feature = "classic")]
fn tls_is_for_the_native_engine() {
    let text = format!(
        "listen_addr = [{{ addr = \"127.0.0.1:0\", tls = true }}, {{ addr = \"127.0.0.1:0\", https_redirect = true }}]\n\
         [tls]\nacme_challenge_dir = \"/tmp\"\nclient_cert_headers = true\n[server]\nengine = \"tiny_http\"\n{ROUTE}"
    );
    let errors = refused(&text);
    assert_eq!(errors.len(), 4, "{errors:?}");
    assert!(errors.iter().all(|error| error.contains("takes engine = \"native\"")), "{errors:?}");
}

#[test]
fn proxy_headers_are_taken_from_somebody() {
    let listen = "listen_addr = { addr = \"127.0.0.1:0\", proxy_protocol = true }";
    let trusting = format!("{listen}\n[server]\ntrusted_proxies = [\"10.0.0.0/8\"]\n{ROUTE}");
    assert!(accepted(&trusting).listen_addrs[0].proxy_protocol);
    let errors = refused(&format!("{listen}\n{ROUTE}"));
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].starts_with(":1: listen_addr: \"127.0.0.1:0\" takes the PROXY protocol, which"),
        "{errors:?}"
    );
    assert!(errors[0].contains("trusted_proxies"), "{errors:?}");
}

#[test]
#[cfg(feature = "classic")]
fn the_proxy_protocol_takes_the_native_engine() {
    let listen = "listen_addr = { addr = \"127.0.0.1:0\", proxy_protocol = true }";
    let server = "[server]\nengine = \"tiny_http\"\ntrusted_proxies = [\"10.0.0.0/8\"]";
    let errors = refused(&format!("{listen}\n{server}\n{ROUTE}send_proxy = true\n"));
    assert_eq!(
        errors,
        [
            ":1: listen_addr: \"127.0.0.1:0\" takes the PROXY protocol, which takes engine = \"native\"; leave that out, or \
             change the engine",
            ":8: routes[0].send_proxy: takes engine = \"native\"; leave it out, or change the engine"
        ]
    );
}
