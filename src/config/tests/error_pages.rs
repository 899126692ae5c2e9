//! `error_pages` and `intercept_errors`: what is refused, and what an explanation says of them.

use std::path::PathBuf;

use super::{Config, accepted, refused, with_key, with_route};
use crate::explain::{self, Question};

/// A directory with pages, gone with it.
struct Pages(PathBuf);

impl Pages {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("reverse-proxy-error-pages-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("a.html"), "<p>a</p>").unwrap();
        std::fs::write(path.join("b.json"), "{}").unwrap();
        std::fs::write(path.join("large.html"), vec![b'x'; (1 << 20) + 1]).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        format!("{:?}", self.0.join(name).display().to_string())
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

const NO_STATUS: &str = "is no status of a failure; expected one from 400 to 599, \"4xx\" or \"5xx\"";

#[test]
fn pages() {
    let pages = Pages::new("refused");
    let (a, large, none) = (pages.file("a.html"), pages.file("large.html"), pages.file("none"));
    let folder = format!("{:?}", pages.0.display().to_string());
    for (key, problem) in [
        (
            "error_pages = {}".to_owned(),
            "error_pages: has nothing in it; expected a status and a file, for example { 502 = \"sorry.html\" }"
                .to_owned(),
        ),
        (
            "error_pages = \"sorry.html\"".to_owned(),
            "error_pages: found \"sorry.html\"; expected a table, for example { key = \"value\" }".to_owned(),
        ),
        (format!("error_pages = {{ 302 = {a} }}"), format!("error_pages: \"302\" {NO_STATUS}")),
        (format!("error_pages = {{ 5XX = {a} }}"), format!("error_pages: \"5XX\" {NO_STATUS}")),
        (format!("error_pages = {{ default = {a} }}"), format!("error_pages: \"default\" {NO_STATUS}")),
        (
            "error_pages = { 502 = 1 }".to_owned(),
            "error_pages.502: found 1; expected a string in quotes".to_owned(),
        ),
        (
            format!("error_pages = {{ 502 = {none} }}"),
            format!("error_pages.502: {none} cannot be read: No such file or directory (os error 2)"),
        ),
        (
            format!("error_pages = {{ 5xx = {folder} }}"),
            format!("error_pages.5xx: {folder} is no file; expected the path of a plain one"),
        ),
        (
            format!("error_pages = {{ 404 = {large} }}"),
            format!(
                "error_pages.404: {large} is larger than 1 MiB, which is the most that is held in memory; expected a \
                 backend for it"
            ),
        ),
    ] {
        assert_eq!(refused(&with_key(&key)), [format!(":3: routes[0].{problem}")], "{key}");
        let top = format!("{key}\n{}", with_route(""));
        assert_eq!(refused(&top), [format!(":1: {problem}")], "{key}");
    }
    assert_eq!(
        refused(&with_key(&format!("error_page = {{ 502 = {a} }}")))[0]
            .split_once(" allowed here")
            .unwrap()
            .0,
        ":3: routes[0].error_page: unknown key; did you mean error_pages?"
    );
}

#[test]
fn intercepted_statuses() {
    for (key, problem) in [
        ("[]", "the list is empty; expected at least one status, or no such key".to_owned()),
        ("500", "found 500; expected a list in brackets".to_owned()),
        ("true", "found true; expected a list in brackets".to_owned()),
        ("[true]", "found true; expected statuses, for example [500, 502] or [\"5xx\"]".to_owned()),
        ("[200]", format!("200 {NO_STATUS}")),
        ("[-500]", format!("-500 {NO_STATUS}")),
        ("[\"3xx\"]", format!("\"3xx\" {NO_STATUS}")),
        ("[500, \"500\"]", "\"500\" is listed twice".to_owned()),
        (
            "[426]",
            "426 says to which protocol to change on the connection, which no page can say; leave it out"
                .to_owned(),
        ),
    ] {
        let key = format!("intercept_errors = {key}");
        let expected = format!(":3: routes[0].intercept_errors: {problem}");
        assert_eq!(refused(&with_key(&key)), [expected], "{key}");
    }
    let answering =
        "listen_addr = \"127.0.0.1:0\"\n[[routes]]\nintercept_errors = [500]\nprefix = \"/\"\nrespond = {}\n";
    assert_eq!(
        refused(answering),
        [
            ":3: routes[0].intercept_errors: is beside respond, which answers every request of the route: no backend is ever \
          asked; leave one of them out"
        ]
    );
}

fn explained(config: &Config, request: &str, fields: &[&str]) -> (String, String) {
    let question = Question::new(request, None).unwrap();
    let question = fields.iter().fold(question, |question, field| question.field(field).unwrap());
    let explanation = explain::explain(config, &question);
    (explanation.text(), explanation.json())
}

#[track_caller]
fn has_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn explanations() {
    let pages = Pages::new("explained");
    let (a, b) = (pages.file("a.html"), pages.file("b.json"));
    let more = format!(
        "error_pages = {{ 4xx = {b}, 502 = {a} }}\nintercept_errors = [\"5xx\", 404]\nmethods = [\"GET\"]\n\
         [[expect]]\nrequest = \"PUT http://h/\"\nstatus = 405\n"
    );
    let text = format!("error_pages = {{ 400 = {a}, 405 = {a} }}\n{}", with_route(&more));
    let config = accepted(&text);
    explain::check(&config).expect("what is expected");
    // One file is held once.
    let content = |pages: &Option<crate::rules::ErrorPages>, status| {
        pages.as_ref().unwrap().of(status).unwrap().1.content.as_ptr()
    };
    assert_eq!(content(&config.error_pages, 405), content(&config.routes[0].rules.error_pages, 502));
    let (text, json) = explained(&config, "GET http://h/", &[]);
    has_lines(
        &text,
        &[
            "    failures  5xx, 404 of backends are not passed on   (routes[0].intercept_errors, line 7)",
            "    failures  4xx has a page of 2 bytes, 502 has a page of 8 bytes   (routes[0].error_pages, line 6)",
            "    failures  400 has a page of 8 bytes, 405 has a page of 8 bytes   (error_pages, line 1)",
        ],
    );
    assert!(!json.contains("\"content\""), "{json}");
    // By which page.
    let (text, json) = explained(&config, "PUT http://h/", &[]);
    has_lines(
        &text,
        &[
            "Refused: 405 method_not_allowed, this path takes other methods",
            "  with the page of routes[0].error_pages.4xx, line 6",
        ],
    );
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let expected = serde_json::json!({ "kind": "page", "key": "routes[0].error_pages.4xx", "line": 6 });
    assert_eq!(json["outcome"]["content"], expected);
    let (text, _) = explained(&config, "GET /", &[]);
    has_lines(&text, &["  with the page of error_pages.400, line 1"]);
    let plain = accepted(&with_route("methods = [\"GET\"]"));
    let (text, json) = explained(&plain, "PUT http://h/", &["Accept: application/json"]);
    has_lines(&text, &["  in JSON, by its Accept"]);
    assert!(json.contains("\"kind\": \"json\""), "{json}");
    let (text, _) = explained(&plain, "PUT http://h/", &["Accept: text/html, */*;q=0.8"]);
    assert!(!text.contains("with the page") && !text.contains("in JSON"), "{text}");
}
