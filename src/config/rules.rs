//! The rules of a route: what is written becomes what [`rules`](crate::rules) takes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use toml::Spanned;

use super::forms::{SwitchOrTable, ValueOrPresence};
use super::raw::{
    RawCompress, RawCompressTable, RawFieldRules, RawForwardAuth, RawRateLimit, RawRedirect, RawRespond,
};
use super::resolve::probe_path;
use super::values::Resolver;
use super::{BackendAddr, ConfigError, Engine, IpNetwork, RouteConfig, ServerConfig};
use crate::http::gzip::Gzip;
use crate::routing::{HeaderCondition, Methods, Prefix, Wanted};
use crate::rules::answer::has_no_content;
use crate::rules::names::{why_no_condition, why_not};
use crate::rules::{
    Access, Answer, Compress, FieldRules, ForwardAuth, PathRewrite, Per, Placeholder, RateLimit, Template,
};

impl Resolver<'_> {
    /// `allow` and `deny` of the route at `route`.
    pub(super) fn access(
        &mut self,
        route: &str,
        allow: Option<Spanned<Vec<Spanned<String>>>>,
        deny: Option<Spanned<Vec<Spanned<String>>>>,
    ) -> Option<Access> {
        if allow.is_none() && deny.is_none() {
            return None;
        }
        let allow = allow.map(|list| self.some_networks(&format!("{route}.allow"), list));
        let deny = deny.map(|list| self.some_networks(&format!("{route}.deny"), list)).unwrap_or_default();
        Some(Access { allow, deny })
    }

    /// A list that was written to have something in it: an empty `allow` would shut out everybody.
    fn some_networks(&mut self, key: &str, list: Spanned<Vec<Spanned<String>>>) -> Vec<IpNetwork> {
        self.note(key, &list.span());
        if list.get_ref().is_empty() {
            let problem = "the list is empty; expected at least one network, or no such key";
            self.refuse(&list.span(), key, problem.to_owned());
        }
        self.networks(key, list.into_inner())
    }

    /// Networks in CIDR notation, single addresses, and `unix:`.
    pub(super) fn networks(&mut self, key: &str, list: Vec<Spanned<String>>) -> Vec<IpNetwork> {
        let mut networks = Vec::new();
        for text in list {
            match text.get_ref().as_str() {
                "unix:" => networks.push(IpNetwork::UNIX_CLIENTS),
                network => match network.parse() {
                    Ok(network) => networks.push(network),
                    Err(error) => self.refuse_text(&text, key, error),
                },
            }
        }
        networks
    }
}

/// What a route may answer with: it is held in memory.
const LARGEST_CONTENT: u64 = 1 << 20;
/// What there is to say of content without a type.
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Keys that have no meaning where no backend is asked, and where they are.
pub(super) type OfBackends = [(&'static str, Option<Range<usize>>); 11];

impl Resolver<'_> {
    /// `redirect` and `respond` of the route at `route`.
    pub(super) fn answer(
        &mut self,
        route: &str,
        redirect: Option<Spanned<RawRedirect>>,
        respond: Option<Spanned<RawRespond>>,
        of_backends: OfBackends,
    ) -> Option<Answer> {
        let name = if redirect.is_some() { "redirect" } else { "respond" };
        if let (Some(_), Some(respond)) = (&redirect, &respond) {
            let problem = "is beside redirect, and a request has one answer; leave one of them out";
            self.refuse(&respond.span(), &format!("{route}.respond"), problem.to_owned());
        }
        if redirect.is_some() || respond.is_some() {
            for (key, at) in of_backends {
                if let Some(at) = at {
                    let problem = format!(
                        "is beside {name}, which answers every request of the route: no backend is ever asked; leave one of \
                         them out"
                    );
                    self.refuse(&at, &format!("{route}.{key}"), problem);
                }
            }
        }
        let redirect = redirect.and_then(|raw| self.redirect(&format!("{route}.redirect"), raw));
        let respond = respond.and_then(|raw| self.respond(&format!("{route}.respond"), raw));
        redirect.or(respond)
    }

    /// `methods` of a route.
    pub(super) fn methods(&mut self, key: &str, list: Spanned<Vec<Spanned<String>>>) -> Methods {
        self.note(key, &list.span());
        if list.get_ref().is_empty() {
            let problem = "the list is empty; expected at least one method, or no such key";
            self.refuse(&list.span(), key, problem.to_owned());
        }
        let mut methods = Methods::default();
        for text in list.into_inner() {
            let Some(method) = self.word(&text, key, "a method that a route can be for", &Methods::KNOWN)
            else {
                continue;
            };
            if !methods.add(method) {
                self.refuse_text(&text, key, "is listed twice");
            }
        }
        methods
    }

    /// `match_headers` of a route.
    pub(super) fn match_headers(
        &mut self,
        key: &str,
        raw: Spanned<BTreeMap<String, Spanned<ValueOrPresence>>>,
    ) -> Vec<HeaderCondition> {
        self.note(key, &raw.span());
        // What was refused for its type was written all the same.
        let is_inside = |error: &ConfigError| error.key().starts_with(&format!("{key}."));
        if raw.get_ref().is_empty() && !self.errors.iter().any(is_inside) {
            let problem = "has nothing in it; expected at least one field and its value, or no such key";
            self.refuse(&raw.span(), key, problem.to_owned());
        }
        let mut conditions: Vec<HeaderCondition> = Vec::new();
        for (name, value) in raw.into_inner() {
            let at = value.span();
            let found = self.named(key, &name, &at, why_no_condition);
            let wanted = match value.into_inner() {
                ValueOrPresence::Presence(true) => Wanted::Present,
                ValueOrPresence::Presence(false) => Wanted::Absent,
                ValueOrPresence::Value(text) => match HeaderValue::from_str(&text) {
                    Ok(value) if is_value(&text) => Wanted::Value(value),
                    _ => {
                        self.refuse_text(&Spanned::new(at, text), key, NO_VALUE);
                        continue;
                    }
                },
            };
            let Some(found) = found else { continue };
            if conditions.iter().any(|other| other.name == found) {
                self.refuse(&at, key, format!("{name:?} is listed twice"));
            }
            conditions.push(HeaderCondition { name: found, wanted });
        }
        conditions.sort_by(|one, other| one.name.as_str().cmp(other.name.as_str()));
        conditions
    }

    /// `rate_limit` of a route.
    pub(super) fn rate_limit(&mut self, key: &str, raw: Spanned<RawRateLimit>) -> Option<RateLimit> {
        let span = raw.span();
        self.note(key, &span);
        let raw = raw.into_inner();
        let name = |name: &str| format!("{key}.{name}");
        if raw.requests_per_sec.is_none() {
            let expected = "how many requests, for example requests_per_sec = 10";
            self.missing(Some(&span), &name("requests_per_sec"), expected);
        }
        let is_complete = raw.requests_per_sec.is_some();
        let mut requests_per_sec = NonZeroU32::MIN;
        self.count(&name("requests_per_sec"), raw.requests_per_sec, 1..=1_000_000, &mut requests_per_sec);
        let mut burst = requests_per_sec;
        self.count(&name("burst"), raw.burst, 1..=1_000_000, &mut burst);
        let per = raw.per.and_then(|text| self.per(&name("per"), &text)).unwrap_or(Per::Client);
        let dry_run = raw.dry_run.is_some_and(Spanned::into_inner);
        is_complete.then_some(RateLimit { requests_per_sec, burst, per, dry_run })
    }

    fn per(&mut self, key: &str, text: &Spanned<String>) -> Option<Per> {
        let Some(name) = text.get_ref().strip_prefix("header:") else {
            let words = [Per::Client, Per::Route];
            return self.word(text, key, "whose they are, nor \"header:NAME\"", &words);
        };
        let name = HeaderName::try_from(name).ok();
        if name.is_none() {
            let problem = "has no name of a header field; expected one, for example \"header:X-Api-Key\"";
            self.refuse_text(text, key, problem);
        }
        name.map(Per::Header)
    }

    /// `forward_auth` of a route, and the service as a route of its own.
    pub(super) fn forward_auth(
        &mut self,
        key: &str,
        raw: Spanned<RawForwardAuth>,
        server: &ServerConfig,
    ) -> Option<(ForwardAuth, RouteConfig)> {
        let span = raw.span();
        self.note(key, &span);
        let raw = raw.into_inner();
        let name = |name: &str| format!("{key}.{name}");
        let mut timeout = Duration::from_secs(5);
        self.timeout(&name("timeout_secs"), raw.timeout_secs, &mut timeout);
        let addr = match raw.addr {
            Some(text) => self.service(&name("addr"), &text, server.engine),
            None => {
                let expected = "where the service is, for example addr = \"127.0.0.1:9091\"";
                self.missing(Some(&span), &name("addr"), expected);
                None
            }
        };
        match &raw.path {
            Some(path) => {
                if let Err(problem) = probe_path(path.get_ref()) {
                    self.refuse_text(path, &name("path"), problem);
                }
            }
            None => {
                let expected = "what it is asked for, for example path = \"/verify\"";
                self.missing(Some(&span), &name("path"), expected);
            }
        }
        let mut copied: Vec<HeaderName> = Vec::new();
        for text in raw.copy_headers.map(Spanned::into_inner).unwrap_or_default() {
            let key = name("copy_headers");
            let Some(field) = self.field_name(&key, text.get_ref(), &text.span()) else { continue };
            if field == http::header::SET_COOKIE {
                self.refuse_text(
                    &text,
                    &key,
                    "is for clients, and what is copied is for backends; leave it out",
                );
            } else if copied.contains(&field) {
                self.refuse_text(&text, &key, "is listed twice");
            }
            copied.push(field);
        }
        let rule = ForwardAuth { path: raw.path?.into_inner(), copy_headers: copied };
        Some((rule, RouteConfig::of_auth_service(addr?, timeout, server)))
    }

    /// Where a service is that this engine can ask.
    fn service(&mut self, key: &str, text: &Spanned<String>, engine: Engine) -> Option<BackendAddr> {
        self.note(key, &text.span());
        match text.get_ref().parse() {
            Err(error) => self.refuse_text(text, key, error),
            Ok(BackendAddr::Https { .. }) if cfg!(not(feature = "tls")) => {
                let problem =
                    "asks for https, which is not part of this build; it takes the cargo feature tls";
                self.refuse_text(text, key, problem);
            }
            Ok(BackendAddr::Https { .. } | BackendAddr::Unix(_)) if engine == Engine::TinyHttp => {
                let problem = "takes engine = \"native\"; write host:port, or change the engine";
                self.refuse_text(text, key, problem);
            }
            Ok(addr) => return Some(addr),
        }
        None
    }

    /// `compress` of a route.
    pub(super) fn compress(&mut self, key: &str, raw: Spanned<RawCompress>) -> Option<Compress> {
        self.note(key, &raw.span());
        let RawCompressTable { min_bytes, types, level } = match raw.into_inner() {
            SwitchOrTable::Switch(is_on) => return is_on.then(Compress::default),
            SwitchOrTable::Table(table) => table,
        };
        let mut rule = Compress::default();
        self.whole(&format!("{key}.min_bytes"), min_bytes, 0..=i64::MAX.into(), &mut rule.min_bytes);
        let levels = (*Gzip::LEVELS.start()).into()..=(*Gzip::LEVELS.end()).into();
        self.whole(&format!("{key}.level"), level, levels, &mut rule.level);
        let Some(list) = types else { return Some(rule) };
        let key = format!("{key}.types");
        if list.get_ref().is_empty() {
            let problem = "the list is empty; expected at least one type, or no such key";
            self.refuse(&list.span(), &key, problem.to_owned());
        }
        rule.types.clear();
        for text in list.into_inner() {
            match text.get_ref().parse() {
                Ok(range) if rule.types.contains(&range) => {
                    self.refuse_text(&text, &key, "is listed twice");
                }
                Ok(range) => rule.types.push(range),
                Err(problem) => self.refuse_text(&text, &key, problem),
            }
        }
        Some(rule)
    }

    /// `strip_prefix` and `replace_prefix` of the route at `route`, whose prefix is `outside`.
    pub(super) fn rewrite(
        &mut self,
        route: &str,
        outside: &Prefix,
        strip: Option<Spanned<bool>>,
        replace: Option<Spanned<String>>,
    ) -> Option<PathRewrite> {
        let (strip_key, replace_key) = (format!("{route}.strip_prefix"), format!("{route}.replace_prefix"));
        let strips = strip.as_ref().is_some_and(|strip| *strip.get_ref());
        if let Some(strip) = strip {
            self.note(&strip_key, &strip.span());
            if strips && *outside == Prefix::root() {
                let problem = "there is nothing to strip: the prefix is \"/\"; leave it out";
                self.refuse(&strip.span(), &strip_key, problem.to_owned());
            }
        }
        let Some(text) = replace else {
            return strips.then(|| PathRewrite::new(outside, &Prefix::root()));
        };
        self.note(&replace_key, &text.span());
        if strips {
            let problem = "is beside strip_prefix = true, and a prefix is either stripped or replaced; leave one of them out";
            self.refuse(&text.span(), &replace_key, problem.to_owned());
        }
        match Prefix::parse(text.get_ref()) {
            Ok(inside) if inside.as_str().parse::<http::uri::PathAndQuery>().is_err() => {
                let problem = "has characters no request target can have; expected them percent-encoded";
                self.refuse_text(&text, &replace_key, problem);
                None
            }
            Ok(inside) => Some(PathRewrite::new(outside, &inside)),
            Err(error) => {
                self.refuse_text(&text, &replace_key, error);
                None
            }
        }
    }

    fn redirect(&mut self, key: &str, raw: Spanned<RawRedirect>) -> Option<Answer> {
        let span = raw.span();
        self.note(key, &span);
        let raw = raw.into_inner();
        let mut status = 308;
        if let Some(raw) = raw.status {
            let found = REDIRECTS.into_iter().find(|status| i128::from(*status) == *raw.get_ref());
            if let Some(found) = found {
                status = found;
            } else {
                let list = REDIRECTS.map(|status| status.to_string()).join(", ");
                let problem = format!("found {}; expected one of {list}", raw.get_ref());
                self.refuse(&raw.span(), &format!("{key}.status"), problem);
            }
        }
        let to_key = format!("{key}.to");
        let Some(text) = raw.to else {
            let expected = "where to, for example to = \"https://{host}{target}\"";
            self.missing(Some(&span), &to_key, expected);
            return None;
        };
        let to = match Template::parse(text.get_ref(), &Placeholder::OF_REDIRECT) {
            Ok(to) => to,
            Err(error) => {
                self.refuse_text(&text, &to_key, error);
                return None;
            }
        };
        if let Err(problem) = leads_somewhere(&to) {
            self.refuse_text(&text, &to_key, problem);
        }
        Some(Answer::Redirect { to, status })
    }

    fn respond(&mut self, key: &str, raw: Spanned<RawRespond>) -> Option<Answer> {
        self.note(key, &raw.span());
        let raw = raw.into_inner();
        let name = |name: &str| format!("{key}.{name}");
        let mut status = 200_u16;
        self.whole(&name("status"), raw.status, 200..=599, &mut status);
        if let (Some(_), Some(file)) = (&raw.body, &raw.file) {
            let problem = "is beside body, and an answer has one content; leave one of them out";
            self.refuse(&file.span(), &name("file"), problem.to_owned());
        }
        let at = raw.body.as_ref().or(raw.file.as_ref()).map(Spanned::span);
        let has_content = at.is_some();
        if let Some(at) = at.filter(|_| has_no_content(status)) {
            let of = if raw.body.is_some() { "body" } else { "file" };
            let problem = format!("an answer of status {status} has no content; leave this out");
            self.refuse(&at, &name(of), problem);
        }
        let mut content = Bytes::new();
        if let Some(body) = raw.body {
            if body.get_ref().len() as u64 > LARGEST_CONTENT {
                self.refuse(&body.span(), &name("body"), TOO_LARGE.to_owned());
            }
            content = body.into_inner().into();
        } else if let Some(file) = raw.file {
            match read_file(Path::new(file.get_ref()), TOO_LARGE) {
                Ok(read) => content = read.into(),
                Err(problem) => self.refuse_text(&file, &name("file"), problem),
            }
        }
        let mut content_type = has_content.then_some(PLAIN);
        if let Some(text) = raw.content_type {
            if !has_content {
                let problem = "is that of a content, and there is none; expected body or file beside it";
                self.refuse(&text.span(), &name("content_type"), problem.to_owned());
            }
            match HeaderValue::from_str(text.get_ref()) {
                Ok(value) if text.get_ref().contains('/') && text.get_ref().is_ascii() => {
                    content_type = Some(value);
                }
                _ => {
                    let problem =
                        "is no type of a content; expected one, for example \"text/html; charset=utf-8\"";
                    self.refuse_text(&text, &name("content_type"), problem);
                }
            }
        }
        let mut headers = Vec::new();
        for (field, value) in raw.headers.map(Spanned::into_inner).unwrap_or_default() {
            let key = name("headers");
            if field.eq_ignore_ascii_case("content-type") {
                let problem = "Content-Type is said by content_type, beside headers".to_owned();
                self.refuse(&value.span(), &key, problem);
                continue;
            }
            headers.extend(self.field(&key, &field, &value, &Placeholder::OF_REDIRECT));
        }
        Some(Answer::Respond { status, content, content_type, headers })
    }

    /// `request_headers` or `response_headers`.
    pub(super) fn field_rules(&mut self, key: &str, raw: Spanned<RawFieldRules>) -> FieldRules {
        let span = raw.span();
        self.note(key, &span);
        let RawFieldRules { set, add, remove } = raw.into_inner();
        // What was refused for its type was written all the same.
        let is_inside = |error: &ConfigError| error.key().starts_with(&format!("{key}."));
        if set.is_none() && add.is_none() && remove.is_none() && !self.errors.iter().any(is_inside) {
            self.refuse(&span, key, "has nothing in it; expected set, add or remove".to_owned());
        }
        let mut rules = FieldRules::default();
        // Names of which it would be unclear what becomes of them.
        let mut seen: Vec<HeaderName> = Vec::new();
        for (list, raw) in [("set", set), ("add", add)] {
            let key = format!("{key}.{list}");
            let mut lines: Vec<(HeaderName, Template)> = Vec::new();
            for (name, value) in raw.map(Spanned::into_inner).unwrap_or_default() {
                let Some(line) = self.field(&key, &name, &value, &Placeholder::OF_FIELDS) else { continue };
                if lines.iter().any(|(other, _)| *other == line.0) {
                    self.refuse(&value.span(), &key, format!("{name:?} is listed twice"));
                }
                lines.push(line);
            }
            if list == "set" {
                seen.extend(lines.iter().map(|(name, _)| name.clone()));
                rules.set = lines;
            } else {
                rules.add = lines;
            }
        }
        let key = format!("{key}.remove");
        for text in remove.map(Spanned::into_inner).unwrap_or_default() {
            let Some(name) = self.field_name(&key, text.get_ref(), &text.span()) else { continue };
            if seen.contains(&name) {
                self.refuse_text(&text, &key, "is in set or in this list already; leave one of them out");
            }
            seen.push(name.clone());
            rules.remove.push(name);
        }
        rules
    }

    /// The name of a field, and its value.
    fn field(
        &mut self,
        key: &str,
        name: &str,
        value: &Spanned<String>,
        allowed: &[Placeholder],
    ) -> Option<(HeaderName, Template)> {
        let name = self.field_name(key, name, &value.span());
        let template = match Template::parse(value.get_ref(), allowed) {
            Ok(template) => template,
            Err(error) => {
                self.refuse_text(value, key, error);
                return None;
            }
        };
        if !is_value(value.get_ref()) {
            self.refuse_text(value, key, NO_VALUE);
            return None;
        }
        Some((name?, template))
    }

    /// A name that a rule may have.
    fn field_name(&mut self, key: &str, name: &str, at: &Range<usize>) -> Option<HeaderName> {
        self.named(key, name, at, why_not)
    }

    /// The name of a field, if there is no reason why not.
    fn named(
        &mut self,
        key: &str,
        name: &str,
        at: &Range<usize>,
        why_not: fn(&HeaderName) -> Option<&'static str>,
    ) -> Option<HeaderName> {
        let Ok(found) = HeaderName::try_from(name) else {
            self.refuse(at, key, format!("{name:?} is no name of a header field"));
            return None;
        };
        if let Some(problem) = why_not(&found) {
            self.refuse(at, key, format!("{name:?} {problem}"));
            return None;
        }
        Some(found)
    }
}

const NO_VALUE: &str =
    "is no value of a header field; expected visible characters of ASCII, with spaces between them";

fn is_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) && text.trim() == text
}

const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
const TOO_LARGE: &str =
    "is larger than 1 MiB, which is the most that is held in memory; expected a backend for it";

/// Whether the target is a URL or a path, whatever a request fills in: `{target}` alone could begin with two slashes, and
/// lead to a host that whoever made the link has chosen. The answer is the end of a sentence.
fn leads_somewhere(to: &Template) -> Result<(), &'static str> {
    let fits = |char: char| {
        char.is_ascii_graphic() && !matches!(char, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')
    };
    if !to.texts().all(|text| text.chars().all(fits)) {
        return Err("has characters no URL can have; expected them percent-encoded");
    }
    let (text, first) = to.beginning();
    let has_scheme = |rest: &str| match rest.chars().next() {
        None => matches!(first, Some(Placeholder::Host)),
        Some(char) => char != '/' && char != '?' && char != '#',
    };
    let scheme = ["https://", "http://"].into_iter().find_map(|scheme| text.strip_prefix(scheme));
    let own_scheme = || {
        text.is_empty()
            && first == Some(Placeholder::Scheme)
            && to.texts().next().is_some_and(|text| text.starts_with("://"))
    };
    let may_follow =
        |value: Option<Placeholder>| !matches!(value, Some(Placeholder::Target | Placeholder::Path));
    let is_path = match text.strip_prefix('/') {
        Some("") => may_follow(first),
        Some(rest) => !rest.starts_with('/'),
        None => false,
    };
    if scheme.is_some_and(has_scheme) || own_scheme() || is_path {
        Ok(())
    } else {
        Err(
            "leads nowhere for certain; expected a URL with a host or a path, for example \"https://{host}{target}\" or \
             \"/new{target}\"",
        )
    }
}

/// What is in the file. The error is the end of a sentence.
pub(super) fn read_content(path: &Path) -> Result<Bytes, String> {
    read_file(path, TOO_LARGE).map(Bytes::from)
}

/// What is in the file, unless it is `too_large`. The error is the end of a sentence.
pub(super) fn read_file(path: &Path, too_large: &str) -> Result<Vec<u8>, String> {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    // A pipe would be waited for.
    if !path.metadata().map_err(cannot)?.is_file() {
        return Err("is no file; expected the path of a plain one".to_owned());
    }
    let mut content = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(LARGEST_CONTENT + 1).read_to_end(&mut content).map_err(cannot)?;
    if content.len() as u64 > LARGEST_CONTENT {
        return Err(too_large.to_owned());
    }
    Ok(content)
}
