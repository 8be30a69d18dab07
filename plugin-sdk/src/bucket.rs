//! Values by key, kept by the host: they survive traps and restarts, and are in the checkpoints. The operator grants buckets
//! by name, `state = ["name"]` in the plugin's table. Natively: a map of this thread.
//!
//! For little that is asked for often, fields of the plugin and [`crate::Detector::snapshot`] are faster.

use crate::error::Result;

#[cfg(not(target_arch = "wasm32"))]
use crate::testing::bucket::Handle;
#[cfg(target_arch = "wasm32")]
use guest::Handle;

/// A key and its value.
pub type Item = (Vec<u8>, Vec<u8>);

/// A bucket. Handles do not outlive a call well: open it in each.
pub struct Bucket(Handle);

impl Bucket {
    /// The bucket of that name. [`crate::Error::Denied`]: not granted.
    pub fn open(name: &str) -> Result<Self> {
        Handle::open(name).map(Self)
    }

    /// The values of these keys, in their order.
    pub fn get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        self.0.get(keys)
    }

    /// Puts items, to be kept until stream time reaches `expires_ns` (`None`: for good). [`crate::Error::Quota`]: none of
    /// them was taken.
    pub fn put(&self, items: &[Item], expires_ns: Option<u64>) -> Result<()> {
        self.0.put(items, expires_ns)
    }

    /// Forgets keys.
    pub fn delete(&self, keys: &[Vec<u8>]) -> Result<()> {
        self.0.delete(keys)
    }

    /// Items whose keys begin with `prefix`, in order, behind the key `after`; at most `limit`.
    pub fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: u32) -> Result<Vec<Item>> {
        self.0.scan(prefix, after, limit)
    }
}

#[cfg(target_arch = "wasm32")]
mod guest {
    use super::Item;
    use crate::bindings::kaminari::plugin::state as host;
    use crate::error::Result;

    pub struct Handle(host::Bucket);

    impl Handle {
        pub fn open(name: &str) -> Result<Self> {
            Ok(Self(host::Bucket::open(name)?))
        }

        pub fn get(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
            Ok(self.0.get(keys)?)
        }

        pub fn put(&self, items: &[Item], expires_ns: Option<u64>) -> Result<()> {
            Ok(self.0.put(items, expires_ns)?)
        }

        pub fn delete(&self, keys: &[Vec<u8>]) -> Result<()> {
            Ok(self.0.delete(keys)?)
        }

        pub fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: u32) -> Result<Vec<Item>> {
            Ok(self.0.scan(prefix, after, limit)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_got_until_it_expires() {
        let bucket = Bucket::open("seen").unwrap();
        let key = |k: &str| k.as_bytes().to_vec();
        bucket.put(&[(key("a1"), vec![1]), (key("a2"), vec![2]), (key("b"), vec![3])], Some(100)).unwrap();
        assert_eq!(bucket.get(&[key("a2"), key("c")]).unwrap(), [Some(vec![2]), None]);
        assert_eq!(bucket.scan(b"a", Some(b"a1"), 9).unwrap(), [(key("a2"), vec![2])]);
        bucket.delete(&[key("a2")]).unwrap();
        assert_eq!(bucket.scan(b"a", None, 9).unwrap(), [(key("a1"), vec![1])]);
        crate::testing::set_watermark(100);
        assert_eq!(bucket.get(&[key("a1")]).unwrap(), [None]);
    }
}
