//! What lies in `dist/` for those who install the program: it fits the program, and systemd takes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::ProxyProcess;
use crate::support::process::{TempDir, program};

fn dist(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dist").join(path)
}

/// systemd's own tool, if this machine has one that can judge files.
fn systemd_analyze() -> Option<Command> {
    let version = Command::new("systemd-analyze").arg("--version").output().ok()?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let number: u32 = version.split_whitespace().nth(1)?.split('.').next()?.parse().ok()?;
    (number >= 250).then(|| Command::new("systemd-analyze"))
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().expect("run a program");
    let words =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{words}", output.status);
    words
}

#[test]
fn systemd_takes_the_units() {
    let Some(mut analyze) = systemd_analyze() else {
        println!("skipped: no systemd-analyze of version 250 or newer");
        return;
    };
    // With the program where it is here: it is not installed.
    let directory = TempDir::new();
    let service = fs::read_to_string(dist("systemd/reverse-proxy.service")).unwrap();
    let command = format!("ExecStart={}", env!("CARGO_BIN_EXE_reverse-proxy"));
    assert!(service.contains("\nExecStart=reverse-proxy\n"));
    let service =
        directory.file("reverse-proxy.service", &service.replace("ExecStart=reverse-proxy", &command));
    let socket = fs::read_to_string(dist("systemd/reverse-proxy.socket")).unwrap();
    let socket = directory.file("reverse-proxy.socket", &socket);
    let words = run(analyze.args(["verify", "--man=no"]).args([&service, &socket]));
    assert_eq!(words.trim(), "", "systemd has remarks");
}

#[test]
fn the_service_is_confined() {
    let Some(mut analyze) = systemd_analyze() else {
        println!("skipped: no systemd-analyze of version 250 or newer");
        return;
    };
    // In tenths: an exposure of 2.0 at most.
    let unit = dist("systemd/reverse-proxy.service");
    run(analyze.args(["security", "--offline=true", "--threshold=20", "--no-pager"]).arg(unit));
}

#[test]
fn the_configuration_for_kubernetes_is_valid() {
    let manifest = fs::read_to_string(dist("kubernetes/reverse-proxy.yaml")).unwrap();
    let (_, rest) = manifest.split_once("  reverse-proxy.toml: |\n").expect("a configuration");
    let (config, _) = rest.split_once("\n---\n").expect("an end of it");
    let config: Vec<&str> = config.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect();
    let directory = TempDir::new();
    let file = directory.file("reverse-proxy.toml", &config.join("\n"));
    let exit = ProxyProcess::spawn(program().args(["--check", "--strict", "--config"]).arg(file)).wait();
    assert_eq!(exit.status.code(), Some(0), "{exit:?}");
}
