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
        $crate::export_detector!($detector, name = env!("CARGO_PKG_NAME"));
    };
    ($detector:ty, name = $name:expr) => {
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            #[allow(dead_code)]
            const USED: fn(<$detector as $crate::Detector>::Config) -> $crate::Result<$detector> =
                <$detector as $crate::Detector>::new;
        };
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::__rt;
            struct Component;
            ::std::thread_local! {
                static DETECTOR: ::std::cell::RefCell<Option<$detector>> = const { ::std::cell::RefCell::new(None) };
            }
            impl __rt::lifecycle::Guest for Component {
                fn describe() -> __rt::lifecycle::Info {
                    let (version, description) = (env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_DESCRIPTION"));
                    __rt::describe::<$detector>($name, version, description)
                }
                fn configure(config: String) -> Result<(), __rt::RawError> {
                    DETECTOR.with(|detector| __rt::configure(detector, &config))
                }
            }
            impl __rt::detector::Guest for Component {
                fn requires(input: __rt::RawSchema) -> Result<(), __rt::RawError> {
                    DETECTOR.with(|detector| __rt::requires(detector, input))
                }
                fn detect(
                    window: __rt::RawWindow,
                    features: &__rt::RecordBatch,
                ) -> Result<__rt::detector::Verdict, __rt::RawError> {
                    DETECTOR.with(|detector| __rt::detect(detector, window, features))
                }
            }
            impl __rt::checkpoint::Guest for Component {
                fn snapshot() -> Result<Vec<u8>, __rt::RawError> {
                    DETECTOR.with(|detector| __rt::snapshot(detector))
                }
                fn restore(state_version: u32, bytes: Vec<u8>) -> Result<(), __rt::RawError> {
                    DETECTOR.with(|detector| __rt::restore(detector, state_version, &bytes))
                }
            }
    $crate::bindings::export_raw!(Component with_types_in $crate::bindings);
        };
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
    pub use guest::*;

    #[cfg(target_arch = "wasm32")]
    mod guest {
        use super::{config_schema, parse_config};
        use crate::bindings::kaminari::plugin::common;
        use crate::{Batch, DataType, Detector, Error, Field, Schema, Severity, Verdict, Window};
        use std::cell::RefCell;

        pub use crate::bindings::exports::kaminari::plugin::{checkpoint, detector, lifecycle};
        pub use crate::bindings::kaminari::plugin::common::{
            Error as RawError, Schema as RawSchema, Window as RawWindow,
        };
        pub use crate::bindings::kaminari::plugin::data::RecordBatch;

        pub fn describe<D: Detector>(name: &str, version: &str, description: &str) -> lifecycle::Info {
            lifecycle::Info {
                name: name.to_owned(),
                version: version.to_owned(),
                description: description.to_owned(),
                config_schema: config_schema::<D::Config>(),
                state_version: D::STATE_VERSION,
            }
        }

        pub fn configure<D: Detector>(slot: &RefCell<Option<D>>, config: &str) -> Result<(), RawError> {
            let new = D::new(parse_config(config)?)?;
            *slot.borrow_mut() = Some(new);
            Ok(())
        }

        pub fn requires<D: Detector>(slot: &RefCell<Option<D>>, input: RawSchema) -> Result<(), RawError> {
            match &*slot.borrow() {
                Some(detector) => Ok(detector.requires(&schema(input))?),
                None => Err(not_configured()),
            }
        }

        pub fn detect<D: Detector>(
            slot: &RefCell<Option<D>>,
            window: RawWindow,
            features: &RecordBatch,
        ) -> Result<detector::Verdict, RawError> {
            let window = Window {
                start_ns: window.start,
                end_ns: window.end,
                revision: window.revision,
                watermark_ns: window.watermark,
                partial: window.partial,
            };
            match &mut *slot.borrow_mut() {
                Some(detector) => Ok(verdict(detector.detect(&window, &Batch::from_host(features))?)),
                None => Err(not_configured()),
            }
        }

        pub fn snapshot<D: Detector>(slot: &RefCell<Option<D>>) -> Result<Vec<u8>, RawError> {
            match &*slot.borrow() {
                Some(detector) => Ok(detector.snapshot()?),
                None => Err(not_configured()),
            }
        }

        pub fn restore<D: Detector>(slot: &RefCell<Option<D>>, version: u32, bytes: &[u8]) -> Result<(), RawError> {
            match &mut *slot.borrow_mut() {
                Some(detector) => Ok(detector.restore(version, bytes)?),
                None => Err(not_configured()),
            }
        }

        fn not_configured() -> RawError {
            RawError::Other("called before `configure`".into())
        }

        fn verdict(verdict: Verdict) -> detector::Verdict {
            let alerts = verdict.alerts.into_iter().map(|a| detector::Alert {
                row: a.row,
                kind: a.kind,
                severity: match a.severity {
                    Severity::Info => detector::Severity::Info,
                    Severity::Low => detector::Severity::Low,
                    Severity::Medium => detector::Severity::Medium,
                    Severity::High => detector::Severity::High,
                    Severity::Critical => detector::Severity::Critical,
                },
                score: a.score,
                threshold: a.threshold,
                message: a.message,
                contributions: a.contributions.into_iter().map(contribution).collect(),
                attributes: a.attributes,
            });
            detector::Verdict { alerts: alerts.collect(), scores: verdict.scores }
        }

        fn contribution(c: crate::Contribution) -> detector::Contribution {
            detector::Contribution { column: c.column, weight: c.weight, observed: c.observed, expected: c.expected }
        }

        pub fn schema(raw: RawSchema) -> Schema {
            let fields = raw.fields.into_iter().map(|f| Field {
                name: f.name,
                nullable: f.nullable,
                ty: match f.ty {
                    common::DataType::Boolean => DataType::Boolean,
                    common::DataType::Int64 => DataType::Int64,
                    common::DataType::Uint64 => DataType::Uint64,
                    common::DataType::Float64 => DataType::Float64,
                    common::DataType::Utf8 => DataType::Utf8,
                    common::DataType::Binary => DataType::Binary,
                    common::DataType::Ip => DataType::Ip,
                    common::DataType::TimestampNs => DataType::TimestampNs,
                },
            });
            Schema { fields: fields.collect() }
        }

        impl From<Error> for RawError {
            fn from(e: Error) -> Self {
                match e {
                    Error::Config { path, message } => RawError::Config(common::ConfigError { path, message }),
                    Error::Schema(m) => RawError::Schema(m),
                    Error::Denied(m) => RawError::Denied(m),
                    Error::NotFound(m) => RawError::NotFound(m),
                    Error::Quota(m) => RawError::Quota(m),
                    Error::Retry(m) => RawError::Retry(m),
                    Error::Other(m) => RawError::Other(m),
                }
            }
        }

        impl From<RawError> for Error {
            fn from(e: RawError) -> Self {
                match e {
                    RawError::Config(c) => Error::Config { path: c.path, message: c.message },
                    RawError::Schema(m) => Error::Schema(m),
                    RawError::Denied(m) => Error::Denied(m),
                    RawError::NotFound(m) => Error::NotFound(m),
                    RawError::Quota(m) => Error::Quota(m),
                    RawError::Retry(m) => Error::Retry(m),
                    RawError::Other(m) => Error::Other(m),
                }
            }
        }
    }
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
