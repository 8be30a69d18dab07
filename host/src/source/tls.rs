//! The server's side of TLS (1.2 and 1.3): certificate and key from PEM files, with `client_ca` also the clients'
//! certificates. Refused: files that are missing or hold something else, each named; handshakes that fail, by reason.

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// The `tls` table of a source.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM file with the certificate, and those that lead to its authority.
    pub cert: PathBuf,
    /// PEM file with its key.
    pub key: PathBuf,
    /// PEM file with the authorities of clients' certificates. Then only clients that have one are served.
    pub client_ca: Option<PathBuf>,
}

/// A file that cannot be used.
#[derive(Debug)]
pub(super) struct Unusable {
    pub(super) key: &'static str,
    pub(super) path: PathBuf,
    pub(super) why: String,
}

/// Who takes connections.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    /// Of clients' certificates; empty: none is asked for.
    authorities: Vec<CertificateDer<'static>>,
}

impl Tls {
    /// True when whoever was let in before would be now.
    pub(super) fn admits_all_of(&self, before: Option<&Self>) -> bool {
        let known = |authority: &CertificateDer<'static>| self.authorities.contains(authority);
        let asked = |before: &Self| !before.authorities.is_empty() && before.authorities.iter().all(known);
        before.is_some_and(|before| self.authorities.is_empty() || asked(before))
    }
}

/// Reads the files of that configuration.
pub(super) fn read(config: &TlsConfig) -> Result<Tls, Unusable> {
    let TlsConfig { cert, key, client_ca } = config;
    let unusable = |key, path: &Path, why: String| Unusable { key, path: path.to_owned(), why };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates(cert).map_err(|why| unusable("tls.cert", cert, why))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| unusable("tls.key", key, told(&e, "private key")))?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| unusable("tls.cert", cert, e.to_string()))?;
    let mut authorities = Vec::new();
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let bad = |why: String| unusable("tls.client_ca", path, why);
            let mut roots = RootCertStore::empty();
            authorities = certificates(path).map_err(bad)?;
            for authority in &authorities {
                roots.add(authority.clone()).map_err(|e| bad(e.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|e| bad(e.to_string()))?)
        }
    };
    let config = builder.with_single_cert(chain, private).map_err(|e| {
        let why = format!("cannot be used with the certificate of {}: {e}", cert.display());
        unusable("tls.key", key, why)
    })?;
    Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), authorities })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let all = all.map_err(|e| told(&e, "certificate"))?;
    if all.is_empty() { Err("holds no certificate in PEM".to_owned()) } else { Ok(all) }
}

fn told(error: &pem::Error, what: &str) -> String {
    match error {
        pem::Error::Io(e) => e.to_string(),
        pem::Error::NoItemsFound => format!("holds no {what} in PEM"),
        other => format!("is no PEM file: {other}"),
    }
}

/// Why a handshake failed, for counters.
pub(super) fn reason(error: &io::Error) -> &'static str {
    use rustls::Error;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::NoCertificatesPresented) => "tls_no_certificate",
        Some(Error::InvalidCertificate(_)) => "tls_bad_certificate",
        Some(Error::AlertReceived(_)) => "tls_client_refused",
        Some(Error::PeerIncompatible(_)) => "tls_incompatible",
        Some(
            Error::InvalidMessage(_) | Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. },
        ) => "tls_not_tls",
        Some(_) => "tls_other",
        None => "tls_broken_off",
    }
}
