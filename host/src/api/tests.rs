//! Requests over a real socket, against an engine that answers what it is told to.

use super::fake::{Fake, Served, serve_fake};
use crate::reload::{Busy, Control, Outcome, Trigger};
use serde_json::Value;
use ureq::http::Response;

struct Answer {
    status: u16,
    head: Response<()>,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/json");
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.head.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn ask(served: &Served, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", served.url));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, mut body) = agent.run(request.body(()).unwrap()).unwrap().into_parts();
    Answer { status: head.status.as_u16(), body: body.read_to_string().unwrap(), head: Response::from_parts(head, ()) }
}

#[test]
fn a_reload_answers_with_its_report() {
    let fake = Fake::new();
    let served = serve_fake(&fake, None, false);
    let outcomes =
        [(Outcome::Applied, 200), (Outcome::Unchanged, 200), (Outcome::Refused, 422), (Outcome::Failed, 500)];
    for (outcome, status) in outcomes {
        fake.answer(Ok(outcome));
        let answer = ask(&served, "POST", "/-/reload", &[]);
        assert_eq!(answer.status, status, "{}", answer.body);
        let report = answer.json();
        assert_eq!((&report["outcome"], &report["trigger"]), (&outcome.name().into(), &"api".into()));
        assert_eq!(report.get("errors").is_some(), status != 200);
    }
    fake.answer(Err(Busy));
    for path in ["/-/reload", "/-/rollback"] {
        let answer = ask(&served, "POST", path, &[]);
        assert_eq!((answer.status, &answer.json()["error"]), (409, &"a reload is running".into()));
    }
    fake.answer(Ok(Outcome::Applied));
    assert_eq!(ask(&served, "POST", "/-/rollback", &[]).json()["trigger"], "rollback");

    let history = ask(&served, "GET", "/api/v1/reloads", &[]).json();
    let told: Vec<_> = history.as_array().unwrap().iter().map(|r| r["outcome"].as_str().unwrap()).collect();
    assert_eq!(told, ["applied", "failed", "refused", "unchanged", "applied"]);
    assert_eq!(fake.history()[0].trigger, Trigger::Rollback);
}

#[test]
fn who_only_looks_changes_nothing() {
    let fake = Fake::new();
    let served = serve_fake(&fake, None, false);
    for path in ["/-/reload", "/-/rollback"] {
        let answer = ask(&served, "GET", path, &[]);
        assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{path}");
        let answer = ask(&served, "POST", path, &[("origin", "https://evil.example")]);
        assert_eq!(answer.status, 403);
        assert!(answer.json()["error"].as_str().unwrap().contains("another site"));
    }
    assert!(fake.history().is_empty());
    // The page that the engine itself may serve.
    assert_eq!(ask(&served, "POST", "/-/reload", &[("origin", &served.url)]).status, 200);
}

#[test]
fn the_rest_says_how_the_engine_fares() {
    let fake = Fake::new();
    let served = serve_fake(&fake, None, false);
    let get = |path| ask(&served, "GET", path, &[]);
    assert_eq!(get("/livez").body, "ok\n");
    let ready = get("/readyz");
    assert_eq!((ready.status, ready.body.as_str()), (503, "{\"not_connected\":[\"kafka\"],\"ready\":false}\n"));
    assert_eq!(get("/version").json()["plan_digest"], fake.plan().digest);
    let plan = get("/api/v1/plan").json();
    assert_eq!(
        (&plan["digest"], &plan["pipelines"]["ddos"]["mode"]),
        (&fake.plan().digest.as_str().into(), &"alert".into())
    );
    assert_eq!(get("/api/v1/plugins").json(), serde_json::json!([]));
    assert_eq!(get("/api/v1/shadow").json()[0]["pipeline"], "ddos");
    assert_eq!(get("/metrics").status, 200);
    assert_eq!(get("/none").status, 404);
}

#[test]
fn the_token_is_asked_for_everywhere_and_may_change() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "one\n").unwrap();
    let fake = Fake::new();
    let served = serve_fake(&fake, Some(file.clone()), false);
    let status = |token: &str| ask(&served, "GET", "/version", &[("authorization", &format!("Bearer {token}"))]).status;

    for path in ["/livez", "/readyz", "/metrics", "/version", "/api/v1/plan", "/api/v1/reloads", "/none"] {
        let answer = ask(&served, "GET", path, &[]);
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"), "{path}");
        assert!(answer.json()["error"].as_str().unwrap().contains("Bearer TOKEN"));
    }
    assert_eq!(ask(&served, "POST", "/-/reload", &[("authorization", "Bearer other")]).status, 401);
    assert!(fake.history().is_empty());
    assert_eq!((status("one"), status("two")), (200, 401));
    assert_eq!(ask(&served, "POST", "/-/reload", &[("authorization", "Bearer one")]).status, 200);

    // Rotated, as a secret's folder is: by rename.
    std::fs::write(dir.path().join("next"), "two").unwrap();
    std::fs::rename(dir.path().join("next"), &file).unwrap();
    assert_eq!((status("one"), status("two")), (401, 200));
    std::fs::write(&file, "\n").unwrap();
    assert_eq!((status("two"), status("")), (401, 401), "an empty file lets nobody in");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(status("two"), 401);
    std::fs::write(&file, "two").unwrap();
    assert_eq!(status("two"), 200);
}

#[test]
fn probes_may_be_open() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "one").unwrap();
    let served = serve_fake(&Fake::new(), Some(file), true);
    let status = |path| ask(&served, "GET", path, &[]).status;
    assert_eq!(["/livez", "/readyz", "/healthz"].map(status), [200, 503, 503]);
    assert_eq!(["/metrics", "/version", "/livez/", "/api/v1/plan"].map(status), [401, 401, 401, 401]);
}
