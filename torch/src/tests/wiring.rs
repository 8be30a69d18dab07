//! The table itself, and what is refused.

use super::*;

#[test]
fn the_table_says_what_it_is() {
    let api = api();
    assert_eq!((api.abi, api.size as usize), (kaminari_torch_abi::ABI_VERSION, size_of::<Api>()));
    assert_eq!(unsafe { std::ffi::CStr::from_ptr(api.built_for) }, c"2.11.0");
}

#[test]
fn a_device_that_is_not_there_is_lost() {
    let mut count = -1;
    check(|f| unsafe { (api().cuda_devices)(&mut count, f) }).unwrap();
    assert!(count >= 0);
    let recipe = Recipe::new(&[2, 1, 2], Activation::Relu, 1);
    let mut buffer = Buffer { handle: null_mut(), floats: null_mut() };
    let refused = |device: i32| {
        let model = recipe.load_on(device).err().unwrap();
        assert_eq!(check(|f| unsafe { (api().buffer_new)(device, 8, &mut buffer, f) }).unwrap_err(), model);
        model
    };
    assert_eq!(
        [count, -2].map(refused),
        [count, -2].map(|device| { (Status::DeviceLost, format!("there is no CUDA device {device} ({count} found)")) })
    );
}

#[test]
fn networks_that_do_not_fit_together_are_refused() {
    let sound = Recipe::new(&[3, 2, 3], Activation::Relu, 1);
    let text = |change: &dyn Fn(&mut Recipe)| {
        let mut recipe = sound.clone();
        change(&mut recipe);
        let (status, text) = recipe.load().err().unwrap();
        assert_eq!(status, Status::Refused);
        text
    };
    assert_eq!(text(&|r| _ = r.params.pop()), "layers of [3, 2, 3] have 17 parameters, not 16");
    assert_eq!(text(&|r| _ = r.features.pop()), "a network of 3 inputs cannot take 2 features");
    assert_eq!(text(&|r| r.features.clear()), "a model without features");
    assert_eq!(text(&|r| r.code = 2), "layers of [3, 2, 3] with the code at 2 are no autoencoder");
    assert_eq!(text(&|r| r.dims[2] = 4), "layers of [3, 2, 4] with the code at 0 are no autoencoder");
}

#[test]
fn groups_and_scores_without_room_are_refused() {
    let model = Recipe::new(&[3, 2, 3], Activation::Relu, 1).load().unwrap();
    let refused = |result: Result<(), (Status, String)>, text: &str| {
        assert_eq!(result.unwrap_err(), (Status::Refused, text.to_owned()));
    };
    let group = Group::new(&[(&model, &[0, 1, 3], &[0.0; 3])], 3);
    refused(group.map(drop), "there is no column 3 among 3");
    refused(Group::new(&[], 3).map(drop), "a group of no models");
    let (group, buffer) = (Group::plain(&model, 3), Floats::new(30));
    refused(group.run(&buffer, &[5, 6], &mut [0.0; 22]), "the buffer holds 30 floats, not 33");
    refused(group.run(&buffer, &[4, 6], &mut [0.0; 19]), "20 losses have no room in 19");
    group.run(&buffer, &[4, 6], &mut [0.0; 20]).unwrap();
    let transfer = |floats, back| check(|f| unsafe { (api().transfer)(buffer.0.handle, floats, back, f) });
    refused(transfer(31, 1), "the buffer holds 30 floats, not 31");
    refused(transfer(3, 4), "of 3 floats 4 cannot come back");
    for (floats, back) in [(30, 30), (30, 0), (0, 0)] {
        transfer(floats, back).unwrap();
    }
}
