//! Which version of the contract a component was built against, and whether this engine speaks it. Asked before
//! linking: the linker's own complaint names types that no operator has heard of.

use super::error::PluginError;
use super::roles::Role;
use crate::config::PluginPlan;
use wasmtime::Engine;
use wasmtime::component::types::Component;

/// The version in `wit/kaminari.wit`.
pub const API_VERSION: &str = "0.1.2";

const PACKAGE: &str = "kaminari:plugin/";

/// The plugin's version of the contract, if it is one of ours.
pub fn check(engine: &Engine, component: &Component, plan: &PluginPlan) -> Result<String, PluginError> {
    let contract = |cause: String| PluginError::Contract { id: plan.id.clone(), path: plan.path.clone(), cause };
    let exports: Vec<_> = component.exports(engine).filter_map(|(name, _)| ours(name)).collect();
    let imports: Vec<_> = component.imports(engine).filter_map(|(name, _)| ours(name)).collect();
    let Some((_, version)) = exports.first() else {
        return Err(contract("exports nothing of kaminari:plugin: it is a component, but no kaminari plugin".into()));
    };
    // The most foreign one speaks for all.
    let all = || exports.iter().chain(&imports);
    let version = all().map(|(_, v)| v).find(|v| !compatible(v)).unwrap_or(version).clone();
    if !compatible(&version) {
        let minor = |v: &str| v.rsplit_once('.').map_or(v, |(minor, _)| minor).to_owned();
        return Err(PluginError::ApiVersion {
            id: plan.id.clone(),
            path: plan.path.clone(),
            advice: format!(
                "rebuild it with kaminari-plugin-sdk {}, or run a kaminari that offers {}",
                minor(API_VERSION),
                minor(&version)
            ),
            wanted: version,
            offered: API_VERSION,
        });
    }
    let has = |wanted: &str| exports.iter().any(|(name, _)| name == wanted);
    let roles = Role::ALL.map(Role::name);
    if !has("lifecycle") {
        return Err(contract("does not export kaminari:plugin/lifecycle, as every plugin must".into()));
    }
    if !roles.iter().any(|role| has(role)) {
        return Err(contract(format!("exports none of kaminari:plugin/{}: it has no role", roles.join(", /"))));
    }
    Ok(all().map(|(_, v)| v).max_by_key(|v| numbers(v)).unwrap_or(&version).clone())
}

/// The full name of an interface of ours that the component exports.
pub fn export(engine: &Engine, component: &Component, interface: &str) -> Option<String> {
    let mut names = component.exports(engine).map(|(name, _)| name);
    names.find(|name| ours(name).is_some_and(|(of, _)| of == interface)).map(str::to_owned)
}

/// `kaminari:plugin/data@0.1.0` is (`data`, `0.1.0`).
fn ours(name: &str) -> Option<(String, String)> {
    let (interface, version) = name.strip_prefix(PACKAGE)?.split_once('@').unwrap_or((&name[PACKAGE.len()..], ""));
    Some((interface.to_owned(), version.to_owned()))
}

/// Before 1.0 the minor number is the breaking one. A later patch may ask for functions that are not here yet: the
/// linker decides that.
fn compatible(version: &str) -> bool {
    let (theirs, ours) = (numbers(version), numbers(API_VERSION));
    theirs[..2] == ours[..2]
}

fn numbers(version: &str) -> [u64; 3] {
    let mut parts = version.split(['.', '-', '+']).map(|p| p.parse().unwrap_or(u64::MAX));
    [(); 3].map(|()| parts.next().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_compatible_and_minors_are_not() {
        let verdicts = ["0.1.0", "0.1.7", "0.2.0", "1.1.0", "", "0.1"].map(compatible);
        assert_eq!(verdicts, [true, true, false, false, false, true]);
    }

    #[test]
    fn the_version_is_that_of_the_contract() {
        let wit = include_str!("../../../wit/kaminari.wit");
        assert!(wit.starts_with(&format!("package kaminari:plugin@{API_VERSION};")), "{}", &wit[..40]);
    }
}
