//! The trainer on data of low rank.

use super::*;
use kaminari_torch_abi::TrainSpec;

struct Trainer(*mut c_void);

impl Drop for Trainer {
    fn drop(&mut self) {
        unsafe { (api().trainer_free)(self.0) }
    }
}

impl Trainer {
    fn new(recipe: &Recipe, training: &[f32], validation: &[f32]) -> Result<Self, (Status, String)> {
        Self::on(CPU, recipe, training, validation)
    }

    fn on(device: i32, recipe: &Recipe, training: &[f32], validation: &[f32]) -> Result<Self, (Status, String)> {
        let (mlp, width) = (recipe.mlp(), recipe.dims[0] as usize);
        let spec = TrainSpec {
            device,
            mlp: &mlp,
            kl_weight: 0.01,
            seed: 5,
            training: training.as_ptr(),
            training_rows: training.len() / width,
            validation: validation.as_ptr(),
            validation_rows: validation.len() / width,
        };
        let mut trainer = null_mut();
        check(|f| unsafe { (api().trainer_new)(&spec, &mut trainer, f) })?;
        Ok(Self(trainer))
    }

    fn epoch(&self, order: &[u32], batch: usize, rates: &[f32]) -> Result<f64, (Status, String)> {
        let mut squares = f64::NAN;
        let (at, n) = (rates.as_ptr(), rates.len());
        check(|f| unsafe {
            (api().trainer_epoch)(self.0, order.as_ptr(), order.len(), batch, at, n, &mut squares, f)
        })?;
        Ok(squares)
    }

    fn validate(&self) -> f64 {
        let mut loss = f64::NAN;
        check(|f| unsafe { (api().trainer_validate)(self.0, &mut loss, f) }).unwrap();
        loss
    }

    fn params(&self, len: usize) -> Result<Vec<f32>, (Status, String)> {
        let mut params = vec![f32::NAN; len];
        check(|f| unsafe { (api().trainer_params)(self.0, params.as_mut_ptr(), len, f) })?;
        Ok(params)
    }
}

/// Rows of eight values that two numbers make.
fn low_rank(rows: usize, seed: u64) -> Vec<f32> {
    let mut random = Random(seed);
    let row = |random: &mut Random| {
        let (a, b) = (random.next(), random.next());
        (0..8).map(move |i| (a * f64::from(i).cos() + b * f64::from(i).sin()) as f32)
    };
    (0..rows).flat_map(|_| row(&mut random).collect::<Vec<f32>>()).collect()
}

/// Mean squared error by plain loops.
fn mean_error(recipe: &Recipe, rows: &[f32]) -> f64 {
    let error = |row: &[f32]| {
        let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
        recipe.output(&row).iter().zip(&row).map(|(y, x)| (y - x).powi(2)).sum::<f64>()
    };
    rows.chunks(8).map(error).sum::<f64>() / rows.len() as f64
}

fn learns(mut recipe: Recipe, share: f64) -> Vec<f32> {
    let (training, validation) = (low_rank(1000, 1), low_rank(100, 2));
    let trainer = Trainer::new(&recipe, &training, &validation).unwrap();
    let before = trainer.validate();
    assert!((before - mean_error(&recipe, &validation)).abs() <= 1e-6 * before);
    assert_eq!(trainer.params(recipe.params.len()).unwrap(), recipe.params);
    let order: Vec<u32> = (0..1000).map(|i| i * 7 % 1000).collect();
    let mut squares = Vec::new();
    for _ in 0..40 {
        squares.push(trainer.epoch(&order, 64, &[0.005; 16]).unwrap());
    }
    assert!(squares[39] < squares[0] * share, "{squares:?}");
    let after = trainer.validate();
    assert!(after < before * share, "{before} to {after}");
    recipe.params = trainer.params(recipe.params.len()).unwrap();
    let again = mean_error(&recipe, &validation);
    assert!((after - again).abs() <= 1e-5 * after, "{after}, by its weights {again}");
    recipe.params
}

#[test]
fn perceptrons_learn() {
    learns(Recipe::new(&[8, 12, 2, 12, 8], Activation::Tanh, 3), 0.1);
    learns(Recipe::new(&[8, 16, 3, 16, 8], Activation::Relu, 3), 0.1);
}

#[test]
fn variational_ones_learn() {
    let mut recipe = Recipe::new(&[8, 12, 2, 12, 8], Activation::Tanh, 3);
    recipe.code = 2;
    learns(recipe, 0.2);
}

/// One step of Adam moves a weight by the step size, whatever the gradient: from there on it is the engine's recipe.
#[test]
fn a_step_is_adams() {
    let recipe = Recipe::new(&[8, 4, 8], Activation::Tanh, 3);
    let rows = low_rank(32, 1);
    let trainer = Trainer::new(&recipe, &rows, &rows).unwrap();
    let order: Vec<u32> = (0..32).collect();
    let squares = trainer.epoch(&order, 32, &[0.001]).unwrap();
    let expected = mean_error(&recipe, &rows) * rows.len() as f64;
    assert!((squares - expected).abs() <= 1e-5 * expected, "{squares}, not {expected}");
    let after = trainer.params(recipe.params.len()).unwrap();
    for (at, (before, after)) in recipe.params.iter().zip(after).enumerate() {
        // Against the sign of the gradient, which a small change of the weight shows.
        let mut other = recipe.clone();
        other.params[at] += 1e-3;
        let slope = mean_error(&other, &rows) - mean_error(&recipe, &rows);
        assert!(slope.abs() < 1e-6 || (f64::from(before - after) - 1e-3 * slope.signum()).abs() < 1e-5, "{at}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let recipe = Recipe::new(&[8, 4, 8], Activation::Tanh, 3);
    let rows = low_rank(32, 1);
    let trainer = Trainer::new(&recipe, &rows, &rows).unwrap();
    let text = |result: Result<f64, (Status, String)>| result.unwrap_err();
    assert_eq!(
        text(trainer.epoch(&[0, 32], 2, &[0.1])),
        (Status::Refused, "there is no training row 32 among 32".into())
    );
    assert_eq!(
        text(trainer.epoch(&[0, 1, 2], 2, &[0.1])),
        (Status::Refused, "1 step sizes for 3 rows in batches of 2".into())
    );
    let len = recipe.params.len();
    assert_eq!(trainer.params(len - 1).unwrap_err().1, format!("{len} parameters have no room in {}", len - 1));
    assert_eq!(Trainer::on(0, &recipe, &rows, &rows).err().unwrap().0, Status::DeviceLost);
}
