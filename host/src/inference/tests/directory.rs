//! Model directories: what is written is read again, and every kind of damage is named.

use super::{Random, manifest, model, network};
use crate::inference::*;
use std::fs;
use std::path::Path;

const DIMS: [usize; 5] = [4, 6, 2, 6, 4];

/// A model with a self-test.
fn with_golden() -> Model {
    let Model { mut manifest, weights, .. } = model(&DIMS, Activation::Tanh, 11);
    let Weights::Mlp(network) = weights else { panic!("no perceptron") };
    let rows = (0..5).map(|row| (0..4).map(|f| f64::from(row * 10 + f)).collect()).collect();
    manifest.golden = Some(Golden::of(&network, &manifest.features, rows));
    Model::new(manifest, network).unwrap()
}

/// The files of `with_golden`, changed, and what loading says; the folder is written as `DIR`.
fn refusal(change: impl FnOnce(&Path)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m");
    with_golden().save(&path).unwrap();
    change(&path);
    let error = Model::load(&path).expect_err("a damaged model was read").to_string();
    assert!(!error.contains('\n'), "{error}");
    error.replace(&*path.to_string_lossy(), "DIR")
}

/// As `refusal`, for a change of the manifest's text.
fn text(from: &str, to: &str) -> String {
    refusal(|dir| {
        let path = dir.join("model.toml");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    })
}

/// As `refusal`, for a change of the manifest's values, with the weights not pinned.
fn value(change: impl FnOnce(&mut Manifest)) -> String {
    refusal(|dir| {
        let path = dir.join("model.toml");
        let mut manifest: Manifest = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        manifest.weights.sha256.clear();
        change(&mut manifest);
        fs::write(path, toml::to_string(&manifest).unwrap()).unwrap();
    })
}

/// As `refusal`, for other weights that are not pinned.
fn weights(make: impl FnOnce(Vec<u8>) -> Vec<u8>) -> String {
    refusal(|dir| {
        let path = dir.join("weights.safetensors");
        let changed = make(fs::read(&path).unwrap());
        fs::write(path, changed).unwrap();
        let path = dir.join("model.toml");
        let mut manifest: Manifest = toml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        manifest.weights.sha256.clear();
        fs::write(path, toml::to_string(&manifest).unwrap()).unwrap();
    })
}

/// The bytes with one text of the header in place of another, as long.
fn header(from: &str, to: &str) -> impl FnOnce(Vec<u8>) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let (from, to) = (from.to_owned(), to.to_owned());
    move |mut bytes| {
        let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        bytes
    }
}

#[test]
fn what_is_saved_is_loaded_and_digests_agree() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new");
    let made = with_golden();
    made.save(&path).unwrap();
    let read = Model::load(&path).unwrap();
    assert_eq!((&read.manifest, &read.weights, &read.digest), (&made.manifest, &made.weights, &made.digest));
    assert!(read.digest.starts_with("sha256:") && read.digest.len() == 71, "{}", read.digest);
    assert_eq!(read.dir, path);

    // Over an old one; and nothing else is left behind.
    let mut other = made.manifest.clone();
    other.version = "2".into();
    let other = Model::new(other, made.weights.clone()).unwrap();
    other.save(&path).unwrap();
    assert_eq!(Model::load(&path).unwrap().digest, other.digest);
    assert_eq!(Model::digest_of(&path).unwrap(), other.digest);
    assert_ne!(other.digest, made.digest);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(fs::read_dir(&path).unwrap().count(), 2);
}

#[test]
fn a_model_that_cannot_be_saved_leaves_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = with_golden().save(&file.join("m")).unwrap_err().to_string();
    assert!(error.contains("cannot be written"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn missing_files_are_named() {
    let missing = "not found; a model is a folder with model.toml and the weights file that it names";
    assert_eq!(refusal(|dir| fs::remove_dir_all(dir).unwrap()), format!("DIR/model.toml: {missing}"));
    assert_eq!(
        refusal(|dir| fs::remove_file(dir.join("weights.safetensors")).unwrap()),
        format!("DIR/weights.safetensors: {missing}")
    );
    assert_eq!(value(|m| m.weights.file = "w".into()), format!("DIR/w: {missing}"));
}

#[test]
fn a_manifest_that_cannot_be_read_has_a_line_and_a_column() {
    assert!(text("name = \"test\"", "name = ").starts_with("DIR/model.toml:2:"));
    let unknown = text("name = \"test\"", "name = \"test\"\nnmae = 1");
    assert!(
        unknown.starts_with("DIR/model.toml:3:1: unknown field `nmae`, expected one of `format_version`"),
        "{unknown}"
    );
    let kind = text("name = \"test\"", "name = 3");
    assert!(kind.starts_with("DIR/model.toml:2:8: invalid type: integer `3`, expected a string"), "{kind}");
    let lost = text("name = \"test\"\n", "");
    assert!(lost.starts_with("DIR/model.toml:1:1: missing field `name`"), "{lost}");
    let activation = text("\"tanh\"", "\"gelu\"");
    assert!(activation.contains("unknown variant `gelu`, expected `tanh` or `relu`"), "{activation}");
    let bytes = refusal(|dir| fs::write(dir.join("model.toml"), b"name = \"\xff\"").unwrap());
    assert_eq!(bytes, "DIR/model.toml:1:9: not UTF-8 from here on");
    // Of another version, whose keys are not known here.
    let version = text("format_version = 1", "format_version = 2\nquantised = true");
    let expected =
        "DIR/model.toml: format_version: 2 is not supported, only 1: use a newer kaminari, or export the model again";
    assert_eq!(version, expected);
}

#[test]
fn values_that_cannot_be_are_named_by_key() {
    let says = |change: fn(&mut Manifest), expected: &str| {
        let error = value(change);
        assert!(error.starts_with(&format!("DIR/model.toml: {expected}")), "{error}");
    };
    says(|m| m.name.clear(), "name: empty");
    says(|m| m.weights.file = "../w".into(), "weights.file: `../w` is not the name of a file");
    says(
        |m| m.architecture.kind = "lstm".into(),
        "architecture.kind: `lstm` is not supported, only `mlp-autoencoder`, `variational-autoencoder` and `torchscript`",
    );
    says(
        |m| m.architecture.dims[0] = 5,
        "architecture.dims: [5, 6, 2, 6, 4] must begin and end with the number of features, 4",
    );
    says(|m| m.architecture.dims[4] = 5, "architecture.dims: [4, 6, 2, 6, 5] must begin and end with");
    says(|m| m.architecture.dims[2] = 0, "architecture.dims: [4, 6, 0, 6, 4] must be two or more widths above 0");
    says(|m| m.features.clear(), "features: none");
    says(|m| m.features[2].name = "f0".into(), "features[2].name (`f0`): stands twice: it is features[0], too");
    says(|m| m.features[1].center = f64::NAN, "features[1].center (`f1`): NaN must be finite");
    says(|m| m.features[1].scale = 0.0, "features[1].scale (`f1`): 0 must be above 0");
    says(|m| m.features[1].scale = -1.0, "features[1].scale (`f1`): -1 must be above 0");
    says(|m| m.features[1].scale = f64::INFINITY, "features[1].scale (`f1`): inf must be above 0");
    says(|m| m.features[3].clip = 0.0, "features[3].clip (`f3`): 0 must be above 0 and at most 1000000");
    says(|m| m.features[3].clip = f64::NAN, "features[3].clip (`f3`): NaN must be");
    says(|m| m.golden.as_mut().unwrap().mse.truncate(3), "golden.mse: 3 losses for 5 rows");
    says(|m| m.golden.as_mut().unwrap().log1p[1] = f64::NAN, "golden.log1p[1]: NaN must be finite");
    says(|m| m.golden.as_mut().unwrap().rows[2].truncate(1), "golden.rows[2]: 1 numbers for 4 features");
    says(|m| m.golden.as_mut().unwrap().rows[2][0] = f64::INFINITY, "golden.rows[2]: a number is not finite");
    let calibration = |m: &mut Manifest| {
        let scores: Vec<f64> = (0..400).map(|i| f64::from(i) / 100.0).collect();
        let mut fitted = crate::calibration::Calibration::fit(&scores, &scores, 1000.0).unwrap();
        fitted.score.shape = 3.0;
        m.calibration = Some(fitted);
    };
    says(calibration, "calibration: shape 3 must be");
}

#[test]
fn weights_that_cannot_be_are_named_by_tensor() {
    let file = "DIR/weights.safetensors: ";
    let says = |error: String, expected: &str| assert!(error.starts_with(&format!("{file}{expected}")), "{error}");
    says(weights(|_| Vec::new()), "empty file: copy or export the weights again");
    says(weights(|bytes| bytes[..bytes.len() - 1].to_vec()), "no safetensors file, or cut short (");
    says(weights(|bytes| bytes[..20].to_vec()), "no safetensors file, or cut short (");
    says(weights(|_| b"PK\x03\x04 a zip of PyTorch's".to_vec()), "no safetensors file, or cut short (");
    says(
        weights(header("\"2.bias\"", "\"2.bibs\"")),
        "tensor `2.bias`: missing; the file has 0.bias, 0.weight, 2.bibs",
    );
    says(
        value(|m| m.architecture.tensor_prefix = "net.".into()),
        "tensor `net.0.weight`: missing; the file has 0.bias, 0.weight,",
    );
    says(
        value(|m| m.architecture.dims = vec![4, 6, 4]),
        "tensor `2.weight`: shape [2, 6], and architecture.dims in the manifest wants [4, 6]",
    );
    says(value(|m| m.architecture.dims = vec![4, 3, 4]), "tensor `0.weight`: shape [6, 4], and");
    says(
        value(|m| {
            m.architecture.dims = vec![4, 4];
            m.golden = None;
        }),
        "tensor `0.weight`: shape [6, 4]",
    );
    says(weights(header("\"F32\"", "\"I32\"")), "tensor `");
    says(
        weights(|mut bytes| {
            let at = bytes.len() - 4;
            bytes[at..].copy_from_slice(&f32::NAN.to_le_bytes());
            bytes
        }),
        "tensor `6.weight`: number 23 is NaN: the training went astray",
    );
}

#[test]
fn tensors_too_many_are_named() {
    let larger = {
        let mut random = Random::new(4);
        let dims = [4, 6, 2, 6, 4, 4, 4];
        Model::new(manifest(&dims, Activation::Tanh, &mut random), network(&dims, Activation::Tanh, &mut random))
            .unwrap()
    };
    let error = refusal(|dir| {
        let aside = dir.with_file_name("larger");
        larger.save(&aside).unwrap();
        fs::copy(aside.join("weights.safetensors"), dir.join("weights.safetensors")).unwrap();
        let path = dir.join("model.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.lines().filter(|l| !l.starts_with("sha256")).collect::<Vec<_>>().join("\n")).unwrap();
    });
    let expected = "DIR/weights.safetensors: tensors that architecture.dims has no layer for: 10.bias, 10.weight, 8.bias, 8.weight;";
    assert!(error.starts_with(expected), "{error}");
}

#[test]
fn files_of_two_models_are_not_mixed() {
    let other = model(&DIMS, Activation::Tanh, 12);
    let mixed = |pinned: bool| {
        refusal(|dir| {
            let aside = dir.with_file_name("other");
            other.save(&aside).unwrap();
            fs::copy(aside.join("weights.safetensors"), dir.join("weights.safetensors")).unwrap();
            if !pinned {
                let path = dir.join("model.toml");
                let text = fs::read_to_string(&path).unwrap();
                fs::write(&path, text.lines().filter(|l| !l.starts_with("sha256")).collect::<Vec<_>>().join("\n"))
                    .unwrap();
            }
        })
    };
    let error = mixed(true);
    assert!(error.contains("files of two models are mixed"), "{error}");
    // Without a pin the self-test finds it.
    let error = mixed(false);
    assert!(error.starts_with("DIR/model.toml: self-test: row 0 of golden.rows has mse "), "{error}");
    // And another preprocessing, which no digest sees.
    let error = value(|m| m.features[0].center += 0.5);
    assert!(error.contains("self-test: row 0 of golden.rows has mse "), "{error}");
}

#[test]
fn weights_in_f64_are_taken() {
    let made = with_golden();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m");
    made.save(&path).unwrap();
    let mut tensors = Vec::new();
    for (at, layer) in made.network().unwrap().layers.iter().enumerate() {
        let bytes = |numbers: &[f32]| numbers.iter().flat_map(|x| f64::from(*x).to_le_bytes()).collect::<Vec<u8>>();
        tensors.push((format!("{}.weight", 2 * at), vec![layer.outputs, layer.inputs], bytes(&layer.weight)));
        tensors.push((format!("{}.bias", 2 * at), vec![layer.outputs], bytes(&layer.bias)));
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (name.as_str(), safetensors::tensor::TensorView::new(safetensors::Dtype::F64, shape.clone(), bytes).unwrap())
    });
    fs::write(path.join("weights.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let text = fs::read_to_string(path.join("model.toml")).unwrap();
    let unpinned: Vec<&str> = text.lines().filter(|l| !l.starts_with("sha256")).collect();
    fs::write(path.join("model.toml"), unpinned.join("\n")).unwrap();
    assert_eq!(Model::load(&path).unwrap().weights, made.weights);
}

#[test]
fn a_network_of_another_shape_makes_no_model() {
    let Model { manifest, weights, .. } = model(&DIMS, Activation::Tanh, 1);
    let Weights::Mlp(network) = weights else { panic!("no perceptron") };
    let refused = |change: fn(&mut Network)| {
        let mut network = network.clone();
        change(&mut network);
        Model::new(manifest.clone(), network).unwrap_err().to_string()
    };
    assert!(refused(|n| n.activation = Activation::Relu).contains("activation, code or number of layers"));
    assert!(refused(|n| drop(n.layers.pop())).contains("activation, code or number of layers"));
    assert!(refused(|n| n.layers[1].outputs = 3).contains("layer 1 of the network is [6, 3], and dims want [6, 2]"));
    assert!(
        refused(|n| n.layers[1].bias[0] = f32::NAN).contains("layer 1 of the network has weights that are not finite")
    );
}

#[test]
fn columns_are_found_and_all_missing_ones_named() {
    let model = model(&[3, 2, 3], Activation::Relu, 1);
    assert_eq!(model.check_columns(&["x", "f2", "f0", "f1"]).unwrap(), [2, 3, 1]);
    let error = model.check_columns(&["f1", "x"]).unwrap_err().to_string();
    assert!(error.starts_with("model test takes features that are not offered: f0, f2; "), "{error}");
}

#[test]
fn the_schema_is_names_and_transforms() {
    let model = model(&DIMS, Activation::Tanh, 1);
    let schema = model.manifest.schema_digest();
    let mut other = model.manifest.clone();
    other.features[0].center += 1.0;
    assert_eq!(other.schema_digest(), schema);
    other.features.swap(0, 1);
    assert_ne!(other.schema_digest(), schema);
}
