//! Answers that a route gives itself: `redirect` and `respond`. No backend is asked, so such a route has none.

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};

use super::template::Template;

/// What a route answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The way to somewhere else.
    Redirect {
        /// The `Location`.
        to: Template,
        /// 301, 302, 303, 307 or 308.
        status: u16,
    },
    /// A content.
    Respond {
        /// 200 to 599.
        status: u16,
        /// Read when the configuration was.
        content: Bytes,
        /// Of the content; absent = there is none.
        content_type: Option<HeaderValue>,
        /// Further fields.
        headers: Vec<(HeaderName, Template)>,
    },
}

impl Answer {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Redirect { status, .. } | Self::Respond { status, .. } => *status,
        }
    }

    /// The key that it is under.
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::Redirect { .. } => "redirect",
            Self::Respond { .. } => "respond",
        }
    }
}

/// Whether an answer of this status has no content (RFC 9110 §6.4.1).
pub(crate) fn has_no_content(status: u16) -> bool {
    matches!(status, 204 | 304)
}
