//! Built against version 0.2.0 of the contract, which does not exist.

#[cfg(target_arch = "wasm32")]
mod guest {
    wit_bindgen::generate!({ path: "wit", world: "detector-plugin", generate_all });

    use exports::kaminari::plugin::{detector, lifecycle};
    use kaminari::plugin::common::{Error, Schema, Window};
    use kaminari::plugin::data::RecordBatch;

    struct BadVersion;

    impl lifecycle::Guest for BadVersion {
        fn describe() -> lifecycle::Info {
            lifecycle::Info {
                name: "bad-version".into(),
                version: env!("CARGO_PKG_VERSION").into(),
                description: env!("CARGO_PKG_DESCRIPTION").into(),
                config_schema: "{}".into(),
                state_version: 0,
            }
        }
        fn configure(_config: String) -> Result<(), Error> {
            Ok(())
        }
    }

    impl detector::Guest for BadVersion {
        fn requires(_input: Schema) -> Result<(), Error> {
            Ok(())
        }
        fn detect(_window: Window, features: &RecordBatch) -> Result<detector::Verdict, Error> {
            Ok(detector::Verdict { scores: vec![0.0; features.num_rows() as usize], alerts: Vec::new() })
        }
    }

    export!(BadVersion);
}
