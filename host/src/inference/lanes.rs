//! Mathematics of `L` rows at once: loops over arrays of a fixed length, without calls and branches, so that the
//! compiler makes vector instructions of them. Accuracy: [`tanh`] 4e-7 absolute, the logarithms 2e-7 (`f32`) and 1e-11
//! (`f64`) relative.

/// `a * b + c`: one instruction where there is one. (Without one, `mul_add` would be a slow call.)
#[inline(always)]
fn fma32<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn fma64<const FMA: bool>(a: f64, b: f64, c: f64) -> f64 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Where tanh is 1 in f32.
const TANH_LIMIT: f32 = 7.905_311;
/// Odd powers over even powers: the rational function of Eigen and XLA.
const TANH_P: [f32; 7] =
    [4.893_524_6e-3, 6.372_619_3e-4, 1.485_722_4e-5, 5.122_297e-8, -8.604_672e-11, 2.000_188e-13, -2.760_768_4e-16];
const TANH_Q: [f32; 4] = [4.893_525e-3, 2.268_434_6e-3, 1.185_347_1e-4, 1.198_258_4e-6];

/// Hyperbolic tangent.
#[inline(always)]
pub(super) fn tanh<const L: usize, const FMA: bool>(x: &mut [f32; L]) {
    for x in x {
        let a = x.clamp(-TANH_LIMIT, TANH_LIMIT);
        let square = a * a;
        let mut p = TANH_P[6];
        for c in [5, 4, 3, 2, 1, 0] {
            p = fma32::<FMA>(p, square, TANH_P[c]);
        }
        let mut q = TANH_Q[3];
        for c in [2, 1, 0] {
            q = fma32::<FMA>(q, square, TANH_Q[c]);
        }
        *x = a * p / q;
    }
}

/// 1 - sqrt(1/2) in the bits of a float: what rounds the exponent so that the mantissa lies around 1.
const ROUND_32: u32 = 0x3f80_0000 - 0x3f35_04f3;
const ROUND_64: u64 = 0x3ff0_0000_0000_0000 - 0x3fe6_a09e_667f_3bcd;

/// ln(1 + x) for x from 0 to 1e30.
#[inline(always)]
pub(super) fn ln_1p_32<const L: usize, const FMA: bool>(x: &mut [f32; L]) {
    for x in x {
        // 1 + x = 2^k m with m around 1; n = m - 1 without cancellation; ln m = 2 atanh(n / (n + 2)).
        let biased = ((1.0 + *x).to_bits() + ROUND_32) >> 23;
        let power = f32::from_bits((254 - biased) << 23);
        let k = f32::from_bits(0x4b00_0000 | biased) - (8_388_608.0 + 127.0);
        let n = fma32::<FMA>(*x, power, power - 1.0);
        let s = n / (n + 2.0);
        let z = s * s;
        let mut series = 2.0 / 9.0;
        for c in [2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0, 2.0] {
            series = fma32::<FMA>(series, z, c);
        }
        *x = fma32::<FMA>(k, std::f32::consts::LN_2, s * series);
    }
}

/// sign(x) ln(1 + |x|) for finite x; what is above 1e300 counts as that.
#[inline(always)]
pub(super) fn signed_ln_1p_64<const L: usize, const FMA: bool>(x: &mut [f64; L]) {
    for x in x {
        let a = x.abs().min(1e300);
        let biased = ((1.0 + a).to_bits() + ROUND_64) >> 52;
        let power = f64::from_bits((2046 - biased) << 52);
        let k = f64::from_bits(0x4330_0000_0000_0000 | biased) - (4_503_599_627_370_496.0 + 1023.0);
        let n = fma64::<FMA>(a, power, power - 1.0);
        let s = n / (n + 2.0);
        let z = s * s;
        let mut series = 2.0 / 13.0;
        for c in [2.0 / 11.0, 2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0, 2.0] {
            series = fma64::<FMA>(series, z, c);
        }
        *x = fma64::<FMA>(k, std::f64::consts::LN_2, s * series).copysign(*x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From tiny to huge, both signs.
    fn many(largest: i32) -> impl Iterator<Item = f64> {
        (-80..=largest * 8).flat_map(|i| {
            let x = 10f64.powf(f64::from(i) / 8.0);
            [x, -x]
        })
    }

    #[test]
    fn tanh_is_libms() {
        for x in many(3).map(|x| x as f32).chain((-9000..9000).map(|i| i as f32 / 1000.0)).chain([0.0, -0.0]) {
            let expected = f64::from(x).tanh();
            let (mut plain, mut fused) = ([x; 3], [x; 3]);
            tanh::<3, false>(&mut plain);
            tanh::<3, true>(&mut fused);
            for got in [plain[1], fused[2]] {
                assert!((f64::from(got) - expected).abs() <= 4e-7, "tanh {x}: {got}, not {expected}");
            }
        }
    }

    #[test]
    fn logarithms_are_libms() {
        for x in many(30).map(|x| x as f32).filter(|x| *x >= 0.0).chain([0.0]) {
            let expected = f64::from(x).ln_1p();
            let (mut plain, mut fused) = ([x; 3], [x; 3]);
            ln_1p_32::<3, false>(&mut plain);
            ln_1p_32::<3, true>(&mut fused);
            for got in [plain[0], fused[2]] {
                assert!((f64::from(got) - expected).abs() <= 2e-7 * expected, "ln(1+{x}): {got}, not {expected}");
            }
        }
        for x in many(300).chain([0.0, -0.0, f64::MAX]) {
            let expected = x.abs().min(1e300).ln_1p().copysign(x);
            let (mut plain, mut fused) = ([x; 3], [x; 3]);
            signed_ln_1p_64::<3, false>(&mut plain);
            signed_ln_1p_64::<3, true>(&mut fused);
            for got in [plain[0], fused[2]] {
                assert!((got - expected).abs() <= 1e-11 * expected.abs(), "ln(1+{x}): {got}, not {expected}");
                assert_eq!(got.is_sign_negative(), x.is_sign_negative());
            }
        }
    }
}
