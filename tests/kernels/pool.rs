//! Pooling by PyTorch's conventions; the laws cover the rest. Values were seen with PyTorch 2.15.0.

use gristmill::Error;
use gristmill::kernels::pool::{AverageForward, MaxBackward, MaxForward, Shape, Windows};
use gristmill::kernels::window::Window;

/// Windows along one row.
fn row(n: usize, kernel: usize, stride: usize, padding: usize, ceil: bool) -> Shape {
    let (kernel, stride, padding) = ([1, kernel], [1, stride], [[0; 2], [padding; 2]]);
    let window = Window { kernel, stride, padding, ..Window::default() };
    Shape { planes: 1, size: [1, n], windows: Windows::Sliding { window, ceil } }
}

fn max(shape: Shape, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.5; shape.planes * shape.output().unwrap().iter().product::<usize>()];
    MaxForward { shape, x, y: &mut y }.run().unwrap();
    y
}

fn average(shape: Shape, count_include_pad: bool, divisor: Option<f64>, x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.5; shape.planes * shape.output().unwrap().iter().product::<usize>()];
    AverageForward { shape, count_include_pad, divisor, x, y: &mut y }.run().unwrap();
    y
}

fn max_gradient(shape: Shape, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let mut dx = vec![0.5; x.len()];
    MaxBackward { shape, x, dy, dx: &mut dx }.run().unwrap();
    dx
}

#[test]
fn ceil_mode_drops_a_last_window_that_begins_in_the_padding() {
    assert_eq!(max(row(4, 2, 3, 1, true), &[1.0, 2.0, 3.0, 4.0]), [1.0, 4.0]);
    assert_eq!(row(5, 2, 2, 0, true).output().unwrap(), [1, 3]);
    assert_eq!(row(5, 2, 2, 0, false).output().unwrap(), [1, 2]);
    let shape = row(4, 3, 2, 1, true);
    let x = &[1.0, 2.0, 3.0, 4.0];
    assert_eq!(average(shape, true, None, x), [1.0, 3.0, 2.0]);
    assert_eq!(average(shape, false, None, x), [1.5, 3.0, 4.0]);
    // A fixed divisor divides cut windows, too.
    assert_eq!(average(shape, true, Some(2.0), x), [1.5, 4.5, 2.0]);
}

#[test]
fn of_equal_elements_the_first_gets_the_gradient_and_of_nans_the_last() {
    let ones = &[1.0; 3];
    assert_eq!(max_gradient(row(3, 2, 1, 0, false), ones, &[1.0, 1.0]), [1.0, 1.0, 0.0]);
    let nans = &[1.0, f32::NAN, f32::NAN, 2.0];
    assert!(max(row(4, 4, 1, 0, false), nans)[0].is_nan());
    assert_eq!(max_gradient(row(4, 4, 1, 0, false), nans, &[3.0]), [0.0, 0.0, 3.0, 0.0]);
    // Padding never wins.
    assert_eq!(max(row(2, 3, 1, 1, false), &[f32::NEG_INFINITY, -5.0]), [-5.0, -5.0]);
    assert_eq!(max(row(1, 3, 1, 1, false), &[f32::NEG_INFINITY]), [f32::NEG_INFINITY]);
}

#[test]
fn adaptive_windows_overlap_where_they_must() {
    let adaptive =
        |n: usize, output: usize| Shape { planes: 1, size: [1, n], windows: Windows::Adaptive([1, output]) };
    let x: Vec<f32> = (0..7).map(|i| i as f32).collect();
    assert_eq!(average(adaptive(7, 3), true, None, &x), [1.0, 3.0, 5.0]);
    assert_eq!(max(adaptive(3, 5), &x[..3]), [0.0, 1.0, 1.0, 2.0, 2.0]);
    assert_eq!(max_gradient(adaptive(3, 5), &x[..3], &[1.0; 5]), [1.0, 2.0, 2.0]);
    assert!(max(adaptive(3, 0), &x[..3]).is_empty());
    assert_eq!(max_gradient(adaptive(3, 0), &x[..3], &[]), [0.0; 3]);
    assert!(adaptive(0, 2).output().is_err());
}

#[test]
fn dilated_windows_begin_at_the_first_tap_inside_the_image() {
    let window = Window { kernel: [1, 3], padding: [[0, 0], [1, 1]], dilation: [1, 3], ..Window::default() };
    let shape = Shape { planes: 1, size: [1, 6], windows: Windows::Sliding { window, ceil: false } };
    // Taps at −1, 2, 5 and at 0, 3, 6.
    assert_eq!(max(shape, &[9.0, 8.0, 1.0, 2.0, 7.0, 3.0]), [3.0, 9.0]);
}

#[test]
fn errors_name_the_window() {
    let error = row(4, 3, 1, 2, false).output().unwrap_err();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
    assert!(error.to_string().contains("more than half of the kernel: kernel [1, 3]"), "{error}");
    assert!(row(2, 3, 1, 0, false).output().is_err());
    let shape = row(4, 2, 2, 0, false);
    let error = MaxForward { shape, x: &[0.0_f32; 5], y: &mut [0.0; 2] }.run().unwrap_err();
    assert_eq!(error.to_string(), "max_pool: x has 5 elements, expected 4");
}
