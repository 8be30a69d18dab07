//! Plugins must not wait. An epoch does not interrupt the host's own functions, so a plugin that sleeps would hold its
//! thread for as long as it likes: WASI's two ways to wait are traps.

use super::instance::State;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::sync::io::poll;

struct NoWaiting<'a>(&'a mut ResourceTable);

struct HasNoWaiting;

impl HasData for HasNoWaiting {
    type Data<'a> = NoWaiting<'a>;
}

/// Takes the place of WASI's own `poll`, which must be in the linker already.
pub fn forbid(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    poll::add_to_linker::<_, HasNoWaiting>(linker, |state| NoWaiting(&mut state.table))?;
    linker.allow_shadowing(false);
    Ok(())
}

fn refused() -> wasmtime::Error {
    wasmtime::Error::msg("plugins must not sleep or wait")
}

impl poll::Host for NoWaiting<'_> {
    fn poll(&mut self, _: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        Err(refused())
    }
}

impl poll::HostPollable for NoWaiting<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        poll::HostPollable::ready(self.0, pollable)
    }

    fn block(&mut self, _: Resource<DynPollable>) -> wasmtime::Result<()> {
        Err(refused())
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(self.0, pollable)
    }
}
