//! The interface `data`, linked by hand instead of by bindgen: its getters would have to return vectors of their own;
//! these lower Arrow's buffers straight into the guest's memory, one copy in all.

use super::batch::Batch;
use super::bindings::kaminari::plugin::common::{BytesColumn, Error, Schema};
use super::builder::Builder;
use super::instance::State;
use arrow_buffer::{ArrowNativeType, Buffer, ScalarBuffer};
use std::mem::MaybeUninit;
use wasmtime::StoreContextMut;
use wasmtime::component::__internal::{CanonicalAbiInfo, InstanceType, InterfaceType, LowerContext};
use wasmtime::component::{ComponentType, Linker, Lower, Resource, ResourceType};

/// Name of the interface.
const INTERFACE: &str = "kaminari:plugin/data@0.1.2";

/// A list lowered from Arrow's memory.
struct List<T: ArrowNativeType>(ScalarBuffer<T>);

// SAFETY: everything is forwarded to the slice, as wasmtime itself does for `Vec<T>` and `Arc<[T]>`. Its methods are
// not a stable interface: an update of wasmtime may ask for a change here, and says so at compile time.
unsafe impl<T: ArrowNativeType + ComponentType> ComponentType for List<T> {
    type Lower = <[T] as ComponentType>::Lower;
    const ABI: CanonicalAbiInfo = <[T] as ComponentType>::ABI;
    const MAY_REQUIRE_REALLOC: bool = <[T] as ComponentType>::MAY_REQUIRE_REALLOC;

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> wasmtime::Result<()> {
        <[T] as ComponentType>::typecheck(ty, types)
    }
}

// SAFETY: as above.
unsafe impl<T: ArrowNativeType + Lower> Lower for List<T> {
    fn linear_lower_to_flat<U>(
        &self,
        cx: &mut LowerContext<'_, U>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<Self::Lower>,
    ) -> wasmtime::Result<()> {
        <[T] as Lower>::linear_lower_to_flat(&self.0, cx, ty, dst)
    }

    fn linear_lower_to_memory<U>(
        &self,
        cx: &mut LowerContext<'_, U>,
        ty: InterfaceType,
        offset: usize,
    ) -> wasmtime::Result<()> {
        <[T] as Lower>::linear_lower_to_memory(&self.0, cx, ty, offset)
    }
}

/// `bytes-column`, lowered from Arrow's memory.
#[derive(ComponentType, Lower)]
#[component(record)]
struct BytesOut {
    ends: List<u32>,
    data: List<u8>,
}

impl BytesOut {
    fn new((ends, data): (ScalarBuffer<u32>, Buffer)) -> Self {
        Self { ends: List(ends), data: List(data.into()) }
    }
}

type Cx<'a> = StoreContextMut<'a, State>;
type Rb = Resource<Batch>;
type Bb = Resource<Builder>;
type Answer<T> = wasmtime::Result<(Result<T, Error>,)>;

/// Adds the interface to a linker.
pub fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut data = linker.instance(INTERFACE)?;
    data.resource("record-batch", ResourceType::host::<Batch>(), |mut cx: Cx, rep| {
        cx.data_mut().table.delete(Rb::new_own(rep)).map(drop).map_err(Into::into)
    })?;
    data.resource("batch-builder", ResourceType::host::<Builder>(), |mut cx: Cx, rep| {
        cx.data_mut().table.delete(Bb::new_own(rep)).map(drop).map_err(Into::into)
    })?;

    // Plain looks.
    data.func_wrap("[method]record-batch.num-rows", |cx: Cx, (b,): (Rb,)| {
        Ok((cx.data().table.get(&b)?.batch.num_rows() as u32,))
    })?;
    data.func_wrap("[method]record-batch.schema", |cx: Cx, (b,): (Rb,)| Ok((cx.data().table.get(&b)?.schema(),)))?;
    data.func_wrap("[method]record-batch.column", |cx: Cx, (b, name): (Rb, String)| {
        let found = cx.data().table.get(&b)?.batch.schema_ref().index_of(&name).ok();
        Ok((found.map(|i| i as u32),))
    })?;

    // Columns.
    data.func_wrap("[method]record-batch.f64s", |cx: Cx, (b, c): (Rb, u32)| -> Answer<List<f64>> {
        Ok((cx.data().table.get(&b)?.f64s(c).map(List),))
    })?;
    data.func_wrap("[method]record-batch.u64s", |cx: Cx, (b, c): (Rb, u32)| -> Answer<List<u64>> {
        Ok((cx.data().table.get(&b)?.u64s(c).map(List),))
    })?;
    data.func_wrap("[method]record-batch.s64s", |cx: Cx, (b, c): (Rb, u32)| -> Answer<List<i64>> {
        Ok((cx.data().table.get(&b)?.s64s(c).map(List),))
    })?;
    data.func_wrap("[method]record-batch.bytes", |cx: Cx, (b, c): (Rb, u32)| -> Answer<BytesOut> {
        Ok((cx.data().table.get(&b)?.bytes(c).map(BytesOut::new),))
    })?;
    data.func_wrap("[method]record-batch.validity", |cx: Cx, (b, c): (Rb, u32)| {
        Ok((cx.data().table.get(&b)?.validity(c),))
    })?;
    data.func_wrap("[method]record-batch.block-f64", |cx: Cx, (b, cs): (Rb, Vec<u32>)| -> Answer<Vec<f64>> {
        Ok((cx.data().table.get(&b)?.block_f64(&cs, cx.data().limiter.cap()),))
    })?;

    // Other batches.
    data.func_wrap("[method]record-batch.slice", |mut cx: Cx, (b, offset, length): (Rb, u32, u32)| {
        let slice = cx.data().table.get(&b)?.slice(offset, length);
        Ok((cx.data_mut().table.push(slice)?,))
    })?;
    data.func_wrap("[method]record-batch.select", |mut cx: Cx, (b, cs): (Rb, Vec<u32>)| -> Answer<Rb> {
        let selected = cx.data().table.get(&b)?.select(&cs);
        own(&mut cx, selected)
    })?;
    data.func_wrap("[method]record-batch.take", |mut cx: Cx, (b, rows): (Rb, Vec<u32>)| -> Answer<Rb> {
        let state = cx.data();
        let taken = state.table.get(&b)?.take(&rows, &state.account);
        own(&mut cx, taken)
    })?;
    data.func_wrap("[method]record-batch.to-ipc", |cx: Cx, (b,): (Rb,)| -> Answer<Vec<u8>> {
        Ok((cx.data().table.get(&b)?.to_ipc(cx.data().limiter.cap()),))
    })?;
    data.func_wrap("[static]record-batch.from-ipc", |mut cx: Cx, (bytes,): (Vec<u8>,)| -> Answer<Rb> {
        let read = Batch::from_ipc(&bytes, &cx.data().account);
        own(&mut cx, read)
    })?;

    // Building.
    data.func_wrap("[constructor]batch-builder", |mut cx: Cx, (schema,): (Schema,)| {
        let builder = Builder::new(schema, &cx.data().account);
        Ok((cx.data_mut().table.push(builder)?,))
    })?;
    data.func_wrap("[method]batch-builder.put-f64s", |mut cx: Cx, (b, c, v): (Bb, u32, Vec<f64>)| -> Answer<()> {
        Ok((cx.data_mut().table.get_mut(&b)?.put_f64s(c, v),))
    })?;
    data.func_wrap("[method]batch-builder.put-u64s", |mut cx: Cx, (b, c, v): (Bb, u32, Vec<u64>)| -> Answer<()> {
        Ok((cx.data_mut().table.get_mut(&b)?.put_u64s(c, v),))
    })?;
    data.func_wrap("[method]batch-builder.put-s64s", |mut cx: Cx, (b, c, v): (Bb, u32, Vec<i64>)| -> Answer<()> {
        Ok((cx.data_mut().table.get_mut(&b)?.put_s64s(c, v),))
    })?;
    data.func_wrap("[method]batch-builder.put-bytes", |mut cx: Cx, (b, c, v): (Bb, u32, BytesColumn)| -> Answer<()> {
        Ok((cx.data_mut().table.get_mut(&b)?.put_bytes(c, v),))
    })?;
    data.func_wrap("[method]batch-builder.put-validity", |mut cx: Cx, (b, c, v): (Bb, u32, Vec<u8>)| -> Answer<()> {
        Ok((cx.data_mut().table.get_mut(&b)?.put_validity(c, v),))
    })?;
    data.func_wrap(
        "[method]batch-builder.put-column",
        |mut cx: Cx, (b, c, source, sc): (Bb, u32, Rb, u32)| -> Answer<()> {
            // A shared view, so that the table is free for the builder.
            let source = cx.data().table.get(&source)?.slice(0, u32::MAX);
            Ok((cx.data_mut().table.get_mut(&b)?.put_column(c, &source, sc),))
        },
    )?;
    data.func_wrap("[static]batch-builder.finish", |mut cx: Cx, (b,): (Bb,)| -> Answer<Rb> {
        let built = cx.data_mut().table.delete(b)?.finish();
        own(&mut cx, built)
    })?;
    Ok(())
}

fn own(cx: &mut Cx, batch: Result<Batch, Error>) -> Answer<Rb> {
    Ok((match batch {
        Ok(batch) => Ok(cx.data_mut().table.push(batch)?),
        Err(e) => Err(e),
    },))
}
