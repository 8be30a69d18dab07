//! What a detector knows, to bytes and back, for [`crate::Detector::snapshot`] and [`crate::Detector::restore`]. Compact
//! (postcard), and numbers come back bit by bit. The form of a type changes with its fields: raise
//! [`crate::Detector::STATE_VERSION`] then.

use crate::error::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// State to bytes.
pub fn to_bytes<T: Serialize + ?Sized>(state: &T) -> Result<Vec<u8>> {
    postcard::to_allocvec(state).map_err(|e| Error::Other(format!("the state cannot be saved: {e}")))
}

/// Bytes to state. Refused: what is no such state, or more than it.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((state, [])) => Ok(state),
        Ok((_, rest)) => Err(Error::Other(format!("{} bytes are left behind the saved state", rest.len()))),
        Err(e) => Err(Error::Other(format!("the saved state cannot be read: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ewma, Key, KeyMap};

    #[test]
    fn levels_per_key_come_back_as_they_were() {
        let mut levels = KeyMap::new(10);
        for n in 0..7u8 {
            let level = levels.get_or_insert_with(&[n; 21], || Ewma::half_life(30.0));
            (0..=n).for_each(|x| level.update(f64::from(x) / 3.0));
        }
        let saved: Vec<(Key, Ewma)> = levels.iter().map(|(key, level)| (*key, *level)).collect();
        let bytes = to_bytes(&saved).unwrap();
        let mut back = KeyMap::new(10);
        back.extend(from_bytes::<Vec<(Key, Ewma)>>(&bytes).unwrap());
        assert!(levels.iter().eq(back.iter()));
        assert!(from_bytes::<Vec<(Key, Ewma)>>(&bytes[..bytes.len() - 1]).is_err());
        assert!(from_bytes::<u8>(&bytes).is_err());
    }
}
