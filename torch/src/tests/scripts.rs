//! TorchScript archives, made here by tracing.

use super::*;
use tch::{CModule, Kind, Tensor};

/// The archive of a function of (rows, features).
fn archive(features: i64, mut function: impl FnMut(&Tensor) -> Tensor) -> Vec<u8> {
    api();
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let example = Tensor::ones([2, features], (Kind::Float, tch::Device::Cpu));
    let module =
        CModule::create_by_tracing("Net", "forward", &[example], &mut |inputs| vec![function(&inputs[0])]).unwrap();
    let path = std::env::temp_dir().join(format!("kaminari-torch-{}-{:p}.pt", std::process::id(), &raw const module));
    module.save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    bytes
}

fn squares(recipe: &Recipe, row: &[f64], back: impl Fn(f64) -> f64) -> Vec<f64> {
    recipe.prepare(row).iter().map(|x| (back(*x) - x).powi(2)).collect()
}

#[test]
fn a_reconstruction_is_compared() {
    for (features, dtype, absolute, relative) in
        [(4, Dtype::F32, 1e-6, 1e-4), (1, Dtype::F32, 1e-6, 1e-4), (4, Dtype::F16, 2e-3, 2e-2)]
    {
        // Writes to its input, which must not reach the comparison.
        let mut recipe = Recipe::script(archive(features, |x| x.shallow_clone().relu_() * 0.5), features as usize);
        recipe.dtype = dtype;
        let model = recipe.load().unwrap();
        let mut rows = rows(50, features as usize, 3);
        rows[7][0] = f64::NAN;
        let got = Group::plain(&model, features as usize).score(&[&rows]);
        let mean = |of: fn(f64) -> f64| {
            let recipe = &recipe;
            rows.iter().map(move |row| {
                let squares = squares(recipe, row, |x| x.max(0.0) * 0.5);
                squares.iter().map(|s| of(*s)).sum::<f64>() / squares.len() as f64
            })
        };
        assert!(got[0][7].is_nan() && got[1][7].is_nan());
        let known = |losses: &[f32]| [&losses[..7], &losses[8..]].concat();
        let without = |losses: Vec<f64>| [&losses[..7], &losses[8..]].concat();
        assert_close(&known(&got[0]), without(mean(|s| s).collect()), absolute, relative);
        assert_close(&known(&got[1]), without(mean(f64::ln_1p).collect()), absolute, relative);
    }
}

#[test]
fn a_loss_is_taken_as_it_is() {
    for keep in [true, false] {
        let bytes = archive(3, |x| x.sum_dim_intlist([1i64].as_slice(), keep, Kind::Float));
        let recipe = Recipe::script(bytes, 3);
        let model = recipe.load().unwrap();
        let mut rows = rows(20, 3, 3);
        rows[2][1] = f64::INFINITY;
        let got = Group::plain(&model, 3).score(&[&rows]);
        assert!(got[0][2].is_nan() && got[1][2].is_nan());
        rows[2][1] = f64::NAN;
        assert_close(&got[0], rows.iter().map(|row| recipe.prepare(row).iter().sum::<f64>()).map(bound), 1e-6, 1e-4);
        assert_eq!(format!("{:?}", got[0]), format!("{:?}", got[1]));
        let (mut out, mut width) = (vec![0.0; 2], 0);
        let prepared = [1.0f32, 2.0, 4.0, -8.0, -16.0, -32.0];
        let to = out.as_mut_ptr();
        check(|f| unsafe { (api().forward)(model.0, prepared.as_ptr(), 2, to, 2, &mut width, f) }).unwrap();
        assert_eq!((width, out.as_slice()), (1, [7.0, -56.0].as_slice()));
    }
}

/// As `max`, but keeps what is not a number.
fn bound(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

/// Such a module gives a tensor of its own, which must not be written to.
#[test]
fn a_constant_reconstruction_stays_constant() {
    let constant = Tensor::ones([2, 3], (Kind::Float, tch::Device::Cpu));
    let recipe = Recipe::script(archive(3, |x| constant.expand_as(x)), 3);
    let model = recipe.load().unwrap();
    let group = Group::plain(&model, 3);
    let rows = rows(2, 3, 8);
    let mse = rows.iter().map(|row| squares(&recipe, row, |_| 1.0).iter().sum::<f64>() / 3.0);
    for _ in 0..3 {
        assert_close(&group.score(&[&rows])[0], mse.clone(), 1e-6, 1e-4);
    }
}

#[test]
fn other_outputs_are_refused() {
    let (status, text) = Recipe::script(archive(4, |x| x.narrow(1, 0, 3)), 4).load().err().unwrap();
    assert_eq!(status, Status::Refused);
    assert!(text.contains("gives [2, 3]") && text.contains("(2, 4)"), "{text}");
    // Made for another number of features.
    let weight = Tensor::ones([5, 5], (Kind::Float, tch::Device::Cpu));
    let (status, text) = Recipe::script(archive(5, |x| x.matmul(&weight)), 4).load().err().unwrap();
    assert_eq!(status, Status::Refused);
    assert!(text.starts_with("the TorchScript module cannot be run: ") && text.contains("shapes"), "{text}");
}

#[test]
fn garbage_is_refused() {
    for bytes in [b"PK garbage".to_vec(), vec![0; 4096]] {
        let (status, text) = Recipe::script(bytes, 4).load().err().unwrap();
        assert_eq!(status, Status::Refused);
        assert!(text.starts_with("the TorchScript archive cannot be loaded: ") && text.len() > 50, "{text}");
        assert!(!text.contains("frame #"), "{text}");
    }
    let mut cut = archive(4, |x| x * 2.0);
    cut.truncate(cut.len() / 2);
    assert_eq!(Recipe::script(cut, 4).load().err().unwrap().0, Status::Refused);
}
