//! One vector register of `f32`, per instruction set: the little that the inner loop of the kernel needs by name.
//! Everything else is left to the compiler (`lanes.rs`); it does not keep the sums of a layer in registers by itself.

/// A register. Each of x86's is used only in code that `cpu.rs` enters after it found the instructions on this CPU.
pub(super) trait Register: Copy {
    /// Numbers it holds.
    const LANES: usize;
    /// Whether multiplying and adding is one instruction.
    const FMA: bool;
    /// The same number in each lane.
    fn splat(x: f32) -> Self;
    /// The first numbers of `from`, which has at least [`Register::LANES`].
    fn load(from: &[f32]) -> Self;
    /// Writes them to the beginning of `to`.
    fn store(self, to: &mut [f32]);
    /// `self * b + c`.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// The larger of the two, lane by lane.
    fn max(self, b: Self) -> Self;
}

/// Without vectors.
impl Register for f32 {
    const LANES: usize = 1;
    const FMA: bool = false;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        from[0]
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[0] = self;
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        self * b + c
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        if self > b { self } else { b }
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! register {
    ($type:ty, $lanes:literal, $fma:literal, $splat:expr, $load:expr, $store:expr, $mul_add:expr, $max:expr) => {
        impl Register for $type {
            const LANES: usize = $lanes;
            const FMA: bool = $fma;

            #[inline(always)]
            fn splat(x: f32) -> Self {
                // SAFETY: the instruction exists, see the trait.
                unsafe { $splat(x) }
            }

            #[inline(always)]
            fn load(from: &[f32]) -> Self {
                // SAFETY: the instruction exists, and the slice holds what it reads.
                unsafe { $load(from[..$lanes].as_ptr()) }
            }

            #[inline(always)]
            fn store(self, to: &mut [f32]) {
                // SAFETY: the instruction exists, and the slice has room for what it writes.
                unsafe { $store(to[..$lanes].as_mut_ptr(), self) }
            }

            #[inline(always)]
            fn mul_add(self, b: Self, c: Self) -> Self {
                // SAFETY: the instruction exists, see the trait.
                unsafe { $mul_add(self, b, c) }
            }

            #[inline(always)]
            fn max(self, b: Self) -> Self {
                // SAFETY: the instruction exists, see the trait.
                unsafe { $max(self, b) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Register;
    use std::arch::x86_64::*;

    register!(
        __m128,
        4,
        false,
        _mm_set1_ps,
        _mm_loadu_ps,
        _mm_storeu_ps,
        |a, b, c| _mm_add_ps(_mm_mul_ps(a, b), c),
        _mm_max_ps
    );
    register!(__m256, 8, true, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps, _mm256_max_ps);
    register!(__m512, 16, true, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps, _mm512_max_ps);
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::Register;
    use std::arch::aarch64::*;

    register!(float32x4_t, 4, true, vdupq_n_f32, vld1q_f32, vst1q_f32, |a, b, c| vfmaq_f32(c, a, b), vmaxq_f32);
}
