use std::ops::{Add, BitAnd, Mul, Sub};

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
use array as imp;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
use simd as imp;

/// Eight numbers at a time, for loops over whole columns.
///
/// The engine checks a plugin's deadline at the end of every turn of a loop, and around that check its compiler keeps
/// no vector in a register. So a turn should do much (eight rows) and carry only plain numbers to the next: with these
/// a loop is several times faster than what the compiler makes of one row at a time.
///
/// ```
/// use kaminari_plugin_sdk::Lanes;
/// let (column, mut highest, mut above) = ([1.0; 20], [0.5; 20], false);
/// let (blocks, rest) = column.as_chunks();
/// for (x, h) in blocks.iter().zip(highest.as_chunks_mut().0) {
///     let x = Lanes::load(x);
///     Lanes::load(h).higher(x).store(h);
///     above |= x.above(Lanes::splat(2.0)).any();
/// }
/// assert_eq!((highest[0], rest.len(), above), (1.0, 4, false));
/// ```
#[derive(Clone, Copy)]
pub struct Lanes(imp::Numbers);

/// One truth for each of eight numbers.
#[derive(Clone, Copy)]
pub struct Mask(imp::Truths);

impl Lanes {
    /// Numbers in one.
    pub const LEN: usize = 8;

    /// The same number eight times.
    #[inline(always)]
    pub fn splat(x: f64) -> Self {
        Self(imp::splat(x))
    }

    /// From memory.
    #[inline(always)]
    pub fn load(from: &[f64; Self::LEN]) -> Self {
        Self(imp::load(from))
    }

    /// To memory.
    #[inline(always)]
    pub fn store(self, to: &mut [f64; Self::LEN]) {
        imp::store(self.0, to);
    }

    /// Without the sign.
    #[inline(always)]
    pub fn abs(self) -> Self {
        Self(imp::abs(self.0))
    }

    /// All eight added up.
    #[inline(always)]
    pub fn sum(self) -> f64 {
        let mut out = [0.0; Self::LEN];
        self.store(&mut out);
        out.iter().sum()
    }

    /// One by one `other` where it is the higher number, else `self` (also where either is NaN).
    #[inline(always)]
    pub fn higher(self, other: Self) -> Self {
        Self(imp::higher(self.0, other.0))
    }

    /// Where `self` is above `other`. Nowhere where either is NaN.
    #[inline(always)]
    pub fn above(self, other: Self) -> Mask {
        Mask(imp::above(self.0, other.0))
    }

    /// The number where the mask is true, else 0.
    #[inline(always)]
    pub fn only(self, mask: Mask) -> Self {
        Self(imp::only(self.0, mask.0))
    }
}

impl Mul for Lanes {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(imp::mul(self.0, other.0))
    }
}

impl Add for Lanes {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(imp::add(self.0, other.0))
    }
}

impl Sub for Lanes {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(imp::sub(self.0, other.0))
    }
}

impl Mask {
    /// Whether any of the eight is true.
    #[inline(always)]
    pub fn any(self) -> bool {
        imp::any(self.0)
    }
}

impl BitAnd for Mask {
    type Output = Self;
    #[inline(always)]
    fn bitand(self, other: Self) -> Self {
        Self(imp::and(self.0, other.0))
    }
}

/// Natively the compiler makes vectors of arrays by itself.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod array {
    use std::array::from_fn;

    pub type Numbers = [f64; 8];
    pub type Truths = [bool; 8];

    #[inline(always)]
    pub fn splat(x: f64) -> Numbers {
        [x; 8]
    }
    #[inline(always)]
    pub fn load(from: &[f64; 8]) -> Numbers {
        *from
    }
    #[inline(always)]
    pub fn store(x: Numbers, to: &mut [f64; 8]) {
        *to = x;
    }
    #[inline(always)]
    pub fn higher(a: Numbers, b: Numbers) -> Numbers {
        from_fn(|i| if a[i] < b[i] { b[i] } else { a[i] })
    }
    #[inline(always)]
    pub fn above(a: Numbers, b: Numbers) -> Truths {
        from_fn(|i| a[i] > b[i])
    }
    #[inline(always)]
    pub fn only(x: Numbers, mask: Truths) -> Numbers {
        from_fn(|i| if mask[i] { x[i] } else { 0.0 })
    }
    #[inline(always)]
    pub fn mul(a: Numbers, b: Numbers) -> Numbers {
        from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    pub fn add(a: Numbers, b: Numbers) -> Numbers {
        from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    pub fn sub(a: Numbers, b: Numbers) -> Numbers {
        from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    pub fn abs(x: Numbers) -> Numbers {
        x.map(f64::abs)
    }
    #[inline(always)]
    pub fn and(a: Truths, b: Truths) -> Truths {
        from_fn(|i| a[i] & b[i])
    }
    #[inline(always)]
    pub fn any(mask: Truths) -> bool {
        mask.iter().fold(false, |any, &m| any | m)
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd {
    use std::arch::wasm32::*;

    // Closures, not the intrinsics themselves: functions of a target feature are no `Fn`.
    pub type Numbers = [v128; 4];
    pub type Truths = [v128; 4];

    #[inline(always)]
    fn zip(a: [v128; 4], b: [v128; 4], f: impl Fn(v128, v128) -> v128) -> [v128; 4] {
        [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
    }
    #[inline(always)]
    pub fn splat(x: f64) -> Numbers {
        [f64x2_splat(x); 4]
    }
    #[inline(always)]
    pub fn load(from: &[f64; 8]) -> Numbers {
        let at = from.as_ptr().cast::<v128>();
        // SAFETY: eight numbers are four vectors; a load needs no alignment.
        unsafe { [v128_load(at), v128_load(at.add(1)), v128_load(at.add(2)), v128_load(at.add(3))] }
    }
    #[inline(always)]
    pub fn store(x: Numbers, to: &mut [f64; 8]) {
        let at = to.as_mut_ptr().cast::<v128>();
        // SAFETY: as in `load`.
        unsafe {
            v128_store(at, x[0]);
            v128_store(at.add(1), x[1]);
            v128_store(at.add(2), x[2]);
            v128_store(at.add(3), x[3]);
        }
    }
    #[inline(always)]
    pub fn higher(a: Numbers, b: Numbers) -> Numbers {
        zip(a, b, |a, b| f64x2_pmax(a, b))
    }
    #[inline(always)]
    pub fn above(a: Numbers, b: Numbers) -> Truths {
        zip(a, b, |a, b| f64x2_gt(a, b))
    }
    #[inline(always)]
    pub fn only(x: Numbers, mask: Truths) -> Numbers {
        zip(x, mask, |a, b| v128_and(a, b))
    }
    #[inline(always)]
    pub fn mul(a: Numbers, b: Numbers) -> Numbers {
        zip(a, b, |a, b| f64x2_mul(a, b))
    }
    #[inline(always)]
    pub fn add(a: Numbers, b: Numbers) -> Numbers {
        zip(a, b, |a, b| f64x2_add(a, b))
    }
    #[inline(always)]
    pub fn sub(a: Numbers, b: Numbers) -> Numbers {
        zip(a, b, |a, b| f64x2_sub(a, b))
    }
    #[inline(always)]
    pub fn abs(x: Numbers) -> Numbers {
        [f64x2_abs(x[0]), f64x2_abs(x[1]), f64x2_abs(x[2]), f64x2_abs(x[3])]
    }
    #[inline(always)]
    pub fn and(a: Truths, b: Truths) -> Truths {
        zip(a, b, |a, b| v128_and(a, b))
    }
    #[inline(always)]
    pub fn any(mask: Truths) -> bool {
        v128_any_true(v128_or(v128_or(mask[0], mask[1]), v128_or(mask[2], mask[3])))
    }
}

#[cfg(test)]
mod tests {
    use super::Lanes;

    #[test]
    fn each_lane_is_judged_by_itself() {
        let x = Lanes::load(&[1.0, 2.0, 3.0, f64::NAN, 5.0, -6.0, 7.0, 8.0]) * Lanes::splat(2.0);
        let mask = x.above(Lanes::splat(2.0)) & Lanes::splat(14.0).above(x);
        let mut out = [0.0; 8];
        x.only(mask).store(&mut out);
        assert_eq!(out, [0.0, 4.0, 6.0, 0.0, 10.0, 0.0, 0.0, 0.0]);
        Lanes::splat(5.0).higher(x).store(&mut out);
        assert_eq!(out, [5.0, 5.0, 6.0, 5.0, 10.0, 5.0, 14.0, 16.0]);
        ((x - Lanes::splat(1.0)).abs() + Lanes::splat(0.5)).store(&mut out);
        assert_eq!([out[0], out[5], out[7]], [1.5, 13.5, 15.5]);
        assert!(out[3].is_nan() && Lanes::splat(0.25).sum() == 2.0);
        assert!(mask.any() && !x.above(Lanes::splat(16.0)).any());
    }
}
