//! The table of functions and its entry point: C types in, our own out, and back.

use crate::device::{self, Buffer};
use crate::fault::{Fault, call};
use crate::group::Group;
use crate::model::Model;
use crate::network::Shape;
use crate::trainer::{Rows, Trainer};
use kaminari_torch_abi as abi;
use kaminari_torch_abi::{ABI_VERSION, Api, Failure, Member, ModelSpec, Status, TrainSpec};
use std::ffi::c_void;
use std::slice::{from_raw_parts, from_raw_parts_mut};
use std::sync::Arc;

static TABLE: Api = Api {
    abi: ABI_VERSION,
    size: size_of::<Api>() as u32,
    built_for: c"2.11.0".as_ptr(),
    start,
    cuda_devices,
    buffer_new,
    buffer_free,
    model_new,
    model_free,
    forward,
    group_new,
    group_free,
    score,
    transfer,
    trainer_new,
    trainer_free,
    trainer_epoch,
    trainer_validate,
    trainer_params,
};

/// The entry point, [`kaminari_torch_abi::SYMBOL`].
#[unsafe(no_mangle)]
pub extern "C" fn kaminari_torch_api() -> *const Api {
    &raw const TABLE
}

// SAFETY, of every function here: the engine keeps to the conventions of `kaminari-torch-abi`: pointers are valid for as
// much as is said, handles are those that were given out, of the right kind and not freed, and what is one thread's at a
// time is.

unsafe extern "C" fn start(threads: i32, failure: *mut Failure) -> Status {
    call(unsafe { &mut *failure }, || device::start(threads))
}

unsafe extern "C" fn cuda_devices(count: *mut i32, failure: *mut Failure) -> Status {
    let body = || {
        unsafe { count.write(device::count()) };
        Ok(())
    };
    call(unsafe { &mut *failure }, body)
}

unsafe extern "C" fn buffer_new(device: i32, floats: usize, buffer: *mut abi::Buffer, failure: *mut Failure) -> Status {
    let body = || {
        let own = Box::new(Buffer::new(device::find(device)?, floats)?);
        let floats = own.start();
        unsafe { buffer.write(abi::Buffer { handle: Box::into_raw(own).cast(), floats }) };
        Ok(())
    };
    call(unsafe { &mut *failure }, body)
}

unsafe extern "C" fn buffer_free(buffer: *mut c_void) {
    drop_quietly(|| drop(unsafe { Box::from_raw(buffer.cast::<Buffer>()) }));
}

unsafe extern "C" fn model_new(spec: *const ModelSpec, model: *mut *mut c_void, failure: *mut Failure) -> Status {
    let body = || {
        let own = unsafe { Model::new(&*spec)? };
        unsafe { model.write(Arc::into_raw(Arc::new(own)).cast_mut().cast()) };
        Ok(())
    };
    call(unsafe { &mut *failure }, body)
}

unsafe extern "C" fn model_free(model: *mut c_void) {
    drop_quietly(|| drop(unsafe { Arc::from_raw(model.cast_const().cast::<Model>()) }));
}

unsafe extern "C" fn forward(
    model: *mut c_void,
    prepared: *const f32,
    rows: usize,
    out: *mut f32,
    out_len: usize,
    width: *mut usize,
    failure: *mut Failure,
) -> Status {
    let body = || {
        let model = unsafe { &*model.cast_const().cast::<Model>() };
        let features = model.features().len();
        let prepared = unsafe { from_raw_parts(prepared, rows * features) };
        let prepared = device::upload(prepared, &[device::length(rows)?, -1], tch::Device::Cpu)?;
        let (output, got) = model.forward(&prepared)?;
        if rows * got > out_len {
            return Err(Fault::refused(format!("{rows} rows of {got} have no room in {out_len}")));
        }
        output.f_copy_data(unsafe { from_raw_parts_mut(out, out_len) }, rows * got)?;
        unsafe { width.write(got) };
        Ok(())
    };
    call(unsafe { &mut *failure }, body)
}

unsafe extern "C" fn group_new(
    members: *const Member,
    members_len: usize,
    columns: usize,
    group: *mut *mut c_void,
    failure: *mut Failure,
) -> Status {
    let body = || {
        let member = |member: &Member| {
            let model = member.model.cast_const().cast::<Model>();
            unsafe {
                // One owner more: the group keeps it alive, whatever the order of freeing.
                Arc::increment_strong_count(model);
                let model = Arc::from_raw(model);
                let features = model.features().len();
                (model, from_raw_parts(member.columns, features), from_raw_parts(member.offsets, features))
            }
        };
        let members = unsafe { from_raw_parts(members, members_len) }.iter().map(member).collect();
        let own = Box::new(Group::new(members, columns)?);
        unsafe { group.write(Box::into_raw(own).cast()) };
        Ok(())
    };
    call(unsafe { &mut *failure }, body)
}

unsafe extern "C" fn group_free(group: *mut c_void) {
    drop_quietly(|| drop(unsafe { Box::from_raw(group.cast::<Group>()) }));
}

unsafe extern "C" fn score(
    group: *mut c_void,
    buffer: *mut c_void,
    part_rows: *const usize,
    parts: usize,
    losses: *mut f32,
    losses_len: usize,
    failure: *mut Failure,
) -> Status {
    let body = || {
        let (group, buffer) = unsafe { (&*group.cast::<Group>(), &mut *buffer.cast::<Buffer>()) };
        let (parts, losses) = unsafe { (from_raw_parts(part_rows, parts), from_raw_parts_mut(losses, losses_len)) };
        group.score(buffer, parts, losses)
    };
    call(unsafe { &mut *failure }, body)
}

unsafe extern "C" fn transfer(buffer: *mut c_void, floats: usize, back: usize, failure: *mut Failure) -> Status {
    call(unsafe { &mut *failure }, || unsafe { &mut *buffer.cast::<Buffer>() }.transfer(floats, back))
}

unsafe extern "C" fn trainer_new(spec: *const TrainSpec, trainer: *mut *mut c_void, failure: *mut Failure) -> Status {
    let body = || {
        let spec = unsafe { &*spec };
        let device = device::find(spec.device)?;
        let (shape, first) = unsafe { Shape::read(&*spec.mlp)? };
        let width = shape.width() as usize;
        let rows = unsafe {
            Rows {
                training: from_raw_parts(spec.training, spec.training_rows * width),
                validation: from_raw_parts(spec.validation, spec.validation_rows * width),
            }
        };
        let own = Box::new(Trainer::new(device, shape, first, &rows, spec.kl_weight, spec.seed)?);
        unsafe { trainer.write(Box::into_raw(own).cast()) };
        Ok(())
    };
    call(unsafe { &mut *failure }, body)
}

unsafe extern "C" fn trainer_free(trainer: *mut c_void) {
    drop_quietly(|| drop(unsafe { Box::from_raw(trainer.cast::<Trainer>()) }));
}

unsafe extern "C" fn trainer_epoch(
    trainer: *mut c_void,
    order: *const u32,
    rows: usize,
    batch: usize,
    rates: *const f32,
    rates_len: usize,
    squares: *mut f64,
    failure: *mut Failure,
) -> Status {
    let body = || {
        let trainer = unsafe { &mut *trainer.cast::<Trainer>() };
        let (order, rates) = unsafe { (from_raw_parts(order, rows), from_raw_parts(rates, rates_len)) };
        let sum = trainer.epoch(order, batch, rates)?;
        unsafe { squares.write(sum) };
        Ok(())
    };
    call(unsafe { &mut *failure }, body)
}

unsafe extern "C" fn trainer_validate(trainer: *mut c_void, loss: *mut f64, failure: *mut Failure) -> Status {
    let body = || {
        let mean = unsafe { &*trainer.cast::<Trainer>() }.validate()?;
        unsafe { loss.write(mean) };
        Ok(())
    };
    call(unsafe { &mut *failure }, body)
}

unsafe extern "C" fn trainer_params(
    trainer: *mut c_void,
    params: *mut f32,
    params_len: usize,
    failure: *mut Failure,
) -> Status {
    let body = || {
        let out = unsafe { from_raw_parts_mut(params, params_len) };
        unsafe { &*trainer.cast::<Trainer>() }.params(out)
    };
    call(unsafe { &mut *failure }, body)
}

/// A device that is lost makes freeing fail, and there is nobody to tell.
fn drop_quietly(body: impl FnOnce()) {
    call(&mut Failure::new(), || {
        body();
        Ok(())
    });
}
