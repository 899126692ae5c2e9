//! `error_pages` of a route and of the top level, and `intercept_errors`.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;

use super::ConfigError;
use super::forms::StatusOrClass;
use super::rules::read_content;
use super::values::Resolver;
use crate::rules::error_pages::NEVER_INTERCEPTED;
use crate::rules::{ErrorPages, Intercept, Page, Statuses};

const EXPECTED: &str = "is no status of a failure; expected one from 400 to 599, \"4xx\" or \"5xx\"";

impl Resolver<'_> {
    /// Files by status.
    pub(super) fn error_pages(
        &mut self,
        key: &str,
        raw: Spanned<BTreeMap<String, Spanned<String>>>,
    ) -> ErrorPages {
        let span = raw.span();
        self.note(key, &span);
        // What was refused for its type was written all the same.
        let is_inside = |error: &ConfigError| error.key().starts_with(&format!("{key}."));
        if raw.get_ref().is_empty() && !self.errors.iter().any(is_inside) {
            let problem =
                "has nothing in it; expected a status and a file, for example { 502 = \"sorry.html\" }";
            self.refuse(&span, key, problem.to_owned());
        }
        let mut pages = Vec::new();
        for (status, file) in raw.into_inner() {
            let Some(statuses) = Statuses::parse(&status) else {
                self.refuse(&file.span(), key, format!("{status:?} {EXPECTED}"));
                continue;
            };
            let key = format!("{key}.{status}");
            self.note(&key, &file.span());
            if let Some(page) = self.page(&key, &file) {
                pages.push((statuses, page));
            }
        }
        ErrorPages::new(pages)
    }

    fn page(&mut self, key: &str, file: &Spanned<String>) -> Option<Page> {
        let name = file.get_ref();
        if let Some(page) = self.pages.get(name) {
            return Some(page.clone());
        }
        match read_content(Path::new(name)) {
            Ok(content) => {
                let page = Page::new(name, content);
                self.pages.insert(name.clone(), page.clone());
                Some(page)
            }
            Err(problem) => {
                self.refuse_text(file, key, problem);
                None
            }
        }
    }

    /// Statuses of answers of backends.
    pub(super) fn intercept(&mut self, key: &str, list: Spanned<Vec<Spanned<StatusOrClass>>>) -> Intercept {
        self.note(key, &list.span());
        if list.get_ref().is_empty() {
            let problem = "the list is empty; expected at least one status, or no such key";
            self.refuse(&list.span(), key, problem.to_owned());
        }
        let mut found = Vec::new();
        for entry in list.into_inner() {
            let (span, StatusOrClass(text)) = (entry.span(), entry.into_inner());
            let problem = match Statuses::parse(&text) {
                Some(Statuses::One(NEVER_INTERCEPTED)) => {
                    "says to which protocol to change on the connection, which no page can say; leave it out"
                }
                Some(statuses) if found.contains(&statuses) => "is listed twice",
                Some(statuses) => {
                    found.push(statuses);
                    continue;
                }
                None => EXPECTED,
            };
            let written = self.document.written(&span);
            self.refuse(&span, key, format!("{written} {problem}"));
        }
        Intercept::new(found)
    }
}
