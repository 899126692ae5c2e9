//! The files in examples/: they are valid, and do what they say they do.

use std::fs;

use crate::support::ProxyProcess;
use crate::support::process::{TempDir, program};

#[test]
fn two_sites() {
    let root = env!("CARGO_MANIFEST_DIR");
    let text = fs::read_to_string(format!("{root}/examples/two-sites.toml")).unwrap();
    // The certificates are on somebody's server: here are others.
    let mut there = text.clone();
    for (site, name) in [("shop", "shop"), ("blog", "other")] {
        let live = format!("/etc/letsencrypt/live/{site}.example");
        there = there
            .replace(&format!("{live}/fullchain.pem"), &format!("{root}/tests/certs/{name}.pem"))
            .replace(&format!("{live}/privkey.pem"), &format!("{root}/tests/certs/{name}.key"));
    }
    assert_ne!(there, text);
    let directory = TempDir::new();
    let file = directory.file("two-sites.toml", &there);
    let exit = ProxyProcess::spawn(program().arg("--check").arg("--config").arg(&file)).wait();
    assert!(exit.status.success(), "{exit:?}");
    // The expectations in it are looked at.
    let broken = there.replace("strip_prefix = true\n", "");
    let file = directory.file("broken.toml", &broken);
    let exit = ProxyProcess::spawn(program().arg("--check").arg("--config").arg(&file)).wait();
    assert_eq!(exit.status.code(), Some(1), "{exit:?}");
    assert!(exit.output.contains("expect[1].backend_target: \"/a.css\" is expected"), "{exit:?}");
}
