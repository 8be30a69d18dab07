//! Built against version 0.1.0 of the contract (`old-api-1`: 0.1.1), as its makers had it: it must go on loading as it is.

#[cfg(target_arch = "wasm32")]
mod guest {
    #[cfg(not(feature = "0_1_1"))]
    wit_bindgen::generate!({ path: "../../../wit/released/0.1.0.wit", world: "stateful-detector-plugin", generate_all });
    #[cfg(feature = "0_1_1")]
    wit_bindgen::generate!({ path: "../../../wit/released/0.1.1.wit", world: "stateful-detector-plugin", generate_all });

    use exports::kaminari::plugin::{checkpoint, detector, lifecycle};
    use kaminari::plugin::common::{Error, Schema, Window};
    use kaminari::plugin::data::RecordBatch;
    use kaminari::plugin::{clock, logging};

    struct OldApi;

    impl lifecycle::Guest for OldApi {
        fn describe() -> lifecycle::Info {
            lifecycle::Info {
                name: "old-api".into(),
                version: env!("CARGO_PKG_VERSION").into(),
                description: env!("CARGO_PKG_DESCRIPTION").into(),
                config_schema: "{}".into(),
                state_version: 1,
            }
        }
        fn configure(_config: String) -> Result<(), Error> {
            Ok(())
        }
    }

    impl detector::Guest for OldApi {
        fn requires(_input: Schema) -> Result<(), Error> {
            Ok(())
        }
        fn detect(_window: Window, features: &RecordBatch) -> Result<detector::Verdict, Error> {
            let column = features.column("flows").ok_or_else(|| Error::NotFound("flows".into()))?;
            logging::log(logging::Level::Debug, "judges", &[("watermark".into(), clock::watermark().to_string())]);
            let scores = features.f64s(column)?;
            Ok(detector::Verdict { scores, alerts: Vec::new() })
        }
    }

    impl checkpoint::Guest for OldApi {
        fn snapshot() -> Result<Vec<u8>, Error> {
            Ok(b"old".to_vec())
        }
        fn restore(_state_version: u32, bytes: Vec<u8>) -> Result<(), Error> {
            if bytes == b"old" { Ok(()) } else { Err(Error::Other("not mine".into())) }
        }
    }

    export!(OldApi);
}
