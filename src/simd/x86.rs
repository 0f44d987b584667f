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
            // Pairs of rows r and r + 4 side by side, so that what remains happens within 128 bits.
            let pair = |r: usize, half: usize| {
                let low = _mm_loadu_ps(row(i + r).add(j + half));
                let high = _mm_loadu_ps(row(i + r + 4).add(j + half));
                _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), high)
            };
            for half in [0, 4] {
                let (r0, r1, r2, r3) = (pair(0, half), pair(1, half), pair(2, half), pair(3, half));
                let (a, b) = (_mm256_unpacklo_ps(r0, r1), _mm256_unpackhi_ps(r0, r1));
                let (c, d) = (_mm256_unpacklo_ps(r2, r3), _mm256_unpackhi_ps(r2, r3));
                let store = |r: usize, x| _mm256_storeu_ps(to.add((j + half + r) * to_stride + i), x);
                store(0, _mm256_shuffle_ps::<0x44>(a, c));
                store(1, _mm256_shuffle_ps::<0xEE>(a, c));
                store(2, _mm256_shuffle_ps::<0x44>(b, d));
                store(3, _mm256_shuffle_ps::<0xEE>(b, d));
            }
        }
    }
}

/// Transposes a square of 8 × 8 doubles in eight blocks of four rows by two columns.
///
/// # Safety
/// As [`Float::transpose_ptr`](super::Float::transpose_ptr).
#[inline]
#[target_feature(enable = "avx2")]
pub unsafe fn transpose_f64(from: *const f64, stride: usize, rows: usize, to: *mut f64, to_stride: usize) {
    let row = |r: usize| from.wrapping_add(r.min(rows - 1) * stride);
    for i in [0, 4] {
        for j in [0, 2, 4, 6] {
            // SAFETY: the caller's promise covers rows i to i + 4, columns j and j + 1, and the square at `to`.
            unsafe {
                // Rows r and r + 2 side by side, so that what remains happens within 128 bits.
                let pair = |r: usize| {
                    let low = _mm_loadu_pd(row(i + r).add(j));
                    let high = _mm_loadu_pd(row(i + r + 2).add(j));
                    _mm256_insertf128_pd::<1>(_mm256_castpd128_pd256(low), high)
                };
                let (r0, r1) = (pair(0), pair(1));
                _mm256_storeu_pd(to.add(j * to_stride + i), _mm256_unpacklo_pd(r0, r1));
                _mm256_storeu_pd(to.add((j + 1) * to_stride + i), _mm256_unpackhi_pd(r0, r1));
            }
        }
    }
}
