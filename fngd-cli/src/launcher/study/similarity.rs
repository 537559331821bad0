//! How alike two rows of numbers are.

/// ⟨a, b⟩ / (‖a‖‖b‖). NaN where one of them is zero.
pub fn cosine(a: &[f64], b: &[f64]) -> f64 {
    dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())
}

/// The cosine of what is left when each row's mean is taken off. NaN for a row of equal numbers.
pub fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (centred(a), centred(b));
    // Equal numbers leave rounding behind, which points anywhere.
    if is_flat(&a) || is_flat(&b) { f64::NAN } else { cosine(&a, &b) }
}

/// ‖a − b‖ / ‖b‖.
pub fn relative_change(a: &[f64], b: &[f64]) -> f64 {
    let difference: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    (dot(&difference, &difference) / dot(b, b)).sqrt()
}

/// Mean of the numbers among them; NaN if there are none.
pub fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (sum, count) = values
        .into_iter()
        .filter(|value| !value.is_nan())
        .fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

/// Mean squared distance from the mean.
pub fn variance(values: &[f64]) -> f64 {
    let centred = centred(values);
    dot(&centred, &centred) / values.len() as f64
}

/// A `size` × `size` matrix with rows and columns in another order.
pub fn reordered(matrix: &[f64], size: usize, order: &[usize]) -> Vec<f64> {
    order.iter().flat_map(|row| order.iter().map(move |column| matrix[row * size + column])).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn centred(values: &[f64]) -> Vec<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.iter().map(|value| value - mean).collect()
}

fn is_flat(centred: &[f64]) -> bool {
    const ROUNDING: f64 = 1e-12;
    centred.iter().all(|value| value.abs() < ROUNDING)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }

    #[test]
    fn numbers_by_hand() {
        // 3·4 + 4·3 = 24; both norms are 5.
        close(cosine(&[3.0, 4.0], &[4.0, 3.0]), 24.0 / 25.0);
        // Centred: (-1, 0, 1) and (-2, 1, 1): 2 + 0 + 1 = 3; norms √2 and √6.
        close(correlation(&[1.0, 2.0, 3.0], &[0.0, 3.0, 3.0]), 3.0 / 12f64.sqrt());
        // (3, 4) - (0, 5) = (3, -1): √10 / 5.
        close(relative_change(&[3.0, 4.0], &[0.0, 5.0]), 10f64.sqrt() / 5.0);
        close(variance(&[1.0, 2.0, 6.0]), 14.0 / 3.0);
        close(mean([1.0, f64::NAN, 4.0]), 2.5);
    }

    #[test]
    fn what_has_no_direction_is_no_number() {
        assert!(cosine(&[0.0, 0.0], &[1.0, 0.0]).is_nan());
        assert!(correlation(&[0.1, 0.1, 0.1], &[1.0, 2.0, 3.0]).is_nan());
        assert!(mean([f64::NAN]).is_nan());
    }

    #[test]
    fn rows_and_columns_move_together() {
        let matrix = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        assert_eq!(reordered(&matrix, 3, &[2, 0, 1]), [8.0, 6.0, 7.0, 2.0, 0.0, 1.0, 5.0, 3.0, 4.0]);
    }
}
