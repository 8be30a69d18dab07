use super::*;
use crate::plugin::bindings::kaminari::plugin::common::BytesColumn;
use crate::plugin::builder::Builder;
use arrow_array::{
    ArrayRef, BooleanArray, FixedSizeBinaryArray, Float32Array, Float64Array, Int64Array, StringArray, UInt16Array,
};

fn batch() -> Batch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("f", Arc::new(Float64Array::from(vec![Some(1.5), None, Some(-2.5)]))),
        ("i", Arc::new(Int64Array::from(vec![-1, 0, i64::MAX]))),
        ("p", Arc::new(UInt16Array::from(vec![1, 2, 3]))),
        ("b", Arc::new(BooleanArray::from(vec![true, false, true]))),
        ("s", Arc::new(StringArray::from(vec!["a", "", "ccc"]))),
        ("x", Arc::new(Float32Array::from(vec![0.5, 1.0, 2.0]))),
        ("a", Arc::new(FixedSizeBinaryArray::try_from_iter([[1u8; 16], [2; 16], [3; 16]].iter()).unwrap())),
    ];
    Batch::lent(RecordBatch::try_from_iter(columns).unwrap())
}

#[test]
fn numbers_are_cast_and_nulls_have_a_value() {
    let b = batch();
    let f = b.f64s(0).unwrap();
    assert!(f[0] == 1.5 && f[1].is_nan() && f[2] == -2.5);
    assert_eq!((&*b.u64s(0).unwrap(), &*b.s64s(0).unwrap()), (&[1u64, 0, 0][..], &[1i64, 0, -2][..]));
    assert_eq!(&*b.u64s(1).unwrap(), [0, 0, i64::MAX as u64]);
    assert_eq!(&*b.f64s(2).unwrap(), [1.0, 2.0, 3.0]);
    assert_eq!(&*b.f64s(3).unwrap(), [1.0, 0.0, 1.0]);
    assert_eq!(&*b.f64s(5).unwrap(), [0.5, 1.0, 2.0]);
    assert_eq!(b.block_f64(&[2, 3], 48).unwrap(), [1.0, 2.0, 3.0, 1.0, 0.0, 1.0]);
    assert_eq!((b.validity(0), b.validity(1)), (Some(vec![0b101]), None));
    assert!(matches!(b.f64s(4), Err(Error::Schema(_))) && matches!(b.f64s(9), Err(Error::NotFound(_))));
    assert!(b.block_f64(&[2; 8], 1 << 20).is_err(), "no amplification");
    assert!(matches!(b.block_f64(&[2, 3], 47), Err(Error::Quota(_))), "more than the guest can take");
}

#[test]
fn text_and_addresses_also_of_a_slice() {
    let b = batch().slice(1, 100);
    assert_eq!(b.batch.num_rows(), 2);
    let (ends, data) = b.bytes(4).unwrap();
    assert_eq!((&*ends, data.as_slice()), (&[0u32, 3][..], &b"ccc"[..]));
    let (ends, data) = b.bytes(6).unwrap();
    assert_eq!((&*ends, data[0], data.len()), (&[16u32, 32][..], 2, 32));
    assert_eq!(b.schema().fields[6].ty, Type::Ip);
    assert_eq!(batch().slice(7, 1).batch.num_rows(), 0);
}

#[test]
fn derived_batches_are_bounded_and_paid_for() {
    let account = Account::default();
    let owed = || account.0.load(Ordering::Relaxed);
    let b = batch();
    let taken = b.take(&[2, 2, 0], &account).unwrap();
    assert_eq!(&*taken.s64s(1).unwrap(), [i64::MAX, i64::MAX, -1]);
    assert!(owed() > 0);
    let slice = taken.slice(0, 1);
    drop(taken);
    assert!(owed() > 0, "the slice keeps the memory");
    drop(slice);
    assert_eq!(owed(), 0);
    assert!(matches!(b.take(&[0; 4], &account), Err(Error::Quota(_))));
    assert!(matches!(b.take(&[3], &account), Err(Error::NotFound(_))));
    assert!(matches!(account.charge(HOST_BYTES + 1), Err(Error::Quota(_))));
    assert_eq!(owed(), 0, "what was refused is not owed");
    assert_eq!(b.select(&[2, 0]).unwrap().schema().fields[0].name, "p");
    assert!(b.select(&[7]).is_err());
}

#[test]
fn ipc_goes_there_and_back_and_rubbish_is_refused() {
    let account = Account::default();
    let bytes = batch().to_ipc(1 << 20).unwrap();
    assert!(matches!(batch().to_ipc(100), Err(Error::Quota(_))), "more than the guest can take");
    assert_eq!(Batch::from_ipc(&bytes, &account).unwrap().batch, batch().batch);
    for cut in (0..bytes.len() - 16).step_by(37) {
        let mut damaged = bytes.clone();
        damaged[cut] ^= 0xff;
        let _ = Batch::from_ipc(&damaged, &account);
        assert!(Batch::from_ipc(&bytes[..cut], &account).map_or(true, |b| b.batch.num_rows() == 0));
    }
}

#[test]
fn an_ipc_stream_is_not_believed_its_lengths() {
    let account = Account::default();
    // A message of 4 GiB, of which 8 bytes are there.
    let message = [&[0xff; 4][..], &[0xf8, 0xff, 0xff, 0xff], &[0; 8]].concat();
    assert!(Batch::from_ipc(&message, &account).is_err());
    // Every length in a good stream, made huge: nothing may be reserved for it.
    let bytes = batch().to_ipc(1 << 20).unwrap();
    for at in (0..bytes.len() - 8).step_by(4) {
        for huge in [i64::MAX, 1 << 46, -1] {
            let mut damaged = bytes.clone();
            damaged[at..at + 8].copy_from_slice(&huge.to_le_bytes());
            let _ = Batch::from_ipc(&damaged, &account);
        }
    }
    // Rows that take no bytes.
    let nothing: ArrayRef = Arc::new(arrow_array::NullArray::new(1 << 30));
    let bytes = Batch::lent(RecordBatch::try_from_iter([("n", nothing)]).unwrap()).to_ipc(1 << 20).unwrap();
    let Err(Error::Other(text)) = Batch::from_ipc(&bytes, &account) else { panic!("refused") };
    assert!(text.starts_with("1073741824 rows in "), "{text}");
    assert_eq!(account.0.load(Ordering::Relaxed), 0);
}

#[test]
fn what_is_kept_of_a_lent_batch_counts() {
    let account = Account::default();
    let loan = account.loan();
    let lent = Batch::on_loan(batch().batch, loan.clone());
    let view = lent.slice(0, 1);
    drop(lent);
    assert_eq!((Arc::strong_count(&loan), account.0.load(Ordering::Relaxed)), (2, 0));
    loan.kept(HOST_BYTES).unwrap();
    let Err(text) = account.loan().kept(1) else { panic!("refused") };
    assert!(text.contains("keeps parts of batches"), "{text}");
    drop((view, loan));
    assert_eq!(account.0.load(Ordering::Relaxed), 0);
}

#[test]
fn a_builder_checks_lengths_and_types() {
    let account = Account::default();
    let field = |name: &str, ty| Field { name: name.into(), ty, nullable: true };
    let schema = || Schema {
        fields: vec![field("f", Type::Float64), field("s", Type::Utf8), field("p", Type::Uint64)],
        metadata: vec![],
    };
    let text = |ends: Vec<u32>, data: &[u8]| BytesColumn { ends, data: data.to_vec() };
    let mut b = Builder::new(schema(), &account);
    b.put_f64s(0, vec![1.0, 2.0]).unwrap();
    assert!(matches!(b.put_u64s(0, vec![1]), Err(Error::Schema(_))), "declared f64");
    assert!(matches!(b.put_f64s(3, vec![1.0]), Err(Error::NotFound(_))));
    assert!(b.put_bytes(1, text(vec![2, 1], b"ab")).is_err(), "ends must rise");
    assert!(b.put_bytes(1, text(vec![1, 9], b"ab")).is_err(), "ends within the data");
    assert!(b.put_bytes(1, text(vec![1, 2], b"\xff\xff")).is_err(), "not text");
    b.put_bytes(1, text(vec![1, 2], b"ab")).unwrap();
    b.put_validity(0, vec![0b01]).unwrap();
    b.put_u64s(2, vec![7, 8]).unwrap();
    let built = b.finish().unwrap();
    assert!(built.f64s(0).unwrap()[1].is_nan());

    let mut b = Builder::new(schema(), &account);
    b.put_f64s(0, vec![1.0]).unwrap();
    b.put_bytes(1, text(vec![1, 2], b"ab")).unwrap();
    assert!(b.put_column(2, &built, 1).is_err(), "another type");
    b.put_column(2, &built, 2).unwrap();
    assert!(matches!(b.finish(), Err(Error::Schema(_))), "lengths differ");
    assert!(matches!(Builder::new(schema(), &account).finish(), Err(Error::Schema(_))), "nothing put");

    let long = Schema { fields: vec![field(&"x".repeat(SCHEMA_BYTES + 1), Type::Float64)], metadata: vec![] };
    let mut b = Builder::new(long, &account);
    assert!(matches!(b.put_f64s(0, vec![1.0]), Err(Error::Quota(_))), "names are memory of the host");
    assert!(matches!(b.finish(), Err(Error::Quota(_))));
}
