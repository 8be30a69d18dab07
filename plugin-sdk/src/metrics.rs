//! Metrics of the plugin's own. The host exports them as `kaminari_plugin_custom_NAME`, with the labels `plugin` and
//! `pipeline` besides those given here. The operator grants them, `metrics_series = N` in the plugin's table. Natively: they
//! are kept for [`crate::testing::take_metrics`].

use crate::error::Result;

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($value:ty);)*) => {$(
        $(#[$doc])*
        pub fn $name(name: &str, labels: &[(&str, &str)], value: $value) -> Result<()> {
            #[cfg(target_arch = "wasm32")]
            {
                let labels: Vec<_> = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
                Ok(crate::bindings::kaminari::plugin::metrics::$name(name, &labels, value)?)
            }
            #[cfg(not(target_arch = "wasm32"))]
            {
                crate::testing::record_metric(stringify!($name), name, labels, value as f64);
                Ok(())
            }
        }
    )*};
}

calls! {
    /// Adds to a counter. [`crate::Error::Denied`]: not granted; [`crate::Error::Quota`]: a series too many.
    add(u64);
    /// Sets a gauge.
    set(f64);
    /// One value of a distribution.
    observe(f64);
}
