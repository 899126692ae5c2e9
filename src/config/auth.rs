//! `basic_auth` of a route.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;

use super::raw::RawBasicAuth;
use super::rules::read_file;
use super::values::Resolver;
use crate::rules::{BasicAuth, FieldRules, Rules, Users};

/// What browsers call what is asked for, where the file does not say it.
const REALM: &str = "Restricted";
const TOO_LARGE: &str = "is larger than 1 MiB, which is the most that is held in memory";

impl Resolver<'_> {
    /// `basic_auth` of a route.
    pub(super) fn basic_auth(&mut self, key: &str, raw: Spanned<RawBasicAuth>) -> Option<BasicAuth> {
        let span = raw.span();
        self.note(key, &span);
        let raw = raw.into_inner();
        let name = |name: &str| format!("{key}.{name}");
        let realm = raw.realm.as_ref().map_or(REALM, |realm| realm.get_ref());
        let forwards = raw.forward_authorization.is_some_and(Spanned::into_inner);
        let Some(file) = raw.users_file else {
            let expected =
                "a file that htpasswd -B has written, for example users_file = \"/etc/reverse-proxy/users\"";
            self.missing(Some(&span), &name("users_file"), expected);
            return None;
        };
        self.note(&name("users_file"), &file.span());
        let path = Path::new(file.get_ref());
        let users = match read_users(path) {
            Ok(users) => users,
            Err(problem) => {
                self.refuse_text(&file, &name("users_file"), problem);
                return None;
            }
        };
        let auth = BasicAuth::new(path.to_owned(), Arc::new(users), realm, forwards);
        if let (None, Some(realm)) = (&auth, &raw.realm) {
            let problem = "cannot be shown by browsers; expected visible characters of ASCII, and spaces";
            self.refuse_text(realm, &name("realm"), problem);
        }
        auth
    }

    /// `{user}` is nobody, where no name is asked for: a backend would take that for a name.
    pub(super) fn refuse_users_of_nobody(&mut self, route: &str, rules: &Rules) {
        for (name, rules) in
            [("request_headers", &rules.request_headers), ("response_headers", &rules.response_headers)]
        {
            let key = format!("{route}.{name}");
            if rules.as_ref().is_some_and(FieldRules::name_the_user)
                && let Some(at) = self.places.get(&key).cloned()
            {
                let problem = "has the placeholder {user}, and the route asks nobody for a name; expected basic_auth beside it";
                self.refuse(&at, &key, problem.to_owned());
            }
        }
    }
}

/// The error is the end of a sentence.
fn read_users(path: &Path) -> Result<Users, String> {
    let content = read_file(path, TOO_LARGE)?;
    let text = str::from_utf8(&content).map_err(|_| "is no text in UTF-8".to_owned())?;
    Users::parse(text).map_err(|error| error.to_string())
}
