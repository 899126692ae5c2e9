//! Any header rules, and any request and answer that may come where they hold.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use reverse_proxy::header_checks::{Case, check};

#[derive(Debug, Arbitrary)]
struct Input<'a> {
    set: Vec<(Name<'a>, Value<'a>)>,
    add: Vec<(Name<'a>, Value<'a>)>,
    remove: Vec<Name<'a>>,
    client: IpAddr,
    subject: &'a str,
    request_line: RequestLine,
    /// What follows the request line.
    request: &'a [u8],
    /// The status, and what follows the status line.
    status: u16,
    answer: &'a [u8],
}

/// Those that matter are found sooner if they need not be guessed.
#[derive(Debug, Arbitrary)]
enum Name<'a> {
    Any(&'a str),
    Known(u8),
}

const NAMES: [&str; 16] = [
    "x-a",
    "x_a",
    "x-b",
    "server",
    "vary",
    "cookie",
    "set-cookie",
    "connection",
    "transfer-encoding",
    "transfer_encoding",
    "content-length",
    "host",
    "via",
    "te",
    "trailer",
    "upgrade",
];

impl<'a> Name<'a> {
    fn text(&self) -> &'a str {
        match *self {
            Self::Any(text) => text,
            Self::Known(n) => NAMES[usize::from(n) % NAMES.len()],
        }
    }
}

#[derive(Debug, Arbitrary)]
enum Value<'a> {
    Any(&'a str),
    Filled(&'a str, u8),
}

const PLACEHOLDERS: [&str; 7] =
    ["{tls_client_subject}", "{host}", "{client_ip}", "{scheme}", "{request_id}", "{route}", "{{}}"];

impl Value<'_> {
    fn text(&self) -> String {
        match *self {
            Self::Any(text) => text.to_owned(),
            Self::Filled(text, n) => format!("{text}{}", PLACEHOLDERS[usize::from(n) % PLACEHOLDERS.len()]),
        }
    }
}

#[derive(Debug, Arbitrary)]
enum RequestLine {
    Get,
    Post,
    Head,
    Nothing,
}

fuzz_target!(|input: Input<'_>| {
    let lines = |list: &[(Name<'_>, Value<'_>)]| -> Vec<(String, String)> {
        list.iter().map(|(name, value)| (name.text().to_owned(), value.text())).collect()
    };
    let (set, add) = (lines(&input.set), lines(&input.add));
    let line = match input.request_line {
        RequestLine::Get => "GET /a HTTP/1.1\r\n",
        RequestLine::Post => "POST /a HTTP/1.1\r\n",
        RequestLine::Head => "HEAD /a HTTP/1.0\r\n",
        RequestLine::Nothing => "",
    };
    let status = format!("HTTP/1.1 {} Fine\r\n", input.status);
    check(&Case {
        set: &pairs(&set),
        add: &pairs(&add),
        remove: &input.remove.iter().map(Name::text).collect::<Vec<_>>(),
        request: &[line.as_bytes(), input.request].concat(),
        client: input.client,
        subject: input.subject,
        answer: &[status.as_bytes(), input.answer].concat(),
    });
});

fn pairs(lines: &[(String, String)]) -> Vec<(&str, &str)> {
    lines.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}
