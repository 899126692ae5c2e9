//! Who may come, by name and password: `basic_auth` (RFC 7617). Here is what there is to know without a clock and without
//! threads: the users of a file, what a request brings, and whether the one is in the other. That takes as long as the file
//! wants it to, tens of milliseconds as a rule: [`passwords`](crate::passwords) does it away from the workers.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bcrypt::HashParts;
use http::header::{AUTHORIZATION, HeaderValue};

use crate::http::fields::{Fields, trim_ows};

/// Users of a file.
const MOST_USERS: usize = 10_000;
/// Bytes of a name.
const LONGEST_NAME: usize = 255;
/// Bytes of name and password as they come, in base64. Of a password, bcrypt looks at 72.
const LONGEST_CREDENTIALS: usize = 1024;
/// With 14, a password takes about a second; each more doubles that.
const HIGHEST_COST: u32 = 14;

/// Some leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// `basic_auth` of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    /// Where they are from.
    pub users_file: PathBuf,
    /// Who is let in.
    pub users: Arc<Users>,
    /// What browsers call what is asked for.
    pub realm: String,
    /// The `WWW-Authenticate` that asks.
    pub challenge: HeaderValue,
    /// Backends get the `Authorization` as well.
    pub forward_authorization: bool,
}

impl BasicAuth {
    /// `None`: the realm cannot be written in a field. It can if it is of printable ASCII.
    #[must_use]
    pub fn new(
        users_file: PathBuf,
        users: Arc<Users>,
        realm: &str,
        forward_authorization: bool,
    ) -> Option<Self> {
        let quoted = realm.replace('\\', "\\\\").replace('"', "\\\"");
        let challenge = format!("Basic realm=\"{quoted}\", charset=\"UTF-8\"");
        let is_printable = realm.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        let challenge = HeaderValue::from_str(&challenge).ok().filter(|_| is_printable)?;
        Some(Self { users_file, users, realm: realm.to_owned(), challenge, forward_authorization })
    }
}

/// The users of a file, and the hashes of their passwords.
#[derive(PartialEq, Eq)]
pub struct Users {
    hashes: HashMap<String, String>,
    /// What passwords of nobody are compared with: it costs what the costliest of the others does.
    of_nobody: String,
    costs: (u32, u32),
}

/// The hashes are nobody's business, and too many besides.
impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("count", &self.hashes.len()).finish_non_exhaustive()
    }
}

/// Why a text is no [`Users`]: the line, and the end of a sentence that begins with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsersError {
    line: Option<usize>,
    problem: String,
}

impl fmt::Display for UsersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "cannot be used: line {line} {}", self.problem),
            None => f.write_str(&self.problem),
        }
    }
}

impl Users {
    /// Takes apart what `htpasswd -B` writes: a name, a colon and a hash a line. Empty lines and those that begin with `#` are
    /// passed over.
    ///
    /// # Errors
    /// A line is something else, a name is there twice, there are too many, or none.
    pub fn parse(text: &str) -> Result<Self, UsersError> {
        let mut hashes = HashMap::new();
        let mut costs: Option<(u32, u32)> = None;
        for (n, line) in text.lines().enumerate() {
            let line = line.trim_ascii_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let refuse = |problem: String| UsersError { line: Some(n + 1), problem };
            let (name, hash, cost) = user(line).map_err(refuse)?;
            costs = Some(costs.map_or((cost, cost), |(low, high)| (low.min(cost), high.max(cost))));
            if hashes.insert(name.to_owned(), hash.to_owned()).is_some() {
                return Err(refuse(format!("has {name:?} once more; leave one of the two out")));
            }
            if hashes.len() > MOST_USERS {
                let problem =
                    format!("is one more than {MOST_USERS} users, which is the most that are held in memory");
                return Err(refuse(problem));
            }
        }
        let Some(costs) = costs else {
            let problem = "has no user in it; htpasswd -B FILE NAME adds one".to_owned();
            return Err(UsersError { line: None, problem });
        };
        // Not a hash that anybody knows a password of.
        let of_nobody = format!("$2b${:02}${}", costs.1, ".".repeat(53));
        Ok(Self { hashes, of_nobody, costs })
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.hashes.len()
    }

    /// Whether the passwords of some take longer than those of others: a name that nobody has is then told from some by time.
    #[must_use]
    pub fn have_different_costs(&self) -> bool {
        self.costs.0 != self.costs.1
    }

    /// Bytes that they hold.
    pub(crate) fn memory(&self) -> usize {
        const EACH: usize = 160;
        self.hashes.len() * EACH
    }

    /// What the password of this name is compared with. It changes when the password does.
    pub(crate) fn record(&self, name: &str) -> &str {
        self.hashes.get(name).unwrap_or(&self.of_nobody)
    }

    /// Whether it is the password of that name. Takes its time, whether there is such a name or not.
    #[must_use]
    pub fn check(&self, credentials: &Credentials) -> bool {
        let is_right = bcrypt::verify(&credentials.password, self.record(&credentials.user)).unwrap_or(false);
        is_right && self.hashes.contains_key(&credentials.user)
    }
}

/// Name, hash and cost of a line. The error is the end of a sentence.
fn user(line: &str) -> Result<(&str, &str, u32), String> {
    let (name, hash) = line
        .split_once(':')
        .ok_or("has no colon; expected a name, a colon and a hash, as htpasswd -B writes them")?;
    if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
        return Err(format!(
            "has no name of 1 to {LONGEST_NAME} bytes, without control characters, before its colon"
        ));
    }
    // Never the hash itself: messages are read by more people than the file.
    let kind = ["$2a$", "$2b$", "$2y$"].into_iter().any(|kind| hash.starts_with(kind));
    if !kind {
        return Err(format!(
            "has a hash of another kind for {name:?}; expected bcrypt, which htpasswd -B writes ($2y$, $2a$ or $2b$)"
        ));
    }
    let parts = HashParts::from_str(hash).map_err(|_| {
        format!("has a bcrypt hash for {name:?} that is not whole; write it anew with htpasswd -B")
    })?;
    let cost = parts.get_cost();
    if cost > HIGHEST_COST {
        return Err(format!(
            "has a hash of cost {cost} for {name:?}, and each password would take seconds; expected {HIGHEST_COST} at most, \
             for example htpasswd -B -C 10"
        ));
    }
    Ok((name, hash, cost))
}

/// Name and password that a request brings.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name, of UTF-8 without control characters.
    pub user: String,
    password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Those in `Authorization`. `None`: there is none, more than one, or it is not as RFC 7617 §2 has it.
    #[must_use]
    pub fn of(fields: &Fields) -> Option<Self> {
        let mut lines = fields.get_all(&AUTHORIZATION);
        let line = lines.next().filter(|_| lines.next().is_none())?.as_bytes();
        // The name of the scheme is read whatever its case (RFC 9110 §11.1).
        let (scheme, encoded) = line.split_at_checked(b"Basic ".len())?;
        let encoded = trim_ows(encoded);
        if !scheme.eq_ignore_ascii_case(b"Basic ") || encoded.len() > LONGEST_CREDENTIALS {
            return None;
        }
        let text = String::from_utf8(BASE64.decode(encoded).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        if user.len() > LONGEST_NAME || text.chars().any(char::is_control) {
            return None;
        }
        Some(Self { user: user.to_owned(), password: password.to_owned() })
    }

    pub(crate) fn password(&self) -> &[u8] {
        self.password.as_bytes()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A line for a file of users, as cheap as can be.
    pub(crate) fn line(name: &str, password: &str) -> String {
        format!("{name}:{}\n", bcrypt::hash(password, 4).unwrap())
    }

    fn fields(lines: &[&str]) -> Fields {
        lines.iter().map(|line| (AUTHORIZATION, HeaderValue::from_str(line).unwrap())).collect()
    }

    pub(crate) fn basic(user_and_password: &str) -> Option<Credentials> {
        Credentials::of(&fields(&[&format!("Basic {}", BASE64.encode(user_and_password))]))
    }

    #[test]
    fn who_is_let_in() {
        let text = format!("# staff\n\n{}{}", line("anna", "secret:word"), line("bj\u{f6}rn", "p\u{e4}ss"));
        let users = Users::parse(&text).unwrap();
        assert_eq!(users.count(), 2);
        for (credentials, expected) in [
            ("anna:secret:word", true),
            ("anna:secret", false),
            ("anna:", false),
            ("Anna:secret:word", false),
            ("bj\u{f6}rn:p\u{e4}ss", true),
            ("nobody:secret:word", false),
            (":", false),
        ] {
            assert_eq!(users.check(&basic(credentials).unwrap()), expected, "{credentials}");
        }
    }

    /// The hash is by the C library's crypt, with the prefix that htpasswd writes.
    #[test]
    fn what_htpasswd_writes() {
        let text = "u:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\r\n";
        let users = Users::parse(text).unwrap();
        assert!(users.check(&basic("u:myPassword").unwrap()));
        assert!(!users.check(&basic("u:mypassword").unwrap()));
    }

    #[test]
    fn names_that_nobody_has_take_as_long() {
        let users = Users::parse(&line("anna", "a")).unwrap();
        assert_eq!(HashParts::from_str(users.record("nobody")).unwrap().get_cost(), 4);
        assert!(!users.have_different_costs());
        let costly = format!("bert:{}\n", bcrypt::hash("b", 5).unwrap());
        let users = Users::parse(&format!("{}{costly}", line("anna", "a"))).unwrap();
        assert_eq!(HashParts::from_str(users.record("nobody")).unwrap().get_cost(), 5);
        assert!(users.have_different_costs());
        // And what the hash of nobody would be is nobody's.
        let is_nobodys =
            Users { hashes: HashMap::new(), of_nobody: bcrypt::hash("x", 4).unwrap(), costs: (4, 4) };
        assert!(!is_nobodys.check(&basic("nobody:x").unwrap()));
    }

    #[test]
    fn what_is_no_file_of_users() {
        let problem = |text: &str| Users::parse(text).unwrap_err().to_string();
        assert_eq!(problem("# none\n"), "has no user in it; htpasswd -B FILE NAME adds one");
        let of_line = |problem: &str| format!("cannot be used: line 2 {problem}");
        for (text, expected) in [
            ("anna", "has no colon; expected a name, a colon and a hash, as htpasswd -B writes them"),
            (":$2y$05$x", "has no name of 1 to 255 bytes, without control characters, before its colon"),
            (
                "anna:$apr1$x$y",
                "has a hash of another kind for \"anna\"; expected bcrypt, which htpasswd -B writes ($2y$, $2a$ or $2b$)",
            ),
            (
                "anna:$2y$05$short",
                "has a bcrypt hash for \"anna\" that is not whole; write it anew with htpasswd -B",
            ),
            (
                "anna:$2y$15$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC",
                "has a hash of cost 15 for \"anna\", and each password would take seconds; expected 14 at most, for example \
                 htpasswd -B -C 10",
            ),
        ] {
            assert_eq!(problem(&format!("\n{text}\n")), of_line(expected));
        }
        let anna = line("anna", "a");
        assert_eq!(
            problem(&format!("{anna}{anna}")),
            of_line("has \"anna\" once more; leave one of the two out")
        );
        let hash = "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC";
        let many: String = (0..=MOST_USERS).map(|n| format!("u{n}:{hash}\n")).collect();
        assert!(problem(&many).contains("line 10001 is one more than 10000 users"));
    }

    #[test]
    fn what_a_request_brings() {
        let of = |lines: &[&str]| Credentials::of(&fields(lines)).map(|it| (it.user, it.password));
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        // RFC 7617 §2 and §2.1.
        assert_eq!(of(&["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]), pair("Aladdin", "open sesame"));
        assert_eq!(of(&["basic  dGVzdDoxMjPCow== "]), pair("test", "123\u{a3}"));
        assert_eq!(of(&["BASIC QWxhZGRpbjpvcGVuIHNlc2FtZQ"]), pair("Aladdin", "open sesame"), "no padding");
        let long = format!("Basic {}", "QUFB".repeat(300));
        let name = format!("Basic {}", BASE64.encode(format!("{}:p", "n".repeat(256))));
        for lines in [
            &[][..],
            &["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="],
            &["Basic"],
            &["Basic "],
            &["Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ=="],
            &["BasicQWxhZGRpbjpvcGVuIHNlc2FtZQ=="],
            &["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==, Bearer x"],
            &["Basic QWxhZGRpbg=="],
            &["Basic //79/A=="],
            &["Basic YQpiOmM="],
            &[&long],
            &[&name],
        ] {
            assert_eq!(of(lines), None, "{lines:?}");
        }
    }

    #[test]
    fn a_realm_is_quoted() {
        let of_realm = |realm: &str| {
            let users = Arc::new(Users::parse(&line("a", "a")).unwrap());
            BasicAuth::new(PathBuf::new(), users, realm, false)
        };
        let challenge = of_realm("a \"b\" \\").unwrap().challenge;
        assert_eq!(challenge, "Basic realm=\"a \\\"b\\\" \\\\\", charset=\"UTF-8\"");
        assert_eq!(of_realm("a\r\nb"), None);
        assert_eq!(of_realm("\u{e4}"), None);
    }

    #[test]
    fn neither_hashes_nor_passwords_are_shown() {
        let users = Users::parse(&line("anna", "secret")).unwrap();
        assert_eq!(format!("{users:?}"), "Users { count: 1, .. }");
        assert_eq!(format!("{:?}", basic("anna:secret").unwrap()), "Credentials { user: \"anna\", .. }");
    }
}
