//! Stream time. There is no wall clock in a plugin, so a replay repeats a live run exactly.

/// Watermark of the window being judged, ns since the Unix epoch. Natively: what `testing` last ran with.
pub fn watermark() -> u64 {
    #[cfg(target_arch = "wasm32")]
    return crate::bindings::kaminari::plugin::clock::watermark();
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::watermark()
}
