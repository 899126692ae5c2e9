//! What went wrong with TLS, in words for the log: with what to do, where that is known.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

use super::verify::is_that_of_a_ca;
use crate::error::TlsFault;

/// The kind of the fault, and the words.
pub(super) fn explain(error: &Error) -> (TlsFault, String) {
    match error {
        Error::InvalidCertificate(error) => (TlsFault::Certificate, certificate(error)),
        Error::NoCertificatesPresented => {
            (TlsFault::Certificate, "the backend has shown no certificate".to_owned())
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => (
            TlsFault::Protocol,
            "this is no TLS, perhaps plain HTTP: then write its address without https://".to_owned(),
        ),
        Error::AlertReceived(alert) => (TlsFault::Protocol, received(*alert)),
        Error::PeerIncompatible(why) => (
            TlsFault::Protocol,
            format!("the backend offers no TLS 1.2 or 1.3 with a cipher in common ({why:?})"),
        ),
        _ => (TlsFault::Protocol, error.to_string()),
    }
}

fn certificate(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate expired: renew it, or set the clock of this machine".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate not valid yet: is the clock of this machine right?".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "certificate not signed by a CA that is trusted: give its CA, or itself, as tls = { ca = \"file.pem\" }"
                .to_owned()
        }
        CertificateError::NotValidForName => {
            "certificate for another name than the backend's: set tls = { server_name = \"…\" }".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            format!(
                "certificate not for {expected}, but for {}: set tls = {{ server_name = \"…\" }}",
                presented.join(", ")
            )
        }
        CertificateError::Revoked => "certificate revoked".to_owned(),
        CertificateError::BadSignature => "certificate with a signature that is not its issuer's".to_owned(),
        error if is_that_of_a_ca(error) => {
            "certificate of a CA, and not the one the route trusts: give it as tls = { ca = \"file.pem\" }".to_owned()
        }
        error => format!("certificate refused: {error}"),
    }
}

fn received(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::HandshakeFailure => {
            "the backend accepts none of our TLS versions and ciphers".to_owned()
        }
        AlertDescription::ProtocolVersion => "the backend speaks neither TLS 1.2 nor 1.3".to_owned(),
        AlertDescription::UnrecognisedName => {
            "the backend does not know the name it was asked for: set tls = { server_name = \"…\" }"
                .to_owned()
        }
        AlertDescription::CertificateRequired => {
            "the backend wants a certificate of its clients, which this proxy has not".to_owned()
        }
        alert => format!("the backend ended the handshake with the alert {alert:?}"),
    }
}
