//! What a manifest must be before its model may score: every mistake with its key, what stands there and what to do.

use super::error::ModelError;
use super::manifest::{Architecture, FORMAT_VERSION, Golden, MAX_CLIP, MLP, Manifest, TORCHSCRIPT, VARIATIONAL};
use super::network::Network;
use std::path::Path;

/// Key and problem.
type Wrong = (String, String);

fn wrong<T>(key: impl Into<String>, problem: impl Into<String>) -> Result<T, Wrong> {
    Err((key.into(), problem.into()))
}

/// Checks all that can be checked without the weights.
pub(super) fn manifest(path: &Path, manifest: &Manifest) -> Result<(), ModelError> {
    let at = |(key, problem)| ModelError::Key { path: path.into(), key, problem };
    version(manifest.format_version)
        .and_then(|()| names(manifest))
        .and_then(|()| architecture(manifest))
        .and_then(|()| features(manifest))
        .and_then(|()| manifest.golden.as_ref().map_or(Ok(()), |golden| self_test(golden, manifest.features.len())))
        .and_then(|()| calibration(manifest))
        .map_err(at)
}

/// Checks that a network built in memory is the one of the manifest.
pub(super) fn network(path: &Path, manifest: &Manifest, network: &Network) -> Result<(), ModelError> {
    let at = |problem| ModelError::Key { path: path.into(), key: "architecture".into(), problem };
    let architecture = &manifest.architecture;
    let same = (network.activation, network.code, network.layers.len() + 1);
    if (architecture.activation, architecture.code, architecture.dims.len()) != (Some(same.0), same.1, same.2) {
        return Err(at("activation, code or number of layers are not those of the network".into()));
    }
    for (number, (layer, dims)) in network.layers.iter().zip(architecture.dims.windows(2)).enumerate() {
        let shape = [layer.inputs, layer.outputs];
        if shape != dims || layer.weight.len() != layer.inputs * layer.outputs || layer.bias.len() != layer.outputs {
            return Err(at(format!("layer {number} of the network is {shape:?}, and dims want {dims:?}")));
        }
        if layer.weight.iter().chain(&layer.bias).any(|x| !x.is_finite()) {
            return Err(at(format!("layer {number} of the network has weights that are not finite")));
        }
    }
    Ok(())
}

fn version(version: u32) -> Result<(), Wrong> {
    if version == FORMAT_VERSION { Ok(()) } else { wrong("format_version", unsupported(i64::from(version))) }
}

/// What is wrong with another version.
pub(super) fn unsupported(version: i64) -> String {
    format!("{version} is not supported, only {FORMAT_VERSION}: use a newer kaminari, or export the model again")
}

fn names(manifest: &Manifest) -> Result<(), Wrong> {
    if manifest.name.is_empty() {
        return wrong("name", "empty: give the model a name");
    }
    let file = &manifest.weights.file;
    if Path::new(file).file_name() != Some(file.as_ref()) {
        return wrong("weights.file", format!("`{file}` is not the name of a file beside the manifest"));
    }
    Ok(())
}

fn architecture(manifest: &Manifest) -> Result<(), Wrong> {
    let Architecture { kind, dims, activation, code, tensor_prefix } = &manifest.architecture;
    let features = manifest.features.len();
    if ![MLP, VARIATIONAL, TORCHSCRIPT].contains(&kind.as_str()) {
        let known = format!("only `{MLP}`, `{VARIATIONAL}` and `{TORCHSCRIPT}`");
        return wrong("architecture.kind", format!("`{kind}` is not supported, {known}"));
    }
    if features == 0 {
        return wrong("features", "none: list the inputs of the network in their order");
    }
    if kind == TORCHSCRIPT {
        if !dims.is_empty() || activation.is_some() || code.is_some() || !tensor_prefix.is_empty() {
            return wrong("architecture", format!("`{TORCHSCRIPT}` brings its network: leave all but `kind` out"));
        }
        return Ok(());
    }
    if activation.is_none() {
        return wrong("architecture.activation", "missing: `tanh` or `relu`");
    }
    match (kind == VARIATIONAL, code) {
        (false, Some(_)) => return wrong("architecture.code", format!("only a `{VARIATIONAL}` has a code")),
        (true, None) => return wrong("architecture.code", "missing: which of `dims` is the code, counted from 0"),
        (true, Some(code)) if !(1..dims.len().saturating_sub(1)).contains(code) => {
            return wrong("architecture.code", format!("{code} is none of the hidden layers in dims {dims:?}"));
        }
        _ => {}
    }
    if dims.len() < 2 || dims.contains(&0) {
        return wrong("architecture.dims", format!("{dims:?} must be two or more widths above 0"));
    }
    if dims.first() != Some(&features) || dims.last() != Some(&features) {
        let problem = format!("{dims:?} must begin and end with the number of features, {features}");
        return wrong("architecture.dims", problem);
    }
    Ok(())
}

fn features(manifest: &Manifest) -> Result<(), Wrong> {
    for (at, feature) in manifest.features.iter().enumerate() {
        let key = |key: &str| format!("features[{at}].{key} (`{}`)", feature.name);
        if let Some(first) = manifest.features[..at].iter().position(|other| other.name == feature.name) {
            return wrong(key("name"), format!("stands twice: it is features[{first}], too"));
        }
        if !feature.center.is_finite() {
            return wrong(key("center"), format!("{} must be finite", feature.center));
        }
        if !(feature.scale > 0.0 && feature.scale.is_finite() && (1.0 / feature.scale).is_finite()) {
            return wrong(
                key("scale"),
                format!("{} must be above 0 and finite; 1 for a constant feature", feature.scale),
            );
        }
        if !(feature.clip > 0.0 && feature.clip <= MAX_CLIP) {
            return wrong(key("clip"), format!("{} must be above 0 and at most {MAX_CLIP}", feature.clip));
        }
    }
    Ok(())
}

fn self_test(golden: &Golden, features: usize) -> Result<(), Wrong> {
    for (key, losses) in [("golden.mse", &golden.mse), ("golden.log1p", &golden.log1p)] {
        if losses.len() != golden.rows.len() {
            return wrong(key, format!("{} losses for {} rows", losses.len(), golden.rows.len()));
        }
        if let Some(at) = losses.iter().position(|x| !x.is_finite()) {
            return wrong(format!("{key}[{at}]"), format!("{} must be finite", losses[at]));
        }
    }
    for (at, row) in golden.rows.iter().enumerate() {
        if row.len() != features {
            return wrong(format!("golden.rows[{at}]"), format!("{} numbers for {features} features", row.len()));
        }
        if row.iter().any(|x| !x.is_finite()) {
            return wrong(format!("golden.rows[{at}]"), "a number is not finite");
        }
    }
    Ok(())
}

fn calibration(manifest: &Manifest) -> Result<(), Wrong> {
    match manifest.calibration.as_ref().map_or(Ok(()), |calibration| calibration.check()) {
        Ok(()) => Ok(()),
        Err(error) => wrong("calibration", format!("{error}; calibrate again")),
    }
}
