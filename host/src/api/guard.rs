//! Who may ask. Comes in: a request; goes out: the request, or 401 without the right `Authorization: Bearer TOKEN` and 403 when a
//! page of another site asks for a change. The token's file is read for each request: a new token counts at once.

use super::answers;
use crate::config::ApiPlan;
use crate::telemetry::API_REFUSED;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A longer file holds something else than a token.
const LONGEST: u64 = 4096;
/// What answers without the token under `open_probes`.
const PROBES: [&str; 3] = ["/livez", "/readyz", "/healthz"];

/// No token can be had from its file.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("cannot read the token file {}: {error} (`[api] token_file` names it)", .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// There is nothing in it.
    #[error("the token file {} is empty: write the token into it (`[api] token_file` names it)", .path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// It is something else.
    #[error("the token file {} is larger than {LONGEST} bytes: that is no token (`[api] token_file` names it)", .path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
}

/// Judges requests.
#[derive(Debug)]
pub struct Guard {
    token_file: Option<PathBuf>,
    open_probes: bool,
    /// The token could not be read the last time.
    broken: AtomicBool,
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    NoToken,
    WrongToken,
    NoTokenFile,
    Origin,
}

impl Guard {
    /// As `[api]` says. Fails when a token is asked for and there is none in its file.
    pub fn new(plan: &ApiPlan) -> Result<Self, TokenError> {
        if let Some(path) = &plan.token_file {
            token(path)?;
        }
        let (token_file, open_probes) = (plan.token_file.clone(), plan.open_probes);
        Ok(Self { token_file, open_probes, broken: AtomicBool::new(false) })
    }

    fn judge(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        if let Some(file) = &self.token_file
            && !(self.open_probes && PROBES.contains(&path))
        {
            self.ask_token(file, headers)?;
        }
        if matches!(*method, Method::GET | Method::HEAD) || self.is_own_page(headers) {
            return Ok(());
        }
        Err(Refusal::Origin)
    }

    fn ask_token(&self, file: &Path, headers: &HeaderMap) -> Result<(), Refusal> {
        let token = match token(file) {
            Ok(token) => {
                if self.broken.swap(false, Ordering::Relaxed) {
                    tracing::info!("the API has a token again");
                }
                token
            }
            Err(error) => {
                // Once, not for every request.
                if !self.broken.swap(true, Ordering::Relaxed) {
                    tracing::error!("the API turns everybody away: {error}");
                }
                return Err(Refusal::NoTokenFile);
            }
        };
        let brought = headers.get(header::AUTHORIZATION).and_then(bearer).ok_or(Refusal::NoToken)?;
        if is_same(brought, &token) { Ok(()) } else { Err(Refusal::WrongToken) }
    }

    /// True when no page asks, or one that came from here. Browsers name the page's site with every POST. Without a token, a
    /// name proves nothing: another site may have its name lead here for a moment (DNS rebinding).
    fn is_own_page(&self, headers: &HeaderMap) -> bool {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        headers.get_all(header::ORIGIN).iter().all(|origin| {
            let origin = origin.to_str().ok().and_then(|text| text.split_once("://")).map(|(_, authority)| authority);
            let (Some(origin), Some(host)) = (origin, host) else { return false };
            origin.eq_ignore_ascii_case(host) && (self.token_file.is_some() || is_address(host))
        })
    }
}

/// Lets a request on to its handler, or answers it.
pub(super) async fn pass(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let refusal = match guard.judge(request.method(), request.uri().path(), request.headers()) {
        Ok(()) => return next.run(request).await,
        Err(refusal) => refusal,
    };
    let (reason, status, message) = match refusal {
        Refusal::NoToken => ("no_token", 401, "a token is needed: `Authorization: Bearer TOKEN`"),
        Refusal::WrongToken => ("wrong_token", 401, "this is not the token"),
        Refusal::NoTokenFile => {
            ("no_token_file", 401, "the engine cannot read its token: nobody gets in, its log says why")
        }
        Refusal::Origin => ("origin", 403, "a page of another site may change nothing here"),
    };
    metrics::counter!(API_REFUSED, "reason" => reason).increment(1);
    let status = if status == 401 { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
    let mut answer = answers::error(status, message);
    if status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

/// What the file holds, without white space around it.
fn token(path: &Path) -> Result<Vec<u8>, TokenError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| TokenError::Unreadable { path: path.into(), error })?;
    if bytes.len() as u64 > LONGEST {
        return Err(TokenError::TooLong { path: path.into() });
    }
    match bytes.trim_ascii() {
        [] => Err(TokenError::Empty { path: path.into() }),
        token => Ok(token.to_owned()),
    }
}

/// The token of `Bearer TOKEN`.
fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (scheme, token) = value.as_bytes().split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Compares digests, all of them to the end: how long it takes says nothing about the token.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (Sha256::digest(a), Sha256::digest(b));
    a.iter().zip(&b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// True for `127.0.0.1:9977`, `[::1]`, `localhost:9977`; false for other names.
fn is_address(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn who_brings_which_token() {
        let brought = |value| {
            let value = HeaderValue::from_str(value).unwrap();
            bearer(&value).map(|token| String::from_utf8(token.into()).unwrap())
        };
        assert_eq!(brought("Bearer s3cret").as_deref(), Some("s3cret"));
        assert_eq!(brought("bearer  s3cret ").as_deref(), Some("s3cret"));
        assert_eq!(
            [brought("Basic s3cret"), brought("s3cret"), brought("Bearer"), brought("")],
            [None, None, None, None]
        );
        assert!(is_same(b"s3cret", b"s3cret") && !is_same(b"s3cret", b"s3creT") && !is_same(b"", b"s3cret"));
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let guard = |token_file: Option<&str>| Guard {
            token_file: token_file.map(PathBuf::from),
            open_probes: false,
            broken: AtomicBool::new(false),
        };
        let own = |guard: &Guard, origin, host| {
            guard.is_own_page(&headers(&[(header::ORIGIN, origin), (header::HOST, host)]))
        };
        let open = guard(None);
        assert!(open.is_own_page(&headers(&[(header::HOST, "evil.example")])), "curl names no origin");
        assert!(own(&open, "http://127.0.0.1:9977", "127.0.0.1:9977"));
        assert!(own(&open, "http://[::1]:9977", "[::1]:9977") && own(&open, "http://localhost", "LOCALHOST"));
        assert!(!own(&open, "http://evil.example", "127.0.0.1:9977") && !own(&open, "null", "127.0.0.1:9977"));
        assert!(!own(&open, "http://127.0.0.1:80", "127.0.0.1:9977"), "another port is another site");
        assert!(!own(&open, "http://evil.example:9977", "evil.example:9977"), "a name that leads here");
        assert!(own(&guard(Some("token")), "https://kaminari.example", "kaminari.example"));
        assert!(!open.is_own_page(&headers(&[(header::ORIGIN, "http://127.0.0.1")])), "nobody says who this is");
        let refused = open.judge(&Method::POST, "/-/reload", &headers(&[(header::ORIGIN, "null")]));
        assert_eq!(refused, Err(Refusal::Origin));
        assert_eq!(open.judge(&Method::GET, "/metrics", &headers(&[(header::ORIGIN, "null")])), Ok(()));
    }

    #[test]
    fn a_start_without_a_token_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let plan = |name: &str| ApiPlan {
            enabled: true,
            listen: "127.0.0.1:0".parse().unwrap(),
            token_file: Some(dir.path().join(name)),
            open_probes: false,
        };
        std::fs::write(dir.path().join("empty"), " \n").unwrap();
        std::fs::write(dir.path().join("long"), "x".repeat(5000)).unwrap();
        for (name, expected) in
            [("none", "cannot read"), ("empty", "is empty"), ("long", "no token"), (".", "cannot read")]
        {
            let told = Guard::new(&plan(name)).unwrap_err().to_string();
            assert!(
                told.contains(expected) && told.contains(&format!("{}", dir.path().join(name).display())),
                "{told}"
            );
        }
        std::fs::write(dir.path().join("good"), "s3cret\n").unwrap();
        Guard::new(&plan("good")).unwrap();
    }
}
