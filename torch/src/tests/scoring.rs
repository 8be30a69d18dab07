//! Losses of perceptrons against plain loops in `f64`.

use super::*;

const ABSOLUTE: f64 = 1e-6;
const RELATIVE: f64 = 1e-4;

#[track_caller]
fn assert_losses(recipe: &Recipe, rows: &[Vec<f64>], got: &[Vec<f32>]) {
    assert_close(&got[0], rows.iter().map(|row| recipe.losses(row).0), ABSOLUTE, RELATIVE);
    assert_close(&got[1], rows.iter().map(|row| recipe.losses(row).1), ABSOLUTE, RELATIVE);
}

#[test]
fn losses_are_those_of_plain_loops() {
    for (activation, code) in [(Activation::Relu, 0), (Activation::Tanh, 0), (Activation::Relu, 2)] {
        let mut recipe = Recipe::new(&[13, 16, 4, 16, 13], activation, 7);
        recipe.code = code;
        let model = recipe.load().unwrap();
        let rows = rows(300, 13, 11);
        assert_losses(&recipe, &rows, &Group::plain(&model, 13).score(&[&rows]));
    }
}

#[test]
fn many_rows_are_worked_off_in_pieces() {
    let recipe = Recipe::new(&[3, 2, 3], Activation::Tanh, 3);
    let model = recipe.load().unwrap();
    let rows = rows(10_001, 3, 5);
    assert_losses(&recipe, &rows, &Group::plain(&model, 3).score(&[&rows]));
}

#[test]
fn parts_are_the_same_as_one() {
    let recipe = Recipe::new(&[6, 4, 6], Activation::Relu, 2);
    let model = recipe.load().unwrap();
    let rows = rows(70, 6, 9);
    let group = Group::plain(&model, 6);
    let whole = group.score(&[&rows]);
    assert_eq!(group.score(&[&rows[..1], &[], &rows[1..48], &rows[48..]]), whole);
    assert_losses(&recipe, &rows, &whole);
    assert_eq!(group.score(&[]), Vec::<Vec<f32>>::new());
}

#[test]
fn rows_that_are_not_finite_have_no_loss_and_their_neighbours_keep_theirs() {
    for activation in [Activation::Relu, Activation::Tanh] {
        let recipe = Recipe::new(&[6, 4, 6], activation, 2);
        let model = recipe.load().unwrap();
        let mut rows = rows(40, 6, 9);
        rows[3][0] = f64::NAN;
        rows[4][1] = f64::INFINITY;
        rows[5][2] = f64::NEG_INFINITY;
        (rows[6][0], rows[6][1]) = (f64::INFINITY, f64::NEG_INFINITY);
        rows[7] = vec![f64::from(f32::MAX); 6];
        let got = Group::plain(&model, 6).score(&[&rows]);
        assert!(got.iter().all(|losses| losses[3..7].iter().all(|loss| loss.is_nan()) && losses[7].is_finite()));
        assert_losses(&recipe, &rows, &got);
    }
}

#[test]
fn offsets_bring_back_what_f32_cannot_hold() {
    let mut recipe = Recipe::new(&[4, 3, 4], Activation::Relu, 5);
    let origin = 1e9;
    for (i, feature) in recipe.features.iter_mut().enumerate() {
        (feature.log1p, feature.center) = (i32::from(i > 1), if i > 1 { 20.0 } else { origin });
    }
    let model = recipe.load().unwrap();
    let near = rows(50, 4, 6);
    let far: Vec<Vec<f64>> = near.iter().map(|row| row.iter().map(|x| x + origin).collect()).collect();
    let group = Group::new(&[(&model, &[0, 1, 2, 3], &[origin; 4])], 4).unwrap();
    assert_losses(&recipe, &far, &group.score(&[&near]));
}

#[test]
fn members_share_columns() {
    let a = Recipe::new(&[3, 2, 3], Activation::Relu, 1);
    let b = Recipe::new(&[4, 2, 4], Activation::Tanh, 2);
    let c = Recipe::new(&[5, 2, 5], Activation::Tanh, 3);
    let (x, y, z) = (a.load().unwrap(), b.load().unwrap(), c.load().unwrap());
    let columns: [&[u32]; 3] = [&[4, 0, 2], &[2, 2, 1, 3], &[0, 1, 2, 3, 4]];
    let offsets: [&[f64]; 3] = [&[0.0, 0.5, 0.0], &[0.0; 4], &[0.25; 5]];
    let members = [(&x, columns[0], offsets[0]), (&y, columns[1], offsets[1]), (&z, columns[2], offsets[2])];
    let group = Group::new(&members, 5).unwrap();
    // Freed before its group: the group keeps what it needs.
    drop((x, y, z));
    let rows = rows(30, 5, 4);
    let got = group.score(&[&rows[..7], &rows[7..]]);
    for (i, recipe) in [a, b, c].iter().enumerate() {
        let pick = |row: &Vec<f64>| columns[i].iter().zip(offsets[i]).map(|(c, o)| row[*c as usize] + o).collect();
        let own: Vec<Vec<f64>> = rows.iter().map(pick).collect();
        assert_losses(recipe, &own, &got[2 * i..2 * i + 2]);
    }
}

#[test]
fn halves_are_near() {
    let mut recipe = Recipe::new(&[8, 16, 4, 16, 8], Activation::Relu, 7);
    let rows = rows(200, 8, 3);
    for dtype in [Dtype::F16, Dtype::Bf16] {
        recipe.dtype = dtype;
        let model = recipe.load().unwrap();
        let got = Group::plain(&model, 8).score(&[&rows]);
        assert_close(&got[0], rows.iter().map(|row| recipe.losses(row).0), 2e-3, 2e-2);
        assert_close(&got[1], rows.iter().map(|row| recipe.losses(row).1), 2e-3, 2e-2);
    }
}

#[test]
fn the_network_alone_gives_its_output() {
    let recipe = Recipe::new(&[5, 3, 5], Activation::Tanh, 8);
    let model = recipe.load().unwrap();
    let prepared = Random(4).floats(5 * 9, 2.0);
    let (mut out, mut width) = (vec![0.0; 5 * 9], 0);
    let mut forward = |out: &mut [f32]| {
        let (to, len) = (out.as_mut_ptr(), out.len());
        check(|f| unsafe { (api().forward)(model.0, prepared.as_ptr(), 9, to, len, &mut width, f) }).map(|()| width)
    };
    assert_eq!(forward(&mut out), Ok(5));
    let doubles: Vec<f64> = prepared.iter().map(|x| f64::from(*x)).collect();
    assert_close(&out, doubles.chunks(5).flat_map(|row| recipe.output(row)), 1e-6, 1e-5);
    let (status, text) = forward(&mut out[1..]).unwrap_err();
    assert_eq!((status, text.as_str()), (Status::Refused, "9 rows of 5 have no room in 44"));
}
