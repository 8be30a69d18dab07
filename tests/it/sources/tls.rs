//! TLS, with certificates that the test makes.

use super::{config, connections, flows, lines, listening};
use kaminari_tests::run;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

/// An authority, and what it has signed, in a folder.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// `NAME.pem`.
    pub fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), issuer.pem()).unwrap();
        Self(issuer)
    }

    /// `NAME.pem` and `NAME.key`.
    pub fn sign(&self, dir: &Path, name: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// A connection to a server that this authority has signed; an error where the handshake fails.
pub fn connect(
    dir: &Path,
    at: SocketAddr,
    authority: &str,
    client: Option<&str>,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let read = |name: String| CertificateDer::from_pem_file(dir.join(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(read(format!("{authority}.pem"))).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let config = match client {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let key = PrivateKeyDer::from_pem_file(dir.join(format!("{name}.key"))).unwrap();
            builder.with_client_auth_cert(vec![read(format!("{name}.pem"))], key).unwrap()
        }
    };
    let connection = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(at)?);
    stream.conn.complete_io(&mut stream.sock)?;
    Ok(stream)
}

/// Sends a text and closes; an error where the server does not want it.
pub fn send(dir: &Path, at: SocketAddr, client: Option<&str>, text: &str) -> io::Result<()> {
    let mut stream = connect(dir, at, "ca", client)?;
    stream.write_all(text.as_bytes())?;
    stream.conn.send_close_notify();
    stream.flush()?;
    // In TLS 1.3 a client hears that its certificate is not taken when it reads.
    match stream.read(&mut [0; 1]) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        Err(e) => Err(e),
    }
}

pub fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new(dir.path(), "ca");
    authority.sign(dir.path(), "server");
    authority.sign(dir.path(), "client");
    Authority::new(dir.path(), "other-ca").sign(dir.path(), "stranger");
    dir
}

fn source(tls: &str) -> String {
    format!("type = \"tcp\"\nlisten = \"127.0.0.1:0\"\ntls = {{ {tls} }}\ndecode = {{ format = \"jsonl\" }}")
}

#[test]
fn lines_over_tls() {
    let dir = folder();
    let (engine, at) = listening(dir.path(), &source("cert = \"server.pem\", key = \"server.key\""));
    assert!(engine.log().contains("listening on tls 127.0.0.1:"), "{}", engine.log());
    send(dir.path(), at, None, &lines(0..50_000)).unwrap();
    // Who speaks no TLS is refused.
    let mut plain = TcpStream::connect(at).unwrap();
    plain.write_all(lines(0..3).as_bytes()).unwrap();
    let _ = plain.read_to_end(&mut Vec::new());
    let summary = engine.stop();
    assert_eq!(flows(&summary), 50_000);
    assert_eq!(connections(&summary, "refused", "tls_not_tls"), 1);
}

#[test]
fn only_clients_with_a_certificate_of_the_authority_are_served() {
    let dir = folder();
    let tls = "cert = \"server.pem\", key = \"server.key\", client_ca = \"ca.pem\"";
    let (engine, at) = listening(dir.path(), &source(tls));
    send(dir.path(), at, Some("client"), &lines(0..100)).unwrap();
    assert!(send(dir.path(), at, None, &lines(0..100)).is_err());
    assert!(send(dir.path(), at, Some("stranger"), &lines(0..100)).is_err());
    let summary = engine.stop();
    assert_eq!(flows(&summary), 100);
    for reason in ["tls_no_certificate", "tls_bad_certificate"] {
        assert_eq!(connections(&summary, "refused", reason), 1, "{reason}: {summary:#}");
    }
}

#[test]
fn files_that_cannot_be_used_are_named_with_their_key() {
    let dir = folder();
    std::fs::write(dir.path().join("empty.pem"), "").unwrap();
    for (tls, key, what) in [
        ("cert = \"no.pem\", key = \"server.key\"", "no.pem", "No such file"),
        ("cert = \"empty.pem\", key = \"server.key\"", "empty.pem", "no certificate"),
        ("cert = \"server.pem\", key = \"empty.pem\"", "empty.pem", "no private key"),
        ("cert = \"server.pem\", key = \"client.key\"", "client.key", "server.pem"),
        ("cert = \"server.pem\", key = \"server.key\", client_ca = \"empty.pem\"", "empty.pem", "no certificate"),
    ] {
        let path = dir.path().join("kaminari.toml");
        std::fs::write(&path, config(&source(tls))).unwrap();
        for verb in ["validate", "run"] {
            let output = run([verb.as_ref(), "-c".as_ref(), path.as_os_str()]);
            let stderr = String::from_utf8_lossy(&output.stderr).replace("\n  │ ", " ");
            assert_eq!(output.status.code(), Some(78), "{verb} {tls}: {stderr}");
            for text in ["source_unusable", key, what] {
                assert!(stderr.contains(text), "{verb} {tls}: no {text:?} in {stderr}");
            }
        }
    }
}
