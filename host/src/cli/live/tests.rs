//! Against the real HTTP surface, with an engine behind it that answers what it is told to.

use super::*;
use crate::api::fake::{CONFIG, Fake, serve_fake};
use crate::config::diff::{self, Class, PlanDiff, What};
use crate::reload::{Busy, Control, Outcome, Trigger};

fn at(url: &str) -> EngineArgs {
    EngineArgs { url: url.into(), token_file: None }
}

fn failure<T>(result: miette::Result<T>) -> String {
    let Err(report) = result else { panic!("it went well") };
    let help = report.help().map(|help| help.to_string()).unwrap_or_default();
    format!("{report} {help}")
}

#[test]
fn outcomes_are_exit_codes() {
    let fake = Fake::new();
    let served = serve_fake(&fake, None, false);
    let reload = || change(&at(&served.url), "/-/reload", Format::Json);
    for outcome in [Outcome::Applied, Outcome::Unchanged] {
        fake.answer(Ok(outcome));
        reload().unwrap();
    }
    change(&at(&format!("{}/", served.url)), "/-/rollback", Format::Text).unwrap();
    for outcome in [Outcome::Refused, Outcome::Failed] {
        fake.answer(Ok(outcome));
        assert!(failure(reload()).contains("the configuration before goes on"));
    }
    fake.answer(Err(Busy));
    assert!(failure(reload()).contains("a reload is running: nothing was done"));
    let asked: Vec<_> = fake.history().iter().rev().map(|report| report.trigger).collect();
    use Trigger::{Api, Rollback};
    assert_eq!(asked, [Api, Api, Rollback, Api, Api]);
}

#[test]
fn a_person_reads_what_differs_and_what_failed() {
    let fake = Fake::new();
    let served = serve_fake(&fake, None, false);
    *fake.diff.lock().unwrap() = PlanDiff {
        changes: vec![diff::Change {
            component: "pipelines.ddos".into(),
            what: What::Changed,
            class: Class::WindowRestart,
            keys: vec!["window.size_secs".into(), "keys".into()],
            effect: "open windows are closed early".into(),
            lost: vec!["levels of 3 keys".into()],
        }],
    };
    let told = || {
        let (_, report) = Engine::new(&at(&served.url)).unwrap().ask("POST", "/-/reload").unwrap();
        serde_json::from_value::<Told>(report).unwrap().as_text()
    };
    let old = fake.plan().digest[..DIGITS].to_owned();
    assert_eq!(
        told(),
        format!(
            "applied after 12 ms: {old} -> sha256:22\n~ pipelines.ddos (window-restart)\n    keys    window.size_secs, keys\n    \
             effect  open windows are closed early\n    lost    levels of 3 keys\nnote: a note\n"
        )
    );
    fake.answer(Ok(Outcome::Refused));
    assert_eq!(
        told(),
        format!("refused at step `read` after 12 ms: {old}\nerror: k.toml:3: unknown key `lisen`\nnote: a note\n")
    );
}

#[test]
fn who_does_not_answer_is_named_with_what_to_do() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let told = failure(change(&at(&format!("http://{free}")), "/-/reload", Format::Text));
    assert!(told.contains(&format!("nothing answers on http://{free}")) && told.contains("KAMINARI_URL"), "{told}");
    let told = failure(change(&at("https://engine.example"), "/-/reload", Format::Text));
    assert!(told.contains("speaks no TLS") && told.contains("port-forward"), "{told}");
    let fake = Fake::new();
    let served = serve_fake(&fake, None, false);
    let told = failure(change(&at(&served.url), "/-/none", Format::Text));
    assert!(told.contains("/-/none answers 404"), "{told}");
}

#[test]
fn the_token_is_brought() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let fake = Fake::new();
    let served = serve_fake(&fake, Some(file.clone()), false);
    let told = failure(change(&at(&served.url), "/-/reload", Format::Text));
    assert!(told.contains("without its token") && told.contains("--token-file"), "{told}");
    let with = |file: PathBuf| EngineArgs { url: served.url.clone(), token_file: Some(file) };
    change(&with(file), "/-/reload", Format::Text).unwrap();
    let told = failure(change(&with(dir.path().join("none")), "/-/reload", Format::Text));
    assert!(told.contains("cannot read the token file"), "{told}");
}

#[test]
fn shadows_come_as_an_array() {
    let served = serve_fake(&Fake::new(), None, false);
    assert!(!diff_shadows(&at(&served.url), Format::Text).unwrap());
}

#[test]
fn the_running_plan_is_compared_with_files() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("k.toml");
    let served = serve_fake(&Fake::new(), None, false);
    let differs = |text: String| {
        std::fs::write(&file, text).unwrap();
        diff_live(&at(&served.url), std::slice::from_ref(&file), Format::Json)
    };
    assert!(differs(CONFIG.replace("size_secs = 10", "size_secs = 20")).unwrap());
    assert!(!differs(CONFIG.into()).unwrap());
    assert!(differs("[".into()).is_err());
}
