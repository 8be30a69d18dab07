//! What the SDK would not let a plugin do: with what it says of itself, and with handles and builders. What it does in `detect`
//! is its configuration; what in `describe`, the test writes over [`TOLD`] in the built file.

#[cfg(target_arch = "wasm32")]
mod guest {
    wit_bindgen::generate!({ path: "../../../wit", world: "everything", generate_all });

    use exports::kaminari::plugin::{checkpoint, detector, feature_extractor, lifecycle, source_decoder};
    use kaminari::plugin::common::{BytesColumn, DataType, Error, Field, Schema, Window};
    use kaminari::plugin::data::{BatchBuilder, RecordBatch};
    use std::cell::RefCell;

    /// What to do in `describe`.
    static TOLD: [u8; 24] = *b"TOLD:nothing............";

    fn told() -> &'static str {
        // SAFETY: it is 24 bytes that are there; read as if they might change, which they do in the file.
        let bytes = unsafe { std::ptr::read_volatile(&raw const TOLD) };
        let text = String::from_utf8_lossy(&bytes[5..]).trim_end_matches('.').to_owned();
        String::leak(text)
    }

    thread_local! {
        static CONFIG: RefCell<String> = const { RefCell::new(String::new()) };
        static KEPT: RefCell<Vec<RecordBatch>> = const { RefCell::new(Vec::new()) };
    }

    struct Raw;

    impl lifecycle::Guest for Raw {
        fn describe() -> lifecycle::Info {
            let long = || "x".repeat(8 << 20);
            let mut info = lifecycle::Info {
                name: "hostile-raw".into(),
                version: env!("CARGO_PKG_VERSION").into(),
                description: env!("CARGO_PKG_DESCRIPTION").into(),
                config_schema: "{}".into(),
                state_version: 0,
            };
            match told() {
                "loop" => loop {
                    std::hint::spin_loop();
                },
                "trap" => panic!("as the fixture was told"),
                "memory" => drop(std::hint::black_box(vec![1u8; 1 << 30])),
                "long-name" => info.name = long(),
                "no-name" => info.name.clear(),
                "lines" => info.version = "1\n2026 ERROR forged".into(),
                "long-schema" => info.config_schema = long(),
                "long-description" => info.description = long(),
                _ => {}
            }
            info
        }

        fn configure(config: String) -> Result<(), Error> {
            CONFIG.with(|c| *c.borrow_mut() = config);
            Ok(())
        }
    }

    impl checkpoint::Guest for Raw {
        fn snapshot() -> Result<Vec<u8>, Error> {
            Ok(Vec::new())
        }
        fn restore(_: u32, _: Vec<u8>) -> Result<(), Error> {
            Ok(())
        }
    }

    fn schema(fields: &[(&str, DataType)]) -> Schema {
        let field = |(name, ty): &(&str, DataType)| Field { name: (*name).into(), ty: *ty, nullable: false };
        Schema { fields: fields.iter().map(field).collect(), metadata: Vec::new() }
    }

    fn builder(fields: &[(&str, DataType)]) -> BatchBuilder {
        BatchBuilder::new(&schema(fields))
    }

    /// The complaint that is expected, told as this plugin's own.
    fn complaint<T>(answer: Result<T, Error>) -> Result<(), Error> {
        match answer {
            Ok(_) => Err(Error::Other("NOT REFUSED".into())),
            Err(Error::Quota(text) | Error::Schema(text) | Error::NotFound(text) | Error::Other(text)) => {
                Err(Error::Other(format!("refused: {text}")))
            }
            Err(_) => Err(Error::Other("another kind".into())),
        }
    }

    fn act(batch: &RecordBatch) -> Result<(), Error> {
        let config = CONFIG.with(|c| c.borrow().clone());
        let does = |what: &str| config.contains(&format!("\"{what}\""));
        let two = [("a", DataType::Float64), ("b", DataType::Utf8)];
        if does("lengths") {
            let b = builder(&two);
            b.put_f64s(0, &[1.0, 2.0])?;
            b.put_bytes(1, &BytesColumn { ends: vec![1], data: b"x".to_vec() })?;
            return complaint(BatchBuilder::finish(b));
        }
        if does("falling-ends") {
            return complaint(builder(&two).put_bytes(1, &BytesColumn { ends: vec![2, 1], data: b"ab".to_vec() }));
        }
        if does("ends-beyond") {
            return complaint(builder(&two).put_bytes(1, &BytesColumn { ends: vec![9], data: b"ab".to_vec() }));
        }
        if does("no-text") {
            return complaint(builder(&two).put_bytes(1, &BytesColumn { ends: vec![2], data: vec![0xff, 0xfe] }));
        }
        if does("half-an-address") {
            let ip = builder(&[("ip", DataType::Ip)]);
            return complaint(ip.put_bytes(0, &BytesColumn { ends: vec![4], data: vec![1; 4] }));
        }
        if does("no-column") {
            return complaint(batch.f64s(u32::MAX));
        }
        if does("no-builder-column") {
            return complaint(builder(&two).put_f64s(2, &[1.0]));
        }
        if does("many-columns") {
            return complaint(batch.block_f64(&vec![1; 1 << 20]));
        }
        if does("long-names") {
            let long = "x".repeat(4 << 20);
            return complaint(builder(&[(&long, DataType::Float64)]).put_f64s(0, &[1.0]));
        }
        if does("wide") {
            // One column under a thousand names: as an Arrow stream a thousand times as large.
            let names: Vec<String> = (0..1000).map(|i| i.to_string()).collect();
            let fields: Vec<(&str, DataType)> = names.iter().map(|n| (n.as_str(), DataType::Float64)).collect();
            let column = builder(&[("x", DataType::Float64)]);
            column.put_f64s(0, &vec![1.0; 1 << 18])?;
            let column = BatchBuilder::finish(column)?;
            let wide = builder(&fields);
            (0..1000).try_for_each(|i| wide.put_column(i, &column, 0))?;
            let wide = BatchBuilder::finish(wide)?;
            complaint(wide.block_f64(&(0..1000).collect::<Vec<_>>())).ok();
            return complaint(wide.to_ipc());
        }
        if does("forged-handle") {
            // SAFETY: none: there is no such handle, and the host is to say so.
            let forged = unsafe { RecordBatch::from_handle(12_345) };
            std::hint::black_box(forged.num_rows());
        }
        if does("used-after-free") {
            let slice = batch.slice(0, 1);
            // SAFETY: none: the handle is given back, and used.
            let twin = unsafe { RecordBatch::from_handle(slice.handle()) };
            drop(slice);
            std::hint::black_box(twin.num_rows());
        }
        if does("hoard-handles") {
            let kept = (0..10_000).map(|_| batch.slice(0, 1));
            KEPT.with(|k| k.borrow_mut().extend(kept));
        }
        if does("keep") {
            KEPT.with(|k| k.borrow_mut().push(batch.slice(0, 1)));
        }
        Ok(())
    }

    impl detector::Guest for Raw {
        fn requires(_: Schema) -> Result<(), Error> {
            Ok(())
        }
        fn detect(_: Window, features: &RecordBatch) -> Result<detector::Verdict, Error> {
            act(features)?;
            Ok(detector::Verdict { scores: vec![0.0; features.num_rows() as usize], alerts: Vec::new() })
        }
    }

    impl feature_extractor::Guest for Raw {
        fn output_schema(_: Schema) -> Result<Schema, Error> {
            Ok(schema(&[("a", DataType::Float64)]))
        }
        fn extract(_: Window, rows: &RecordBatch) -> Result<RecordBatch, Error> {
            Ok(rows.slice(0, 1))
        }
    }

    impl source_decoder::Guest for Raw {
        fn output_schema() -> Result<Schema, Error> {
            Ok(schema(&[("time", DataType::TimestampNs)]))
        }
        fn time_column() -> String {
            "time".into()
        }
        fn decode(_: source_decoder::Frames) -> Result<source_decoder::Decoded, Error> {
            // A time that is absent, in a column that was declared to have none such.
            let time = Field { name: "time".into(), ty: DataType::TimestampNs, nullable: true };
            let b = BatchBuilder::new(&Schema { fields: vec![time], metadata: Vec::new() });
            b.put_u64s(0, &[1])?;
            b.put_validity(0, &[0])?;
            let rows = BatchBuilder::finish(b);
            rows.map(|rows| source_decoder::Decoded { rows: Some(rows), rejected: Vec::new() })
        }
    }

    export!(Raw);
}
