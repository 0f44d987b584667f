//! What AVX2 and AVX-512 share: the reductions from 256 bits down and the transposes.

use std::arch::x86_64::*;

/// Reductions of 256 bits in the fixed tree, by the operation at each width.
macro_rules! reduce {
    ($name_f32:ident, $name_f64:ident, $ps128:ident, $ss:ident, $pd128:ident, $sd:ident) => {
        /// Reduces eight lanes: i and i + 4, i and i + 2, i and i + 1.
        #[inline]
        #[target_feature(enable = "avx2")]
        pub fn $name_f32(x: __m256) -> f32 {
            let x = $ps128(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let x = $ps128(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32($ss(x, _mm_movehdup_ps(x)))
        }

        /// Reduces four lanes: i and i + 2, i and i + 1.
        #[inline]
        #[target_feature(enable = "avx2")]
        pub fn $name_f64(x: __m256d) -> f64 {
            let x = $pd128(_mm256_castpd256_pd128(x), _mm256_extractf128_pd::<1>(x));
            _mm_cvtsd_f64($sd(x, _mm_unpackhi_pd(x, x)))
        }
    };
}
reduce!(add_ps, add_pd, _mm_add_ps, _mm_add_ss, _mm_add_pd, _mm_add_sd);
reduce!(min_ps, min_pd, _mm_min_ps, _mm_min_ss, _mm_min_pd, _mm_min_sd);
reduce!(max_ps, max_pd, _mm_max_ps, _mm_max_ss, _mm_max_pd, _mm_max_sd);

/// Transposes a square of 16 × 16 floats in four squares of 8 × 8.
///
/// # Safety
/// As [`Float::transpose_ptr`](super::Float::transpose_ptr).
#[inline]
#[target_feature(enable = "avx2")]
pub unsafe fn transpose_f32(from: *const f32, stride: usize, rows: usize, to: *mut f32, to_stride: usize) {
    let row = |r: usize| from.wrapping_add(r.min(rows - 1) * stride);
    for (i, j) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
        // SAFETY: the caller's promise covers rows i to i + 8, columns j to j + 8, and the square at `to`.
        unsafe {
            // Four rows: what becomes columns c and c + 4, for c from 0 to 3, in each half.
            let four_rows = |r: usize| {
                let load = |r: usize| _mm256_loadu_ps(row(i + r).add(j));
                let (r0, r1, r2, r3) = (load(r), load(r + 1), load(r + 2), load(r + 3));
                let (a, b) = (_mm256_unpacklo_ps(r0, r1), _mm256_unpackhi_ps(r0, r1));
                let (c, d) = (_mm256_unpacklo_ps(r2, r3), _mm256_unpackhi_ps(r2, r3));
                let low = [_mm256_shuffle_ps::<0x44>(a, c), _mm256_shuffle_ps::<0xEE>(a, c)];
                let high = [_mm256_shuffle_ps::<0x44>(b, d), _mm256_shuffle_ps::<0xEE>(b, d)];
                [low[0], low[1], high[0], high[1]]
            };
            for (c, (low, high)) in four_rows(0).into_iter().zip(four_rows(4)).enumerate() {
                let to = to.add((j + c) * to_stride + i);
                _mm256_storeu_ps(to, _mm256_permute2f128_ps::<0x20>(low, high));
                _mm256_storeu_ps(to.add(4 * to_stride), _mm256_permute2f128_ps::<0x31>(low, high));
            }
        }
    }
}

/// Transposes a square of 8 × 8 doubles in four squares of 4 × 4.
///
/// # Safety
/// As [`Float::transpose_ptr`](super::Float::transpose_ptr).
#[inline]
#[target_feature(enable = "avx2")]
pub unsafe fn transpose_f64(from: *const f64, stride: usize, rows: usize, to: *mut f64, to_stride: usize) {
    let row = |r: usize| from.wrapping_add(r.min(rows - 1) * stride);
    for (i, j) in [(0, 0), (0, 4), (4, 0), (4, 4)] {
        // SAFETY: the caller's promise covers rows i to i + 4, columns j to j + 4, and the square at `to`.
        unsafe {
            // Two rows: what becomes columns c and c + 2, for c 0 and 1, in each half.
            let two_rows = |r: usize| {
                let (r0, r1) = (_mm256_loadu_pd(row(i + r).add(j)), _mm256_loadu_pd(row(i + r + 1).add(j)));
                [_mm256_unpacklo_pd(r0, r1), _mm256_unpackhi_pd(r0, r1)]
            };
            for (c, (low, high)) in two_rows(0).into_iter().zip(two_rows(2)).enumerate() {
                let to = to.add((j + c) * to_stride + i);
                _mm256_storeu_pd(to, _mm256_permute2f128_pd::<0x20>(low, high));
                _mm256_storeu_pd(to.add(2 * to_stride), _mm256_permute2f128_pd::<0x31>(low, high));
            }
        }
    }
}
