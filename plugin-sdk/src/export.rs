/// Makes structs and enums readable as a plugin's configuration: derives `Deserialize` and `JsonSchema` through the
/// SDK, so that the plugin needs no dependency of its own, and makes unknown keys errors.
///
/// ```
/// kaminari_plugin_sdk::config! {
///     /// Fields take the attributes of serde.
///     pub struct Config { feature: String, #[serde(default)] quiet: bool }
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! config {
    ($($item:item)*) => {$(
        #[derive($crate::serde::Deserialize, $crate::schemars::JsonSchema)]
        #[serde(crate = "kaminari_plugin_sdk::serde", deny_unknown_fields)]
        #[schemars(crate = "kaminari_plugin_sdk::schemars")]
        $item
    )*};
}

/// Makes a [`crate::Detector`] the plugin of this crate.
///
/// Name, version and description are the crate's own, unless `name = "..."` says another name. Natively it exports
/// nothing, so that `cargo test` links; it only uses the type, so that a private one is not called dead code.
#[macro_export]
macro_rules! export_detector {
    ($detector:ty) => {
        $crate::export_plugin!(name = env!("CARGO_PKG_NAME"), detector = $detector);
    };
    ($detector:ty, name = $name:expr) => {
        $crate::export_plugin!(name = $name, detector = $detector);
    };
}

/// Makes a [`crate::Source`] the plugin of this crate; see [`export_detector!`].
#[macro_export]
macro_rules! export_source {
    ($source:ty) => {
        $crate::export_plugin!(name = env!("CARGO_PKG_NAME"), source = $source);
    };
}

/// Makes a [`crate::Extractor`] the plugin of this crate; see [`export_detector!`].
#[macro_export]
macro_rules! export_extractor {
    ($extractor:ty) => {
        $crate::export_plugin!(name = env!("CARGO_PKG_NAME"), extractor = $extractor);
    };
}

/// Makes a plugin of one or several roles: `export_plugin!(name = "x", source = A, extractor = B, detector = C)`.
///
/// Each use of the plugin has an instance and a configuration of its own, that of the role it has there. A role whose
/// configuration does not fit says why when it is asked, which the host does before anything runs.
#[macro_export]
macro_rules! export_plugin {
    (name = $name:expr, $($role:ident = $part:ty),+ $(,)?) => {
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            $($crate::export_plugin!(@used $role $part);)+
        };
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::__rt;
            struct Component;
            $($crate::export_plugin!(@slot $role $part);)+
            impl __rt::lifecycle::Guest for Component {
                fn describe() -> __rt::lifecycle::Info {
                    let (version, description) = (env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_DESCRIPTION"));
                    let parts = [$($crate::export_plugin!(@with $role, __rt::about)),+];
                    __rt::describe($name, version, description, &parts)
                }
                fn configure(config: String) -> Result<(), __rt::RawError> {
                    let made = [$($crate::export_plugin!(@with $role, |slot| __rt::configure(slot, &config))),+];
                    __rt::configured(made)
                }
            }
            impl __rt::checkpoint::Guest for Component {
                fn snapshot() -> Result<Vec<u8>, __rt::RawError> {
                    __rt::joined(vec![$($crate::export_plugin!(@with $role, __rt::snapshot)),+])
                }
                fn restore(state_version: u32, bytes: Vec<u8>) -> Result<(), __rt::RawError> {
                    let parts = [$(stringify!($role)),+].len();
                    let mut saved = __rt::parted(parts, state_version, bytes)?.into_iter();
                    $($crate::export_plugin!(@with $role, |slot| __rt::restore(slot, saved.next()))?;)+
                    Ok(())
                }
            }
            impl __rt::migration::Guest for Component {
                fn migrate(from_version: u32, bytes: Vec<u8>) -> Result<Vec<u8>, __rt::RawError> {
                    let parts = [$(stringify!($role)),+].len();
                    let mut saved = __rt::parted(parts, from_version, bytes)?.into_iter();
                    let parts = vec![$($crate::export_plugin!(@with $role, |slot| __rt::migrate(slot, saved.next()))),+];
                    __rt::migrated(from_version, parts)
                }
            }
            $crate::bindings::export_base!(Component with_types_in $crate::bindings);
        };
    };
    (@used detector $part:ty) => {
        #[allow(dead_code)]
        const USED_DETECTOR: fn(<$part as $crate::Detector>::Config) -> $crate::Result<$part> =
            <$part as $crate::Detector>::new;
    };
    (@used source $part:ty) => {
        #[allow(dead_code)]
        const USED_SOURCE: fn(<$part as $crate::Source>::Config) -> $crate::Result<$part> =
            <$part as $crate::Source>::new;
    };
    (@used extractor $part:ty) => {
        #[allow(dead_code)]
        const USED_EXTRACTOR: fn(<$part as $crate::Extractor>::Config) -> $crate::Result<$part> =
            <$part as $crate::Extractor>::new;
    };
    (@with detector, $f:expr) => { DETECTOR.with($f) };
    (@with source, $f:expr) => { SOURCE.with($f) };
    (@with extractor, $f:expr) => { EXTRACTOR.with($f) };
    (@slot detector $part:ty) => {
        ::std::thread_local! {
            static DETECTOR: __rt::Slot<__rt::AsDetector<$part>> = const { ::std::cell::RefCell::new(None) };
        }
        impl __rt::detector::Guest for Component {
            fn requires(input: __rt::RawSchema) -> Result<(), __rt::RawError> {
                DETECTOR.with(|slot| __rt::requires(slot, input))
            }
            fn detect(
                window: __rt::RawWindow,
                features: &__rt::RecordBatch,
            ) -> Result<__rt::detector::Verdict, __rt::RawError> {
                DETECTOR.with(|slot| __rt::detect(slot, window, features))
            }
        }
        $crate::bindings::detector::export_detector_part!(Component with_types_in $crate::bindings::detector);
    };
    (@slot source $part:ty) => {
        ::std::thread_local! {
            static SOURCE: __rt::Slot<__rt::AsSource<$part>> = const { ::std::cell::RefCell::new(None) };
        }
        impl __rt::source_decoder::Guest for Component {
            fn output_schema() -> Result<__rt::RawSchema, __rt::RawError> {
                SOURCE.with(__rt::source_schema)
            }
            fn time_column() -> String {
                SOURCE.with(__rt::time_column)
            }
            fn decode(input: __rt::source_decoder::Frames) -> Result<__rt::source_decoder::Decoded, __rt::RawError> {
                SOURCE.with(|slot| __rt::decode(slot, input))
            }
        }
        $crate::bindings::source::export_source_part!(Component with_types_in $crate::bindings::source);
    };
    (@slot extractor $part:ty) => {
        ::std::thread_local! {
            static EXTRACTOR: __rt::Slot<__rt::AsExtractor<$part>> = const { ::std::cell::RefCell::new(None) };
        }
        impl __rt::feature_extractor::Guest for Component {
            fn output_schema(input: __rt::RawSchema) -> Result<__rt::RawSchema, __rt::RawError> {
                EXTRACTOR.with(|slot| __rt::feature_schema(slot, input))
            }
            fn extract(
                window: __rt::RawWindow,
                rows: &__rt::RecordBatch,
            ) -> Result<__rt::RecordBatch, __rt::RawError> {
                EXTRACTOR.with(|slot| __rt::extract(slot, window, rows))
            }
        }
        $crate::bindings::extractor::export_extractor_part!(Component with_types_in $crate::bindings::extractor);
    };
}

/// What the macro expands to; not for authors.
#[doc(hidden)]
#[allow(missing_docs)]
pub mod __rt {
    use crate::error::{Error, Result};
    use schemars::JsonSchema;
    use serde::de::DeserializeOwned;

    /// Reads a configuration; the error carries the path to the place.
    pub fn parse_config<C: DeserializeOwned>(json: &str) -> Result<C> {
        let mut de = serde_json::Deserializer::from_str(json);
        serde_path_to_error::deserialize(&mut de).map_err(|e| {
            let path = e.path().to_string();
            let message = e.inner().to_string();
            // serde_json tells the place in the text, which no operator ever saw: he wrote TOML.
            let message = message.split(" at line ").next().unwrap_or_default().to_owned();
            Error::Config { path: if path == "." { String::new() } else { path }, message }
        })
    }

    pub fn config_schema<C: JsonSchema>() -> String {
        schemars::schema_for!(C).as_value().to_string()
    }

    #[cfg(target_arch = "wasm32")]
    pub use super::super::guest::*;
}

#[cfg(test)]
mod tests {
    use super::__rt::parse_config;

    #[derive(serde::Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[allow(dead_code)]
        limits: Vec<Limit>,
    }

    #[derive(serde::Deserialize, Debug)]
    struct Limit {
        #[allow(dead_code)]
        above: f64,
    }

    #[test]
    fn a_wrong_type_is_found_by_its_path() {
        let err = parse_config::<Config>(r#"{"limits": [{"above": "x"}]}"#).unwrap_err();
        assert_eq!(err.to_string(), "`limits[0].above`: invalid type: string \"x\", expected f64");
        let err = parse_config::<Config>(r#"{"limit": []}"#).unwrap_err();
        assert_eq!(err.to_string(), "`limit`: unknown field `limit`, expected `limits`");
    }
}
